"""The gradients of pooling: the transpose of an average, and what a maximum selects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import ClassVar

import numpy as np

from mgc.functions.pool import pool_average_grad, pool_max_grad, pool_max_pick
from mgc.ir.op import OnnxForm, Op, register
from mgc.ir.ops.check import require, same_dtype, tensors
from mgc.ir.ops.pool import Pool
from mgc.ir.types import TensorType, ValueType


def _ints(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


def _reshaped(form: OnnxForm | int, *shape: int) -> OnnxForm:
    return OnnxForm("Reshape", constants=(_ints(*shape),), operands=(form,))


@register
@dataclass(frozen=True)
class AveragePoolGrad(Op):
    """The transpose of an average pool: every window's dy, divided by what its average was divided by, added to the
    elements that the window covers.

    dy[N, C, *windows] -> [N, C, *spatial]; the other attributes are the pool's.
    """

    spatial: tuple[int, ...]
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    pads: tuple[int, ...]
    dilations: tuple[int, ...]
    count_include_pad: bool = False
    name: ClassVar[str] = "average_pool_grad"

    @property
    def pool(self) -> Pool:
        """The pool whose gradient it is."""
        return Pool("average", self.kernel, self.strides, self.pads, self.dilations, self.count_include_pad)

    def infer(self, *types: ValueType) -> tuple[ValueType, ...]:
        (dy,) = tensors(self, types, "dy")
        require(self, len(self.spatial) == len(self.kernel) == dy.rank - 2, f"dy is {dy}, x's extents {self.spatial}")
        x = dy.with_shape((*dy.shape[:2], *self.spatial))
        require(self, self.pool.infer(x) == (dy,), f"dy is {dy} but the pool of x {x} gives another shape")
        return (x,)

    def evaluate(self, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        (dy,) = arrays
        return (pool_average_grad(dy, self.pool.windows, self.spatial, dy.dtype),)

    def vec(self) -> tuple[str, tuple[float, ...]]:
        return "pool_average_grad", (*self.pool.windows.attributes, *map(float, self.spatial))

    def split_batch(self, types: Sequence[TensorType], batched: Sequence[bool], factor: int) -> Op | None:
        return self if batched[0] else None


@dataclass(frozen=True)
class _MaxPoolOp(Op):
    """What the two ops of a maximum pool's gradient share: its attributes."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    pads: tuple[int, ...]
    dilations: tuple[int, ...]

    @property
    def pool(self) -> Pool:
        """The pool whose gradient it is."""
        return Pool("max", *(getattr(self, f.name) for f in fields(self)))

    def _room(self, x: TensorType) -> tuple[OnnxForm | int, TensorType, tuple[int, ...]]:
        """x padded where ONNX Runtime would refuse the pads, its type then, and the pads that remain."""
        rank = len(self.kernel)
        if all(p < k for p, k in zip(self.pads, self.kernel * 2, strict=True)):
            return 0, x, self.pads
        amounts = (0, 0, *self.pads[:rank], 0, 0, *self.pads[rank:])
        value = np.array(-np.inf, x.dtype.numpy)
        shape = (*x.shape[:2], *(n + self.pads[i] + self.pads[rank + i] for i, n in enumerate(x.shape[2:])))
        return OnnxForm("Pad", constants=(_ints(*amounts), value), operands=(0,)), x.with_shape(shape), (0,) * 2 * rank

    def _places(self, x: OnnxForm | int, pads: Sequence[int]) -> OnnxForm:
        """For every window the index of its maximum in x flattened."""
        attributes = {
            "kernel_shape": list(self.kernel),
            "strides": list(self.strides),
            "pads": list(pads),
            "dilations": list(self.dilations),
        }
        return _reshaped(OnnxForm("MaxPool", attributes, operands=(x,), result=1), -1)

    def split_batch(self, types: Sequence[TensorType], batched: Sequence[bool], factor: int) -> Op | None:
        return self if all(batched) else None


@register
@dataclass(frozen=True)
class MaxPoolGrad(_MaxPoolOp):
    """The gradient of a maximum pool: every window's dy added to the first of its elements that has the maximum.

    x[N, C, *spatial], dy[N, C, *windows] -> [N, C, *spatial]. First in row-major order, as PyTorch takes it.
    """

    name: ClassVar[str] = "max_pool_grad"

    def infer(self, *types: ValueType) -> tuple[ValueType, ...]:
        x, dy = tensors(self, types, "x", "dy")
        same_dtype(self, ("x", x), ("dy", dy))
        require(self, x.dtype.is_float, f"x is {x}: float elements are needed")
        require(self, self.pool.infer(x) == (dy,), f"dy is {dy} but the pool of x {x} gives another shape")
        return (x,)

    def evaluate(self, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        x, dy = arrays
        return (pool_max_grad(x, dy, self.pool.windows, x.dtype),)

    def vec(self) -> tuple[str, tuple[float, ...]]:
        return "pool_max_grad", self.pool.windows.attributes

    def onnx(self, *types: TensorType) -> OnnxForm:
        x, _ = types
        rank = len(self.kernel)
        image, room, pads = self._room(x)
        zero = OnnxForm("Expand", constants=(np.zeros((), x.dtype.numpy), _ints(room.size)), operands=())
        added = OnnxForm(
            "ScatterElements",
            {"axis": 0, "reduction": "add"},
            operands=(zero, self._places(image, pads), _reshaped(1, -1)),
        )
        whole = _reshaped(added, *room.shape)
        if room == x:
            return whole
        stops = [self.pads[i] + n for i, n in enumerate(x.shape[2:])]
        bounds = tuple(_ints(*b) for b in (self.pads[:rank], stops, range(2, rank + 2)))
        return OnnxForm("Slice", constants=bounds, operands=(whole,))


@register
@dataclass(frozen=True)
class MaxPoolPick(_MaxPoolOp):
    """For every window the element of `picked` where x has its (first) maximum: the transpose of max_pool_grad.

    x[N, C, *spatial], picked of the same type -> [N, C, *windows].
    """

    name: ClassVar[str] = "max_pool_pick"

    def infer(self, *types: ValueType) -> tuple[ValueType, ...]:
        x, picked = tensors(self, types, "x", "picked")
        require(self, x.dtype.is_float and x == picked, f"x is {x} but picked is {picked}: one float type is needed")
        return self.pool.infer(x)

    def evaluate(self, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        x, picked = arrays
        return (pool_max_pick(x, picked, self.pool.windows),)

    def vec(self) -> tuple[str, tuple[float, ...]]:
        return "pool_max_pick", self.pool.windows.attributes

    def onnx(self, *types: TensorType) -> OnnxForm:
        x, _ = types
        (y,) = self.pool.infer(x)
        assert isinstance(y, TensorType)
        image, room, pads = self._room(x)
        source: OnnxForm | int = 1
        if room != x:
            rank = len(self.kernel)
            amounts = (0, 0, *self.pads[:rank], 0, 0, *self.pads[rank:])
            source = OnnxForm("Pad", constants=(_ints(*amounts),), operands=(1,))
        flat = OnnxForm("Gather", {"axis": 0}, operands=(_reshaped(source, -1), self._places(image, pads)))
        return _reshaped(flat, *y.shape)
