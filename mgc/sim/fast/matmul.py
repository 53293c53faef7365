"""MATMUL of float32 as graph nodes: one product in float64, which is exact in whatever order a kernel adds.

See `mgc.functions.products.aligned`. How finite numbers of a row are rounded does not matter where another one is not:
all sums of that row then are infinite or NaN, whatever the order.
"""

from __future__ import annotations

import math
from math import prod

import numpy as np

from mgc.functions.products import aligned, shift
from mgc.sim.fast.elementwise import Operand
from mgc.sim.fast.graph import GraphBuilder, NotLoweredError
from mgc.sim.fast.layout import dense
from mgc.sim.fast.scaling import check_step
from mgc.sim.fast.steps import FLOAT, Call, finite, limit, logical
from mgc.sim.fast.values import Element, GraphValue

_F64 = np.dtype(np.float64)


def matmul(g: GraphBuilder, call: Call) -> GraphValue:
    """The product of two matrices, or stacks of them. In `float` numerics in float32."""
    if any(logical(o) != FLOAT for o in call.args):
        raise NotLoweredError("matmul of other types than float32")
    if min(len(o.shape) for o in call.args) < 2:
        raise NotLoweredError("matmul of a vector")
    a, b = call.args
    batched = check_step("matmul", call.args, (), call.result.shape)
    depth = a.shape[-1]
    if call.ideal:
        tensors = [dense(g, o) if isinstance(o, GraphValue) else g.constant(o) for o in (a, b)]
        found = g.node("MatMul", *tensors)
    else:
        g.note(prod(call.result.shape))
        wide = g.node("MatMul", _aligned(g, a, (-1,), depth), _aligned(g, b, (-2, -1), depth))
        found = g.positive_zero(g.cast(wide, FLOAT))
    bound = finite(depth * limit(a) * limit(b) * (1 + 1e-6))
    return GraphValue(call.result.shape, FLOAT, Element(FLOAT), dense=found, limit=bound, batched=batched)


def _aligned(g: GraphBuilder, operand: Operand, axes: tuple[int, ...], depth: int) -> str:
    """float64, rounded along the last axes."""
    if isinstance(operand, np.ndarray):
        return g.constant(aligned(operand, axes, depth))
    x = dense(g, operand)
    sizes, zero = g.node("Abs", x), g.constant(np.float32(0))
    unknown = not math.isfinite(limit(operand))
    if unknown and len(axes) > 1:
        sizes = g.node("Where", g.node("Equal", g.node("Sub", sizes, sizes), zero), sizes, zero)
    # a reduction over a last axis is the fastest
    flat = g.reshape(sizes, [-1, prod(operand.shape[a] for a in axes)])
    c = g.cast(g.node("ReduceMax", flat, g.constant([1]), keepdims=0), _F64)
    c = g.node("Mul", c, g.constant(np.float64(2.0 ** shift(depth))))
    if unknown:
        nought = g.cast(zero, _F64)
        c = g.node("Where", g.node("Equal", g.node("Sub", c, c), nought), c, nought)
    stack = operand.shape[: len(operand.shape) - len(axes)]
    c = g.reshape(c, [*([-1, *stack[1:]] if stack else ()), *(1 for _ in axes)])
    return g.node("Sub", g.node("Add", g.cast(x, _F64), c), c)
