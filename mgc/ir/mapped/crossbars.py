"""Products on crossbars: reads as stored and transposed, weight gradients, updates of cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mgc.functions import codes
from mgc.functions.windows import Layout, Windows
from mgc.ir.flow import Axis, by_samples, leading, part_size
from mgc.ir.mapped.operands import tensors
from mgc.ir.op import IRError, Op, register, register_attr
from mgc.ir.ops.update import Rule
from mgc.ir.types import DType, TensorType, ValueType

register_attr(Layout)
register_attr(Windows)

CHANNEL_MAJOR = "channel-major"  # row = channel * taps + tap  (tap fastest)
TAP_MAJOR = "tap-major"  # row = tap * channels + channel


@register_attr
@dataclass(frozen=True)
class MvmPart:
    """One crossbar group's share of an `Mvm`: `matrices` weight matrices of `rows` x `cols`, over `windows`.

    Matrix g reads input channels [g*rows/taps, (g+1)*rows/taps) and writes output channels [g*cols, (g+1)*cols).
    """

    name: str
    matrices: int
    rows: int
    cols: int
    row_order: str
    windows: Windows

    @property
    def channels(self) -> int:
        """Input channels that one matrix reads."""
        return self.rows // self.windows.tap_total

    @property
    def tap_fastest(self) -> bool:
        """The order of the rows, as instructions have it."""
        return self.row_order == CHANNEL_MAJOR

    def gather_inputs(self, x: np.ndarray, outside: int = 0) -> np.ndarray:
        """The crossbar inputs [matrices, batch*windows, rows] of x [batch, channels, *spatial]; `outside` beyond it."""
        return self.windows.gather_inputs(x, self.matrices, self.channels, self.tap_fastest, outside)


def product_axes(
    source: Layout, result: Layout, shapes: tuple[tuple[int, ...], tuple[int, ...]], axes: Sequence[Axis], split: int
) -> Sequence[Axis] | None:
    """The axes of a windowed product, from the shapes of its operand and result: a sample's windows are its own."""
    axis = leading(shapes[1], split)
    if axis is None or any(a is not None for a in axes[1:]):
        return None
    taken = by_samples(source, part_size(axes[0], shapes[0], split), split)
    given = by_samples(result, part_size(axis, shapes[1], split), split)
    return (axis,) if taken and given else None


@dataclass(frozen=True)
class _Product(Op):
    """A product with the weights of the parts, read one way or the other; results as the parts and weights say."""

    level: ClassVar[int] = 2
    operand: ClassVar[str] = "input"
    parts: tuple[MvmPart, ...]
    source: Layout
    result: Layout
    out_shape: tuple[int, ...]
    macs_useful: int = 0

    def infer(self, *types: ValueType) -> tuple[ValueType, ...]:
        x, *weights = tensors(self.name, types)
        if len(weights) not in (len(self.parts), 2 * len(self.parts)):
            raise IRError(f"{self.name}: {len(self.parts)} parts but {len(weights)} weight operands")
        for part, w in zip(self.parts, weights, strict=False):
            if w.shape != (part.matrices, part.rows, part.cols):
                raise IRError(
                    f"{self.name}: part {part.name}: weights {w}, not {(part.matrices, part.rows, part.cols)}"
                )
            if w.dtype.is_float != x.dtype.is_float:
                raise IRError(f"{self.name}: part {part.name}: weights {w} do not go with {self.operand} {x}")
        return (TensorType(x.dtype if x.dtype.is_float else DType.I64, self.out_shape),)

    def batch_axes(
        self, types: Sequence[TensorType], axes: Sequence[Axis], results: Sequence[TensorType], split: int
    ) -> Sequence[Axis] | None:
        return product_axes(self.source, self.result, (types[0].shape, self.out_shape), axes, split)


@register
@dataclass(frozen=True)
class Mvm(_Product):
    """Windowed matrix products of one input on crossbars; the parts write disjoint positions of one result.

    Operands: x, then for each part its weight matrices [matrices, rows, cols]. Real x and weights give the real
    product; integer codes and integer weights give the exact integer product in i64 (what ADCs that never clip give).
    After `quantize` a part's real weights follow all integer ones (2 operands a part): `float` numerics reads them.
    Result: dense [*out_shape], zero where no part writes. `macs_useful` counts the multiply-accumulates of the level-1
    op that it was lowered from (docs/mapping.md). `outside` is the code that windows read beyond the input: that of 0.
    `input_bits`: bits of the codes, 0 for as many as the target's `input_bits`.
    """

    name: ClassVar[str] = "mvm"
    outside: int = 0
    input_bits: int = 0

    def evaluate(self, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        x, *weights = arrays
        real = np.issubdtype(x.dtype, np.floating)
        out = np.zeros(self.out_shape, x.dtype if real else np.int64)
        source = self.source.view(np.ascontiguousarray(x))
        target = self.result.view(out)
        for part, w in zip(self.parts, weights, strict=False):
            rows = part.gather_inputs(source, 0 if real else self.outside)
            # float64 products of integers are exact below 2^53: far above any crossbar's sum
            dot = np.matmul(rows.astype(np.float64), w.astype(np.float64))
            part.windows.scatter_outputs(dot if real else dot.astype(np.int64), target)
        return (out,)


@register
@dataclass(frozen=True)
class MvmT(_Product):
    """The transposed read of the groups of an `Mvm`: the gradient of its input from the gradient of its result.

    Operands: dy, then for each part its weight matrices [matrices, rows, cols], and after `quantize` the real ones, as
    for the `Mvm`; several operands may be the same value. `source` is the layout of dy (the `Mvm`'s `result`), `result`
    that of the result (the `Mvm`'s `source`). Real dy and weights give the real product, codes and integer weights the
    exact integer one in i64. All groups of one op have one weight scale. Result: dense [*out_shape], all parts added.
    """

    name: ClassVar[str] = "mvm_t"
    operand: ClassVar[str] = "errors"

    def evaluate(self, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        dy, *weights = arrays
        real = np.issubdtype(dy.dtype, np.floating)
        total = np.zeros(self.out_shape, np.float64 if real else np.int64)
        source, target = self.source.view(np.ascontiguousarray(dy)), self.result.view(total)
        for part, w in zip(self.parts, weights, strict=False):
            sums = _exact(part.windows.gather_outputs(source, part.matrices), w.transpose(0, 2, 1))
            part.windows.add_inputs(sums, target, part.matrices, part.tap_fastest)
        return (total.astype(dy.dtype) if real else total,)


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
        x, dy, *scales = tensors(self.name, types, 4 if self.runs else 2)
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
        w, *others = tensors(self.name, types, 1 + len(names) + self.rule.counts)
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
