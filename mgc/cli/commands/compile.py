"""`mgc compile`: ONNX in, program out."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mgc.cli import console
from mgc.cli.errors import UserError, about, command
from mgc.cli.files import check_input, check_outputs, whole_file
from mgc.cli.options import Debug, Json, Seed
from mgc.cli.progress import progress
from mgc.cli.training_options import (
    AlphaOption,
    BetasOption,
    DataflowOption,
    DiscriminatorOption,
    EpsOption,
    Given,
    GpWeightOption,
    GroupOption,
    LossOption,
    LrOption,
    MomentumOption,
    OptimizerOption,
    PhaseOption,
    RedrawOption,
    training_options,
)

if TYPE_CHECKING:
    from mgc.compiler import CompileStats
    from mgc.isa.program import Program


class Calibrate(StrEnum):
    """How ranges of activations are chosen."""

    error = "error"
    minmax = "minmax"


@command
def compile_model(
    model: Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="The network.", show_default=False)],
    output: Annotated[
        Path | None,
        typer.Option("-o", metavar="P.mgc", help="The program file. [default: the model's stem + .mgc, here]"),
    ] = None,
    target: Annotated[
        str, typer.Option(metavar="NAME|FILE.toml", help="The chip: a name of `mgc targets`, or a file.")
    ] = "liu2018",
    batch: Annotated[int, typer.Option(metavar="N", min=1, help="Binds the first dynamic dimension.")] = 1,
    dim: Annotated[
        list[str] | None, typer.Option(metavar="NAME=N", help="Binds another dynamic dimension. Repeatable.")
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(
            metavar="X.npz", help="Sample inputs under their names, samples on axis 0. [default: N(0,1) noise]"
        ),
    ] = None,
    calibrate: Annotated[
        Calibrate, typer.Option(help="error: least output error; minmax: the full range, quick.")
    ] = Calibrate.error,
    dump_dir: Annotated[Path | None, typer.Option(metavar="DIR", help="Write the graph after every pass.")] = None,
    seed: Seed = 0,
    discriminator: DiscriminatorOption = None,
    loss: LossOption = None,
    gp_weight: GpWeightOption = None,
    redraw_noise: RedrawOption = False,
    phase: PhaseOption = None,
    group: GroupOption = None,
    optimizer: OptimizerOption = None,
    lr: LrOption = None,
    betas: BetasOption = None,
    momentum: MomentumOption = None,
    alpha: AlphaOption = None,
    eps: EpsOption = None,
    dataflow: DataflowOption = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Compile an ONNX network to a crossbar program.

    With a discriminator and a loss, or with phases of a model whose outputs are losses, the program trains it.
    """
    program_file = output or Path(f"{model.stem}.mgc")
    check_input(model, "an ONNX model")
    if calibration is not None:
        check_input(calibration, "an .npz file of sample inputs")
    if program_file.suffix == ".onnx":
        raise UserError(f"-o {program_file} is named like a model: a program's name ends in .mgc")
    if discriminator is not None:
        check_input(discriminator, "an ONNX model")
    sources = {"the input model": model, "the calibration data": calibration, "the target": Path(target)}
    sources["the discriminator"] = discriminator
    check_outputs({"-o": program_file}, sources)
    dims = _dims(dim or [])

    given = Given(
        discriminator=discriminator,
        loss=loss,
        gp_weight=gp_weight,
        redraw_noise=redraw_noise,
        phase=tuple(phase or ()),
        group=tuple(group or ()),
        optimizer=optimizer,
        lr=lr,
        betas=betas,
        momentum=momentum,
        alpha=alpha,
        eps=eps,
        dataflow=dataflow,
    )
    options = training_options(given)
    if options is not None and calibration is not None:
        raise UserError("--calibration is for inference: in training the chip finds its scales as it runs")
    files = [model] if discriminator is None else [model, discriminator]
    with progress("compile") as tell, about(*files):
        common: dict[str, Any] = {"target": target, "batch": batch, "dims": dims, "dump_dir": dump_dir, "seed": seed}
        if options is None:
            from mgc.compiler import compile_with_stats

            program, stats = compile_with_stats(
                model, calibration=calibration, calibrate=calibrate.value, progress=tell, **common
            )
        else:
            from mgc.compiler_training import compile_training_with_stats

            program, stats = compile_training_with_stats(
                model, options, discriminator=discriminator, progress=tell, **common
            )
    with whole_file(program_file) as path:
        program.save(path)
    for warning in stats.warnings:
        console.warn(warning)
    if json:
        console.emit_json(_facts(program_file, program, stats))
    else:
        _show(program_file, program, stats)


def _dims(given: list[str]) -> dict[str, int]:
    dims: dict[str, int] = {}
    for text in given:
        name, _, value = text.rpartition("=")
        if not name or not value.isdecimal() or int(value) < 1:
            raise UserError(f"--dim {text}: write NAME=N with a whole number N of at least 1")
        if dims.setdefault(name, int(value)) != int(value):
            raise UserError(f"--dim {name} is given twice, as {dims[name]} and {value}")
    return dims


def _facts(program_file: Path, program: Program, stats: CompileStats) -> dict[str, Any]:
    from mgc.report.views.summary import headline

    return {
        "program": str(program_file),
        **headline(program),
        "passes": [{"name": p.name, "seconds": p.seconds} for p in stats.passes],
        "seconds": stats.seconds,
    }


def _show(program_file: Path, program: Program, stats: CompileStats) -> None:
    from mgc.report.units import size
    from mgc.report.views.summary import overview

    slowest = max(stats.passes, key=lambda p: p.seconds, default=None)
    most = f", {slowest.seconds:.1f} s of it in {slowest.name}" if slowest and stats.seconds > 1 else ""
    console.emit_text(
        f"{program_file}: {size(program_file.stat().st_size)}, compiled in {stats.seconds:.1f} s{most}\n\n"
    )
    console.emit(overview(program))
