"""AXIS_MAP as graph nodes: resizing by a matrix with few entries a row."""

from __future__ import annotations

from math import prod

import numpy as np

from mgc.sim.fast import layout
from mgc.sim.fast.graph import GraphBuilder, NotLoweredError
from mgc.sim.fast.steps import FLOAT, Call, finite, logical
from mgc.sim.fast.values import Element, Frame, GraphValue, Rows

_MOST_TERMS = 16
"""Entries of a matrix row at most: each costs a gather, a product and a sum."""


def axis_map(g: GraphBuilder, call: Call) -> GraphValue:
    """The ISA's own order: float64 products of the nonzero entries, summed from the lowest column up, rounded once.

    Term t takes the t-th nonzero entry of every row. A row that has fewer adds a zero instead: sums start from +0 and
    so are never -0, which makes that the identity.
    """
    x, matrix = call.args
    axis = int(call.attributes[0])
    types = logical(x), logical(matrix)
    if not isinstance(x, GraphValue) or not isinstance(matrix, np.ndarray) or types != (FLOAT, FLOAT):
        raise NotLoweredError("axis_map with a computed matrix, or of another type than float32")
    used = matrix != 0
    terms = int(used.sum(axis=1).max(initial=0))
    if not 0 < terms <= _MOST_TERMS or axis < 2:
        raise NotLoweredError(f"axis_map along axis {axis} with {terms} entries a row")
    frame, target = Frame.channels_first(x.shape), Frame.channels_first(call.result.shape)
    if frame is None or target is None:
        raise NotLoweredError("axis_map of an empty tensor")
    order = np.argsort(~used, axis=1, kind="stable")[:, :terms]  # of each row: the columns of its nonzero entries first
    present = np.take_along_axis(used, order, axis=1)
    weights = np.where(present, np.take_along_axis(matrix, order, axis=1), 0).astype(np.float64)
    rows = layout.rows_of(g, x, frame)
    # result position -> (what lies before the axis, the axis, what lies after it)
    before, after = prod(x.shape[2:axis]), prod(x.shape[axis + 1 :])
    extent, count = matrix.shape[1], matrix.shape[0]
    total = g.constant(np.float64(0))
    for t in range(terms):
        line = np.where(present[:, t], order[:, t], -1)
        at = (np.arange(before)[:, None, None] * extent + line[None, :, None]) * after + np.arange(after)
        at = np.where(line[None, :, None] < 0, -1, at)
        weight = np.broadcast_to(weights[None, :, t, None], (before, count, after)).reshape(1, -1, 1)
        term = g.cast(layout.take(g, rows, at, x.element), np.float64)
        total = g.node("Add", total, g.node("Mul", term, g.constant(weight)))
    g.note(2 * prod(call.result.shape))
    found = Rows.whole(target, g.cast(total, FLOAT))
    limit = finite(x.limit * float(np.abs(weights).sum(axis=1).max()))
    return GraphValue(call.result.shape, FLOAT, Element(FLOAT), rows=found, limit=limit, batched=x.batched)
