"""`mgc train`: run a training program on data."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mgc.cli import console, interrupt
from mgc.cli.command import CHECK_FAILED, command
from mgc.cli.errors import UserError, about
from mgc.cli.files import check_outputs, check_png, load_program, whole_file
from mgc.cli.options import (
    CountWrites,
    Debug,
    Engine,
    EngineOption,
    FeaturesOption,
    Json,
    MaxElements,
    MetricOption,
    Numerics,
    NumericsOption,
    ProgramFile,
    Seed,
    Threads,
)
from mgc.cli.progress import training_progress

if TYPE_CHECKING:
    import numpy as np

    from mgc.isa.program import Program
    from mgc.training.data.feeding import Feeder
    from mgc.training.export import ExportPlan
    from mgc.training.log import TrainingLog
    from mgc.training.loop import Progress
    from mgc.training.trainee import Trainee


@dataclass
class Outcome:
    """How training ended: where it was, the signal that stopped it (0: none), why it failed (None: it did not)."""

    progress: Progress | None = None
    signal: int = 0
    failure: Exception | None = None


@command
def train(
    program: ProgramFile,
    steps: Annotated[int, typer.Option(metavar="N", min=1, help="Iterations in all, resumed ones included.")],
    data: Annotated[
        Path | None,
        typer.Option(metavar="DATA", help="Samples: .npz, .npy, IDX (gzipped or not), or a folder of images."),
    ] = None,
    input: Annotated[
        list[str] | None,
        typer.Option("--input", metavar="NAME=FILE.npy", help="An input, its samples used in order. Repeatable."),
    ] = None,
    seed: Seed = 0,
    numerics: NumericsOption = Numerics.quantized,
    engine: EngineOption = Engine.fast,
    threads: Threads = None,
    max_elements: MaxElements = 1 << 28,
    checkpoint: Annotated[Path | None, typer.Option(metavar="DIR", help="Keep the last two checkpoints here.")] = None,
    checkpoint_every: Annotated[
        int | None, typer.Option(metavar="K", min=1, help="Steps between checkpoints. [default: 100]")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint, if any.")] = False,
    export: Annotated[
        Path | None,
        typer.Option(metavar="DIR|FILE.onnx", help="Write the trained models: one a network, or all in one."),
    ] = None,
    png: Annotated[Path | None, typer.Option(metavar="GRID.png", help="Draw samples after training.")] = None,
    png_every: Annotated[
        int | None, typer.Option(metavar="K", min=1, help="Draw every K steps too: GRID-00000100.png, ...")
    ] = None,
    log: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write losses.csv and TensorBoard events there, samples every --png-every."),
    ] = None,
    metric: MetricOption = None,
    features: FeaturesOption = None,
    metric_every: Annotated[
        int | None, typer.Option(metavar="K", min=1, help="Take --metric every K steps too, not only at the end.")
    ] = None,
    metric_samples: Annotated[
        int, typer.Option(metavar="N", min=2, help="Images that --metric is taken of, as far as data goes.")
    ] = 512,
    count_writes: CountWrites = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Train a GAN on the simulated chip.

    Inputs without data are noise, drawn by seed and step. The same program, data and seed give the same bits, also when
    training was killed and resumed. Ctrl-C ends it after the step, with a checkpoint if asked for.
    """
    for option, needed, value in (
        ("--checkpoint-every", "--checkpoint", checkpoint_every is not None and checkpoint is None),
        ("--resume", "--checkpoint", resume and checkpoint is None),
        ("--metric-every", "--metric", metric_every is not None and not metric),
        ("--features", "--metric", features is not None and not metric),
        ("--png-every", "--png or --log", png_every is not None and png is None and log is None),
    ):
        if value:
            raise UserError(f"{option} needs {needed}")
    loaded = load_program(program)
    from mgc.cli.training_pictures import Measurements, Pictures
    from mgc.evaluation.feeding import files_by_name
    from mgc.sim import Simulator
    from mgc.training.data.assign import feeder, first_values
    from mgc.training.export import check_writable, plan_export
    from mgc.training.trainee import Trainee

    mode: Any = numerics.value
    with about(program):
        trainee = Trainee(Simulator(loaded, engine.value, mode, threads, seed, max_elements, count_writes))
        plan = plan_export(loaded, export) if export is not None else None
    if data is None and not input:
        raise UserError("nothing to learn from: give --data DATA, or --input NAME=FILE.npy for an input")
    files = files_by_name(input or [], [i.name for i in (*trainee.inputs, *trainee.carried)])
    check_outputs(
        {"--png": png, "--export": export if export is not None and export.suffix == ".onnx" else None},
        {"the program": program, "the data": data, **{f"the input {n}": f for n, f in files.items()}},
    )
    check_png("--png", png)
    if plan is not None:
        check_writable(plan)
    first, samples = first_values(files, trainee.carried)
    feeds = feeder(trainee.inputs, trainee.batches, steps, seed, data, samples, console.note)
    record = _log(log)
    pictures = None
    if png is not None or (record is not None and png_every is not None):
        pictures = Pictures(loaded, trainee, feeds, seed, png, png_every, engine.value, mode, threads, record)
    measured = None
    if metric:
        how = {"engine": engine.value, "numerics": mode, "threads": threads, "seed": seed}
        measured = Measurements(loaded, trainee, feeds, metric, features, metric_samples, metric_every, how)

    def after(step: int) -> None:
        if pictures is not None:
            pictures.after(step)
        if measured is not None:
            measured.after(step, record)

    outcome = _train(trainee, feeds, first, steps, checkpoint_every or 100, seed, checkpoint, resume, after, record)
    if _is_done(outcome, steps):
        if plan is not None:
            _write_models(plan, loaded, trainee)
        if pictures is not None:
            pictures.final(steps)
        if measured is not None:
            measured.after(steps, record, last=True)
    if record is not None:
        record.close()
        console.note(f"{log}: losses.csv, and events for tensorboard --logdir {log}")
    counted = trainee.simulator.cell_writes() if count_writes else None
    _tell(outcome, loaded, steps, json, measured.history if measured is not None else None, counted)
    _end(outcome, steps)


