"""Where resampling along one axis reads: ONNX's coordinate modes and filters, in rational arithmetic.

Float32 arithmetic picks wrong source pixels for some ratios (100 -> 120, nearest); fractions do not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

HALF = Fraction(1, 2)


def ratio_of(scale: float) -> Fraction:
    """The simplest fraction that rounds to this float32: 1.2 means 6/5, not the nearest binary fraction."""
    exact = Fraction(float(np.float32(scale)))
    limit = 1
    while limit <= 1 << 24:
        simple = exact.limit_denominator(limit)
        if np.float32(float(simple)) == np.float32(scale):
            return simple
        limit *= 4
    return exact


@dataclass(frozen=True)
class AxisScale:
    """One axis: `size` elements become `out`, nominally `scale` times as many; roi for tf_crop_and_resize only."""

    size: int
    out: int
    scale: Fraction
    roi: tuple[Fraction, Fraction] = (Fraction(0), Fraction(1))

    def source(self, x: int, mode: str) -> Fraction:
        """The coordinate in the input of output element x. ValueError for an unknown mode."""
        if mode == "half_pixel":
            return (x + HALF) / self.scale - HALF
        if mode == "half_pixel_symmetric":
            # the output's exact extent may be fractional: both centres are kept together
            adjustment = Fraction(self.out) / (self.scale * self.size)
            return Fraction(self.size, 2) * (1 - adjustment) + (x + HALF) / self.scale - HALF
        if mode == "pytorch_half_pixel":
            return (x + HALF) / self.scale - HALF if self.out > 1 else Fraction(0)
        if mode == "align_corners":
            # by ONNX's test data the output's nominal extent counts, which a scale may make fractional
            extent = self.scale * self.size
            return x * (self.size - 1) / (extent - 1) if self.out > 1 else Fraction(0)
        if mode == "asymmetric":
            return x / self.scale
        if mode == "tf_half_pixel_for_nn":
            return (x + HALF) / self.scale
        if mode == "tf_crop_and_resize":
            start, end = self.roi
            if self.out > 1:
                return start * (self.size - 1) + x * (end - start) * (self.size - 1) / (self.out - 1)
            return (start + end) * (self.size - 1) / 2
        raise ValueError(f"coordinate_transformation_mode {mode!r} is not one of ONNX's")

    def sources(self, mode: str) -> list[Fraction]:
        """`source` of every output element."""
        return [self.source(x, mode) for x in range(self.out)]

    def outside(self, mode: str) -> np.ndarray:
        """Which output elements read outside the input (they take the extrapolation value)."""
        return np.array([x < 0 or x > self.size - 1 for x in self.sources(mode)], bool)


def nearest_index(x: Fraction, rule: str) -> int:
    """The element next to a coordinate. ValueError for an unknown rule."""
    if rule == "round_prefer_floor":
        return math.ceil(x - HALF)
    if rule == "round_prefer_ceil":
        return math.floor(x + HALF)
    if rule == "floor":
        return math.floor(x)
    if rule == "ceil":
        return math.ceil(x)
    raise ValueError(f"nearest_mode {rule!r} is not one of ONNX's")


def nearest(axis: AxisScale, mode: str, rule: str) -> np.ndarray:
    """Source index of every output element."""
    found = [min(max(nearest_index(x, rule), 0), axis.size - 1) for x in axis.sources(mode)]
    return np.array(found, np.int64)


def _triangle(t: float) -> float:
    return max(0.0, 1 - abs(t))


def _keys_cubic(t: float, a: float) -> float:
    t = abs(t)
    if t <= 1:
        return ((a + 2) * t - (a + 3)) * t * t + 1
    if t < 2:
        return ((a * t - 5 * a) * t + 8 * a) * t - 4 * a
    return 0.0


def filter_matrix(
    axis: AxisScale, mode: str, kind: str, *, cubic_a: float = -0.75, antialias: bool = False, exclude: bool = False
) -> np.ndarray:
    """The [out, size] matrix of linear or cubic resampling. Reads outside go to the border, or are left out with
    `exclude` and the rest scaled up; `antialias` widens the filter when shrinking.
    """
    stretch = float(min(axis.scale, Fraction(1))) if antialias else 1.0
    reach = (1 if kind == "linear" else 2) / stretch
    matrix = np.zeros((axis.out, axis.size))
    for row, x in enumerate(axis.sources(mode)):
        near = math.floor(x)
        part = float(x - near)
        first, last = math.floor(part - reach) + 1, math.ceil(part + reach) - 1
        taps = range(first, max(last, first) + 1)
        if kind == "linear":
            weights = np.array([_triangle((t - part) * stretch) for t in taps])
        else:
            weights = np.array([_keys_cubic((t - part) * stretch, cubic_a) for t in taps])
        index = np.array([near + t for t in taps])
        if exclude:
            weights = np.where((index >= 0) & (index < axis.size), weights, 0)
        total = weights.sum()
        if total != 0:
            weights = weights / total
        np.add.at(matrix[row], np.clip(index, 0, axis.size - 1), weights)
    return matrix
