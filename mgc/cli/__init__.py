"""The `mgc` command. Heavy modules are imported by the command that needs them: `mgc --help` stays quick."""

from __future__ import annotations

import sys


def main() -> None:
    """Runs the command line; the process's exit code is 0, 1 (a check failed), 2 (bad input) or 130 (Ctrl-C)."""
    from mgc.cli import interrupt

    interrupt.install()
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:  # a name that the terminal cannot show must not end the command
            reconfigure(errors="backslashreplace")
    try:
        from mgc.cli.app import app

        app()
    except KeyboardInterrupt:
        sys.exit(interrupt.EXIT_CODE)
