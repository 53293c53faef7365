"""`mgc inspect`: look at a program."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import mgc.report as reports
from mgc.cli import console
from mgc.cli.command import command
from mgc.cli.errors import UserError, about
from mgc.cli.files import check_input, check_outputs, load_program, whole_file
from mgc.cli.options import Debug, Json, ProgramFile, Seed, one_of
from mgc.report import FORMATS, VIEWS, formats

if TYPE_CHECKING:
    from mgc.isa.program import Program

_PICTURES = "; ".join(f"{', '.join(drawn)}: the {view}" for view in VIEWS if (drawn := formats(view)[2:-1]))


@command
def inspect(
    program: ProgramFile,
    view: Annotated[
        str,
        typer.Argument(metavar="VIEW", help=f"What to look at: {', '.join(VIEWS)}.", parser=one_of(lambda: VIEWS)),
    ] = VIEWS[0],
    format: Annotated[
        str | None,
        typer.Option(metavar="|".join(FORMATS), help=f"html: one page with everything; {_PICTURES}. [default: text]"),
    ] = None,
    output: Annotated[Path | None, typer.Option("-o", metavar="FILE", help="Write there instead of stdout.")] = None,
    samples: Annotated[
        int | None,
        typer.Option("--samples", metavar="N", min=1, max=256, help="Run N samples and show them on the page (html)."),
    ] = None,
    seed: Seed = 0,
    checkpoint: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Samples with the weights that mgc train left there.")
    ] = None,
    counted: Annotated[
        Path | None,
        typer.Option("--counted", metavar="FILE.json", help="What --count-writes --json printed: cost has it beside."),
    ] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Show a program: schedule, mapping, memory, cost ...

    The summary also tells where every ONNX node went. The page (--format html -o FILE) needs no network; the trace
    (schedule --format perfetto) opens in ui.perfetto.dev.
    """
    wanted = format or ("json" if json else "text")
    if json and wanted != "json" and output is None:
        raise UserError(f"--json and --format {wanted} both want stdout: give the {wanted} a file with -o")
    reports.check(view, wanted)
    if samples is not None and wanted != "html":
        raise UserError(f"--samples puts pictures into the page: it needs --format html, not {wanted}")
    if checkpoint is not None and samples is None:
        raise UserError("--checkpoint says which weights samples are made with: it needs --samples N")
    if counted is not None and view != "cost" and wanted != "html":
        raise UserError(f"--counted is for view cost, or the page (--format html), not {view}")
    check_outputs({"-o": output}, {"the program": program, "the counts": counted})
    loaded = load_program(program)
    if counted is not None:
        loaded = _with_counts(loaded, counted)
    pictures = []
    if samples is not None:
        from mgc.cli.simulation import sample_pictures

        pictures = sample_pictures(program, loaded, samples, seed, checkpoint)
    if output is not None:
        text = reports.report(loaded, view, wanted, title=program.stem, samples=pictures)
        with whole_file(output) as path:
            path.write_text(text, encoding="utf-8")
        if json:
            console.emit_json({"program": str(program), "view": view, "format": wanted, "output": str(output)})
    elif wanted == "text":
        console.emit(reports.renderable(loaded, view))
    else:
        console.emit_text(reports.report(loaded, view, wanted, title=program.stem, samples=pictures))


def _with_counts(program: Program, path: Path) -> Program:
    """The program with the counts of writes that a file holds."""
    import json

    from mgc.report.wear import with_counts

    check_input(path, "the JSON of mgc train --count-writes --json")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is no JSON ({error}): give what mgc train --count-writes --json printed") from error
    with about(path):
        return with_counts(program, found.get("cell_writes") if isinstance(found, dict) else None)
