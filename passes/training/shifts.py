"""Shifts that cancel: what a normalisation or a difference subtracts again is not added in the first place.

A bias before a normalisation, on the keys of an attention, or on scores that only enter as differences, has a gradient
of exactly zero. Computed in float32 it is noise around 1e-9, which Adam and RMSProp scale up to full steps: the bias
then wanders, where it stands still in float64. These rewrites take the shift out of the forward graph, so that the
gradient does not exist at all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from math import prod

from mgc.ir.build import Build
from mgc.ir.graph import Graph, Node, Value
from mgc.ir.ops import Binary, Conv, MatMul, Reduce, Reshape, Transpose

Producers = dict[Value, Node]
Split = tuple[Value, Value | None]


class Shifts:
    """Takes values apart: x = v + b with b constant along some axes. `nodes` are the graph's as it stands.

    A shift is looked for through what keeps it one: convolutions without padding, matrix products, reshapes,
    transposes, numbers as factors. A product that has more readers than it should is left alone: it would be computed
    twice.
    """

    def __init__(self, nodes: Sequence[Node]) -> None:
        self.producers: Producers = {v: n for n in nodes for v in n.outputs}
        self._readers = Counter(v for n in nodes for v in n.inputs)

    def split(self, build: Build, x: Value, axes: Collection[int], readers: int = 1) -> Split | None:
        """(v, b): v has x's shape, and b too, but for an extent of 1 along `axes`. None if x is no such sum.

        Behind a product b is not computed (None). `readers`: how often x is read where v takes its place.
        """
        node = self.producers.get(x)
        if node is None or not axes:
            return None
        match node.op:
            case Binary("add"):
                return self._sum(build, x, node, axes)
            case Binary("mul" | "div"):
                y, c = node.inputs
                inner = self.split(build, y, axes) if c.tensor.size == 1 and c.tensor.rank <= y.tensor.rank else None
                return inner and (build.emit(node.op, inner[0], c), inner[1] and build.emit(node.op, inner[1], c))
            case MatMul() if self._readers[x] <= readers:
                return self._product(build, x, node, axes)
            case Conv() if self._readers[x] <= readers:
                return self._convolution(build, x, node, node.op, axes)
            case Transpose(perm):
                inner = self.split(build, node.inputs[0], [perm[a] for a in axes])
                return inner and (build.transpose(inner[0], perm), inner[1] and build.transpose(inner[1], perm))
            case Reshape():
                return self._reshaped(build, x, node, axes)
        return None

    def root(self, b: Value) -> Value:
        """The value that b is a reshaped form of."""
        return _root(self.producers, b)

    def _sum(self, build: Build, x: Value, node: Node, axes: Collection[int]) -> Split | None:
        for v, b in (node.inputs, node.inputs[::-1]):
            lead = x.tensor.rank - b.tensor.rank
            if v.shape == x.shape and all(a < lead or b.shape[a - lead] == 1 for a in axes):
                b = build.expand(build.reshape(b, (*(1,) * lead, *b.shape)), _narrow(x, axes))
                inner = self.split(build, v, axes)
                return (v, b) if inner is None else (inner[0], inner[1] and build.add(inner[1], b))
        for v, other in (node.inputs, node.inputs[::-1]):
            inner = self.split(build, v, axes) if v.shape == x.shape else None
            if inner is not None:
                return build.add(inner[0], other), inner[1]
        return None

    def _product(self, build: Build, x: Value, node: Node, axes: Collection[int]) -> Split | None:
        """The rows of the first operand are the product's rows, the columns of the second its columns."""
        a, b = node.inputs
        rank = x.tensor.rank
        if min(a.tensor.rank, b.tensor.rank) < 2:
            return None
        if set(axes) == {rank - 2}:
            inner = self.split(build, a, [a.tensor.rank - 2])
            return inner and (build.matmul(inner[0], b), None)
        if set(axes) == {rank - 1}:
            inner = self.split(build, b, [b.tensor.rank - 1])
            return inner and (build.matmul(a, inner[0]), None)
        return None

    def _convolution(self, build: Build, x: Value, node: Node, op: Conv, axes: Collection[int]) -> Split | None:
        y, w = node.inputs
        spatial = set(range(2, x.tensor.rank))
        if any(op.pads) or not spatial <= set(axes) <= {0, *spatial}:
            return None
        inner = self.split(build, y, axes)
        return inner and (build.emit(op, inner[0], w), None)

    def _reshaped(self, build: Build, x: Value, node: Node, axes: Collection[int]) -> Split | None:
        (y,) = node.inputs
        if not x.tensor.size:
            return None
        theirs: list[int] = []
        for mine, others in _blocks(x.shape, y.shape):
            inside = set(mine) & set(axes)
            if inside and inside != {a for a in mine if x.shape[a] > 1} | inside:
                return None
            theirs += others if inside else ()
        inner = self.split(build, y, theirs)
        return inner and (
            build.reshape(inner[0], x.shape),
            inner[1] and build.reshape(inner[1], _narrow(x, axes)),
        )


