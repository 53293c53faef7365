"""`mgc opt`: any passes on any stage of a compilation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mgc.cli import console
from mgc.cli.command import command
from mgc.cli.errors import about
from mgc.cli.files import check_input, check_outputs
from mgc.cli.options import Debug, Json


@command
def opt(
    source: Annotated[
        Path, typer.Argument(metavar="FILE.ir", help="A stage that --dump-dir wrote.", show_default=False)
    ],
    passes: Annotated[
        str,
        typer.Option("--passes", metavar="NAME{OPTION=VALUE},...", help="What to run, in order.", show_default=False),
    ],
    target: Annotated[
        str | None, typer.Option(metavar="NAME|FILE.toml", help="Another chip than the stage was compiled for.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", metavar="OUT.ir", help="Write there, data beside it, instead of the text alone to stdout."),
    ] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Run passes on a stage of a compilation: text in, text out."""
    check_input(source, "a stage that mgc compile --dump-dir wrote")
    check_outputs({"-o": output}, {"the stage": source})
    from mgc.compiler import compile_tools, pass_registry
    from mgc.dump import closed_module, later_passes, read_stage, stage_header, write_stage
    from mgc.ir.text import print_module
    from mgc.passes.manager import PassManager
    from mgc.passes.registry import parse_passes
    from mgc.targets.loader import load_target

    registry = pass_registry()
    steps = parse_passes(passes, registry)
    with about(source):
        state, header = read_stage(source, compile_tools(), None if target is None else load_target(target))
        manager = PassManager(steps)
        state = manager.run(state)
    later = later_passes(header, steps, registry)
    text = ""
    if output is not None:
        write_stage(state, output, steps[-1].name, later)
    else:
        text, _ = print_module(closed_module(state), header=stage_header(steps[-1].name, later), elide=True)
    for warning in dict.fromkeys(state.warnings):
        console.warn(warning)
    if json:
        ran = [{"name": r.name, "seconds": r.seconds} for r in manager.records]
        written = {"output": str(output)} if output is not None else {"text": text}
        console.emit_json({"stage": str(source), "passes": ran, "warnings": state.warnings, **written})
    elif output is None:
        console.emit_text(text.rstrip("\n"))
