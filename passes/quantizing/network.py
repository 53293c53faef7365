"""A level-1 graph made ready to be run many times: big constants are fed, not written into each model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

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
    return list(run_each(graph, feeds, tools))


def run_each(graph: Graph, feeds: Sequence[Feeds], tools: Tools) -> Iterator[Feeds]:
    """The same, one set after the other: no more than one set of outputs is held. Feeds that the graph has no input
    for are left out.
    """
    yield from runner(graph, tools)(feeds)


def runner(graph: Graph, tools: Tools) -> Callable[[Sequence[Feeds]], Iterator[Feeds]]:
    """What `run_each` does with the graph, which is exported once."""
    graph.prune()
    wanted = {v.name for v in graph.inputs}
    if any(isinstance(n.op, Host) for n in graph.nodes):
        # a host segment knows itself which runtime can run it
        return lambda feeds: (evaluate(graph, {k: a for k, a in f.items() if k in wanted}) for f in feeds)
    fed: dict[str, np.ndarray] = {}
    for value, constant in list(graph.constants.items()):
        if constant.data.size > _LARGE:
            del graph.constants[value]
            graph.inputs.append(value)
            fed[value.name] = constant.data
    model = tools.export(graph)
    return lambda feeds: iter(tools.run(model, [{**{k: a for k, a in f.items() if k in wanted}, **fed} for f in feeds]))


def read_apart(graph: Graph, values: Sequence[Value], made: Callable[[Value], Sequence[Node]]) -> list[Value]:
    """Lets the weighted ops that read each value read what the last node made of it makes, which is returned."""
    apart: dict[Value, Value] = {}
    wanted = set(values)
    nodes: list[Node] = []
    for node in graph.nodes:
        value = activation_operand(graph, node)
        if value in wanted and value is not None:
            if value not in apart:
                own = made(value)
                nodes += own
                (apart[value],) = own[-1].outputs
            node.inputs = tuple(apart[v] if v is value else v for v in node.inputs)
        nodes.append(node)
    graph.nodes = nodes
    return [apart[v] for v in values]


def add_coding(graph: Graph, values: Sequence[Value]) -> list[dict[str, str]]:
    """Lets the weighted ops that read `values` read them coded and decoded again. Returns for each the names of the new
    inputs that take its codes' "scale", "low" and "high" (least and greatest step away from 0), scalars of its type.
    """
    fed: dict[Value, dict[str, Value]] = {}
    for value in values:
        scalar = value.tensor.with_shape(())
        fed[value] = {k: graph.add_input(f"{k} of {value.name}", scalar) for k in ("scale", "low", "high")}

    def coded(value: Value) -> list[Node]:
        codes, nodes, at = fed[value], [], value
        for op, *other in (
            (Binary("div"), codes["scale"]),
            (Unary("round"),),
            (Binary("max"), codes["low"]),
            (Binary("min"), codes["high"]),
            (Binary("mul"), codes["scale"]),
        ):
            made = Value(graph.fresh_name(f"coded {value.name}"), value.type)
            nodes.append(Node(op, (at, *other), (made,)))
            at = made
        return nodes

    read_apart(graph, values, coded)
    return [{k: v.name for k, v in fed[value].items()} for value in values]


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
