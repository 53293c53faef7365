"""Where the samples of a batch stand in a value, as it is reshaped, broadcast and moved."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import prod

from mgc.ir.mapped import Copy, Layout

Axis = int | None
"""The axis along which a value is cut into equal parts of the batch, part after part; None: it is whole, as a weight
is, or a mean over the batch.
"""

MOST_BOXES = 4096
"""Steps of a copy's address generator that are looked at one by one."""


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


def copied(op: Copy, operands: Sequence[int], result: int, split: int) -> bool:
    """Whether a copy takes each part of its result from the same part of its operands.

    `operands` and `result` are the sizes of a part, 0 for an operand that is whole.
    """
    for piece in op.pieces:
        part = operands[piece.operand]
        carries = [
            j
            for j, n in enumerate(piece.extents)
            if n > 1 and (abs(piece.src_strides[j]) * n > part > 0 or abs(piece.dst_strides[j]) * n > result)
        ]
        if prod(piece.extents[j] for j in carries) > MOST_BOXES:
            return False
        rest = [j for j in range(len(piece.extents)) if j not in carries]
        for index in product(*(range(piece.extents[j]) for j in carries)):
            spans = []
            for size, base, strides in (
                (part, piece.src_base, piece.src_strides),
                (result, piece.dst_base, piece.dst_strides),
            ):
                if not size:
                    continue
                low = base + sum(i * strides[j] for i, j in zip(index, carries, strict=True))
                steps = [(piece.extents[j] - 1) * strides[j] for j in rest]
                spans.append(
                    ((low + sum(s for s in steps if s < 0)) // size, (low + sum(s for s in steps if s > 0)) // size)
                )
            if len({place for span in spans for place in span}) > 1:
                return False
    return True
