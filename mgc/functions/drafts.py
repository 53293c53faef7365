"""Files that are written whole or not at all: first as a draft beside them, then renamed.

What a killed process leaves half-written is removed by the next that writes in the same folder.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

_unfinished: set[Path] = set()
_number = count()


@contextmanager
def drafted(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """Gives a path to write to; when the block ends well it becomes `path` in one step, else nothing is left.

    `durable` waits until the file and its name are on the disk. Raises OSError where it cannot be written.
    """
    sweep_drafts(path.parent)
    draft = path.with_name(f".mgc-{_host()}-{os.getpid()}-{next(_number)}.tmp")
    _unfinished.add(draft)
    try:
        yield draft
        if durable:
            _synchronise(draft)
        os.replace(draft, path)
        if durable:
            with suppress(OSError):  # where the system can
                _synchronise(path.parent)
    finally:
        with suppress(OSError):
            draft.unlink()
        _unfinished.discard(draft)


def discard_drafts() -> None:
    """Removes what is not finished: for a process that is about to end."""
    for path in tuple(_unfinished):
        with suppress(OSError):
            path.unlink()


def _synchronise(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _host() -> str:
    """A word for this machine: process numbers are its own."""
    return hashlib.sha256(os.uname().nodename.encode()).hexdigest()[:8] if hasattr(os, "uname") else "here"


_DRAFT = re.compile(r"\.mgc-([0-9a-f]{8}|here)-(\d+)-\d+\.tmp")


def sweep_drafts(folder: Path) -> None:
    """Removes the drafts of processes of this machine that are no more."""
    with suppress(OSError):
        for path in folder.iterdir():
            match = _DRAFT.fullmatch(path.name)
            if match and match[1] == _host() and not _lives(int(match[2])):
                with suppress(OSError):
                    path.unlink()


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # another user's; no number of a process
        return True
    return True
