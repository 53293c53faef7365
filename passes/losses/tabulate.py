"""Tables of f and f' with a proven error bound, for loss functions of no known form.

The score axis is cut into cells, halved until a bound holds on each. With h the width of a cell and f'' enclosed in
[m, M] there, the chord through f's ends is at most max|f''| h^2 / 8 from f; where f'' is not bounded (a corner) but f'
is in [m, M], at most (M - m) h / 4; in any case at most the width of f's own enclosure. The same holds for f' with one
derivative more. The enclosures are interval Taylor jets (`jet`), rounding included. So is the error of
the values at the cells' ends.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from mgc.ir.graph import Value
from mgc.ir.ops import LossTable
from mgc.passes.losses.enclose import NotEnclosedError, enclose
from mgc.passes.losses.interval import Array, Interval
from mgc.passes.losses.jet import Jet
from mgc.passes.losses.region import Region

REACH = 32.0
"""Tables cover scores from -REACH to REACH, or the part of it around 0 where f and f' are defined."""
LEAST_REACH = 4.0
"""A table that covers less is not made."""
TOLERANCE = 1e-5
"""The error aimed at, relative to max(1, |f|)."""
_LOOSEST = 1e-2
_MOST_CELLS = 12_000
_CORNER = 2.0**-21
"""Cells are not halved below this width: what cannot be bounded there is a corner."""
_MOST_CORNERS = 64
_PROBE = 0.31830988618
"""Where cells are tried for `_reach`: at a place where no loss has a corner on purpose."""
_EVALUATION = 1e-14
"""Relative rounding error of looking a table up in float64."""


_Enclosure = Callable[[Array, Array], Jet]


class UntabulatedError(Exception):
    """No table can be made; the message says why."""


def tabulate(region: Region, at: Value, orientation: float = 1.0) -> LossTable:
    """Tables of the region's root as a function of u, where the value `at` is orientation * u.

    Raises UntabulatedError.
    """

    def jet(left: Array, right: Array) -> Jet:
        try:
            return enclose(region, at, left, right, orientation)
        except NotEnclosedError as error:
            raise UntabulatedError(str(error)) from error

    low, high = _reach(jet)
    tolerance = TOLERANCE
    while tolerance <= _LOOSEST:
        cells = _cells(jet, low, high, tolerance)
        if cells is not None:
            return _table(cells, low, high)
        tolerance *= 4
    raise UntabulatedError(f"no table of {_MOST_CELLS} segments has a proven error below {_LOOSEST}")


@dataclass(frozen=True)
class _Cells:
    """Cells with the values of f and f' at their ends [2, cells] and their error bounds; `corner`: none is known;
    `unbounded`: nothing at all is known of f.
    """

    left: Array
    right: Array
    value: Array
    slope: Array
    loss_error: Array
    delta_error: Array
    corner: Array
    unbounded: Array


def _reach(jet: _Enclosure) -> tuple[float, float]:
    """The stretch around 0 where f and f' are known to TOLERANCE at some point between any two whole numbers."""
    cells = np.arange(-REACH, REACH)
    points = cells + _PROBE
    at = jet(points, points)
    good = np.ones(len(points), bool)
    for part in (at.d[0], at.d[1]):
        part = Interval(part.lo[0], part.hi[0])
        good &= part.width <= TOLERANCE * np.maximum(1, part.smallest)
    middle = int(REACH)
    below, above = good[:middle][::-1], good[middle:]
    reach = [int(np.argmin(side)) if not side.all() else middle for side in (below, above)]
    if min(reach) < LEAST_REACH:
        first = points[np.argmin(np.where(good, np.inf, np.abs(points)))]
        raise UntabulatedError(f"it is not defined, or has no bounded slope, at a score of {first:.2f}")
    return -float(reach[0]), float(reach[1])


