"""WHERE as graph nodes. ONNX Runtime's Where is a hundred times slower than arithmetic, so large choices avoid it.

- where(c, x, x * a) with 0 <= a <= 1 is x * max(c, a), c as 0 or 1: the same products, and x * 1 = x.
- where(c, x, y) with a finite constant y is max(min(x, m), min(y, -m)), m = inf where c holds and -inf elsewhere: exact
  but for a NaN in x that is not chosen. So a guard comes with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from mgc.sim.fast import layout
from mgc.sim.fast.graph import GraphBuilder, NotLoweredError
from mgc.sim.fast.steps import BOOL, FLOAT, Call, limit, logical, pointwise
from mgc.sim.fast.values import GraphValue

_LARGE = 1 << 12
"""Elements from which on a choice avoids Where."""


def where(g: GraphBuilder, call: Call) -> GraphValue:
    """One of two float32 operands for each element."""
    if logical(call.args[0]) != BOOL or any(logical(a) != FLOAT for a in call.args[1:]):
        raise NotLoweredError(f"where of {', '.join(str(logical(a)) for a in call.args)}")
    bound = max(map(limit, call.args[1:]))
    condition, x, y = call.args
    if call.guarded and isinstance(condition, GraphValue) and prod(call.result.shape) >= _LARGE:
        if isinstance(x, GraphValue) and isinstance(y, GraphValue):
            return pointwise(g, call, lambda t, _: _scaled(g, t) or g.node("Where", *t), bound)
        chosen, constant = (x, y) if isinstance(x, GraphValue) else (y, x)
        if isinstance(chosen, GraphValue) and isinstance(constant, np.ndarray) and _is_finite_scalar(constant):
            _guard(g, chosen)
            return pointwise(g, call, lambda t, _: _clamped(g, t, chosen is x), bound)
    if any(isinstance(a, np.ndarray) and bool((np.signbit(a) & (a == 0)).any()) for a in (x, y)):
        return pointwise(g, call, lambda t, _: _with_signs(g, t), bound)
    if isinstance(y, np.ndarray) and not isinstance(x, np.ndarray):
        return pointwise(g, call, lambda t, _: g.node("Where", g.node("Not", t[0]), t[2], t[1]), bound)
    return pointwise(g, call, lambda t, _: g.node("Where", *t), bound)


def _with_signs(g: GraphBuilder, tensors: Sequence[str]) -> str:
    """Where, which makes +0 of a -0 that it chooses from its first operand: the sign of a zero is that of its
    reciprocal, which is -inf in one order or the other.
    """
    condition, x, y = tensors
    one, other = g.node("Where", condition, x, y), g.node("Where", g.node("Not", condition), y, x)
    zero = g.node("Reciprocal", g.node("Min", g.node("Reciprocal", one), g.node("Reciprocal", other)))
    return g.node("Where", g.node("Not", g.node("Equal", one, g.constant(np.float32(0)))), one, zero)


def _is_finite_scalar(constant: np.ndarray) -> bool:
    return constant.size == 1 and bool(np.isfinite(constant).all())


def _scaled(g: GraphBuilder, tensors: Sequence[str]) -> str | None:
    """The first form, if y is x times a constant in 0..1."""
    condition, x, y = tensors
    factor = g.factor(y, x)
    if factor is None or not 0 <= factor <= 1 or np.signbit(factor):  # Max may take either of two zeros
        return None
    return g.node("Mul", x, g.node("Max", g.cast(condition, FLOAT), g.constant(np.float32(factor))))


def _clamped(g: GraphBuilder, tensors: Sequence[str], first: bool) -> str:
    """The second form; `first`: the constant is the last operand."""
    condition, x, y = tensors
    half = g.node("Sub", g.cast(condition, FLOAT), g.constant(np.float32(0.5)))
    sides = [g.node("Mul", half, g.constant(np.float32(s * np.inf))) for s in (1, -1)]
    if not first:
        x, y, sides = y, x, sides[::-1]
    return g.node("Max", g.node("Min", x, sides[0]), g.node("Min", y, sides[1]))


def _guard(g: GraphBuilder, value: GraphValue) -> None:
    if value.limit < np.inf:
        return
    tensors = [p.tensor for p in value.rows.parts] if value.rows is not None else [layout.dense(g, value)]
    for tensor in tensors:
        g.guard(tensor)
