"""Edits shared by the rewrites of `fold`: they keep every ONNX source accounted for."""

from __future__ import annotations

from mgc.ir.graph import Graph, Node, Value


def bypass(graph: Graph, node: Node, value: Value, reason: str) -> None:
    """Removes a one-result node and lets its readers read `value` instead; `reason` accounts for its ONNX sources."""
    graph.nodes.remove(node)
    graph.replace({node.outputs[0]: value})
    for source in node.sources:
        graph.absorbed.setdefault(source, reason)


def merge_sources(into: Node, *others: Node) -> None:
    """Lets `into` stand for the ONNX nodes of `others` too."""
    into.sources = tuple(dict.fromkeys([*into.sources, *(s for n in others for s in n.sources)]))


def drop_stale_reasons(graph: Graph) -> None:
    """Forgets why a source was absorbed where some node still stands for it."""
    held = {s for n in graph.nodes for s in n.sources}
    graph.absorbed = {s: why for s, why in graph.absorbed.items() if s not in held}
