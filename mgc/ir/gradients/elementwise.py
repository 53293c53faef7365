"""Gradients of element-wise ops; the derivative of each function stands in its table."""

from __future__ import annotations

from mgc.functions.binary import BINARY
from mgc.functions.unary import UNARY
from mgc.ir.build import Build
from mgc.ir.gradients.rules import Gradients, Values, gradient
from mgc.ir.graph import Value
from mgc.ir.ops.elementwise import Binary, Cast, Unary, Where


@gradient(Unary)
def unary(g: Build, op: Unary, inputs: Values, y: Value, dy: Value) -> Gradients:
    """By the function's rule."""
    return (UNARY[op.fn].vjp(g, inputs[0], y, dy, op.alpha, op.beta),)


@gradient(Binary)
def binary(g: Build, op: Binary, inputs: Values, y: Value, dy: Value) -> Gradients:
    """By the function's rule, summed over what was broadcast."""
    a, b = inputs
    if op.fn == "sub":
        # summed before it is negated: fewer elements
        return g.sum_to(dy, a.shape), g.neg(g.sum_to(dy, b.shape))
    found = BINARY[op.fn].vjp(g, a, b, y, dy)
    return tuple(None if d is None else g.sum_to(d, v.shape) for v, d in zip(inputs, found, strict=True))


@gradient(Where)
def where(g: Build, op: Where, inputs: Values, y: Value, dy: Value) -> Gradients:
    """dy goes to the operand that was chosen."""
    condition, a, b = inputs
    zero = g.number(0.0, dy)
    first, second = g.where(condition, dy, zero), g.where(condition, zero, dy)
    return None, g.sum_to(first, a.shape), g.sum_to(second, b.shape)


@gradient(Cast)
def cast(g: Build, op: Cast, inputs: Values, y: Value, dy: Value) -> Gradients:
    """Through casts between float types only."""
    (x,) = inputs
    through = x.tensor.dtype.is_float and op.to.is_float
    return (g.cast(dy, x.tensor.dtype) if through else None,)
