"""Simplifications that change no value: constants, identities, chains of shape ops, common subexpressions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from mgc.ir.graph import Graph, Node, Value
from mgc.ir.op import Op
from mgc.ir.ops import (
    Binary,
    Cast,
    Concat,
    Expand,
    Gather,
    Host,
    Pad,
    Pool,
    Reduce,
    Reshape,
    Slice,
    Transpose,
    Unary,
)
from mgc.ir.types import TensorType
from mgc.passes.folding.rewrite import bypass, merge_sources

# A constant result above this many elements is kept as an op unless it is no larger than what it is made of:
# expanding a scalar to an image would only make the program bigger.
_LARGE = 1 << 16


def fold_constants(graph: Graph) -> bool:
    """Replaces nodes whose operands are all constants by constants."""
    changed = False
    for node in list(graph.nodes):
        if isinstance(node.op, Host) or not all(v in graph.constants for v in node.inputs):
            continue
        if any(not isinstance(v.type, TensorType) for v in node.outputs):
            continue
        size = sum(v.tensor.nbytes for v in node.outputs)
        if size > _LARGE and size > sum(v.tensor.nbytes for v in node.inputs):
            continue
        results = node.op.evaluate(*(graph.constants[v].data for v in node.inputs))
        base = graph.constants[node.inputs[0]] if node.inputs else None
        for value, data in zip(node.outputs, results, strict=True):
            # a transposed or reshaped parameter keeps its name: diagnostics and crossbar groups are called after it
            hint = base.value.name if base is not None and base.data.size > 1 else value.name
            graph.replace({value: graph.add_constant(np.ascontiguousarray(data).reshape(value.shape), hint)})
        graph.nodes.remove(node)
        for source in node.sources:
            graph.absorbed.setdefault(source, "folded into a constant")
        changed = True
    return changed


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
        or (isinstance(op, Reduce) and all(x.shape[a] == 1 for a in op.axes))
    )
    return x if idle else None


def drop_identities(graph: Graph) -> bool:
    """Removes nodes whose result is one of their operands."""
    changed = False
    for node in list(graph.nodes):
        value = _same_as(graph, node)
        if value is not None:
            bypass(graph, node, value, f"identity ({node.op.name})")
            changed = True
    return changed


def _joined(outer: Op, inner: Op) -> Op | None:
    """One op that does what `outer` after `inner` does."""
    if isinstance(outer, Reshape) and isinstance(inner, Reshape):
        return outer
    if isinstance(outer, Transpose) and isinstance(inner, Transpose):
        return Transpose(tuple(inner.perm[p] for p in outer.perm))
    if isinstance(outer, Unary) and isinstance(inner, Unary) and outer == inner and outer.fn in ("relu", "abs"):
        return outer
    return None


def join_chains(graph: Graph) -> bool:
    """Makes one op of two in a row: reshapes, transposes, a repeated relu."""
    changed = False
    producers = graph.producers()
    for node in graph.nodes:
        inner = producers.get(node.inputs[0]) if node.inputs else None
        op = None if inner is None else _joined(node.op, inner.op)
        if inner is None or op is None:
            continue
        node.op, node.inputs = op, inner.inputs
        merge_sources(node, inner)
        changed = True
    return changed


def share(graph: Graph) -> bool:
    """Common subexpressions: equal ops on the same operands are computed once, equal small constants are one."""
    first: dict[tuple[Op, tuple[Value, ...]], Node] = {}
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
    changed = bool(alias)
    for node in list(graph.nodes):
        twin = first.setdefault((node.op, node.inputs), node)
        if twin is node:
            continue
        graph.nodes.remove(node)
        graph.replace(dict(zip(node.outputs, twin.outputs, strict=True)))
        merge_sources(twin, node)
        changed = True
    return changed


def _gather_is_slice(graph: Graph, node: Node) -> Op | None:
    """A gather at consecutive constant indices is a slice (rank kept), which needs no index memory."""
    if not isinstance(node.op, Gather):
        return None
    data, axis = graph.data(node.inputs[1]), node.op.axis
    shape = node.inputs[0].shape
    if data is None or data.ndim != 1 or data.size == 0:
        return None
    index = np.where(data < 0, data + shape[axis], data)
    if not np.array_equal(index, np.arange(index[0], index[0] + index.size)):
        return None
    whole = Slice((0,) * len(shape), shape, (1,) * len(shape))
    starts, stops = list(whole.starts), list(whole.stops)
    starts[axis], stops[axis] = int(index[0]), int(index[-1]) + 1
    return replace(whole, starts=tuple(starts), stops=tuple(stops))


def slice_gathers(graph: Graph) -> bool:
    """Turns gathers of a constant range into slices."""
    changed = False
    for node in graph.nodes:
        op = _gather_is_slice(graph, node)
        if op is not None:
            node.op, node.inputs, changed = op, node.inputs[:1], True
    return changed


SIMPLIFICATIONS: tuple[Callable[[Graph], bool], ...] = (
    fold_constants,
    slice_gathers,
    join_chains,
    drop_identities,
    share,
)
