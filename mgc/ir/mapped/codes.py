"""Reals to codes and sums to reals: scales known beforehand, or operands that the chip computes; tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mgc.functions import codes
from mgc.functions.dtypes import CODES
from mgc.functions.unary import UNARY
from mgc.ir.flow import Axis
from mgc.ir.mapped.operands import tensors
from mgc.ir.op import IRError, Op, register
from mgc.ir.types import DType, TensorType, ValueType


@register
@dataclass(frozen=True)
class Quant(Op):
    """Real to code: clip(round_half_even(x / scale) + zero, lo, hi), computed in float32, stored as `to`.

    `zero` is the code of 0.
    """

    name: ClassVar[str] = "quant"
    level: ClassVar[int] = 2
    elementwise = "first"
    scale: float
    lo: int
    hi: int
    to: DType
    zero: int = 0

    def infer(self, *types: ValueType) -> tuple[ValueType, ...]:
        return (tensors(self.name, types)[0].with_dtype(self.to),)

    def evaluate(self, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        return (codes.quant(arrays[0], self.scale, self.lo, self.hi, self.to.numpy, self.zero),)

    def vec(self) -> tuple[str, tuple[float, ...]]:
        numbers = (self.scale, self.lo, self.hi, CODES[self.to.numpy.name], self.zero)
        return self.name, tuple(map(float, numbers))


@register
@dataclass(frozen=True)
class Dequant(Op):
    """Accumulator to real: float32(acc * scale + bias), each operation rounded to the type of scale and bias.

    Operands: acc i64, scale and bias of one type, f32 or f64 (broadcast against acc), and the bias that `float`
    numerics adds instead.
    """

    name: ClassVar[str] = "dequant"
    level: ClassVar[int] = 2
    elementwise = "first"

    def infer(self, *types: ValueType) -> tuple[ValueType, ...]:
        return (tensors(self.name, types)[0].with_dtype(DType.F32),)

    def evaluate(self, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        acc, scale, bias, _ = arrays
        return (codes.dequant(acc, scale, bias),)

    def vec(self) -> tuple[str, tuple[float, ...]]:
        return self.name, ()


@register
@dataclass(frozen=True)
class Lookup(Op):
    """A non-linear function by a piecewise-linear table in float32; outside its range the end segments go on.

    Operands: x f32, values f32[segments], slopes f32[segments]. i = clip(floor((x - lo) * (1/step)), 0, segments - 1);
    result = values[i] + slopes[i] * (x - (lo + i * step)), each operation rounded to float32. `fn`, `alpha`, `beta`
    name the function itself (as in `Unary`), which `float` numerics computes directly.
    """

    name: ClassVar[str] = "lookup"
    level: ClassVar[int] = 2
    elementwise = "first"
    fn: str
    alpha: float
    beta: float
    lo: float
    step: float

    def infer(self, *types: ValueType) -> tuple[ValueType, ...]:
        return (tensors(self.name, types)[0].with_dtype(DType.F32),)

    def evaluate(self, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        x, values, slopes = (a.astype(np.float32) for a in arrays)
        return (codes.lookup(x, values, slopes, self.lo, self.step),)

    def vec(self) -> tuple[str, tuple[float, ...]]:
        return self.name, (float(UNARY[self.fn].code), self.alpha, self.beta, self.lo, self.step)


@register
@dataclass(frozen=True)
class RunMax(Op):
    """The greatest element of each of `runs` equal runs of samples (axis 0), told to every sample of the run.

    Operand: x f32 [N, ...]. Result: f32 [N, 1, ..., 1].
    """

    name: ClassVar[str] = "run_max"
    level: ClassVar[int] = 2
    runs: int

    def infer(self, *types: ValueType) -> tuple[ValueType, ...]:
        (x,) = tensors(self.name, types, 1)
        if x.dtype != DType.F32 or not x.shape or self.runs < 1 or not x.size or x.shape[0] % self.runs:
            raise IRError(f"run_max of {x}: {self.runs} equal runs of samples are expected")
        return (TensorType(DType.F32, (x.shape[0], *(1 for _ in x.shape[1:]))),)

    def evaluate(self, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        (x,) = arrays
        return (codes.run_max(x, self.runs),)

    def vec(self) -> tuple[str, tuple[float, ...]]:
        return self.name, (float(self.runs),)

    def batch_axes(
        self, types: Sequence[TensorType], axes: Sequence[Axis], results: Sequence[TensorType], split: int
    ) -> Sequence[Axis] | None:
        return (0,) if axes[0] == 0 and self.runs % split == 0 else None


@register
@dataclass(frozen=True)
class QuantBy(Op):
    """Real to code with a scale that is an operand: clip(round_half_even(x / s), lo, hi) in float32, NaN to 0.

    Operands: x f32, s f32 (broadcast against x); if `dithered`, d f32 (broadcast against x): the code of x + d * s.
    """

    name: ClassVar[str] = "quant_by"
    level: ClassVar[int] = 2
    elementwise = "all"
    lo: int
    hi: int
    to: DType
    dithered: bool = False

    def infer(self, *types: ValueType) -> tuple[ValueType, ...]:
        x, s, *dither = tensors(self.name, types, 2 + self.dithered)
        for d in dither:
            if d.dtype != DType.F32 or np.broadcast_shapes(x.shape, d.shape) != x.shape:
                raise IRError(f"quant_by: x is {x}, the dither is {d}")
        if x.dtype != DType.F32 or s.dtype != DType.F32 or np.broadcast_shapes(x.shape, s.shape) != x.shape:
            raise IRError(f"quant_by: x is {x}, the scale is {s}")
        return (x.with_dtype(self.to),)

    def evaluate(self, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        x, s, *dither = arrays
        with np.errstate(all="ignore"):
            x = codes.dithered(x, s, *dither) if dither else x
        return (codes.quant(x, s, self.lo, self.hi, self.to.numpy),)

    def vec(self) -> tuple[str, tuple[float, ...]]:
        numbers = (float(self.lo), float(self.hi), float(CODES[self.to.numpy.name]))
        return "quant_dithered" if self.dithered else "quant_by", numbers


@register
@dataclass(frozen=True)
class DequantBy(Op):
    """Accumulator to real with scales that are operands: float32(acc * ((s1 * s2) * factor)), products in float64.

    Operands: acc i64, s1 f32 and s2 f32 (broadcast against acc; a constant 1 where there is only one). `factor` is
    what is known beforehand: the weight scale of the groups and the factor of their arithmetic. In `float` numerics,
    where acc is real, the result is acc.
    """

    name: ClassVar[str] = "dequant_by"
    level: ClassVar[int] = 2
    elementwise = "all"
    factor: float

    def infer(self, *types: ValueType) -> tuple[ValueType, ...]:
        acc, s1, s2 = tensors(self.name, types, 3)
        shape = np.broadcast_shapes(acc.shape, s1.shape, s2.shape)
        if acc.dtype != DType.I64 or s1.dtype != DType.F32 or s2.dtype != DType.F32 or shape != acc.shape:
            raise IRError(f"dequant_by: the accumulator is {acc}, the scales are {s1} and {s2}")
        if not self.factor > 0:
            raise IRError(f"dequant_by: factor {self.factor} is not positive")
        return (acc.with_dtype(DType.F32),)

    def evaluate(self, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        acc, s1, s2 = arrays
        return (codes.dequant_by(acc, s1, s2, self.factor),)

    def vec(self) -> tuple[str, tuple[float, ...]]:
        return self.name, (self.factor,)
