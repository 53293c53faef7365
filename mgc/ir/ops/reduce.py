"""Reductions over axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mgc.functions.reduce import REDUCTIONS
from mgc.ir.flow import Axis
from mgc.ir.op import OnnxForm, Op, register
from mgc.ir.ops.check import require, tensors
from mgc.ir.types import DType, TensorType, ValueType


@register
@dataclass(frozen=True)
class Reduce(Op):
    """Sum, mean, max, min, prod or biased variance over `axes` (sorted, non-negative, distinct); no axes: over each
    element alone.
    """

    fn: str
    axes: tuple[int, ...]
    keepdims: bool = True
    name: ClassVar[str] = "reduce"
    nonnegative_if = "first"

    def infer(self, *types: ValueType) -> tuple[ValueType, ...]:
        (x,) = tensors(self, types, "x")
        require(self, self.fn in REDUCTIONS, f"no function {self.fn!r}; there are {', '.join(REDUCTIONS)}")
        require(
            self,
            list(self.axes) == sorted(set(self.axes)) and all(0 <= a < x.rank for a in self.axes),
            f"axes {self.axes} of x {x}: sorted, distinct and in 0..{x.rank - 1} is needed",
        )
        empty = [a for a in self.axes if x.shape[a] == 0]
        require(self, not empty or REDUCTIONS[self.fn].empty, f"{self.fn} over axes {empty} of x {x}, which are empty")
        require(self, x.dtype is not DType.BOOL or REDUCTIONS[self.fn].logic, f"{self.fn} of x {x}")
        require(self, x.dtype.is_float or REDUCTIONS[self.fn].integer, f"{self.fn} of x {x}")
        kept = [1 if a in self.axes else d for a, d in enumerate(x.shape) if self.keepdims or a not in self.axes]
        return (x.with_shape(tuple(kept)),)

    def evaluate(self, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        (x,) = arrays
        with np.errstate(all="ignore"):
            return (REDUCTIONS[self.fn].meaning(x, self.axes, self.keepdims),)

    def onnx(self, *types: TensorType) -> OnnxForm:
        def mean(keepdims: bool, *of: int | OnnxForm) -> OnnxForm:
            attributes = {"keepdims": int(keepdims), "noop_with_empty_axes": 1}
            return OnnxForm(REDUCTIONS[name].onnx, attributes, (np.array(self.axes, np.int64),), of or None)

        name = self.fn if self.fn != "variance" else "mean"
        if name == self.fn:
            return mean(self.keepdims)
        centred = OnnxForm("Sub", operands=(0, mean(True, 0)))
        return mean(self.keepdims, OnnxForm("Pow", {}, (np.array(2, types[0].dtype.numpy),), (centred,)))

    def vec(self) -> tuple[str, tuple[float, ...]]:
        return f"reduce_{self.fn}", (float(self.keepdims), *map(float, self.axes))

    def batch_axes(
        self, types: Sequence[TensorType], axes: Sequence[Axis], results: Sequence[TensorType], split: int
    ) -> Sequence[Axis] | None:
        (axis,) = axes
        if axis in self.axes:  # what is added up over the batch is there after its last part
            return (None,) if self.fn != "mean" or types[0].dtype.is_float else None
        if axis is None or self.keepdims:
            return (axis,)
        return (axis - sum(r < axis for r in self.axes),)

    def split_batch(self, types: Sequence[TensorType], batched: Sequence[bool], factor: int) -> Op | None:
        return self if batched[0] and 0 not in self.axes else None
