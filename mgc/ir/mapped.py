"""Level-2 ops: the dataflow over crossbar groups and the vector unit.

Lowering goes in steps, each of which leaves a graph that `evaluate` can run, so that any step can be checked:
`lower-conv` makes `Mvm` on real values, `quantize` puts codes and integer weights in (`Quant`, `Dequant`, `Lookup`),
`lower-moves` makes `Copy`, `lower-vec` fuses element-wise work into `Vec` kernels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mgc.ir.op import IRError, Op, register, register_attr
from mgc.ir.types import DType, TensorType, ValueType


def _tensor(op: str, k: int, t: ValueType) -> TensorType:
    if not isinstance(t, TensorType):
        raise IRError(f"{op}: operand {k} is opaque")
    return t


@register_attr
@dataclass(frozen=True)
class Layout:
    """A strided view of a dense tensor as [batch, channels, *spatial]; strides in elements.

    NCHW tensors and the rows of a matrix product ([.., tokens, K]: channel stride 1) both have one.
    """

    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def view(self, array: np.ndarray) -> np.ndarray:
        """The view of a C-contiguous array (writable if the array is)."""
        item = array.itemsize
        flat = array.reshape(-1)
        return np.lib.stride_tricks.as_strided(flat, self.shape, [s * item for s in self.strides])

    @staticmethod
    def nchw(shape: Sequence[int]) -> Layout:
        """The layout of a C-contiguous tensor [batch, channels, *spatial]."""
        strides = [1] * len(shape)
        for d in range(len(shape) - 2, -1, -1):
            strides[d] = strides[d + 1] * shape[d + 1]
        return Layout(tuple(shape), tuple(strides))


@register_attr
@dataclass(frozen=True)
class Windows:
    """The address generator of one windowed matrix product, one entry for each spatial dimension (1 to 3).

    Window q, tap t of a dimension read input position `in_base + q*in_stride + t*in_dilation`; positions outside the
    input read as zero. Window q writes output position `out_base + q*out_stride`.
    """

    count: tuple[int, ...]
    taps: tuple[int, ...]
    in_base: tuple[int, ...]
    in_stride: tuple[int, ...]
    in_dilation: tuple[int, ...]
    out_base: tuple[int, ...]
    out_stride: tuple[int, ...]

    @property
    def total(self) -> int:
        """Windows of one sample."""
        return int(np.prod(self.count, dtype=np.int64))

    @property
    def tap_total(self) -> int:
        """Taps of one window."""
        return int(np.prod(self.taps, dtype=np.int64))


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


def gather_windows(x: np.ndarray, part: MvmPart, outside: int = 0) -> np.ndarray:
    """The crossbar inputs of a part: x [batch, channels, *spatial] -> [matrices, batch*windows, rows]; beyond the input
    stands `outside`.
    """
    w = part.windows
    dims = len(w.count)
    lo = [max(0, -b) for b in w.in_base]
    top = [
        max(0, b + (q - 1) * s + (t - 1) * d - (n - 1))
        for b, q, s, t, d, n in zip(w.in_base, w.count, w.in_stride, w.taps, w.in_dilation, x.shape[2:], strict=True)
    ]
    x = np.pad(x, [(0, 0), (0, 0), *zip(lo, top, strict=True)], constant_values=outside)
    base = [b + p for b, p in zip(w.in_base, lo, strict=True)]
    strides = x.strides
    shape = (x.shape[0], part.matrices, part.channels, *w.taps, *w.count)
    steps = (
        strides[0],
        strides[1] * part.channels,
        strides[1],
        *(strides[2 + d] * w.in_dilation[d] for d in range(dims)),
        *(strides[2 + d] * w.in_stride[d] for d in range(dims)),
    )
    start = x[(slice(None), slice(None), *(slice(b, None) for b in base))]
    v = np.lib.stride_tricks.as_strided(start, shape, steps, writeable=False)
    # [batch, g, c, taps.., windows..] -> [g, batch, windows.., rows]
    taps = list(range(3, 3 + dims))
    wins = list(range(3 + dims, 3 + 2 * dims))
    rows = [2, *taps] if part.row_order == CHANNEL_MAJOR else [*taps, 2]
    return v.transpose([1, 0, *wins, *rows]).reshape(part.matrices, x.shape[0] * w.total, part.rows)


def scatter_windows(y: np.ndarray, part: MvmPart, out: np.ndarray) -> None:
    """Writes [matrices, batch*windows, cols] to the part's positions of out [batch, channels, *spatial]."""
    w = part.windows
    batch = out.shape[0]
    cols = part.matrices * part.cols
    values = y.reshape(part.matrices, batch, *w.count, part.cols)
    values = np.moveaxis(np.moveaxis(values, -1, 1), 2, 0).reshape(batch, cols, *w.count)
    where = tuple(slice(b, b + (q - 1) * s + 1, s) for b, q, s in zip(w.out_base, w.count, w.out_stride, strict=True))
    out[(slice(None), slice(None), *where)] = values


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
            rows = gather_windows(source, part, 0 if real else self.outside)
            # float64 products of integers are exact below 2^53: far above any crossbar's sum
            dot = np.matmul(rows.astype(np.float64), w.astype(np.float64))
            scatter_windows(dot if real else dot.astype(np.int64), part, target)
        return (out,)


