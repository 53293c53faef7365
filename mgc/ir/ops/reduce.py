"""Reductions over axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from mgc.ir.op import OnnxForm, Op, register
from mgc.ir.ops.check import require, tensors
from mgc.ir.types import DType, TensorType, ValueType

if TYPE_CHECKING:
    from mgc.ir.build import Build
    from mgc.ir.graph import Value


_MEANING: dict[str, Callable[..., np.ndarray]] = {
    "sum": np.sum,
    "mean": np.mean,
    "max": np.max,
    "min": np.min,
    "prod": np.prod,
}
_ONNX = {"sum": "ReduceSum", "mean": "ReduceMean", "max": "ReduceMax", "min": "ReduceMin", "prod": "ReduceProd"}


@register
@dataclass(frozen=True)
class Reduce(Op):
    """Sum, mean, max, min or prod over `axes` (sorted, non-negative, distinct); no axes: the operand itself."""

    fn: str
    axes: tuple[int, ...]
    keepdims: bool = True
    name: ClassVar[str] = "reduce"

    def infer(self, *types: ValueType) -> tuple[ValueType, ...]:
        (x,) = tensors(self, types, "x")
        require(self, self.fn in _MEANING, f"no function {self.fn!r}; there are {', '.join(_MEANING)}")
        require(
            self,
            list(self.axes) == sorted(set(self.axes)) and all(0 <= a < x.rank for a in self.axes),
            f"axes {self.axes} of x {x}: sorted, distinct and in 0..{x.rank - 1} is needed",
        )
        empty = [a for a in self.axes if x.shape[a] == 0]
        require(self, not empty or self.fn in ("sum", "prod"), f"{self.fn} over axes {empty} of x {x}, which are empty")
        require(self, x.dtype is not DType.BOOL or self.fn in ("max", "min"), f"{self.fn} of x {x}")
        kept = [1 if a in self.axes else d for a, d in enumerate(x.shape) if self.keepdims or a not in self.axes]
        return (x.with_shape(tuple(kept)),)

    def evaluate(self, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        (x,) = arrays
        with np.errstate(all="ignore"):
            y = _MEANING[self.fn](x, axis=self.axes, keepdims=self.keepdims)
            if self.fn == "mean" and DType.of(x.dtype).is_integer:
                y = np.trunc(y)
            return (np.asarray(y).astype(x.dtype),)

    def onnx(self, *types: TensorType) -> OnnxForm:
        attributes = {"keepdims": int(self.keepdims), "noop_with_empty_axes": 1}
        return OnnxForm(_ONNX[self.fn], attributes, (np.array(self.axes, np.int64),))

    def split_batch(self, types: Sequence[TensorType], batched: Sequence[bool], factor: int) -> Op | None:
        return self if batched[0] and 0 not in self.axes else None

    def vjp(
        self, build: Build, inputs: Sequence[Value], outputs: Sequence[Value], cotangents: Sequence[Value | None]
    ) -> Sequence[Value | None]:
        """Sum and mean spread dy; max and min share it evenly among ties (as torch.amax does); prod gives the product
        of the others, whose own derivative is exact where at most one of them is 0.
        """
        (x,), (y,), (dy,) = inputs, outputs, cotangents
        if dy is None or not x.tensor.dtype.is_float:
            return (None,)
        kept = tuple(1 if a in self.axes else d for a, d in enumerate(x.shape))
        y, dy = build.reshape(y, kept), build.reshape(dy, kept)
        if self.fn in ("sum", "mean"):
            count = prod(x.shape[a] for a in self.axes) if self.fn == "mean" else 1
            return (build.expand(build.mul(dy, 1 / count), x.shape),)
        zero = build.number(0.0, x)
        if self.fn != "prod":
            hit = build.binary("equal", x, y)
            ties = build.reduce("sum", build.cast(hit, x.tensor.dtype), self.axes)
            return (build.where(hit, build.div(dy, ties), zero),)
        null = build.binary("equal", x, zero)
        nulls = build.reduce("sum", build.cast(null, x.tensor.dtype), self.axes)
        filled = build.where(null, build.number(1.0, x), x)
        product = build.mul(dy, build.reduce("prod", filled, self.axes))
        # no zero: product / x; one zero: it alone has a derivative; more: none has
        alone = build.binary("and", null, build.binary("equal", nulls, 1.0))
        smooth = build.binary("equal", nulls, 0.0)
        return (build.where(smooth, build.div(product, filled), build.where(alone, product, zero)),)
