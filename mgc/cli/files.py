"""Output files: checked before the work begins, written whole or not at all, never over an input."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

from mgc.cli.errors import UserError

_unfinished: set[Path] = set()
_number = count()


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Gives a path to write to; when the block ends well it becomes `path` in one step, else nothing is left.

    A device or pipe (/dev/stdout) is never replaced: it gets the finished file's bytes.
    """
    real = Path(os.path.realpath(path))
    if real.exists() and not real.is_file():
        with tempfile.TemporaryDirectory(prefix="mgc-") as folder:
            copy = Path(folder) / "copy"
            yield copy
            try:
                with open(copy, "rb") as source, open(real, "wb") as sink:
                    shutil.copyfileobj(source, sink)
            except OSError as error:
                raise UserError(f"cannot write {path}: {error.strerror or error}") from error
        return
    temporary = real.with_name(f".mgc-{os.getpid()}-{next(_number)}.tmp")
    _unfinished.add(temporary)
    try:
        yield temporary
        os.replace(temporary, real)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            temporary.unlink()
        _unfinished.discard(temporary)


def discard_unfinished() -> None:
    """Removes what `whole_file` has not finished: for a process that is about to end."""
    for path in tuple(_unfinished):
        with suppress(OSError):
            path.unlink()


def check_outputs(outputs: Mapping[str, Path | None], inputs: Mapping[str, Path | None]) -> None:
    """Refuses, before any work, outputs that cannot be written or that would replace an input or each other.

    Both map what a file is ("-o", "the model") to its path; None is skipped.
    """
    taken = {what: path for what, path in inputs.items() if path is not None}
    for option, path in outputs.items():
        if path is None:
            continue
        for what, other in taken.items():
            if _same(path, other):
                raise UserError(f"{option} {path} would overwrite {what}: choose another name")
        if path.is_dir():
            raise UserError(f"{option} {path} is a folder: name a file in it")
        if not path.parent.is_dir():
            raise UserError(f"{option} {path}: there is no folder {path.parent}: make it first")
        if not path.exists() and not os.access(path.parent, os.W_OK):
            raise UserError(f"{option} {path}: the folder {path.parent} cannot be written to")
        taken[option] = path


def check_input(path: Path, what: str) -> None:
    """Refuses an input file that is not there or is a folder."""
    if path.is_dir():
        raise UserError(f"{path} is a folder, not {what}")
    if not path.exists():
        raise UserError(f"there is no file {path} ({what} is expected)")


def _same(a: Path, b: Path) -> bool:
    try:
        return os.path.samefile(a, b)
    except OSError:  # one does not exist
        return os.path.realpath(a) == os.path.realpath(b)
