"""What a training step is rid of before it is lowered: broadcasts that element-wise ops do anyway, fused norms."""

from __future__ import annotations

from mgc.ir.build import Build
from mgc.ir.graph import Graph, Node, Value
from mgc.ir.ops import BatchNorm, Binary, Expand, Where
from mgc.ir.types import TensorType


def prepare(graph: Graph) -> Graph:
    """A copy of a level-1 graph with `batch_norm` in inference form as primitives, whose parameters are states, and
    without `expand`s that only spare an element-wise op its own broadcast. Values are the same, up to the order of
    rounding in the norms.
    """
    graph = graph.copy()
    _norms(graph)
    _expansions(graph)
    graph.prune()
    return graph


def _norms(graph: Graph) -> None:
    nodes, graph.nodes = graph.nodes, []
    replaced: dict[Value, Value] = {}
    for node in nodes:
        node.inputs = tuple(replaced.get(v, v) for v in node.inputs)
        if isinstance(node.op, BatchNorm) and not node.op.training:
            replaced[node.outputs[0]] = _normalised(graph, node, node.op)
        else:
            graph.nodes.append(node)
    graph.outputs = [(name, replaced.get(v, v)) for name, v in graph.outputs]


def _normalised(graph: Graph, node: Node, op: BatchNorm) -> Value:
    x, scale, bias, mean, var = node.inputs
    build = Build(graph, sources=node.sources, hint=node.outputs[0].name)
    wide = (x.shape[1], *(1,) * (x.tensor.rank - 2))
    factor = build.div(scale, build.unary("sqrt", build.add(var, op.epsilon)))
    centred = build.sub(x, build.reshape(mean, wide))
    return build.add(build.mul(centred, build.reshape(factor, wide)), build.reshape(bias, wide))


def _expansions(graph: Graph) -> None:
    """Lets element-wise ops read what an expand reads, where their result has the same shape."""
    producers = graph.producers()
    for node in graph.nodes:
        if not isinstance(node.op, Binary | Where):
            continue
        inputs = list(node.inputs)
        for k, value in enumerate(inputs):
            before = producers.get(value)
            if before is None or not isinstance(before.op, Expand):
                continue
            changed = [*inputs[:k], before.inputs[0], *inputs[k + 1 :]]
            if _shape(node, changed) == node.outputs[0].shape:
                inputs = changed
        node.inputs = tuple(inputs)


def _shape(node: Node, inputs: list[Value]) -> tuple[int, ...] | None:
    (type_,) = node.op.infer(*(v.type for v in inputs))
    return type_.shape if isinstance(type_, TensorType) else None
