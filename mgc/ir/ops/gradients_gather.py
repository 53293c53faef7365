"""The gradient of gather."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mgc.functions.scatter import scatter_add
from mgc.ir.op import OnnxForm, Op, register
from mgc.ir.ops.check import require, tensors
from mgc.ir.types import TensorType, ValueType


@register
@dataclass(frozen=True)
class ScatterAdd(Op):
    """The transpose of gather: entries of dy added up where gather took them from, zeros elsewhere.

    dy[..., *i, ...], indices[*i] -> [..., size, ...] with `size` on `axis`. Equal indices add up in row-major order.
    """

    axis: int
    size: int
    name: ClassVar[str] = "scatter_add"

    def infer(self, *types: ValueType) -> tuple[ValueType, ...]:
        dy, indices = tensors(self, types, "dy", "indices")
        require(self, indices.dtype.is_integer, f"indices are {indices}: integers are needed")
        end = self.axis + indices.rank
        fits = self.axis >= 0 and dy.shape[self.axis : end] == indices.shape and self.size >= 0
        require(self, fits, f"dy is {dy}, which does not hold indices {indices} from axis {self.axis} on")
        return (dy.with_shape((*dy.shape[: self.axis], self.size, *dy.shape[end:])),)

    def evaluate(self, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        dy, indices = arrays
        return (scatter_add(dy, indices, self.axis, self.size, dy.dtype),)

    def onnx(self, *types: TensorType) -> OnnxForm:
        dy, indices = types
        lead, rest = dy.shape[: self.axis], dy.shape[self.axis + indices.rank :]

        def ints(*numbers: int) -> np.ndarray:
            return np.array(numbers, np.int64)

        zero = OnnxForm("Expand", constants=(np.zeros((), dy.dtype.numpy), ints(*lead, self.size, *rest)), operands=())
        flat = (*lead, indices.size, *rest)
        entries = OnnxForm("Reshape", constants=(ints(*flat),), operands=(0,))
        column = (ints(*(1,) * len(lead), indices.size, *(1,) * len(rest)),)
        at = OnnxForm(
            "Expand", constants=(ints(*flat),), operands=(OnnxForm("Reshape", constants=column, operands=(1,)),)
        )
        return OnnxForm("ScatterElements", {"axis": self.axis, "reduction": "add"}, operands=(zero, at, entries))

    def vec(self) -> tuple[str, tuple[float, ...]]:
        return self.name, (float(self.axis), float(self.size))

    def split_batch(self, types: Sequence[TensorType], batched: Sequence[bool], factor: int) -> Op | None:
        return self if list(batched) == [True, False] and self.axis != 0 else None
