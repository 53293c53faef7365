"""Models that carry their own quantisation, as arithmetic: QuantizeLinear, DequantizeLinear and ops on 8-bit operands.

What ops of integers compute is written with float32 numbers that are whole: exact up to 2^24.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto
from onnx.helper import make_node

from mgc.frontend.context import Context, NodeView, Operand, Result
from mgc.frontend.errors import Unsupported
from mgc.frontend.handlers.registry import HANDLERS, handles
from mgc.frontend.operand import Known, Sym, ir_dtype, onnx_type
from mgc.ir.graph import Value
from mgc.ir.ops import Cast, Where
from mgc.ir.types import DType

MICROSOFT = "com.microsoft"


def _along(ctx: Context, operand: Operand, x: Value, axis: int) -> Value:
    """A scale or zero point shaped to broadcast: one number, or one for each entry of `axis`."""
    shape = ctx.shape_of(operand)
    if prod(shape) == 1:
        return ctx.reshape(operand, ())
    axis %= max(x.tensor.rank, 1)
    if shape != (x.shape[axis],):
        raise Unsupported("scales are blocked")
    return ctx.reshape(operand, [d if a == axis else 1 for a, d in enumerate(x.shape)])


def _as_float(ctx: Context, value: Value) -> Value:
    return value if value.tensor.dtype.is_float else ctx.emit(Cast(DType.F32), value)


def _is_zero(operand: Operand | None) -> bool:
    return operand is None or (isinstance(operand, Known) and not np.any(operand.array))


def _centred(ctx: Context, operand: Operand, zero: Operand | None, axis: int = 1) -> Operand:
    """operand - zero point as a float; of known data at once."""
    if isinstance(operand, Known) and (zero is None or isinstance(zero, Known)):
        data = np.asarray(operand.array)
        if data.dtype.name in ("int4", "uint4"):
            data = data.astype(np.int8)
        if data.dtype.kind not in "iu":
            raise Unsupported("the operand has a float type")
        shift = np.asarray(0 if zero is None else zero.array)
        if shift.size > 1:
            shift = shift.reshape([-1 if a == axis % data.ndim else 1 for a in range(data.ndim)])
        else:
            shift = shift.reshape(())
        return Known((data.astype(np.int64) - shift.astype(np.int64)).astype(np.float32), hint=operand.name)
    x = ctx.value(operand)
    if x.tensor.dtype.is_float:
        raise Unsupported("the operand has a float type")
    y = _as_float(ctx, x)
    if zero is not None and not (_is_zero(zero) and isinstance(zero, Known)):
        y = ctx.binary("sub", y, _as_float(ctx, _along(ctx, zero, x, axis)))
    return _operand(y)


def _operand(value: Value) -> Sym:
    return Sym(value, onnx_type(value.tensor))


def _real(ctx: Context, x: Operand, scale: Operand, zero: Operand | None, axis: int = 1) -> Value:
    """(x - zero point) * scale."""
    y = ctx.value(_centred(ctx, x, zero, axis))
    return ctx.binary("mul", y, _as_float(ctx, _along(ctx, scale, y, axis)))


def _rounded(ctx: Context, steps: Value, zero: Operand | None, dtype: DType, axis: int = 1) -> Value:
    """round(steps) + zero point, saturated."""
    y = ctx.unary("round", steps)
    if zero is not None and not _is_zero(zero):
        y = ctx.binary("add", y, _as_float(ctx, _along(ctx, zero, y, axis)))
    limits = np.iinfo(dtype.numpy)
    y = ctx.binary("min", ctx.binary("max", y, float(limits.min)), float(limits.max))
    return ctx.emit(Cast(dtype), y)


def _codes(ctx: Context, x: Value, scale: Operand, zero: Operand | None, dtype: DType, axis: int = 1) -> Value:
    """x / scale, rounded."""
    return _rounded(ctx, ctx.binary("div", x, _as_float(ctx, _along(ctx, scale, x, axis))), zero, dtype, axis)


def _code_type(ctx: Context, zero: Operand | None, elem_type: int = 0) -> DType:
    dtype = ctx.dtype_of(zero) if zero is not None else ir_dtype(elem_type or int(TensorProto.UINT8))
    if dtype is None or not dtype.is_integer or dtype.numpy.itemsize > 2:
        raise Unsupported("the result has no 8-bit or 16-bit integer type")
    return dtype


def _applied(ctx: Context, n: NodeView, op_type: str, operands: Sequence[Operand | None], **attributes: Any) -> Value:
    """What ONNX's own op makes of the operands, with the node's attributes."""
    proto: NodeProto = make_node(op_type, [], [])
    proto.attribute.extend(n.proto.attribute)
    opset = n.opset if not n.domain else int(n.attr("opset", 13))
    view = replace(
        n, proto=proto, domain="", opset=opset, inputs=list(operands), _attributes={**n.attributes, **attributes}
    )
    result = HANDLERS["", op_type](ctx, view)
    assert not isinstance(result, (list, tuple))
    return result if isinstance(result, Value) else ctx.value(result)  # type: ignore[arg-type]


@handles("QuantizeLinear")
@handles("QuantizeLinear", domain=MICROSOFT)
def quantize(ctx: Context, n: NodeView) -> Result:
    """round(x / scale) + zero point, saturated. The result is as wide as the zero point, or as `output_dtype` says."""
    if n.attr("block_size", 0):
        raise Unsupported("scales are blocked")
    x = _as_float(ctx, ctx.value(n.operand(0)))
    zero = n.optional(2)
    dtype = _code_type(ctx, zero, int(n.attr("output_dtype", 0)))
    return _codes(ctx, x, n.operand(1), zero, dtype, int(n.attr("axis", 1)))


@handles("DequantizeLinear")
@handles("DequantizeLinear", domain=MICROSOFT)
def dequantize(ctx: Context, n: NodeView) -> Result:
    """(x - zero point) * scale."""
    if n.attr("block_size", 0):
        raise Unsupported("scales are blocked")
    return _real(ctx, n.operand(0), n.operand(1), n.optional(2), int(n.attr("axis", 1)))


@handles("DynamicQuantizeLinear")
def dynamic_quantize(ctx: Context, n: NodeView) -> list[Result]:
    """uint8 codes that hold all of x, and 0: codes, scale, zero point. What is all zeros has a scale of 1."""
    x = ctx.value(n.operand(0))
    axes = range(x.tensor.rank)
    high = ctx.binary("max", ctx.reduce("max", x, axes, keepdims=False), 0.0)
    low = ctx.binary("min", ctx.reduce("min", x, axes, keepdims=False), 0.0)
    span = ctx.binary("div", ctx.binary("sub", high, low), 255.0)
    scale = ctx.emit(Where(), ctx.binary("equal", span, 0.0), ctx.like(1.0, span), span)
    zero = ctx.binary("div", ctx.unary("neg", low), scale)
    zero = _rounded(ctx, zero, None, DType.U8)
    return [_codes(ctx, x, _operand(scale), _operand(zero), DType.U8), scale, zero]


# -- products ----------------------------------------------------------------------------------------------------------


def _product_of(ctx: Context, *scales: Operand) -> Operand:
    """The product of scales, at once where all are known."""
    if all(isinstance(s, Known) for s in scales):
        data = np.float32(1)
        for s in scales:
            data = data * np.asarray(s.array, np.float32).reshape(-1 if np.size(s.array) > 1 else ())  # type: ignore[union-attr]
        return Known(np.asarray(data, np.float32))
    total = ctx.value(scales[0])
    for s in scales[1:]:
        total = ctx.binary("mul", total, ctx.value(s))
    return _operand(total)


def _requantised(ctx: Context, sums: Value, scale: Operand, result: tuple[Operand, Operand | None], axis: int) -> Value:
    """Sums of whole numbers times `scale` as codes of the result's (scale, zero point)."""
    into, zero = result
    if isinstance(scale, Known) and isinstance(into, Known):
        scale = Known(np.asarray(scale.array / np.asarray(into.array, np.float32).reshape(()), np.float32))
        steps = ctx.binary("mul", sums, _along(ctx, scale, sums, axis))
    else:
        scaled = ctx.binary("mul", sums, _along(ctx, scale, sums, axis))
        steps = ctx.binary("div", scaled, _along(ctx, into, sums, axis))
    return _rounded(ctx, steps, zero, _code_type(ctx, zero), axis)


