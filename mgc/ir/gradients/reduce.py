"""Gradients of reductions and of batch normalisation in its inference form."""

from __future__ import annotations

from math import prod

from mgc.ir.build import Build
from mgc.ir.gradients.rules import Gradients, Values, gradient
from mgc.ir.graph import Value
from mgc.ir.op import NotDifferentiable
from mgc.ir.ops.norm import BatchNorm
from mgc.ir.ops.reduce import Reduce


@gradient(Reduce)
def reduce(g: Build, op: Reduce, inputs: Values, y: Value, dy: Value) -> Gradients:
    """Sum and mean spread dy, variance by the distance from the mean; max and min share it evenly among ties (as
    torch.amax does); prod gives the product of the others, whose derivative is exact where at most one of them is 0.
    """
    (x,) = inputs
    if not x.tensor.dtype.is_float:
        return (None,)
    kept = tuple(1 if a in op.axes else d for a, d in enumerate(x.shape))
    y, dy = g.reshape(y, kept), g.reshape(dy, kept)
    if op.fn in ("sum", "mean"):
        count = prod(x.shape[a] for a in op.axes) if op.fn == "mean" else 1
        return (g.expand(g.mul(dy, 1 / count), x.shape),)
    if op.fn == "variance":
        # in closed form: d^2 adds up to it, and of the mean nothing comes back, since distances from it add up to 0
        count = prod(x.shape[a] for a in op.axes)
        return (g.mul(g.sub(x, g.reduce("mean", x, op.axes)), g.mul(dy, 2 / count)),)
    zero = g.number(0.0, x)
    if op.fn != "prod":
        hit = g.binary("equal", x, y)
        ties = g.reduce("sum", g.cast(hit, x.tensor.dtype), op.axes)
        return (g.where(hit, g.div(dy, ties), zero),)
    null = g.binary("equal", x, zero)
    nulls = g.reduce("sum", g.cast(null, x.tensor.dtype), op.axes)
    filled = g.where(null, g.number(1.0, x), x)
    product = g.mul(dy, g.reduce("prod", filled, op.axes))
    # no zero: product / x; one zero: it alone has a derivative; more: none has
    alone = g.binary("and", null, g.binary("equal", nulls, 1.0))
    smooth = g.binary("equal", nulls, 0.0)
    return (g.where(smooth, g.div(product, filled), g.where(alone, product, zero)),)


@gradient(BatchNorm)
def batch_norm(g: Build, op: BatchNorm, inputs: Values, y: Value, dy: Value) -> Gradients:
    """Inference form only: `batch-statistics` has replaced the training form before anything is differentiated."""
    if op.training:
        raise NotDifferentiable(op, "run batch-statistics first")
    x, scale, _, mean, var = inputs
    wide = (1, x.shape[1], *(1,) * (x.tensor.rank - 2))
    inverse = g.unary("reciprocal", g.unary("sqrt", g.add(var, op.epsilon)))
    centred = g.sub(x, g.reshape(mean, wide))
    dbias = g.reshape(g.sum_to(dy, wide), mean.shape)
    moment = g.reshape(g.sum_to(g.mul(dy, centred), wide), mean.shape)
    factor = g.mul(scale, inverse)
    cube = g.mul(g.mul(factor, inverse), g.mul(inverse, -0.5))
    dmean = g.neg(g.mul(dbias, factor))
    return g.mul(dy, g.reshape(factor, wide)), g.mul(moment, inverse), dbias, dmean, g.mul(moment, cube)
