"""Between the forms of a value: dense tensors, and rows of channels.

Nothing here computes: every conversion is a permutation, a copy or a type change of whole numbers, hence exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mgc.sim.fast.graph import GraphBuilder
from mgc.sim.fast.values import Element, Frame, GraphValue, Part, Rows


def leading(shape: Sequence[int]) -> list[int]:
    """The shape of k micro-batches for Reshape: axis 0 is free."""
    return [-1, *shape[1:]] if shape else []


def dense(g: GraphBuilder, value: GraphValue) -> str:
    """The tensor [k * shape[0], *shape[1:]] of a value, elements as `value.element` says."""
    if value.dense is not None:
        return value.dense
    rows = value.rows
    assert rows is not None
    frame = rows.frame
    positions = take(g, rows, np.arange(frame.positions), value.element)
    extents, order = frame.axes()
    if order != sorted(order):
        spread = g.reshape(positions, [-1, *(extents[k] for k in order)])
        positions = g.node("Transpose", spread, perm=[0, *(1 + order.index(k) for k in range(len(order)))])
    return g.reshape(positions, leading(value.shape))


def plain(g: GraphBuilder, value: GraphValue) -> str:
    """`dense` in the value's own element type, as the reference would hold it."""
    tensor, element = dense(g, value), value.element
    if element.bias:
        tensor = g.node("Sub", g.cast(tensor, np.int32), g.constant(np.int32(element.bias)))
    if element.bias or element.dtype != value.logical:
        tensor = g.cast(tensor, value.logical)
    return tensor


def viewed(g: GraphBuilder, value: GraphValue, shape: tuple[int, ...]) -> GraphValue:
    """The same memory under another shape."""
    if shape == value.shape:
        return value
    tensor = g.reshape(value.dense, leading(shape)) if value.dense is not None else None
    return replace(value, shape=shape, dense=tensor)


def rows_of(g: GraphBuilder, value: GraphValue, frame: Frame) -> Rows:
    """The rows of a value in a frame of its memory."""
    if value.rows is not None and value.rows.frame == frame:
        return value.rows
    tensor = dense(g, value)
    extents, order = frame.axes()
    if order != sorted(order):
        tensor = g.node("Transpose", g.reshape(tensor, [-1, *extents]), perm=[0, *(1 + k for k in order)])
    return Rows.whole(frame, g.reshape(tensor, [-1, frame.positions, frame.channels]))


def unfolded(g: GraphBuilder, part: Part, channels: int) -> str:
    """A part as [n, rows, channels]."""
    return part.tensor if part.fold == 1 else g.reshape(part.tensor, [-1, part.rows, channels])


def folded(g: GraphBuilder, part: Part, channels: int, fold: int) -> Part:
    """A part with another fold."""
    if part.fold == fold:
        return part
    return Part(g.reshape(part.tensor, [-1, part.rows // fold, fold * channels]), part.rows, fold)


def constant_row(g: GraphBuilder, like: str, channels: int, element: Element, number: float = 0) -> str:
    """One row of a number for every sample of the tensor `like` [n, ...]: [n, 1, channels]."""
    row = g.constant(element.stored(np.full((1, 1, channels), number)))
    count = g.node("Shape", like, start=0, end=1)
    return g.node("Expand", row, g.node("Concat", count, g.constant([1, channels]), axis=0))


def merged(g: GraphBuilder, rows: Rows, element: Element, fill: float | None = None) -> str:
    """All rows in one tensor [n, total (+ 1), channels]; with `fill`, a row of that number at the end."""
    channels = rows.frame.channels
    tensors = [unfolded(g, p, channels) for p in rows.parts]
    if fill is not None and len(tensors) == 1:
        row = g.constant(element.stored(np.array(fill)))
        return g.node("Pad", tensors[0], g.constant([0, 0, 0, 0, 1, 0]), row)
    if fill is not None:
        tensors.append(constant_row(g, tensors[0], channels, element, fill))
    return g.concat(tensors, axis=1)


def take(g: GraphBuilder, rows: Rows, positions: np.ndarray, element: Element, fill: float = 0) -> str:
    """The rows at `positions` (-1: the number `fill`), flattened: [n, positions.size, channels]."""
    tensor, at, total = located(g, rows, positions.reshape(-1), element, fill)
    if len(at) == total and bool((at == np.arange(total)).all()):
        return tensor
    return g.node("Gather", tensor, g.constant(at.astype(np.int32)), axis=1)


def located(
    g: GraphBuilder, rows: Rows, positions: np.ndarray, element: Element, fill: float = 0
) -> tuple[str, np.ndarray, int]:
    """One tensor [n, total, channels] with the rows at `positions` (-1: the number `fill`), the row of each, total."""
    if fill or np.signbit(fill):
        rows = without_holes(g, rows, element)  # holes are zeros
    at = np.where(positions < 0, -1, rows.index[positions])
    outside = bool((at < 0).any())
    if not outside and len(rows.parts) > 1:
        rows, at = _narrowed(rows, at)
    tensor = merged(g, rows, element, fill if outside else None)
    return tensor, np.where(at < 0, rows.total, at), rows.total + outside


def _narrowed(rows: Rows, at: np.ndarray) -> tuple[Rows, np.ndarray]:
    """Only the parts that row numbers `at` use, and their numbers there."""
    start, parts, shift = 0, [], np.zeros(rows.total, np.int64)
    dropped = 0
    for part in rows.parts:
        span = slice(start, start + part.rows)
        start += part.rows
        if bool(((at >= span.start) & (at < span.stop)).any()):
            parts.append(part)
            shift[span] = dropped
        else:
            dropped += part.rows
    return replace(rows, parts=tuple(parts)), at - shift[at]


def without_holes(g: GraphBuilder, rows: Rows, element: Element) -> Rows:
    """The same value with a row, of zeros, for positions that had none."""
    if not rows.has_holes:
        return rows
    channels = rows.frame.channels
    zero = constant_row(g, rows.parts[0].tensor, channels, element)
    index = np.where(rows.index < 0, rows.total, rows.index)
    return Rows(rows.frame, (*rows.parts, Part(zero, 1)), index)


def in_order(g: GraphBuilder, rows: Rows, element: Element) -> Rows:
    """The same value in one part whose row k is position k."""
    if rows.in_order and len(rows.parts) == 1:
        return rows
    return Rows.whole(rows.frame, take(g, rows, np.arange(rows.frame.positions), element))
