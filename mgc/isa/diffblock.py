"""The diff-block's arithmetic.

For each score a_i (in the row-major order of its buffer) the block forms the argument u_i: a_i itself, a_i - b_i
(pair), or a_i - m with m the mean of b (average); then f(u_i) and f'(u_i) of its function with target t:

    cross-entropy   softplus(u) - t u        sigmoid(u) - t
    minimax         t u - softplus(u)        t - sigmoid(u)
    least-squares   (u - t)^2                2 (u - t)
    wasserstein     u                        1
    hinge           max(0, sign (u - t))     sign where sign (u - t) > 0, else 0
    tabulated       f(u)                     f'(u), both by table

    loss    = scale sum_i f(u_i)
    delta_a = scale f'(u_i)
    delta_b = -delta_a (pair); -(scale sum_i f'(u_i)) / size of b, for every b (average)

`quantized`: scores, t, sign and scale in float32, each operation rounded once in the order written ((u - t) first, then
times sign, or squared; t * u, then the difference). softplus and sigmoid, and f and f' of a tabulated function, are
piecewise-linear tables with n segments of one width: i = clip(floor((u - lo) * (1 / step)), 0, n - 1), NaN to 0, then
value[i] + slope[i] * (u - (lo + i * step)). Sums, the mean of b among them, are over a contiguous float64 copy in
NumPy's pairwise order; the mean is divided in float64 and rounded to float32; loss and delta_b of an average multiply
and divide in float64 (scale unrounded) and round once.

`float`: all of it in float64, rounded once at the end, with the functions themselves in stable form (for any finite u
right to 1e-15 relative): e = exp(-|u|), softplus(u) - t u = ((1 - t) u if u >= 0 else -t u) + log1p(e). A tabulated
function takes its exact table, whose segments have widths of their own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Array = np.ndarray

FUNCTIONS: dict[int, str] = {
    1: "cross-entropy",
    2: "minimax",
    3: "least-squares",
    4: "wasserstein",
    5: "hinge",
    6: "tabulated",
}
"""Code -> name."""

FUNCTION_CODES: dict[str, int] = {name: code for code, name in FUNCTIONS.items()}
"""Name -> code."""

PAIRINGS: tuple[str, ...] = ("single", "pair", "average")
"""Names by code."""

WITH_TARGET = frozenset({"cross-entropy", "minimax", "least-squares", "hinge"})
WITH_TABLE = frozenset({"cross-entropy", "minimax", "tabulated"})

EXACT_COLUMNS = 5
"""Columns of an exact table: a segment's left end, value and slope there of f, of f'."""
TABLE_ROWS = 4
"""Rows of a table of even segments: value and slope of f (softplus), of f' (sigmoid)."""


@dataclass(frozen=True)
class EvenTable:
    """Tables of f and f' with segments of one width: float32 [TABLE_ROWS, n]."""

    rows: Array
    lo: float
    step: float

    def look_up(self, u: Array) -> tuple[Array, Array]:
        """f(u), f'(u) in float32."""
        lo, step = np.float32(self.lo), np.float32(self.step)
        last = np.float32(self.rows.shape[1] - 1)
        index = np.clip(np.floor((u - lo) * (np.float32(1) / step)), np.float32(0), last)
        index = np.where(np.isnan(index), np.float32(0), index)
        at = index.astype(np.int64)
        rest = u - (lo + index * step)
        value, slope, by_value, by_slope = self.rows[:, at]
        return value + slope * rest, by_value + by_slope * rest


Target = Array | np.floating


def _quantized(function: str, u: Array, t: Target, sign: np.float32, table: EvenTable | None) -> tuple[Array, Array]:
    """f(u), f'(u) in float32."""
    if function == "wasserstein":
        return u, np.ones_like(u)
    if function in ("least-squares", "hinge"):
        off = u - t
        if function == "least-squares":
            return off * off, np.float32(2) * off
        reach = sign * off
        inside = reach > 0
        return np.where(inside, reach, np.float32(0)), np.where(inside, sign, np.float32(0))
    assert table is not None  # `Diff.check`
    value, slope = table.look_up(u)
    if function == "tabulated":
        return value, slope
    linear = t * u
    if function == "cross-entropy":
        return value - linear, slope - t
    return linear - value, t - slope


def _exact(function: str, u: Array, t: Target, sign: float, table: Array | None) -> tuple[Array, Array]:
    """f(u), f'(u) in float64."""
    if function == "wasserstein":
        return u, np.ones_like(u)
    if function == "least-squares":
        return (u - t) * (u - t), 2 * (u - t)
    if function == "hinge":
        reach = sign * (u - t)
        return np.maximum(reach, 0), np.where(reach > 0, sign, 0.0)
    if function == "tabulated":
        assert table is not None  # `Diff.check`
        at = np.clip(np.searchsorted(table[:, 0], u, side="right") - 1, 0, len(table) - 1)
        left, value, slope, by_value, by_slope = table[at].T
        return value + slope * (u - left), by_value + by_slope * (u - left)
    e = np.exp(-np.abs(u))
    far = e / (1 + e)
    value = np.where(u >= 0, (1 - t) * u, -t * u) + np.log1p(e)
    slope = np.where(u >= 0, (1 - t) - far, far - t)
    return (value, slope) if function == "cross-entropy" else (-value, -slope)


@dataclass(frozen=True)
class Block:
    """What a diff-block is set to; see the module's text. `exact` [n, EXACT_COLUMNS] is for `float`, `even` for
    `quantized` numerics.
    """

    function: str
    pairing: str
    sign: int
    scale: float
    exact: Array | None
    even: EvenTable | None

    def run(self, a: Array, b: Array | None, t: Array | float, ideal: bool) -> tuple[Array, Array, Array | None]:
        """loss [], delta of a, delta of b (None without b), all float32. Operands are float32."""
        real = np.dtype(np.float64 if ideal else np.float32)
        with np.errstate(all="ignore"):
            x = np.ascontiguousarray(a, real).reshape(-1)
            target = np.ascontiguousarray(t, real).reshape(-1) if isinstance(t, np.ndarray) else real.type(t)
            second = None if b is None else np.ascontiguousarray(b, real).reshape(-1)
            u = x
            if second is not None:
                u = x - (second if self.pairing == "pair" else real.type(_sum(second) / second.size))
            if ideal:
                value, slope = _exact(self.function, u, target, float(self.sign), self.exact)
            else:
                value, slope = _quantized(self.function, u, target, np.float32(self.sign), self.even)
            loss = np.asarray(self.scale * _sum(value), np.float32)
            delta = (real.type(self.scale) * slope).astype(np.float32)
            if b is None or second is None:
                return loss, delta.reshape(a.shape), None
            if self.pairing == "pair":
                other = -delta
            else:
                other = np.full(second.size, np.float32(-(self.scale * _sum(slope)) / second.size))
            return loss, delta.reshape(a.shape), other.reshape(b.shape)


def _sum(x: Array) -> np.float64:
    """In float64, over a contiguous vector, in NumPy's pairwise order."""
    return np.add.reduce(x.astype(np.float64))