@handles("QLinearConv")
def qlinear_conv(ctx: Context, n: NodeView) -> Result:
    """Convolution of codes less their zero points, and its bias, as codes of the result's scale."""
    x, w = _centred(ctx, n.operand(0), n.optional(2)), _centred(ctx, n.operand(3), n.optional(5), 0)
    bias = n.optional(8)
    sums = _applied(ctx, n, "Conv", [x, w, None if bias is None else _centred(ctx, bias, None)])
    scale = _product_of(ctx, n.operand(1), n.operand(4))
    return _requantised(ctx, sums, scale, (n.operand(6), n.optional(7)), 1)


@handles("QLinearMatMul")
@handles("QLinearMatMul", domain=MICROSOFT)
def qlinear_matmul(ctx: Context, n: NodeView) -> Result:
    """Matrix product of codes less their zero points, as codes of the result's scale."""
    a, b = _centred(ctx, n.operand(0), n.optional(2), -2), _centred(ctx, n.operand(3), n.optional(5), -1)
    sums = _applied(ctx, n, "MatMul", [a, b])
    if prod(ctx.shape_of(n.operand(1))) > 1:
        raise Unsupported("A has a scale for each row")
    return _requantised(ctx, sums, _product_of(ctx, n.operand(1), n.operand(4)), (n.operand(6), n.optional(7)), -1)


