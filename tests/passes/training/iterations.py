"""Training iterations as modules have them, run in NumPy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from mgc.ir.graph import Graph, evaluate
from mgc.ir.module import Module, verify_module
from mgc.ir.training import Data, Forward, Phase, State
from mgc.passes.training.step import training_iteration

Arrays = dict[str, np.ndarray]


def forward_of(model: Module) -> Forward:
    """What is known of a module that is a forward half."""
    return model.entries[0].attributes["forward"]


def graph_of(model: Module) -> Graph:
    """The graph of a module that is a forward half."""
    return model.entries[0].graph


def check_forward(model: Module) -> None:
    """The graph verifies; its inputs are data and states, its outputs the losses and statistics."""
    verify_module(model)
    graph, forward = graph_of(model), forward_of(model)
    assert [v.name for v in graph.inputs] == [x.name for x in (*forward.data, *model.states)]
    assert [n for n, _ in graph.outputs] == [*forward.losses, *(s.output for s in forward.statistics)]


@dataclass
class Step:
    """One functional step: a graph from data and states to losses and new states, run `repeats` times."""

    name: str
    graph: Graph
    data: tuple[Data, ...]
    states: tuple[State, ...]
    losses: tuple[str, ...]
    repeats: int = 1

    def written(self) -> tuple[State, ...]:
        """The states that change."""
        outputs = {name for name, _ in self.graph.outputs}
        return tuple(s for s in self.states if s.next in outputs)

    def run(self, data: Mapping[str, np.ndarray], states: Mapping[str, np.ndarray]) -> tuple[Arrays, Arrays]:
        """Losses and new states (all, changed or not), by the ops' NumPy meanings."""
        found = evaluate(self.graph, {**{s.name: states[s.name] for s in self.states}, **data})
        new = {**states, **{s.name: found[s.next] for s in self.written()}}
        return {name: found[name] for name in self.losses}, new


@dataclass
class Iteration:
    """One training iteration of a module: its entries in order."""

    module: Module
    data: tuple[Data, ...]
    warnings: list[str] = field(default_factory=list)

    @cached_property
    def steps(self) -> list[Step]:
        """The entries; their inputs are data and states, their outputs losses and new states."""
        found: list[Step] = []
        states = {s.name: s for s in self.module.states}
        next_ = {s.next: s for s in self.module.states}
        for entry in self.module.entries:
            named = [v.name for v in entry.graph.inputs]
            read = tuple(s for n, s in states.items() if n in named)
            assert named[: len(self.data)] == [d.name for d in self.data]
            assert set(named[len(self.data) :]) == {s.name for s in read}
            losses = tuple(n for n, _ in entry.graph.outputs if n not in next_)
            types = {v.name: v.type for v in entry.graph.inputs}
            assert all(v.type == types[next_[n].name] for n, v in entry.graph.outputs if n in next_)
            found.append(Step(entry.name, entry.graph, self.data, read, losses, entry.repeats))
        return found

    @property
    def step(self) -> Step:
        """The last one, which runs the phases jointly."""
        return self.steps[-1]

    @property
    def states(self) -> tuple[State, ...]:
        """The states of all steps."""
        return self.module.states

    @property
    def batches(self) -> int:
        """Batches of data that one iteration takes."""
        return sum(step.repeats for step in self.steps)

    def initial(self) -> Arrays:
        """The states before the first iteration."""
        return {s.name: s.initial for s in self.states}

    def run(
        self, batches: Sequence[Mapping[str, np.ndarray]], states: Mapping[str, np.ndarray]
    ) -> tuple[Arrays, Arrays]:
        """Losses (each as its phase saw it last) and new states after one iteration on `batches` sets of data."""
        losses: Arrays = {}
        now, remaining = dict(states), iter(batches)
        for step in self.steps:
            for _ in range(step.repeats):
                found, now = step.run(next(remaining), now)
                losses |= found
        return losses, now


def iterate(model: Module, phases: Sequence[Phase], rule, *, old_versions: bool = False) -> Iteration:
    """The training iteration of a forward half, verified."""
    warnings: list[str] = []
    module = training_iteration(model, phases, rule, warnings, old_versions=old_versions)
    verify_module(module)
    return Iteration(module, forward_of(model).data, warnings)
