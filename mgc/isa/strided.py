"""Address generators: strided boxes over flat buffers, their bounds, and windows with zero padding."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from mgc.isa.error import ProgramError


def strided_view(flat: np.ndarray, base: int, extents: Sequence[int], strides: Sequence[int]) -> np.ndarray:
    """The box of a C-contiguous array at `base` with `strides` in elements. Bounds must have been checked."""
    flat = flat.reshape(-1)
    if 0 in extents:
        return np.zeros(tuple(extents), flat.dtype)
    return np.lib.stride_tricks.as_strided(flat[base:], tuple(extents), [s * flat.itemsize for s in strides])


def check_box(what: str, base: int, extents: Sequence[int], strides: Sequence[int], size: int) -> None:
    """Raises ProgramError unless every address of the box is inside 0 .. size - 1."""
    if len(extents) != len(strides):
        raise ProgramError(f"{what}: {len(extents)} extents but {len(strides)} strides")
    if any(e < 0 for e in extents):
        raise ProgramError(f"{what}: extents {tuple(extents)} are not all >= 0")
    if 0 in extents:
        return
    reach = [(e - 1) * s for e, s in zip(extents, strides, strict=True)]
    low, high = base + sum(min(r, 0) for r in reach), base + sum(max(r, 0) for r in reach)
    if low < 0 or high >= size:
        raise ProgramError(f"{what}: addresses {low}..{high} leave the {size} elements there are")


def check_distinct(what: str, extents: Sequence[int], strides: Sequence[int]) -> None:
    """Raises ProgramError unless the strides nest, so that no two indices of the box share an address."""
    reach = 0
    for stride, extent in sorted((abs(s), e) for s, e in zip(strides, extents, strict=True) if e > 1):
        if stride <= reach:
            raise ProgramError(f"{what}: strides {tuple(strides)} of extents {tuple(extents)} meet an address twice")
        reach += stride * (extent - 1)


def window_positions(base: int, count: int, stride: int, taps: int, dilation: int, extent: int) -> np.ndarray:
    """Input positions [count, taps] of one dimension; those outside the input become `extent`."""
    at = base + stride * np.arange(count)[:, None] + dilation * np.arange(taps)
    return np.where((at >= 0) & (at < extent), at, extent)


def gather_windows(
    x: np.ndarray, positions: Sequence[np.ndarray], matrices: int, channels: int, tap_fastest: bool, outside: int = 0
) -> np.ndarray:
    """Crossbar inputs [matrices, batch * windows, channels * taps] of x [batch, channels_of_all, *spatial].

    `positions` are `window_positions` of each spatial dimension; a position equal to the extent reads as `outside`.
    """
    dims = len(positions)
    padded = np.pad(x[:, : matrices * channels], [(0, 0), (0, 0), *[(0, 1)] * dims], constant_values=outside)
    index = [p.reshape(*(1, 1) * d, *p.shape, *(1, 1) * (dims - 1 - d)) for d, p in enumerate(positions)]
    boxes = padded[(slice(None), slice(None), *index)]  # [batch, channels_of_all, count0, taps0, count1, taps1, ..]
    counts, taps = ([p.shape[k] for p in positions] for k in (0, 1))
    boxes = boxes.reshape(x.shape[0], matrices, channels, *(n for pair in zip(counts, taps, strict=True) for n in pair))
    window_axes, tap_axes = [3 + 2 * d for d in range(dims)], [4 + 2 * d for d in range(dims)]
    row_axes = [2, *tap_axes] if tap_fastest else [*tap_axes, 2]
    rows = boxes.transpose([1, 0, *window_axes, *row_axes])
    return rows.reshape(matrices, x.shape[0] * prod(counts), channels * prod(taps))


def scatter_windows(sums: np.ndarray, out: np.ndarray, where: Sequence[slice], counts: Sequence[int]) -> None:
    """Writes sums [matrices, batch * windows, cols] to positions `where` of out [batch, matrices * cols, *spatial]."""
    matrices, _, cols = sums.shape
    values = sums.reshape(matrices, out.shape[0], *counts, cols)
    values = np.moveaxis(np.moveaxis(values, -1, 1), 2, 0).reshape(out.shape[0], matrices * cols, *counts)
    out[(slice(None), slice(None), *where)] = values
