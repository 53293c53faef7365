"""Which input gets what: --data by name or by shape, --input by name, noise for the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from mgc.training.data.feeding import Feeder, InOrder, Keys, Noise, Replayed, Shuffled, Supply
from mgc.training.data.files import read_array, read_arrays
from mgc.training.data.fitting import Fit, MisfitError, fit, image_size
from mgc.training.data.images import read_images
from mgc.training.data.samples import Samples
from mgc.training.errors import TrainingError
from mgc.training.trainee import TraineeInput

Tell = Callable[[str], None]
Data = Path | np.ndarray | Mapping[str, np.ndarray]
"""A file or folder, one array, or arrays by name."""


def feeder(
    inputs: Sequence[TraineeInput],
    batches: int,
    steps: int,
    seed: int,
    data: Data | None,
    files: Mapping[str, Path | np.ndarray],
    tell: Tell = lambda message: None,
) -> Feeder:
    """What `steps` iterations read: `data` shuffled, `files` (by input) in order, noise for the rest.

    `tell` gets remarks for the user. Raises TrainingError: what, where, what to do.
    """
    ports = {port.name: port for port in inputs}
    strange = sorted(set(files) - set(ports))
    if strange:
        raise TrainingError(f"there is no input {strange[0]!r}; the program's inputs are {', '.join(ports)}")
    supplies: dict[str, Supply] = {}
    for name, path in files.items():
        supplies[name] = _in_order(path, ports[name], steps, batches, tell)
    if data is not None:
        chosen = _chosen(data, [port for port in inputs if port.name not in files], tell)
        counts = {samples.count for samples, _ in chosen.values()}
        for name, (samples, fitted) in chosen.items():
            stream = "data" if len(counts) == 1 else name
            supplies[name] = Shuffled(samples, ports[name], fitted, seed, stream)
            tell(f"input {name}: {samples.count} samples of {samples.name}")
    for port in inputs:
        if port.role == "key" and port.name not in supplies:
            supplies[port.name] = Keys(port, seed)
        elif port.role in ("pick", "keep"):
            pool = port.name.rpartition(".")[0]
            supplies[port.name] = Replayed(port, seed, ports[f"{pool}.keep"].rows, ports[f"{pool}.pick"].rows)
        elif port.name not in supplies:
            supplies[port.name] = _noise(port, seed)
            tell(f"input {port.name}: drawn " + ("uniform in [0, 1)" if port.role == "uniform" else "N(0,1)"))
    return Feeder({port.name: supplies[port.name] for port in inputs}, batches, steps)


def first_values(
    files: Mapping[str, Path | np.ndarray], carried: Sequence[TraineeInput]
) -> tuple[dict[str, np.ndarray], dict[str, Path | np.ndarray]]:
    """(the first values of what is carried from iteration to iteration, the other files). TrainingError as `feeder`."""
    names = {port.name for port in carried}
    first: dict[str, np.ndarray] = {}
    for name in names & set(files):
        source = files[name]
        first[name] = read_array(source) if isinstance(source, Path) else np.asarray(source)
    return first, {name: source for name, source in files.items() if name not in names}


def _noise(port: TraineeInput, seed: int) -> Noise:
    if port.role == "data":
        raise TrainingError(f"nothing is given for input {port}: give --data, or --input {port.name}=FILE.npy")
    if port.dtype.kind != "f":
        raise TrainingError(
            f"input {port} is not floating, so no noise can be drawn for it: give --input {port.name}=FILE.npy"
        )
    return Noise(port, seed)


def _in_order(source: Path | np.ndarray, port: TraineeInput, steps: int, batches: int, tell: Tell) -> InOrder:
    arrays = _arrays(source, f"the array for input {port.name}")
    if len(arrays) > 1:
        raise TrainingError(f"--input {port.name}={source}: it holds several arrays ({', '.join(arrays)}); give one")
    samples = next(iter(arrays.values()))
    needed = steps * batches * port.rows
    if samples.count > needed:
        tell(f"{samples.name} holds {samples.count} samples: the first {needed} are used")
    return InOrder(samples, port, steps, batches)


def _arrays(source: Data, name: str) -> dict[str, Samples]:
    """The arrays of a file, or those that are given."""
    if isinstance(source, Path):
        return read_arrays(source)
    arrays = source if isinstance(source, Mapping) else {"": source}
    flat = [key for key, array in arrays.items() if array.ndim == 0]
    if flat or not arrays:
        raise TrainingError(f"{name}: samples along axis 0 are needed")
    return {key: Samples(f"{name}[{key}]" if key else name, array) for key, array in arrays.items()}


def _chosen(data: Data, inputs: Sequence[TraineeInput], tell: Tell) -> dict[str, tuple[Samples, Fit]]:
    """The samples for each input that the data is for: by name any, by shape one that is no noise."""
    free = [port for port in inputs if port.role in ("data", "")]
    if not free:
        raise TrainingError("--data: no input that takes data is left for it")
    if isinstance(data, Path) and data.is_dir():
        port = _image_port(data, free)
        _, height, width, channels = image_size(port) or (0, 0, 0, 0)
        samples = read_images(data, height, width, channels)
        return {port.name: (samples, fit(samples, port))}
    name = str(data) if isinstance(data, Path) else "the data"
    arrays = _arrays(data, name)
    by_name = {port.name: port for port in inputs}
    named = {name: samples for name, samples in arrays.items() if name in by_name}
    if named:
        unused = [name for name in arrays if name not in named]
        if unused:
            tell(f"{name}: not used: {', '.join(unused)}, which is no name of an input")
        return {name: (samples, _fit(samples, by_name[name])) for name, samples in named.items()}
    if len(arrays) > 1:
        raise TrainingError(
            f"{name} holds the arrays {', '.join(arrays)}, none under the name of an input "
            f"({', '.join(map(str, free))}): name them so, or give one array"
        )
    samples = next(iter(arrays.values()))
    port = _port_for(samples, free)
    return {port.name: (samples, _fit(samples, port))}


def _fit(samples: Samples, port: TraineeInput) -> Fit:
    try:
        return fit(samples, port)
    except MisfitError as error:
        raise TrainingError(f"{samples} does not fit input {port}: {error}") from error


def _port_for(samples: Samples, free: Sequence[TraineeInput]) -> TraineeInput:
    """The input whose shape fits best."""
    ranks: dict[str, int] = {}
    reasons: list[str] = []
    for port in free:
        try:
            ranks[port.name] = fit(samples, port).rank
        except MisfitError as error:
            reasons.append(f"{port}: {error}")
    return _best(samples.name, free, ranks, f"{samples} fits no input. " + ". ".join(reasons))


def _image_port(folder: Path, free: Sequence[TraineeInput]) -> TraineeInput:
    sizes = {port.name: image_size(port) for port in free}
    ranks = {name: size[0] for name, size in sizes.items() if size is not None}
    none = f"--data {folder}: none of the inputs takes images ({', '.join(map(str, free))})"
    return _best(str(folder), free, ranks, none)


def _best(name: str, free: Sequence[TraineeInput], ranks: Mapping[str, int], none: str) -> TraineeInput:
    """The only input of the lowest rank. TrainingError, `none` where there are no ranks."""
    best = [port for port in free if ranks.get(port.name) == min(ranks.values(), default=-1)]
    if not best:
        raise TrainingError(none)
    if len(best) > 1:
        raise TrainingError(
            f"{name} fits more than one input ({', '.join(map(str, best))}): "
            "say which with --input NAME=FILE.npy, or give an .npz with the array under the input's name"
        )
    return best[0]
