"""Smooth functions in `float` numerics: to 1e-6 relative (1e-30 absolute) of the true value over their whole range.

Most kernels of ONNX Runtime are that good. Those of Sigmoid (a rational approximation of an absolute error), Elu, Selu,
Celu (e^x - 1 near 0) and Gelu (1 + erf, 1 + tanh) are not: these are made of kernels that are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from mgc.functions.error_function import TAIL_RATE, tail_polynomial
from mgc.functions.onnx_form import OnnxForm
from mgc.functions.unary import GELU_TANH_CUBIC, GELU_TANH_RATE, UNARY, UnaryFunction
from mgc.sim.fast.graph import GraphBuilder, NotLoweredError
from mgc.sim.fast.steps import FLOAT, Call, Lowering, logical, pointwise
from mgc.sim.fast.values import GraphValue

Emit = Callable[[GraphBuilder, str, float, float], str]
"""Nodes of a function of the tensor, given alpha and beta."""

_DOUBLE = np.dtype(np.float64)


def smooth(f: UnaryFunction) -> Lowering:
    """A function of one float32 operand with the attributes alpha and beta."""
    emit = _ACCURATE.get(f.name) or (lambda g, x, a, b: _nodes(g, f.onnx_form(a, b), x))

    def lower(g: GraphBuilder, call: Call) -> GraphValue:
        if logical(call.args[0]) != FLOAT:
            raise NotLoweredError(f"{call.name} of {logical(call.args[0])}")
        alpha, beta = call.attributes
        return pointwise(g, call, lambda t, _: emit(g, t[0], alpha, beta))

    return lower


def _nodes(g: GraphBuilder, form: OnnxForm, x: str) -> str:
    """A form of one operand as nodes."""
    parts = [x] if form.operands is None else [x if p == 0 else _nodes(g, p, x) for p in form.operands]  # type: ignore[arg-type]
    constants = (g.constant(c) for c in form.constants if c is not None)
    return g.node(form.op_type, *parts, *constants, **form.attributes)


class _Numbers:
    """Arithmetic of tensors and numbers of one element type."""

    def __init__(self, g: GraphBuilder, dtype: np.dtype = FLOAT) -> None:
        self._g, self._type = g, dtype.type

    def __call__(self, op: str, *operands: str | float) -> str:
        return self._g.node(op, *(o if isinstance(o, str) else self._g.constant(self._type(o)) for o in operands))


def _sigmoid(g: GraphBuilder, x: str, alpha: float, beta: float) -> str:
    """1 / (1 + e^-x); where e^-x overflows the result is below 1e-38."""
    k = _Numbers(g)
    return k("Reciprocal", k("Add", k("Exp", k("Neg", x)), 1.0))


def _silu(g: GraphBuilder, x: str, alpha: float, beta: float) -> str:
    """x / (1 + e^(-alpha x)): in float64 if alpha x rounds, which the exponential would magnify."""
    dtype = FLOAT if alpha == 1 else _DOUBLE
    k, wide = _Numbers(g, dtype), g.cast(x, dtype) if dtype != FLOAT else x
    power = k("Neg", wide) if alpha == 1 else k("Mul", wide, -alpha)
    y = k("Div", wide, k("Add", k("Exp", power), 1.0))
    return y if dtype == FLOAT else g.cast(y, FLOAT)


def _scaled_elu(g: GraphBuilder, x: str, inner: float, left: float, right: float) -> str:
    """right x above 0, left (e^(inner x) - 1) below, by e^u - 1 = tanh(u/2) (e^u + 1)."""
    k = _Numbers(g)
    u = k("Min", x, 0.0)
    u = u if inner == 1 else k("Mul", u, inner)
    below = k("Mul", k("Tanh", k("Mul", u, 0.5)), k("Add", k("Exp", u), 1.0))
    above = k("Relu", x)
    below, above = (t if s == 1 else k("Mul", t, s) for t, s in ((below, left), (above, right)))
    return k("Add", above, below)


def _gelu(g: GraphBuilder, x: str, alpha: float, beta: float) -> str:
    """max(x, 0) - |x| Q(|x|), the tail Q as `tail_polynomial` has it.

    e^(-a^2/2) is e^(-h^2/2) e^(-(a - h)(a + h)/2) with h = a rounded to 1/16, whose square is exact.
    """
    k, farthest = _Numbers(g), 15.0
    size = k("Min", k("Abs", x), farthest)
    h = k("Mul", k("Round", k("Mul", size, 16.0)), 1 / 16)
    coarse = k("Exp", k("Mul", k("Mul", h, h), -0.5))
    fine = k("Exp", k("Mul", k("Mul", k("Sub", size, h), k("Add", size, h)), -0.5))
    t = k("Reciprocal", k("Add", k("Mul", size, TAIL_RATE), 1.0))
    s = k("Sub", k("Mul", t, 2.0), 1.0)
    *rest, ratio = tail_polynomial(14, farthest)
    for coefficient in reversed(rest):
        ratio = k("Add", k("Mul", ratio, s), coefficient)
    tail = k("Mul", k("Mul", coarse, fine), k("Mul", t, ratio))
    return k("Sub", k("Relu", x), k("Mul", size, tail))


def _gelu_tanh(g: GraphBuilder, x: str, alpha: float, beta: float) -> str:
    """x / (1 + e^(-2 u)) in float64: what u rounds the exponential would magnify."""
    k, wide = _Numbers(g, _DOUBLE), g.cast(x, _DOUBLE)
    u = k("Mul", wide, k("Add", k("Mul", k("Mul", wide, wide), GELU_TANH_CUBIC), 1.0))
    power = k("Exp", k("Mul", u, -2 * GELU_TANH_RATE))
    return g.cast(k("Div", wide, k("Add", power, 1.0)), FLOAT)


_ACCURATE: Mapping[str, Emit] = {
    "sigmoid": _sigmoid,
    "silu": _silu,
    "elu": lambda g, x, a, b: _scaled_elu(g, x, 1.0, a, 1.0),
    "selu": lambda g, x, a, b: _scaled_elu(g, x, 1.0, a * b, b),
    "celu": lambda g, x, a, b: _scaled_elu(g, x, 1 / a, a, 1.0),
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
}

SMOOTH: Mapping[str, Lowering] = {f.name: smooth(f) for f in UNARY.values() if f.smooth}
