"""Versions of what lives on the chip from run to run: which values lie in one place, and who must come before whom."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mgc.ir.graph import Graph, Node, Value
from mgc.ir.mapped import Copy, Piece, View
from mgc.ir.mapped_training import UpdateCells
from mgc.ir.ops import Update
from mgc.ir.training import NEXT
from mgc.passes.manager import UnsupportedError

Homes = Mapping[Value, str]
"""Values that are a version of a resident, under its name: its first one, and those that are written in its place."""


def is_update(node: Node) -> bool:
    """Whether a node writes new versions in the place of its operands."""
    return isinstance(node.op, Update | UpdateCells)


def homes_of(graph: Graph, residents: Iterable[str]) -> dict[Value, str]:
    """The versions in a settled graph. UnsupportedError for an update of what is no resident."""
    names = set(residents)
    homes = _written_in_place(graph, names)
    for name, value in graph.outputs:
        resident = name.removesuffix(NEXT)
        if name.endswith(NEXT) and resident in names:
            homes.setdefault(value, resident)
    return homes


def _written_in_place(graph: Graph, names: set[str]) -> dict[Value, str]:
    """The versions that updates write."""
    homes = {v: v.name for v in graph.inputs if v.name in names}
    for node in graph.nodes:
        if isinstance(node.op, Update | UpdateCells):
            kept = (0, *range(2, 2 + len(node.op.rule.moments)))
            for k, value in zip(kept, node.outputs, strict=True):
                if node.inputs[k] not in homes:
                    raise UnsupportedError(f"update of %{node.inputs[k].name}, which is computed: it is no parameter")
                homes[value] = homes[node.inputs[k]]
    return homes


def settle(graph: Graph, residents: Iterable[str]) -> None:
    """Copies into place, at the end, the new value of every resident that no update writes: running statistics."""
    names = set(residents)
    inputs = {v.name: v for v in graph.inputs}
    placed = _written_in_place(graph, names)
    for k, (name, value) in enumerate(graph.outputs):
        resident = name.removesuffix(NEXT)
        if not name.endswith(NEXT) or resident not in names or placed.get(value) == resident:
            continue
        size = value.tensor.size
        if value.type != inputs[resident].type:
            raise UnsupportedError(f"%{value.name} is {value.type}, its home {resident} is {inputs[resident].type}")
        copy = Copy((Piece(0, (size,), 0, (1,), 0, (1,)),), value.tensor)
        graph.outputs[k] = name, graph.add(copy, value, name=f"{resident}.kept")


def readers_of_versions(graph: Graph, homes: Homes) -> dict[Value, list[Node]]:
    """Who reads each version, itself or through views, in the graph's order."""
    seen: dict[Value, Value] = {v: v for v in homes}
    readers: dict[Value, list[Node]] = {}
    for node in graph.nodes:
        for value in dict.fromkeys(node.inputs):
            if value in seen:
                if isinstance(node.op, View):
                    seen[node.outputs[0]] = seen[value]
                elif not readers.get(seen[value]) or readers[seen[value]][-1] is not node:
                    readers.setdefault(seen[value], []).append(node)
    return readers


def order(graph: Graph, homes: Homes) -> None:
    """Sorts the nodes, in place, so that who reads a version comes before who writes the next one in its place.

    UnsupportedError if that cannot be: an old version is needed after the new one.
    """
    producers = graph.producers()
    readers = readers_of_versions(graph, homes)
    waits: dict[Node, list[Node]] = {}
    current: dict[str, Value] = {homes[v]: v for v in graph.inputs if v in homes}
    for node in graph.nodes:
        for value in node.outputs:
            if value in homes:
                old = current[homes[value]]
                waits.setdefault(node, []).extend(n for n in readers.get(old, []) if n is not node)
                current[homes[value]] = value
    done: list[Node] = []
    state: dict[Node, int] = {}
    for root in graph.nodes:
        if root in state:
            continue
        stack = [(root, iter(_before(root, producers, waits)))]
        state[root] = 1
        while stack:
            node, rest = stack[-1]
            for earlier in rest:
                if state.get(earlier) == 2:
                    continue
                if state.get(earlier) == 1:
                    raise UnsupportedError(
                        f"%{node.outputs[0].name} needs %{earlier.outputs[0].name}, which overwrites an old version of "
                        "a parameter that something after it still reads: give what reads it a phase of its own"
                    )
                state[earlier] = 1
                stack.append((earlier, iter(_before(earlier, producers, waits))))
                break
            else:
                state[node] = 2
                done.append(node)
                stack.pop()
    graph.nodes = done


def _before(node: Node, producers: Mapping[Value, Node], waits: Mapping[Node, list[Node]]) -> list[Node]:
    return [*(producers[v] for v in node.inputs if v in producers), *waits.get(node, [])]
