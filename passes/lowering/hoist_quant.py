"""Quantisation ahead of data movement: what is copied is then a code of one byte, not a real of four."""

from __future__ import annotations

from functools import partial

import numpy as np

from mgc.ir import ops
from mgc.ir.graph import Graph, Node, Value
from mgc.ir.mapped import Lookup, Quant
from mgc.ir.rewriter import Pattern, apply_patterns, share_nodes


def hoist_quant(graph: Graph) -> None:
    """Rewrites f(move(a, b)) to move(f(a), f(b)) in place, where f is `Quant` or element-wise work that only feeds one.

    Moves are Reshape, Transpose, Concat, Expand and Pad (they drop no element, so f has no more work than before) whose
    users are all such work. f is applied element by element, so results are equal bit for bit (zero padding: where
    f(0) is 0).
    """
    work: set[Node] = set()
    for node in reversed(graph.nodes):
        if _is_pointwise(graph, node) and (isinstance(node.op, Quant) or _feeds_only(graph, node.outputs[0], work)):
            work.add(node)
    apply_patterns(graph, [Pattern((Quant, ops.Unary, Lookup), partial(_hoist, work))])
    graph.sort()
    # work that two consumers moved to the same value is done once
    share_nodes(graph, lambda node: _is_pointwise(graph, node))
    graph.prune()


def _is_pointwise(graph: Graph, node: Node) -> bool:
    """Whether the node applies one function to each element of its first operand."""
    match node.op:
        case Quant() | ops.Unary():
            return True
        case Lookup():
            return all(v in graph.constants for v in node.inputs[1:])
    return False


def _feeds_only(graph: Graph, value: Value, work: set[Node]) -> bool:
    """Whether nothing but work that may move reads a value."""
    readers = graph.uses(value)
    return bool(readers) and value not in graph.output_values() and all(n in work for n in readers)


def _hoist(work: set[Node], graph: Graph, node: Node) -> bool:
    """Lets a node of the work change places with the move before it."""
    x, *rest = node.inputs
    move = graph.producer(x)
    if node not in work or move is None or not _feeds_only(graph, x, work) or not _passes(graph, node, move):
        return False
    images: dict[Value, Value] = {}
    for value in dict.fromkeys(move.inputs):
        hint = node.outputs[0].name
        images[value] = graph.add(node.op, value, *rest, name=hint, sources=node.sources, at=node)
        work.add(graph.nodes[graph.nodes.index(node) - 1])
    work.remove(node)
    node.op, node.inputs = move.op, tuple(images[v] for v in move.inputs)
    node.sources = tuple(dict.fromkeys(move.sources + node.sources))
    if not graph.uses(x):
        graph.remove(move)
    return True


def _passes(graph: Graph, node: Node, move: Node) -> bool:
    """Whether a pointwise node may change places with the move before it."""
    match move.op:
        case ops.Reshape() | ops.Transpose() | ops.Concat() | ops.Expand():
            return True
        case ops.Pad(_, mode, value):
            return mode != "constant" or (value == 0 and _keeps_zero(graph, node))
    return False


def _keeps_zero(graph: Graph, node: Node) -> bool:
    """Whether the function gives +0 for 0, in every numerics."""
    if isinstance(node.op, Quant):
        return node.op.zero == 0 and node.op.lo <= 0 <= node.op.hi
    zero = np.zeros(1, node.inputs[0].tensor.dtype.numpy)
    tables = [graph.constants[v].data for v in node.inputs[1:]]
    results = [node.op.evaluate(zero, *tables)[0]]
    if isinstance(node.op, Lookup):
        results.append(ops.Unary(node.op.fn, node.op.alpha, node.op.beta).evaluate(zero)[0])
    return all(not r.view(np.uint8).any() for r in results)
