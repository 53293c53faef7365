"""Functions of one variable with three derivatives, enclosed on intervals: interval arithmetic on Taylor jets.

A jet's arrays are [3, cells]: row 0 encloses f, f', f'', f''' on whole cells, rows 1 and 2 at their left and right
ends. Where a function has a corner, all rows take the branch that the cell takes, so an end belongs to its cell; only
a cell with the corner inside is undecided, and what is not known of it is an infinite interval.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mgc.passes.losses.interval import Array, Interval

Derivatives = tuple[Interval, Interval, Interval, Interval]


@dataclass(frozen=True, eq=False)
class Truth:
    """A condition: where it holds for certain, and where it fails for certain."""

    yes: Array
    no: Array

    @staticmethod
    def of(yes: Array, no: Array) -> Truth:
        """Rows of a jet, the ends joined with their cell where that is decided."""
        cell_yes, cell_no = yes[:1], no[:1]
        return Truth((yes & ~cell_no) | cell_yes, (no & ~cell_yes) | cell_no)

    def __invert__(self) -> Truth:
        return Truth(self.no, self.yes)

    def __and__(self, other: Truth) -> Truth:
        return Truth(self.yes & other.yes, self.no | other.no)

    def __or__(self, other: Truth) -> Truth:
        return ~(~self & ~other)


@dataclass(frozen=True, eq=False)
class Jet:
    """f and its first three derivatives."""

    d: Derivatives

    @staticmethod
    def variable(left: Array, right: Array, orientation: float) -> Jet:
        """orientation * u on the cells [left, right]; orientation is 1 or -1."""
        lo, hi = np.stack([left, left, right]), np.stack([right, left, right])
        value = Interval(lo, hi) if orientation > 0 else Interval(-hi, -lo)
        zero = Interval.constant(0.0, lo.shape)
        return Jet((value, Interval.constant(orientation, lo.shape), zero, zero))

    @staticmethod
    def constant(value: float, shape: tuple[int, ...]) -> Jet:
        """A number."""
        zero = Interval.constant(0.0, shape)
        return Jet((Interval.constant(value, shape), zero, zero, zero))

    @property
    def value(self) -> Interval:
        """f itself."""
        return self.d[0]

    @property
    def shape(self) -> tuple[int, ...]:
        """[3, cells]."""
        return self.value.lo.shape

    def __neg__(self) -> Jet:
        a, b, c, e = self.d
        return Jet((-a, -b, -c, -e))

    def __add__(self, other: Jet) -> Jet:
        (a, b, c, e), (p, q, r, s) = self.d, other.d
        return Jet((a + p, b + q, c + r, e + s))

    def __sub__(self, other: Jet) -> Jet:
        return self + (-other)

    def __mul__(self, other: Jet) -> Jet:
        (a, b, c, e), (p, q, r, s) = self.d, other.d
        return Jet(
            (
                a * p,
                b * p + a * q,
                c * p + (b * q).times(2) + a * r,
                e * p + (c * q + b * r).times(3) + a * s,
            )
        )

    def times(self, c: float) -> Jet:
        """c f."""
        a, b, e, g = self.d
        return Jet((a.times(c), b.times(c), e.times(c), g.times(c)))

    def plus(self, c: float) -> Jet:
        """f + c."""
        return Jet((self.value.plus(c), *self.d[1:]))

    def through(self, derivatives: Callable[[Interval], Derivatives]) -> Jet:
        """g(f), from g, g', g'', g''' on intervals (Faa di Bruno's rule)."""
        x, a, b, c = self.d
        g0, g1, g2, g3 = derivatives(x)
        square = a.power(2)
        return Jet(
            (
                g0,
                g1 * a,
                g2 * square + g1 * b,
                g3 * a.power(3) + (g2 * a * b).times(3) + g1 * c,
            )
        )


def chosen(condition: Truth, a: Jet, b: Jet, *, continuous: bool) -> Jet:
    """a where the condition holds, b where it fails. Where that is not decided f is in the hull, and so is f' if the
    function is continuous there; higher derivatives are not known.
    """
    undecided = ~(condition.yes | condition.no)
    whole = Interval.whole(a.shape)
    orders: list[Interval] = []
    for order, (p, q) in enumerate(zip(a.d, b.d, strict=True)):
        known = order == 0 or (order == 1 and continuous)
        joined = p.hull(q) if known else whole
        orders.append(joined.chosen(undecided, p.chosen(condition.yes, q)))
    return Jet((orders[0], orders[1], orders[2], orders[3]))


def not_below(a: Jet, b: Jet) -> Truth:
    """a >= b on whole cells, either way where they are equal: for functions that are continuous there."""
    return Truth.of(a.value.lo >= b.value.hi, a.value.hi <= b.value.lo)


def maximum(a: Jet, b: Jet) -> Jet:
    """max(a, b)."""
    return chosen(not_below(a, b), a, b, continuous=True)


def minimum(a: Jet, b: Jet) -> Jet:
    """min(a, b)."""
    return chosen(not_below(b, a), a, b, continuous=True)


def greater(a: Jet, b: Jet) -> Truth:
    """a > b."""
    return Truth.of(a.value.lo > b.value.hi, a.value.hi <= b.value.lo)


def greater_or_equal(a: Jet, b: Jet) -> Truth:
    """a >= b."""
    return Truth.of(a.value.lo >= b.value.hi, a.value.hi < b.value.lo)


def equal(a: Jet, b: Jet) -> Truth:
    """a = b."""
    apart = (a.value.lo > b.value.hi) | (a.value.hi < b.value.lo)
    points = (a.value.width == 0) & (b.value.width == 0) & ~apart
    return Truth.of(points, apart)
