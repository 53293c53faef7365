"""From the forward half to training steps: phases unrolled one after the other, each differentiated and updated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from mgc.ir.build import Build
from mgc.ir.graph import Graph, Value
from mgc.ir.module import Entry, Module
from mgc.ir.ops.update import Rule
from mgc.ir.training import Forward, Phase, State
from mgc.ir.types import tensor_type_of
from mgc.passes.tensor.simplify import simplify
from mgc.passes.training.copying import Copier
from mgc.passes.training.differentiate import gradients
from mgc.passes.training.optimizers import clipped, updated, with_rate
from mgc.passes.training.tidy import TIDYING


def training_iteration(
    model: Module, phases: Sequence[Phase], rule: Rule, warnings: list[str], *, old_versions: bool = False
) -> Module:
    """One iteration of `phases`, in order, each minimising its loss over the parameters whose group has its name, with
    the optimizer `rule`. `model` is a forward half, see `mgc.ir.training.Forward`.

    An entry is a functional step: its inputs are the data, then the states; its outputs are the losses, then NAME.next
    of every state that changes. It is named after the phases that it runs. A phase reads the versions of parameters and
    running statistics that the phases before it left; what reads the same versions as in an earlier phase is computed
    once. A phase of K steps adds an entry with that phase alone, repeated K - 1 times before the one in which it runs
    with those that follow.

    With `old_versions` the phases of an entry all read the parameters as they were before it, so a later one takes
    over what an earlier one computed of networks that it has updated since: another semantics, as a warning says.
    """
    steps: list[tuple[list[Phase], int]] = []
    current: list[Phase] = []
    for phase in phases:
        if phase.steps > 1:
            steps += [(current, 1), ([phase], phase.steps - 1)]
            current = []
        current.append(phase)
    entries: list[Entry] = []
    states: dict[str, State] = {}
    for run, repeats in (*steps, (current, 1)):
        if not run:
            continue
        unroller = _Unroller(model, rule, warnings, old_versions)
        for phase in run:
            unroller.phase(phase)
        name = " and ".join(p.name for p in run)
        if any(e.name == name for e in entries):
            name = f"{name} {len(entries)}"
        entries.append(Entry(name, "train", unroller.finish(), repeats))
        states |= unroller.states
    return Module(model.name, tuple(entries), tuple(states.values()))


@dataclass
class _Unroller:
    """Builds one step's graph. `versions` holds the current value of every state, by name, `read` what phases read of
    parameters: the current one, or with `old_versions` the first one.
    """

    model: Module
    rule: Rule
    warnings: list[str]
    old_versions: bool = False
    graph: Graph = field(init=False)
    build: Build = field(init=False)
    copier: Copier = field(init=False)
    versions: dict[str, Value] = field(default_factory=dict)
    states: dict[str, State] = field(default_factory=dict)
    counted: set[tuple[str, Value | None, bool]] = field(default_factory=set)
    trained: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        (entry,) = self.model.entries
        self.source: Graph = entry.graph
        self.forward: Forward = entry.attributes["forward"]
        self.graph = Graph(self.source.name, absorbed=dict(self.source.absorbed))
        self.build = Build(self.graph)
        self.copier = Copier(self.graph)
        inputs = {v.name: v for v in self.source.inputs}
        self.data = {d.name: self.graph.add_input(d.name, inputs[d.name].type) for d in self.forward.data}
        for state in self.model.states:
            self._add_state(state)
        self.first = {s.name: self.versions[s.name] for s in self.model.states if s.kind == "parameter"}

    @property
    def read(self) -> dict[str, Value]:
        """The version of each state that a phase reads."""
        return {**self.versions, **self.first} if self.old_versions else self.versions

    def _add_state(self, state: State) -> Value:
        """The current version of a state, which becomes an input when it is first asked for."""
        if state.name not in self.versions:
            self.states[state.name] = state
            self.versions[state.name] = self.graph.add_input(state.name, tensor_type_of(state.initial))
        return self.versions[state.name]

    # -- one phase -------------------------------------------------------------------------------------------------

    def phase(self, phase: Phase) -> None:
        """Forward, running statistics, gradients, updates."""
        image = self._forward(phase)
        loss = image[dict(self.source.outputs)[phase.loss]]
        if phase.loss not in dict(self.graph.outputs):
            self.graph.outputs.append((phase.loss, loss))
        self._statistics(image)
        parameters = [s for s in self.model.states if s.kind == "parameter" and s.group == phase.name]
        wrt = [self.read[s.name] for s in parameters]
        found = gradients(self.graph, loss, wrt, fixed=[*self.versions.values(), *self.read.values()])
        rule = with_rate(self.rule, phase.lr)
        t = self._count(phase) if rule.counts and any(g is not None for g in found) else None
        still = [s.name for s, g in zip(parameters, found, strict=True) if g is None]
        warning = f"phase {phase.name}: without effect on {phase.loss}, so not changed: {', '.join(still)}"
        if still and warning not in self.warnings:
            self.warnings.append(warning)
        for state, g in zip(parameters, found, strict=True):
            w = self.versions[state.name]
            if g is None:
                self.versions[state.name] = clipped(self.build, w, phase.clip)
                continue
            moments = [
                State(
                    f"{state.name}.{m}",
                    "moment",
                    np.zeros_like(state.initial),
                    phase.name,
                    of=state.name,
                )
                for m in rule.moments
            ]
            new = updated(self.build, rule, phase.clip, w, g, [self._add_state(m) for m in moments], t)
            for each, value in zip((state, *moments), new, strict=True):
                self.versions[each.name] = value
        self.trained.add(phase.name)

    def _forward(self, phase: Phase) -> dict[Value, Value]:
        """Copies what the phase's loss needs, on the current versions; equal work is not copied again."""
        current = {**self.data, **self.read}
        image = {v: current[v.name] for v in self.source.inputs}
        self.copier.copy(self.source, image, [dict(self.source.outputs)[phase.loss]])
        return image

    def _statistics(self, image: dict[Value, Value]) -> None:
        """Updates running statistics by every application that this phase computed and no phase before it did."""
        outputs = dict(self.source.outputs)
        build = self.build
        groups = {s.name: s.group for s in self.model.states}
        for statistic in self.forward.statistics:
            ran = image.get(outputs[statistic.ran])
            # a network whose parameters have changed is applied anew, even where its first layer sees the same
            application = (statistic.output, ran, groups[statistic.state] in self.trained and not self.old_versions)
            if ran is None or application in self.counted:
                continue
            self.counted.add(application)
            self.copier.copy(self.source, image, [outputs[statistic.output]])
            batch = image[outputs[statistic.output]]
            build.hint = f"{statistic.state}.new"
            old = build.mul(self.versions[statistic.state], statistic.momentum)
            new = build.add(old, build.mul(batch, (1 - statistic.momentum) * statistic.factor))
            self.versions[statistic.state] = new
            build.hint = ""

    def _count(self, phase: Phase) -> Value:
        """The number of this step of a phase."""
        counter = State(f"{phase.name}.steps", "counter", np.zeros((), np.float32), phase.name)
        self.versions[counter.name] = self.build.add(self._add_state(counter), 1.0)
        return self.versions[counter.name]

    # -- the end ---------------------------------------------------------------------------------------------------

    def finish(self) -> Graph:
        """The step, with dead code gone and equal work shared, without states that it neither reads nor writes."""
        inputs = {v.name: v for v in self.graph.inputs}
        for state in self.states.values():
            if self.versions[state.name] is not inputs[state.name]:
                self.graph.outputs.append((state.next, self.versions[state.name]))
        self.graph.prune()
        simplify(self.graph, *TIDYING)
        self.graph.sort()
        self.graph.drop_stale_reasons()
        read = {v for n in self.graph.nodes for v in n.inputs} | self.graph.output_values()
        outputs = dict(self.graph.outputs)
        for name, state in list(self.states.items()):
            if inputs[name] not in read and state.next not in outputs:
                del self.states[name]
                self.graph.inputs.remove(inputs[name])
        return self.graph
