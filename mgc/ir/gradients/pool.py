"""Gradients of pooling and of its gradients."""

from __future__ import annotations

import numpy as np

from mgc.ir.build import Build
from mgc.ir.gradients.linear import input_gradient
from mgc.ir.gradients.rules import Gradients, Values, decomposition, gradient
from mgc.ir.graph import Value
from mgc.ir.ops.gradients_pool import AveragePoolGrad, MaxPoolGrad, MaxPoolPick
from mgc.ir.ops.linear import Conv
from mgc.ir.ops.pool import Pool


@gradient(Pool)
def pool(g: Build, op: Pool, inputs: Values, y: Value, dy: Value) -> Gradients:
    """A maximum's dy goes to the first element that has it; an average's is shared."""
    (x,) = inputs
    if not x.tensor.dtype.is_float:
        return (None,)
    window = (op.kernel, op.strides, op.pads, op.dilations)
    if op.kind == "max":
        return (g.emit(MaxPoolGrad(*window), x, dy),)
    return (g.emit(AveragePoolGrad(x.shape[2:], *window, op.count_include_pad), dy),)


@gradient(AveragePoolGrad)
def average_pool_grad(g: Build, op: AveragePoolGrad, inputs: Values, dx: Value, ddx: Value) -> Gradients:
    """The pool itself."""
    return (g.emit(op.pool, ddx),)


@decomposition(AveragePoolGrad)
def average_gradient(g: Build, op: AveragePoolGrad, inputs: Values) -> Values:
    """The input's gradient of a convolution of each channel by itself with a kernel of ones."""
    (dy,) = inputs
    samples, channels, *windows = dy.shape
    dtype = dy.tensor.dtype.numpy
    count = op.pool.windows.divisors(op.spatial, dtype)
    shares = np.divide(1, count, out=np.zeros_like(count), where=count != 0)
    flat = g.reshape(g.mul(dy, g.array(shares)), (samples * channels, 1, *windows))
    kernel = g.array(np.ones((1, 1, *op.kernel), dtype))
    dx = input_gradient(g, Conv(op.strides, op.pads, op.dilations), flat, kernel, op.spatial)
    return (g.reshape(dx, (samples, channels, *op.spatial)),)


@gradient(MaxPoolGrad)
def max_pool_grad(g: Build, op: MaxPoolGrad, inputs: Values, dx: Value, ddx: Value) -> Gradients:
    """Linear in dy; which elements are selected does not change with x."""
    return None, g.emit(MaxPoolPick(op.kernel, op.strides, op.pads, op.dilations), inputs[0], ddx)


@gradient(MaxPoolPick)
def max_pool_pick(g: Build, op: MaxPoolPick, inputs: Values, y: Value, dy: Value) -> Gradients:
    """The transpose of max_pool_pick."""
    return None, g.emit(MaxPoolGrad(op.kernel, op.strides, op.pads, op.dilations), inputs[0], dy)
