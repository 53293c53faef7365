"""Ctrl-C and SIGTERM end a command at once, leave no half-written file and show no traceback.

Python raises KeyboardInterrupt only between its own instructions, and a solver or an inference kernel may stay in
native code for minutes. The signal also writes a byte into a pipe, where a thread waits: if the command has not ended a
moment later, the thread removes unfinished files and ends the process.

A command that wants to end in order (`defer`) is only told of the first signal; a second one ends it as ever.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from mgc.cli.files import discard_unfinished

EXIT_CODE = 130
"""What a shell expects of a command ended by Ctrl-C: 128 + SIGINT."""

_GRACE_S = 1.5
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class _Deferral:
    """What has come since a command asked to be told: the first signal's number, and whether the thread saw it."""

    number = 0
    seen = False


_deferral: _Deferral | None = None


def install() -> None:
    """Sets the handlers; only where signals and pipes work together (POSIX) and in the main thread."""
    if os.name != "posix" or threading.current_thread() is not threading.main_thread():
        return
    signal.signal(signal.SIGTERM, _terminate)
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(reader,), daemon=True, name="mgc-interrupt").start()


@contextmanager
def defer(on_signal: Callable[[], None] = lambda: None) -> Iterator[Callable[[], int]]:
    """In the block, the first Ctrl-C or SIGTERM calls `on_signal`, and the callable that is given gives its number (0
    before); a second one ends the command as ever. Without effect outside the main thread.
    """
    global _deferral
    if threading.current_thread() is not threading.main_thread():
        yield lambda: 0
        return
    deferral = _Deferral()

    def handle(number: int, frame: FrameType | None) -> None:
        if deferral.number:
            raise KeyboardInterrupt
        deferral.number = number
        on_signal()

    before = {number: signal.signal(number, handle) for number in _SIGNALS}
    _deferral = deferral
    try:
        yield lambda: deferral.number
    finally:
        _deferral = None
        for number, handler in before.items():
            signal.signal(number, handler)


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    sys.exit(128 + number)


def _watch(reader: int) -> None:
    while True:
        number = os.read(reader, 1)[0]
        if number in _SIGNALS:
            deferral = _deferral
            if deferral is not None and not deferral.seen:
                deferral.seen = True
                continue
            time.sleep(_GRACE_S)
            discard_unfinished()
            os.write(2, b"\ninterrupted\n")
            os._exit(128 + number)
