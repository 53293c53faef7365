"""Products of computed matrices that no order of additions changes."""

from __future__ import annotations

import numpy as np

Array = np.ndarray

FRACTION = 53
"""Bits of a float64's fraction."""


def shift(depth: int) -> int:
    """The bits that `aligned` rounds away for sums of `depth` products of one number each of two operands."""
    return (FRACTION + 2 + max(0, depth - 1).bit_length()) // 2


def aligned(x: Array, axes: tuple[int, ...], depth: int) -> Array:
    """x in float64, all numbers that lie along `axes` together rounded to multiples of one power of two: (x + c) - c
    with c = 2^shift(depth) times the largest finite magnitude.

    Let M be that magnitude and j the shift. Both x + c and c are multiples of q, the unit in the last place of M
    (2^j - 1), and q >= M (2^j - 1) / 2^53: so x is rounded to one of at most 2^(53 - j) + 2 multiples of q of either
    sign, and the second operation rounds nothing. The sum of `depth` products of two such operands is a multiple of the
    product of their q, and below 2^53 of them, since 2j >= 54 + log2(depth): float64 adds it exactly, in any order.
    """
    wide = x.astype(np.float64)
    most = np.max(np.where(np.isfinite(wide), np.abs(wide), 0), axis=axes, keepdims=True, initial=0)
    c = most * 2.0 ** shift(depth)
    return (wide + c) - c
