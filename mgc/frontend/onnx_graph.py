"""What is asked of ONNX graphs in several places: subgraphs, the names that nodes read, renaming, who makes what."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

from onnx import GraphProto, NodeProto


def subgraphs(node: NodeProto) -> Iterator[GraphProto]:
    """The graphs among a node's attributes."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def own_names(graph: GraphProto) -> set[str]:
    """The names of a graph's inputs and initializers."""
    return {i.name for i in graph.input} | {t.name for t in graph.initializer}


def free_names(node: NodeProto) -> list[str]:
    """Names that the node's subgraphs take from outside, each once."""
    found: dict[str, None] = {}

    def walk(graph: GraphProto, inherited: frozenset[str]) -> None:
        local = inherited | own_names(graph)
        for inner in graph.node:
            found.update({name: None for name in inner.input if name and name not in local})
            for sub in subgraphs(inner):
                walk(sub, local)
            local = local.union(inner.output)
        found.update({o.name: None for o in graph.output if o.name not in local})

    for graph in subgraphs(node):
        walk(graph, frozenset())
    return list(found)


def names_read(node: NodeProto) -> list[str]:
    """All names that a node reads, those that its subgraphs take from outside included."""
    return [*filter(None, node.input), *free_names(node)]


def rename_values(
    graph: GraphProto, rename: Callable[[str], str], rename_node: Callable[[str], str] = lambda name: name
) -> None:
    """Renames all values (and nodes) in a graph and its subgraphs, in place; names must stay unique, "" stays."""
    for item in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        item.name = rename(item.name)
    for node in graph.node:
        node.name = node.name and rename_node(node.name)
        for names in (node.input, node.output):
            for k, name in enumerate(names):
                names[k] = name and rename(name)
        for inner in subgraphs(node):
            rename_values(inner, rename, rename_node)


def keep(items: Any, wanted: Callable[[Any], bool]) -> None:
    """Leaves of a repeated field of a message those that are wanted, in place."""
    for k in reversed(range(len(items))):
        if not wanted(items[k]):
            del items[k]


def fresh_name(wanted: str, taken: Collection[str], first: int = 1) -> str:
    """The name, or with the first number behind it that makes it none of those taken."""
    name, number = wanted, first
    while name in taken:
        name, number = f"{wanted}.{number}", number + 1
    return name


class NodeGraph:
    """The nodes of a graph by number: `producer` of each name, `readers` of each name, `flow` from node to node."""

    def __init__(self, nodes: Iterable[NodeProto]) -> None:
        import networkx as nx  # takes longer than a small network, and only training comes here

        self.nodes = list(nodes)
        self.reads = [list(dict.fromkeys(names_read(node))) for node in self.nodes]
        self.producer: Mapping[str, int] = {o: k for k, node in enumerate(self.nodes) for o in node.output if o}
        self.readers: dict[str, list[int]] = {}
        self.flow = nx.DiGraph()
        self.flow.add_nodes_from(range(len(self.nodes)))
        for k, names in enumerate(self.reads):
            for name in names:
                self.readers.setdefault(name, []).append(k)
                if name in self.producer:
                    self.flow.add_edge(self.producer[name], k)
