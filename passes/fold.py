"""The fold pass: normalisation into weights, constants, identities, common subexpressions, dead code."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from mgc.passes.folding.affine import expand_batch_norms, fold_affine
from mgc.passes.folding.rewrite import drop_stale_reasons
from mgc.passes.folding.simplify import SIMPLIFICATIONS
from mgc.passes.manager import CompileState, Pass

# Each round folds whole chains, so two or three suffice; the bound keeps a faulty pair of rewrites from looping.
_ROUNDS = 20


@dataclass(frozen=True)
class Fold(Pass):
    """Inference BatchNorm and every per-channel affine map after a conv, conv_transpose or matmul goes into its
    weights and one `add` of a constant; constants are folded, identities, repeated subexpressions and dead code
    removed. The result equals the operand graph in ONNX Runtime to 1e-5 of its range; every ONNX node stays accounted
    for, in the sources of a node or in `absorbed` with the reason.
    """

    name: ClassVar[str] = "fold"

    def run(self, state: CompileState) -> CompileState:
        graph = state.graph.copy()
        graph.prune()
        for _ in range(_ROUNDS):
            changed = [rewrite(graph) for rewrite in SIMPLIFICATIONS]
            changed.append(fold_affine(graph))
            graph.prune()
            if not any(changed) and not expand_batch_norms(graph):
                break
        graph.sort()
        drop_stale_reasons(graph)
        return replace(state, graph=graph)
