"""Pooling over windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from mgc.ir.op import OnnxForm, Op, register
from mgc.ir.ops.check import require, tensors
from mgc.ir.ops.windows import output_extent, padded, taps
from mgc.ir.types import DType, TensorType, ValueType

if TYPE_CHECKING:
    from mgc.ir.build import Build
    from mgc.ir.graph import Value


def _lowest(dtype: DType) -> float:
    return -np.inf if dtype.is_float else int(np.iinfo(dtype.numpy).min)


@register
@dataclass(frozen=True)
class Pool(Op):
    """Maximum or average over windows of x[N, C, *spatial] -> [N, C, *windows]; pads = (begins..., ends...).

    Average: the divisor is the window's size with `count_include_pad`, else the number of its elements inside x.
    """

    kind: str
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    pads: tuple[int, ...]
    dilations: tuple[int, ...]
    count_include_pad: bool = False
    name: ClassVar[str] = "pool"

    def infer(self, *types: ValueType) -> tuple[ValueType, ...]:
        (x,) = tensors(self, types, "x")
        rank = len(self.kernel)
        require(self, self.kind in ("max", "average"), f"no kind {self.kind!r}; there are max, average")
        require(self, rank >= 1 and x.rank == rank + 2, f"x is {x} but the kernel {self.kernel} has {rank} axes")
        require(self, self.kind == "max" or x.dtype.is_float, f"average of x {x}: float elements are needed")
        require(self, x.dtype is not DType.BOOL, f"x is {x}")
        for what, values, length, least in (
            ("kernel", self.kernel, rank, 1),
            ("strides", self.strides, rank, 1),
            ("pads", self.pads, 2 * rank, 0),
            ("dilations", self.dilations, rank, 1),
        ):
            require(self, len(values) == length, f"{what} {values}: {length} numbers are needed")
            require(self, all(v >= least for v in values), f"{what} {values}: each must be at least {least}")
        out = self._windows(x.shape[2:])
        require(self, all(e >= 1 for e in out), f"kernel {self.kernel} does not fit into x {x} with pads {self.pads}")
        return (x.with_shape((*x.shape[:2], *out)),)

    def _windows(self, spatial: Sequence[int]) -> tuple[int, ...]:
        rank = len(self.kernel)
        return tuple(
            output_extent(n, self.kernel[i], self.strides[i], self.pads[i], self.pads[rank + i], self.dilations[i])
            for i, n in enumerate(spatial)
        )

    def evaluate(self, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        (x,) = arrays
        out = self._windows(x.shape[2:])
        if self.kind == "max":
            xp = padded(x, self.pads, _lowest(DType.of(x.dtype)))
            y: np.ndarray | None = None
            for _, where in taps(self.kernel, out, self.strides, self.dilations):
                y = xp[where].copy() if y is None else np.maximum(y, xp[where], out=y)
            assert y is not None
            return (y,)
        xp = padded(x, self.pads, 0)
        inside = padded(np.ones((1, 1, *x.shape[2:]), x.dtype), self.pads, float(self.count_include_pad))
        total = np.zeros((*x.shape[:2], *out), x.dtype)
        count = np.zeros((1, 1, *out), x.dtype)
        for _, where in taps(self.kernel, out, self.strides, self.dilations):
            total += xp[where]
            count += inside[where]
        with np.errstate(all="ignore"):
            return (total / count,)

    def onnx(self, *types: TensorType) -> OnnxForm:
        rank = len(self.kernel)
        attributes: dict[str, Any] = {
            "kernel_shape": list(self.kernel),
            "strides": list(self.strides),
            "pads": list(self.pads),
            "dilations": list(self.dilations),
        }
        if self.kind == "average":
            attributes["count_include_pad"] = int(self.count_include_pad)
        op_type = "MaxPool" if self.kind == "max" else "AveragePool"
        plain = all(p < k for p, k in zip(self.pads, self.kernel * 2, strict=True))
        if plain or (self.kind == "average" and not self.count_include_pad):
            return OnnxForm(op_type, attributes)
        # ONNX Runtime refuses pads as large as the kernel: pad first
        value = _lowest(types[0].dtype) if self.kind == "max" else 0
        amounts = np.array([0, 0, *self.pads[:rank], 0, 0, *self.pads[rank:]], np.int64)
        first = OnnxForm("Pad", constants=(amounts, np.array(value, types[0].dtype.numpy)))
        return OnnxForm(op_type, attributes | {"pads": [0] * (2 * rank)}, operands=(first,))

    def split_batch(self, types: Sequence[TensorType], batched: Sequence[bool], factor: int) -> Op | None:
        return self if batched[0] else None

    def vjp(
        self, build: Build, inputs: Sequence[Value], outputs: Sequence[Value], cotangents: Sequence[Value | None]
    ) -> Sequence[Value | None]:
        """A maximum's dy goes to the first element that has it; an average's is shared."""
        from mgc.ir.ops.gradients_pool import AveragePoolGrad, MaxPoolGrad

        (x,), (dy,) = inputs, cotangents
        if dy is None or not x.tensor.dtype.is_float:
            return (None,)
        window = (self.kernel, self.strides, self.pads, self.dilations)
        if self.kind == "max":
            return (build.emit(MaxPoolGrad(*window), x, dy),)
        return (build.emit(AveragePoolGrad(x.shape[2:], *window, self.count_include_pad), dy),)
