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


LANES, BLOCK = 4, 256
"""How many sums `total` adds up beside each other, and the numbers that it adds up so at once."""


def total(x: Array, axis: int | tuple[int, ...], keepdims: bool = False) -> Array:
    """The sum over axes, float64, in the one order that all engines keep; a zero is +0. The reduced axes are one, row
    after row.

    Up to 256 numbers go to four lanes in turn, but for the last n mod 4; each lane adds up its own one after the other;
    then (lane 0 + lane 2) + (lane 1 + lane 3), and the rest one after the other. More are cut into blocks of 256, whose
    sums are added up by the same rule, and then the sum of the rest.
    """
    over = sorted(a % x.ndim for a in (axis if isinstance(axis, tuple) else (axis,)))
    kept = [a for a in range(x.ndim) if a not in over]
    count, width = prod(x.shape[a] for a in over), prod(x.shape[a] for a in kept)
    found = _added(np.ascontiguousarray(x.transpose([*over, *kept]), np.float64).reshape(1, count, width))
    shape = [1 if a in over else d for a, d in enumerate(x.shape) if keepdims or a not in over]
    return positive_zero(found.reshape(shape))


def _added(x: Array) -> Array:
    """float64 [m, n, width] -> [m, width]; NumPy adds up an axis that is not the last one element after element."""
    m, n, width = x.shape
    if n > BLOCK:
        blocks = n // BLOCK
        first = _added(_added(x[:, : blocks * BLOCK].reshape(m * blocks, BLOCK, width)).reshape(m, blocks, width))
        return first + _added(x[:, blocks * BLOCK :]) if n % BLOCK else first
    whole = n - n % LANES
    lanes = np.add.reduce(x[:, :whole].reshape(m, whole // LANES, LANES * width), axis=1).reshape(m, LANES, width)
    found = (lanes[:, 0] + lanes[:, 2]) + (lanes[:, 1] + lanes[:, 3])
    for k in range(whole, n):
        found = found + x[:, k]
    return found


def variance(x: Array, axis: int | tuple[int, ...], keepdims: bool = False) -> Array:
    """The biased variance over axes, float64, in one pass: sums of distances from the first element, and of their
    squares. So it adds up part by part, and a mean that is large against the spread costs no precision.
    """
    over = {a % x.ndim for a in (axis if isinstance(axis, tuple) else (axis,))}
    count = prod(x.shape[a] for a in over)
    off = x.astype(np.float64) - x[tuple(slice(0, 1) if a in over else slice(None) for a in range(x.ndim))]
    sums, squares = total(off, axis, keepdims), total(off * off, axis, keepdims)
    return positive_zero(np.maximum((squares - sums * sums / count) / count, 0))


def _positive_zero(extreme: Callable[..., Array]) -> Callable[..., Array]:
    """np.max or np.min whose zero is +0."""
    return lambda x, axis, keepdims=False: positive_zero(extreme(x, axis=axis, keepdims=keepdims))


_ORDER = "in float64, in the order told below"

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
