"""Adding level-1 ops to a graph by short names: what gradient rules and the training passes build with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mgc.ir.graph import Graph, Node, Value
from mgc.ir.op import Op
from mgc.ir.ops.elementwise import Binary, Cast, Unary, Where
from mgc.ir.ops.linear import MatMul
from mgc.ir.ops.reduce import Reduce
from mgc.ir.ops.shape import Expand, Pad, Reshape, Slice, Transpose
from mgc.ir.types import DType, TensorType

# Results of constants up to this many elements are computed at once: gradients are full of products of scalars.
_SMALL = 16


class Build:
    """A graph with one method for each op that is often needed.

    Ops are put before the node `at` (None: at the end), stamped with `sources` and named after `hint` (their op's name
    if empty). Methods that would change nothing (a reshape to the same shape, a product with 1) give the operand.
    """

    def __init__(self, graph: Graph, *, sources: Sequence[str] = (), hint: str = "", at: Node | None = None) -> None:
        self.graph = graph
        self.at = at
        self.sources: tuple[str, ...] = tuple(sources)
        self.hint = hint
        self._numbers: dict[tuple[float, DType], Value] = {}

    def emit(self, op: Op, *values: Value) -> Value:
        """One op with one result; computed here if its operands are small plain constants."""
        (type_,) = op.infer(*(v.type for v in values))
        known = [c.data for c in map(self.graph.constants.get, values) if c is not None and not c.onnx_name]
        sizes = [d.size for d in known]
        if isinstance(type_, TensorType) and len(known) == len(values) and max((type_.size, *sizes)) <= _SMALL:
            (data,) = op.evaluate(*known)
            return self.number(data.item(), type_.dtype) if data.ndim == 0 else self.array(data)
        return self.graph.add(op, *values, name=self.hint, sources=self.sources, at=self.at)

    def data(self, value: Value) -> np.ndarray | None:
        """The data of a constant; None for any other value."""
        return self.graph.data(value)

    # -- constants -------------------------------------------------------------------------------------------------

    def array(self, data: np.ndarray) -> Value:
        """A constant."""
        return self.graph.add_constant(np.ascontiguousarray(data).reshape(data.shape), self.hint or "c")

    def number(self, number: float, like: Value | DType) -> Value:
        """A scalar constant of the element type of `like`; one for each number and type."""
        dtype = like if isinstance(like, DType) else like.tensor.dtype
        key = (float(number), dtype)
        if key not in self._numbers or self._numbers[key] not in self.graph.constants:
            self._numbers[key] = self.graph.add_constant(np.array(number, dtype.numpy), "c")
        return self._numbers[key]

    def full(self, number: float, like: Value) -> Value:
        """A tensor of the type of `like` filled with one number."""
        return self.expand(self.number(number, like), like.shape)

    # -- element by element ----------------------------------------------------------------------------------------

    def unary(self, fn: str, x: Value, alpha: float = 0.0, beta: float = 0.0) -> Value:
        """fn(x)."""
        return self.emit(Unary(fn, float(alpha), float(beta)), x)

    def binary(self, fn: str, a: Value, b: Value | float) -> Value:
        """fn(a, b); a plain number becomes a scalar of a's element type."""
        return self.emit(Binary(fn), a, b if isinstance(b, Value) else self.number(b, a))

    def neg(self, x: Value) -> Value:
        """-x."""
        return self.unary("neg", x)

    def add(self, a: Value, b: Value | float) -> Value:
        """a + b."""
        return self.binary("add", a, b)

    def sub(self, a: Value, b: Value | float) -> Value:
        """a - b."""
        return self.binary("sub", a, b)

    def mul(self, a: Value, b: Value | float) -> Value:
        """a * b."""
        return a if not isinstance(b, Value) and b == 1 else self.binary("mul", a, b)

    def div(self, a: Value, b: Value | float) -> Value:
        """a / b."""
        return self.binary("div", a, b)

    def log1p(self, x: Value) -> Value:
        """ln(1 + x) to full relative accuracy for small x, where ONNX has none: Kahan's log(w) x / (w - 1)."""
        w = self.add(x, 1.0)
        lost = self.binary("equal", w, 1.0)
        rest = self.where(lost, self.number(1.0, x), self.sub(w, 1.0))
        return self.where(lost, x, self.mul(self.unary("log", w), self.div(x, rest)))

    def where(self, condition: Value, a: Value, b: Value | float) -> Value:
        """condition ? a : b."""
        return self.emit(Where(), condition, a, b if isinstance(b, Value) else self.number(b, a))

    def cast(self, x: Value, to: DType) -> Value:
        """x in another element type."""
        return x if x.tensor.dtype is to else self.emit(Cast(to), x)

    # -- shapes ----------------------------------------------------------------------------------------------------

    def reshape(self, x: Value, shape: Sequence[int]) -> Value:
        """x with another shape of the same size."""
        shape = tuple(int(d) for d in shape)
        return x if x.shape == shape else self.emit(Reshape(shape), x)

    def transpose(self, x: Value, perm: Sequence[int]) -> Value:
        """x with its axes permuted."""
        perm = tuple(int(p) for p in perm)
        return x if perm == tuple(range(len(perm))) else self.emit(Transpose(perm), x)

    def swap(self, x: Value) -> Value:
        """x with its last two axes swapped."""
        rank = x.tensor.rank
        return self.transpose(x, (*range(rank - 2), rank - 1, rank - 2))

    def expand(self, x: Value, shape: Sequence[int]) -> Value:
        """x broadcast to a shape."""
        shape = tuple(int(d) for d in shape)
        return x if x.shape == shape else self.emit(Expand(shape), x)

    def slice(self, x: Value, starts: Sequence[int], stops: Sequence[int], steps: Sequence[int] | None = None) -> Value:
        """x[start:stop:step] on every axis."""
        steps = tuple(steps or (1,) * x.tensor.rank)
        if tuple(stops) == x.shape and not any(starts) and set(steps) <= {1}:
            return x
        return self.emit(Slice(tuple(starts), tuple(stops), steps), x)

    def part(self, x: Value, axis: int, start: int, stop: int, step: int = 1) -> Value:
        """x[start:stop:step] on one axis."""
        starts, stops, steps = [0] * x.tensor.rank, list(x.shape), [1] * x.tensor.rank
        starts[axis], stops[axis], steps[axis] = start, stop, step
        return self.slice(x, starts, stops, steps)

    def pad(self, x: Value, begins: Sequence[int], ends: Sequence[int]) -> Value:
        """x with zeros around it."""
        pads = (*begins, *ends)
        return x if not any(pads) else self.emit(Pad(tuple(int(p) for p in pads)), x)

    def pad_axis(self, x: Value, axis: int, begin: int, end: int) -> Value:
        """x with zeros before and after it on one axis."""
        begins, ends = [0] * x.tensor.rank, [0] * x.tensor.rank
        begins[axis], ends[axis] = begin, end
        return self.pad(x, begins, ends)

    # -- sums and products -----------------------------------------------------------------------------------------

    def reduce(self, fn: str, x: Value, axes: Sequence[int], keepdims: bool = True) -> Value:
        """Reduction over axes."""
        return self.emit(Reduce(fn, tuple(sorted(axes)), keepdims), x) if axes else x

    def total(self, x: Value) -> Value:
        """The sum of all elements, a scalar."""
        return self.reduce("sum", x, range(x.tensor.rank), keepdims=False)

    def sum_to(self, x: Value, shape: Sequence[int]) -> Value:
        """The transpose of broadcasting: x summed over what `shape` was broadcast along."""
        shape = tuple(shape)
        lead = x.tensor.rank - len(shape)
        axes = [*range(lead), *(lead + a for a, d in enumerate(shape) if d == 1 and x.shape[lead + a] != 1)]
        return self.reshape(self.reduce("sum", x, axes), shape)

    def matmul(self, a: Value, b: Value) -> Value:
        """numpy.matmul."""
        return self.emit(MatMul(), a, b)
