"""The parts of a batch through a whole level-2 graph, and into how many parts it is worth cutting."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from mgc.ir.flow import Axis
from mgc.ir.graph import Graph, Node, Value
from mgc.ir.mapped import View
from mgc.ir.ops import Host
from mgc.ir.types import TensorType

MOST_PARTS = 64


@dataclass(frozen=True)
class Streaming:
    """For a batch in `split` parts: the axis of each value that is there part by part, the nodes that take it so."""

    split: int = 1
    axes: dict[Value, int] = field(default_factory=dict)
    nodes: frozenset[Node] = frozenset()

    def coarser(self, split: int) -> Streaming:
        """The same for fewer parts, of which each is several of these: what goes by small parts goes by large ones."""
        if self.split % split:
            raise ValueError(f"{self.split} parts do not go into {split}")
        return Streaming(split, self.axes, self.nodes) if split > 1 else Streaming()


def data_of(graph: Graph, residents: Collection[str]) -> list[str]:
    """The inputs that come anew in every run."""
    names = set(residents)
    return [v.name for v in graph.inputs if v.name not in names]


def streaming_of(graph: Graph, data: Collection[str], kept: Collection[Value], split: int) -> Streaming:
    """How the batch flows: `data` are the inputs with samples along axis 0, `kept` what is written in the place of a
    version of what lives from run to run, which happens at once.
    """
    axes: dict[Value, int] = {}
    nodes: list[Node] = []
    if split == 1:
        return Streaming()
    for value in graph.inputs:
        shape = value.shape if value.name in data and isinstance(value.type, TensorType) else ()
        if shape and shape[0] and shape[0] % split == 0:
            axes[value] = 0
    for node in graph.nodes:
        given: list[Axis] = [axes.get(v) for v in node.inputs]
        if isinstance(node.op, Host) or all(a is None for a in given) or any(v in kept for v in node.outputs):
            continue
        flow = node.op.flow([v.tensor for v in node.inputs], given, [v.tensor for v in node.outputs], split)
        if flow.streamed and not isinstance(node.op, View):
            nodes.append(node)
        axes.update({v: a for v, a in zip(node.outputs, flow.axes, strict=True) if a is not None})
    return Streaming(split, axes, frozenset(nodes))


def best_split(graph: Graph, data: Collection[str], kept: Collection[Value], batch: int) -> Streaming:
    """The finest cut of the batch under which as much goes by parts as under any: equal parts, at most `MOST_PARTS`."""
    found = Streaming()
    for split in (n for n in range(2, min(batch, MOST_PARTS) + 1) if batch % n == 0):
        tried = streaming_of(graph, data, kept, split)
        if len(tried.nodes) >= len(found.nodes) and tried.nodes:
            found = tried
    return found
