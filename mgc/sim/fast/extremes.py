"""Maxima and minima as graph nodes.

They are exact for finite numbers only: kernels may pass over a NaN. So each brings a guard along, the sum of the
magnitudes, which is finite unless some number is not (or the sum overflows). Where a guard is not finite, what the plan
computes is not used (`mgc.sim.fast.engine`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mgc.sim.fast import layout
from mgc.sim.fast.graph import GraphBuilder, NotLoweredError
from mgc.sim.fast.steps import FLOAT, Call, logical
from mgc.sim.fast.values import Element, GraphValue, Rows


def _without_others(g: GraphBuilder, rows: Rows, element: Element) -> Rows:
    """The same value without rows that serve no position: a maximum is not to meet them."""
    return rows if len(np.unique(rows.index)) == rows.total else layout.in_order(g, rows, element)


def _with_nans(g: GraphBuilder, found: str, x: str, axes: Sequence[int]) -> str:
    """The extremes of a tensor, NaN where one of the numbers is: times 0 / 0 there, times 1 elsewhere, exactly."""
    marks = g.cast(g.node("IsNaN", x), FLOAT)
    numbers = g.node("Sub", g.constant(FLOAT.type(1)), g.node("ReduceMax", marks, g.constant(axes), keepdims=0))
    return g.node("Mul", found, g.node("Div", numbers, numbers))


def extreme(g: GraphBuilder, call: Call) -> GraphValue:
    """The greatest or the smallest number over axes: exact where a guard holds, and without one where NaNs are looked
    for.

    In a plan with guards of `float` numerics numbers are finite if anything is right.
    """
    (x,) = call.args
    axes = [int(a) for a in call.attributes[1:]]
    if not isinstance(x, GraphValue) or not axes or x.element != Element(FLOAT) or (x.batched and 0 in axes):
        raise NotLoweredError(f"{call.name} over the batch axis, of a constant, over nothing, or of {logical(x)}")
    unknown = not call.guarded and not math.isfinite(x.limit)
    op, guarded, rows = call.name.title().replace("_", ""), call.guarded and not call.ideal, x.rows
    if rows is None or not guarded or len(axes) < len(x.shape):
        tensor = layout.dense(g, x)
        found = g.node(op, tensor, g.constant(axes), keepdims=0)
        found = _with_nans(g, found, tensor, axes) if unknown else found
        tensors = [tensor]
    else:
        rows = _without_others(g, layout.without_holes(g, rows, x.element), x.element)
        tensors = [p.tensor for p in rows.parts]
        most = [g.reshape(g.node(op, t, g.constant([0, 1, 2]), keepdims=0), [1]) for t in tensors]
        found = most[0] if len(most) == 1 else g.node(op.removeprefix("Reduce"), *most)
    for tensor in tensors if guarded else ():
        g.guard(tensor)
    found = g.reshape(g.positive_zero(found), layout.leading(call.result.shape))
    return replace(x, shape=call.result.shape, dense=found, rows=None)


def run_max(g: GraphBuilder, call: Call) -> GraphValue:
    """The greatest number of each run of samples, given to every sample: exact where the guard with it holds.

    In `float` numerics there is no guard: no code has a scale then, but it may be asked for.
    """
    (x,) = call.args
    if not call.guarded and not call.ideal:
        raise NotLoweredError("run_max of values that may be NaN")
    if not isinstance(x, GraphValue) or x.element != Element(FLOAT):
        raise NotLoweredError(f"run_max of a constant, or of {logical(x)}")
    length = x.shape[0] // int(call.attributes[0])
    rows = x.rows
    if rows is not None and rows.frame.batch == x.shape[0]:
        rows = _without_others(g, layout.without_holes(g, rows, x.element), x.element)
        tensors = [(p.tensor, p.rows * rows.frame.channels) for p in rows.parts]
    else:
        tensors = [(layout.dense(g, x), math.prod(x.shape[1:]))]
    most: list[str] = []
    for tensor, size in tensors:
        if not call.ideal:
            g.guard(tensor)
        runs = g.reshape(tensor, [-1, length * size])
        most.append(g.node("ReduceMax", runs, g.constant([1]), keepdims=1))
    found = g.positive_zero(most[0] if len(most) == 1 else g.node("Max", *most))
    if length > 1:
        count = g.node("Shape", found, start=0, end=1)
        found = g.node("Expand", found, g.node("Concat", count, g.constant([length]), axis=0))
    found = g.reshape(found, layout.leading(call.result.shape))
    return GraphValue(call.result.shape, FLOAT, Element(FLOAT), dense=found, least=x.least, batched=x.batched)
