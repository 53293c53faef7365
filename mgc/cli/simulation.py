"""Runs a program as a command is asked to: the part that is run, with which weights, on any number of samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mgc.cli import console
from mgc.cli.errors import UserError, about
from mgc.cli.files import whole_file
from mgc.cli.progress import progress
from mgc.evaluation.feeding import make_feeds, run_fed

if TYPE_CHECKING:
    import numpy as np

    from mgc.cli.progress import Progress
    from mgc.evaluation.feeding import Feeds
    from mgc.evaluation.metrics import Metrics
    from mgc.isa.program import Program
    from mgc.report.html.page import Sample
    from mgc.report.png import Picture
    from mgc.sim import Simulator


def testing_part(
    path: Path, program: Program, checkpoint: Path | None, ema: bool
) -> tuple[Program, Mapping[str, np.ndarray] | None]:
    """What of a program is run to see what it makes: itself, or the testing entry of one that trains. Beside it the
    weights of the checkpoint, None for those it was compiled with; with `ema` their moving averages.
    """
    if not _trains(program):
        if ema:
            raise UserError(f"{path} keeps no moving average, being compiled for inference: leave --ema out")
        if checkpoint is not None:
            raise UserError(f"{path} has no testing entry, being compiled for inference: leave --checkpoint out")
        return program, None
    from mgc.training.export import averages_of
    from mgc.training.inference import checkpoint_weights, entry_for_testing

    with about(path):
        part = entry_for_testing(program)
    averages = averages_of(program)
    if ema and not averages:
        raise UserError(f"{path} keeps no moving average: compile it with --ema GROUP=DECAY")
    if checkpoint is None:
        console.note("with the weights before training: --checkpoint DIR takes those of a checkpoint")
        return part, None
    step, weights = checkpoint_weights(program, checkpoint, console.warn)
    console.note(f"with the {'averages' if ema else 'weights'} of step {step}")
    return part, {name: weights[averages.get(name, name)] for name in weights} if ema else weights


def _trains(program: Program) -> bool:
    return any(entry.kind == "train" for entry in program.entries)


def make_simulator(part: Program, weights: Mapping[str, np.ndarray] | None, **options: Any) -> Simulator:
    """A simulator of what `testing_part` gives."""
    from mgc.simulator import Simulator

    simulator = Simulator(part, **options)
    if weights is not None:
        from mgc.training.inference import load_weights

        load_weights(simulator, weights)
    return simulator


def make_metrics(
    texts: Sequence[str] | None,
    features: Path | None,
    program: Program,
    limits: tuple[float, float] = (-1.0, 1.0),
    threads: int | None = None,
    samples: int | None = None,
) -> Metrics | None:
    """What `--metric` and `--features` ask for, of so many samples; None for nothing."""
    if not texts:
        if features is not None:
            raise UserError("--features needs --metric NAME:REAL")
        return None
    from mgc.evaluation.metrics import FeatureNetwork, Metrics, parse_metrics

    return Metrics(program, parse_metrics(texts), FeatureNetwork(features, threads), limits, samples)


def simulate(simulator: Simulator, fed: Feeds, tell: Progress = lambda stage, share: None) -> dict[str, Any]:
    """The outputs for all the samples that are fed."""
    return run_fed(simulator, fed, lambda done, total: tell("", done / total if total else 1.0))


def save_picture(picture: Picture, path: Path) -> None:
    """Writes a grid of images or waveforms as PNG; a strip as GIF, there and back, where the name ends so."""
    with whole_file(path) as temporary:
        if path.suffix.lower() != ".gif":
            picture.image.save(temporary, format="PNG")
            return
        from mgc.report.png import frames

        first, *others = (there := frames(picture)) + there[-2:0:-1]
        first.save(temporary, format="GIF", save_all=True, append_images=others, duration=80, loop=0)


def sample_pictures(path: Path, program: Program, count: int, seed: int, checkpoint: Path | None) -> list[Sample]:
    """Runs `count` samples in quantized numerics on drawn inputs; the grid of images or waveforms that they are.

    UserError if no output can be drawn.
    """
    import io

    from mgc.report.html.page import Sample
    from mgc.report.png import PictureError, check, draw

    part, weights = testing_part(path, program, checkpoint, ema=False)
    try:
        check(part)
    except PictureError as error:
        raise UserError(f"{str(error).split('. Leave')[0]}. Leave --samples out.") from error
    simulator = make_simulator(part, weights, seed=seed)
    with progress("run") as tell, about(path):
        outputs = simulate(simulator, make_feeds(part, {}, count, seed), tell)
    picture = draw(part, outputs)
    file = io.BytesIO()
    picture.image.save(file, format="PNG", optimize=True)
    state = ", the weights before training" if _trains(program) else ""
    if checkpoint is not None:
        state = f", weights of {checkpoint.name}"
    caption = (
        f"{picture.shown} {picture.kind} of output {picture.output}, quantized numerics, seed {seed}, values "
        f"{picture.low:g} to {picture.high:g}{state}"
    )
    return [Sample(file.getvalue(), caption)]
