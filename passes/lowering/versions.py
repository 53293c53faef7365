"""Versions of what lives on the chip from run to run: which values lie in one place, and who must come before whom."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from mgc.ir.graph import Graph, Node, Value, depth_first
from mgc.ir.mapped import Copy, Piece, UpdateCells, View
from mgc.ir.ops import Update
from mgc.ir.training import NEXT
from mgc.passes.manager import UnsupportedError

Homes = Mapping[Value, str]
"""Values that are a version of a resident, under its name: its first one, and those that are written in its place."""


def is_update(node: Node) -> bool:
    """Whether a node writes new versions in the place of its operands."""
    return isinstance(node.op, Update | UpdateCells)


def homes_of(graph: Graph, residents: Iterable[str]) -> dict[Value, str]:
    """The versions in a graph after `settle`. UnsupportedError for an update of what is no resident."""
    names = set(residents)
    homes = _written_by_updates(graph, names)
    for _, resident, value in _results(graph, names):
        homes.setdefault(value, resident)
    return homes


def _written_by_updates(graph: Graph, names: set[str]) -> dict[Value, str]:
    """The first versions of residents, and those that updates write in their place."""
    homes = {v: v.name for v in graph.inputs if v.name in names}
    for node in graph.nodes:
        if isinstance(node.op, Update | UpdateCells):
            replaced = (node.inputs[0], *node.inputs[2 : 2 + len(node.op.rule.moments)])
            for old, new in zip(replaced, node.outputs, strict=True):
                if old not in homes:
                    raise UnsupportedError(f"update of %{old.name}, which is computed: it is no parameter")
                homes[new] = homes[old]
    return homes


def _results(graph: Graph, names: set[str]) -> Iterator[tuple[int, str, Value]]:
    """Of each output that is the new value of a resident its number, the resident and the value."""
    for k, (name, value) in enumerate(graph.outputs):
        if name.endswith(NEXT) and name.removesuffix(NEXT) in names:
            yield k, name.removesuffix(NEXT), value


def settle(graph: Graph, residents: Iterable[str]) -> None:
    """Copies into place, at the end, the new value of every resident that no update writes: running statistics."""
    names = set(residents)
    inputs = {v.name: v for v in graph.inputs}
    written = _written_by_updates(graph, names)
    for k, resident, value in list(_results(graph, names)):
        if written.get(value) == resident:
            continue
        size = value.tensor.size
        if value.type != inputs[resident].type:
            raise UnsupportedError(f"%{value.name} is {value.type}, its home {resident} is {inputs[resident].type}")
        copy = Copy((Piece(0, (size,), 0, (1,), 0, (1,)),), value.tensor)
        graph.outputs[k] = graph.outputs[k][0], graph.add(copy, value, name=f"{resident}.kept")


def order(graph: Graph, homes: Homes) -> None:
    """Sorts the nodes, in place, so that who reads a version comes before who writes the next one in its place.

    Nodes that need not move keep their order. UnsupportedError if that cannot be: an old version is needed after the
    new one.
    """
    version: dict[Value, Value] = {v: v for v in homes}  # which version a value is, itself or as a view of it
    readers: dict[Value, list[Node]] = {}
    for node in graph.nodes:
        for value in node.inputs:
            if value in version and isinstance(node.op, View):
                version[node.outputs[0]] = version[value]
            elif value in version:
                readers.setdefault(version[value], []).append(node)
    producers = graph.producers()
    latest = {homes[v]: v for v in graph.inputs if v in homes}
    needs: dict[Node, list[Node]] = {}
    for node in graph.nodes:
        needs[node] = [producers[v] for v in node.inputs if v in producers]
        for value in node.outputs:
            if value in homes:
                needs[node] += (n for n in readers.get(latest[homes[value]], ()) if n is not node)
                latest[homes[value]] = value
    nodes = depth_first(graph.nodes, needs.__getitem__)
    at = {node: k for k, node in enumerate(nodes)}
    for node, earlier in ((after, before) for after in nodes for before in needs[after]):
        if at[earlier] > at[node]:
            raise UnsupportedError(
                f"%{node.outputs[0].name} needs %{earlier.outputs[0].name}, which overwrites an old version of "
                "a parameter that something after it still reads: give what reads it a phase of its own"
            )
    graph.nodes = nodes