def _train(
    trainee: Trainee,
    feeds: Feeder,
    first: Mapping[str, np.ndarray],
    steps: int,
    checkpoint_every: int,
    seed: int,
    folder: Path | None,
    resume: bool,
    after: Callable[[int], None],
    record: TrainingLog | None,
) -> Outcome:
    from mgc.training.errors import Diverged
    from mgc.training.loop import Listener, train
    from mgc.training.store import Store

    outcome = Outcome()

    def began(progress: Progress) -> None:
        outcome.progress = progress
        if progress.resumed_from:
            console.note(f"resumed from step {progress.resumed_from} ({progress.checkpoint})")
        if record is not None:
            record.began(progress)

    with training_progress(steps) as show, interrupt.defer(_announce_stop) as asked:

        def stepped(progress: Progress) -> None:
            show(progress)
            if record is not None:
                record.stepped(progress)
            after(progress.steps)

        listener = Listener(began, stepped, console.warn, lambda: bool(asked()))
        try:
            if folder is None:
                train(trainee, feeds, steps, listener=listener, carried=first)
            else:
                with Store(folder, seed, trainee.identity) as store:
                    train(trainee, feeds, steps, store, resume, checkpoint_every, listener, first)
        except Diverged as error:
            outcome.failure = error
        outcome.signal = asked()
    return outcome


def _log(folder: Path | None) -> TrainingLog | None:
    if folder is None:
        return None
    from mgc.training.log import TrainingLog

    return TrainingLog(folder)


def _announce_stop() -> None:
    console.note("\n" * sys.stderr.isatty() + "stopping after this step; once more ends at once")


def _write_models(plan: ExportPlan, program: Program, trainee: Trainee) -> None:
    from mgc.training.export import trained_models

    weights: Mapping[str, Any] = trainee.state()
    for path, content in trained_models(program, plan, weights):
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as temporary:
            temporary.write_bytes(content)
        console.note(f"{path}: trained model")


def _is_done(outcome: Outcome, steps: int) -> bool:
    return outcome.failure is None and outcome.progress is not None and outcome.progress.steps == steps


def _tell(
    outcome: Outcome,
    program: Program,
    steps: int,
    json: bool,
    metrics: Mapping[str, Any] | None,
    counted: Mapping[str, Any] | None,
) -> None:
    from mgc.report.text import pairs
    from mgc.report.wear import lines as wear_lines
    from mgc.report.wear import with_counts

    progress = outcome.progress
    if progress is None:
        return
    kept = str(progress.checkpoint) if progress.checkpoint else None
    if json:
        facts = {n: getattr(progress, n) for n in ("steps", "resumed_from", "seconds", "history")}
        more = {"metrics": metrics, "cell_writes": counted}
        console.emit_json({**facts, "checkpoint": kept, **{k: v for k, v in more.items() if v is not None}})
        return
    done = progress.steps - progress.resumed_from
    rate = f", {done / progress.seconds:,.1f} a second" if done and progress.seconds else ""
    lines = [("steps", f"{progress.steps:,} of {steps:,}, {done:,} now in {progress.seconds:.1f} s{rate}")]
    lines += [(name, f"{values[-1]:.6g}") for name, values in progress.history.items() if values]
    lines += [(name, f"{values[-1][1]:.6g}") for name, values in (metrics or {}).items()]
    lines += wear_lines(with_counts(program, counted)) if counted is not None else []
    console.emit(pairs([*lines, *([("checkpoint", kept)] if kept else [])]))


def _end(outcome: Outcome, steps: int) -> None:
    """The exit code, with a message, where training did not end as asked."""
    progress = outcome.progress
    kept = progress.checkpoint if progress else None
    if outcome.failure is not None:
        stays = f"; the last good checkpoint is {kept}" if kept else ""
        console.complain(f"error: training diverged at {outcome.failure}{stays}; a smaller learning rate may help")
        raise typer.Exit(CHECK_FAILED)
    if progress is not None and progress.interrupted:
        console.note(f"interrupted after step {progress.steps} of {steps}{f', saved in {kept}' if kept else ''}")
        raise typer.Exit(128 + outcome.signal)
