"""`mgc compare`: what differs between two programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mgc.cli import console
from mgc.cli.command import command
from mgc.cli.files import load_program
from mgc.cli.options import Debug, Json


@command
def compare(
    first: Annotated[Path, typer.Argument(metavar="A.mgc", help="A program.", show_default=False)],
    second: Annotated[Path, typer.Argument(metavar="B.mgc", help="Another program.", show_default=False)],
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Show what differs between two programs.

    Target keys, crossbars, time, energy, area, accuracy, layer by layer.
    """
    from mgc.report import SCHEMA_VERSION, difference

    a, b = load_program(first), load_program(second)
    if json:
        console.emit_json(
            {"schema_version": SCHEMA_VERSION, "a": str(first), "b": str(second), **difference.facts(a, b)}
        )
        return
    names = (first.stem, second.stem) if first.stem != second.stem else (str(first), str(second))
    console.emit(difference.render(a, b, names))
