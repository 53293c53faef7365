"""Pooling over windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from mgc.functions.pool import PoolWindows, lowest, pool_average, pool_max
from mgc.ir.op import OnnxForm, Op, register
from mgc.ir.ops.check import require, tensors
from mgc.ir.types import DType, TensorType, ValueType


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
    nonnegative_if = "first"

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
        out = self.windows.extents(x.shape[2:])
        require(self, all(e >= 1 for e in out), f"kernel {self.kernel} does not fit into x {x} with pads {self.pads}")
        return (x.with_shape((*x.shape[:2], *out)),)

    @property
    def windows(self) -> PoolWindows:
        """Its windows."""
        return PoolWindows(self.kernel, self.strides, self.pads, self.dilations, self.count_include_pad)

    def evaluate(self, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        (x,) = arrays
        return (pool_max(x, self.windows) if self.kind == "max" else pool_average(x, self.windows, x.dtype),)

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
        value = lowest(types[0].dtype.numpy) if self.kind == "max" else 0
        amounts = np.array([0, 0, *self.pads[:rank], 0, 0, *self.pads[rank:]], np.int64)
        first = OnnxForm("Pad", constants=(amounts, np.array(value, types[0].dtype.numpy)))
        return OnnxForm(op_type, attributes | {"pads": [0] * (2 * rank)}, operands=(first,))

    def vec(self) -> tuple[str, tuple[float, ...]]:
        return f"pool_{self.kind}", self.windows.attributes

    def split_batch(self, types: Sequence[TensorType], batched: Sequence[bool], factor: int) -> Op | None:
        return self if batched[0] else None
