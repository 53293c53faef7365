"""How a batch flows through ops: where its samples stand in a value, as it is reshaped, broadcast and moved."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import NamedTuple

from mgc.functions.windows import Layout

Axis = int | None
"""The axis along which a value is cut into equal parts of the batch, part after part; None: it is whole, as a weight
is, or a mean over the batch.
"""


class Flow(NamedTuple):
    """What becomes of the parts. `streamed`: the op takes them one by one. Then a result with an axis is there part by
    part, one without is complete after the last part (a sum over the batch). Else all happens at once.
    """

    streamed: bool
    axes: tuple[Axis, ...]


def reshaped(axis: Axis, old: Sequence[int], new: Sequence[int], split: int) -> Axis:
    """The axis after a reshape that keeps the order of elements: the one whose parts are the same elements."""
    if axis is None:
        return None
    before, part = prod(old[:axis]), prod(old[axis:]) // split
    for a, size in enumerate(new):
        if size % split == 0 and size and prod(new[:a]) == before and prod(new[a:]) // split == part:
            return a
    return None


def broadcast(shapes: Sequence[tuple[int, ...]], axes: Sequence[Axis], result: tuple[int, ...], split: int) -> Axis:
    """The axis of an element-wise result: where all operands that have one agree, aligned from the right."""
    at = {a - len(shape) for shape, a in zip(shapes, axes, strict=True) if a is not None}
    if len(at) != 1:
        return None
    axis = len(result) + at.pop()
    if axis < 0 or result[axis] % split:
        return None
    same = all(shape[a] == result[axis] for shape, a in zip(shapes, axes, strict=True) if a is not None)
    return axis if same else None


def leading(shape: Sequence[int], split: int) -> Axis:
    """The first axis that is not 1, if it divides into parts; then a part is one run of elements."""
    for axis, size in enumerate(shape):
        if size != 1:
            return axis if size and size % split == 0 else None
    return None


def part_size(axis: Axis, shape: Sequence[int], split: int) -> int:
    """Elements of a part where the parts follow one another in memory; 0 where they do not, or there are none."""
    return prod(shape) // split if axis is not None and prod(shape[:axis]) == 1 else 0


def by_samples(layout: Layout, part: int, split: int) -> bool:
    """Whether axis 0 of a layout, cut into equal parts, takes each from its own run of `part` elements."""
    samples = layout.shape[0]
    if samples % split or layout.strides[0] * (samples // split) != part:
        return False
    reach = sum((n - 1) * s for n, s in zip(layout.shape[1:], layout.strides[1:], strict=True))
    return reach < layout.strides[0]
