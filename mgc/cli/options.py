"""Options that several commands share, and those of `mgc.options` as a command has them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from mgc.options import SPELLINGS, CompileOptions, Spelling

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout, and nothing else.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
ProgramFile = Annotated[Path, typer.Argument(metavar="P.mgc", help="A compiled program.", show_default=False)]
MetricOption = Annotated[
    list[str] | None,
    typer.Option(
        "--metric",
        metavar="NAME:REAL",
        help="frechet, kernel, precision or recall of the images, beside real ones: a folder, .npy, .npz or IDX. "
        "Repeatable.",
    ),
]
FeaturesOption = Annotated[
    Path | None,
    typer.Option(
        "--features",
        metavar="NETWORK.onnx",
        help="What --metric compares: [N, C, H, W], -1 to 1, to features. [default: one for 32x32 grey]",
    ),
]
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
CountWrites = Annotated[
    bool, typer.Option("--count-writes", help="Count the cells whose level changes when cells are written.")
]
Threads = Annotated[int | None, typer.Option("--threads", metavar="T", min=1, help="Threads at most. [default: all]")]


MaxElements = Annotated[
    int, typer.Option("--max-elements", metavar="N", min=1, help="Refuse a program with a larger buffer.")
]


def one_of(names: Callable[[], Sequence[str]]) -> Callable[[str], str]:
    """A parser of options that takes these names, which are looked up only when there is one to parse."""

    def choose(text: str) -> str:
        if text not in names():
            near = get_close_matches(text.lower(), names(), n=1)
            meant = f" Did you mean {near[0]}?" if near else ""
            raise typer.BadParameter(f"{text!r} is not one of {', '.join(names())}.{meant}")
        return text

    return choose


class CompileCommand(TyperCommand):
    """A command whose help names values that are looked up only when it is asked for."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        for parameter in self.params:
            if parameter.name in SPELLINGS:
                vars(parameter)["help"] = SPELLINGS[parameter.name].text()
        super().format_options(ctx, formatter)


def with_compile_options(function: Callable[..., None]) -> Callable[..., None]:
    """Gives a command the options of `CompileOptions` in the place of its **keywords."""
    signature = inspect.signature(function, eval_str=True)
    own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    first = [p for p in own if p.kind is p.POSITIONAL_OR_KEYWORD]
    added = [_parameter(name, spelling) for name, spelling in SPELLINGS.items()]
    parameters = [*first, *added, *own[len(first) :]]
    vars(function)["__signature__"] = signature.replace(parameters=parameters)
    return function


def _parameter(name: str, spelling: Spelling) -> inspect.Parameter:
    default = getattr(CompileOptions, name)
    default = None if default == () else default
    info = typer.Option(
        spelling.flag,
        metavar=spelling.metavar,
        help=spelling.help,
        min=spelling.minimum,
        parser=one_of(spelling.choices) if spelling.names else None,
    )
    kind = spelling.type if default is not None else spelling.type | None
    annotation = Annotated[kind, info]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def compile_options(given: Mapping[str, Any]) -> CompileOptions:
    """What the command line gave. UnsupportedError if it is not written as it should be, or does not go together."""
    found = {name: value for name, value in given.items() if value is not None}
    readers = {name: SPELLINGS[name].read for name in found}
    return CompileOptions(**{name: read(found[name]) if read else found[name] for name, read in readers.items()})
