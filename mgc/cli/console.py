"""What a command says: results on stdout, everything else on stderr, in colour only where a terminal reads it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from mgc.cli.errors import UserError
from mgc.functions.printable import printable
from mgc.report.plain import plain

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.segment import Segment


def emit_json(value: Mapping[str, Any]) -> None:
    """One JSON object on stdout. What JSON cannot say (infinity, NaN) becomes null."""
    emit_text(json.dumps(plain(value), allow_nan=False) + "\n")


def emit_error(message: str, code: int) -> None:
    """The one JSON object of a command that failed: what it said, and its exit code."""
    emit_json({"error": {"message": _cut(message), "exit_code": code}})


def emit_text(text: str) -> None:
    """A result on stdout."""
    try:
        sys.stdout.write(printable(text))
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise UserError(f"cannot write to stdout: {error.strerror or error}") from error


def emit(renderable: RenderableType) -> None:
    """A report, as wide as the terminal; plain text of 80 columns (or $COLUMNS) where stdout is none."""
    if sys.stdout.isatty():
        console = _console(stderr=False)
        _print_segments(console, console.render(renderable))
        return
    from mgc.report.text import to_text

    columns = os.environ.get("COLUMNS", "")
    emit_text(to_text(renderable, int(columns) if columns.isdecimal() and int(columns) > 0 else 80))


def note(message: str) -> None:
    """A message on stderr."""
    _say(message)


def warn(message: str) -> None:
    """A warning on stderr."""
    _say(f"warning: {message}", "yellow")


def complain(message: str) -> None:
    """An error on stderr."""
    _say(message, "bold red")


_MOST = 4000
"""Characters of the longest message."""


def _cut(message: str) -> str:
    return message if len(message) <= _MOST else f"{message[: _MOST // 2]} ... {message[-_MOST // 4 :]}"


def _print_segments(console: Console, segments: Iterable[Segment]) -> None:
    """Prints what is rendered, with names in it that a terminal would obey made harmless."""
    from rich.segment import Segment, Segments

    safe = (s if s.control else Segment(printable(s.text), s.style) for s in segments)
    console.print(Segments(list(safe)), end="")


def _say(message: str, style: str = "") -> None:
    """`style` colours the word before the first colon. A text that is too long for any reader loses its middle."""
    message = printable(_cut(message))
    if not sys.stderr.isatty():
        sys.stderr.write(message + "\n")
        return
    from rich.text import Text

    text = Text(message)
    if style:
        text.stylize(style, 0, message.find(":") + 1 or len(message))
    _console(stderr=True).print(text, soft_wrap=True)


def _console(*, stderr: bool) -> Console:
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, markup=False, emoji=False)
