"""The files of a command: inputs checked and read, outputs checked before the work begins, written whole or not at all,
never over an input.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mgc.cli.errors import UserError, about
from mgc.functions.drafts import drafted

if TYPE_CHECKING:
    import numpy as np

    from mgc.isa.program import Program


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
    try:
        with drafted(real) as draft:
            yield draft
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error


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


def check_png(option: str, path: Path | None) -> None:
    """Refuses a picture whose name says another format than the one that is written."""
    if path is not None and path.suffix.lower() != ".png" and path.suffix:
        raise UserError(f"{option} {path}: what is written is PNG: end its name in .png")


def check_input(path: Path, what: str) -> None:
    """Refuses an input file that is not there or is no regular file: a device never ends, a pipe may wait for ever."""
    if path.is_dir():
        raise UserError(f"{path} is a folder, not {what}")
    if not path.exists():
        raise UserError(f"there is no file {path} ({what} is expected)")
    if not path.is_file():
        raise UserError(f"{path} is a device or a pipe, not a file: {what} is expected")


def _same(a: Path, b: Path) -> bool:
    try:
        return os.path.samefile(a, b)
    except OSError:  # one does not exist
        return os.path.realpath(a) == os.path.realpath(b)


def load_program(path: Path) -> Program:
    """A program file, verified."""
    check_input(path, "an .mgc program")
    if path.suffix == ".onnx":
        raise UserError(f"{path} is an ONNX model, not a program: compile it first, with mgc compile {path}")
    from mgc.isa.program import Program

    with about(path):
        return Program.load(path)


def save_npz(path: Path, arrays: Mapping[str, Any]) -> None:
    """Writes what `numpy.load` reads. `numpy.savez` takes names as keywords and so refuses some ("file").

    Element types that NumPy itself does not have (bfloat16) are written as float32, which holds them exactly.
    """
    import numpy as np

    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name, value in arrays.items():
            member = zipfile.ZipInfo(f"{name}.npy")  # its date is fixed: 1980
            member.external_attr = 0o644 << 16
            with archive.open(member, "w", force_zip64=True) as file:
                np.lib.format.write_array(file, _storable(name, value), allow_pickle=False)


def _storable(name: str, value: Any) -> np.ndarray:
    import numpy as np

    array = np.asarray(value) if not isinstance(value, (list, tuple, dict)) and value is not None else None
    if array is not None and array.dtype.kind == "O" and all(isinstance(v, str) for v in array.reshape(-1)):
        array = array.astype(np.str_)
    if array is None or array.dtype.kind == "O":
        raise UserError(f"-o: output {name!r} is no array ({type(value).__name__}) and cannot go into an .npz file")
    if array.dtype.kind == "V" or array.dtype.name.startswith(("bfloat", "float8")):
        return array.astype(np.float32)
    return array
