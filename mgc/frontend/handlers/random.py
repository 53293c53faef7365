"""Random numbers, drawn on the chip by counter, and what is made of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from onnx import TensorProto

from mgc.frontend.context import Context, NodeView, Operand, Result
from mgc.frontend.errors import ModelError, Unsupported
from mgc.frontend.handlers.registry import handles
from mgc.frontend.operand import Known, ir_dtype
from mgc.ir.graph import Value
from mgc.ir.ops import AxisMap, Random, Where
from mgc.ir.types import DType


def _draw(ctx: Context, n: NodeView, fn: str, shape: Sequence[int], near: Operand | Value | None = None) -> Value:
    """Numbers of a shape; in a model to be trained they are drawn anew wherever `near` is computed anew."""
    if n.attr("seed", None) is not None:
        ctx.warnings.append(f"{n.where}: its own seed is not used: random numbers follow --seed")
    key = ctx.random_key()
    shape = tuple(int(d) for d in shape)
    ctx.room(*shape, 1)
    beside = [ctx.value(near)] if ctx.keep_parameters and near is not None and not isinstance(near, Known) else []
    ctx.random_ops += 1
    return ctx.emit(Random(fn, ctx.random_ops - 1, shape, shape[:1] == key.shape[:1]), key, *beside)


def _in_type(ctx: Context, n: NodeView, value: Value, operand: Operand | None) -> Result:
    """The value in the element type that `dtype` says, else in the operand's, else float."""
    elem = int(n.attr("dtype", 0))
    if not elem:
        if operand is None:
            return ctx.typed(value, TensorProto.FLOAT)
        if ctx.dtype_of(operand).is_float:
            return value
        raise Unsupported("its operand is not floating, and no dtype is stated")
    dtype = ir_dtype(elem)
    if dtype is None:
        raise Unsupported("its result has an element type that the chip does not have")
    return ctx.typed(value, elem) if dtype.is_float else ctx.cast(value, dtype)


@handles("RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike")
def numbers(ctx: Context, n: NodeView) -> Result:
    """mean + scale z, or low + (high - low) u."""
    like = n.operand(0) if n.op_type.endswith("Like") else None
    shape = ctx.shape_of(like) if like is not None else [int(d) for d in n.attr("shape")]
    if "Normal" in n.op_type:
        offset, factor = float(n.attr("mean", 0.0)), float(n.attr("scale", 1.0))
        y = _draw(ctx, n, "normal", shape, like)
    else:
        offset = float(n.attr("low", 0.0))
        factor = float(n.attr("high", 1.0)) - offset
        y = _draw(ctx, n, "uniform", shape, like)
    y = y if factor == 1 else ctx.binary("mul", y, factor)
    return _in_type(ctx, n, y if offset == 0 else ctx.binary("add", y, offset), like)


@handles("Bernoulli")
def bernoulli(ctx: Context, n: NodeView) -> Result:
    """1 where u < p, else 0."""
    p = n.operand(0)
    u = _draw(ctx, n, "uniform", ctx.shape_of(p), p)
    drawn = ctx.binary("less", u, ctx.value(p))
    elem = int(n.attr("dtype", 0))
    dtype = ir_dtype(elem) if elem else DType.F32
    if dtype is None:
        raise Unsupported("its result has an element type that the chip does not have")
    if not dtype.is_float:
        return ctx.cast(drawn, dtype)
    y = ctx.cast(drawn, DType.F32)
    return ctx.typed(y, elem) if elem else y


@handles("Multinomial")
def multinomial(ctx: Context, n: NodeView) -> Result:
    """The first class whose share of the probabilities up to it exceeds u; the operand holds their logarithms."""
    x = ctx.value(n.operand(0))
    if x.tensor.rank != 2:
        raise ModelError(f"the operand is {x.type}: [batch, classes] is needed", where=n.where)
    rows, classes = x.shape
    ctx.room(classes, classes)
    count = int(n.attr("sample_size", 1))
    powers = ctx.unary("exp", ctx.binary("sub", x, ctx.reduce("max", x, [1])))
    sums = ctx.emit(AxisMap(1), powers, ctx.const(np.tril(np.ones((classes, classes)))))
    u = _draw(ctx, n, "uniform", (rows, count), n.operand(0))
    total = ctx.reduce("max", sums, [1])
    reached = ctx.binary("mul", ctx.reshape(u, (rows, count, 1)), ctx.reshape(total, (rows, 1, 1)))
    passed = ctx.binary("less_or_equal", ctx.reshape(sums, (rows, 1, classes)), reached)
    index = ctx.reduce("sum", ctx.cast(passed, DType.F32), [2], keepdims=False)
    index = ctx.binary("min", index, float(classes - 1))  # u times the sum may round to the sum
    dtype = ir_dtype(int(n.attr("dtype", TensorProto.INT32)))
    if dtype is None or dtype.is_float:
        raise Unsupported("its result has an element type that the chip does not have")
    return ctx.cast(index, dtype)


@handles("Dropout")
def dropout(ctx: Context, n: NodeView) -> Result | list[Result]:
    """In training mode x / (1 - ratio) where u >= ratio, 0 elsewhere; else x itself, with a mask of all true."""
    x = n.operand(0)
    training = n.optional(2) if n.opset >= 12 else None
    draws = training is not None and bool(ctx.known(training, "training_mode").any())
    stated = n.optional(1) if n.opset >= 12 else None
    ratio = float(ctx.known(stated, "ratio")) if stated is not None and draws else 0.5
    if not draws or ratio == 0:
        return [x, Known(np.ones(ctx.shape_of(x), bool if n.opset >= 10 else np.float32))] if n.wants(1) else x
    if not 0 <= ratio <= 1:
        raise ModelError(f"ratio is {ratio}: 0 to 1 is needed", where=n.where)
    value = ctx.value(x)
    kept = ctx.binary("greater_or_equal", _draw(ctx, n, "uniform", value.shape, x), ratio)
    scale = 1 / (1 - ratio) if ratio < 1 else 0.0
    scaled = ctx.binary("mul", value, scale)
    return [ctx.emit(Where(), kept, scaled, ctx.like(0.0, value)), kept]
