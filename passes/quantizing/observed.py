"""Which values of a level-1 graph calibration looks at."""

from __future__ import annotations

from mgc.ir.graph import Graph, Node, Value
from mgc.ir.ops import Conv, ConvTranspose, MatMul, Unary
from mgc.ir.types import TensorType
from mgc.passes.mapping.work import useful_macs
from mgc.passes.quantizing.tables import needs_table


def activation_operand(graph: Graph, node: Node) -> Value | None:
    """The real operand of a weighted op that crossbars will take in as codes; None if the node is no such op."""
    if not isinstance(node.op, Conv | ConvTranspose | MatMul):
        return None
    computed = [v for v in node.inputs if v not in graph.constants]
    if len(computed) != 1 or not computed[0].tensor.dtype.is_float or not computed[0].tensor.size:
        return None
    return computed[0]


def coded_values(graph: Graph) -> list[Value]:
    """The computed values that will be coded, in the order in which they are first read."""
    found = (activation_operand(graph, n) for n in graph.nodes)
    return list(dict.fromkeys(v for v in found if v is not None))


def unshifted_values(graph: Graph) -> set[Value]:
    """The values of which a weighted op cannot take codes whose zero is not 0 (see `Layer`): a transposed convolution,
    as its residue classes have different taps.
    """
    found = (activation_operand(graph, n) for n in graph.nodes if isinstance(n.op, ConvTranspose))
    return {v for v in found if v is not None}


def observed_values(graph: Graph) -> list[Value]:
    """The computed real values whose range matters: those that will be coded, and operands of functions by table."""
    values = dict.fromkeys(coded_values(graph))
    for node in graph.nodes:
        if isinstance(node.op, Unary) and needs_table(node.op) and node.inputs[0] not in graph.constants:
            values[node.inputs[0]] = None
    return [v for v in values if isinstance(v.type, TensorType) and v.tensor.size]


def graph_macs(graph: Graph) -> int:
    """Multiply-accumulates of all weighted ops of a level-1 graph, for one micro-batch."""
    return sum(useful_macs(n) for n in graph.nodes)
