"""Level-2 ops: the dataflow over crossbar groups and the vector unit.

Lowering goes in steps, each of which leaves a graph that `evaluate` can run, so that any step can be checked:
`lower-conv` makes `Mvm` on real values, `quantize` puts codes and integer weights in (`Quant`, `Dequant`, `Lookup`),
`lower-moves` makes `Copy`, `lower-vec` fuses element-wise work into `Vec` kernels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import ClassVar

import numpy as np

from mgc.functions import codes
from mgc.functions.dtypes import CODES
from mgc.functions.unary import UNARY
from mgc.functions.windows import Layout, Windows, strided_view
from mgc.ir.flow import Axis, Flow, by_samples, leading, part_size, reshaped
from mgc.ir.op import IRError, Op, register, register_attr
from mgc.ir.types import DType, TensorType, ValueType


def _tensor(op: str, k: int, t: ValueType) -> TensorType:
    if not isinstance(t, TensorType):
        raise IRError(f"{op}: operand {k} is opaque")
    return t


register_attr(Layout)
register_attr(Windows)

MOST_BOXES = 4096
"""Steps of a copy's address generator that are looked at one by one."""

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


@register
@dataclass(frozen=True)
class Mvm(Op):
    """Windowed matrix products of one input on crossbars; the parts write disjoint positions of one result.

    Operands: x, then for each part its weight matrices [matrices, rows, cols]. Real x and weights give the real
    product; integer codes and integer weights give the exact integer product in i64 (what ADCs that never clip give).
    After `quantize` a part's real weights follow all integer ones (2 operands a part): `float` numerics reads them.
    Result: dense [*out_shape], zero where no part writes. `macs_useful` counts the multiply-accumulates of the level-1
    op that it was lowered from (design section 4). `outside` is the code that windows read beyond the input: that of 0.
    """

    name: ClassVar[str] = "mvm"
    level: ClassVar[int] = 2
    parts: tuple[MvmPart, ...]
    source: Layout
    result: Layout
    out_shape: tuple[int, ...]
    macs_useful: int = 0
    outside: int = 0

    def infer(self, *types: ValueType) -> tuple[ValueType, ...]:
        x, *weights = (_tensor(self.name, k, t) for k, t in enumerate(types))
        if len(weights) not in (len(self.parts), 2 * len(self.parts)):
            raise IRError(f"mvm: {len(self.parts)} parts but {len(weights)} weight operands")
        for part, w in zip(self.parts, weights, strict=False):
            if w.shape != (part.matrices, part.rows, part.cols):
                raise IRError(f"mvm: part {part.name}: weights {w}, expected {(part.matrices, part.rows, part.cols)}")
            if w.dtype.is_float != x.dtype.is_float:
                raise IRError(f"mvm: part {part.name}: weights {w} do not go with input {x}")
        return (TensorType(x.dtype if x.dtype.is_float else DType.I64, self.out_shape),)

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

    def batch_axes(
        self, types: Sequence[TensorType], axes: Sequence[Axis], results: Sequence[TensorType], split: int
    ) -> Sequence[Axis] | None:
        return product_axes(self.source, self.result, (types[0].shape, self.out_shape), axes, split)


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
        return (_tensor(self.name, 0, types[0]).with_dtype(self.to),)

    def evaluate(self, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        return (codes.quant(arrays[0], self.scale, self.lo, self.hi, self.to.numpy, self.zero),)

    def vec(self) -> tuple[str, tuple[float, ...]]:
        numbers = (self.scale, self.lo, self.hi, CODES[self.to.numpy.name], self.zero)
        return self.name, tuple(map(float, numbers))


@register
@dataclass(frozen=True)
class Dequant(Op):
    """Accumulator to real: float32(acc * scale + bias), product and sum in float64.

    Operands: acc i64, scale f64 and bias f64 (broadcast against acc), and the bias that `float` numerics adds instead.
    """

    name: ClassVar[str] = "dequant"
    level: ClassVar[int] = 2
    elementwise = "first"

    def infer(self, *types: ValueType) -> tuple[ValueType, ...]:
        return (_tensor(self.name, 0, types[0]).with_dtype(DType.F32),)

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
        return (_tensor(self.name, 0, types[0]).with_dtype(DType.F32),)

    def evaluate(self, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        x, values, slopes = (a.astype(np.float32) for a in arrays)
        return (codes.lookup(x, values, slopes, self.lo, self.step),)

    def vec(self) -> tuple[str, tuple[float, ...]]:
        return self.name, (float(UNARY[self.fn].code), self.alpha, self.beta, self.lo, self.step)


@register_attr
@dataclass(frozen=True)
class Piece:
    """One strided copy: extents, then base and strides (elements) in the operand and in the result."""

    operand: int
    extents: tuple[int, ...]
    src_base: int
    src_strides: tuple[int, ...]
    dst_base: int
    dst_strides: tuple[int, ...]

    def keeps_parts(self, part: int, result: int) -> bool:
        """Whether it takes each part of the result from the same part of its operand; sizes of a part are given, 0 for
        what is whole.
        """
        carries = [
            j
            for j, n in enumerate(self.extents)
            if n > 1 and (abs(self.src_strides[j]) * n > part > 0 or abs(self.dst_strides[j]) * n > result)
        ]
        if prod(self.extents[j] for j in carries) > MOST_BOXES:
            return False
        rest = [j for j in range(len(self.extents)) if j not in carries]
        sides = ((part, self.src_base, self.src_strides), (result, self.dst_base, self.dst_strides))
        for index in product(*(range(self.extents[j]) for j in carries)):
            places: set[int] = set()
            for size, base, strides in sides:
                if size:
                    low = base + sum(i * strides[j] for i, j in zip(index, carries, strict=True))
                    steps = [(self.extents[j] - 1) * strides[j] for j in rest]
                    places.add((low + sum(s for s in steps if s < 0)) // size)
                    places.add((low + sum(s for s in steps if s > 0)) // size)
            if len(places) > 1:
                return False
        return True


@register
@dataclass(frozen=True)
class Copy(Op):
    """Data movement by address generators: transpose, slice, expand, concat and constant pad are all of this form.

    Pieces are copied in order; a fill is a piece from a one-element constant with strides 0.
    """

    name: ClassVar[str] = "copy"
    level: ClassVar[int] = 2
    pieces: tuple[Piece, ...]
    result: TensorType

    def infer(self, *types: ValueType) -> tuple[ValueType, ...]:
        for k, t in enumerate(types):
            if _tensor(self.name, k, t).dtype != self.result.dtype:
                raise IRError(f"copy: operand {k} is {t}, the result {self.result}")
        return (self.result,)

    def evaluate(self, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        out = np.zeros(self.result.shape, self.result.dtype.numpy)
        for p in self.pieces:
            source = strided_view(np.ascontiguousarray(arrays[p.operand]), p.src_base, p.extents, p.src_strides)
            strided_view(out, p.dst_base, p.extents, p.dst_strides)[...] = source
        return (out,)

    def batch_axes(
        self, types: Sequence[TensorType], axes: Sequence[Axis], results: Sequence[TensorType], split: int
    ) -> Sequence[Axis] | None:
        axis = leading(self.result.shape, split)
        parts = [part_size(a, t.shape, split) for t, a in zip(types, axes, strict=True)]
        if axis is None or any(a is not None and not p for a, p in zip(axes, parts, strict=True)):
            return None
        result = part_size(axis, self.result.shape, split)
        return (axis,) if all(p.keeps_parts(parts[p.operand], result) for p in self.pieces) else None


@register
@dataclass(frozen=True)
class Send(Copy):
    """A copy of a value on chip `sender` to its neighbour `chip`, over the link between the two."""

    name: ClassVar[str] = "send"
    level: ClassVar[int] = 2
    sender: int
    chip: int


@register
@dataclass(frozen=True)
class View(Op):
    """The same elements under another shape: no data moves."""

    name: ClassVar[str] = "view"
    level: ClassVar[int] = 2
    shape: tuple[int, ...]

    def infer(self, *types: ValueType) -> tuple[ValueType, ...]:
        t = _tensor(self.name, 0, types[0])
        if t.size != TensorType(t.dtype, self.shape).size:
            raise IRError(f"view: {t} has not the size of {self.shape}")
        return (t.with_shape(self.shape),)

    def evaluate(self, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        return (arrays[0].reshape(self.shape),)

    def flow(
        self, types: Sequence[TensorType], axes: Sequence[Axis], results: Sequence[TensorType], split: int
    ) -> Flow:
        return Flow(True, (reshaped(axes[0], types[0].shape, self.shape, split),))


@register_attr
@dataclass(frozen=True)
class Step:
    """One step of a `Vec` kernel: a level-1 or level-2 element-wise, reduction, gather, pool... op on earlier values.

    `args` index the kernel's values: operands first (0 .. operands-1), then each step's result in turn.
    """

    op: Op
    args: tuple[int, ...]


@register
@dataclass(frozen=True)
class Vec(Op):
    """A fused kernel of the vector unit: steps run in order, `results` index the values that leave it."""

    name: ClassVar[str] = "vec"
    level: ClassVar[int] = 2
    steps: tuple[Step, ...]
    results: tuple[int, ...]

    def infer(self, *types: ValueType) -> tuple[ValueType, ...]:
        values = list(types)
        for step in self.steps:
            values.extend(step.op.infer(*(values[a] for a in step.args)))
        return tuple(values[r] for r in self.results)

    def evaluate(self, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        values = list(arrays)
        for step in self.steps:
            values.extend(step.op.evaluate(*(values[a] for a in step.args)))
        return tuple(values[r] for r in self.results)

    def flow(
        self, types: Sequence[TensorType], axes: Sequence[Axis], results: Sequence[TensorType], split: int
    ) -> Flow:
        """A kernel goes by parts if all its steps do, and none needs what another one adds up over the batch."""
        whole = Flow(False, (None,) * len(results))
        if all(a is None for a in axes):
            return whole
        known, flows = list(types), list(axes)
        summed: set[int] = set()
        for step in self.steps:
            if not summed.isdisjoint(step.args):
                return whole
            own = [known[a] for a in step.args]
            made = [t for t in step.op.infer(*own) if isinstance(t, TensorType)]
            operands = [flows[a] for a in step.args]
            flow = step.op.flow(own, operands, made, split)
            if not flow.streamed and any(a is not None for a in operands):
                return whole
            if flow.streamed:
                summed.update(len(known) + k for k, a in enumerate(flow.axes) if a is None)
            known += made
            flows += flow.axes
        return Flow(True, tuple(flows[r] for r in self.results))
