"""What a command's failure becomes: one clear message on stderr and an exit code, in one place."""

from __future__ import annotations

import functools
import os
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Any, ParamSpec

import typer

from mgc.cli import interrupt
from mgc.cli.console import complain, emit_error
from mgc.cli.errors import known_errors

BAD_INPUT = 2
CHECK_FAILED = 1

P = ParamSpec("P")


def command(function: Callable[P, None]) -> Callable[P, None]:
    """Decorator of every command: its errors become a message and an exit code; `debug` adds the traceback."""

    @functools.wraps(function)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        debug, json = bool(kwargs.get("debug")), bool(kwargs.get("json"))
        try:
            function(*args, **kwargs)
            sys.stdout.flush()
        except (typer.Exit, typer.Abort):
            _flush()
            raise
        except KeyboardInterrupt:
            _fail("interrupted", debug, json, interrupt.EXIT_CODE)
            raise typer.Exit(interrupt.EXIT_CODE) from None
        except BrokenPipeError:  # `mgc ... | head`: the reader has seen enough
            _hush_stdout()
        except Exception as error:
            _fail(_message(error), debug, json, BAD_INPUT)
            raise typer.Exit(BAD_INPUT) from None

    return guarded


def _message(error: Exception) -> str:
    if isinstance(error, known_errors()):
        return f"error: {error}"
    if isinstance(error, ModuleNotFoundError) and error.name and error.name.partition(".")[0] != "mgc":
        return f"error: the Python package {error.name} is missing: install it, or mgc anew with all it needs"
    if isinstance(error, MemoryError):
        return "error: out of memory: try a smaller --batch or -n"
    if isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename else ""
        return f"error: {place}{error.strerror or error}"
    kind = type(error).__name__
    return f"error: this is a bug in mgc, please report it: {kind}: {error} (--debug shows where)"


def _fail(message: str, debug: bool, json: bool, code: int) -> None:
    if debug:
        traceback.print_exc(file=sys.stderr)
    complain(message)
    if json:
        with suppress(Exception):  # stdout may be what is wrong; the message is out already
            emit_error(message.removeprefix("error: "), code)


def _flush() -> None:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _hush_stdout()


def _hush_stdout() -> None:
    """Lets the interpreter flush into nothing when it ends, instead of complaining."""
    null: Any = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
