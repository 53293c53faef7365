"""Level-2 ops of training: transposed reads, weight gradients, updates of cells, codes with scales made on the chip.

They mean what the instructions MVM_T, OUTER and UPDATE and the vector functions quant_by and dequant_by mean, in the
same order of operations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mgc.functions import codes
from mgc.functions.dtypes import CODES
from mgc.functions.windows import Layout
from mgc.ir.flow import Axis, by_samples, part_size
from mgc.ir.mapped import MvmPart, product_axes
from mgc.ir.op import IRError, Op, register
from mgc.ir.ops.update import Rule
from mgc.ir.types import DType, TensorType, ValueType


def _tensors(op: str, types: tuple[ValueType, ...], count: int) -> list[TensorType]:
    if len(types) != count:
        raise IRError(f"{op}: {count} operands are expected, not {len(types)}")
    found = [t for t in types if isinstance(t, TensorType)]
    if len(found) < count:
        raise IRError(f"{op}: an operand is opaque")
    return found


def _exact(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Stacked matrix products of integers in int64, or of reals in float64."""
    if np.issubdtype(a.dtype, np.floating) or np.issubdtype(b.dtype, np.floating):
        return np.matmul(a.astype(np.float64), b.astype(np.float64))
    largest = int(np.abs(a.astype(np.int64)).max(initial=0)) * int(np.abs(b.astype(np.int64)).max(initial=0))
    if largest * a.shape[-1] < 1 << 53:  # whole numbers that float64 holds
        return np.matmul(a.astype(np.float64), b.astype(np.float64)).astype(np.int64)
    return np.matmul(a.astype(np.int64), b.astype(np.int64))


def _weight_gradient(part: MvmPart, x: np.ndarray, dy: np.ndarray) -> np.ndarray:
    """[matrices, rows, cols]: what the windows of a part read, times the errors of what they wrote."""
    return _exact(part.gather_inputs(x).transpose(0, 2, 1), part.windows.gather_outputs(dy, part.matrices))


