"""What a training step is rid of before it is lowered: broadcasts that element-wise ops do anyway, fused norms."""

from __future__ import annotations

from collections.abc import Collection

from mgc.ir.graph import Graph, Node, Value
from mgc.ir.ops import BatchNorm, Binary, Expand, Where
from mgc.ir.rewriter import apply_patterns, pattern
from mgc.ir.types import TensorType
from mgc.passes.tensor.affine import written_out
from mgc.passes.tensor.scaled import scale_products


def prepare(graph: Graph, parameters: Collection[str] = ()) -> Graph:
    """A copy of a level-1 graph with `batch_norm` in inference form as primitives, whose parameters are states, with
    results scaled where one of `parameters` was, and without `expand`s that only spare an element-wise op its own
    broadcast. Values are the same, up to the order of rounding in the norms.
    """
    graph = graph.copy()
    apply_patterns(graph, (_write_out_norm,))
    scale_products(graph, parameters)
    _expansions(graph)
    graph.prune()
    return graph


@pattern(BatchNorm)
def _write_out_norm(graph: Graph, node: Node) -> bool:
    if not isinstance(node.op, BatchNorm) or node.op.training:
        return False
    result = written_out(graph, node, node.op)
    graph.remove(node)
    graph.replace({node.outputs[0]: result})
    return True


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
