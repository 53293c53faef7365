"""Per-channel affine maps after a weighted op go into its weights and one bias."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod

import numpy as np

from mgc.ir.build import Build
from mgc.ir.graph import Graph, Node, Value
from mgc.ir.ops import BatchNorm, Binary, Conv, ConvTranspose, MatMul, Reshape, Transpose, Unary
from mgc.ir.rewriter import pattern
from mgc.ir.types import TensorType

# Above this many elements of one sample a reshape is not looked through: the column of each would have to be listed.
_LARGE = 1 << 22


@dataclass(frozen=True)
class Columns:
    """The output columns (channels) of a weighted op: how many, on which axis of its result, which operand is weights.

    `axis` counts from the end and is negative.
    """

    count: int
    axis: int
    weights: int


def columns_of(graph: Graph, node: Node) -> Columns | None:
    """The columns of a conv, conv_transpose or matmul with one constant operand; None for any other node."""
    op = node.op
    if isinstance(op, Conv | ConvTranspose):
        if node.inputs[1] not in graph.constants or node.inputs[0] in graph.constants:
            return None
        y = node.outputs[0]
        return Columns(y.shape[1], 1 - len(y.shape), 1)
    if isinstance(op, MatMul):
        a, b = node.inputs
        if b in graph.constants and a not in graph.constants and len(b.shape) >= 2:
            return Columns(b.shape[-1], -1, 1)
        if a in graph.constants and b not in graph.constants and len(a.shape) >= 2:
            return Columns(a.shape[-2], -1 if len(b.shape) == 1 else -2, 0)
    return None


def scaled_weights(node: Node, columns: Columns, weights: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """The weights with output column c multiplied by scale[c] (float64), in the weights' own dtype."""
    op = node.op
    if isinstance(op, Conv):
        factor = scale.reshape(-1, *[1] * (weights.ndim - 1))
    elif isinstance(op, ConvTranspose):
        # w[C, M/groups, *kernel]: input channels of group g meet columns [g*M/groups, (g+1)*M/groups)
        rows = np.repeat(scale.reshape(op.groups, -1), weights.shape[0] // op.groups, axis=0)
        factor = rows.reshape(*weights.shape[:2], *[1] * (weights.ndim - 2))
    else:
        factor = scale if columns.weights == 1 else scale[:, None]
    return (weights * factor).astype(weights.dtype)


@dataclass
class _Chain:
    """The affine maps that follow one weighted op, as y = scale[col] * product + shift[col].

    `col` gives the column of every element of the current value, with extent 1 where it does not vary.
    """

    scale: np.ndarray
    shift: np.ndarray
    col: np.ndarray
    value: Value
    absorbed: list[Node] = field(default_factory=list)
    passed: list[Node] = field(default_factory=list)

    def per_column(self, data: np.ndarray) -> np.ndarray | None:
        """A constant operand as one number for each column (float64); None if it varies otherwise."""
        shape = self.value.shape
        if data.ndim > len(shape):
            return None
        data = data.reshape((1,) * (len(shape) - data.ndim) + data.shape).astype(np.float64)
        if any(d not in (1, c) for d, c in zip(data.shape, self.col.shape, strict=True)):
            return None
        spread = np.broadcast_to(data, self.col.shape)
        result = np.empty_like(self.scale)
        result[self.col] = spread
        return result if np.array_equal(result[self.col], spread) else None

    def step(self, graph: Graph, node: Node) -> bool:
        """Takes one more node in, if it is an affine map of the columns or only moves elements."""
        if isinstance(node.op, Reshape | Transpose):
            return self._move(node)
        type_ = node.outputs[0].type
        if not isinstance(type_, TensorType) or type_.shape != self.value.shape:
            return False
        with np.errstate(all="ignore"):
            found = self._affine(graph, node)
            if found is None or not all(np.all(np.isfinite(v)) for v in found):
                return False
            factor, offset = found
            self.scale, self.shift = self.scale * factor, self.shift * factor + offset
        self.absorbed.append(node)
        self.value = node.outputs[0]
        return True

    def _affine(self, graph: Graph, node: Node) -> tuple[np.ndarray, np.ndarray] | None:
        """(factor, offset) for each column."""
        op = node.op
        ones, zeros = np.ones_like(self.scale), np.zeros_like(self.scale)
        if isinstance(op, Unary) and op.fn == "neg":
            return -ones, zeros
        if isinstance(op, BatchNorm):
            return self._batch_norm(graph, node, op)
        if not isinstance(op, Binary) or op.fn not in ("add", "sub", "mul", "div"):
            return None
        first = node.inputs[0] is self.value
        data = graph.data(node.inputs[1 if first else 0])
        operand = None if data is None else self.per_column(data)
        if operand is None:
            return None
        if op.fn == "add":
            return ones, operand
        if op.fn == "mul":
            return operand, zeros
        if op.fn == "sub":
            return (ones, -operand) if first else (-ones, operand)
        return (1 / operand, zeros) if first else None

    def _batch_norm(self, graph: Graph, node: Node, op: BatchNorm) -> tuple[np.ndarray, np.ndarray] | None:
        if node.inputs[0] is not self.value:
            return None
        shape = (1, -1, *[1] * (len(self.value.shape) - 2))
        parts: list[np.ndarray] = []
        for v in node.inputs[1:]:
            data = graph.data(v)
            part = None if data is None else self.per_column(data.reshape(shape))
            if part is None:
                return None
            parts.append(part)
        scale, bias, mean, var = parts
        factor = scale / np.sqrt(var + op.epsilon)
        return factor, bias - mean * factor

    def _move(self, node: Node) -> bool:
        op, shape, new = node.op, self.value.shape, node.outputs[0].shape
        if isinstance(op, Transpose):
            self.col = self.col.transpose(op.perm)
        else:
            if not shape or not new or shape[0] != new[0] or self.col.shape[0] != 1 or prod(new[1:]) > _LARGE:
                return False
            self.col = np.broadcast_to(self.col, (1, *shape[1:])).reshape(1, *new[1:])
        self.passed.append(node)
        self.value = node.outputs[0]
        return True


def _follow(graph: Graph, node: Node, columns: Columns) -> _Chain:
    leaving = graph.output_values()
    shape = [1] * len(node.outputs[0].shape)
    shape[columns.axis] = columns.count
    col = np.arange(columns.count).reshape(shape)
    chain = _Chain(np.ones(columns.count), np.zeros(columns.count), col, node.outputs[0])
    while chain.value not in leaving:
        readers = graph.uses(chain.value)
        if len(readers) != 1 or not chain.step(graph, readers[0]):
            break
    return chain


def _is_done(chain: _Chain, node: Node) -> bool:
    """Whether nothing is left to do: no affine op follows, or just one add right after the weighted op."""
    if not chain.absorbed:
        return True
    (first, *more) = chain.absorbed
    return not more and first.inputs[0] is node.outputs[0] and isinstance(first.op, Binary) and first.op.fn == "add"


@pattern(Conv, ConvTranspose, MatMul)
def fold_affine(graph: Graph, node: Node) -> bool:
    """Scales and shifts that follow a weighted op go into it; at most one `add` of [.., columns, ..] stays after it."""
    columns = columns_of(graph, node)
    chain = None if columns is None else _follow(graph, node, columns)
    if columns is None or chain is None or _is_done(chain, node):
        return False
    old = node.inputs[columns.weights]
    if np.any(chain.scale != 1):
        data = scaled_weights(node, columns, graph.constants[old].data, chain.scale)
        weights = graph.add_constant(data, old.name, group=graph.constants[old].group)
        node.inputs = tuple(weights if k == columns.weights else v for k, v in enumerate(node.inputs))
    # the affine ops vanish; the shape ops between them stay
    for gone in chain.absorbed:
        operand = next(v for v in gone.inputs if v not in graph.constants)
        graph.remove(gone)
        graph.replace({gone.outputs[0]: operand})
    y = node.outputs[0]
    if np.any(chain.shift != 0):
        shape = [1] * len(y.shape)
        shape[columns.axis] = columns.count
        bias = graph.add_constant(chain.shift.reshape(shape).astype(y.tensor.dtype.numpy), f"{node.op.name}.bias")
        sources = [s for n in chain.absorbed for s in n.sources]
        at = graph.nodes.index(node) + 1
        total = graph.add(Binary("add"), y, bias, name=f"{y.name}.sum", sources=sources, at=at)
        graph.replace({y: total}, keep=[graph.nodes[at]])
    node.take_sources(*chain.absorbed)
    return True


@pattern(BatchNorm)
def expand_batch_norm(graph: Graph, node: Node) -> bool:
    """A batch norm that no weighted op takes in becomes element-wise ops.

    Constant statistics give one `mul` and one `add`; computed or singular ones (x - mean) * factor + bias as written.
    """
    assert isinstance(node.op, BatchNorm)
    build = Build(graph, sources=node.sources, at=node)
    result = _scale_and_shift(build, node, node.op) or written_out(graph, node, node.op)
    graph.remove(node)
    graph.replace({node.outputs[0]: result})
    return True


def _scale_and_shift(build: Build, node: Node, op: BatchNorm) -> Value | None:
    x, *statistics = node.inputs
    data = [build.data(v) for v in statistics]
    if any(d is None for d in data):
        return None
    scale, bias, mean, var = (d.astype(np.float64) for d in data if d is not None)
    with np.errstate(all="ignore"):
        factor = scale / np.sqrt(var + op.epsilon)
        offset = bias - mean * factor
    if not (np.all(np.isfinite(factor)) and np.all(np.isfinite(offset))):
        return None
    shape = (1, -1, *[1] * (len(x.shape) - 2))
    dtype = x.tensor.dtype.numpy
    factors = build.graph.add_constant(factor.reshape(shape).astype(dtype), "batch_norm.scale")
    offsets = build.graph.add_constant(offset.reshape(shape).astype(dtype), "batch_norm.bias")
    return build.add(build.mul(x, factors), offsets)


def written_out(graph: Graph, node: Node, op: BatchNorm) -> Value:
    """The result of an inference batch norm as element-wise ops, put before the node."""
    x, scale, bias, mean, var = node.inputs
    build = Build(graph, sources=node.sources, hint=node.outputs[0].name, at=node)
    wide = (x.shape[1], *(1,) * (x.tensor.rank - 2))
    factor = build.div(scale, build.unary("sqrt", build.add(var, op.epsilon)))
    centred = build.sub(x, build.reshape(mean, wide))
    return build.add(build.mul(centred, build.reshape(factor, wide)), build.reshape(bias, wide))
