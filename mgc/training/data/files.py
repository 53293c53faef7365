"""Reading data files, whatever they are called: .npy, .npz and IDX, these gzipped or not."""

from __future__ import annotations

import gzip
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import BinaryIO

import numpy as np

from mgc.functions.regular_files import DAMAGED, array_in_file, open_regular
from mgc.training.data.samples import Samples
from mgc.training.errors import TrainingError

FORMATS = "an .npy array, an .npz archive, an IDX file (gzipped or not), or a folder of .png and .jpg images"

_NPY, _ZIP, _GZIP = b"\x93NUMPY", b"PK\x03\x04", b"\x1f\x8b"
_IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_MOST_GZIPPED = 1 << 36  # bytes, unpacked; what is larger lies unpacked on the disk
_LOCAL_HEADER = 30  # bytes of a zip member's own header, before its name


def read_arrays(path: Path) -> dict[str, Samples]:
    """The arrays of a data file by their names in it; "" is the only one's where it has none.

    What lies uncompressed in the file is mapped, not read. Raises TrainingError: unreadable, unknown, empty.
    """
    with _readable(path):
        with open_regular(path) as file:
            start = file.read(8)
            file.seek(0)
            npy = _in_place(path, file, "") if start.startswith(_NPY) else None
        if npy is not None:
            found = {"": npy[0]}
        elif start.startswith(_ZIP):
            found = _npz(path)
        elif start.startswith(_GZIP):
            found = {"": _gzipped_idx(path)}
        elif _is_idx(start):
            found = {"": _idx(path)}
        else:
            raise TrainingError(f"{path}: its format is unknown; give {FORMATS}")
    if not found:
        raise TrainingError(f"{path}: the archive is empty; give {FORMATS}")
    result: dict[str, Samples] = {}
    for name, array in found.items():
        if array.ndim == 0 or array.dtype.kind not in "fiub":
            continue  # a note beside the data: text, a single number
        result[name] = Samples(f"{path}[{name}]" if name else str(path), array)
    if not result:
        raise TrainingError(f"{path}: it holds no array of numbers with samples along axis 0")
    return result


def read_array(path: Path) -> np.ndarray:
    """The one array of numbers in an .npy or .npz file, without samples. Raises TrainingError as `read_arrays`."""
    with _readable(path):
        loaded = np.load(path, allow_pickle=False)
        found = [loaded] if isinstance(loaded, np.ndarray) else [loaded[name] for name in loaded.files]
    if len(found) != 1 or found[0].dtype.kind not in "fiub":
        raise TrainingError(f"{path}: one array of numbers is needed")
    return found[0]


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turns what readers raise for a missing or damaged file into a TrainingError."""
    try:
        yield
    except OSError as error:
        raise TrainingError(f"{path} cannot be read: {error.strerror or error}") from error
    except DAMAGED as error:
        if isinstance(error, TrainingError):
            raise
        raise TrainingError(f"{path} is truncated or damaged: {str(error)[:200]}") from error


def _npz(path: Path) -> dict[str, np.ndarray]:
    with open_regular(path) as file, zipfile.ZipFile(file) as archive:
        found: dict[str, np.ndarray] = {}
        for member in archive.infolist():
            if not member.filename.endswith(".npy"):
                continue
            name = member.filename.removesuffix(".npy")
            if member.compress_type == zipfile.ZIP_STORED and not member.flag_bits & 1:
                found[name] = _mapped(path, file, member)
            else:
                with archive.open(member) as stream:
                    found[name] = np.lib.format.read_array(stream, allow_pickle=False)
    return found


def _mapped(path: Path, file: BinaryIO, member: zipfile.ZipInfo) -> np.ndarray:
    """An uncompressed member of an archive, as a map of the file."""
    file.seek(member.header_offset)
    header = file.read(_LOCAL_HEADER)
    if len(header) < _LOCAL_HEADER or not header.startswith(_ZIP):
        raise ValueError(f"the header of member {member.filename} is missing")
    name, extra = int.from_bytes(header[26:28], "little"), int.from_bytes(header[28:30], "little")
    start = member.header_offset + _LOCAL_HEADER + name + extra
    file.seek(start)
    array, end = _in_place(path, file, f"[{member.filename}]")
    if end - start > member.file_size:
        raise ValueError(f"member {member.filename} is shorter than its shape {list(array.shape)}")
    return array


def _in_place(path: Path, file: BinaryIO, member: str) -> tuple[np.ndarray, int]:
    """The array whose .npy header comes next in a file, and where its data ends."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(file)
    if dtype.hasobject:
        raise TrainingError(f"{path}{member} holds Python objects; give plain numbers")
    if prod(shape) == 0:
        return np.empty(shape, dtype), file.tell()
    start = file.tell()
    array = array_in_file(path, dtype, start, shape, "F" if fortran else "C")
    return array, start + array.nbytes


def _is_idx(start: bytes) -> bool:
    return len(start) >= 4 and start[:2] == b"\0\0" and start[2] in _IDX_TYPES and start[3] >= 1


def _idx_header(file: BinaryIO) -> tuple[np.dtype, tuple[int, ...], int]:
    """(element type, shape, bytes of the header)."""
    start = file.read(4)
    if not _is_idx(start):
        raise ValueError("it is no IDX file")
    sizes = file.read(4 * start[3])
    if len(sizes) < 4 * start[3]:
        raise ValueError("its IDX header is cut off")
    shape = tuple(int(n) for n in np.frombuffer(sizes, ">u4"))
    return np.dtype(_IDX_TYPES[start[2]]), shape, 4 + 4 * start[3]


def _idx(path: Path) -> np.ndarray:
    with open_regular(path) as file:
        dtype, shape, start = _idx_header(file)
        size = file.seek(0, 2)
    needed = start + prod(shape) * dtype.itemsize
    if size != needed:
        raise ValueError(f"its IDX header says {needed} bytes, the file has {size}")
    return array_in_file(path, dtype, start, shape)


def _gzipped_idx(path: Path) -> np.ndarray:
    with open_regular(path) as file, gzip.open(file, "rb") as stream:
        if not _is_idx(stream.read(4)):
            raise TrainingError(f"{path}: what is gzipped in it is no IDX file; give {FORMATS}")
        stream.seek(0)
        dtype, shape, _ = _idx_header(stream)  # type: ignore[arg-type] - reads like any binary file
        needed = prod(shape) * dtype.itemsize
        if needed > _MOST_GZIPPED:
            raise ValueError(f"its IDX header says {needed} bytes of data")
        data = stream.read(needed)
        if len(data) < needed or stream.read(1):
            raise ValueError(f"its IDX header says {needed} bytes of data, it holds another number")
    return np.frombuffer(data, dtype).reshape(shape)
