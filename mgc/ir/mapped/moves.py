"""What moves data, and what only looks at it in another shape."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import ClassVar

import numpy as np

from mgc.functions.windows import strided_view
from mgc.ir.flow import Axis, Flow, leading, part_size, reshaped
from mgc.ir.mapped.operands import tensors
from mgc.ir.op import IRError, Op, register, register_attr
from mgc.ir.types import TensorType, ValueType

MOST_BOXES = 4096
"""Steps of a copy's address generator that are looked at one by one."""


@register_attr
@dataclass(frozen=True)
class Piece:
    """One strided copy: extents, then base and strides (elements) in the operand and in the result."""

    operand: int
    extents: tuple[int, ...]
    src_base: int
    src_strides: tuple[int, ...]
    dst_base: int
    dst_strides: tuple[int, ...]

    def keeps_parts(self, part: int, result: int) -> bool:
        """Whether it takes each part of the result from the same part of its operand; sizes of a part are given, 0 for
        what is whole.
        """
        if (self.src_base, self.src_strides) == (self.dst_base, self.dst_strides) and part in (0, result):
            return True  # all stays where it is, as in what is sent to another chip
        carries = [
            j
            for j, n in enumerate(self.extents)
            if n > 1 and (abs(self.src_strides[j]) * n > part > 0 or abs(self.dst_strides[j]) * n > result)
        ]
        if prod(self.extents[j] for j in carries) > MOST_BOXES:
            return False
        rest = [j for j in range(len(self.extents)) if j not in carries]
        sides: list[tuple[int, int, tuple[int, ...], int, int]] = []
        for size, base, strides in (
            (part, self.src_base, self.src_strides),
            (result, self.dst_base, self.dst_strides),
        ):
            if size:
                steps = [(self.extents[j] - 1) * strides[j] for j in rest]
                low, high = (sum(s for s in steps if s * sign > 0) for sign in (-1, 1))
                sides.append((size, base, tuple(strides[j] for j in carries), low, high))
        for index in product(*(range(self.extents[j]) for j in carries)):
            places: set[int] = set()
            for size, base, strides, low, high in sides:
                at = base + sum(i * stride for i, stride in zip(index, strides, strict=True))
                places |= {(at + low) // size, (at + high) // size}
            if len(places) > 1:
                return False
        return True


@register
@dataclass(frozen=True)
class Copy(Op):
    """Data movement by address generators: transpose, slice, expand, concat and constant pad are all of this form.

    Pieces are copied in order; a fill is a piece from a one-element constant with strides 0.
    """

    name: ClassVar[str] = "copy"
    level: ClassVar[int] = 2
    pieces: tuple[Piece, ...]
    result: TensorType

    def infer(self, *types: ValueType) -> tuple[ValueType, ...]:
        for k, t in enumerate(tensors(self.name, types)):
            if t.dtype != self.result.dtype:
                raise IRError(f"copy: operand {k} is {t}, the result {self.result}")
        return (self.result,)

    def evaluate(self, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        out = np.zeros(self.result.shape, self.result.dtype.numpy)
        for p in self.pieces:
            source = strided_view(np.ascontiguousarray(arrays[p.operand]), p.src_base, p.extents, p.src_strides)
            strided_view(out, p.dst_base, p.extents, p.dst_strides)[...] = source
        return (out,)

    def batch_axes(
        self, types: Sequence[TensorType], axes: Sequence[Axis], results: Sequence[TensorType], split: int
    ) -> Sequence[Axis] | None:
        axis = leading(self.result.shape, split)
        parts = [part_size(a, t.shape, split) for t, a in zip(types, axes, strict=True)]
        if axis is None or any(a is not None and not p for a, p in zip(axes, parts, strict=True)):
            return None
        result = part_size(axis, self.result.shape, split)
        return (axis,) if all(p.keeps_parts(parts[p.operand], result) for p in self.pieces) else None


@register
@dataclass(frozen=True)
class Send(Copy):
    """A copy of a value on chip `sender` to its neighbour `chip`, over the link between the two."""

    name: ClassVar[str] = "send"
    level: ClassVar[int] = 2
    sender: int
    chip: int


@register
@dataclass(frozen=True)
class View(Op):
    """The same elements under another shape: no data moves."""

    name: ClassVar[str] = "view"
    level: ClassVar[int] = 2
    shape: tuple[int, ...]

    def infer(self, *types: ValueType) -> tuple[ValueType, ...]:
        t = tensors(self.name, types)[0]
        if t.size != TensorType(t.dtype, self.shape).size:
            raise IRError(f"view: {t} has not the size of {self.shape}")
        return (t.with_shape(self.shape),)

    def evaluate(self, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        return (arrays[0].reshape(self.shape),)

    def flow(
        self, types: Sequence[TensorType], axes: Sequence[Axis], results: Sequence[TensorType], split: int
    ) -> Flow:
        return Flow(True, (reshaped(axes[0], types[0].shape, self.shape, split),))
