"""Simplifications that change no value: constants, identities, chains of shape ops, common subexpressions."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from mgc.ir.graph import Graph, Node, Value
from mgc.ir.op import Op
from mgc.ir.ops import (
    Binary,
    Cast,
    Concat,
    Conv,
    ConvTranspose,
    Expand,
    Gather,
    Host,
    MatMul,
    Pad,
    Pool,
    Reduce,
    Reshape,
    Slice,
    Transpose,
    Unary,
)
from mgc.ir.rewriter import Pattern, apply_patterns, pattern, share_nodes
from mgc.ir.types import TensorType

# A constant result above this many elements is kept as an op if it has more of them than what it is made of, and no
# product holds it as weights: expanding a scalar to an image would only make the program bigger.
_LARGE = 1 << 14
# No constant has more elements.
_MOST = 1 << 26

# Rounds of patterns and shared work: the bound keeps a faulty rewrite from looping.
_ROUNDS = 20


def simplify(graph: Graph, *more: Pattern) -> bool:
    """Applies the simplifications, and more patterns, until nothing changes; whether anything did. Prunes."""
    changed = False
    for _ in range(_ROUNDS):
        now = apply_patterns(graph, (*SIMPLIFICATIONS, *more))
        now |= share(graph)
        graph.prune()
        if not now:
            break
        changed = True
    return changed


@pattern(Op)
def fold_constants(graph: Graph, node: Node) -> bool:
    """A node whose operands are all constants becomes constants."""
    if isinstance(node.op, Host) or not all(v in graph.constants for v in node.inputs):
        return False
    if any(not isinstance(v.type, TensorType) for v in node.outputs):
        return False
    size = sum(v.tensor.size for v in node.outputs)
    grows = size > max(_LARGE, sum(v.tensor.size for v in node.inputs))
    if size > _MOST or (grows and not _becomes_weights(graph, node)):
        return False
    results = node.op.evaluate(*(graph.constants[v].data for v in node.inputs))
    # a transposed or reshaped parameter keeps its name: diagnostics and crossbar groups are called after it
    base = graph.constants[node.inputs[0]] if node.inputs else None
    hints = [base.value.name if base is not None and base.data.size > 1 else v.name for v in node.outputs]
    images = [
        graph.add_constant(np.asarray(data).reshape(v.shape), hint)
        for v, data, hint in zip(node.outputs, results, hints, strict=True)
    ]
    graph.bypass(node, images, "folded into a constant")
    return True


def _becomes_weights(graph: Graph, node: Node) -> bool:
    """Whether a product reads what ops on constants alone make of a node's results."""
    waiting, met = [node], {node}
    while waiting:
        for reader in (n for v in waiting.pop().outputs for n in graph.uses(v)):
            if isinstance(reader.op, Conv | ConvTranspose | MatMul):
                return True
            operands = ((graph.producer(v), v in graph.constants) for v in reader.inputs)
            if reader not in met and all(known or made in met for made, known in operands):
                met.add(reader)
                waiting.append(reader)
    return False


def _is(graph: Graph, value: Value, number: float) -> bool:
    """Whether a value is a constant with all elements equal to `number`."""
    data = graph.data(value)
    return data is not None and data.size > 0 and bool(np.all(data == data.dtype.type(number)))


def _binary_identity(graph: Graph, node: Node) -> Value | None:
    a, b = node.inputs
    fn = node.op.fn if isinstance(node.op, Binary) else ""
    neutral = {"add": 0.0, "sub": 0.0, "mul": 1.0, "div": 1.0, "pow": 1.0}.get(fn)
    if neutral is None or a.tensor.dtype != node.outputs[0].tensor.dtype:
        return None
    if a.shape == node.outputs[0].shape and _is(graph, b, neutral):
        return a
    commutes = fn in ("add", "mul")
    return b if commutes and b.shape == node.outputs[0].shape and _is(graph, a, neutral) else None


