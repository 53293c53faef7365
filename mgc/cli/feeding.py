"""What goes into a run: arrays from --input files, the number of samples, and draws for the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mgc.cli import console
from mgc.cli.errors import UserError
from mgc.cli.loading import load_array

if TYPE_CHECKING:
    import numpy as np

    from mgc.isa.memory import Port
    from mgc.isa.program import Program


@dataclass(frozen=True)
class Feeds:
    """The inputs of a run: all of them, the names of those that were drawn, and the number of samples."""

    arrays: dict[str, np.ndarray]
    drawn: tuple[str, ...]
    samples: int


def input_files(specs: Sequence[str], program: Program) -> dict[str, Path]:
    """NAME=FILE texts as files by input name. A name may hold "=": the longest input name that fits is meant."""
    names = sorted((p.name for p in program.inputs), key=len, reverse=True)
    files: dict[str, Path] = {}
    for spec in specs:
        name = next((n for n in names if spec.startswith(f"{n}=")), None)
        if name is None:
            what = f"there is no input {spec.partition('=')[0]!r}" if "=" in spec else "write NAME=FILE.npy"
            raise UserError(f"--input {spec}: {what}; the program's inputs are {', '.join(sorted(names)) or 'none'}")
        if name in files:
            raise UserError(f"--input {name} is given twice")
        files[name] = Path(spec[len(name) + 1 :])
    return files


def feeds(program: Program, files: Mapping[str, Path], samples: int | None, seed: int) -> Feeds:
    """Reads the files, settles the number of samples (-n, else what the files hold, else the batch), draws the rest."""
    from mgc.sim import draw_inputs

    arrays = {name: load_array(path) for name, path in files.items()}
    ports = {p.name: p for p in program.inputs}
    for name, array in arrays.items():
        _check(array, ports[name], files[name])
    held = {name: len(a) for name, a in arrays.items() if ports[name].batched}
    count = samples or min(held.values(), default=program.micro_batch * program.micro_batches)
    for name, rows in held.items():
        if rows < count:
            raise UserError(f"--input {name}={files[name]} holds {rows} samples, {count} are asked for (-n)")
        if rows > count:
            console.note(f"{files[name]} holds {rows} samples: the first {count} are used")
            arrays[name] = arrays[name][:count]
    drawn = draw_inputs(program, count, seed)
    missing = tuple(name for name in drawn if name not in arrays)
    return Feeds({name: arrays.get(name, drawn[name]) for name in ports}, missing, count)


def _check(array: np.ndarray, port: Port, path: Path) -> None:
    """Refuses an array of another type or shape than the model's input."""
    where = f"--input {port.name}={path}"
    if array.dtype.name != port.dtype:
        raise UserError(
            f"{where} holds {array.dtype.name}, {port.dtype} is expected: save array.astype('{port.dtype}')"
        )
    wanted = ("n", *port.shape[1:]) if port.batched else port.shape
    shown = f"[{', '.join(map(str, wanted))}]"
    if array.ndim != len(wanted) or any(w not in ("n", d) for w, d in zip(wanted, array.shape, strict=True)):
        raise UserError(f"{where} has shape {list(array.shape)}, {shown} is expected")
    if port.batched and not len(array):
        raise UserError(f"{where} holds no samples: {shown} is expected")
