"""Window arithmetic shared by convolutions and pooling."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np


def output_extent(size: int, kernel: int, stride: int, begin: int, end: int, dilation: int) -> int:
    """Number of windows along one axis; may come out <= 0 if the kernel does not fit."""
    return (size + begin + end - dilation * (kernel - 1) - 1) // stride + 1


def padded(x: np.ndarray, pads: Sequence[int], value: float) -> np.ndarray:
    """x with its spatial axes (all but the first two) padded by `pads` = (begins..., ends...)."""
    rank = len(pads) // 2
    if not any(pads):
        return x
    return np.pad(x, [(0, 0), (0, 0), *zip(pads[:rank], pads[rank:], strict=True)], constant_values=value)


def taps(
    kernel: Sequence[int], extents: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> Iterator[tuple[tuple[int, ...], tuple[slice, ...]]]:
    """Each kernel tap with the slices of a padded input (or of a full output) that it meets over all windows."""
    for tap in product(*map(range, kernel)):
        yield (
            tap,
            (
                slice(None),
                slice(None),
                *(
                    slice(t * d, t * d + (n - 1) * s + 1, s)
                    for t, n, s, d in zip(tap, extents, strides, dilations, strict=True)
                ),
            ),
        )
