"""Ops that move elements without computing on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any, ClassVar

import numpy as np

from mgc.ir.op import OnnxForm, Op, register
from mgc.ir.ops.check import broadcast, require, same_dtype, tensors
from mgc.ir.types import TensorType, ValueType


@register
@dataclass(frozen=True)
class Reshape(Op):
    """x with another shape of the same size (no -1, no 0 as a wildcard); row-major order is kept."""

    shape: tuple[int, ...]
    name: ClassVar[str] = "reshape"
    nonnegative_if = "first"

    def infer(self, *types: ValueType) -> tuple[ValueType, ...]:
        (x,) = tensors(self, types, "x")
        require(
            self,
            min(self.shape, default=0) >= 0 and prod(self.shape) == x.size,
            f"x is {x} with {x.size} elements, which shape {list(self.shape)} does not hold",
        )
        return (x.with_shape(self.shape),)

    def evaluate(self, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        return (arrays[0].reshape(self.shape),)

    def onnx(self, *types: TensorType) -> OnnxForm:
        return OnnxForm("Reshape", {"allowzero": 1}, (np.array(self.shape, np.int64),))

    def split_batch(self, types: Sequence[TensorType], batched: Sequence[bool], factor: int) -> Op | None:
        # parts of axis 0 are contiguous in memory, so they are parts of the result's axis 0 if it divides
        if not batched[0] or not self.shape or self.shape[0] % factor or types[0].shape[0] % factor:
            return None
        return Reshape((self.shape[0] // factor, *self.shape[1:]))


@register
@dataclass(frozen=True)
class Detach(Op):
    """x, as a constant of differentiation: its gradient ends here. Differentiation takes it out again."""

    name: ClassVar[str] = "detach"
    elementwise = "all"
    nonnegative_if = "first"

    def infer(self, *types: ValueType) -> tuple[ValueType, ...]:
        return tensors(self, types, "x")

    def evaluate(self, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        return arrays[:1]

    def onnx(self, *types: TensorType) -> OnnxForm:
        return OnnxForm("Identity")


@register
@dataclass(frozen=True)
class Transpose(Op):
    """Axis i of the result is axis perm[i] of x."""

    perm: tuple[int, ...]
    name: ClassVar[str] = "transpose"
    nonnegative_if = "first"

    def infer(self, *types: ValueType) -> tuple[ValueType, ...]:
        (x,) = tensors(self, types, "x")
        require(self, sorted(self.perm) == list(range(x.rank)), f"perm {self.perm} is no permutation of x {x}'s axes")
        return (x.with_shape(tuple(x.shape[p] for p in self.perm)),)

    def evaluate(self, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        return (np.ascontiguousarray(arrays[0].transpose(self.perm)).reshape([arrays[0].shape[p] for p in self.perm]),)

    def onnx(self, *types: TensorType) -> OnnxForm:
        return OnnxForm("Transpose", {"perm": list(self.perm)} if self.perm else {})

    def split_batch(self, types: Sequence[TensorType], batched: Sequence[bool], factor: int) -> Op | None:
        return self if batched[0] and self.perm and self.perm[0] == 0 else None


@register
@dataclass(frozen=True)
class Expand(Op):
    """x broadcast to `shape` (the result's exact shape)."""

    shape: tuple[int, ...]
    name: ClassVar[str] = "expand"
    nonnegative_if = "first"

    def infer(self, *types: ValueType) -> tuple[ValueType, ...]:
        (x,) = tensors(self, types, "x")
        require(
            self,
            broadcast(self, x.shape, self.shape) == self.shape,
            f"x is {x}, which does not broadcast to {list(self.shape)}",
        )
        return (x.with_shape(self.shape),)

    def evaluate(self, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        return (np.ascontiguousarray(np.broadcast_to(arrays[0], self.shape)).reshape(self.shape),)

    def onnx(self, *types: TensorType) -> OnnxForm:
        return OnnxForm("Expand", constants=(np.array(self.shape, np.int64),))

    def split_batch(self, types: Sequence[TensorType], batched: Sequence[bool], factor: int) -> Op | None:
        (x,) = types
        if not batched[0] or x.rank == 0 or x.rank != len(self.shape) or x.shape[0] != self.shape[0]:
            return None
        return Expand((self.shape[0] // factor, *self.shape[1:]))


def sliced_extent(start: int, stop: int, step: int) -> int:
    """Number of elements of range(start, stop, step)."""
    return len(range(start, stop, step))


@register
@dataclass(frozen=True)
class Slice(Op):
    """x[start:stop:step] on every axis, each entry as in range().

    On an axis of size n: 0 <= start <= n and 0 <= stop <= n for a positive step, 0 <= start < n and -1 <= stop for
    a negative one (stop -1: down to the first element).
    """

    starts: tuple[int, ...]
    stops: tuple[int, ...]
    steps: tuple[int, ...]
    name: ClassVar[str] = "slice"
    nonnegative_if = "first"

    def infer(self, *types: ValueType) -> tuple[ValueType, ...]:
        (x,) = tensors(self, types, "x")
        lengths = {len(self.starts), len(self.stops), len(self.steps)}
        require(self, lengths == {x.rank}, f"x is {x}: {x.rank} starts, stops and steps are needed")
        shape: list[int] = []
        for axis, (n, start, stop, step) in enumerate(zip(x.shape, self.starts, self.stops, self.steps, strict=True)):
            require(self, step != 0, f"step 0 on axis {axis}")
            extent = sliced_extent(start, stop, step)
            low = 0 if step > 0 else -1
            inside = 0 <= start <= n and low <= stop <= n and (extent == 0 or start < n)
            require(self, inside, f"{start}:{stop}:{step} is outside axis {axis} of x {x}")
            shape.append(extent)
        return (x.with_shape(tuple(shape)),)

    def evaluate(self, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        (x,) = arrays
        where = tuple(
            slice(start, None if stop < 0 else stop, step) if sliced_extent(start, stop, step) else slice(0, 0)
            for start, stop, step in zip(self.starts, self.stops, self.steps, strict=True)
        )
        return (np.ascontiguousarray(x[where]).reshape(x[where].shape),)

    def onnx(self, *types: TensorType) -> OnnxForm:
        (x,) = types
        if x.rank == 0:
            return OnnxForm("Identity")
        # ONNX counts a negative stop from the end: "to the first element" is anything below -size
        stops = [-(2**31) if stop < 0 else stop for stop in self.stops]
        columns = (self.starts, stops, range(x.rank), self.steps)
        return OnnxForm("Slice", constants=tuple(np.array(c, np.int64) for c in columns))

    def split_batch(self, types: Sequence[TensorType], batched: Sequence[bool], factor: int) -> Op | None:
        (x,) = types
        if not batched[0] or (self.starts[0], self.stops[0], self.steps[0]) != (0, x.shape[0], 1):
            return None
        return replace(self, stops=(x.shape[0] // factor, *self.stops[1:]))


@register
@dataclass(frozen=True)
class Concat(Op):
    """The operands one after the other along `axis`; one operand or more."""

    axis: int
    name: ClassVar[str] = "concat"
    nonnegative_if = "every"

    def infer(self, *types: ValueType) -> tuple[ValueType, ...]:
        require(self, bool(types), "at least one operand is needed")
        parts = tensors(self, types, *(f"#{i}" for i in range(len(types))))
        first = parts[0]
        require(self, 0 <= self.axis < first.rank, f"axis {self.axis} is outside #0 {first}")
        for i, part in enumerate(parts):
            same_dtype(self, ("#0", first), (f"#{i}", part))
            fits = part.rank == first.rank and all(
                a == self.axis or d == e for a, (d, e) in enumerate(zip(part.shape, first.shape, strict=True))
            )
            require(self, fits, f"#0 is {first} but #{i} is {part}: only axis {self.axis} may differ")
        total = sum(part.shape[self.axis] for part in parts)
        return (first.with_shape((*first.shape[: self.axis], total, *first.shape[self.axis + 1 :])),)

    def evaluate(self, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        return (np.concatenate(arrays, self.axis),)

    def onnx(self, *types: TensorType) -> OnnxForm:
        return OnnxForm("Concat", {"axis": self.axis})

    def split_batch(self, types: Sequence[TensorType], batched: Sequence[bool], factor: int) -> Op | None:
        return self if self.axis != 0 and all(batched) else None


PAD_MODES = ("constant", "reflect", "edge", "wrap")


@register
@dataclass(frozen=True)
class Pad(Op):
    """x with pads = (begins..., ends...) over all axes, none negative; `value` fills in mode constant."""

    pads: tuple[int, ...]
    mode: str = "constant"
    value: float = 0.0
    name: ClassVar[str] = "pad"

    def infer(self, *types: ValueType) -> tuple[ValueType, ...]:
        (x,) = tensors(self, types, "x")
        require(self, self.mode in PAD_MODES, f"no mode {self.mode!r}; there are {', '.join(PAD_MODES)}")
        require(
            self,
            len(self.pads) == 2 * x.rank and min(self.pads, default=0) >= 0,
            f"pads {self.pads} of x {x}: {2 * x.rank} numbers >= 0 are needed",
        )
        begins, ends = self.pads[: x.rank], self.pads[x.rank :]
        for axis, (n, b, e) in enumerate(zip(x.shape, begins, ends, strict=True)):
            require(
                self, self.mode == "constant" or n > 0 or b == e == 0, f"{self.mode} of x {x}: axis {axis} is empty"
            )
        return (x.with_shape(tuple(n + b + e for n, b, e in zip(x.shape, begins, ends, strict=True))),)

    def evaluate(self, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        (x,) = arrays
        if x.ndim == 0:
            return (x,)
        widths = list(zip(self.pads[: x.ndim], self.pads[x.ndim :], strict=True))
        options: dict[str, Any] = {"constant_values": x.dtype.type(self.value)} if self.mode == "constant" else {}
        return (np.pad(x, widths, self.mode, **options),)  # type: ignore[arg-type]

    def onnx(self, *types: TensorType) -> OnnxForm:
        dtype = types[0].dtype.numpy
        value = (np.array(self.value).astype(dtype),) if self.mode == "constant" else ()
        return OnnxForm("Pad", {"mode": self.mode}, (np.array(self.pads, np.int64), *value))

    def is_nonnegative(self, operands: Sequence[bool]) -> bool:
        return operands[0] and (self.mode != "constant" or self.value >= 0)

    def split_batch(self, types: Sequence[TensorType], batched: Sequence[bool], factor: int) -> Op | None:
        return self if batched[0] and self.pads[0] == self.pads[types[0].rank] == 0 else None


@register
@dataclass(frozen=True)
class Gather(Op):
    """Entries of `data` along `axis` at integer `indices` (negative ones count from the end).

    data[..., n, ...], indices[*i] -> [..., *i, ...].
    """

    axis: int
    name: ClassVar[str] = "gather"
    nonnegative_if = "first"

    def infer(self, *types: ValueType) -> tuple[ValueType, ...]:
        data, indices = tensors(self, types, "data", "indices")
        require(self, 0 <= self.axis < data.rank, f"axis {self.axis} is outside data {data}")
        require(self, indices.dtype.is_integer, f"indices are {indices}: integers are needed")
        require(self, data.shape[self.axis] > 0 or indices.size == 0, f"axis {self.axis} of data {data} is empty")
        return (data.with_shape((*data.shape[: self.axis], *indices.shape, *data.shape[self.axis + 1 :])),)

    def evaluate(self, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        data, indices = arrays
        return (np.asarray(np.take(data, indices, self.axis)),)

    def onnx(self, *types: TensorType) -> OnnxForm:
        return OnnxForm("Gather", {"axis": self.axis})

    def vec(self) -> tuple[str, tuple[float, ...]]:
        return self.name, (float(self.axis),)

    def split_batch(self, types: Sequence[TensorType], batched: Sequence[bool], factor: int) -> Op | None:
        if batched[0]:
            return self if self.axis != 0 and not batched[1] else None
        return self if self.axis == 0 and batched[1] else None
