"""Steps in `float` numerics only, which is compared by tolerance: what has no form that rounds as the ISA says."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from mgc.isa.functions import FUNCTIONS
from mgc.sim.fast.graph import GraphBuilder, NotLoweredError
from mgc.sim.fast.layout import dense
from mgc.sim.fast.quantisation import ideal_dequant
from mgc.sim.fast.smooth import SMOOTH
from mgc.sim.fast.steps import FLOAT, Call, Lowering, copy, node
from mgc.sim.fast.values import GraphValue


def _lookup(g: GraphBuilder, call: Call) -> GraphValue:
    """The function itself instead of its table."""
    code, alpha, beta, _, _ = call.attributes
    name = FUNCTIONS[int(code)].name
    if name not in IDEAL and name not in ("sqrt", "reciprocal", "hard_sigmoid", "hard_swish"):
        raise NotLoweredError(f"lookup of {name}")
    from mgc.sim.fast.steps import STEPS

    lower = IDEAL.get(name) or STEPS[name]
    return lower(g, replace(call, name=name, args=call.args[:1], attributes=(alpha, beta)))


def _axis_map(g: GraphBuilder, call: Call) -> GraphValue:
    x, matrix = call.args
    axis = int(call.attributes[0])
    if not isinstance(x, GraphValue) or x.logical != FLOAT or not isinstance(matrix, np.ndarray):
        raise NotLoweredError("axis_map with a computed matrix, or of another type")
    rank = len(x.shape)
    if axis == rank - 2:
        tensor = g.node("MatMul", g.constant(matrix), dense(g, x))
    else:
        order = [*(k for k in range(rank) if k != axis), axis]
        moved = dense(g, x) if axis == rank - 1 else g.node("Transpose", dense(g, x), perm=order)
        tensor = g.node("MatMul", moved, g.constant(np.ascontiguousarray(matrix.T)))
        if axis != rank - 1:
            tensor = g.node("Transpose", tensor, perm=[order.index(k) for k in range(rank)])
    return replace(x, shape=call.result.shape, dense=tensor, rows=None, limit=math.inf, least=-math.inf)


IDEAL: Mapping[str, Lowering] = {
    **SMOOTH,
    "pow": node("Pow"),
    "quant": copy,
    "quant_by": copy,
    "quant_dithered": copy,
    "dequant": ideal_dequant,
    "lookup": _lookup,
    "axis_map": _axis_map,
}
"""Functions whose graph form differs from, or only exists in, `float` numerics."""
