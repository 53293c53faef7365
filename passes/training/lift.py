"""From weights to states: parameters and running statistics become inputs of the graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from mgc.ir.build import Build
from mgc.ir.graph import Graph, Node, Value
from mgc.ir.ops import BatchNorm, Random
from mgc.ir.training import State
from mgc.ir.types import tensor_type_of
from mgc.passes.training.copying import Copier

RUNNING = (3, 4)  # batch_norm's operands that are running statistics


def mark_training(graph: Graph, trains: Callable[[Node], bool]) -> dict[str, str]:
    """Puts, in place, the batch_norms for which `trains` holds into training form.

    Gives the initializers that are running statistics of batch_norms in training form, each with the name of an
    initializer of the same layer (its scale's, "" if that has none).
    """
    found: dict[str, str] = {}
    for node in graph.nodes:
        if not isinstance(node.op, BatchNorm):
            continue
        if not node.op.training and trains(node):
            node.op = replace(node.op, training=True)
        if node.op.training:
            scale = graph.constants.get(node.inputs[1])
            for i in RUNNING:
                held = graph.constants.get(node.inputs[i])
                if held is not None and held.onnx_name:
                    found.setdefault(held.onnx_name, "" if scale is None else scale.onnx_name)
    return found


def lift(graph: Graph, states: Sequence[State]) -> Graph:
    """A copy of the graph in which every constant that came from a state's initializer is the state's input.

    Inputs keep their order and names, the states follow; other values are renamed where a state takes their name.
    """
    new = Graph(graph.name, absorbed=dict(graph.absorbed))
    image: dict[Value, Value] = {v: new.add_input(v.name, v.type) for v in graph.inputs}
    build = Build(new)
    lifted: dict[str, Value] = {}
    for state in states:
        lifted[state.onnx_name] = new.add_input(state.name, tensor_type_of(state.initial))
    for value, held in graph.constants.items():
        if held.onnx_name in lifted:
            build.hint = value.name
            image[value] = build.reshape(lifted[held.onnx_name], value.shape)
    outputs = [v for _, v in graph.outputs]
    # a value that is made once for a script, and the same computed again, are two
    Copier(new, apart=True).copy(graph, image, outputs)
    new.outputs = [(name, image[v]) for name, v in graph.outputs]
    return new


def initial_states(
    graph: Graph,
    weights: Mapping[str, np.ndarray],
    groups: Mapping[str, Sequence[str]],
    running: Mapping[str, str],
    network: str = "",
) -> tuple[State, ...]:
    """The states of a network: its trained parameters (initializer -> phases, its group's first), then its running
    statistics (initializer -> group), as far as the graph reads them.
    """
    read = {c.onnx_name for c in graph.constants.values()}
    parameters = [
        State(n, "parameter", weights[n], first, n, network, shared=tuple(others))
        for n, (first, *others) in groups.items()
        if n not in running
    ]
    statistics = [State(n, "statistic", weights[n], g, n, network) for n, g in running.items()]
    return tuple(s for s in (*parameters, *statistics) if s.onnx_name in read)


def number_draws(graph: Graph) -> None:
    """Gives every random op, in place, a number of its own: a network that is run again draws again.

    What the numbers were drawn for is not needed any more.
    """
    draws = [n for n in graph.nodes if isinstance(n.op, Random)]
    for number, node in enumerate(draws):
        assert isinstance(node.op, Random)
        node.op, node.inputs = replace(node.op, number=number), node.inputs[:1]
