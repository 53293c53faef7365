"""The forward half of a step model: one ONNX whose outputs are the losses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mgc.ir.graph import Node, Value
from mgc.ir.module import Entry, Module
from mgc.ir.op import IRError, register_attr
from mgc.ir.training import Data, Forward, Phase
from mgc.ir.types import OpaqueType, TensorType
from mgc.passes.manager import UnsupportedError
from mgc.passes.training.batch_statistics import batch_statistics
from mgc.passes.training.lift import initial_states, lift, mark_training
from mgc.passes.training.phases import check_phases, find_groups, in_group
from mgc.passes.training.shifts import cancel_shifts


@register_attr
@dataclass(frozen=True, eq=False)
class Weights:
    """What is known of an imported network that can be trained, in the attribute "weights" of its entry, whose graph
    has initializers as constants with their `onnx_name` (`mgc.frontend.training_model.TrainableModel` has the same).

    arrays: float initializers in their own shapes. parameters: those that training may change, each with its qualified
    name in PyTorch.
    """

    arrays: Mapping[str, np.ndarray]
    parameters: Mapping[str, str]


def step_model(
    network: Entry,
    phases: Sequence[Phase],
    globs: Mapping[str, Sequence[str]] | None = None,
    *,
    warnings: list[str],
) -> Module:
    """The forward half (see `Forward`) of an ONNX whose outputs are losses, and its states.

    Parameters are grouped by phase (`find_groups`); what no phase trains stays constant. A batch normalisation whose
    parameters (or running statistics) are of a group is in training mode, others keep their inference form. All inputs
    are data, and all outputs that no phase names are dropped. UnsupportedError, naming it, for what cannot be trained,
    IRError for a loss that is no number.
    """
    graph, weights = network.graph, network.attributes["weights"]
    check_phases(phases, [name for name, _ in graph.outputs])
    groups = find_groups(weights.parameters, phases, globs)
    for value in graph.inputs:
        if isinstance(value.type, OpaqueType):
            raise UnsupportedError(f"input {value.name} is no tensor of static shape: it cannot be fed in training")
    graph = graph.copy()
    losses = tuple(dict.fromkeys(p.loss for p in phases))
    graph.outputs = [(name, v) for name, v in graph.outputs if name in losses]
    for name, value in graph.outputs:
        _check_loss(name, value)
    graph.prune()

    def trains(node: Node) -> bool:
        names = [graph.constants[v].onnx_name for v in node.inputs[1:] if v in graph.constants]
        return any(
            n in groups or any(in_group(n, p.name, (globs or {}).get(p.name)) for p in phases) for n in names if n
        )

    running = mark_training(graph, trains)
    places = {n: groups.get(scale) or _phase_of(n, phases, globs or {}) for n, scale in running.items()}
    states = initial_states(graph, weights.arrays, groups, places)
    names = {s.name for s in states}
    warnings += [
        f"parameter {name} of group {group} does not affect any loss: it is not trained"
        for name, group in groups.items()
        if name not in names
    ]
    lifted = lift(graph, states)
    statistics = batch_statistics(lifted)
    cancel_shifts(lifted)
    data = tuple(Data(v.name, "normal" if v.tensor.dtype.is_float else "given") for v in graph.inputs)
    forward = Forward(data, losses, statistics)
    return Module(network.name, (Entry("forward", "train", lifted, attributes={"forward": forward}),), states)


def _check_loss(name: str, value: Value) -> None:
    if not isinstance(value.type, TensorType) or value.type.size != 1 or not value.type.dtype.is_float:
        raise IRError(f"loss {name!r} is {value.type}: a float scalar is needed")


def _phase_of(name: str, phases: Sequence[Phase], globs: Mapping[str, Sequence[str]]) -> str:
    """The phase whose group a name would be of; "" if there is none."""
    return next((p.name for p in phases if in_group(name, p.name, globs.get(p.name))), "")
