"""`mgc inspect`: look at a program."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mgc.cli import console
from mgc.cli.errors import UserError, command
from mgc.cli.files import check_outputs, whole_file
from mgc.cli.loading import load_program
from mgc.cli.options import Debug, Json, ProgramFile


class View(StrEnum):
    """What to look at."""

    summary = "summary"
    schedule = "schedule"
    mapping = "mapping"
    layers = "layers"
    memory = "memory"
    instructions = "instructions"
    cost = "cost"


@command
def inspect(
    program: ProgramFile,
    view: Annotated[View, typer.Argument(help="What to look at.")] = View.summary,
    format: Annotated[
        str | None, typer.Option(metavar="text|json|svg", help="svg: the schedule as a picture. [default: text]")
    ] = None,
    output: Annotated[Path | None, typer.Option("-o", metavar="FILE", help="Write there instead of stdout.")] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Show a program: schedule, mapping, memory, cost ...

    The summary also tells where every ONNX node went.
    """
    import mgc.report as reports

    wanted = format or ("json" if json else "text")
    if json and wanted != "json" and output is None:
        raise UserError(f"--json and --format {wanted} both want stdout: give the {wanted} a file with -o")
    reports.check(view, wanted)
    check_outputs({"-o": output}, {"the program": program})
    loaded = load_program(program)
    if output is not None:
        text = reports.report(loaded, view, wanted, title=program.stem)
        with whole_file(output) as path:
            path.write_text(text, encoding="utf-8")
        if json:
            console.emit_json({"program": str(program), "view": view, "format": wanted, "output": str(output)})
    elif wanted == "text":
        console.emit(reports.renderable(loaded, view))
    else:
        console.emit_text(reports.report(loaded, view, wanted, title=program.stem))
