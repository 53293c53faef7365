"""Ctrl-C and SIGTERM end a command at once, leave no half-written file and show no traceback.

The process ends where the signal finds it: an exception that comes from anywhere could be swallowed half-way (by a
library's import, a destructor, a callback from native code), and the command would go on with what is then left. Python
runs its handlers only between its own instructions, and a solver or an inference kernel may stay in native code for
minutes: so the signal also writes a byte into a pipe, where a thread waits that ends the process as well.

A command that wants to end in order (`defer`) is only told of the first signal; a second one ends it as ever.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from mgc.functions.drafts import discard_drafts

EXIT_CODE = 130
"""What a shell expects of a command ended by Ctrl-C: 128 + SIGINT."""

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
    signal.signal(signal.SIGTERM, _handle)
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:  # as a shell has it for what runs in the background
        signal.signal(signal.SIGINT, _handle)
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
            _finish(number)
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


def _handle(number: int, frame: FrameType | None) -> None:
    _finish(number)


_ending = threading.Lock()


def _finish(number: int) -> None:
    """Removes unfinished files and ends the process with 128 + the signal's number, as a shell expects it."""
    if not _ending.acquire(blocking=False):
        return  # the other thread is at it
    discard_drafts()
    with suppress(OSError):
        os.write(2, b"\x1b[?25h\ninterrupted\n" if os.isatty(2) else b"\ninterrupted\n")  # a bar hides the cursor
        if "--json" in sys.argv[1:]:
            error = {"message": "interrupted", "exit_code": 128 + number}
            os.write(1, json.dumps({"error": error}).encode() + b"\n")
    os._exit(128 + number)


def _watch(reader: int) -> None:
    while True:
        number = os.read(reader, 1)[0]
        if number in _SIGNALS:
            deferral = _deferral
            if deferral is not None and not deferral.seen:
                deferral.seen = True
                continue
            _finish(number)