@handles("QGemm", domain=MICROSOFT)
def qgemm(ctx: Context, n: NodeView) -> Result:
    """alpha A' B' + C, C in steps of alpha times both scales; codes if a result's scale is given, else reals."""
    columns = 0 if n.attr("transB", 0) else 1
    a, b = _centred(ctx, n.operand(0), n.optional(2)), _centred(ctx, n.operand(3), n.optional(5), columns)
    bias = n.optional(6)
    sums = _applied(ctx, n, "Gemm", [a, b, None if bias is None else _centred(ctx, bias, None)], alpha=1.0, beta=1.0)
    alpha = Known(np.float32(n.attr("alpha", 1.0)))
    scale = _product_of(ctx, alpha, n.operand(1), n.operand(4))
    if n.optional(7) is None:
        return ctx.binary("mul", sums, _along(ctx, scale, sums, -1))
    return _requantised(ctx, sums, scale, (n.operand(7), n.optional(8)), -1)


def _integers(ctx: Context, sums: Value) -> Value:
    return ctx.emit(Cast(DType.I32), ctx.unary("round", sums))


def _matmul_sums(ctx: Context, n: NodeView, zero_a: Operand | None, zero_b: Operand | None) -> Value:
    """(A - zero point) @ (B - zero point). A's that is computed comes off after the product: 8 bits hold A alone."""
    b = _centred(ctx, n.operand(1), zero_b, -1)
    if zero_a is None or isinstance(zero_a, Known) or not isinstance(b, Known):
        return _applied(ctx, n, "MatMul", [_centred(ctx, n.operand(0), zero_a, -2), b])
    if prod(ctx.shape_of(zero_a)) > 1:
        raise Unsupported("A has a computed zero point for each row")
    product = _applied(ctx, n, "MatMul", [_centred(ctx, n.operand(0), None), b])
    totals = b.array.sum(-2, dtype=np.float32, keepdims=b.array.ndim > 1)
    zero = _as_float(ctx, ctx.reshape(ctx.value(zero_a), ()))
    return ctx.binary("sub", product, ctx.binary("mul", ctx.const(totals), zero))


@handles("MatMulInteger")
def matmul_integer(ctx: Context, n: NodeView) -> Result:
    """Matrix product of codes less their zero points, int32."""
    return _integers(ctx, _matmul_sums(ctx, n, n.optional(2), n.optional(3)))


@handles("MatMulIntegerToFloat", domain=MICROSOFT)
def matmul_integer_to_float(ctx: Context, n: NodeView) -> Result:
    """Matrix product of codes less their zero points, times both scales, plus a bias."""
    sums = _matmul_sums(ctx, n, n.optional(4), n.optional(5))
    y = ctx.binary("mul", sums, _along(ctx, _product_of(ctx, n.operand(2), n.operand(3)), sums, -1))
    bias = n.optional(6)
    return y if bias is None else ctx.binary("add", y, ctx.value(bias))


