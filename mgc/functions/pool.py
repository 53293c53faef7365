"""Pooling over windows and its gradients, on arrays [N, C, *spatial]; `wide` is the element type to compute in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike

from mgc.functions.dtypes import is_float, positive_zero
from mgc.functions.windows import output_extent, padded, taps

Array = np.ndarray


def lowest(dtype: np.dtype) -> float:
    """What is lower than any number of a type: what a maximum sees beyond the input."""
    return -np.inf if is_float(dtype) else int(np.iinfo(dtype).min)


@dataclass(frozen=True)
class PoolWindows:
    """The windows of a pool; pads = (begins..., ends...). An average is divided by the number of elements inside x,
    with `count_include_pad` by that inside x and its pads.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    pads: tuple[int, ...]
    dilations: tuple[int, ...]
    count_include_pad: bool = False

    @property
    def attributes(self) -> tuple[float, ...]:
        """The attributes of a vector unit's function."""
        window = (*self.kernel, *self.strides, *self.pads, *self.dilations, int(self.count_include_pad))
        return (float(len(self.kernel)), *map(float, window))

    def extents(self, spatial: Sequence[int]) -> tuple[int, ...]:
        """Number of windows along each axis."""
        rank = len(self.kernel)
        return tuple(
            output_extent(n, self.kernel[i], self.strides[i], self.pads[i], self.pads[rank + i], self.dilations[i])
            for i, n in enumerate(spatial)
        )

    def padded(self, x: Array, value: float) -> Array:
        """x with its spatial axes padded."""
        return padded(x, self.pads, value)

    def taps(self, extents: Sequence[int]) -> Iterator[tuple[slice, ...]]:
        """For each tap, the last axis fastest: the slices of the padded input that it meets over all windows."""
        return (where for _, where in taps(self.kernel, extents, self.strides, self.dilations))

    def inside(self, spatial: Sequence[int]) -> tuple[slice, ...]:
        """The slices of a padded array that are not padding."""
        return (slice(None), slice(None), *(slice(b, b + n) for b, n in zip(self.pads, spatial, strict=False)))

    def divisors(self, spatial: Sequence[int], wide: DTypeLike) -> Array:
        """What the average of each window is divided by: [1, 1, *windows]."""
        extents = self.extents(spatial)
        ones = self.padded(np.ones((1, 1, *spatial), wide), float(self.count_include_pad))
        count = np.zeros((1, 1, *extents), wide)
        for where in self.taps(extents):
            count += ones[where]
        return count


def pool_max(x: Array, windows: PoolWindows) -> Array:
    """The greatest of each window; padding is lower than anything; a zero is +0."""
    source = windows.padded(x, lowest(x.dtype))
    first, *others = windows.taps(windows.extents(x.shape[2:]))
    result = source[first].copy()
    for where in others:
        np.maximum(result, source[where], out=result)
    return positive_zero(result)


def pool_average(x: Array, windows: PoolWindows, wide: DTypeLike) -> Array:
    """The mean of each window: taps summed, the last axis fastest, then divided."""
    extents = windows.extents(x.shape[2:])
    source = windows.padded(x.astype(wide), 0)
    total = np.zeros((*x.shape[:2], *extents), wide)
    for where in windows.taps(extents):
        total += source[where]
    with np.errstate(all="ignore"):
        return (total / windows.divisors(x.shape[2:], wide)).astype(x.dtype)


def pool_average_grad(dy: Array, windows: PoolWindows, spatial: Sequence[int], wide: DTypeLike) -> Array:
    """The transpose of an average: dy of each window, divided by what its mean was, added up tap after tap."""
    count = windows.divisors(spatial, wide)
    share = np.divide(dy.astype(wide), count, out=np.zeros(dy.shape, wide), where=count != 0)
    dx = windows.padded(np.zeros((*dy.shape[:2], *spatial), wide), 0)
    for where in windows.taps(dy.shape[2:]):
        dx[where] += share
    return np.ascontiguousarray(dx[windows.inside(spatial)]).astype(dy.dtype)


def _selected(x: Array, windows: PoolWindows, extents: Sequence[int]) -> Array:
    """Which tap, the last axis fastest, is the first with the maximum of each window; NaN is lower than anything."""
    source = windows.padded(x, -np.inf)
    best = np.full((*x.shape[:2], *extents), -np.inf, x.dtype)
    selected = np.zeros(best.shape, np.int32)
    for number, where in enumerate(windows.taps(extents)):
        better = source[where] > best
        best, selected = np.where(better, source[where], best), np.where(better, np.int32(number), selected)
    return selected


def pool_max_grad(x: Array, dy: Array, windows: PoolWindows, wide: DTypeLike) -> Array:
    """dy of each window added to the first of its elements that has the maximum."""
    selected = _selected(x, windows, dy.shape[2:])
    dx = windows.padded(np.zeros(x.shape, wide), 0)
    for number, where in enumerate(windows.taps(dy.shape[2:])):
        dx[where] += np.where(selected == number, dy, 0)
    return np.ascontiguousarray(dx[windows.inside(x.shape[2:])]).astype(x.dtype)


def pool_max_pick(x: Array, picked: Array, windows: PoolWindows) -> Array:
    """For each window the element of `picked` where x has its first maximum."""
    extents = windows.extents(x.shape[2:])
    selected, source = _selected(x, windows, extents), windows.padded(picked, 0)
    y = np.zeros(selected.shape, x.dtype)
    for number, where in enumerate(windows.taps(extents)):
        y = np.where(selected == number, source[where], y)
    return y
