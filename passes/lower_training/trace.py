"""Every op of a lowered training step traced to ONNX nodes, also those that the step itself brought in."""

from __future__ import annotations

from mgc.ir.graph import Graph, Node


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