@handles("ConvInteger")
def conv_integer(ctx: Context, n: NodeView) -> Result:
    """Convolution of codes less their zero points, int32. x's that is computed comes off after the convolution, as
    often as the kernel meets the input: 8 bits hold x alone.
    """
    w, zero = _centred(ctx, n.operand(1), n.optional(3), 0), n.optional(2)
    if zero is None or isinstance(zero, Known) or not isinstance(w, Known):
        return _integers(ctx, _applied(ctx, n, "Conv", [_centred(ctx, n.operand(0), zero), w]))
    x = _centred(ctx, n.operand(0), None)
    sums = _applied(ctx, n, "Conv", [x, w])
    ones = Known(np.ones((1, *ctx.shape_of(x)[1:]), np.float32))
    return _integers(ctx, ctx.binary("sub", sums, ctx.binary(
        "mul", _applied(ctx, n, "Conv", [ones, w]), _as_float(ctx, ctx.reshape(ctx.value(zero), ()))
    )))  # fmt: skip


# -- what onnxruntime.quantization writes besides ----------------------------------------------------------------------


def _reals(ctx: Context, n: NodeView, first: int, count: int) -> list[Operand]:
    """`count` operands as reals, from triples (codes, scale, zero point) that begin at input `first`."""
    triples = ((n.operand(k), n.operand(k + 1), n.optional(k + 2)) for k in range(first, first + 3 * count, 3))
    return [_operand(_real(ctx, *t)) for t in triples]


def _as_codes(ctx: Context, n: NodeView, y: Value, at: int) -> Value:
    """y as codes of the scale and zero point that begin at input `at`."""
    return _codes(ctx, y, n.operand(at), n.optional(at + 1), _code_type(ctx, n.optional(at + 1)))


_ONE_OPERAND = {
    "QLinearSigmoid": "Sigmoid",
    "QLinearLeakyRelu": "LeakyRelu",
    "QLinearSoftmax": "Softmax",
    "QLinearAveragePool": "AveragePool",
    "QLinearGlobalAveragePool": "GlobalAveragePool",
}


@handles(*_ONE_OPERAND, domain=MICROSOFT)
def qlinear_unary(ctx: Context, n: NodeView) -> Result:
    """ONNX's own op on reals."""
    if n.attr("channels_last", 0):
        raise Unsupported("channels come last")
    defaults = {"alpha": n.attr("alpha", 0.01)} if n.op_type == "QLinearLeakyRelu" else {}
    y = _applied(ctx, n, _ONE_OPERAND[n.op_type], _reals(ctx, n, 0, 1), **defaults)
    return _as_codes(ctx, n, y, 3)


@handles("QLinearReduceMean", domain=MICROSOFT)
def qlinear_reduce_mean(ctx: Context, n: NodeView) -> Result:
    """Means over the axes that an attribute names."""
    y = _applied(ctx, n, "ReduceMean", _reals(ctx, n, 0, 1))
    return _as_codes(ctx, n, y, 3)


@handles("QLinearAdd", "QLinearMul", domain=MICROSOFT)
def qlinear_binary(ctx: Context, n: NodeView) -> Result:
    """Sum or product of reals."""
    return _as_codes(ctx, n, _applied(ctx, n, n.op_type.removeprefix("QLinear"), _reals(ctx, n, 0, 2)), 6)


@handles("QLinearWhere", domain=MICROSOFT)
def qlinear_where(ctx: Context, n: NodeView) -> Result:
    """A choice between two operands, by a condition."""
    return _as_codes(ctx, n, _applied(ctx, n, "Where", [n.operand(0), *_reals(ctx, n, 1, 2)]), 7)


@handles("QLinearConcat", domain=MICROSOFT)
def qlinear_concat(ctx: Context, n: NodeView) -> Result:
    """Reals one after the other; the result's scale comes first among the inputs."""
    return _as_codes(ctx, n, _applied(ctx, n, "Concat", _reals(ctx, n, 2, (len(n.inputs) - 2) // 3)), 0)
