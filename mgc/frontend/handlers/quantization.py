"""QuantizeLinear and DequantizeLinear, as arithmetic: models that carry their own quantisation run as they are."""

from __future__ import annotations

import numpy as np

from mgc.frontend.context import Context, NodeView, Operand, Result
from mgc.frontend.errors import Unsupported
from mgc.frontend.handlers.registry import handles
from mgc.frontend.operand import ir_dtype
from mgc.ir.graph import Value
from mgc.ir.ops import Cast
from mgc.ir.types import DType


def _along(ctx: Context, n: NodeView, operand: Operand, x: Value) -> Value:
    """A scale or zero point shaped to broadcast: one number, or one for each entry of `axis`."""
    shape = ctx.shape_of(operand)
    if len(shape) == 0 or shape == (1,):
        return ctx.reshape(operand, ())
    axis = int(n.attr("axis", 1)) % max(x.tensor.rank, 1)
    if n.attr("block_size", 0) or shape != (x.shape[axis],):
        raise Unsupported("scales are blocked")
    return ctx.reshape(operand, [d if a == axis else 1 for a, d in enumerate(x.shape)])


def _as_float(ctx: Context, value: Value) -> Value:
    return value if value.tensor.dtype.is_float else ctx.emit(Cast(DType.F32), value)


@handles("QuantizeLinear")
def quantize(ctx: Context, n: NodeView) -> Result:
    """round(x / scale) + zero point, saturated. The result is as wide as the zero point, or as `output_dtype` says."""
    x = _as_float(ctx, ctx.value(n.operand(0)))
    zero = n.optional(2)
    dtype = ctx.dtype_of(zero) if zero is not None else ir_dtype(int(n.attr("output_dtype", 0)) or 2)
    if dtype is None or not dtype.is_integer or dtype.numpy.itemsize > 2:
        raise Unsupported("the result has no 8-bit or 16-bit integer type")
    y = ctx.unary("round", ctx.binary("div", x, _as_float(ctx, _along(ctx, n, n.operand(1), x))))
    if zero is not None:
        y = ctx.binary("add", y, _as_float(ctx, _along(ctx, n, zero, x)))
    limits = np.iinfo(dtype.numpy)
    y = ctx.binary("min", ctx.binary("max", y, float(limits.min)), float(limits.max))
    return ctx.emit(Cast(dtype), y)


@handles("DequantizeLinear")
def dequantize(ctx: Context, n: NodeView) -> Result:
    """(x - zero point) * scale."""
    x = ctx.value(n.operand(0))
    if x.tensor.dtype.is_float:
        raise Unsupported("the operand has a float type")
    y = _as_float(ctx, x)
    zero = n.optional(2)
    if zero is not None:
        y = ctx.binary("sub", y, _as_float(ctx, _along(ctx, n, zero, x)))
    return ctx.binary("mul", y, _as_float(ctx, _along(ctx, n, n.operand(1), x)))
