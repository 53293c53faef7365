"""Quantisation ahead of data movement: what is copied is then a code of one byte, not a real of four."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from mgc.ir import ops
from mgc.ir.graph import Graph, Node, Value
from mgc.ir.mapped import Lookup, Quant
from mgc.ir.op import Op


def hoist_quant(graph: Graph) -> None:
    """Rewrites f(move(a, b)) to move(f(a), f(b)) in place, where f is `Quant` or element-wise work that only feeds one.

    Moves are Reshape, Transpose, Concat, Expand and Pad (they drop no element, so f has no more work than before) whose
    users are all such work. f is applied element by element, so results are equal bit for bit (zero padding: where
    f(0) is 0).
    """
    hoisting = _Hoisting(graph, graph.producers(), graph.users(), graph.output_values())
    for node in reversed(graph.nodes):
        if _is_pointwise(graph, node) and (isinstance(node.op, Quant) or hoisting.feeds_only_work(node.outputs[0])):
            hoisting.work.add(node)
    for node in [n for n in graph.nodes if n in hoisting.work]:
        hoisting.hoist(node)
    graph.sort()
    _share(graph)
    graph.prune()


def _share(graph: Graph) -> None:
    """Does work that two consumers moved to the same value only once."""
    first: dict[tuple[Op, tuple[Value, ...]], Node] = {}
    same: dict[Value, Value] = {}
    for node in graph.nodes:
        if _is_pointwise(graph, node):
            inputs = tuple(same.get(v, v) for v in node.inputs)
            kept = first.setdefault((node.op, inputs), node)
            if kept is not node:
                same[node.outputs[0]] = kept.outputs[0]
                kept.sources = tuple(dict.fromkeys(kept.sources + node.sources))
    graph.nodes = [n for n in graph.nodes if not (n.outputs and n.outputs[0] in same)]
    graph.replace(same)


def _is_pointwise(graph: Graph, node: Node) -> bool:
    """Whether the node applies one function to each element of its first operand."""
    match node.op:
        case Quant() | ops.Unary():
            return True
        case Lookup():
            return all(v in graph.constants for v in node.inputs[1:])
    return False


@dataclass
class _Hoisting:
    """The graph's relations, kept up to date; `work` holds the nodes that may move."""

    graph: Graph
    producers: dict[Value, Node]
    users: dict[Value, list[Node]]
    outputs: set[Value]
    work: set[Node] = field(default_factory=set)

    def feeds_only_work(self, value: Value) -> bool:
        """Whether nothing but work that may move reads a value."""
        users = self.users.get(value, [])
        return bool(users) and value not in self.outputs and all(n in self.work for n in users)

    def hoist(self, node: Node) -> None:
        """Moves one node of the work above the moves before it, as far as that goes."""
        x, *rest = node.inputs
        move = self.producers.get(x)
        if move is None or not self.feeds_only_work(x) or not _passes(self.graph, node, move):
            return
        above: list[Node] = []
        for value in dict.fromkeys(move.inputs):
            (type_,) = node.op.infer(value.type, *(v.type for v in rest))
            image = Value(self.graph.fresh_name(node.outputs[0].name), type_)
            above.append(Node(node.op, (value, *rest), (image,), node.sources))
        image_of = {n.inputs[0]: n.outputs[0] for n in above}
        images = tuple(image_of[v] for v in move.inputs)
        moved = Node(move.op, images, node.outputs, tuple(dict.fromkeys(move.sources + node.sources)))
        self._put(node, [*above, moved])
        if not self.users[x]:  # its result was for this work only: it no longer reads its operands
            for value in move.inputs:
                self.users[value] = [n for n in self.users[value] if n is not move]
        for new in above:
            self.hoist(new)

    def _put(self, old: Node, new: list[Node]) -> None:
        """Puts nodes in the place of another one."""
        at = self.graph.nodes.index(old)
        self.graph.nodes[at : at + 1] = new
        for value in old.inputs:
            self.users[value] = [n for n in self.users[value] if n is not old]
        for node in new:
            self.producers.update(dict.fromkeys(node.outputs, node))
            for value in node.inputs:
                self.users.setdefault(value, []).append(node)
        self.work.update(new[:-1])


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