def _narrow(x: Value, axes: Collection[int]) -> tuple[int, ...]:
    return tuple(1 if a in axes else n for a, n in enumerate(x.shape))


def _blocks(left: Sequence[int], right: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """The axes of two shapes of one size, in the smallest blocks of equal product, in order."""
    found: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(left) or j < len(right):
        mine, theirs = ([i] if i < len(left) else []), ([j] if j < len(right) else [])
        i, j = i + len(mine), j + len(theirs)
        while (a := prod(left[k] for k in mine)) != (b := prod(right[k] for k in theirs)):
            if a < b:
                mine.append(i)
                i += 1
            else:
                theirs.append(j)
                j += 1
        found.append((mine, theirs))
    return found


def cancel_shifts(graph: Graph) -> None:
    """Rewrites, in place, (v + b) - mean(v + b) as v - mean(v), and with max in place of mean (a softmax has that),
    where b is constant along the axes of the mean; and (v + b) - (w + b) and (v + b) - mean(w + b) without b where b is
    a single number.
    """
    nodes, graph.nodes = graph.nodes, []
    shifts = Shifts(nodes)
    replaced: dict[Value, Value] = {}
    for node in nodes:
        node.inputs = tuple(replaced.get(v, v) for v in node.inputs)
        found = _without_shift(graph, shifts, node)
        if found is None:
            graph.nodes.append(node)
        else:
            replaced[node.outputs[0]] = found
    graph.outputs = [(name, replaced.get(v, v)) for name, v in graph.outputs]
    graph.prune()


def _without_shift(graph: Graph, shifts: Shifts, node: Node) -> Value | None:
    if not isinstance(node.op, Binary) or node.op.fn != "sub":
        return None
    x, m = node.inputs
    build = Build(graph, sources=node.sources, hint=node.outputs[0].name)
    producers = shifts.producers
    below = producers.get(m)
    if below is not None and isinstance(below.op, Reduce) and below.op.fn in ("mean", "max") and below.inputs[0] is x:
        split = shifts.split(build, x, below.op.axes, readers=2) if below.op.keepdims else None
        return None if split is None else build.sub(split[0], build.reduce(below.op.fn, split[0], below.op.axes))
    left, right = _lifted(build, producers, x), _lifted(build, producers, m)
    if left is None or right is None or left[1] is not right[1]:
        return None
    return build.sub(left[0], right[0])


def _lifted(build: Build, producers: Producers, x: Value) -> tuple[Value, Value] | None:
    """(v, b) if x = v + b with b a single number, looking through reshapes and means; v is then built without it."""
    node = producers.get(x)
    if node is None:
        return None
    if isinstance(node.op, Reshape):
        inner = _lifted(build, producers, node.inputs[0])
        if inner is not None:
            return build.reshape(inner[0], node.op.shape), inner[1]
        return None
    if isinstance(node.op, Reduce) and node.op.fn == "mean":
        inner = _lifted(build, producers, node.inputs[0])
        return None if inner is None else (build.reduce("mean", inner[0], node.op.axes, node.op.keepdims), inner[1])
    if isinstance(node.op, Binary) and node.op.fn == "add":
        for v, b in (node.inputs, node.inputs[::-1]):
            if b.tensor.size == 1 and v.shape == x.shape:
                return v, _root(producers, b)
    return None


def _root(producers: Producers, b: Value) -> Value:
    """The value that b is a reshaped form of."""
    while b in producers and isinstance(producers[b].op, Reshape):
        b = producers[b].inputs[0]
    return b
