"""`mgc compile`: ONNX in, program out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mgc.cli import console
from mgc.cli.command import command
from mgc.cli.errors import UserError, about
from mgc.cli.files import check_input, check_outputs, whole_file
from mgc.cli.options import Debug, Json, compile_options, with_compile_options
from mgc.cli.progress import progress
from mgc.options import SPELLINGS

if TYPE_CHECKING:
    from mgc.compiler import CompileStats
    from mgc.isa.program import Program


@command
@with_compile_options
def compile_model(
    model: Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="The network.", show_default=False)],
    output: Annotated[
        Path | None,
        typer.Option("-o", metavar="P.mgc", help="The program file. [default: the model's stem + .mgc, here]"),
    ] = None,
    *,
    json: Json = False,
    debug: Debug = False,
    **given: Any,
) -> None:
    """Compile an ONNX network to a crossbar program.

    With a discriminator and a loss, or with phases of a model whose outputs are losses, the program trains it.
    """
    program_file = output or Path(f"{model.stem}.mgc")
    check_input(model, "an ONNX model")
    if program_file.suffix == ".onnx":
        raise UserError(f"-o {program_file} is named like a model: a program's name ends in .mgc")
    calibration, discriminator = given["calibration"], given["discriminator"]
    if calibration is not None and not calibration.is_dir():
        check_input(calibration, "sample inputs: .npz, .npy, an image or a folder of images")
    if discriminator is not None:
        check_input(discriminator, "an ONNX model")
    sources = {"the input model": model, "the calibration data": calibration, "the target": Path(given["target"])}
    check_outputs({"-o": program_file}, {**sources, "the discriminator": discriminator})
    options = compile_options(given)
    if options.trains and options.optimizer is None:
        raise UserError(f"training needs --optimizer NAME: one of {', '.join(SPELLINGS['optimizer'].choices())}")
    with progress("compile") as tell, about(*filter(None, (model, discriminator))):
        from mgc.compiler import compile_with_stats

        program, stats = compile_with_stats(model, options, tell)
    with whole_file(program_file) as path:
        program.save(path)
    for warning in stats.warnings:
        console.warn(warning)
    if json:
        console.emit_json(_facts(program_file, program, stats))
    else:
        _show(program_file, program, stats)


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
