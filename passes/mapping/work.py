"""How much a weighted op computes: zeros that are stuffed in are not counted (docs/mapping.md)."""

from __future__ import annotations

from mgc.ir.graph import Graph, Node
from mgc.ir.mapped import Mvm, MvmT, Outer
from mgc.ir.types import TensorType


def useful_macs(node: Node) -> int:
    """Multiply-accumulates by definition of a level-1 op, for its whole operand; 0 for an op without weights."""
    types = [v.type for v in (*node.inputs, *node.outputs)]
    tensors = [t for t in types if isinstance(t, TensorType)]
    return node.op.useful_macs(tensors[:-1], tensors[-1]) if len(tensors) == len(types) else 0


def macs_mapped(op: Mvm | MvmT | Outer) -> int:
    """Multiply-accumulates done for one micro-batch: windows x occupied rows x columns, all parts."""
    return op.source.shape[0] * sum(p.windows.total * p.matrices * p.rows * p.cols for p in op.parts)


def row_block_mvms(op: Mvm, rows: int) -> int:
    """Crossbar reads (all digits of one window in one block of at most `rows` rows) of one micro-batch."""
    return op.source.shape[0] * sum(p.windows.total * p.matrices * -(-p.rows // rows) for p in op.parts)


def totals(graph: Graph, rows: int) -> tuple[int, int, int]:
    """(macs_useful, macs_mapped, row-block MVMs) of one micro-batch of a level-2 graph.

    Macs are those of reads of both kinds and of weight gradients.
    """
    ops = [n.op for n in graph.nodes if isinstance(n.op, Mvm | MvmT | Outer)]
    reads = sum(row_block_mvms(op, rows) for op in ops if isinstance(op, Mvm))
    return sum(op.macs_useful for op in ops), sum(map(macs_mapped, ops)), reads
