"""The diff-block's function tables on a chip: even segments in float32, and how far they are from the functions."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mgc.functions.unary import sigmoid, softplus
from mgc.ir.ops import DiffBlock, LossTable
from mgc.isa.diffblock import WITH_TABLE

STATED_RANGE = 32.0
"""Scores up to this size are what errors are stated for, unless a table covers less."""

_EPS = 2.0**-24
_MOST_ROUNDINGS = 8
_LARGEST = 1e37
"""Values above this are left out of a table: float32 ends at 3e38."""

# Extremes of the second derivatives: softplus'' = s (1 - s), sigmoid'' = s (1 - s)(1 - 2 s).
_SOFTPLUS_CURVATURE = 0.25
_SIGMOID_CURVATURE = 1 / (6 * math.sqrt(3))


@dataclass(frozen=True)
class ChipTable:
    """Tables of f and f' for `quantized` numerics: float32 [4, n] on segments of width `step` from `lo` on.

    rows is None for a function that the block computes without tables. For scores between `low` and `high`, but for
    segments that hold a corner of f: |table - f| <= value_error * max(1, |f|), the same for f' and slope_error, float32
    arithmetic included, before the loss is scaled.
    """

    rows: np.ndarray | None
    lo: float
    step: float
    low: float
    high: float
    value_error: float
    slope_error: float


def chip_table(block: DiffBlock, segments: int) -> ChipTable:
    """The tables of a block on a chip with `segments` segments a table."""
    size = 1 + abs(block.target)
    if block.table is not None:
        return _resampled(block.table, segments)
    if block.function in WITH_TABLE:
        return _logistic(segments, size)
    rounding = _MOST_ROUNDINGS * _EPS * size * STATED_RANGE
    return ChipTable(None, 0.0, 1.0, -STATED_RANGE, STATED_RANGE, rounding, rounding)


def _logistic(segments: int, size: float) -> ChipTable:
    """softplus and sigmoid from -reach to reach; the outermost segments are their asymptotes, which go on outside.

    Between, chords: their error is at most h^2 / 8 times the largest second derivative. The reach is the power of two
    that makes sigmoid's error least.
    """

    def slope_error(reach: float) -> float:
        h = 2 * reach / segments
        return max(h * h / 8 * _SIGMOID_CURVATURE, sigmoid(np.array(h - reach)).item())

    reach = min((4.0, 8.0, 16.0, 32.0), key=slope_error)
    step = 2 * reach / segments
    ends = -reach + step * np.arange(segments + 1)
    value, slope = softplus(ends), sigmoid(ends)
    rows = np.stack([value[:-1], np.diff(value) / step, slope[:-1], np.diff(slope) / step])
    rows[:, 0] = 0.0
    rows[:, -1] = ends[-2], 1.0, 1.0, 0.0
    # a boundary score may fall into the neighbour by rounding: what its chord then gives is within one more rounding
    linear = _MOST_ROUNDINGS * _EPS * 2 * STATED_RANGE * size
    table = max(step * step / 8 * _SOFTPLUS_CURVATURE, softplus(np.array(step - reach)).item())
    return ChipTable(
        rows.astype(np.float32),
        -reach,
        step,
        -STATED_RANGE,
        STATED_RANGE,
        table + linear,
        slope_error(reach) + _MOST_ROUNDINGS * _EPS * (size + STATED_RANGE / 4),
    )


def _resampled(table: LossTable, segments: int) -> ChipTable:
    """A loss table on even segments between its tails. Its distance from the finer one is known exactly: both are
    straight between the ends of their segments.
    """
    fine = table.segments
    low, high = _representable(table)
    step = float(np.float32((high - low) / (segments - 2)))
    lo = float(np.float32(low - step))
    ends = lo + step * np.arange(segments + 1)
    rows = np.empty((4, segments))
    for k, column in ((0, 1), (2, 3)):
        at = table.look_up(ends, column)
        rows[k], rows[k + 1] = at[:-1], np.diff(at) / step
    inner, outer = ends[1], ends[-2]
    for place, end in ((0, inner), (-1, outer)):
        value, slope = table.look_up(np.array(end), 1), table.look_up(np.array(end), 3)
        start = ends[:-1][place]
        rows[:, place] = value + slope * (start - end), slope, slope, 0.0
    rows = rows.astype(np.float32)
    value_error, slope_error = _distance(fine, rows.astype(np.float64), ends, table.corners)
    rounding = _MOST_ROUNDINGS * _EPS
    # (u - lo) / step loses digits of u, the rest of u in its segment keeps that error times the slope
    lost = _MOST_ROUNDINGS * _EPS * max(abs(low), abs(high))
    return ChipTable(
        rows,
        lo,
        step,
        max(low, ends[1]),
        min(high, ends[-2]),
        table.loss_error + value_error + rounding + lost * _steepest(rows[0], rows[1]),
        table.delta_error + slope_error + rounding + lost * _steepest(rows[2], rows[3]),
    )


def _steepest(value: np.ndarray, slope: np.ndarray) -> float:
    """The largest slope of a table, relative to max(1, |value|)."""
    return float(np.max(np.abs(slope) / np.maximum(1, np.abs(value))))


def _representable(table: LossTable) -> tuple[float, float]:
    """The part of a table's range around 0 whose values fit float32."""
    fine = table.segments[1:]  # without the lower tail, which begins outside
    good = (np.abs(fine[:, [1, 3]]) < _LARGEST).all(axis=1)
    middle = int(np.searchsorted(fine[:, 0], 0.0))
    bad = np.flatnonzero(~good)
    below, above = bad[bad < middle], bad[bad >= middle]
    low = float(fine[below[-1] + 1, 0]) if len(below) else table.low
    high = float(fine[above[0] - 1, 0]) if len(above) else table.high
    return low, high


def _distance(fine: np.ndarray, rows: np.ndarray, ends: np.ndarray, corners: tuple[float, ...]) -> tuple[float, float]:
    """The largest distances of f and f' between a fine table and even segments, relative to max(1, |.|)."""
    inside = fine[:, 0][(fine[:, 0] > ends[1]) & (fine[:, 0] < ends[-2])]
    points = np.unique(np.concatenate([inside, ends[1:-1]]))
    left, right = points[:-1], points[1:]
    middle = (left + right) / 2
    coarse = np.clip(np.searchsorted(ends, middle, side="right") - 1, 0, rows.shape[1] - 1)
    detail = np.clip(np.searchsorted(fine[:, 0], middle, side="right") - 1, 0, len(fine) - 1)
    spoiled = {int(i) for c in corners for i in np.searchsorted(ends, [c - 1e-6, c + 1e-6], side="right") - 1}
    kept = ~np.isin(coarse, sorted(spoiled))
    errors: list[float] = []
    for k, column in ((0, 1), (2, 3)):
        worst = 0.0
        for at in (left, right):
            f = fine[detail, column] + fine[detail, column + 1] * (at - fine[detail, 0])
            g = rows[k, coarse] + rows[k + 1, coarse] * (at - ends[coarse])
            # the fine table is itself only near f: what it says of |f| is taken a little smaller
            relative = np.abs(f - g) / np.maximum(1, 0.98 * np.abs(f))
            worst = max(worst, float(np.max(relative, where=kept, initial=0.0)))
        errors.append(worst)
    return errors[0], errors[1]
