"""Which positions an MVM's windows read and write, and which MVMs are worth one matrix product."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from mgc.isa.instructions import Mvm
from mgc.isa.windows import WindowedProduct

SAMPLES = 8
"""Samples that the cost model assumes to be run at once."""


@dataclass(frozen=True)
class SharedProduct:
    """One matrix product for several MVMs that read the same taps: the union of their windows, once.

    `reads` int64 [windows, taps] are flat input positions (-1: outside the input). MVM j's own windows are
    `members[j]` among them (flat), and write the flat output positions `writes[j]`. The windows are the product of
    `starts`, for each dimension the input positions that their first taps read.
    """

    instructions: tuple[Mvm, ...]
    reads: np.ndarray
    members: tuple[np.ndarray, ...]
    writes: tuple[np.ndarray, ...]
    starts: tuple[np.ndarray, ...]


def shared_products(
    instructions: Sequence[Mvm], channels: int, cols: int, kind: Callable[[Mvm], object] = lambda m: None
) -> list[SharedProduct]:
    """Groups MVMs of one source and destination, each of `channels` inputs a tap and `cols` outputs, and of one kind.

    MVMs that read the very same windows always share their product: its matrix is wider, its work the same. MVMs whose
    windows differ only in where they start (residue classes of a transposed convolution) share one where the union of
    their windows, computed for all of them, costs less than a product each: more multiplications, fewer copies.
    """
    groups: list[SharedProduct] = []
    by_taps: dict[object, list[Mvm]] = {}
    for m in instructions:
        w = m.windows
        by_taps.setdefault((w.taps, w.in_stride, w.in_dilation, kind(m)), []).append(m)
    for similar in by_taps.values():
        whole = _union(similar)
        if len(similar) == 1:
            groups.append(whole)
            continue
        by_start: dict[object, list[Mvm]] = {}
        for m in similar:
            by_start.setdefault((m.windows.in_base, m.windows.count), []).append(m)
        split = [_union(same) for same in by_start.values()]
        together = cost(whole, channels, cols)
        groups += [whole] if together <= sum(cost(s, channels, cols) for s in split) else split
    return groups


def _union(similar: Sequence[Mvm]) -> SharedProduct:
    """The union of the windows of MVMs with the same taps, strides and dilations."""
    first, starts = similar[0].windows, [m.windows.starts for m in similar]
    union = [np.unique(np.concatenate(s)) for s in zip(*starts, strict=True)]
    at = [u[:, None] + k * np.arange(t) for u, k, t in zip(union, first.in_dilation, first.taps, strict=True)]
    reads = flatten(at, similar[0].input.shape[2:])
    sizes = [len(u) for u in union]
    members = [grid([np.searchsorted(u, s) for u, s in zip(union, own, strict=True)], sizes) for own in starts]
    writes = [grid(m.windows.out_positions, m.output.shape[2:]) for m in similar]
    return SharedProduct(tuple(similar), reads, tuple(members), tuple(writes), tuple(union))


def grid(axes: Sequence[np.ndarray], extents: Sequence[int]) -> np.ndarray:
    """Row-major numbers of all points of the product of `axes` in a box of `extents`, flat."""
    flat = np.zeros(1, np.int64)
    for axis, extent in zip(axes, extents, strict=True):
        flat = (flat[:, None] * extent + axis).reshape(-1)
    return flat


def flatten(at: Sequence[np.ndarray], extents: Sequence[int]) -> np.ndarray:
    """Flat positions [windows, taps] from each dimension's [windows, taps]; -1 for those outside the extents."""
    flat, inside = np.zeros((1, 1), np.int64), np.ones((1, 1), np.bool_)
    windows = taps = 1
    for position, extent in zip(at, extents, strict=True):
        ok = (position >= 0) & (position < extent)
        windows, taps = windows * len(position), taps * position.shape[1]
        shape = (windows, taps)
        flat = (flat[:, None, :, None] * extent + position[None, :, None, :]).reshape(shape)
        inside = (inside[:, None, :, None] & ok[None, :, None, :]).reshape(shape)
    return np.where(inside, flat, -1)


def window_map(m: WindowedProduct) -> tuple[np.ndarray, np.ndarray]:
    """(reads, writes): flat input positions [windows, taps] (-1: outside) and output positions [windows] of windows."""
    inner, outer = m.input.shape[2:], m.output.shape[2:]
    return flatten(m.windows.in_positions(inner), inner), grid(m.windows.out_positions, outer)


def cost(shared: SharedProduct, channels: int, cols: int) -> float:
    """Estimated nanoseconds of a product over `SAMPLES` samples, its copies and its share of element-wise work.

    The constants are measured once on a processor with 8-bit dot products; only their ratios matter.
    """
    windows, taps = shared.reads.shape
    width = cols * len(shared.instructions)
    elementwise = SAMPLES * windows * width * 0.9
    nodes = 20_000
    return _multiply(windows, taps * channels, width) + _gather(windows * taps, channels) + elementwise + nodes


def by_position_pays(shared: SharedProduct, channels: int, cols: int, gather: float) -> bool:
    """Whether a product of every position with all taps, whose terms windows gather and add up, costs less than one of
    what windows read; `gather`: estimated nanoseconds to bring that together.
    """
    windows, taps = shared.reads.shape
    width = cols * len(shared.instructions)
    terms = windows * taps
    added = SAMPLES * terms * width * 0.3
    positions = len(np.unique(shared.reads))
    by_position = _multiply(positions, channels, taps * width) + _gather(terms, 4 * width) + added
    return by_position < _multiply(windows, taps * channels, width) + gather


def _multiply(rows: int, depth: int, columns: int) -> float:
    padded = -(-columns // 16) * 16  # kernels compute whole tiles of 16 columns
    # the weights come from memory once
    return max(SAMPLES * rows * depth * padded / 400, depth * padded / 30)


def _gather(pieces: int, piece_bytes: int) -> float:
    return SAMPLES * pieces * (3 + piece_bytes / 50)
