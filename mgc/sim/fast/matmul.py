"""MATMUL of computed operands: a fast product that is certified, element by element, to round like the ISA's.

The ISA adds float64 products of float32 numbers, which are exact, from the lowest k up, and rounds the sum once. Let S
be the sum of the products' magnitudes and u = 2^-53. Any order of K - 1 additions, fused or not, is within g S of the
true sum, g = K u / (1 - K u). So a kernel's sum T and the ISA's are within 2 g S of each other, and a computed S is
within g S of the true one. If T - e and T + e round to the same float32 for an e that covers this (and e's own
rounding), so does the ISA's sum, which lies between them: rounding is monotone. The few elements for which they do not
are summed again in the ISA's order.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from mgc.sim.fast.graph import GraphBuilder
from mgc.sim.fast.items import Arrays, RunContext, StepItem

_F64 = np.dtype(np.float64)
_AT_ONCE = 1 << 22
"""Products held at once while elements are summed again."""


class MatmulItem(StepItem):
    """One MATMUL step of float32 operands, at least one of them computed; operands have two axes or more."""

    def run(self, context: RunContext, arrays: Arrays, k: int, threads: int) -> None:
        a, b = self.operands(arrays, k)
        if np.isfinite(a).all() and np.isfinite(b).all():
            arrays[self.result.id] = multiply(a, b, threads)
        else:
            super().run(context, arrays, k, threads)


def multiply(a: np.ndarray, b: np.ndarray, threads: int) -> np.ndarray:
    """The product of finite float32 arrays [.., M, K] and [.., K, N]."""
    total, size = _graph().session(threads).run(["total", "size"], {"a": a, "b": b})
    error = size * (2.1 * (a.shape[-1] + 2) * 2.0**-53)
    with np.errstate(over="ignore"):
        low, high = (total - error).astype(np.float32), (total + error).astype(np.float32)
    unsure = (low != high) | (np.signbit(low) != np.signbit(high))
    if unsure.any():
        _settle(low, np.argwhere(unsure), a, b)
    return low


@cache
def _graph() -> GraphBuilder:
    """a @ b and |a| @ |b| in float64."""
    g = GraphBuilder()
    a, b = (g.cast(g.input(n, np.dtype(np.float32)), _F64) for n in ("a", "b"))
    g.output(g.node("MatMul", a, b), "total", _F64)
    g.output(g.node("MatMul", g.node("Abs", a), g.node("Abs", b)), "size", _F64)
    return g


def _settle(result: np.ndarray, where: np.ndarray, a: np.ndarray, b: np.ndarray) -> None:
    """Sums the elements at indices `where` [count, axes] again: one after the other from the lowest k up."""
    stack = result.shape[:-2]
    rows = np.broadcast_to(a, (*stack, *a.shape[-2:]))
    columns = np.broadcast_to(b, (*stack, *b.shape[-2:])).swapaxes(-1, -2)
    step = max(1, _AT_ONCE // a.shape[-1])
    for start in range(0, len(where), step):
        *outer, i, j = where[start : start + step].T
        left, right = (m[(*outer, at)].astype(np.float64) for m, at in ((rows, i), (columns, j)))  # [count, K]
        # accumulate adds in order; the ISA starts from +0
        sums = np.add.accumulate(left * right, axis=1)[:, -1] + 0.0
        with np.errstate(over="ignore"):
            result[(*outer, i, j)] = sums.astype(np.float32)
