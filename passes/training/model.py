"""The forward half of a step model: one ONNX whose outputs are the losses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mgc.ir.graph import Graph, Node
from mgc.ir.training import Data, Phase, State, TrainingModel
from mgc.ir.types import OpaqueType
from mgc.passes.manager import UnsupportedError
from mgc.passes.training.batch_statistics import batch_statistics
from mgc.passes.training.lift import initial_states, lift, mark_training
from mgc.passes.training.phases import check_phases, find_groups, in_group
from mgc.passes.training.shifts import cancel_shifts


@dataclass(frozen=True)
class Network:
    """An imported model that can be trained (`mgc.frontend.training_model.TrainableModel` has these fields).

    graph: initializers are constants with their `onnx_name`. weights: float initializers in their own shapes.
    parameters: those that training may change, each with its qualified name in PyTorch.
    """

    graph: Graph
    weights: Mapping[str, np.ndarray]
    parameters: Mapping[str, str]


def step_model(
    network: Network, phases: Sequence[Phase], globs: Mapping[str, Sequence[str]] | None = None
) -> TrainingModel:
    """The training model of an ONNX whose outputs are losses.

    Parameters are grouped by phase (`find_groups`); what no phase trains stays constant. A batch normalisation whose
    parameters (or running statistics) are of a group is in training mode, others keep their inference form. All inputs
    are data, and all outputs that no phase names are dropped. UnsupportedError, naming it, for what cannot be trained.
    """
    graph = network.graph
    check_phases(phases, [name for name, _ in graph.outputs])
    groups = find_groups(network.parameters, phases, globs)
    for value in graph.inputs:
        if isinstance(value.type, OpaqueType):
            raise UnsupportedError(f"input {value.name} is no tensor of static shape: it cannot be fed in training")
    graph = graph.copy()
    losses = tuple(dict.fromkeys(p.loss for p in phases))
    graph.outputs = [(name, v) for name, v in graph.outputs if name in losses]
    graph.prune()

    def trains(node: Node) -> bool:
        names = [graph.constants[v].onnx_name for v in node.inputs[1:] if v in graph.constants]
        return any(
            n in groups or any(in_group(n, p.name, (globs or {}).get(p.name)) for p in phases) for n in names if n
        )

    running = mark_training(graph, trains)
    places = {n: groups.get(scale) or _phase_of(n, phases, globs or {}) for n, scale in running.items()}
    states = _reached(graph, initial_states(network.weights, groups, places))
    names = {s.name for s in states}
    warnings = [
        f"parameter {name} of group {group} does not affect any loss: it is not trained"
        for name, group in groups.items()
        if name not in names
    ]
    lifted = lift(graph, states)
    statistics = batch_statistics(lifted)
    cancel_shifts(lifted)
    data = tuple(Data(v.name, "normal" if v.tensor.dtype.is_float else "given") for v in graph.inputs)
    model = TrainingModel(lifted, data, states, losses, statistics, tuple(warnings))
    model.check()
    return model


def _phase_of(name: str, phases: Sequence[Phase], globs: Mapping[str, Sequence[str]]) -> str:
    """The phase whose group a name would be of; "" if there is none."""
    return next((p.name for p in phases if in_group(name, p.name, globs.get(p.name))), "")


def _reached(graph: Graph, states: Sequence[State]) -> tuple[State, ...]:
    """The states whose initializers the graph reads."""
    read = {c.onnx_name for c in graph.constants.values()}
    return tuple(s for s in states if s.onnx_name in read)
