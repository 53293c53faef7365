"""Pattern rewriting: small rewrites of single nodes and their surroundings, applied until none of them applies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mgc.ir.graph import Graph, Node, Value
from mgc.ir.op import Op

Rewrite = Callable[[Graph, Node], bool]
"""Edits the graph around a node by the methods of `Graph` and `Node`; whether it did."""


@dataclass(frozen=True)
class Pattern:
    """A rewrite of nodes whose op is of one of the classes `ops`."""

    ops: tuple[type[Op], ...]
    rewrite: Rewrite


def pattern(*ops: type[Op]) -> Callable[[Rewrite], Pattern]:
    """Decorator: makes a pattern of a rewrite."""
    return lambda rewrite: Pattern(ops, rewrite)


def apply_patterns(graph: Graph, patterns: Sequence[Pattern]) -> bool:
    """Applies the first pattern that fits to each node, and again around what was edited; whether anything was.

    IRError after 100 rewrites for every node that was there: then some of them undo each other.
    """
    waiting = dict.fromkeys(graph.nodes)
    limit = 100 * len(waiting)
    count = 0
    while waiting:
        node = next(iter(waiting))
        del waiting[node]
        if not graph.holds(node):
            continue
        if any(isinstance(node.op, p.ops) and p.rewrite(graph, node) for p in patterns):
            count += 1
            if count > limit:
                raise node.error(f"rewriting does not end after {count} rewrites")
            waiting |= dict.fromkeys(graph.edited())
    return count > 0


def share_nodes(graph: Graph, which: Callable[[Node], bool] = lambda node: True) -> bool:
    """Computes equal ops on the same operands once, of the nodes that `which` says; whether there were any."""
    first: dict[tuple[Op, tuple[Value, ...]], Node] = {}
    changed = False
    for node in list(graph.nodes):
        twin = first.setdefault((node.op, node.inputs), node) if which(node) else node
        if twin is not node:
            graph.remove(node)
            graph.replace(dict(zip(node.outputs, twin.outputs, strict=True)))
            twin.take_sources(node)
            changed = True
    return changed
