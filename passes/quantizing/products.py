"""Matrix products in pieces so small that a BLAS computes each on the calling thread.

A BLAS starts threads for anything larger. On a busy machine they wait for one another in a loop: the same products then
take several times the processor time. The pieces cost some speed, and their sums do not depend on how many threads a
machine has.
"""

from __future__ import annotations

import numpy as np

# OpenBLAS stays on one thread up to rows * inner * columns = 2^18.
_ROWS, _INNER, _COLUMNS = 32, 128, 64


def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a [stack, m, k] @ b [stack, k, n] -> [stack, m, n]."""
    stack, m, k = a.shape
    n = b.shape[2]
    high, wide = min(_ROWS, max(m, 1)), min(_COLUMNS, max(n, 1))
    rows, columns = -(-m // high), -(-n // wide)
    a = _padded(a, rows * high, 1)
    b = _padded(b, columns * wide, 2)
    total = np.zeros((stack, rows, columns, high, wide), np.result_type(a, b))
    for begin in range(0, k, _INNER):
        end = min(begin + _INNER, k)
        left = a[:, :, begin:end].reshape(stack, rows, 1, high, end - begin)
        right = b[:, begin:end].reshape(stack, 1, end - begin, columns, wide).swapaxes(2, 3)
        total += left @ right
    return total.swapaxes(2, 3).reshape(stack, rows * high, columns * wide)[:, :m, :n]


def _padded(x: np.ndarray, size: int, axis: int) -> np.ndarray:
    if x.shape[axis] == size:
        return x
    shape = list(x.shape)
    shape[axis] = size
    result = np.zeros(shape, x.dtype)
    result[tuple(slice(d) for d in x.shape)] = x
    return result
