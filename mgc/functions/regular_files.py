"""Reading files from elsewhere: only regular ones, of a size that is known before they are read.

A device never ends, a pipe waits for ever. What is small is read at once; what is large is mapped, and a process that
touches a mapped file after another one has made it shorter ends by SIGBUS: nothing here can prevent that.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
import tokenize
import zipfile
import zlib
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal

if TYPE_CHECKING:
    import numpy as np

MOST_TEXT = 1 << 29
"""Bytes of the largest text that is read."""
SMALL = 1 << 28
"""Bytes of the largest file that is read whole where larger ones are mapped."""

DAMAGED = (ValueError, EOFError, KeyError, TypeError, AttributeError, IndexError, NotImplementedError, SyntaxError,
           MemoryError, RecursionError, OverflowError, tokenize.TokenError, struct.error, zipfile.BadZipFile,
           zlib.error)  # fmt: skip
"""What NumPy and the readers of archives raise for files that are damaged."""


def open_regular(path: str | os.PathLike[str], most: int | None = None) -> BinaryIO:
    """Opens a file to be read. OSError for a device, pipe or folder, and for one of more than `most` bytes."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is a device or a pipe, not a file", str(path))
        if most is not None and status.st_size > most:
            raise OSError(errno.EFBIG, f"it has {status.st_size:,} bytes, at most {most:,} are read", str(path))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_regular(path: str | os.PathLike[str], most: int = MOST_TEXT) -> bytes:
    """The bytes of a file. OSError as `open_regular`."""
    with open_regular(path, most) as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise OSError(errno.EFBIG, f"at most {most:,} bytes are read", str(path))
    return data


def load_arrays(path: Path) -> np.ndarray | dict[str, np.ndarray]:
    """The array of an .npy file, or those of an .npz archive; nothing in it is executed.

    Raises OSError, and ValueError for a file that is damaged or holds anything but plain arrays.
    """
    import numpy as np

    try:
        with open_regular(path) as file:
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return loaded
            with loaded as archive:
                return {name: archive[name] for name in archive.files}
    except DAMAGED as error:
        raise ValueError(_cut(error)) from error


def array_in_file(
    path: Path, dtype: np.dtype, start: int, shape: tuple[int, ...], order: Literal["C", "F"] = "C"
) -> np.ndarray:
    """An array that lies in a file as it is: read if it is small, else mapped. ValueError if the file is too short."""
    import numpy as np

    size = prod(shape) * dtype.itemsize
    with open_regular(path) as file:
        if os.fstat(file.fileno()).st_size < start + size:
            raise ValueError(f"it is shorter than an array of shape {list(shape)}")
        if size > SMALL:
            return np.memmap(file, dtype, "r", start, shape, order)
        file.seek(start)
        data = file.read(size)
    if len(data) < size:
        raise ValueError(f"it is shorter than an array of shape {list(shape)}")
    return np.frombuffer(data, dtype).reshape(shape, order=order)


def _cut(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:200]
