"""What of a program is run to see what it makes: itself, or the testing entry of one that trains."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mgc.cli import console
from mgc.cli.errors import UserError, about

if TYPE_CHECKING:
    import numpy as np

    from mgc.isa.program import Program
    from mgc.report.html.page import Sample


def to_test(path: Path, program: Program, checkpoint: Path | None) -> tuple[Program, Mapping[str, np.ndarray] | None]:
    """What is to be run, and the weights to run it with: None for those it was compiled with."""
    if checkpoint is None and len(program.entries) == 1:
        return program, None
    from mgc.training.entries import entry_for_testing
    from mgc.training.inference import checkpoint_weights

    with about(path):
        part = entry_for_testing(program)
    if checkpoint is None:
        console.note("with the weights before training: --checkpoint DIR takes those of a checkpoint")
        return part, None
    step, weights = checkpoint_weights(program, checkpoint, console.warn)
    console.note(f"with the weights of step {step}")
    return part, weights


def sample_pictures(path: Path, program: Program, count: int, seed: int, checkpoint: Path | None) -> list[Sample]:
    """Runs `count` samples in quantized numerics on drawn inputs; the grid of images or waveforms that they are.

    UserError if no output can be drawn.
    """
    import io

    from mgc.cli.feeding import feeds
    from mgc.cli.progress import progress
    from mgc.cli.simulating import simulated
    from mgc.report.html.page import Sample
    from mgc.report.png import PictureError, check, draw
    from mgc.sim import Simulator

    part, weights = to_test(path, program, checkpoint)
    try:
        check(part)
    except PictureError as error:
        raise UserError(f"{str(error).split('. Leave')[0]}. Leave --samples out.") from error
    simulator = Simulator(part, seed=seed)
    if weights is not None:
        from mgc.training.inference import load_weights

        load_weights(simulator, weights)
    with progress("run") as tell, about(path):
        outputs = simulated(simulator, feeds(part, {}, count, seed), tell)
    picture = draw(part, outputs)
    file = io.BytesIO()
    picture.image.save(file, format="PNG", optimize=True)
    state = (
        ""
        if len(program.entries) == 1
        else ", the weights before training"
        if checkpoint is None
        else f", weights of {checkpoint.name}"
    )
    caption = (
        f"{picture.shown} {picture.kind} of output {picture.output}, quantized numerics, seed {seed}, values "
        f"{picture.low:g} to {picture.high:g}{state}"
    )
    return [Sample(file.getvalue(), caption)]
