"""Codes whose scale is computed on the chip, as graph nodes: QUANT_BY, QUANT_DITHERED, DEQUANT_BY, and maxima.

A maximum is exact for finite numbers only: kernels may pass over a NaN. So each brings a guard along, the sum of the
magnitudes, which is finite unless some number is not (or the sum overflows). Where a guard is not finite, what the plan
computes is not used (`mgc.sim.fast.engine`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mgc.isa.dtypes import dtype_of_code
from mgc.sim.fast import elementwise, layout
from mgc.sim.fast.graph import GraphBuilder
from mgc.sim.fast.quantisation import quantises_exactly
from mgc.sim.fast.refusal import NotLoweredError
from mgc.sim.fast.steps import FLOAT, Call, logical
from mgc.sim.fast.values import Element, GraphValue, Rows


def quant_by(g: GraphBuilder, call: Call) -> GraphValue:
    """clip(round(x / scale), lo, hi) in float32, NaN as 0; one scale for all of x, or one a sample."""
    return _quant_by(g, call, sure=False)


def guarded_quant_by(g: GraphBuilder, call: Call) -> GraphValue:
    """The same with a guard that scales are normal numbers: no quotient of two numbers is NaN then."""
    scale, sure = call.args[1], False
    if isinstance(scale, GraphValue) and scale.element == Element(FLOAT):
        s = g.reshape(layout.dense(g, scale), [-1])
        both = g.node("Add", g.node("Abs", s), g.node("Abs", g.node("Reciprocal", s)))
        g.require(g.node("ReduceSum", both, g.constant([0]), keepdims=1))
        sure = True
    elif isinstance(scale, np.ndarray):
        sure = bool((scale >= np.finfo(np.float32).tiny).all() and np.isfinite(scale).all())
    return _quant_by(g, call, sure=sure)


def _quant_by(g: GraphBuilder, call: Call, sure: bool) -> GraphValue:
    """`quant_by` and `quant_dithered`; `sure`: x / scale is NaN only where x is."""
    x, scale = call.args[:2]
    if logical(x) != FLOAT or logical(scale) != FLOAT:
        raise NotLoweredError(f"{call.name} of {logical(x)} by {logical(scale)}")
    lo, hi, code = call.attributes
    dtype = dtype_of_code(code)
    element = Element(np.dtype(np.uint8), 128 if dtype.kind == "i" else 0) if dtype.itemsize == 1 else Element(dtype)
    one = math.prod(scale.shape) == 1 and not (isinstance(scale, GraphValue) and scale.batched)
    by_sample = len(scale.shape) == len(x.shape) > 0 and math.prod(scale.shape) == scale.shape[0]
    # QuantizeLinear makes NaN the tensor's 0
    direct = dtype.itemsize == 1 and (one or by_sample) and quantises_exactly() and (sure or element.bias == 0)

    def emit(tensors: Sequence[str], _: list[int]) -> str:
        t, s, *dither = tensors
        number = t in g.finite and all(isinstance(d, np.ndarray) and np.isfinite(d).all() for d in call.args[2:])
        for d in dither:
            t = g.node("Add", t, g.node("Mul", d, s))
        if not (direct and element.bias == 0) and not number:
            t = g.node("Where", g.node("IsNaN", t), g.constant(np.float32(0)), t)
        if direct:
            if one:
                t = g.node("QuantizeLinear", t, g.reshape(s, []), g.constant(np.uint8(element.bias)))
            else:
                s = g.reshape(s, [-1])
                zero = g.node("Expand", g.constant(np.full(1, element.bias, np.uint8)), g.node("Shape", s))
                t = g.node("QuantizeLinear", t, s, zero, axis=0)
            least, most = int(lo) + element.bias, int(hi) + element.bias
            if (least, most) != (0, 255):
                t = g.node("Clip", t, g.constant(np.uint8(least)), g.constant(np.uint8(most)))
            return t
        whole = g.node("Round", g.node("Div", t, s))
        whole = g.node("Where", g.node("IsNaN", whole), g.constant(np.float32(0)), whole)
        whole = g.node("Clip", whole, g.constant(np.float32(lo)), g.constant(np.float32(hi)))
        if element.bias:
            whole = g.node("Add", whole, g.constant(np.float32(element.bias)))
        return g.cast(whole, element.dtype)

    value = elementwise.apply(g, call.args, call.result.shape, dtype, element, emit)
    return replace(value, limit=float(max(abs(lo), abs(hi))), span=(int(lo), int(hi)))


def dequant_by(g: GraphBuilder, call: Call) -> GraphValue:
    """float32(acc * ((scale1 * scale2) * factor)), products in float64: the same operations in the same order."""
    acc, *scales = call.args
    (factor,) = call.attributes
    if not isinstance(acc, GraphValue) or any(logical(s) != FLOAT for s in scales):
        raise NotLoweredError(f"dequant_by of {logical(acc)}")

    def emit(tensors: Sequence[str], _: list[int]) -> str:
        y, *by = tensors
        if acc.element.dtype != np.float64:
            y = g.cast(y, np.float64)
        first, second = (g.cast(t, np.float64) for t in by)
        scale = g.node("Mul", g.node("Mul", first, second), g.constant(np.float64(factor)))
        return g.cast(g.node("Mul", y, scale), FLOAT)

    return _in_order(g, elementwise.apply(g, call.args, call.result.shape, FLOAT, Element(FLOAT), emit))


def _in_order(g: GraphBuilder, value: GraphValue) -> GraphValue:
    """The value with its rows in order: where it goes it meets others, masks and normalised values among them."""
    if value.rows is None:
        return value
    return replace(value, rows=layout.in_order(g, layout.without_holes(g, value.rows, value.element), value.element))


def _without_others(g: GraphBuilder, rows: Rows, element: Element) -> Rows:
    """The same value without rows that serve no position: a maximum is not to meet them."""
    return rows if len(np.unique(rows.index)) == rows.total else layout.in_order(g, rows, element)


def guarded_extreme(g: GraphBuilder, call: Call) -> GraphValue:
    """The greatest or the smallest number over axes: exact where the guard that comes with it holds."""
    (x,) = call.args
    keepdims, *axes = (int(a) for a in call.attributes)
    if not isinstance(x, GraphValue) or not axes or x.element != Element(FLOAT) or (x.batched and 0 in axes):
        raise NotLoweredError(f"{call.name} over the batch axis, of a constant, over nothing, or of {logical(x)}")
    op = "ReduceMax" if call.name == "reduce_max" else "ReduceMin"
    rows = x.rows
    if rows is not None and len(axes) == len(x.shape):
        if rows.has_holes:
            rows = layout.without_holes(g, rows, x.element)
        rows = _without_others(g, rows, x.element)
        tensors = [p.tensor for p in rows.parts]
        every = list(range(3))
    else:
        tensors, every = [layout.dense(g, x)], list(range(len(x.shape)))
    for tensor in tensors:
        g.guard(tensor)
    if rows is None or len(axes) < len(x.shape):
        found = g.node(op, layout.dense(g, x), g.constant(axes), keepdims=keepdims)
    else:
        most = [g.reshape(g.node(op, t, g.constant(every), keepdims=0), [1]) for t in tensors]
        found = most[0] if len(most) == 1 else g.node("Max" if op == "ReduceMax" else "Min", *most)
        found = g.reshape(found, [1] * len(call.result.shape))
    return GraphValue(call.result.shape, FLOAT, Element(FLOAT), dense=found, least=x.least, batched=x.batched)


def run_max(g: GraphBuilder, call: Call) -> GraphValue:
    """The greatest number of each run of samples, given to every sample: exact where the guard with it holds."""
    return _run_max(g, call, guarded=True)


def ideal_run_max(g: GraphBuilder, call: Call) -> GraphValue:
    """The same of numbers that are finite if anything is right. No code has a scale then, but it may be asked for."""
    return _run_max(g, call, guarded=False)


def _run_max(g: GraphBuilder, call: Call, guarded: bool) -> GraphValue:
    (x,) = call.args
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
        if guarded:
            g.guard(tensor)
        runs = g.reshape(tensor, [-1, length * size])
        most.append(g.node("ReduceMax", runs, g.constant([1]), keepdims=1))
    found = most[0] if len(most) == 1 else g.node("Max", *most)
    if length > 1:
        count = g.node("Shape", found, start=0, end=1)
        found = g.node("Expand", found, g.node("Concat", count, g.constant([length]), axis=0))
    found = g.reshape(found, layout.leading(call.result.shape))
    return GraphValue(call.result.shape, FLOAT, Element(FLOAT), dense=found, least=x.least, batched=x.batched)


def ideal_extreme(g: GraphBuilder, call: Call) -> GraphValue:
    """The greatest or the smallest number over axes, of numbers that are finite if anything is right."""
    (x,) = call.args
    keepdims, *axes = (int(a) for a in call.attributes)
    if not isinstance(x, GraphValue) or not axes or x.logical != FLOAT or (x.batched and 0 in axes):
        raise NotLoweredError(f"{call.name} over the batch axis, of a constant, over nothing, or of {logical(x)}")
    op = "ReduceMax" if call.name == "reduce_max" else "ReduceMin"
    found = g.node(op, layout.dense(g, x), g.constant(axes), keepdims=keepdims)
    return GraphValue(call.result.shape, FLOAT, Element(FLOAT), dense=found, batched=x.batched)


def ideal_quant_by(g: GraphBuilder, call: Call) -> GraphValue:
    """x itself."""
    x = call.args[0]
    if not isinstance(x, GraphValue):
        raise NotLoweredError(f"{call.name} of a constant")
    return x


def ideal_dequant_by(g: GraphBuilder, call: Call) -> GraphValue:
    """acc itself, which is float32 in `float` numerics."""
    acc = call.args[0]
    if not isinstance(acc, GraphValue) or acc.logical != FLOAT:
        raise NotLoweredError(f"dequant_by of {logical(acc)}")
    return _in_order(g, acc)
