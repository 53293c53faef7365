"""Interval arithmetic on arrays, rounded outward: every result encloses every value that the operands allow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Array = np.ndarray

# NumPy's functions are right to 4 units in the last place; twice that, and more than that for a single operation.
_RELATIVE = 2.0**-49
_ABSOLUTE = 1e-300


@dataclass(frozen=True, eq=False)
class Interval:
    """Closed intervals [lo, hi], arrays of one shape; an infinite end means that nothing is known on that side."""

    lo: Array
    hi: Array

    @staticmethod
    def rounded(lo: Array, hi: Array, absolute: float | Array = _ABSOLUTE) -> Interval:
        """Ends computed with rounding errors, moved outward."""
        with np.errstate(all="ignore"):
            lo = lo - (np.abs(lo) * _RELATIVE + absolute)
            hi = hi + (np.abs(hi) * _RELATIVE + absolute)
        return Interval(np.where(np.isnan(lo), -np.inf, lo), np.where(np.isnan(hi), np.inf, hi))

    @staticmethod
    def constant(value: float, shape: tuple[int, ...]) -> Interval:
        """One number everywhere."""
        data = np.full(shape, float(value))
        return Interval(data, data)

    @staticmethod
    def whole(shape: tuple[int, ...]) -> Interval:
        """Nothing is known."""
        return Interval(np.full(shape, -np.inf), np.full(shape, np.inf))

    @property
    def width(self) -> Array:
        """hi - lo; infinite where nothing is known."""
        with np.errstate(invalid="ignore"):
            return np.nan_to_num(self.hi - self.lo, nan=np.inf, posinf=np.inf)

    @property
    def middle(self) -> Array:
        """A point of each interval; 0 where an end is infinite."""
        with np.errstate(invalid="ignore"):
            return np.where(np.isfinite(self.lo) & np.isfinite(self.hi), self.lo / 2 + self.hi / 2, 0.0)

    @property
    def largest(self) -> Array:
        """The largest |x|."""
        return np.maximum(np.abs(self.lo), np.abs(self.hi))

    @property
    def smallest(self) -> Array:
        """The smallest |x|."""
        return np.maximum(0.0, np.maximum(self.lo, -self.hi))

    def __neg__(self) -> Interval:
        return Interval(-self.hi, -self.lo)

    def __add__(self, other: Interval) -> Interval:
        with np.errstate(all="ignore"):
            # a sum that comes out as 0 is exact: corners of max(x - 1, 0) and the like stay where they are
            return Interval.rounded(self.lo + other.lo, self.hi + other.hi, 0.0)

    def __sub__(self, other: Interval) -> Interval:
        return self + (-other)

    def __mul__(self, other: Interval) -> Interval:
        pairs = [(a, b) for a in (self.lo, self.hi) for b in (other.lo, other.hi)]
        with np.errstate(all="ignore"):
            products = [a * b for a, b in pairs]
        lost = [(np.abs(p) < _ABSOLUTE) & (a != 0) & (b != 0) for p, (a, b) in zip(products, pairs, strict=True)]
        # an infinite end is a bound that is not known, not a value: 0 times it is 0
        products = [np.where(np.isnan(p), 0.0, p) for p in products]
        least, most = np.minimum.reduce(products), np.maximum.reduce(products)
        return Interval.rounded(least, most, np.where(np.logical_or.reduce(lost), _ABSOLUTE, 0.0))

    def times(self, c: float) -> Interval:
        """c * x."""
        return self * Interval.constant(c, self.lo.shape)

    def plus(self, c: float) -> Interval:
        """x + c."""
        return self + Interval.constant(c, self.lo.shape)

    def inverse(self) -> Interval:
        """1 / x; nothing is known where x may be 0."""
        with np.errstate(all="ignore"):
            result = Interval.rounded(1 / self.hi, 1 / self.lo)
        return self._unless((self.lo <= 0) & (self.hi >= 0), result)

    def power(self, n: int) -> Interval:
        """x ** n for n >= 0."""
        if n == 0:
            return Interval.constant(1.0, self.lo.shape)
        with np.errstate(all="ignore"):
            if n % 2:
                return Interval.rounded(self.lo**n, self.hi**n)
            return Interval.rounded(self.smallest**n, self.largest**n)

    def increasing(self, f: Callable[[Array], Array]) -> Interval:
        """f(x) of a non-decreasing f."""
        with np.errstate(all="ignore"):
            return Interval.rounded(f(self.lo), f(self.hi))

    def decreasing_in_size(self, f: Callable[[Array], Array]) -> Interval:
        """f(|x|) of an f that does not increase."""
        with np.errstate(all="ignore"):
            return Interval.rounded(f(self.largest), f(self.smallest))

    def limited(self, lo: float, hi: float) -> Interval:
        """The same, where it is known to be within lo..hi."""
        return Interval(np.clip(self.lo, lo, hi), np.clip(self.hi, lo, hi))

    def hull(self, other: Interval) -> Interval:
        """The smallest interval with both."""
        return Interval(np.minimum(self.lo, other.lo), np.maximum(self.hi, other.hi))

    def chosen(self, mask: Array, other: Interval) -> Interval:
        """This where `mask`, the other elsewhere."""
        return Interval(np.where(mask, self.lo, other.lo), np.where(mask, self.hi, other.hi))

    def _unless(self, unknown: Array, result: Interval) -> Interval:
        return Interval.whole(self.lo.shape).chosen(unknown, result)

    def where_positive(self, f: Callable[[Interval], Interval]) -> Interval:
        """f(x) where x is positive; nothing is known elsewhere."""
        inside = self.lo > 0
        one = np.ones_like(self.lo)
        safe = Interval(np.where(inside, self.lo, one), np.where(inside, self.hi, one))
        return self._unless(~inside, f(safe))
