"""A level-1 graph made ready to be run many times: big constants are fed, not written into each model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from mgc.ir.graph import Graph, Node, Value, evaluate
from mgc.ir.ops import Binary, Host, Reduce, Unary
from mgc.passes.manager import Tools
from mgc.passes.quantizing.observed import activation_operand

Feeds = Mapping[str, np.ndarray]

# Constants above this many elements are handed over by reference at each run: a model of kilobytes loads in
# milliseconds, whatever the network's size.
_LARGE = 4096


def mirrored(graph: Graph) -> tuple[Graph, dict[str, Value]]:
    """A copy of a graph without outputs, and the copy's values by name."""
    copy = graph.copy()
    copy.outputs = []
    values = {v.name: v for v in (*copy.inputs, *copy.constants)}
    values.update({v.name: v for n in copy.nodes for v in n.outputs})
    return copy, values


def run(graph: Graph, feeds: Sequence[Feeds], tools: Tools) -> list[Feeds]:
    """The graph's outputs for each set of feeds. Changes `graph`: it is pruned and big constants become inputs."""
    graph.prune()
    if any(isinstance(n.op, Host) for n in graph.nodes):
        # a host segment knows itself which runtime can run it
        return [evaluate(graph, dict(f)) for f in feeds]
    fed: dict[str, np.ndarray] = {}
    for value, constant in list(graph.constants.items()):
        if constant.data.size > _LARGE:
            del graph.constants[value]
            graph.inputs.append(value)
            fed[value.name] = constant.data
    wanted = {v.name for v in graph.inputs}
    return list(tools.run(tools.export(graph), [{**{k: a for k, a in f.items() if k in wanted}, **fed} for f in feeds]))


def add_coding(graph: Graph, value: Value) -> dict[str, str]:
    """Lets the weighted ops that read `value` read it coded and decoded again. Returns the names of the new inputs that
    take the codes' "scale", "low" and "high" (least and greatest step away from 0), all scalars of the value's type.
    """
    scalar = value.tensor.with_shape(())
    fed = {k: graph.add_input(f"{k} of {value.name}", scalar) for k in ("scale", "low", "high")}
    readers = [n for n in graph.nodes if activation_operand(graph, n) is value]
    at = graph.nodes.index(readers[0])
    coded = value
    for op, other in (
        (Binary("div"), fed["scale"]),
        (Unary("round"), None),
        (Binary("max"), fed["low"]),
        (Binary("min"), fed["high"]),
        (Binary("mul"), fed["scale"]),
    ):
        coded = graph.add(op, coded, *(() if other is None else (other,)), at=at)
        at += 1
    for node in readers:
        node.inputs = tuple(coded if v is value else v for v in node.inputs)
    return {k: v.name for k, v in fed.items()}


def downstream(graph: Graph, value: Value) -> list[Node]:
    """The nodes whose results depend on a value, in order."""
    reached = {value}
    found: list[Node] = []
    for node in graph.nodes:
        if not reached.isdisjoint(node.inputs):
            reached.update(node.outputs)
            found.append(node)
    return found


def cut_above(graph: Graph, value: Value) -> list[Value]:
    """Keeps only what depends on `value`: it and all else that is read there become inputs, which are returned.

    Outputs that do not depend on it go away.
    """
    kept = downstream(graph, value)
    made = {v for n in kept for v in n.outputs}
    read = dict.fromkeys([value, *(v for n in kept for v in n.inputs)])
    fed = [v for v in read if v not in made and v not in graph.constants and v not in graph.inputs]
    graph.nodes = kept
    graph.inputs.extend(fed)
    graph.outputs = [(name, v) for name, v in graph.outputs if v in made]
    return fed


def add_errors(graph: Graph, outputs: Sequence[tuple[str, Value]]) -> list[str]:
    """Makes the graph's outputs the sums of squared deviations of float `outputs` from references, which become
    inputs "ref NAME"; returns the names of the outputs, "error NAME".
    """
    names: list[str] = []
    for name, value in outputs:
        if not value.tensor.dtype.is_float:
            continue
        reference = graph.add_input(f"ref {name}", value.tensor)
        difference = graph.add(Binary("sub"), value, reference)
        square = graph.add(Binary("mul"), difference, difference)
        axes = tuple(range(value.tensor.rank))
        graph.outputs.append(
            (f"error {name}", graph.add(Reduce("sum", axes, keepdims=False), square) if axes else square)
        )
        names.append(f"error {name}")
    return names
