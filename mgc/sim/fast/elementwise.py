"""Element-wise work on values, in whatever form they lie.

Element-wise operations do not care where an element lies, as long as all operands' elements meet: rows stay rows, in
parts, and are combined part by part. Positions that share a row share the result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import numpy as np

from mgc.sim.fast import layout
from mgc.sim.fast.graph import GraphBuilder
from mgc.sim.fast.scaling import check_scaling
from mgc.sim.fast.values import Element, GraphValue, Part, Rows

Operand = GraphValue | np.ndarray
"""A value, or a constant."""

_MANY = 64
"""Numbers from which on it is worth a node to walk them in a row."""

Emit = Callable[[Sequence[str], list[int]], str]
"""Makes the nodes for aligned operand tensors, given the result's shape (with one -1), and names the result."""


class _MisalignedError(Exception):
    """The operands do not meet row by row."""


def apply(
    g: GraphBuilder,
    operands: Sequence[Operand],
    shape: tuple[int, ...],
    logical: np.dtype,
    element: Element,
    emit: Emit,
) -> GraphValue:
    """The element-wise result of `emit` over operands that broadcast to `shape`; its elements are `element`.

    Operands are aligned in rows if one of full shape has them, else as dense tensors. Raises NotLoweredError.
    """
    batched = check_scaling(operands, shape)
    lead = next((o for o in operands if isinstance(o, GraphValue) and o.shape == shape and o.rows is not None), None)
    if lead is not None and 0 not in shape:
        try:
            rows = _over_rows(g, operands, shape, lead, batched, emit)
            return GraphValue(shape, logical, element, rows=rows, batched=batched)
        except _MisalignedError:
            pass
    tensors = [g.constant(o) if isinstance(o, np.ndarray) else layout.dense(g, o) for o in operands]
    if _walks_single(operands, shape, batched):
        flat = [
            g.constant(o.reshape(())) if isinstance(o, np.ndarray) else g.reshape(t, [-1])
            for o, t in zip(operands, tensors, strict=True)
        ]
        made = g.reshape(emit(flat, [-1]), layout.leading(shape))
    else:
        made = emit(tensors, layout.leading(shape))
    return GraphValue(shape, logical, element, dense=made, batched=batched)


def _walks_single(operands: Sequence[Operand], shape: tuple[int, ...], batched: bool) -> bool:
    """Whether kernels would take the numbers one by one: they do where a scalar meets a last axis of one number."""
    if len(shape) < 2 or shape[-1] != 1 or prod(shape) < _MANY:
        return False
    scalars = [o.size == 1 for o in operands if isinstance(o, np.ndarray)]
    whole = all(o.shape == shape and o.batched == batched for o in operands if isinstance(o, GraphValue))
    return bool(scalars) and all(scalars) and whole


