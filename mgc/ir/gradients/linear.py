"""Gradients of convolutions, matrix products and linear maps: each is among the others' gradients."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from mgc.ir.build import Build
from mgc.ir.gradients.rules import Gradients, Values, decomposition, gradient
from mgc.ir.graph import Value
from mgc.ir.ops.gradients import ConvWeightGrad
from mgc.ir.ops.linear import AxisMap, Conv, ConvTranspose, MatMul


def input_gradient(g: Build, op: Conv, dy: Value, w: Value, spatial: Sequence[int]) -> Value:
    """The cotangent of a convolution's operand x with the given spatial extents: conv_transpose undoes the strides,
    and output_padding restores what they left over.
    """
    rank = len(spatial)
    left = tuple(
        spatial[i] + op.pads[i] + op.pads[rank + i] - (s * (dy.shape[2 + i] - 1) + d * (w.shape[2 + i] - 1) + 1)
        for i, (s, d) in enumerate(zip(op.strides, op.dilations, strict=True))
    )
    return g.emit(ConvTranspose(op.strides, op.pads, left, op.dilations, op.groups), dy, w)


@gradient(Conv)
def conv(g: Build, op: Conv, inputs: Values, y: Value, dy: Value) -> Gradients:
    """The input's is the transposed convolution of dy, the weights' a conv_weight_grad."""
    x, w = inputs
    dw = ConvWeightGrad(w.shape[2:], op.strides, op.pads, op.dilations, op.groups)
    return input_gradient(g, op, dy, w, x.shape[2:]), g.emit(dw, x, dy)


@gradient(ConvTranspose)
def conv_transpose(g: Build, op: ConvTranspose, inputs: Values, y: Value, dy: Value) -> Gradients:
    """The input's is the convolution of dy, the weights' a conv_weight_grad with the operands' roles swapped."""
    x, w = inputs
    dx = g.emit(Conv(op.strides, op.pads, op.dilations, op.groups), dy, w)
    # output_padding of a stride or more makes windows beyond the input
    dx = g.slice(dx, (0,) * x.tensor.rank, x.shape)
    dw = ConvWeightGrad(w.shape[2:], op.strides, op.pads, op.dilations, op.groups)
    return dx, g.emit(dw, dy, x)


@gradient(ConvWeightGrad)
def conv_weight_grad(g: Build, op: ConvWeightGrad, inputs: Values, dw: Value, ddw: Value) -> Gradients:
    """It is bilinear: with dw's cotangent as weights, x's is the convolution's input gradient, dy's its result."""
    x, dy = inputs
    ddy = g.emit(op.conv, x, ddw)
    return input_gradient(g, op.conv, dy, ddw, x.shape[2:]), g.slice(ddy, (0,) * dy.tensor.rank, dy.shape)


@decomposition(ConvWeightGrad)
def weight_gradient(g: Build, op: ConvWeightGrad, inputs: Values) -> Values:
    """A convolution whose batch is x's channels and whose channels are the samples, stride and dilation swapped."""
    x, dy = inputs
    n, c, *spatial = x.shape
    groups, axes = op.groups, range(2, x.tensor.rank)
    # [N, G, C/G, S] -> [C/G, G N, S]
    grouped = g.transpose(g.reshape(x, (n, groups, c // groups, *spatial)), (2, 1, 0, *(a + 1 for a in axes)))
    image = g.reshape(grouped, (c // groups, groups * n, *spatial))
    products = g.emit(Conv(op.dilations, op.pads, op.strides, groups), image, g.transpose(dy, (1, 0, *axes)))
    # strides that did not divide leave taps beyond the kernel
    dw = g.slice(products, (0,) * x.tensor.rank, (*products.shape[:2], *op.kernel))
    return (g.transpose(dw, (1, 0, *axes)),)


@gradient(MatMul)
def matmul(g: Build, op: MatMul, inputs: Values, y: Value, dy: Value) -> Gradients:
    """Products with the other operand transposed; vectors count as matrices."""
    a, b = inputs
    rows = g.reshape(a, (1, *a.shape)) if a.tensor.rank == 1 else a
    columns = g.reshape(b, (*b.shape, 1)) if b.tensor.rank == 1 else b
    stack = dy.shape[: dy.tensor.rank - (a.tensor.rank > 1) - (b.tensor.rank > 1)]
    dy = g.reshape(dy, (*stack, rows.shape[-2], columns.shape[-1]))
    da = g.sum_to(g.matmul(dy, g.swap(columns)), rows.shape)
    if columns.tensor.rank == 2:
        # one product over all stacked rows
        rows = g.reshape(rows, (prod(rows.shape[:-1]), rows.shape[-1]))
        dy = g.reshape(dy, (rows.shape[0], dy.shape[-1]))
    db = g.sum_to(g.matmul(g.swap(rows), dy), columns.shape)
    return g.reshape(da, a.shape), g.reshape(db, b.shape)


@gradient(AxisMap)
def axis_map(g: Build, op: AxisMap, inputs: Values, y: Value, dy: Value) -> Gradients:
    """x's is mapped back by the transposed matrix, the matrix's is a product of rows."""
    x, matrix = inputs
    others = [a for a in range(x.tensor.rank) if a != op.axis]
    flat = [g.transpose(v, (op.axis, *others)) for v in (dy, x)]
    left, right = (g.reshape(v, (v.shape[0], prod(v.shape[1:]))) for v in flat)
    dx = g.emit(AxisMap(op.axis), dy, g.swap(matrix))
    return dx, g.matmul(left, g.swap(right))
