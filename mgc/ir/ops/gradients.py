"""The weight gradient of convolutions."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np

from mgc.functions.windows import padded, taps
from mgc.ir.op import Op, register
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