def _over_rows(
    g: GraphBuilder, operands: Sequence[Operand], shape: tuple[int, ...], lead: GraphValue, batched: bool, emit: Emit
) -> Rows:
    """The result in rows like the lead's."""
    assert lead.rows is not None
    rows = layout.without_holes(g, lead.rows, lead.element)
    lanes: list[_Lane] = []
    for attempt in range(2):
        try:
            lanes = [_lane(g, o, shape, rows, batched) for o in operands]
            break
        except _MisalignedError:
            if attempt or rows.in_order:
                raise
            rows = layout.in_order(g, rows, lead.element)
    parts: list[Part] = []
    start = 0
    for k, part in enumerate(rows.parts):
        span = slice(start, start + part.rows)
        tensors = [lane(k, span, part) for lane in lanes]
        made = emit(tensors, [-1, part.rows // part.fold, part.fold * rows.frame.channels])
        parts.append(Part(made, part.rows, part.fold))
        start = span.stop
    return Rows(rows.frame, tuple(parts), rows.index)


_Lane = Callable[[int, slice, Part], str]
"""One operand, ready to be cut into parts: a tensor's name by (part number, its rows, the part)."""


def _lane(g: GraphBuilder, operand: Operand, shape: tuple[int, ...], rows: Rows, batched: bool) -> _Lane:
    if isinstance(operand, np.ndarray):
        return _constant_lane(g, operand, shape, rows)
    if operand.shape != shape or operand.batched != batched:
        return _broadcast_lane(g, operand, shape, rows)
    own = _matching(g, operand, rows)
    channels = rows.frame.channels
    return lambda k, span, part: layout.folded(g, own.parts[k], channels, part.fold).tensor


def _matching(g: GraphBuilder, operand: GraphValue, rows: Rows) -> Rows:
    """The operand's rows, in the same parts and order as `rows`."""
    own = operand.rows
    if own is not None and own.frame == rows.frame:
        own = layout.without_holes(g, own, operand.element)
        if [p.rows for p in own.parts] == [p.rows for p in rows.parts] and np.array_equal(own.index, rows.index):
            return own
    if not rows.in_order:
        raise _MisalignedError
    whole = layout.in_order(g, layout.rows_of(g, operand, rows.frame), operand.element)
    if len(rows.parts) == 1:
        return whole
    raise _MisalignedError


def _constant_lane(g: GraphBuilder, constant: np.ndarray, shape: tuple[int, ...], rows: Rows) -> _Lane:
    frame = rows.frame
    if constant.size == 1:
        scalar = g.constant(constant.reshape(()))
        return lambda k, span, part: scalar
    if _spans_samples(constant.shape, shape, rows):
        by_sample = g.constant(constant.reshape(-1, 1, 1))
        return lambda k, span, part: by_sample
    if _spans_channels(constant.shape, shape, rows):
        return lambda k, span, part: g.constant(np.tile(constant.reshape(-1), part.fold))
    if frame.batch > 1:
        raise _MisalignedError
    full = frame.view(np.ascontiguousarray(np.broadcast_to(constant, shape)).reshape(-1))[0]  # [positions, channels]
    by_row = np.zeros((rows.total, frame.channels), constant.dtype)
    by_row[rows.index] = full
    if not np.array_equal(by_row[rows.index], full):
        raise _MisalignedError  # positions share a row but not their constant
    return lambda k, span, part: g.constant(by_row[span].reshape(1, part.rows // part.fold, -1))


def _spans_channels(own: tuple[int, ...], shape: tuple[int, ...], rows: Rows) -> bool:
    """Whether something of shape `own`, broadcast to `shape`, varies along all channels and nothing else."""
    padded = (1,) * (len(shape) - len(own)) + own
    wide = [k for k, n in enumerate(padded) if n > 1]
    if len(wide) != 1:
        return False
    (axis,) = wide
    stride = prod(shape[axis + 1 :])
    return shape[axis] == rows.frame.channels and stride == rows.frame.channel_stride


def _spans_samples(own: tuple[int, ...], shape: tuple[int, ...], rows: Rows) -> bool:
    """Whether something of shape `own`, broadcast to `shape`, has one number for each sample of a batch."""
    return len(own) == len(shape) and own[0] == shape[0] == rows.frame.batch and prod(own) == own[0]


def _broadcast_lane(g: GraphBuilder, operand: GraphValue, shape: tuple[int, ...], rows: Rows) -> _Lane:
    """An operand that is broadcast over positions: one number a sample, or one for each of its channels."""
    channels = rows.frame.channels
    if rows.frame.batch > 1 and operand.batched:
        raise _MisalignedError
    if prod(operand.shape) == 1 or _spans_samples(operand.shape, shape, rows):
        single = g.reshape(layout.dense(g, operand), [-1, 1, 1])
        return lambda k, span, part: single
    if not _spans_channels(operand.shape, shape, rows):
        raise _MisalignedError
    tensor = g.reshape(layout.dense(g, operand), [-1, 1, channels])

    def repeated(k: int, span: slice, part: Part) -> str:
        """The channels once for each row that the part's fold puts side by side."""
        if part.fold == 1:
            return tensor
        spread = g.node("Expand", g.reshape(tensor, [-1, 1, 1, channels]), g.constant([1, 1, part.fold, channels]))
        return g.reshape(spread, [-1, 1, part.fold * channels])

    return repeated