@register
@dataclass(frozen=True)
class MvmT(Op):
    """The transposed read of the groups of an `Mvm`: the gradient of its input from the gradient of its result.

    Operands: dy, then for each part its weight matrices [matrices, rows, cols], and after `quantize` the real ones, as
    for the `Mvm`; several operands may be the same value. `source` is the layout of dy (the `Mvm`'s `result`), `result`
    that of the result (the `Mvm`'s `source`). Real dy and weights give the real product, codes and integer weights the
    exact integer one in i64. All groups of one op have one weight scale. Result: dense [*out_shape], all parts added.
    """

    name: ClassVar[str] = "mvm_t"
    level: ClassVar[int] = 2
    parts: tuple[MvmPart, ...]
    source: Layout
    result: Layout
    out_shape: tuple[int, ...]
    macs_useful: int = 0

    def infer(self, *types: ValueType) -> tuple[ValueType, ...]:
        double = len(types) == 1 + 2 * len(self.parts)
        dy, *weights = _tensors(self.name, types, 1 + (1 + double) * len(self.parts))
        for part, w in zip(self.parts, weights, strict=False):
            if w.shape != (part.matrices, part.rows, part.cols):
                raise IRError(f"mvm_t: part {part.name}: weights {w}, not {(part.matrices, part.rows, part.cols)}")
            if w.dtype.is_float != dy.dtype.is_float:
                raise IRError(f"mvm_t: part {part.name}: weights {w} do not go with errors {dy}")
        return (TensorType(dy.dtype if dy.dtype.is_float else DType.I64, self.out_shape),)

    def evaluate(self, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        dy, *weights = arrays
        real = np.issubdtype(dy.dtype, np.floating)
        total = np.zeros(self.out_shape, np.float64 if real else np.int64)
        source, target = self.source.view(np.ascontiguousarray(dy)), self.result.view(total)
        for part, w in zip(self.parts, weights, strict=False):
            sums = _exact(part.windows.gather_outputs(source, part.matrices), w.transpose(0, 2, 1))
            part.windows.add_inputs(sums, target, part.matrices, part.tap_fastest)
        return (total.astype(dy.dtype) if real else total,)

    def batch_axes(
        self, types: Sequence[TensorType], axes: Sequence[Axis], results: Sequence[TensorType], split: int
    ) -> Sequence[Axis] | None:
        return product_axes(self.source, self.result, (types[0].shape, self.out_shape), axes, split)


@register
@dataclass(frozen=True)
class Outer(Op):
    """The weight gradients of the parts of an `Mvm`: what its windows read times the errors of what they wrote.

    Operands: x and dy, both real or both codes; `source` and `errors` are their layouts (the `Mvm`'s `source` and
    `result`). Results: for each part [matrices, rows, cols], summed over windows and samples; exact in i64 for codes.

    With `runs` > 0 two more operands are the scales of the codes, f32 of one element or one for each sample, and the
    results are f32: the samples are cut into so many equal runs, each of one scale; the exact sum of a run is
    multiplied by (scale of x * scale of dy), both products in float64, rounded to float32, and the runs are added in
    float32, one after the other.
    """

    name: ClassVar[str] = "outer"
    level: ClassVar[int] = 2
    parts: tuple[MvmPart, ...]
    source: Layout
    errors: Layout
    macs_useful: int = 0
    runs: int = 0

    def infer(self, *types: ValueType) -> tuple[ValueType, ...]:
        x, dy, *scales = _tensors(self.name, types, 4 if self.runs else 2)
        samples = self.source.shape[0]
        if self.runs and samples % self.runs:
            raise IRError(f"outer: {samples} samples are no {self.runs} equal runs")
        for s in scales:
            if s.dtype != DType.F32 or s.size not in (1, samples):
                raise IRError(f"outer: a scale is {s}, one number or {samples} are expected")
        if x.dtype.is_float != dy.dtype.is_float or (x.dtype.is_float and x.dtype != dy.dtype):
            raise IRError(f"outer: x is {x}, dy is {dy}: both codes, or of one float type, are expected")
        dtype = DType.F32 if self.runs else x.dtype if x.dtype.is_float else DType.I64
        return tuple(TensorType(dtype, (p.matrices, p.rows, p.cols)) for p in self.parts)

    def evaluate(self, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        x, dy, *scales = arrays
        source = self.source.view(np.ascontiguousarray(x))
        errors = self.errors.view(np.ascontiguousarray(dy))
        results = []
        for part in self.parts:
            if scales:
                results.append(self._in_runs(source, errors, part, scales))
                continue
            dot = _weight_gradient(part, source, errors)
            results.append(dot.astype(x.dtype) if np.issubdtype(x.dtype, np.floating) else dot)
        return tuple(results)

    def batch_axes(
        self, types: Sequence[TensorType], axes: Sequence[Axis], results: Sequence[TensorType], split: int
    ) -> Sequence[Axis] | None:
        layouts = zip((self.source, self.errors), types, axes, strict=False)
        whole_runs = not self.runs or self.runs % split == 0
        if whole_runs and all(a is None or by_samples(g, part_size(a, t.shape, split), split) for g, t, a in layouts):
            return (None,) * len(results)
        return None

    def _in_runs(self, x: np.ndarray, dy: np.ndarray, part: MvmPart, scales: list[np.ndarray]) -> np.ndarray:
        """The weight gradient of a part, run after run."""
        total = np.zeros((part.matrices, part.rows, part.cols), np.float32)
        each = len(x) // self.runs
        first, second = (np.broadcast_to(s.reshape(-1).astype(np.float64), (len(x),)) for s in scales)
        for start in range(0, len(x), each):
            run = slice(start, start + each)
            dot = _weight_gradient(part, x[run], dy[run])
            total += (dot * (first[start] * second[start])).astype(np.float32)
        return total


@register
@dataclass(frozen=True)
class UpdateCells(Op):
    """One step of an optimizer on the weights of a crossbar group (level-1 `Update` is that of any other parameter).

    Operands: w [matrices, rows, cols], either f32 or i16, its gradient and the rule's moments, f32 of its shape, and
    the number of the step if the rule counts. Results: the new w, of w's type, and the new moments. An integer w stands
    for float32(w * weight_scale); the new one is clip(rint(w' / weight_scale), -most, most), half to even, both in
    float64, with most = 2^(weight_bits-1) - 1. `clip` limits the real weights to [-clip, clip] before that.
    """

    name: ClassVar[str] = "update_cells"
    level: ClassVar[int] = 2
    rule: Rule
    weight_scale: float
    weight_bits: int
    clip: float | None = None

    def infer(self, *types: ValueType) -> tuple[ValueType, ...]:
        if not isinstance(self.rule, Rule):
            raise IRError(f"update_cells: {self.rule!r} is no optimizer")
        names = ("g", *self.rule.moments)
        w, *others = _tensors(self.name, types, 1 + len(names) + self.rule.counts)
        if w.dtype not in (DType.F32, DType.I16) or not 2 <= self.weight_bits <= 16 or not self.weight_scale > 0:
            raise IRError(f"update_cells: w is {w} with {self.weight_bits} bits of scale {self.weight_scale}")
        for name, t in zip(names, others, strict=False):
            if t != TensorType(DType.F32, w.shape):
                raise IRError(f"update_cells: w is {w} but {name} is {t}")
        if self.rule.counts and others[-1].size != 1:
            raise IRError(f"update_cells: the step is {others[-1]}, a scalar is expected")
        if self.clip is not None and not self.clip > 0:
            raise IRError(f"update_cells: clip is {self.clip}, a positive number is expected")
        return (w, *others[1 : 1 + len(self.rule.moments)])

    def evaluate(self, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        w, g, *rest = arrays
        integers = not np.issubdtype(w.dtype, np.floating)
        old = codes.in_reals(w, self.weight_scale) if integers else w
        new, moments = self.rule.apply(old, g, rest, self.clip)
        if integers:
            new = codes.in_steps(new, self.weight_scale, self.weight_bits).astype(w.dtype)
        return (new, *moments)


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
        (x,) = _tensors(self.name, types, 1)
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
        x, s, *dither = _tensors(self.name, types, 2 + self.dithered)
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
        acc, s1, s2 = _tensors(self.name, types, 3)
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
