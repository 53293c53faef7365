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

    def sources(self, mode: str) -> tuple[np.ndarray, int]:
        """`source` of every output element as whole numerators over one denominator: all modes are linear in x."""
        first = self.source(0, mode)
        step = self.source(1, mode) - first if self.out > 1 else Fraction(0)
        denominator = math.lcm(first.denominator, step.denominator)
        begin, slope = int(first * denominator), int(step * denominator)
        largest = 4 * (abs(begin) + abs(slope) * self.out + denominator * (self.size + 1))
        x = np.arange(self.out) if largest < 1 << 62 else np.arange(self.out).astype(object)
        return begin + slope * x, denominator

    def outside(self, mode: str) -> np.ndarray:
        """Which output elements read outside the input (they take the extrapolation value)."""
        numerators, denominator = self.sources(mode)
        return np.asarray((numerators < 0) | (numerators > (self.size - 1) * denominator), bool)


def round_ratio(numerators: np.ndarray, denominator: int, rule: str) -> np.ndarray:
    """Coordinates rounded to whole ones by a nearest_mode. ValueError for an unknown one."""
    if rule == "round_prefer_floor":
        return -((denominator - 2 * numerators) // (2 * denominator))
    if rule == "round_prefer_ceil":
        return (2 * numerators + denominator) // (2 * denominator)
    if rule == "floor":
        return numerators // denominator
    if rule == "ceil":
        return -(-numerators // denominator)
    raise ValueError(f"nearest_mode {rule!r} is not one of ONNX's")


def nearest(axis: AxisScale, mode: str, rule: str) -> np.ndarray:
    """Source index of every output element, int64."""
    return np.clip(round_ratio(*axis.sources(mode), rule), 0, axis.size - 1).astype(np.int64)


def _triangle(t: np.ndarray) -> np.ndarray:
    return np.maximum(1 - np.abs(t), 0)


def _keys_cubic(t: np.ndarray, a: float) -> np.ndarray:
    t = np.abs(t)
    inner = ((a + 2) * t - (a + 3)) * t * t + 1
    outer = ((a * t - 5 * a) * t + 8 * a) * t - 4 * a
    return np.where(t <= 1, inner, np.where(t < 2, outer, 0))


def filter_matrix(
    axis: AxisScale, mode: str, kind: str, *, cubic_a: float = -0.75, antialias: bool = False, exclude: bool = False
) -> np.ndarray:
    """The [out, size] matrix of linear or cubic resampling. Reads outside go to the border, or are left out with
    `exclude` and the rest scaled up; `antialias` widens the filter when shrinking.
    """
    stretch = float(min(axis.scale, Fraction(1))) if antialias else 1.0
    reach = math.ceil((1 if kind == "linear" else 2) / stretch)
    numerators, denominator = axis.sources(mode)
    near = (numerators // denominator).astype(np.int64)[:, None]
    part = (numerators % denominator / denominator).astype(np.float64)[:, None]
    taps = np.arange(-reach, reach + 1)[None, :]
    distance = (taps - part) * stretch
    weights = _triangle(distance) if kind == "linear" else _keys_cubic(distance, cubic_a)
    index = near + taps
    if exclude:
        weights = np.where((index >= 0) & (index < axis.size), weights, 0)
    total = weights.sum(1, keepdims=True)
    weights = weights / np.where(total == 0, 1, total)
    matrix = np.zeros((axis.out, axis.size))
    np.add.at(matrix, (np.arange(axis.out)[:, None], np.clip(index, 0, axis.size - 1)), weights)
    return matrix
