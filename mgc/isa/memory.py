"""The memory map: buffers, constants, the program's inputs and outputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, Literal

import numpy as np

from mgc.isa.dtypes import numpy_dtype

BufferKind = Literal["real", "code", "acc", "opaque"]


@dataclass(frozen=True)
class Buffer:
    """An on-chip (or, space "dram", off-chip) array of one micro-batch.

    kind "real" holds `dtype` as it says (float32, integers, bool) in every numerics. "code" holds quantised inputs
    of crossbars (uint8, int8, uint16, int16) and "acc" holds crossbar sums (int64, of which memory takes the
    target's `periphery.accumulator_bytes`); in `float` numerics both hold real values instead. "opaque" holds
    whatever a host segment made (a sequence, strings, a data-dependent shape). `offset` is the byte address in its
    space, `slots` how many micro-batches of it may be alive at once: micro-batch k uses slot k mod slots, at offset
    + slot * nbytes rounded up to the target's line. In a split run `parts` is the split for what holds sample after
    sample: then a slot is for one part of the batch, its bytes / parts. A bool takes a bit. `alias_of` makes it a view
    (same bytes, other shape) of another buffer; -1 otherwise. A `persistent` buffer (kind "real", one slot) keeps what
    it holds from micro-batch to micro-batch and from run to run: it is the home of states, which say how it begins.
    """

    id: int
    name: str
    kind: BufferKind
    dtype: str
    shape: tuple[int, ...]
    space: Literal["edram", "dram"] = "edram"
    offset: int = 0
    slots: int = 1
    alias_of: int = -1
    persistent: bool = False
    parts: int = 1


def bytes_of(buffer: Buffer, elements: int, target: Mapping[str, Any]) -> int:
    """Bytes of some elements in memory, whole ones: a crossbar sum takes what the target says
    (`periphery.accumulator_bytes`), a bool one bit.
    """
    if buffer.kind == "acc":
        return elements * target.get("periphery", {}).get("accumulator_bytes", 8)
    dtype = numpy_dtype(buffer.dtype)
    return -(-elements // 8) if dtype == np.bool_ else elements * dtype.itemsize


def nbytes(buffer: Buffer, target: Mapping[str, Any]) -> int:
    """Bytes of a buffer for one micro-batch; 0 for an opaque one, which only the host can hold."""
    return 0 if buffer.kind == "opaque" else bytes_of(buffer, prod(buffer.shape), target)


def slot_bytes(buffer: Buffer, target: Mapping[str, Any]) -> int:
    """Bytes of one slot: those of a micro-batch, or of a part of it where the run is split."""
    return -(-nbytes(buffer, target) // buffer.parts)


@dataclass(frozen=True)
class Access:
    """What an instruction reads or writes of a buffer for one micro-batch, in elements.

    Each element goes its way once (`moved`). Where windows overlap it is taken from, or put into, the tile's memory
    several times (`gathered`; None: the unit takes it as it comes).
    """

    buffer: int
    moved: int
    writes: bool
    gathered: int | None = None


@dataclass(frozen=True)
class Constant:
    """An operand whose data is the program tensor `tensor`."""

    id: int
    name: str
    tensor: str


@dataclass(frozen=True)
class Port:
    """An input or output of the program under its ONNX name.

    `shape` is that of one micro-batch; with `batched`, axis 0 of the whole is micro-batch after micro-batch.
    `dtype` is the ONNX model's own ("float32", "float16", "int64", ...); the buffer's may differ (the chip's float is
    float32) and LOAD / STORE convert. `dims` is the shape as the model states it, symbolic names included.
    """

    name: str
    buffer: int
    dtype: str
    shape: tuple[int, ...]
    batched: bool
    dims: tuple[str, ...] = ()


@dataclass(frozen=True)
class HostSegment:
    """An ONNX model run off-chip: `tensor` names the program tensor (uint8) with its bytes."""

    id: int
    tensor: str
    reason: str
    op_types: tuple[str, ...]


@dataclass(frozen=True)
class Ref:
    """An operand: space 0 = buffer id, 1 = constant id, 2 = register (the result of an earlier step)."""

    space: int
    index: int


BUFFER, CONSTANT, REGISTER = 0, 1, 2
