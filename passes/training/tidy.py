"""Simplifications of what differentiation leaves: tensors spread out too early, numbers multiplied in too late."""

from __future__ import annotations

from mgc.ir.graph import Graph, Node, Value
from mgc.ir.op import IRError
from mgc.ir.ops import Binary, Detach, Expand, Where
from mgc.ir.ops.check import broadcast
from mgc.ir.rewriter import pattern


@pattern(Binary, Where)
def drop_expands(graph: Graph, node: Node) -> bool:
    """Element-wise ops broadcast by themselves: they read what an expand spreads out, where that gives their shape."""
    changed = False
    for i, value in enumerate(node.inputs):
        source = graph.producer(value)
        if source is not None and isinstance(source.op, Expand):
            inputs = (*node.inputs[:i], source.inputs[0], *node.inputs[i + 1 :])
            if _fits(node, inputs):
                node.inputs, changed = inputs, True
    return changed


def _fits(node: Node, inputs: tuple[Value, ...]) -> bool:
    try:
        if broadcast(node.op, *(v.shape for v in inputs)) != node.outputs[0].shape:
            return False
        return node.op.infer(*(v.type for v in inputs)) == (node.outputs[0].type,)
    except IRError:
        return False


@pattern(Binary)
def multiply_early(graph: Graph, node: Node) -> bool:
    """(a b) k with a number k and a smaller than the product becomes (a k) b: one large product less."""
    number = _number(graph, node)
    inner = None if number is None else graph.producer(node.inputs[1 - number])
    if number is None or inner is None or not _is_product(inner):
        return False
    (product,) = inner.outputs
    if product in graph.output_values() or len(graph.uses(product)) != 1:
        return False
    small = min(inner.inputs, key=lambda v: v.tensor.size)
    other = inner.inputs[1] if small is inner.inputs[0] else inner.inputs[0]
    if small.tensor.size >= product.tensor.size or small in graph.constants:
        return False
    k = node.inputs[number]
    if k.tensor.rank > small.tensor.rank:
        return False
    scaled = graph.add(Binary("mul"), small, k, name=f"{product.name}.scaled", sources=node.sources, at=inner)
    node.inputs = (scaled, other)
    return True


def _is_product(node: Node) -> bool:
    return isinstance(node.op, Binary) and node.op.fn == "mul" and node.outputs[0].tensor.dtype.is_float


def _number(graph: Graph, node: Node) -> int | None:
    """Which operand of a product is a number known at compile time; None if neither or both."""
    if not _is_product(node):
        return None
    numbers = [i for i, v in enumerate(node.inputs) if v in graph.constants and v.tensor.size == 1]
    return numbers[0] if len(numbers) == 1 else None


@pattern(Detach)
def drop_detach(graph: Graph, node: Node) -> bool:
    """What was a constant of differentiation is the value itself, once all is differentiated."""
    graph.bypass(node, node.inputs, "a constant of differentiation")
    return True


TIDYING = (drop_detach, drop_expands, multiply_early)
