"""What goes into a run and how it is cut: arrays from --input, draws for the rest, any number of samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mgc.evaluation.errors import GivenError
from mgc.evaluation.given import AS_FILES, ImageOptions, Literal, load_input

if TYPE_CHECKING:
    import numpy as np

    from mgc.isa.program import Program
    from mgc.sim import Simulator


Note = Callable[[str], None]


def silent(message: str) -> None:
    """Tells nobody."""


@dataclass(frozen=True)
class Feeds:
    """The inputs of a run.

    `drawn` names those that were not given. `group` is the number of samples that must run together, where the model
    mixes samples; None where they may be cut anyhow. `batched` are the inputs and outputs whose axis 0 counts samples.
    """

    arrays: dict[str, np.ndarray]
    drawn: tuple[str, ...]
    samples: int
    group: int | None
    batched: frozenset[str]

    def parts(self, size: int) -> Iterator[dict[str, np.ndarray]]:
        """The inputs of `size` samples at a time; the last part is filled up with copies of the last sample."""
        import numpy as np

        for start in range(0, self.samples, size):
            part = {}
            for name, array in self.arrays.items():
                if name in self.batched:
                    each = len(array) // self.samples
                    rows = array[start * each : (start + size) * each]
                    short = size - len(rows) // each
                    part[name] = np.concatenate([rows, *[rows[-each:]] * short]) if short else rows
                else:
                    part[name] = array
            yield part

    def join(self, results: Sequence[Mapping[str, Any]], size: int) -> dict[str, Any]:
        """The results of all `parts(size)` as one, without those of the filling."""
        import numpy as np

        whole: dict[str, Any] = {}
        for name in results[0]:
            if name in self.batched:
                rows = np.concatenate([r[name] for r in results])
                whole[name] = rows[: self.samples * (len(rows) // (len(results) * size))]
            else:
                whole[name] = results[-1][name]
        return whole


def input_files(specs: Sequence[str], program: Program) -> dict[str, Path]:
    """NAME=FILE texts as files by the name of an input of the program."""
    return files_by_name(specs, [p.name for p in program.inputs])


def files_by_name(specs: Sequence[str], inputs: Sequence[str], option: str = "--input") -> dict[str, Path]:
    """NAME=FILE texts as files by input name. A name may hold "=": the longest input name that fits is meant."""
    kind = "input" if option == "--input" else "output"
    names = sorted(inputs, key=len, reverse=True)
    files: dict[str, Path] = {}
    for spec in specs:
        name = next((n for n in names if spec.startswith(f"{n}=")), None)
        if name is None:
            what = f"there is no {kind} {spec.partition('=')[0]!r}" if "=" in spec else "write NAME=FILE.npy"
            raise GivenError(f"{option} {spec}: {what}; the program's {kind}s are {', '.join(sorted(names)) or 'none'}")
        if name in files:
            raise GivenError(f"{option} {name} is given twice")
        files[name] = Path(spec[len(name) + 1 :])
    return files


def make_feeds(
    program: Program,
    files: Mapping[str, Path],
    samples: int | None,
    seed: int,
    arrays: Mapping[str, np.ndarray] | None = None,
    images: ImageOptions = AS_FILES,
    note: Note = silent,
) -> Feeds:
    """Reads the files, settles the number of samples (-n, else what the files hold, else the batch), draws the rest.

    `arrays` are inputs that are there already, with as many samples as are asked for. `note` is told what is left out.
    """
    from mgc.sim import SimulationError, draw_inputs

    batch = program.entry.batch
    rows = _rows_of_a_sample(program)
    ports = {p.name: p for p in program.inputs}
    read = {name: load_input(text, ports[name], rows.get(name), images) for name, text in files.items()}
    given = {**(arrays or {}), **{name: a for name, a in read.items() if not isinstance(a, Literal)}}
    held = {name: len(a) // rows[name] for name, a in given.items() if name in rows and a.ndim}
    count = samples or min(held.values(), default=batch)
    given |= {name: a.samples(count) for name, a in read.items() if isinstance(a, Literal)}
    if not rows and count != program.entry.micro_batch:
        raise GivenError(f"-n {count}: this model's inputs and outputs do not count samples: leave -n out")
    for name, found in held.items():
        if found < count or not found:
            raise GivenError(f"--input {name}={files[name]} holds {found} samples, {max(count, 1)} are asked for")
        if found > count:
            note(f"{files[name]} holds {found} samples: the first {count} are used")
            given[name] = given[name][: count * rows[name]]
    try:
        drawn = _draw(draw_inputs, program, count, seed, given)
    except SimulationError as error:
        raise GivenError(f"{error} with --input NAME=FILE.npy") from error
    checked = _check(program, {**given, **drawn}, files, count if rows else program.entry.micro_batch)
    group = None if program.entry.batched or not rows else program.entry.micro_batch
    return Feeds(checked, tuple(drawn), count, group, frozenset(rows))


def interpolated(fed: Feeds, program: Program, seeds: tuple[int, int]) -> Feeds:
    """The feeds with what is drawn on the way from the first sample of one seed to that of another: on a great circle,
    so that noise stays as large as noise is. Random ops draw the same for all samples.
    """
    import numpy as np

    from mgc.functions.draws import KEY
    from mgc.sim import draw_inputs

    moved = [name for name in fed.drawn if name in fed.batched]
    if not moved or fed.group is not None:
        raise GivenError("--interpolate: this model has no noise of a sample's own to go from one to another")
    size = program.entry.micro_batch
    ends = [draw_inputs(program, size, seed, {n: a for n, a in fed.arrays.items() if n not in moved}) for seed in seeds]
    arrays = dict(fed.arrays)
    for name in moved:
        rows = len(arrays[name]) // fed.samples
        first, last = (end[name][:rows].astype(np.float64) for end in ends)
        if name == KEY:
            arrays[name] = np.concatenate([ends[0][name][:rows]] * fed.samples)
            continue
        path = [_between(first, last, t) for t in np.linspace(0, 1, fed.samples)]
        arrays[name] = np.concatenate(path).astype(arrays[name].dtype)
    return replace(fed, arrays=arrays)


def _between(first: np.ndarray, last: np.ndarray, share: float) -> np.ndarray:
    """The direction on the great circle, the length in proportion; on the line where there is no such circle."""
    import numpy as np

    sizes = float(np.linalg.norm(first)), float(np.linalg.norm(last))
    cosine = float(np.sum(first * last)) / (sizes[0] * sizes[1]) if all(sizes) else 1.0
    if abs(cosine) > 1 - 1e-9:
        return (1 - share) * first + share * last
    angle = np.arccos(cosine)
    a, b = (np.sin(s * angle) / np.sin(angle) / size for s, size in zip((1 - share, share), sizes, strict=True))
    return ((1 - share) * sizes[0] + share * sizes[1]) * (a * first + b * last)


def as_given(files: Mapping[str, Path]) -> str:
    """The files as the command line has them."""
    return " ".join(f"--input {name}={path}" for name, path in files.items())


def run_fed(simulator: Simulator, fed: Feeds, done: Callable[[int, int], None] | None = None) -> dict[str, Any]:
    """The outputs for all the samples that are fed, batch after batch where the model mixes samples. `done` is told how
    many of how many are.
    """
    if fed.group is None:
        return simulator.run(fed.arrays, done)
    results = []
    for part in fed.parts(fed.group):
        results.append(simulator.run(part))
        if done is not None:
            done(min(len(results) * fed.group, fed.samples), fed.samples)
    return fed.join(results, fed.group)


def counts_samples(program: Program) -> bool:
    """Whether any number of samples can be run."""
    return bool(_rows_of_a_sample(program))


def _rows_of_a_sample(program: Program) -> dict[str, int]:
    """For each input and output that counts samples on axis 0, its rows a sample; nothing where samples cannot be cut.

    A model that mixes samples still counts them where all its inputs and outputs have the batch on axis 0.
    """
    ports = (*program.inputs, *program.outputs)
    size = program.entry.micro_batch
    if program.entry.batched:
        return {p.name: p.shape[0] // size for p in ports if p.batched}
    if size > 1 and all(p.shape and p.shape[0] == size for p in ports):
        return {p.name: 1 for p in ports}
    return {}


def _draw(
    draw: Callable[..., dict[str, np.ndarray]], program: Program, count: int, seed: int, given: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """Draws for `count` samples; a program of whole batches draws batch after batch from one seed each."""
    if program.entry.batched or count == program.entry.micro_batch:
        return draw(program, count, seed, given)
    import numpy as np

    runs = [draw(program, count, seed + k, given) for k in range(-(-count // program.entry.micro_batch))]
    return {name: np.concatenate([r[name] for r in runs])[:count] for name in runs[0]}


def _check(program: Program, arrays: Mapping[str, Any], files: Mapping[str, Path], count: int) -> dict[str, np.ndarray]:
    """The arrays in the program's types. GivenError where one has not the type or shape that is expected."""
    from mgc.sim import SimulationError
    from mgc.sim.inputs import check_inputs

    try:
        if program.entry.batched or count == program.entry.micro_batch:
            checked, _ = check_inputs(program, arrays)
            return checked
        whole = Feeds(dict(arrays), (), count, None, frozenset(arrays))
        parts = [check_inputs(program, part)[0] for part in whole.parts(program.entry.micro_batch)]
        return whole.join(parts, program.entry.micro_batch)
    except SimulationError as error:
        raise GivenError(f"{as_given(files) or 'the inputs'}: {error}") from error
