"""Linear ops with weights: convolutions, matrix product, resampling along an axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from string import ascii_letters
from typing import Any, ClassVar

import numpy as np

from mgc.functions.windows import output_extent, padded, taps
from mgc.ir.flow import Axis
from mgc.ir.op import OnnxForm, Op, register
from mgc.ir.ops.check import broadcast, require, same_dtype, tensors
from mgc.ir.types import TensorType, ValueType


def _check_spatial(op: _Convolution, x: TensorType, w: TensorType) -> int:
    """Checks ranks and attribute lengths; gives the number of spatial axes."""
    rank = x.rank - 2
    require(op, rank >= 1, f"x is {x}: [N, C, spatial...] is needed")
    require(op, w.rank == x.rank, f"x is {x} but w is {w}: ranks differ")
    same_dtype(op, ("x", x), ("w", w))
    require(op, x.dtype.is_float, f"x is {x}: float elements are needed")
    require(op, op.groups >= 1, f"groups is {op.groups}")
    for what, values, length, least in (
        ("strides", op.strides, rank, 1),
        ("pads", op.pads, 2 * rank, 0),
        ("dilations", op.dilations, rank, 1),
    ):
        require(op, len(values) == length, f"{what} {values}: {length} numbers are needed for {rank} spatial axes")
        require(op, all(v >= least for v in values), f"{what} {values}: each must be at least {least}")
    require(op, all(w.shape[2:]), f"w is {w}: an empty kernel")
    return rank


class _Convolution(Op):
    """What both convolutions have in common: attributes, and samples that do not mix."""

    strides: tuple[int, ...]
    pads: tuple[int, ...]
    dilations: tuple[int, ...]
    groups: int

    def attributes(self, kernel: Sequence[int]) -> dict[str, Any]:
        """ONNX's attributes."""
        lists = {"strides": self.strides, "pads": self.pads, "dilations": self.dilations, "kernel_shape": kernel}
        return {name: list(values) for name, values in lists.items()} | {"group": self.groups}

    def macs(self, windows: Sequence[int], types: Sequence[TensorType], result: TensorType) -> int:
        """Windows times kernel taps, times input channels of a group, times output channels."""
        x, w = types
        return x.shape[0] * prod(windows) * prod(w.shape[2:]) * (x.shape[1] // self.groups) * result.shape[1]

    def split_batch(self, types: Sequence[TensorType], batched: Sequence[bool], factor: int) -> Op | None:
        return self if list(batched) == [True, False] else None


@register
@dataclass(frozen=True)
class Conv(_Convolution):
    """Convolution (ONNX's, that is correlation) without bias, 1-D to any-D.

    x[N, C, *spatial], w[M, C/groups, *kernel] -> [N, M, *windows]; pads = (begins..., ends...), none negative.
    """

    strides: tuple[int, ...]
    pads: tuple[int, ...]
    dilations: tuple[int, ...]
    groups: int = 1
    name: ClassVar[str] = "conv"

    def infer(self, *types: ValueType) -> tuple[ValueType, ...]:
        x, w = tensors(self, types, "x", "w")
        rank = _check_spatial(self, x, w)
        n, c = x.shape[:2]
        m, per_group = w.shape[:2]
        require(
            self,
            c == per_group * self.groups,
            f"x is {x} with {c} channels but w is {w}: {per_group} x {self.groups} groups are needed",
        )
        require(self, m % self.groups == 0, f"w is {w}: {m} filters do not divide into {self.groups} groups")
        out = tuple(
            output_extent(x.shape[2 + i], w.shape[2 + i], self.strides[i], self.pads[i], self.pads[rank + i], d)
            for i, d in enumerate(self.dilations)
        )
        require(self, all(e >= 1 for e in out), f"the kernel of w {w} does not fit into x {x} with pads {self.pads}")
        return (x.with_shape((n, m, *out)),)

    def evaluate(self, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        x, w = arrays
        n, c = x.shape[:2]
        m, g = w.shape[0], self.groups
        (y_type,) = self.infer(*map(_type, arrays))
        assert isinstance(y_type, TensorType)
        out = y_type.shape[2:]
        xp = padded(x, self.pads, 0)
        y = np.zeros((n, g, m // g, prod(out)), x.dtype)
        for tap, where in taps(w.shape[2:], out, self.strides, self.dilations):
            rows = w[(slice(None), slice(None), *tap)].reshape(g, m // g, c // g)
            y += rows @ xp[where].reshape(n, g, c // g, prod(out))
        return (y.reshape(y_type.shape),)

    def onnx(self, *types: TensorType) -> OnnxForm:
        return OnnxForm("Conv", self.attributes(types[1].shape[2:]))

    def useful_macs(self, types: Sequence[TensorType], result: TensorType) -> int:
        """Windows are positions of the output."""
        return self.macs(result.shape[2:], types, result)


@register
@dataclass(frozen=True)
class ConvTranspose(_Convolution):
    """Transposed convolution without bias, 1-D to any-D.

    x[N, C, *spatial], w[C, M/groups, *kernel] -> [N, M, *out] with, on each axis,
    out = stride (in - 1) + dilation (kernel - 1) + 1 + output_padding - begin pad - end pad.
    Output positions that no tap reaches are 0.
    """

    strides: tuple[int, ...]
    pads: tuple[int, ...]
    output_padding: tuple[int, ...]
    dilations: tuple[int, ...]
    groups: int = 1
    name: ClassVar[str] = "conv_transpose"

    def infer(self, *types: ValueType) -> tuple[ValueType, ...]:
        x, w = tensors(self, types, "x", "w")
        rank = _check_spatial(self, x, w)
        require(
            self,
            len(self.output_padding) == rank and min(self.output_padding) >= 0,
            f"output_padding {self.output_padding}: {rank} numbers >= 0 are needed",
        )
        n, c = x.shape[:2]
        require(self, c == w.shape[0], f"x is {x} with {c} channels but w is {w}: its first dimension must be {c}")
        require(self, c % self.groups == 0, f"x is {x}: {c} channels do not divide into {self.groups} groups")
        out = tuple(
            full - self.pads[i] - self.pads[rank + i] for i, full in enumerate(self._full(x.shape[2:], w.shape[2:]))
        )
        require(self, all(e >= 1 for e in out), f"pads {self.pads} leave nothing of the output for x {x} and w {w}")
        return (x.with_shape((n, w.shape[1] * self.groups, *out)),)

    def _full(self, spatial: Sequence[int], kernel: Sequence[int]) -> tuple[int, ...]:
        """Extents of the output before pads are cut off."""
        return tuple(
            s * (n - 1) + d * (k - 1) + 1 + extra
            for n, k, s, d, extra in zip(
                spatial, kernel, self.strides, self.dilations, self.output_padding, strict=True
            )
        )

    def evaluate(self, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        x, w = arrays
        n, c = x.shape[:2]
        g, per_group = self.groups, w.shape[1]
        rank = x.ndim - 2
        full = self._full(x.shape[2:], w.shape[2:])
        y = np.zeros((n, g * per_group, *full), x.dtype)
        flat = x.reshape(n, g, c // g, prod(x.shape[2:]))
        for tap, where in taps(w.shape[2:], x.shape[2:], self.strides, self.dilations):
            columns = w[(slice(None), slice(None), *tap)].reshape(g, c // g, per_group).swapaxes(1, 2)
            y[where] += (columns @ flat).reshape(n, g * per_group, *x.shape[2:])
        crop = (slice(self.pads[i], full[i] - self.pads[rank + i]) for i in range(rank))
        return (np.ascontiguousarray(y[(slice(None), slice(None), *crop)]),)

    def onnx(self, *types: TensorType) -> OnnxForm:
        attributes = self.attributes(types[1].shape[2:])
        rank = len(self.strides)
        if all(extra < stride for extra, stride in zip(self.output_padding, self.strides, strict=True)):
            return OnnxForm("ConvTranspose", attributes | {"output_padding": list(self.output_padding)})
        # ONNX Runtime refuses output_padding that large: add the zeros, then cut the pads off
        whole = OnnxForm("ConvTranspose", attributes | {"pads": [0] * (2 * rank)})
        amounts = np.array([0] * (rank + 4) + list(self.output_padding), np.int64)
        grown = OnnxForm("Pad", constants=(amounts,), operands=(whole,))
        full = self._full(types[0].shape[2:], types[1].shape[2:])
        stops = [n - p for n, p in zip(full, self.pads[rank:], strict=True)]
        bounds = (self.pads[:rank], stops, range(2, rank + 2))
        return OnnxForm("Slice", constants=tuple(np.array(b, np.int64) for b in bounds), operands=(grown,))

    def useful_macs(self, types: Sequence[TensorType], result: TensorType) -> int:
        """Windows are positions of the input."""
        return self.macs(types[0].shape[2:], types, result)


@register
@dataclass(frozen=True)
class MatMul(Op):
    """Matrix product with numpy.matmul's rules (stacks of matrices broadcast, vectors allowed)."""

    name: ClassVar[str] = "matmul"
    nonnegative_if = "every"

    def infer(self, *types: ValueType) -> tuple[ValueType, ...]:
        a, b = tensors(self, types, "a", "b")
        same_dtype(self, ("a", a), ("b", b))
        require(self, a.rank > 0 and b.rank > 0, f"a is {a} and b is {b}: a scalar cannot be an operand")
        inner = b.shape[-2] if b.rank > 1 else b.shape[0]
        require(self, a.shape[-1] == inner, f"a is {a} but b is {b}: inner dimensions {a.shape[-1]} and {inner} differ")
        stack = broadcast(self, a.shape[:-2], b.shape[:-2])
        return (a.with_shape((*stack, *a.shape[:-1][-1:], *(b.shape[-1:] if b.rank > 1 else ()))),)

    def evaluate(self, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        with np.errstate(all="ignore"):
            return (np.asarray(np.matmul(*arrays), arrays[0].dtype),)

    def onnx(self, *types: TensorType) -> OnnxForm:
        return OnnxForm("MatMul")

    def vec(self) -> tuple[str, tuple[float, ...]]:
        return self.name, ()

    def useful_macs(self, types: Sequence[TensorType], result: TensorType) -> int:
        """Its result's elements times the inner dimension."""
        return result.size * types[0].shape[-1]

    def batch_axes(
        self, types: Sequence[TensorType], axes: Sequence[Axis], results: Sequence[TensorType], split: int
    ) -> Sequence[Axis] | None:
        """Rows or stacks go by parts; a product over the batch is a sum."""
        (a, b), (x, y), result = (t.shape for t in types), axes, results[0].shape
        if len(a) >= 2 and len(b) >= 2:
            if x == len(a) - 2 and y is None:
                return (len(result) - 2,)
            if x == len(a) - 1 and y == len(b) - 2:
                return (None,)
            if y == len(b) - 1 and x is None:
                return (len(result) - 1,)
        return super().batch_axes(types, axes, results, split)

    def split_batch(self, types: Sequence[TensorType], batched: Sequence[bool], factor: int) -> Op | None:
        a, b = types
        if all(batched):
            fits = a.rank == b.rank >= 3 and a.shape[0] == b.shape[0]
        elif batched[0]:
            fits = a.rank >= 2 and (b.rank <= 2 or b.rank < a.rank or (b.rank == a.rank and b.shape[0] == 1))
        elif batched[1]:
            fits = b.rank >= 3 and (a.rank < b.rank or (a.rank == b.rank and a.shape[0] == 1))
        else:
            fits = False
        return self if fits else None


@register
@dataclass(frozen=True)
class AxisMap(Op):
    """Linear map along one axis: x[..., in, ...] and matrix[out, in] -> [..., out, ...]. Resampling is made of it."""

    axis: int
    name: ClassVar[str] = "axis_map"
    nonnegative_if = "every"

    def infer(self, *types: ValueType) -> tuple[ValueType, ...]:
        x, matrix = tensors(self, types, "x", "matrix")
        same_dtype(self, ("x", x), ("matrix", matrix))
        require(self, 0 <= self.axis < x.rank, f"axis {self.axis} is outside x {x}")
        require(
            self,
            matrix.rank == 2 and matrix.shape[1] == x.shape[self.axis],
            f"matrix is {matrix} but x is {x}: [out, {x.shape[self.axis]}] is needed for axis {self.axis}",
        )
        return (x.with_shape((*x.shape[: self.axis], matrix.shape[0], *x.shape[self.axis + 1 :])),)

    def evaluate(self, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        x, matrix = arrays
        return (np.ascontiguousarray(np.moveaxis(np.moveaxis(x, self.axis, -1) @ matrix.T, -1, self.axis)),)

    def onnx(self, *types: TensorType) -> OnnxForm:
        rank = types[0].rank
        letters = ascii_letters[:rank]
        result = letters.replace(letters[self.axis], ascii_letters[rank])
        return OnnxForm("Einsum", {"equation": f"{letters},{ascii_letters[rank]}{letters[self.axis]}->{result}"})

    def vec(self) -> tuple[str, tuple[float, ...]]:
        return self.name, (float(self.axis),)

    def split_batch(self, types: Sequence[TensorType], batched: Sequence[bool], factor: int) -> Op | None:
        return self if self.axis != 0 and list(batched) == [True, False] else None


def _type(array: np.ndarray) -> TensorType:
    from mgc.ir.types import tensor_type_of

    return tensor_type_of(array)
