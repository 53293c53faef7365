"""Pieces of a `Copy`: from strided views, and from index patterns such as padding makes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from mgc.ir.mapped import Piece
from mgc.passes.lowering.strided import Strided, dense_strides, merge_axes


@dataclass(frozen=True)
class Run:
    """Positions `at` .. of an axis that read a regular pattern: at + sum(i * place) reads first + sum(i * step).

    `extents`, `steps` and `places` have one entry for each nested loop.
    """

    at: int
    first: int
    extents: tuple[int, ...]
    steps: tuple[int, ...]
    places: tuple[int, ...]


def runs(index: np.ndarray) -> list[Run]:
    """A 1-D integer index array as the fewest regular patterns found: nested loops over the whole, else maximal runs.

    [0, 0, 1, 1] is one pattern of two loops; [2, 1, 0, 1, 2] is two runs.
    """
    index = np.asarray(index)
    if not index.size:
        return []
    whole = _nested(index)
    if whole is not None:
        extents, steps = whole
        return [Run(0, int(index[0]), extents, steps, dense_strides(extents))]
    found: list[Run] = []
    at = 0
    while at < index.size:
        length = _arithmetic_prefix(index[at:])
        step = int(index[at + 1] - index[at]) if length > 1 else 0
        found.append(Run(at, int(index[at]), (length,), (step,), (1,)))
        at += length
    return found


def _arithmetic_prefix(index: np.ndarray) -> int:
    """Length of the longest prefix with one difference."""
    if index.size < 3:
        return int(index.size)
    steps = np.diff(index)
    other = np.flatnonzero(steps != steps[0])
    return int(other[0]) + 1 if other.size else int(index.size)


def _nested(index: np.ndarray) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """Extents and steps of nested loops that give exactly `index`, or None."""
    length = _arithmetic_prefix(index)
    step = int(index[1] - index[0]) if length > 1 else 0
    if length == index.size:
        return (length,), (step,)
    if length < 2 or index.size % length:
        return None
    rows = index.reshape(-1, length)
    if (np.diff(rows, axis=1) != step).any():
        return None
    outer = _nested(rows[:, 0])
    return None if outer is None else ((*outer[0], length), (*outer[1], step))


def piece(operand: int, source: Strided, dst_base: int, dst_strides: Sequence[int]) -> Piece:
    """The copy of a (non-empty) strided view to a destination of the same shape, with as few loops as possible."""
    extents, (src, dst) = merge_axes(source.shape, source.strides, dst_strides)
    if not extents:
        extents, src, dst = [1], [0], [0]
    return Piece(operand, tuple(extents), source.base, tuple(src), dst_base, tuple(dst))


def indexed_pieces(
    operand: int, source: Strided, axes: Sequence[list[Run]], dst_base: int, dst_strides: Sequence[int]
) -> Iterator[Piece]:
    """The copy of source[index_0, index_1, ...], each axis given by its runs, one piece for each combination of runs.

    `dst_strides` are those of the result, one an axis.
    """
    for combination in product(*axes):
        extents: list[int] = []
        src_strides: list[int] = []
        dst: list[int] = []
        src_base, base = source.base, dst_base
        for run, s, d in zip(combination, source.strides, dst_strides, strict=True):
            src_base += run.first * s
            base += run.at * d
            extents += run.extents
            src_strides += (step * s for step in run.steps)
            dst += (place * d for place in run.places)
        view = Strided(source.root, src_base, tuple(extents), tuple(src_strides))
        yield piece(operand, view, base, dst)
