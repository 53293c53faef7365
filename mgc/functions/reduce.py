"""Reductions over axes: one entry a function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import numpy as np

from mgc.functions.dtypes import is_integer, positive_zero

Array = np.ndarray


@dataclass(frozen=True)
class Reduction:
    """One reduction: its code in a VEC step, NumPy's function of the same meaning, the ONNX op. empty: whether it may
    run over no elements; logic: whether it takes bool; integer: whether it takes integers.
    """

    code: int
    name: str
    doc: str
    numpy: Callable[..., Array]
    onnx: str
    empty: bool = False
    logic: bool = False
    integer: bool = True

    def meaning(self, x: Array, axes: tuple[int, ...], keepdims: bool) -> Array:
        """In x's precision and type; the mean of integers goes toward zero."""
        y = self.numpy(x, axis=axes, keepdims=keepdims)
        return np.asarray(np.trunc(y) if self.name == "mean" and is_integer(x.dtype) else y).astype(x.dtype)


def variance(x: Array, axis: int | tuple[int, ...], keepdims: bool = False) -> Array:
    """The biased variance over axes, float64, in one pass: sums of distances from the first element, and of their
    squares. So it adds up part by part, and a mean that is large against the spread costs no precision.
    """
    over = {a % x.ndim for a in (axis if isinstance(axis, tuple) else (axis,))}
    count = prod(x.shape[a] for a in over)
    off = x.astype(np.float64) - x[tuple(slice(0, 1) if a in over else slice(None) for a in range(x.ndim))]
    total = np.sum(off, axis=axis, keepdims=keepdims)
    squares = np.sum(off * off, axis=axis, keepdims=keepdims)
    return positive_zero(np.maximum((squares - total * total / count) / count, 0))


def _positive_zero(extreme: Callable[..., Array]) -> Callable[..., Array]:
    """np.max or np.min whose zero is +0."""
    return lambda x, axis, keepdims=False: positive_zero(extreme(x, axis=axis, keepdims=keepdims))


_ORDER = "in float64 over a contiguous copy with the reduced axes last, in NumPy's pairwise order"

REDUCTIONS: dict[str, Reduction] = {r.name: r for r in (
    Reduction(112, "sum", f"sum over axes {_ORDER}, rounded once; integers in int64, wrapped to their type", np.sum,
              "ReduceSum", empty=True),
    Reduction(113, "mean", f"mean over axes: the sum {_ORDER}, divided in float64, rounded once; of integers, toward "
              "zero", np.mean, "ReduceMean"),
    Reduction(114, "max", "greatest over axes; NaN if one is; a zero is +0", _positive_zero(np.max), "ReduceMax",
              logic=True),
    Reduction(115, "min", "smallest over axes; NaN if one is; a zero is +0", _positive_zero(np.min), "ReduceMin",
              logic=True),
    Reduction(116, "prod", "product over axes in float64 from the first element on, rounded once; integers in int64, "
              "wrapped", np.prod, "ReduceProd", empty=True),
    Reduction(123, "variance", "biased variance over axes, of floats: with d = x - the first element that is reduced, "
              f"the sums of d and of d * d {_ORDER}; (sum d * d - (sum d)^2 / n) / n, at least 0, in float64, rounded "
              "once", variance, "", integer=False),
)}  # fmt: skip
"""Reductions by name."""
