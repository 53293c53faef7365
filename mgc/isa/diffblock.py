"""The diff-block: the functions of `mgc.functions.losses` on scores, exact or by tables."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mgc.functions.codes import even_segment
from mgc.functions.losses import LOSS_CODES, LOSSES, PAIRINGS, TABULATED, branch, exact_segment, text

TEXT = f"""\
For each score a_i (in the row-major order of its buffer) the block forms the argument u_i: a_i itself, a_i - b_i
(pair), or a_i - m with m the mean of b (average); then f(u_i) and f'(u_i) of its function with target t:

{text()}

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
"""The normative text."""

Array = np.ndarray

FUNCTIONS: dict[int, str] = {code: name for name, code in LOSS_CODES.items()}
"""Code -> name."""

WITH_TARGET = frozenset(f.name for f in LOSSES.values() if f.by_target is not None)
WITH_TABLE = frozenset((*(f.name for f in LOSSES.values() if f.logistic), TABULATED))

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
        at, rest = even_segment(u, self.lo, self.step, self.rows.shape[1])
        value, slope, by_value, by_slope = self.rows[:, at]
        return value + slope * rest, by_value + by_slope * rest


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
        target = np.ascontiguousarray(t, real).reshape(-1) if isinstance(t, np.ndarray) else real.type(t)
        with np.errstate(all="ignore"):
            loss, delta, other = branch(
                lambda u: self._function(u, target, ideal), self.pairing, self.scale, a, b, real
            )
            second = None if other is None else other.astype(np.float32)
            return np.asarray(loss, np.float32), delta.astype(np.float32), second

    def _function(self, u: Array, t: Array | np.floating, ideal: bool) -> tuple[Array, Array]:
        """f(u), f'(u)."""
        if ideal and self.exact is not None:
            return exact_segment(self.exact, u)
        if ideal or self.even is None:
            return LOSSES[self.function].on_arrays(u, t, self.sign)
        value, slope = self.even.look_up(u)
        if self.function == TABULATED:
            return value, slope
        linear = t * u
        if LOSSES[self.function].logistic > 0:
            return value - linear, slope - t
        return linear - value, t - slope


__all__ = ["EXACT_COLUMNS", "FUNCTIONS", "PAIRINGS", "TABLE_ROWS", "TEXT", "WITH_TABLE", "WITH_TARGET", "Block",
           "EvenTable"]  # fmt: skip