def _cells(jet: _Enclosure, low: float, high: float, tolerance: float) -> _Cells | None:
    left = np.arange(low, high)
    right = left + 1
    done: list[_Cells] = []
    count = 0
    while len(left):
        cells = _bounded(jet, left, right, tolerance)
        settled = ~cells.corner | (right - left <= _CORNER)
        done.append(_Cells(*(x[..., settled] for x in vars(cells).values())))
        count += int(settled.sum())
        if count + 2 * int((~settled).sum()) > _MOST_CELLS:
            return None
        left, right = left[~settled], right[~settled]
        middle = (left + right) / 2
        left, right = np.concatenate([left, middle]), np.concatenate([middle, right])
    order = np.argsort(np.concatenate([c.left for c in done]))
    cells = _Cells(
        *(np.concatenate(parts, axis=-1)[..., order] for parts in zip(*(vars(c).values() for c in done), strict=True))
    )
    if cells.unbounded.any():
        raise UntabulatedError(f"it is not bounded at a score of {cells.left[cells.unbounded][0]:.3g}")
    return cells if int(cells.corner.sum()) <= _MOST_CORNERS else None


def _bounded(jet: _Enclosure, left: Array, right: Array, tolerance: float) -> _Cells:
    width = right - left
    f = jet(left, right)
    bounds: list[Array] = []
    ends: list[Array] = []
    good = np.ones(len(left), bool)
    for order in (0, 1):
        whole = Interval(f.d[order].lo[0], f.d[order].hi[0])
        at_ends = Interval(f.d[order].lo[1:], f.d[order].hi[1:])
        slope = Interval(f.d[order + 1].lo[0], f.d[order + 1].hi[0])
        curve = Interval(f.d[order + 2].lo[0], f.d[order + 2].hi[0])
        with np.errstate(over="ignore"):
            chord = np.minimum(curve.largest * width * width / 8, slope.width * width / 4)
        error = np.minimum(chord, whole.width) + at_ends.width.max(axis=0) / 2
        size = np.maximum(1, whole.smallest)
        bounds.append(error / size)
        ends.append(at_ends.middle)
        good &= error <= tolerance * size
        good &= np.isfinite(at_ends.width).all(axis=0)
    unbounded = ~np.isfinite(f.value.width[0])
    return _Cells(left, right, ends[0], ends[1], bounds[0], bounds[1], ~good, unbounded)


def _table(cells: _Cells, low: float, high: float) -> LossTable:
    cells = _joined(cells)
    width = cells.right - cells.left
    rise, turn = (ends[1] - ends[0] for ends in (cells.value, cells.slope))
    body = np.stack([cells.left, cells.value[0], rise / width, cells.slope[0], turn / width], axis=1)
    (first, last), (first_slope, last_slope) = cells.value[[0, 1], [0, -1]], cells.slope[[0, 1], [0, -1]]
    head = [low - 1, first - first_slope, first_slope, first_slope, 0.0]
    tail = [high, last, last_slope, last_slope, 0.0]
    good = ~cells.corner
    # a jump of f' between two cells is a corner as well
    jumps = np.abs(cells.slope[0, 1:] - cells.slope[1, :-1]) > TOLERANCE * np.maximum(1, np.abs(cells.slope[0, 1:]))
    jumps &= good[1:] & good[:-1]
    corners = np.concatenate([cells.left[1:][jumps], (cells.left + width / 2)[~good]])
    return LossTable.of(
        np.concatenate([[head], body, [tail]]),
        low,
        high,
        float(cells.loss_error[good].max()) + _EVALUATION,
        float(cells.delta_error[good].max()) + _EVALUATION,
        tuple(float(c) for c in np.sort(corners)),
    )


def _joined(cells: _Cells) -> _Cells:
    """The cells with the ends of corners taken from the nearest cells beside them that have a bound."""
    value, slope = cells.value.copy(), cells.slope.copy()
    good = np.flatnonzero(~cells.corner)
    for k in np.flatnonzero(cells.corner):
        place = np.searchsorted(good, k)
        for end, beside in ((0, place - 1), (1, place)):
            if 0 <= beside < len(good):
                value[end, k], slope[end, k] = value[1 - end, good[beside]], slope[1 - end, good[beside]]
    return replace(cells, value=value, slope=slope)
