"""The gradients of pooling: the transpose of an average, and what a maximum selects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from math import prod
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from mgc.ir.op import OnnxForm, Op, register
from mgc.ir.ops.check import require, same_dtype, tensors
from mgc.ir.ops.pool import Pool
from mgc.ir.ops.windows import padded, taps
from mgc.ir.types import TensorType, ValueType, tensor_type_of

if TYPE_CHECKING:
    from mgc.ir.build import Build
    from mgc.ir.graph import Value


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
    def _pool(self) -> Pool:
        return Pool("average", self.kernel, self.strides, self.pads, self.dilations, self.count_include_pad)

    def infer(self, *types: ValueType) -> tuple[ValueType, ...]:
        (dy,) = tensors(self, types, "dy")
        require(self, len(self.spatial) == len(self.kernel) == dy.rank - 2, f"dy is {dy}, x's extents {self.spatial}")
        x = dy.with_shape((*dy.shape[:2], *self.spatial))
        require(self, self._pool.infer(x) == (dy,), f"dy is {dy} but the pool of x {x} gives another shape")
        return (x,)

    def _shares(self, dtype: np.dtype, out: Sequence[int]) -> np.ndarray:
        """1 / divisor of every window, [1, 1, *windows]; 0 for a window without elements."""
        inside = padded(np.ones((1, 1, *self.spatial), dtype), self.pads, float(self.count_include_pad))
        count = np.zeros((1, 1, *out), dtype)
        for _, where in taps(self.kernel, out, self.strides, self.dilations):
            count += inside[where]
        return np.divide(1, count, out=np.zeros_like(count), where=count != 0)

    def evaluate(self, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        (dy,) = arrays
        rank, out = len(self.kernel), dy.shape[2:]
        full = [n + self.pads[i] + self.pads[rank + i] for i, n in enumerate(self.spatial)]
        dx = np.zeros((*dy.shape[:2], *full), dy.dtype)
        share = dy * self._shares(dy.dtype, out)
        for _, where in taps(self.kernel, out, self.strides, self.dilations):
            dx[where] += share
        crop = (slice(self.pads[i], self.pads[i] + n) for i, n in enumerate(self.spatial))
        return (np.ascontiguousarray(dx[(slice(None), slice(None), *crop)]),)

    def onnx(self, *types: TensorType) -> OnnxForm:
        """A transposed convolution of each channel by itself with a kernel of ones."""
        (dy,) = types
        rank, out = len(self.kernel), dy.shape[2:]
        share = OnnxForm("Mul", constants=(self._shares(dy.dtype.numpy, out),), operands=(0,))
        full = [n + self.pads[i] + self.pads[rank + i] for i, n in enumerate(self.spatial)]
        reach = [
            s * (o - 1) + d * (k - 1) + 1
            for o, s, d, k in zip(out, self.strides, self.dilations, self.kernel, strict=True)
        ]
        attributes = {"strides": list(self.strides), "dilations": list(self.dilations)}
        flat = _reshaped(share, prod(dy.shape[:2]), 1, *out)
        kernel = np.ones((1, 1, *self.kernel), dy.dtype.numpy)
        spread = OnnxForm("ConvTranspose", attributes, (kernel,), (flat,))
        room = (*(0,) * (rank + 4), *(f - r for f, r in zip(full, reach, strict=True)))
        whole = OnnxForm("Pad", constants=(_ints(*room),), operands=(spread,)) if any(room) else spread
        stops = [self.pads[i] + n for i, n in enumerate(self.spatial)]
        bounds = tuple(_ints(*b) for b in (self.pads[:rank], stops, range(2, rank + 2)))
        return _reshaped(OnnxForm("Slice", constants=bounds, operands=(whole,)), *dy.shape[:2], *self.spatial)

    def split_batch(self, types: Sequence[TensorType], batched: Sequence[bool], factor: int) -> Op | None:
        return self if batched[0] else None

    def vjp(
        self, build: Build, inputs: Sequence[Value], outputs: Sequence[Value], cotangents: Sequence[Value | None]
    ) -> Sequence[Value | None]:
        (ddx,) = cotangents
        return (None if ddx is None else build.emit(self._pool, ddx),)


@dataclass(frozen=True)
class _MaxPoolOp(Op):
    """What the two ops of a maximum pool's gradient share: its attributes, and which tap every window selects."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    pads: tuple[int, ...]
    dilations: tuple[int, ...]

    @property
    def _pool(self) -> Pool:
        return Pool("max", *(getattr(self, f.name) for f in fields(self)))

    def _selected(self, x: np.ndarray, out: Sequence[int]) -> np.ndarray:
        """The number of the first tap, in row-major order, that has the maximum of each window."""
        xp = padded(x, self.pads, -np.inf)
        best, selected = np.full((*x.shape[:2], *out), -np.inf, x.dtype), np.zeros((*x.shape[:2], *out), np.int32)
        for number, (_, where) in enumerate(taps(self.kernel, out, self.strides, self.dilations)):
            better = xp[where] > best
            best, selected = np.where(better, xp[where], best), np.where(better, number, selected)
        return selected

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
        require(self, self._pool.infer(x) == (dy,), f"dy is {dy} but the pool of x {x} gives another shape")
        return (x,)

    def evaluate(self, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        x, dy = arrays
        rank = len(self.kernel)
        selected = self._selected(x, dy.shape[2:])
        dx = padded(np.zeros_like(x), self.pads, 0)
        for number, (_, where) in enumerate(taps(self.kernel, dy.shape[2:], self.strides, self.dilations)):
            dx[where] += np.where(selected == number, dy, 0)
        crop = (slice(self.pads[i], self.pads[i] + n) for i, n in enumerate(x.shape[2 : 2 + rank]))
        return (np.ascontiguousarray(dx[(slice(None), slice(None), *crop)]),)

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

    def vjp(
        self, build: Build, inputs: Sequence[Value], outputs: Sequence[Value], cotangents: Sequence[Value | None]
    ) -> Sequence[Value | None]:
        """Linear in dy; which elements are selected does not change with x."""
        (ddx,) = cotangents
        if ddx is None:
            return None, None
        return None, build.emit(MaxPoolPick(self.kernel, self.strides, self.pads, self.dilations), inputs[0], ddx)


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
        return self._pool.infer(x)

    def evaluate(self, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        x, picked = arrays
        (type_,) = self._pool.infer(tensor_type_of(x))
        assert isinstance(type_, TensorType)
        out = type_.shape[2:]
        selected, source = self._selected(x, out), padded(picked, self.pads, 0)
        y = np.zeros(type_.shape, x.dtype)
        for number, (_, where) in enumerate(taps(self.kernel, out, self.strides, self.dilations)):
            y = np.where(selected == number, source[where], y)
        return (y,)

    def onnx(self, *types: TensorType) -> OnnxForm:
        x, _ = types
        (y,) = self._pool.infer(x)
        assert isinstance(y, TensorType)
        image, room, pads = self._room(x)
        source: OnnxForm | int = 1
        if room != x:
            rank = len(self.kernel)
            amounts = (0, 0, *self.pads[:rank], 0, 0, *self.pads[rank:])
            source = OnnxForm("Pad", constants=(_ints(*amounts),), operands=(1,))
        flat = OnnxForm("Gather", {"axis": 0}, operands=(_reshaped(source, -1), self._places(image, pads)))
        return _reshaped(flat, *y.shape)

    def vjp(
        self, build: Build, inputs: Sequence[Value], outputs: Sequence[Value], cotangents: Sequence[Value | None]
    ) -> Sequence[Value | None]:
        (dy,) = cotangents
        if dy is None:
            return None, None
        return None, build.emit(MaxPoolGrad(self.kernel, self.strides, self.pads, self.dilations), inputs[0], dy)
