"""What a command says: results on stdout, everything else on stderr, in colour only where a terminal reads it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mgc.cli.errors import UserError
from mgc.report.plain import plain

if TYPE_CHECKING:
    from rich.console import Console, RenderableType


def emit_json(value: Mapping[str, Any]) -> None:
    """One JSON object on stdout. What JSON cannot say (infinity, NaN) becomes null."""
    emit_text(json.dumps(plain(value), allow_nan=False) + "\n")


def emit_text(text: str) -> None:
    """A result as it is, on stdout."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise UserError(f"cannot write to stdout: {error.strerror or error}") from error


def emit(renderable: RenderableType) -> None:
    """A report, as wide as the terminal; plain text of 80 columns (or $COLUMNS) where stdout is none."""
    if sys.stdout.isatty():
        _console(stderr=False).print(renderable)
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


def _say(message: str, style: str = "") -> None:
    """`style` colours the word before the first colon."""
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
