"""The `mgc` command. Heavy modules are imported by the command that needs them: `mgc --help` stays quick."""

from __future__ import annotations

import os
import signal
import sys


def main() -> None:
    """Runs the command line; the process's exit code is 0, 1 (a check failed), 2 (bad input) or 130 (Ctrl-C)."""
    if signal.getsignal(signal.SIGINT) == signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # until there is something to clean up
    from mgc.cli import interrupt

    interrupt.install()
    if sys.stdout is None or sys.stderr is None:  # closed by the shell: `mgc ... >&-`
        nowhere = open(os.devnull, "w")  # noqa: SIM115 - for as long as the process lives
        sys.stdout, sys.stderr = sys.stdout or nowhere, sys.stderr or nowhere
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:  # a name that the terminal cannot show must not end the command
            reconfigure(errors="backslashreplace")
    try:
        from mgc.cli.usage import call

        call()
    except KeyboardInterrupt:
        sys.exit(interrupt.EXIT_CODE)
