"""Options that several commands share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout, and nothing else.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
ProgramFile = Annotated[Path, typer.Argument(metavar="P.mgc", help="A compiled program.", show_default=False)]
Seed = Annotated[int, typer.Option("--seed", metavar="S", min=0, help="Seed of everything that is drawn.")]


class Numerics(StrEnum):
    """How values are computed."""

    float = "float"
    quantized = "quantized"
    device = "device"


class Engine(StrEnum):
    """Which simulator runs the program."""

    fast = "fast"
    reference = "reference"


NumericsOption = Annotated[
    Numerics,
    typer.Option("--numerics", help="float: ideal arithmetic; quantized: the chip's; device: its cells' errors, too."),
]
EngineOption = Annotated[Engine, typer.Option("--engine", help="reference: cell by cell, slow; same results.")]
Threads = Annotated[int | None, typer.Option("--threads", metavar="T", min=1, help="Threads at most. [default: all]")]
