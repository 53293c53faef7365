"""Arithmetic, comparison, logic, casts."""

from __future__ import annotations

from mgc.frontend.context import Context, NodeView, Operand, Result
from mgc.frontend.errors import ModelError, Unsupported
from mgc.frontend.handlers.registry import handles
from mgc.frontend.operand import Known, elem_type_name, ir_dtype
from mgc.functions.binary import BINARY
from mgc.functions.unary import UNARY
from mgc.ir.graph import Value
from mgc.ir.ops import Cast, Where
from mgc.ir.types import DType

_BINARY = {f.onnx.op_type: f.name for f in BINARY.values() if f.onnx.op_type not in ("Mod", "Max", "Min", "PRelu")}
# IsInf has attributes of its own, Selu had other defaults, Gelu is two functions
_UNARY = {f.onnx: f for f in UNARY.values() if f.onnx not in ("", "IsInf", "Selu", "Gelu")}


def _align(ctx: Context, n: NodeView, a: Operand, b: Operand) -> Value:
    """The second operand under the broadcasting that opsets before 7 had: aligned at attribute `axis`."""
    axis = n.attr("axis", None)
    if n.opset >= 7 or not n.attr("broadcast", 0) or axis is None:
        return ctx.value(b)
    rank, shape = len(ctx.shape_of(a)), ctx.shape_of(b)
    axis = int(axis) % max(rank, 1)
    if axis + len(shape) > rank:
        raise ModelError(f"axis {axis} does not place shape {list(shape)} in rank {rank}", where=n.where)
    return ctx.reshape(b, (*shape, *(1,) * (rank - axis - len(shape))))


@handles(*_BINARY)
def binary(ctx: Context, n: NodeView) -> Result:
    """Two-operand functions with NumPy broadcasting."""
    a, b = n.operand(0), n.operand(1)
    return ctx.binary(_BINARY[n.op_type], ctx.value(a), _align(ctx, n, a, b))


@handles(*_UNARY)
def unary(ctx: Context, n: NodeView) -> Result:
    """One-operand functions, those with attributes included."""
    f = _UNARY[n.op_type]
    return ctx.unary(f.name, ctx.value(n.operand(0)), *(n.attr(name, default) for name, default in f.attributes))


@handles("Mod")
def mod(ctx: Context, n: NodeView) -> Result:
    """Modulo: sign of the divisor, or of the dividend with fmod."""
    return ctx.binary("fmod" if n.attr("fmod", 0) else "mod", ctx.value(n.operand(0)), ctx.value(n.operand(1)))


@handles("Sum", "Max", "Min", "Mean")
def variadic(ctx: Context, n: NodeView) -> Result:
    """Any number of operands, folded from the left."""
    fn = {"Sum": "add", "Max": "max", "Min": "min", "Mean": "add"}[n.op_type]
    total = ctx.value(n.operand(0))
    for i in range(1, len(n.inputs)):
        total = ctx.binary(fn, total, ctx.value(n.operand(i)))
    if n.op_type == "Mean" and len(n.inputs) > 1:
        total = ctx.binary("mul", total, 1 / len(n.inputs))
    return total


@handles("IsInf")
def isinf(ctx: Context, n: NodeView) -> Result:
    """Infinity of one sign or both."""
    x = ctx.value(n.operand(0))
    positive, negative = n.attr("detect_positive", 1), n.attr("detect_negative", 1)
    if positive and negative:
        return ctx.unary("isinf", x)
    if not positive and not negative:
        raise Unsupported("it looks for neither sign")
    return ctx.binary("equal", x, float("inf") if positive else float("-inf"))


@handles("Where")
def where(ctx: Context, n: NodeView) -> Result:
    """A choice by a condition."""
    return ctx.emit(Where(), *(ctx.value(n.operand(i)) for i in range(3)))


@handles("Clip")
def clip(ctx: Context, n: NodeView) -> Result:
    """Limits, as attributes (before opset 11) or inputs. A lower limit of 0 is a relu."""
    x = ctx.value(n.operand(0))
    if n.opset < 11:
        bounds: list[Operand | float | None] = [n.attr("min", None), n.attr("max", None)]
    else:
        bounds = [n.optional(1), n.optional(2)]
    low, high = bounds
    zero = (
        low == 0 if isinstance(low, float) else isinstance(low, Known) and low.array.size == 1 and low.array.item() == 0
    )
    if zero and x.tensor.dtype.is_float:
        x = ctx.unary("relu", x)
    elif low is not None:
        x = ctx.binary("max", x, low if isinstance(low, (int, float)) else ctx.value(low))
    if high is not None:
        x = ctx.binary("min", x, high if isinstance(high, (int, float)) else ctx.value(high))
    return x if low is not None or high is not None else n.operand(0)


@handles("Cast")
def cast(ctx: Context, n: NodeView) -> Result:
    """Casts; between float types the chip's f32 stays as it is."""
    return cast_to(ctx, n.operand(0), int(n.attr("to")))


@handles("CastLike")
def cast_like(ctx: Context, n: NodeView) -> Result:
    """A cast to another operand's element type."""
    like = n.type_of(n.operand(1))
    if like is None or not like.HasField("tensor_type"):
        raise Unsupported("the target is no tensor")
    return cast_to(ctx, n.operand(0), like.tensor_type.elem_type)


def cast_to(ctx: Context, x: Operand, elem_type: int) -> Result:
    """x in an ONNX element type."""
    to = ir_dtype(elem_type)
    if elem_type_name(elem_type) == "undefined":
        raise ModelError(f"there is no element type {elem_type}", where=f"node {ctx.source!r}")
    if to is None:
        raise Unsupported(f"the chip has no {elem_type_name(elem_type)}")
    value = ctx.value(x)
    if to.is_float:
        return ctx.typed(value if value.tensor.dtype.is_float else ctx.emit(Cast(DType.F32), value), elem_type)
    return value if value.tensor.dtype is to else ctx.emit(Cast(to), value)
