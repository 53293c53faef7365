"""The forward half of a step model: one ONNX whose outputs are the losses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from mgc.functions.draws import KEY
from mgc.ir.graph import Graph, Node, Value
from mgc.ir.module import Entry, Module
from mgc.ir.op import IRError, register_attr
from mgc.ir.ops import Host
from mgc.ir.training import PLAIN, Data, Draw, Forward, Phase, Script, Spectrum, State, StateKind
from mgc.ir.types import OpaqueType, TensorType
from mgc.passes.manager import UnsupportedError
from mgc.passes.tensor.scaled import scale_products
from mgc.passes.training.batch_statistics import batch_statistics
from mgc.passes.training.lift import initial_states, lift, mark_training
from mgc.passes.training.phases import check_phases, find_groups, in_group, stages_of
from mgc.passes.training.script import add_penalty, add_replay, carried_outputs, check_script, leave_behind, with_losses
from mgc.passes.training.shifts import cancel_shifts
from mgc.passes.training.spectral import estimates
from mgc.passes.training.unsettled import shared_warning, unsettled, unsettled_warning, updated_before


@register_attr
@dataclass(frozen=True, eq=False)
class Weights:
    """What is known of an imported network that can be trained, in the attribute "weights" of its entry, whose graph
    has initializers as constants with their `onnx_name` (`mgc.frontend.training_model.TrainableModel` has the same).

    arrays: float initializers in their own shapes. parameters: those that training may change, each with its qualified
    name in PyTorch. inner: values that are outputs of the graph though not of the model, as a script names them.
    names: the graph's values by the model's names. spectra: parameters that are divided by their spectral norm.
    """

    arrays: Mapping[str, np.ndarray]
    parameters: Mapping[str, str]
    inner: tuple[str, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    spectra: tuple[Spectrum, ...] = ()


def step_model(
    network: Entry,
    phases: Sequence[Phase],
    globs: Mapping[str, Sequence[str]] | None = None,
    script: Script = PLAIN,
    *,
    warnings: list[str],
    shared: bool = False,
) -> Module:
    """The forward half (see `Forward`) of an ONNX whose outputs are losses, and its states.

    Parameters are grouped by phase (`find_groups`); what no phase trains stays constant. A batch normalisation whose
    parameters (or running statistics) are of a group is in training mode, others keep their inference form. All inputs
    that are not carried are data. Outputs that are neither losses nor scalars are dropped, but for what `script` names.
    `shared`: phases all read the parameters as they were before the iteration. UnsupportedError, naming it, for what
    cannot be trained, IRError for a loss that is no number.
    """
    graph, weights = network.graph, network.attributes["weights"]
    check_phases(phases, [name for name, _ in graph.outputs if name not in weights.inner])
    groups = find_groups(weights.parameters, phases, globs)
    for value in graph.inputs:
        if isinstance(value.type, OpaqueType):
            raise UnsupportedError(f"input {value.name} is no tensor of static shape: it cannot be fed in training")
    check_script(script, {v.name: v for v in graph.inputs}, dict(graph.outputs))
    warnings += _about_versions(graph, phases, groups, script, weights.names, shared)
    graph = graph.copy()
    losses = tuple(dict.fromkeys(p.loss for p in phases))
    reported = _reported(graph, losses, weights.inner, warnings)
    wanted = {*losses, *reported, *script.names}
    graph.outputs = [(name, v) for name, v in graph.outputs if name in wanted]
    for name in losses:
        _check_loss(name, dict(graph.outputs)[name])
    graph.prune()

    def trains(node: Node) -> bool:
        names = [graph.constants[v].onnx_name for v in node.inputs[1:] if v in graph.constants]
        return any(
            n in groups or any(in_group(n, p.name, (globs or {}).get(p.name)) for p in phases) for n in names if n
        )

    running = mark_training(graph, trains)
    running |= {v: s.weight for s in weights.spectra if s.weight in groups for v in (s.left, s.right)}
    places = {n: groups.get(scale, ("",))[0] or _phase_of(n, phases, globs or {}) for n, scale in running.items()}
    states = initial_states(graph, weights.arrays, groups, places)
    names = {s.name for s in states}
    warnings += [
        f"parameter {name} of group {group} does not affect any loss: it is not trained"
        for name, (group, *_) in groups.items()
        if name not in names
    ]
    lifted = lift(graph, states)
    draws: dict[str, Draw] = {}
    for replay in script.replays:
        draws |= add_replay(lifted, replay)
    moved = estimates(lifted, weights.spectra, {s.onnx_name: s.name for s in states})
    scale_products(lifted, names)
    count, entering = len(lifted.outputs), _entering(lifted, losses)
    statistics = batch_statistics(lifted)
    for penalty in script.penalties:
        named = {v.name: v for v in lifted.inputs} | dict(lifted.outputs)
        value = add_penalty(lifted, named, penalty)
        lifted.outputs = [(n, value if n == penalty.loss else v) for n, v in lifted.outputs]
    cancel_shifts(lifted)
    still = tuple(sorted(entering - _entering(lifted, losses)))
    iterated = {name for e in moved for name in e.moved}
    ran = [pair for k, pair in enumerate(lifted.outputs) if k >= count or pair[0] in iterated]
    named = dict(lifted.outputs[:count])
    carried = carried_outputs(script, named)
    lifted.outputs = [(name, named[name]) for name in (*losses, *reported)]
    lifted.outputs += [(carry.output, value) for carry, value in carried]
    made_once = tuple(dict.fromkeys((*script.once, *(r.output for r in script.replays))))
    lifted.outputs += [(f"{name}.once", named[name]) for name in made_once]
    others = losses if len(stages_of(phases)) > 1 else ()  # which are not all minimised at all times
    needed = {name: named[name] for name in (*others, *reported)}
    left = leave_behind(lifted, losses, needed | {carry.output: value for carry, value in carried})
    lifted.outputs += ran
    lifted.prune()
    statistics = with_losses(lifted, losses, statistics)
    inputs = {v.name: v for v in lifted.inputs}
    pools = {f"{r.input}.pool" for r in script.replays}
    kinds: list[StateKind] = ["pool" if c.input in pools else "carried" for c, _ in carried]
    first = [
        State(c.input, kind, np.zeros(v.shape, inputs[c.input].tensor.dtype.numpy))
        for (c, v), kind in zip(carried, kinds, strict=True)
    ]
    read = [name for e in moved for name in e.read]
    held = {*(s.name for s in (*states, *first)), *read}
    data = tuple(Data(n, draws.get(n) or draw_of(v)) for n, v in inputs.items() if n not in held)
    lifted.inputs = [inputs[n] for n in (*(d.name for d in data), *(s.name for s in (*states, *first)), *read)]
    once = tuple(f"{name}.once" for name in made_once)
    forward = Forward(data, losses, statistics, reported, tuple(c for c, _ in carried), once, left, still, moved)
    entry = Entry("forward", "train", lifted, attributes={"forward": forward})
    return Module(network.name, (entry,), (*states, *first))


def _entering(graph: Graph, losses: Sequence[str]) -> set[tuple[str, str]]:
    """(loss, input) for each input that a loss is computed from."""
    producers, found = graph.producers(), set[tuple[str, str]]()
    for loss in losses:
        waiting, seen = [dict(graph.outputs)[loss]], set[Value]()
        while waiting:
            value = waiting.pop()
            if value not in seen:
                seen.add(value)
                waiting += producers[value].inputs if value in producers else ()
        found |= {(loss, v.name) for v in graph.inputs if v in seen}
    return found


def _about_versions(
    graph: Graph,
    phases: Sequence[Phase],
    groups: Mapping[str, Sequence[str]],
    script: Script,
    names: Mapping[str, str],
    shared: bool,
) -> list[str]:
    """Warnings about which versions of parameters phases read, where the script may mean others."""
    called = {value: name for name, value in reversed(list(names.items()))}
    outputs = dict(graph.outputs)
    found: list[str] = []
    for _, _, there in stages_of(phases):
        open_ = unsettled(graph, there, groups, script.once, called)
        fixed = {outputs[n] for n in script.once} | {v for u in open_ for v in u.values}
        if shared:
            found += [shared_warning(*pair) for pair in updated_before(graph, there, groups, fixed)[:1]]
        else:
            found += [unsettled_warning(u.later, u.earlier, u.names) for u in open_]
    return list(dict.fromkeys(found))


def _reported(graph: Graph, losses: Sequence[str], inner: Sequence[str], warnings: list[str]) -> tuple[str, ...]:
    """The scalar outputs that are no losses; a warning for those that the chip cannot compute."""
    scalars = {n: v for n, v in graph.outputs if isinstance(v.type, TensorType) and v.type.size == 1}
    made = graph.producers()
    found = [n for n, v in scalars.items() if n not in losses and n not in inner and v in made]
    hosted: set[Value] = set()
    for node in graph.nodes:
        if isinstance(node.op, Host) or any(v in hosted for v in node.inputs):
            hosted.update(node.outputs)
    warnings += [f"output {n} needs the host: it is not reported" for n in found if scalars[n] in hosted]
    return tuple(n for n in found if scalars[n] not in hosted)


def draw_of(value: Value) -> Draw:
    """What an input holds if nothing gives it: labels and the like cannot be drawn."""
    if value.name == KEY:
        return "key"
    return "normal" if value.tensor.dtype.is_float else "given"


def _check_loss(name: str, value: Value) -> None:
    if not isinstance(value.type, TensorType) or value.type.size != 1 or not value.type.dtype.is_float:
        raise IRError(f"loss {name!r} is {value.type}: a float scalar is needed")


def _phase_of(name: str, phases: Sequence[Phase], globs: Mapping[str, Sequence[str]]) -> str:
    """The phase whose group a name would be of; "" if there is none."""
    return next((p.name for p in phases if in_group(name, p.name, globs.get(p.name))), "")
