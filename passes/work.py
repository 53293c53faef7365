"""How much an `mvm` computes, counted as design section 4 defines it."""

from __future__ import annotations

from mgc.ir.graph import Graph
from mgc.ir.mapped import Mvm


def macs_mapped(op: Mvm) -> int:
    """Multiply-accumulates that the crossbars do for one micro-batch: windows x occupied rows x columns, all parts."""
    return op.source.shape[0] * sum(p.windows.total * p.matrices * p.rows * p.cols for p in op.parts)


def row_block_mvms(op: Mvm, rows: int) -> int:
    """Crossbar reads (all digits of one window in one block of at most `rows` rows) of one micro-batch."""
    return op.source.shape[0] * sum(p.windows.total * p.matrices * -(-p.rows // rows) for p in op.parts)


def totals(graph: Graph, rows: int) -> tuple[int, int, int]:
    """(macs_useful, macs_mapped, row-block MVMs) of one micro-batch of a level-2 graph."""
    ops = [n.op for n in graph.nodes if isinstance(n.op, Mvm)]
    return sum(op.macs_useful for op in ops), sum(map(macs_mapped, ops)), sum(row_block_mvms(op, rows) for op in ops)
