"""Activation functions that are not one function with the attributes that its table states."""

from __future__ import annotations

from mgc.frontend.context import Context, NodeView, Result
from mgc.frontend.handlers.registry import handles
from mgc.ir.ops import Where


@handles("Selu")
def selu(ctx: Context, n: NodeView) -> Result:
    """Scaled exponential unit; opset 1 had rounded defaults."""
    alpha, gamma = (1.6732, 1.0507) if n.opset < 6 else (1.67326319217681884765625, 1.05070102214813232421875)
    return ctx.unary("selu", ctx.value(n.operand(0)), n.attr("alpha", alpha), n.attr("gamma", gamma))


@handles("Gelu")
def gelu(ctx: Context, n: NodeView) -> Result:
    """Gelu, exact or by tanh."""
    return ctx.unary("gelu_tanh" if n.attr("approximate", "none") == "tanh" else "gelu", ctx.value(n.operand(0)))


@handles("PRelu")
def prelu(ctx: Context, n: NodeView) -> Result:
    """Leaky relu with a slope operand; a vector of one slope a channel goes to axis 1."""
    x, slope = ctx.value(n.operand(0)), n.operand(1)
    shape = ctx.shape_of(slope)
    if len(shape) == 1 and x.tensor.rank >= 2 and shape[0] == x.shape[1] and (n.opset < 7 or shape[0] != x.shape[-1]):
        return ctx.binary("prelu", x, ctx.reshape(slope, (*shape, *(1,) * (x.tensor.rank - 2))))
    return ctx.binary("prelu", x, ctx.value(slope))


@handles("Shrink")
def shrink(ctx: Context, n: NodeView) -> Result:
    """x + bias below -lambd, x - bias above lambd, 0 between."""
    x = ctx.value(n.operand(0))
    lambd, bias = n.attr("lambd", 0.5), n.attr("bias", 0.0)
    below = ctx.emit(Where(), ctx.binary("less", x, -lambd), ctx.binary("add", x, bias), ctx.like(0, x))
    return ctx.emit(Where(), ctx.binary("greater", x, lambd), ctx.binary("sub", x, bias), below)
