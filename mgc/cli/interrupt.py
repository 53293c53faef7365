"""Ctrl-C and SIGTERM end a command at once, leave no half-written file and show no traceback.

Python raises KeyboardInterrupt only between its own instructions, and a solver or an inference kernel may stay in
native code for minutes. The signal also writes a byte into a pipe, where a thread waits: if the command has not ended a
moment later, the thread removes unfinished files and ends the process.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from types import FrameType
from typing import NoReturn

EXIT_CODE = 130
"""What a shell expects of a command ended by Ctrl-C: 128 + SIGINT."""

_GRACE_S = 1.5


def install() -> None:
    """Sets the handlers; only where signals and pipes work together (POSIX) and in the main thread."""
    if os.name != "posix" or threading.current_thread() is not threading.main_thread():
        return
    signal.signal(signal.SIGTERM, _terminate)
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(reader,), daemon=True, name="mgc-interrupt").start()


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    sys.exit(128 + number)


def _watch(reader: int) -> None:
    while True:
        number = os.read(reader, 1)[0]
        if number in (signal.SIGINT, signal.SIGTERM):
            time.sleep(_GRACE_S)
            from mgc.cli.files import discard_unfinished

            discard_unfinished()
            os.write(2, b"\ninterrupted\n")
            os._exit(128 + number)
