"""WHERE as graph nodes, large choices without ONNX Runtime's Where (`mgc.sim.fast.steps.choose`).

- where(c, x, x * a) with 0 <= a <= 1 is x * max(c, a), c as 0 or 1: the same products, and x * 1 = x.
- Extremes choose between numbers that are known to be finite; a guard makes x so beside a finite constant.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from math import prod

import numpy as np

from mgc.sim.fast import layout
from mgc.sim.fast.elementwise import Operand
from mgc.sim.fast.graph import GraphBuilder, NotLoweredError
from mgc.sim.fast.steps import BOOL, FLOAT, Call, choose, limit, logical, pointwise
from mgc.sim.fast.values import GraphValue

_LARGE = 1 << 12
"""Elements from which on a choice avoids Where."""


def where(g: GraphBuilder, call: Call) -> GraphValue:
    """One of two float32 operands for each element."""
    if logical(call.args[0]) != BOOL or any(logical(a) != FLOAT for a in call.args[1:]):
        raise NotLoweredError(f"where of {', '.join(str(logical(a)) for a in call.args)}")
    bound = max(map(limit, call.args[1:]))
    condition, x, y = call.args
    bounded = False
    if isinstance(condition, GraphValue) and prod(call.result.shape) >= _LARGE:
        bounded = math.isfinite(bound)
        if call.guarded and isinstance(x, GraphValue) and isinstance(y, GraphValue):
            return pointwise(g, call, lambda t, _: _scaled(g, t) or choose(g, *t, bounded=bounded), bound)
        chosen, constant = (x, y) if isinstance(x, GraphValue) else (y, x)
        if call.guarded and isinstance(chosen, GraphValue) and _is_finite_scalar(constant):
            bounded = True
            _guard(g, chosen)
    signed = not isinstance(x, np.ndarray) or bool((np.signbit(x) & (x == 0)).any())
    return pointwise(g, call, lambda t, _: choose(g, *t, bounded=bounded, signed=signed), bound)


def _is_finite_scalar(constant: Operand) -> bool:
    return isinstance(constant, np.ndarray) and constant.size == 1 and bool(np.isfinite(constant).all())


def _scaled(g: GraphBuilder, tensors: Sequence[str]) -> str | None:
    """The first form, if y is x times a constant in 0..1."""
    condition, x, y = tensors
    factor = g.factor(y, x)
    if factor is None or not 0 <= factor <= 1 or np.signbit(factor):  # Max may take either of two zeros
        return None
    return g.node("Mul", x, g.node("Max", g.cast(condition, FLOAT), g.constant(np.float32(factor))))


def _guard(g: GraphBuilder, value: GraphValue) -> None:
    if value.limit < np.inf:
        return
    tensors = [p.tensor for p in value.rows.parts] if value.rows is not None else [layout.dense(g, value)]
    for tensor in tensors:
        g.guard(tensor)
