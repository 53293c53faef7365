"""Shows a program: text and JSON of every view, all of it as an HTML page, the schedule also as SVG and as a trace for
Perfetto, outputs as PNG. Imports `mgc.isa` only.

A view is a file of `mgc.report.views` with `facts` (plain values) and `render` (Rich text); a picture is a file of its
own here. `report` finds them by name, so that a new format is one entry in `_PICTURES` and one file.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mgc.functions.printable import printable
from mgc.report.plain import plain

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mgc.isa.program import Program
    from mgc.report.html.page import Sample

VIEWS = ("summary", "schedule", "mapping", "layers", "memory", "instructions", "cost", "losses")

SCHEMA_VERSION = 1
"""That of the JSON of all views: goes up when a key changes its meaning or goes."""

# (view, format) -> module with `draw(program, title) -> str`
_PICTURES = {
    ("schedule", "svg"): "mgc.report.svg",
    ("schedule", "perfetto"): "mgc.report.perfetto",
    ("losses", "svg"): "mgc.report.curves",
}

FORMATS = ("text", "json", *dict.fromkeys(format for _, format in _PICTURES), "html")
"""All formats."""


class ReportError(ValueError):
    """A view or format that does not exist; the message lists those that do."""


def formats(view: str) -> tuple[str, ...]:
    """The formats of a view."""
    return ("text", "json", *(f for v, f in _PICTURES if v == view), "html")


def facts(program: Program, view: str = "summary") -> dict[str, Any]:
    """A view's figures as plain values (what `json` prints)."""
    with _of_file(program):
        return {"schema_version": SCHEMA_VERSION, **plain(_view(view).facts(program))}


def renderable(program: Program, view: str = "summary") -> RenderableType:
    """A view's text for a Rich console."""
    with _of_file(program):
        return _view(view).render(program)


def report(
    program: Program,
    view: str = "summary",
    format: str = "text",
    *,
    width: int = 80,
    title: str = "",
    samples: Sequence[Sample] = (),
) -> str:
    """A view in one of its formats; `title` heads a picture (default: the program's name). Raises ReportError.

    "html" is one page of all views, opened at this one; `samples` are pictures to put into it. No control character
    but newline is in it, whatever the names are.
    """
    check(view, format)
    with _of_file(program):
        return printable(_written(program, view, format, width, title, samples))


def _written(program: Program, view: str, format: str, width: int, title: str, samples: Sequence[Sample]) -> str:
    if format == "html":
        from mgc.report.html.page import draw

        return draw(program, title or program.name, view=view, samples=samples)
    if format == "text":
        from mgc.report.text import to_text

        return to_text(renderable(program, view), width)
    if format == "json":
        return json.dumps(facts(program, view), allow_nan=False) + "\n"
    return importlib.import_module(_PICTURES[view, format]).draw(program, title or program.name)


@contextmanager
def _of_file(program: Program) -> Iterator[None]:
    """ReportError where a program from a file has a description of a chip, or notes, that no report can read."""
    try:
        yield
    except (AttributeError, TypeError, LookupError, ArithmeticError, RecursionError, ValueError) as error:
        if not program.origin or isinstance(error, ReportError):
            raise
        reason = f"{type(error).__name__}: {str(error)[:200]}"
        raise ReportError(
            f"{program.origin}: its target or meta is not as this mgc writes it ({reason}); compile it again"
        ) from error


def check(view: str, format: str) -> None:
    """ReportError unless the view exists and has the format."""
    if view not in VIEWS:
        raise ReportError(f"there is no view {view!r}: choose one of {', '.join(VIEWS)}")
    if format in formats(view):
        return
    owners = [v for v in VIEWS if format in formats(v)]
    what = f"only {', '.join(owners)} can be shown as {format}" if owners else f"there is no format {format!r}"
    raise ReportError(f"{what}: {view} comes as {', '.join(formats(view))}")


def _view(view: str) -> Any:
    if view not in VIEWS:
        raise ReportError(f"there is no view {view!r}: choose one of {', '.join(VIEWS)}")
    return importlib.import_module(f"mgc.report.views.{view}")
