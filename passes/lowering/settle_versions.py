"""settle-versions: what lives from run to run is written in its place, after all who read what was there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from mgc.ir.graph import Graph, Node
from mgc.ir.module import Entry
from mgc.passes.lowering.versions import homes_of, order, settle
from mgc.passes.manager import Pass
from mgc.passes.mapping.residents import residents_in
from mgc.passes.state import CompileState, with_graph


@dataclass(frozen=True)
class SettleVersions(Pass):
    """New values of residents that no update writes are copied into place; nodes come in an order in which who reads a
    version comes before who writes the next one. Every op gets the ONNX nodes that it belongs to, also those that the
    training step itself brought in. Results are equal bit for bit.
    """

    name: ClassVar[str] = "settle-versions"
    levels: ClassVar[tuple[int, ...]] = (1, 2)

    def run_entry(self, entry: Entry, state: CompileState) -> Entry:
        graph, names = entry.graph.copy(), residents_in(state.module).names
        settle(graph, names)
        order(graph, homes_of(graph, names))
        if state.trains:
            inherit_sources(graph)
        return with_graph(entry, graph)


def inherit_sources(graph: Graph) -> None:
    """Gives nodes without sources, in place, those of what they belong to.

    Losses that no file states, sums of gradients and updates take the sources of what makes their operands: a loss
    that of the scores, an update that of the weight's gradient. What has no such operand (an optimizer's counter)
    takes those of what reads it.
    """
    producers, users = graph.producers(), graph.users()

    def from_producers() -> None:
        for node in graph.nodes:
            if not node.sources:
                node.sources = _joined([producers[v] for v in node.inputs if v in producers])

    from_producers()
    for node in reversed(graph.nodes):
        if not node.sources:
            node.sources = _joined([user for v in node.outputs for user in users.get(v, ())])
    from_producers()  # what copies such a counter into its place


def _joined(nodes: list[Node]) -> tuple[str, ...]:
    """The sources of several nodes, each once."""
    return tuple(dict.fromkeys(s for n in nodes for s in n.sources))
