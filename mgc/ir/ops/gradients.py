"""The weight gradient of convolutions."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np

from mgc.functions.windows import padded, taps
from mgc.ir.op import OnnxForm, Op, register
from mgc.ir.ops.check import require, same_dtype, tensors
from mgc.ir.ops.linear import Conv
from mgc.ir.types import TensorType, ValueType


@register
@dataclass(frozen=True)
class ConvWeightGrad(Op):
    """dw[m, c, t] = sum over samples n and windows q of dy[n, m, q] x[n, c, q stride + t dilation - begin pad].

    x[N, C, *spatial], dy[N, M, *windows] -> [M, C/groups, *kernel], m and c of the same group. The attributes are
    those of the convolution whose weights it is; for conv_transpose (whose input is dy here, and x the cotangent of
    its result) that convolution is its transpose. dy may have fewer windows than fit into x.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    pads: tuple[int, ...]
    dilations: tuple[int, ...]
    groups: int = 1
    name: ClassVar[str] = "conv_weight_grad"

    @property
    def conv(self) -> Conv:
        """The convolution whose weights it is about."""
        return Conv(self.strides, self.pads, self.dilations, self.groups)

    def infer(self, *types: ValueType) -> tuple[ValueType, ...]:
        x, dy = tensors(self, types, "x", "dy")
        same_dtype(self, ("x", x), ("dy", dy))
        rank = len(self.kernel)
        require(self, x.rank == dy.rank == rank + 2, f"x is {x}, dy is {dy}, but the kernel has {rank} axes")
        require(self, x.shape[0] == dy.shape[0], f"x is {x} but dy is {dy}: the samples differ in number")
        require(self, self.groups >= 1 and x.shape[1] % self.groups == 0, f"x is {x} with {self.groups} groups")
        w = x.with_shape((dy.shape[1], x.shape[1] // self.groups, *self.kernel))
        (y,) = self.conv.infer(x, w)
        assert isinstance(y, TensorType)
        fits = all(n <= most for n, most in zip(dy.shape[2:], y.shape[2:], strict=True))
        require(self, fits, f"dy is {dy} but the convolution of x {x} has {y.shape[2:]} windows")
        return (w,)

    def evaluate(self, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        x, dy = arrays
        n, c = x.shape[:2]
        m, g, out = dy.shape[1], self.groups, dy.shape[2:]
        xp = padded(x, self.pads, 0)
        dw = np.empty((m, c // g, *self.kernel), x.dtype)
        # [group, filter, sample and window] times [group, sample and window, channel], tap by tap
        left = np.moveaxis(dy.reshape(n, g, m // g, prod(out)), 0, 2).reshape(g, m // g, n * prod(out))
        for tap, where in taps(self.kernel, out, self.strides, self.dilations):
            right = np.moveaxis(xp[where].reshape(n, g, c // g, prod(out)), 0, 2).reshape(g, c // g, n * prod(out))
            dw[(slice(None), slice(None), *tap)] = (left @ right.swapaxes(1, 2)).reshape(m, c // g)
        return (dw,)

    def onnx(self, *types: TensorType) -> OnnxForm:
        """A convolution whose batch is x's channels and whose channels are the samples, stride and dilation swapped."""
        x, dy = types
        n, c = x.shape[:2]
        g, rank = self.groups, len(self.kernel)
        axes = list(range(2, rank + 2))

        def shaped(form: OnnxForm | int, *shape: int) -> OnnxForm:
            return OnnxForm("Reshape", constants=(np.array(shape, np.int64),), operands=(form,))

        def moved(form: OnnxForm | int, *perm: int) -> OnnxForm:
            return OnnxForm("Transpose", {"perm": list(perm)}, operands=(form,))

        # [N, G, C/G, S] -> [C/G, G N, S]
        grouped = shaped(0, n, g, c // g, *x.shape[2:])
        image = shaped(moved(grouped, 2, 1, 0, *(a + 1 for a in axes)), c // g, g * n, *x.shape[2:])
        attributes = {
            "strides": list(self.dilations),
            "dilations": list(self.strides),
            "pads": list(self.pads),
            "group": g,
            "kernel_shape": list(dy.shape[2:]),
        }
        products = OnnxForm("Conv", attributes, operands=(image, moved(1, 1, 0, *axes)))
        # strides that did not divide leave taps beyond the kernel
        bounds = ([0] * rank, list(self.kernel), axes)
        cut = OnnxForm("Slice", constants=tuple(np.array(b, np.int64) for b in bounds), operands=(products,))
        return moved(cut, 1, 0, *axes)
