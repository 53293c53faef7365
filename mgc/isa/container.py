"""The safetensors container of a program: written whole or not at all, sealed by SHA-256. A large one is mapped.

The seal is the tensor `isa.sha256`: the hash of the whole file, header included, with those 32 bytes zero.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from mgc.functions.drafts import drafted
from mgc.functions.regular_files import SMALL, open_regular
from mgc.isa.dtypes import numpy_dtype
from mgc.isa.error import ProgramError

SEAL = "isa.sha256"
METADATA = "mgc"
MOST_HEADER = 1 << 26
"""Bytes of the longest header."""

_DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32",
    "I16": "int16", "I8": "int8", "U64": "uint64", "U32": "uint32", "U16": "uint16", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip


@dataclass(frozen=True)
class _Entry:
    """A tensor in the file: bytes begin..end after the header."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def write(path: Path, tensors: Mapping[str, np.ndarray], metadata: str, *, durable: bool = False) -> None:
    """Writes a sealed file, whole or not at all (`durable`: see `drafted`). Raises OSError; leaves nothing then.

    The bytes depend on tensors and metadata only.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    whole = {name: np.ascontiguousarray(tensors[name]).reshape(tensors[name].shape) for name in sorted(tensors)}
    whole |= {SEAL: np.zeros(32, np.uint8)}
    with drafted(path, durable=durable) as draft:
        with open(draft, "xb") as file:  # a place that cannot be written says so here
            mode = os.fstat(file.fileno()).st_mode
        try:
            save_file(whole, str(draft), {METADATA: metadata})
        except SafetensorError as error:
            raise OSError(f"{path} cannot be written: {error}") from error
        with open(draft, "r+b") as file, mmap.mmap(file.fileno(), 0) as view:
            header, data = _header(view)
            place = data + _entries(header)[SEAL].begin
            view[place : place + 32] = _seal(view, place)
        os.chmod(draft, mode & 0o777)  # the library may make its files private


def read(path: Path) -> tuple[dict[str, np.ndarray], str]:
    """(tensors, metadata) of a sealed file; tensors are read-only, those of a large one stay in the file until they
    are touched.

    Raises ProgramError for a file that is foreign, truncated or damaged in any bit; OSError if it cannot be opened.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size < 8:
            raise ProgramError("it is too short to be an .mgc program")
        view = file.read(size) if size <= SMALL else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    header, data = _header(view)
    metadata = header.get("__metadata__")
    if not isinstance(metadata, dict) or set(metadata) != {METADATA} or not isinstance(metadata[METADATA], str):
        raise ProgramError("it is a safetensors file, but no .mgc program (or damaged): it has no manifest")
    entries = _entries(header)
    size = len(view) - data
    seal = entries.get(SEAL)
    if seal is None or seal.dtype != "U8" or seal.end - seal.begin != 32 or not 0 <= seal.begin <= size - 32:
        raise ProgramError("it is truncated or damaged: its checksum is missing")
    place = data + seal.begin
    if _seal(view, place) != view[place : place + 32]:
        raise ProgramError("it is truncated or damaged: its checksum does not match; compile it again")
    _check_layout(entries, size)
    tensors: dict[str, np.ndarray] = {}
    for name, e in sorted(entries.items()):
        if name != SEAL:
            dtype = numpy_dtype(_DTYPES[e.dtype])
            flat = np.frombuffer(view, dtype, prod(e.shape), data + e.begin) if e.end > e.begin else np.empty(0, dtype)
            tensors[name] = flat.reshape(e.shape)
            if e.dtype == "BOOL" and flat.size and flat.view(np.uint8).max() > 1:
                raise ProgramError(f"tensor {name} holds a bool that is neither 0 nor 1")
    return tensors, metadata[METADATA]


def _seal(view: bytes | mmap.mmap, place: int) -> bytes:
    """SHA-256 of the file with 32 zero bytes at `place`."""
    digest = hashlib.sha256()
    with memoryview(view) as whole, whole[:place] as before, whole[place + 32 :] as after:
        digest.update(before)
        digest.update(bytes(32))
        digest.update(after)
    return digest.digest()


def _header(view: bytes | mmap.mmap) -> tuple[dict[str, Any], int]:
    """(header, place of the data)."""
    length = int.from_bytes(view[:8], "little")
    if length > MOST_HEADER or length > len(view) - 8:
        raise ProgramError("it is no .mgc program, or truncated: its header is longer than the file")
    try:
        header = json.loads(view[8 : 8 + length].decode("utf-8"), object_pairs_hook=_unique)
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise ProgramError(f"it is no .mgc program, or damaged: its header is no JSON ({error})") from error
    if not isinstance(header, dict):
        raise ProgramError("it is no .mgc program, or damaged: its header is no JSON object")
    return header, 8 + length


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key is there twice")
    return result


def _entries(header: dict[str, Any]) -> dict[str, _Entry]:
    entries: dict[str, _Entry] = {}
    for name, value in header.items():
        if name == "__metadata__":
            continue
        try:
            begin, end = value["data_offsets"]
            entry = _Entry(value["dtype"], tuple(value["shape"]), begin, end)
        except (KeyError, TypeError, ValueError) as error:
            raise ProgramError(f"it is damaged: the entry of tensor {name!r} makes no sense") from error
        numbers = (*entry.shape, begin, end)
        if entry.dtype not in _DTYPES or not all(type(n) is int and 0 <= n < 1 << 60 for n in numbers):
            raise ProgramError(f"it is damaged: the entry of tensor {name!r} makes no sense")
        entries[name] = entry
    return entries


def _check_layout(entries: Mapping[str, _Entry], size: int) -> None:
    """Tensors follow one another without gap or overlap, each of its own size."""
    at = 0
    for name, e in sorted(entries.items(), key=lambda item: (item[1].begin, item[1].end)):
        if e.begin != at or e.end - e.begin != prod(e.shape) * numpy_dtype(_DTYPES[e.dtype]).itemsize:
            raise ProgramError(f"tensor {name!r} lies at {e.begin}..{e.end}, which does not fit its shape or its place")
        at = e.end
    if at != size:
        raise ProgramError(f"the tensors end at {at}, the file at {size}")
