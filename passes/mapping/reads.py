"""How often an iteration reads each crossbar group, each way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mgc.ir.graph import Graph, Value
from mgc.ir.mapped import Mvm, MvmT
from mgc.passes.mapping.durations import streamed_input
from mgc.targets.description import Target


@dataclass
class Reads:
    """Reads of one group in an iteration, with one replica: each digit of each window, as stored and transposed; it is
    one of `parts` groups of a layer.
    """

    forward: int = 0
    transposed: int = 0
    parts: int = 1

    def turns(self, each: int) -> int:
        """Reads in all if a transposed one takes `each` turns. The parts of a product add transposed reads into one
        result: the first begins it, the others follow side by side.
        """
        return self.forward + each * self.transposed * min(2, self.parts)


def reads_of(
    graphs: Sequence[Graph], homes: Sequence[Mapping[Value, str]], times: Sequence[int], target: Target
) -> dict[str, Reads]:
    """The reads of each group, by name, over several graphs that run so many `times`; `homes` tells the versions of
    cells. A transposed read counts once, however many turns its slices and signs take.
    """
    found: dict[str, Reads] = {}
    for graph, home, count in zip(graphs, homes, times, strict=True):
        for node in graph.nodes:
            if not isinstance(node.op, Mvm | MvmT):
                continue
            digits = target.crossbar.digits(**streamed_input(node))
            for k, part in enumerate(node.op.parts):
                reads = found.setdefault(home[node.inputs[1 + k]], Reads(parts=len(node.op.parts)))
                windows = count * digits * node.op.source.shape[0] * part.windows.total
                if isinstance(node.op, MvmT):
                    reads.transposed += windows
                else:
                    reads.forward += windows
    return found
