"""Weights that change while a plan runs: how a version of a group lies in memory, and products with it.

A 16-bit integer w is 256 h + l with a signed high byte h and an unsigned low byte l, so that two products of 8-bit
kernels give the product with w. Kernels take int8 operands minus a zero point: h as it is, l as l - 128 with the zero
point -128; where such kernels are not exact on this machine, uint8 operands: h + 128 with 128, l as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mgc.isa.crossbar import CrossbarGroup
from mgc.sim.fast import kernels
from mgc.sim.fast.graph import GraphBuilder, NotLoweredError
from mgc.sim.fast.values import Element, GraphValue

_F64 = np.dtype(np.float64)
_BYTE = 256
"""No operand minus its zero point is larger."""


@dataclass(frozen=True)
class BytePlane:
    """One byte of every weight: operands minus `zero`, times `factor`, add up to the weight."""

    zero: int
    factor: int


def plane_dtype() -> np.dtype:
    """The element type of planes on this machine."""
    return np.dtype(np.int8 if kernels.is_exact("u8s8") else np.uint8)


def planes_of(weight_bits: int) -> tuple[BytePlane, ...]:
    """The planes of weights of up to 16 bits, the lowest byte first."""
    high = 0 if plane_dtype() == np.int8 else 128
    if weight_bits <= 8:
        return (BytePlane(high, 1),)
    return (BytePlane(high - 128, 1), BytePlane(high, 256))


def split(weights: np.ndarray, weight_bits: int) -> np.ndarray:
    """Planes [planes, ...] of integer weights [...]."""
    signed, flip = plane_dtype() == np.int8, np.uint8(0x80)
    if weight_bits <= 8:
        byte = weights.astype(np.int8)[None]
        return byte if signed else byte.view(np.uint8) ^ flip
    halves = weights.astype("<i2").view(np.uint8).reshape(*weights.shape, 2)
    planes = np.stack([halves[..., 0], halves[..., 1]])
    planes[0 if signed else 1] ^= flip
    return planes.view(plane_dtype())


@dataclass(frozen=True)
class WeightVariable:
    """A version of a group in one graph.

    `tensor` names its planes [planes, matrices, rows, cols], in `float` numerics (`ideal`) float32 [matrices, rows,
    cols]. An operand of a product is one tensor a plane; in `float` numerics one tensor.
    """

    g: GraphBuilder
    group: CrossbarGroup
    tensor: str
    ideal: bool

    @property
    def planes(self) -> tuple[BytePlane, ...]:
        """What the tensors of its operands are; nothing in `float` numerics."""
        return () if self.ideal else planes_of(self.group.arithmetic.weight_bits)

    def by_tap(self, taps: int, tap_fastest: bool, matrix: int) -> tuple[str, ...]:
        """[taps * channels, cols] of one matrix, rows tap after tap."""
        shape = [self.group.rows, self.group.cols]
        return self._cut((0, 1, 2, 3), taps, tap_fastest, matrix, shape)

    def transposed(self, taps: int, tap_fastest: bool, matrix: int) -> tuple[str, ...]:
        """[taps, cols, channels] of one matrix."""
        shape = [taps, self.group.cols, self.group.rows // taps]
        return self._cut((0, 1, 3, 2), taps, tap_fastest, matrix, shape)

    def _cut(
        self, order: tuple[int, ...], taps: int, tap_fastest: bool, matrix: int, shape: list[int]
    ) -> tuple[str, ...]:
        """Axes [planes * matrices, taps, channels, cols] in another order, of one matrix, each plane in `shape`."""
        g, count, channels = self.g, max(1, len(self.planes)), self.group.rows // taps
        stack = count * self.group.matrices
        held, middle = (0, 1, 2, 3), [taps, channels]
        if tap_fastest and taps > 1 and channels > 1:
            held, middle = (0, 2, 1, 3), [channels, taps]
        whole = g.reshape(self.tensor, [stack, *middle, self.group.cols])
        perm = [held.index(axis) for axis in order]
        if perm != [0, 1, 2, 3]:
            whole = g.node("Transpose", whole, perm=perm)
        parts = [whole] if stack == 1 else g.nodes_of("Split", [whole], stack, axis=0, num_outputs=stack)
        return tuple(g.reshape(parts[p * self.group.matrices + matrix], shape) for p in range(count))


def side_by_side(g: GraphBuilder, operands: Sequence[tuple[str, ...]], axis: int) -> tuple[str, ...]:
    """Operands joined along an axis, plane by plane."""
    return tuple(g.concat(tensors, axis) for tensors in zip(*operands, strict=True))


def most_of(value: GraphValue) -> int:
    """The largest magnitude of a code; without knowledge that of all that its bytes can say."""
    if value.span is not None:
        return max(-value.span[0], value.span[1])
    return 1 << (8 * value.logical.itemsize)


def by_matrix(g: GraphBuilder, rows: str, matrices: int, count: int, channels: int) -> list[str]:
    """[n, count, channels] cut into the channels of each matrix."""
    if matrices == 1:
        return [rows]
    rows = g.reshape(rows, [-1, count, channels])
    return g.nodes_of("Split", [rows], matrices, axis=2, num_outputs=matrices)


@dataclass(frozen=True)
class Sums:
    """A product's tensor, the type of its elements (whole numbers, or reals) and a bound on their magnitude."""

    tensor: str
    dtype: np.dtype
    limit: float
    kernel: str

    def wide(self, g: GraphBuilder, dtype: np.dtype) -> str:
        """The tensor in a type that holds it."""
        return self.tensor if self.dtype == dtype else g.cast(self.tensor, dtype)