def _same_as(graph: Graph, node: Node) -> Value | None:
    """The operand that a node merely repeats; None if it does something."""
    op = node.op
    if not node.inputs or not all(isinstance(v.type, TensorType) for v in (*node.inputs, *node.outputs)):
        return None
    x, y = node.inputs[0], node.outputs[0]
    if isinstance(op, Binary):
        return _binary_identity(graph, node)
    if x.type != y.type:
        return None
    idle = (
        isinstance(op, (Cast, Reshape, Expand))
        or (isinstance(op, Slice) and all(s > 0 for s in op.steps))
        or (isinstance(op, Pad) and not any(op.pads))
        or (isinstance(op, Concat) and len(node.inputs) == 1)
        or (isinstance(op, Transpose) and op.perm == tuple(range(len(op.perm))))
        or (isinstance(op, Pool) and set(op.kernel) == {1} and not any(op.pads))
        or (isinstance(op, Reduce) and op.fn != "variance" and all(x.shape[a] == 1 for a in op.axes))
    )
    return x if idle else None


@pattern(Op)
def drop_identities(graph: Graph, node: Node) -> bool:
    """A node whose result is one of its operands goes."""
    value = _same_as(graph, node)
    if value is not None:
        graph.bypass(node, [value], f"identity ({node.op.name})")
    return value is not None


def _joined(outer: Op, inner: Op) -> Op | None:
    """One op that does what `outer` after `inner` does."""
    if isinstance(outer, Reshape) and isinstance(inner, Reshape):
        return outer
    if isinstance(outer, Transpose) and isinstance(inner, Transpose):
        return Transpose(tuple(inner.perm[p] for p in outer.perm))
    if isinstance(outer, Unary) and isinstance(inner, Unary) and outer == inner and outer.fn in ("relu", "abs"):
        return outer
    return None


@pattern(Reshape, Transpose, Unary)
def join_chains(graph: Graph, node: Node) -> bool:
    """Two in a row become one op: reshapes, transposes, a repeated relu."""
    inner = graph.producer(node.inputs[0])
    op = None if inner is None else _joined(node.op, inner.op)
    if inner is None or op is None:
        return False
    node.op, node.inputs = op, inner.inputs
    node.take_sources(inner)
    return True


def share(graph: Graph, apart: Collection[Node] = ()) -> bool:
    """Common subexpressions: equal ops on the same operands are computed once, but for the nodes `apart`; equal small
    constants are one.
    """
    known: dict[tuple[str, tuple[int, ...], bytes], Value] = {}
    alias: dict[Value, Value] = {}
    for value, constant in graph.constants.items():
        if constant.data.size > 4096 or constant.group:
            continue
        key = (constant.data.dtype.str, constant.data.shape, constant.data.tobytes())
        if key in known:
            alias[value] = known[key]
        known.setdefault(key, value)
    graph.replace(alias)
    return share_nodes(graph, lambda node: node not in apart) or bool(alias)


@pattern(Gather)
def slice_gathers(graph: Graph, node: Node) -> bool:
    """A gather at consecutive constant indices becomes a slice (rank kept), which needs no index memory."""
    data, shape = graph.data(node.inputs[1]), node.inputs[0].shape
    if not isinstance(node.op, Gather) or data is None or data.ndim != 1 or data.size == 0:
        return False
    axis = node.op.axis
    index = np.where(data < 0, data + shape[axis], data)
    if not np.array_equal(index, np.arange(index[0], index[0] + index.size)):
        return False
    starts, stops = [0] * len(shape), list(shape)
    starts[axis], stops[axis] = int(index[0]), int(index[-1]) + 1
    node.op, node.inputs = Slice(tuple(starts), tuple(stops), (1,) * len(shape)), node.inputs[:1]
    return True


SIMPLIFICATIONS = (fold_constants, slice_gathers, join_chains, drop_identities)
