"""From the forward half to training steps: phases unrolled one after the other, each differentiated and updated."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from mgc.functions.optimizers import AVERAGE, ITERATIONS
from mgc.ir.build import Build
from mgc.ir.graph import Graph, Value
from mgc.ir.module import Entry, Module
from mgc.ir.ops import Detach
from mgc.ir.ops.update import Rule
from mgc.ir.training import Claim, Forward, Phase, State
from mgc.ir.types import tensor_type_of
from mgc.passes.tensor.simplify import simplify
from mgc.passes.training.claims import Claims
from mgc.passes.training.copying import Copier
from mgc.passes.training.differentiate import gradients
from mgc.passes.training.lift import number_draws
from mgc.passes.training.optimizers import clipped, rule_of, since, updated, within_norm
from mgc.passes.training.phases import stages_of
from mgc.passes.training.tidy import TIDYING


def training_iteration(
    model: Module,
    phases: Sequence[Phase],
    rule: Rule,
    warnings: list[str],
    *,
    old_versions: bool = False,
    averages: Mapping[str, float] | None = None,
) -> Module:
    """One iteration of `phases`, in order, each minimising its loss over the parameters whose group has its name, with
    the optimizer `rule`. `model` is a forward half, see `mgc.ir.training.Forward`.

    An entry is a functional step: its inputs are the data, then the states; its outputs are the losses, then NAME.next
    of every state that changes. It is named after the phases that it runs. A phase reads the versions of parameters and
    running statistics that the phases before it left; what reads the same versions as in an earlier phase is computed
    once. A phase of K steps adds an entry with that phase alone, repeated K - 1 times on fresh batches, before the one
    in which all phases run. Where phases begin later than others, each stretch of iterations has entries of its own.

    With `old_versions` the phases of an entry all read the parameters as they were before it, so a later one takes
    over what an earlier one computed of networks that it has updated since: another semantics, as a warning says.
    `averages` has for parameters, by name, the decay of a moving average that is a state as well.
    """
    entries: list[Entry] = []
    states: dict[str, State] = {}
    counts: dict[tuple[str, str], str] = {}
    begins: dict[str, int] = {}
    stages = stages_of(phases)
    for begin, end, whole in stages:
        for run, repeats in (*(((phase,), phase.steps - 1) for phase in whole if phase.steps > 1), (whole, 1)):
            unroller = _Unroller(model, rule, warnings, old_versions, counts, begins)
            if run is whole:
                last = {s.name: [p.name for p in whole if p.name in s.phases] for s in model.states}
                decays = {n: d for n, d in (averages or {}).items() if last[n]}
                unroller.averages = {n: (last[n][-1], decay) for n, decay in decays.items()}
            for phase in run:
                unroller.phase(phase)
            if run is whole:
                unroller.hand_on(whole, counted=len(stages) > 1)
            name = " and ".join(p.name for p in run)
            if any(e.name == name for e in entries):
                name = f"{name} {len(entries)}"
            graph, claims = unroller.finish()
            entry = Entry(name, "train", graph, repeats, since=begin, until=end, attributes={"claims": claims})
            entries.append(entry)
            states |= unroller.states
    return Module(model.name, tuple(entries), tuple(states.values()))


@dataclass
class _Unroller:
    """Builds one step's graph. `versions` holds the current value of every state, by name, `read` what phases read of
    parameters: the current one, or with `old_versions` the first one.

    Of values of the forward half, `kept` are those that are computed once, `left` those that phases leave for the end;
    `counted` has for each application of a normalisation the versions of the parameters that it last ran with,
    `estimated` for one by a spectral norm the vectors that it then read,
    `counts` for each phase and parameter the counter of its updates (those that a later loss reaches first have their
    own), `begins` the iteration in which a counter began, `averages` for parameters with a moving average the phase
    after which it moves, and its decay.
    """

    model: Module
    rule: Rule
    warnings: list[str]
    old_versions: bool = False
    counts: dict[tuple[str, str], str] = field(default_factory=dict)
    begins: dict[str, int] = field(default_factory=dict)
    graph: Graph = field(init=False)
    build: Build = field(init=False)
    copier: Copier = field(init=False)
    versions: dict[str, Value] = field(default_factory=dict)
    states: dict[str, State] = field(default_factory=dict)
    kept: dict[Value, Value] = field(default_factory=dict)
    left: dict[Value, Value] = field(default_factory=dict)
    counted: dict[str, frozenset[Value]] = field(default_factory=dict)
    estimated: dict[tuple[str, str], list[Value]] = field(default_factory=dict)
    averages: Mapping[str, tuple[str, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        (entry,) = self.model.entries
        self.source: Graph = entry.graph
        self.outputs = dict(self.source.outputs)
        self.forward: Forward = entry.attributes["forward"]
        self.graph = Graph(self.source.name, absorbed=dict(self.source.absorbed))
        self.build = Build(self.graph)
        self.copier = Copier(self.graph)
        inputs = {v.name: v for v in self.source.inputs}
        self.data = {d.name: self.graph.add_input(d.name, inputs[d.name].type) for d in self.forward.data}
        for state in self.model.states:
            self._add_state(state)
        self.first = {s.name: self.versions[s.name] for s in self.model.states if s.kind == "parameter"}
        self.claims = Claims(self.source, self.forward, self.model.states, self.old_versions)

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
        before = dict(self.versions)
        left = [self.outputs[each.output] for each in self.forward.left if phase.loss in each.losses]
        image = self._forward(phase.loss, [self.outputs[phase.loss], *left])
        loss = image[self.outputs[phase.loss]]
        self._report(phase.loss, loss)
        self.left |= {value: image[value] for value in left}
        parameters = [s for s in self.model.states if s.kind == "parameter" and phase.name in s.phases]
        wrt = [self.read[s.name] for s in parameters]
        found = gradients(self.graph, loss, wrt, fixed=[*self.versions.values(), *self.read.values()])
        found = within_norm(self.build, found, phase.clipnorm)
        rule = rule_of(self.rule, phase)
        if rule.weight_decay:  # which moves what the loss does not
            still = {name for loss_name, name in self.forward.still if loss_name == phase.loss}
            found = [
                self.build.mul(w, 0.0) if g is None and s.name in still else g
                for s, w, g in zip(parameters, wrt, found, strict=True)
            ]
        reached = [s.name for s, g in zip(parameters, found, strict=True) if g is not None]
        steps = self._count(phase, reached) if rule.counts else {}
        still = [s.name for s, g in zip(parameters, found, strict=True) if g is None]
        warning = f"phase {phase.name}: without effect on {phase.loss}, so not changed: {', '.join(still)}"
        if still and warning not in self.warnings:
            self.warnings.append(warning)
        for state, g in zip(parameters, found, strict=True):
            w = self.versions[state.name]
            if g is None:
                self.versions[state.name] = clipped(self.build, w, phase.clip)
                continue
            moved, decay = self.averages.get(state.name, ("", 0.0))
            own = replace(rule, average=decay) if moved == phase.name else rule
            own = since(own, self.begins[self.counts[phase.name, state.name]]) if own.counts else own
            moments = [
                State(
                    # another phase that trains it has moments of its own
                    f"{state.name}.{m}"
                    if phase.name == state.group or m == AVERAGE
                    else f"{state.name}.{phase.name}.{m}",
                    "moment",
                    state.initial if m == AVERAGE else np.zeros_like(state.initial),
                    phase.name,
                    of=state.name,
                )
                for m in own.moments
            ]
            new = updated(
                self.build, own, phase.clip, w, g, [self._add_state(m) for m in moments], steps.get(state.name)
            )
            for each, value in zip((state, *moments), new, strict=True):
                self.versions[each.name] = value
        changed = [s.name for s in parameters if self.versions[s.name] is not before[s.name]]
        self.claims.phase(phase, changed, image, self.graph)

    def _forward(
        self, loss: str, wanted: Sequence[Value], known: Mapping[Value, Value] | None = None
    ) -> dict[Value, Value]:
        """Copies what the values `wanted` of the forward half need, on the current versions, and counts the
        normalisations that run for a loss ("": for none); equal work is not copied again. What is computed once, and
        what is `known`, is read as a constant.
        """
        current = {**self.data, **self.read}
        given = {v: current[v.name] for v in self.source.inputs if v.name in current}
        given |= {v: self.build.emit(Detach(), kept) for v, kept in {**self.kept, **(known or {})}.items()}
        self._estimate(wanted, given)
        image = dict(given)
        self.copier.copy(self.source, image, wanted)
        self._statistics(loss, image, given)
        for name in self.forward.once:
            value = self.outputs[name]
            if value in image:
                self.kept.setdefault(value, image[value])
        return image

    def _estimate(self, wanted: Sequence[Value], given: dict[Value, Value]) -> None:
        """Moves the vectors of spectral norms by every application that what is `wanted` needs, unless it ran before in
        this iteration and its weight has not been updated since; what each application reads is added to `given`.
        """
        if not self.forward.estimates:
            return
        inputs = {v.name: v for v in self.source.inputs}
        needed = set(wanted)
        for node in reversed(self.source.nodes):
            if any(v in needed and v not in given for v in node.outputs):
                needed.update(node.inputs)
        reads = self._parameters_read(given)
        for estimate in self.forward.estimates:
            places = [inputs[name] for name in estimate.read]
            if not needed.intersection(places):
                continue
            weight, moved = reads[self.outputs[estimate.moved[0]]], [self.outputs[name] for name in estimate.moved]
            if self.counted.get(estimate.read[0]) != weight:
                self.counted[estimate.read[0]] = weight
                image = {**given, **{inputs[name]: self.versions[name] for name in estimate.vectors}}
                self.copier.copy(self.source, image, moved)
                self.versions |= {n: image[v] for n, v in zip(estimate.vectors, moved, strict=True)}
                self.estimated[estimate.read] = [image[v] for v in moved]
            found = self.estimated[estimate.read]
            given |= {v: self.build.emit(Detach(), new) for v, new in zip(places, found, strict=True)}

    def _statistics(self, loss: str, image: dict[Value, Value], given: Mapping[Value, Value]) -> None:
        """Moves running statistics by every application of a normalisation that ran for a loss, unless it ran before in
        this iteration and no parameter has been updated since that it depends on. `image` is completed.
        """
        build, inputs = self.build, {v.name: v for v in self.source.inputs}
        reads = self._parameters_read(given)
        for statistic in self.forward.statistics:
            ran = self.outputs[statistic.ran]
            runs = loss in statistic.losses if loss else not statistic.losses
            if not runs or ran not in image or ran in given:
                continue
            versions = reads[ran].union(*(reads[inputs[name]] for name in statistic.own))
            if self.counted.get(statistic.output) == versions:
                continue
            self.counted[statistic.output] = versions
            self.copier.copy(self.source, image, [self.outputs[statistic.output]])
            batch = image[self.outputs[statistic.output]]
            build.hint = f"{statistic.state}.new"
            old = build.mul(self.versions[statistic.state], statistic.momentum)
            new = build.add(old, build.mul(batch, (1 - statistic.momentum) * statistic.factor))
            self.versions[statistic.state] = new
            build.hint = ""

    def _parameters_read(self, given: Mapping[Value, Value]) -> dict[Value, frozenset[Value]]:
        """The versions of parameters that each value of the forward half is computed from; not beyond what is given."""
        names = {s.name for s in self.model.states if s.kind == "parameter"}
        found = {v: frozenset([self.read[v.name]] if v.name in names else []) for v in self.source.inputs}
        found |= {v: frozenset[Value]() for v in given if v not in found}
        none, union = frozenset[Value](), {}
        for node in self.source.nodes:
            parts = frozenset(found.get(v, none) for v in node.inputs)
            if parts not in union:
                union[parts] = none.union(*parts)
            for value in node.outputs:
                found.setdefault(value, union[parts])
        return found

    def _report(self, name: str, value: Value) -> None:
        """The value that an iteration gives under a name: the last of the entry."""
        self.graph.outputs = [*((n, v) for n, v in self.graph.outputs if n != name), (name, value)]

    def _count(self, phase: Phase, reached: Sequence[str]) -> dict[str, Value]:
        """The number of this step of a phase, for each of the parameters that it reaches."""
        known = set(self.counts.values())
        own = f"{phase.name}.steps" if f"{phase.name}.steps" not in known else f"{phase.name}.{phase.since}.steps"
        names = {p: self.counts.setdefault((phase.name, p), own) for p in reached}
        self.begins.setdefault(own, phase.since)
        for name in dict.fromkeys(names.values()):
            self._step(name, phase.name)
        return {p: self.versions[name] for p, name in names.items()}

    def _step(self, name: str, group: str) -> None:
        """A counter goes on by one."""
        old = self._add_state(State(name, "counter", np.zeros((), np.float32), group))
        self.versions[name] = self.build.add(old, 1.0)

    # -- the end ---------------------------------------------------------------------------------------------------

    def hand_on(self, phases: Sequence[Phase], *, counted: bool) -> None:
        """What is reported besides losses, and what the next iteration gets: as the phases left it, computed from that
        where no phase needed it. What belongs to a loss that no phase minimises now is not reported. `counted`: the
        iterations are counted.
        """
        if counted:
            self._step(ITERATIONS, "")
        losses = {p.loss for p in phases}
        others = [name for name in self.forward.losses if counted and name not in losses]
        reported = [name for name in (*self.forward.reported, *others) if self._is_there(name, losses)]
        wanted = [*map(self._found, reported), *(self.outputs[c.output] for c in self.forward.carries)]
        if not wanted:
            return
        self.old_versions = False  # all updates are done
        image = self._forward("", wanted, self.left)
        for name in reported:
            self._report(name, image[self._found(name)])
        for carry in self.forward.carries:
            self.versions[carry.input] = image[self.outputs[carry.output]]
        self.claims.end(wanted, image, self.graph)

    def _found(self, name: str) -> Value:
        """The value of an output at the end of the iteration: as it was left, if it belongs to a loss."""
        return self.outputs.get(f"{name}.left", self.outputs[name])

    def _is_there(self, name: str, losses: Collection[str]) -> bool:
        """Whether all that an output is made of that belongs to losses belongs to one of these."""
        left = {self.outputs[each.output]: each.losses for each in self.forward.left}
        stack, seen = [self._found(name)], set[Value]()
        while stack:
            value = stack.pop()
            if value in left and not set(left[value]) & set(losses):
                return False
            node = None if value in left or value in seen else self.source.producer(value)
            seen.add(value)
            stack += node.inputs if node is not None else ()
        return True

    def finish(self) -> tuple[Graph, tuple[Claim, ...]]:
        """The step, with dead code gone and equal work shared, without states that it neither reads nor writes; what
        its phases claim.
        """
        inputs = {v.name: v for v in self.graph.inputs}
        for state in self.states.values():
            if self.versions[state.name] is not inputs[state.name]:
                self.graph.outputs.append((state.next, self.versions[state.name]))
        self.graph.prune()
        number_draws(self.graph)
        claims = self.claims.rows(self.graph)
        simplify(self.graph, *TIDYING)
        self.graph.sort()
        self.graph.drop_stale_reasons()
        read = {v for n in self.graph.nodes for v in n.inputs} | self.graph.output_values()
        outputs = dict(self.graph.outputs)
        for name, state in list(self.states.items()):
            if inputs[name] not in read and state.next not in outputs:
                del self.states[name]
                self.graph.inputs.remove(inputs[name])
        return self.graph, claims