def common_type(sums: Sequence[Sums]) -> np.dtype:
    """What holds all of them: float64 holds what int32 and float32 hold."""
    return sums[0].dtype if len({s.dtype for s in sums}) == 1 else _F64


def product(
    g: GraphBuilder,
    x: str,
    element: Element,
    most: int,
    weights: tuple[str, ...],
    planes: tuple[BytePlane, ...],
    depth: int,
) -> Sums:
    """x [.., depth] @ weights [depth, N], exact: whole numbers in int32 or float64; without planes float32 reals.

    No code of x exceeds `most` in magnitude. 8-bit kernels where x lies in bytes and no sum of theirs overflows, else
    float64. Raises NotLoweredError for sums beyond 2^53.
    """
    if not planes:
        return Sums(g.node("MatMul", x, *weights), np.dtype(np.float32), np.inf, "float32")
    bound = most * _BYTE * depth
    limit = bound * sum(p.factor for p in planes)
    if element.dtype != np.uint8 or bound >= 1 << 31:
        if limit >= 1 << 53:
            raise NotLoweredError(f"sums reach {limit}: no kernel is exact")
        return Sums(
            g.node("MatMul", _whole(g, x, element.bias, 1), _weights(g, weights, planes)), _F64, limit, "float64"
        )
    terms: list[str] = []
    for tensor, plane in zip(weights, planes, strict=True):
        zero = g.constant(plane_dtype().type(plane.zero))
        terms.append(g.node("MatMulInteger", x, tensor, g.constant(np.uint8(element.bias)), zero))
    kernel = "u8s8" if plane_dtype() == np.int8 else "u8u8"
    if len(planes) == 1:
        return Sums(terms[0], np.dtype(np.int32), limit, kernel)
    wide = [_whole(g, t, 0, p.factor) for t, p in zip(terms, planes, strict=True)]
    return Sums(g.node("Add", *wide), _F64, limit, f"{kernel} in two bytes")


def _whole(g: GraphBuilder, x: str, bias: int, factor: int) -> str:
    """(x - bias) * factor in float64."""
    x = g.cast(x, _F64)
    if bias:
        x = g.node("Sub", x, g.constant(np.float64(bias)))
    return x if factor == 1 else g.node("Mul", x, g.constant(np.float64(factor)))


def _weights(g: GraphBuilder, tensors: tuple[str, ...], planes: tuple[BytePlane, ...]) -> str:
    """The weights in float64."""
    wide = [_whole(g, t, p.zero, p.factor) for t, p in zip(tensors, planes, strict=True)]
    return wide[0] if len(wide) == 1 else g.node("Add", *wide)
