"""Sweeps: every point of a space measured, in this process or as tasks on Dask, the results kept as they come."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mgc.evaluation.given import ImageOptions
from mgc.evaluation.metrics import parse_metrics
from mgc.explore.space import Point, as_axes, points
from mgc.explore.study import Study
from mgc.explore.table import Journal, Row, Table, assembled
from mgc.frontend.load import self_contained
from mgc.images import DEFAULT_RANGE
from mgc.options import CompileOptions
from mgc.passes.state import UnsupportedError
from mgc.version import VERSION

if TYPE_CHECKING:
    from mgc.frontend.load import Source
    from mgc.targets.description import Target

Task = tuple[Point, int]
Progress = Callable[[int, int], None]

SAMPLES = 16
"""That are run at each point where nothing else is said."""
MOST_POINTS = 100_000
"""Points times trials of one sweep."""


def sweep(
    model: Source,
    over: Mapping[str, Any],
    *,
    target: str | Path | Target = "liu2018",
    samples: int | None = None,
    trials: int | None = None,
    inputs: Mapping[str, np.ndarray | str | Path | float] | None = None,
    resize: bool = False,
    metric: str | None = None,
    features: str | Path | None = None,
    workers: int = 0,
    threads: bool = False,
    scheduler: str | None = None,
    output: str | Path | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    **options: Any,
) -> Table:
    """Compiles a network for every combination of the values of target keys in `over`, runs each program on the same
    samples, and gives a table: what it takes, what it costs, how good its outputs are.

    over: {"adc_bits": range(3, 9), "cell_bits": [1, 2, 4]}; the key "target" takes names of whole targets. samples: how
    many are run at each point; else what the inputs hold, or 16. trials: chips with device errors of their own at each
    point, by seed 0, 1, ...; without them `quantized` numerics is run once. inputs by name: arrays, or what
    `mgc run --input` takes, a file, a folder of images (`resize`: of any size) or numbers; the others are noise.
    metric: "frechet:REAL", by the network `features` where it is not the one that ships, see `mgc run --metric`.
    workers: processes (or `threads`) on this machine, 0 for none but this one; scheduler: the address of a Dask
    scheduler instead. output: a CSV file that has every row as soon as it is known, with `resume` gone on with; what it
    is of stands beside it. options: those of `mgc.compile`.

    A point that fails is a row with its error. The table does not depend on the workers, but for its column `seconds`.
    Raises SpaceError, UnsupportedError, ResumeError or ModelError (all ValueError) before anything is run.
    """
    axes = as_axes(over)
    if not axes:
        raise UnsupportedError("a sweep needs a key with values to go over, such as adc_bits=3..8")
    if trials is not None and trials < 1:
        raise UnsupportedError(f"trials is {trials}: at least 1 is needed")
    chosen = CompileOptions(target=target, **options)
    if chosen.trains:
        raise UnsupportedError("a sweep is over inference programs: leave out what says how the network is trained")
    numerics = "quantized" if trials is None else "device"
    if samples is None and not inputs:
        samples = SAMPLES
    arrays = {name: value for name, value in (inputs or {}).items() if isinstance(value, np.ndarray)}
    given = {name: str(value) for name, value in (inputs or {}).items() if name not in arrays}
    study = Study(self_contained(model), chosen, samples, arrays, numerics)
    tasks = [(point, trial) for point in points(axes) for trial in range(trials or 1)]
    if len(tasks) > MOST_POINTS:
        raise UnsupportedError(f"{len(tasks):,} points are more than the {MOST_POINTS:,} of one sweep")
    study.target(tasks[0][0])  # a key that no target has is wrong at every point
    images = ImageOptions(chosen.image_range or DEFAULT_RANGE, resize)
    real = parse_metrics([metric] if metric else [])
    if set(real) - {"frechet"}:
        raise UnsupportedError(f"--metric {metric}: the table of a sweep has the column frechet: write frechet:REAL")
    study.read([point for point, _ in tasks], given, images, real, Path(features) if features else None)
    report = progress or (lambda done, total: None)
    if output is None:
        found = dict(_measured(study, tasks, workers, threads, scheduler, report, 0))
        return assembled(list(axes), [found[k] for k in range(len(tasks))])
    journal = Journal(Path(output), list(axes), _identity(study, trials))
    held = {_key(row, axes): row for row in journal.start(resume)}
    known = {k: held[_name(task)] for k, task in enumerate(tasks) if _name(task) in held}
    left = [k for k in range(len(tasks)) if k not in known]
    report(len(known), len(tasks))
    for k, row in _measured(study, [tasks[k] for k in left], workers, threads, scheduler, report, len(known)):
        known[left[k]] = row
        journal.add(row)
    table = assembled(list(axes), [known[k] for k in range(len(tasks))])
    journal.finish(table)
    return table


def _name(task: Task) -> tuple[str, ...]:
    point, trial = task
    return (*point.values(), str(trial))


def _key(row: Row, axes: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    return (*(row[k] for k in axes), str(row["trial"]))


def _identity(study: Study, trials: int | None) -> str:
    """What decides the figures of a point, as a hash."""
    options = study.options
    described = {
        "version": VERSION,
        "model": hashlib.sha256(study.model).hexdigest(),
        "target": options.chip.to_json_dict(),
        "options": [options.batch, dict(options.dims or {}), options.calibrate, options.seed],
        "calibration": _digest(options.calibration),
        "samples": study.samples,
        "inputs": _digest(study.inputs),
        "trials": trials,
        "real": _digest(study.metrics.real if study.metrics else {}),
    }
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


def _digest(data: Any) -> str:
    if not isinstance(data, Mapping):
        return str(data)
    parts = [
        f"{n}{np.shape(a)}{hashlib.sha256(np.ascontiguousarray(a).tobytes()).hexdigest()}" for n, a in data.items()
    ]
    return " ".join(sorted(parts))


def _measured(
    study: Study,
    tasks: Sequence[Task],
    workers: int,
    threads: bool,
    scheduler: str | None,
    report: Progress,
    before: int,
) -> Iterator[tuple[int, Row]]:
    """The number and the row of each task, as they come."""
    if workers == 0 and scheduler is None:
        rows: Iterator[tuple[int, Row]] = ((k, study.measure(*task)) for k, task in enumerate(tasks))
        yield from _counted(rows, report, before, len(tasks))
        return
    if not tasks:
        return
    with _client(min(workers, len(tasks)), threads, scheduler) as client:
        yield from _counted(_on_dask(client, study, tasks), report, before, len(tasks))


def _counted(rows: Iterator[tuple[int, Row]], report: Progress, before: int, count: int) -> Iterator[tuple[int, Row]]:
    for done, found in enumerate(rows, start=1):
        yield found
        report(before + done, before + count)


def _measure(study: Study, task: Task) -> Row:
    return study.measure(*task)


def _on_dask(client: Any, study: Study, tasks: Sequence[Task]) -> Iterator[tuple[int, Row]]:
    from distributed import as_completed

    held = client.scatter(study, broadcast=True, hash=False)
    futures = {client.submit(_measure, held, task, pure=False): k for k, task in enumerate(tasks)}
    for future in as_completed(futures, loop=client.loop):
        point, trial = tasks[futures[future]]
        if future.status == "finished":
            yield futures[future], future.result()
        else:
            error = future.exception()
            yield futures[future], {**point, "trial": trial, "error": f"{type(error).__name__}: {error}"}
        future.release()


@contextmanager
def _client(workers: int, threads: bool, scheduler: str | None) -> Iterator[Any]:
    """A Dask client: of workers of its own on this machine, or of the scheduler at an address."""
    if find_spec("distributed") is None:
        raise UnsupportedError("workers are Dask's: install mgc[sweep], or leave --workers and --scheduler out")
    import logging

    from dask import config
    from distributed import Client, LocalCluster

    quiet = {
        "distributed.logging.distributed": "critical",
        "distributed.worker.daemon": True,
        # workers keep freed memory: each point takes as much again
        "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": 1 << 30,
        "distributed.nanny.pre-spawn-environ.MALLOC_MMAP_THRESHOLD_": 1 << 25,
    }
    with config.set(quiet):
        if scheduler is not None:
            try:
                client = Client(scheduler, timeout="10s", set_as_default=False)
            except (OSError, ValueError, TimeoutError) as error:
                why = str(error).strip() or "no answer"
                raise UnsupportedError(f"no Dask scheduler can be reached at {scheduler}: {why}") from error
            with client:
                yield client
            return
        with (
            LocalCluster(
                n_workers=1 if threads else workers,
                threads_per_worker=workers if threads else 1,
                processes=not threads,
                host=None if threads else "127.0.0.1",
                dashboard_address="127.0.0.1:0",  # any port: several sweeps may run at once
                silence_logs=logging.CRITICAL,
            ) as cluster,
            Client(cluster, set_as_default=False) as client,
        ):
            yield client
