"""Non-linear functions as piecewise-linear tables of equal segments, with tails that follow the asymptotes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mgc.functions.unary import UNARY
from mgc.ir.ops import Unary

# Beyond the point where a function is this close to its asymptote, the table is the asymptote.
_CLOSE = 2.0**-14
# A range seen in calibration is widened by this share at each open end.
_MARGIN = 0.25
# What float32 holds, and how far a range may go so that its width is such a number too.
_LARGEST = float(np.finfo(np.float32).max)
_FARTHEST = _LARGEST / 4


@dataclass(frozen=True)
class Table:
    """Segment i covers lo + i*step .. lo + (i+1)*step with values[i] + slopes[i] * (x - its start); float32.

    The end segments go on outside. `error` is the largest deviation seen inside.
    """

    lo: float
    step: float
    values: np.ndarray
    slopes: np.ndarray
    error: float


def needs_table(op: Unary) -> bool:
    """Whether a function is computed by a table: it is neither piecewise linear nor exact in the vector unit."""
    return UNARY[op.fn].tabulated


def _evaluate(op: Unary, x: np.ndarray) -> np.ndarray:
    return op.evaluate(x.astype(np.float64))[0]


def _reach(op: Unary, line: tuple[float, float], sign: float) -> float:
    """The point, going out from 0 in direction `sign`, from which on the function is close to its asymptote."""
    grid = sign * np.linspace(0, 64, 4097)
    far = np.abs(_evaluate(op, grid) - (line[0] * grid + line[1])) > _CLOSE
    return float(grid[min(int(np.flatnonzero(far)[-1]) + 1, 4096)]) if far.any() else 0.0


def _range(op: Unary, seen: tuple[float, float]) -> tuple[float, float, bool, bool]:
    """(from, to, whether it reaches the left asymptote, the right one); from < to, also where all that was seen lies
    on an asymptote or where the function has no values.
    """
    left, right = UNARY[op.fn].asymptotes(op.alpha, op.beta)
    low, high = np.clip(seen, -_FARTHEST, _FARTHEST).tolist()
    widen = _MARGIN * max(high - low, 1e-3)
    low, high = low - widen, high + widen
    bottom, top = UNARY[op.fn].defined
    if low <= bottom:
        # half way to the edge of the domain, where such functions have no value or no slope
        low = (bottom + seen[0]) / 2 if seen[0] > bottom else bottom
    low, high = min(low, top - widen), min(high, top)
    # a bounded function continued along its last slope would leave its bounds: such tables reach out to the asymptote
    if left is not None:
        low = _reach(op, left, -1.0)
    if right is not None:
        high = _reach(op, right, 1.0)
    if high < low and right is None:
        high = low + widen
    elif high < low:
        low = high - widen
    return low, high, left is not None, right is not None


def make_table(op: Unary, seen: tuple[float, float], segments: int) -> Table:
    """The table of a function over the range seen in calibration (low <= high).

    Each segment is the chord, shifted by half its error at the middle, which all but halves the largest error.
    """
    low, high, flat_left, flat_right = _range(op, seen)
    inner = max(segments - int(flat_left) - int(flat_right), 1)
    step = np.float32((high - low) / inner) or np.float32(1)
    lo = np.float32(low - (float(step) if flat_left else 0.0))
    knots = float(lo) + np.arange(segments + 1) * float(step)
    y = _finite(_evaluate(op, knots))
    middle = _finite(_evaluate(op, (knots[:-1] + knots[1:]) / 2))
    slopes = np.diff(y) / float(step)
    values = y[:-1] + (middle - (y[:-1] + y[1:]) / 2) / 2
    left, right = UNARY[op.fn].asymptotes(op.alpha, op.beta)
    if left is not None:
        slopes[0], values[0] = left[0], left[0] * knots[0] + left[1]
    if right is not None and segments > 1:
        slopes[-1], values[-1] = right[0], right[0] * knots[-2] + right[1]
    error = max(
        float(
            np.max(np.abs(_finite(_evaluate(op, knots[:-1] + t * float(step))) - (values + slopes * t * float(step))))
        )
        for t in (0.0, 0.25, 0.5, 0.75)
    )
    return Table(float(lo), float(step), _single(values), _single(slopes), error)


def _single(y: np.ndarray) -> np.ndarray:
    return np.clip(y, -_LARGEST, _LARGEST).astype(np.float32)


def _finite(y: np.ndarray) -> np.ndarray:
    """`y` with what lies outside the function's domain, or float32, replaced by its nearest value inside."""
    good = np.flatnonzero(np.abs(y) <= _LARGEST)
    if good.size == 0:
        return np.zeros_like(y)
    return y[good[np.argmin(np.abs(np.arange(y.size)[:, None] - good[None, :]), axis=1)]]
