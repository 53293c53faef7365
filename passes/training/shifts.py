"""Shifts that cancel: what a normalisation or a difference subtracts again is not added in the first place.

A bias before a normalisation, or on scores that only enter as differences, has a gradient of exactly zero. Computed in
float32 it is noise around 1e-9, which Adam and RMSProp scale up to full steps: the bias then wanders, where it stands
still in float64. These rewrites take the shift out of the forward graph, so that the gradient does not exist at all.
"""

from __future__ import annotations

from mgc.ir.build import Build
from mgc.ir.graph import Graph, Node, Value
from mgc.ir.ops import Binary, Reduce, Reshape

Producers = dict[Value, Node]


def shift_of(producers: Producers, x: Value, axes: tuple[int, ...]) -> tuple[Value, Value] | None:
    """(v, b) if x = v + b with v of x's shape and b constant along `axes`; None otherwise."""
    node = producers.get(x)
    if node is None or not isinstance(node.op, Binary) or node.op.fn != "add":
        return None
    for v, b in (node.inputs, node.inputs[::-1]):
        lead = x.tensor.rank - b.tensor.rank
        if v.shape == x.shape and all(a < lead or b.shape[a - lead] == 1 for a in axes):
            return v, b
    return None


def cancel_shifts(graph: Graph) -> None:
    """Rewrites, in place, (v + b) - mean(v + b) as v - mean(v) where b is constant along the axes of the mean, and
    (v + b) - (w + b) and (v + b) - mean(w + b) without b where b is a single number.
    """
    nodes, graph.nodes = graph.nodes, []
    producers: Producers = {}
    replaced: dict[Value, Value] = {}
    for node in nodes:
        node.inputs = tuple(replaced.get(v, v) for v in node.inputs)
        found = _without_shift(graph, producers, node)
        if found is None:
            graph.nodes.append(node)
        else:
            replaced[node.outputs[0]] = found
        producers.update((v, node) for v in node.outputs)
    graph.outputs = [(name, replaced.get(v, v)) for name, v in graph.outputs]
    graph.prune()


def _without_shift(graph: Graph, producers: Producers, node: Node) -> Value | None:
    if not isinstance(node.op, Binary) or node.op.fn != "sub":
        return None
    x, m = node.inputs
    build = Build(graph, sources=node.sources, hint=node.outputs[0].name)
    below = producers.get(m)
    if below is not None and isinstance(below.op, Reduce) and below.op.fn == "mean" and below.inputs[0] is x:
        shift = shift_of(producers, x, below.op.axes)
        if shift is None or not below.op.keepdims:
            return None
        return build.sub(shift[0], build.reduce("mean", shift[0], below.op.axes))
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
