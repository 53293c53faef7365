"""`mgc targets`: the chips that come with mgc."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mgc.cli import console
from mgc.cli.command import command
from mgc.cli.options import Debug, Json


@command
def targets(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME|FILE.toml]", help="Print this target; check a file.", show_default=False),
    ] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """List the chips to compile for, or print one.

    What is printed is a TOML file that --target takes back, changed or not.
    """
    from mgc.targets import DEFAULT_TARGET, load_target, target_names, target_toml

    if name is not None and name not in target_names() and Path(name).exists():
        target = load_target(Path(name))
        if json:
            console.emit_json(target.to_json_dict())
            return
        console.emit_text(Path(name).read_text(encoding="utf-8-sig").expandtabs(4))
        console.note(f"{name} is a sound target, {target.name}: --target {name} takes it")
        return
    if name is not None:
        if json:
            console.emit_json(load_target(name).to_json_dict())
        else:
            console.emit_text(target_toml(name))
        return
    found = [load_target(n) for n in target_names()]
    if json:
        listed = [{"name": t.name, "title": t.title, "crossbars": t.crossbars} for t in found]
        console.emit_json({"default": DEFAULT_TARGET, "targets": listed})
        return
    from mgc.report.text import table
    from mgc.report.units import count

    rows = [
        (t.name, t.title, count(t.crossbars), f"{t.crossbar.rows}×{t.crossbar.cols}", str(t.crossbar.adc_bits))
        for t in found
    ]
    columns = ["target", "~what it is", ">crossbars", ">size", ">ADC bits"]
    console.emit(table(columns, rows))
    console.note(
        f"The default is {DEFAULT_TARGET}. `mgc targets NAME` prints a file to change; --target takes it back."
    )
