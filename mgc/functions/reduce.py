"""Reductions over axes: one entry a function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mgc.functions.dtypes import is_integer

Array = np.ndarray


@dataclass(frozen=True)
class Reduction:
    """One reduction: its code in a VEC step, NumPy's function of the same meaning, the ONNX op. empty: whether it may
    run over no elements; logic: whether it takes bool.
    """

    code: int
    name: str
    doc: str
    numpy: Callable[..., Array]
    onnx: str
    empty: bool = False
    logic: bool = False

    def meaning(self, x: Array, axes: tuple[int, ...], keepdims: bool) -> Array:
        """In x's precision and type; the mean of integers goes toward zero."""
        y = self.numpy(x, axis=axes, keepdims=keepdims)
        return np.asarray(np.trunc(y) if self.name == "mean" and is_integer(x.dtype) else y).astype(x.dtype)


_ORDER = "in float64 over a contiguous copy with the reduced axes last, in NumPy's pairwise order"

REDUCTIONS: dict[str, Reduction] = {r.name: r for r in (
    Reduction(112, "sum", f"sum over axes {_ORDER}, rounded once; integers in int64, wrapped to their type", np.sum,
              "ReduceSum", empty=True),
    Reduction(113, "mean", f"mean over axes: the sum {_ORDER}, divided in float64, rounded once; of integers, toward "
              "zero", np.mean, "ReduceMean"),
    Reduction(114, "max", "greatest over axes; NaN if one is", np.max, "ReduceMax", logic=True),
    Reduction(115, "min", "smallest over axes; NaN if one is", np.min, "ReduceMin", logic=True),
    Reduction(116, "prod", "product over axes in float64 from the first element on, rounded once; integers in int64, "
              "wrapped", np.prod, "ReduceProd", empty=True),
)}  # fmt: skip
"""Reductions by name, codes 112 to 116."""