@register
@dataclass(frozen=True)
class Quant(Op):
    """Real to code: clip(round_half_even(x / scale) + zero, lo, hi), computed in float32, stored as `to`.

    `zero` is the code of 0.
    """

    name: ClassVar[str] = "quant"
    level: ClassVar[int] = 2
    scale: float
    lo: int
    hi: int
    to: DType
    zero: int = 0

    def infer(self, *types: ValueType) -> tuple[ValueType, ...]:
        return (_tensor(self.name, 0, types[0]).with_dtype(self.to),)

    def evaluate(self, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        code = np.rint(arrays[0].astype(np.float32) / np.float32(self.scale)) + np.float32(self.zero)
        return (np.clip(code, self.lo, self.hi).astype(self.to.numpy),)


@register
@dataclass(frozen=True)
class Dequant(Op):
    """Accumulator to real: float32(acc * scale + bias), product and sum in float64.

    Operands: acc i64, scale f64 and bias f64 (broadcast against acc), and the bias that `float` numerics adds instead.
    """

    name: ClassVar[str] = "dequant"
    level: ClassVar[int] = 2

    def infer(self, *types: ValueType) -> tuple[ValueType, ...]:
        return (_tensor(self.name, 0, types[0]).with_dtype(DType.F32),)

    def evaluate(self, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        acc, scale, bias, _ = arrays
        return ((acc.astype(np.float64) * scale + bias).astype(np.float32),)


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
    fn: str
    alpha: float
    beta: float
    lo: float
    step: float

    def infer(self, *types: ValueType) -> tuple[ValueType, ...]:
        return (_tensor(self.name, 0, types[0]).with_dtype(DType.F32),)

    def evaluate(self, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        x, values, slopes = (a.astype(np.float32) for a in arrays)
        lo, step = np.float32(self.lo), np.float32(self.step)
        index = np.clip(np.floor((x - lo) * (np.float32(1) / step)), 0, len(values) - 1)
        index = np.nan_to_num(index, nan=0.0)
        at = index.astype(np.int64)
        return (values[at] + slopes[at] * (x - (lo + index * step)),)


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
            src = np.ascontiguousarray(arrays[p.operand])
            to = Layout(p.extents, p.dst_strides)
            from_ = Layout(p.extents, p.src_strides)
            to.view(out.reshape(-1)[p.dst_base :])[...] = from_.view(src.reshape(-1)[p.src_base :])
        return (out,)


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
