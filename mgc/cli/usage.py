"""Runs the command line; what is wrong with its words is said like any other error."""

from __future__ import annotations

import io
import sys
import warnings
from typing import Any

import typer

from mgc.cli.app import app
from mgc.cli.console import emit_error
from mgc.functions.printable import printable

_CommandLineError: Any = typer.BadParameter.__mro__[2]
"""The base of what Typer's parser raises: typer has it under no name of its own."""


def call() -> None:
    """Ends the process with the command's exit code."""
    # what is not finite is told by checks of our own, with names; NumPy's warnings name lines of our source
    warnings.simplefilter("ignore", RuntimeWarning)
    command = typer.main.get_command(app)
    try:
        code = command.main(standalone_mode=False)
    except _CommandLineError as error:
        text = io.StringIO()
        error.show(text)
        sys.stderr.write(printable(text.getvalue()))
        if "--json" in sys.argv[1:]:
            emit_error(error.format_message(), error.exit_code)
        code = error.exit_code
    except typer.Abort:
        code = 1
    sys.exit(code if isinstance(code, int) else 0)
