"""The fold pass: normalisation into weights, constants, identities, common subexpressions, dead code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from mgc.ir.graph import Graph
from mgc.ir.module import Entry
from mgc.ir.rewriter import apply_patterns
from mgc.passes.manager import Pass
from mgc.passes.state import CompileState, with_graph
from mgc.passes.tensor.affine import expand_batch_norm, fold_affine
from mgc.passes.tensor.prepare import prepare
from mgc.passes.tensor.simplify import simplify


@dataclass(frozen=True)
class Fold(Pass):
    """Inference BatchNorm and every per-channel affine map after a conv, conv_transpose or matmul goes into its
    weights and one `add` of a constant; constants are folded, identities, repeated subexpressions and dead code
    removed. The result equals the operand graph in ONNX Runtime to 1e-5 of its range; every ONNX node stays accounted
    for, in the sources of a node or in `absorbed` with the reason. Where weights are trained only what leaves them as
    they are is done (see `prepare`).
    """

    name: ClassVar[str] = "fold"

    def run_entry(self, entry: Entry, state: CompileState) -> Entry:
        if not state.trains:
            return with_graph(entry, folded(entry.graph.copy()))
        return with_graph(entry, prepare(entry.graph, {s.name for s in state.module.states if s.kind == "parameter"}))


def folded(graph: Graph) -> Graph:
    """Folds `graph` in place and returns it; see `Fold`."""
    graph.prune()
    simplify(graph)
    while apply_patterns(graph, (fold_affine,)) or apply_patterns(graph, (expand_batch_norm,)):
        simplify(graph)
    graph.sort()
    graph.drop_stale_reasons()
    return graph
