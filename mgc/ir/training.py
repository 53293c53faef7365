"""What training adds to a graph: states that live from iteration to iteration, losses, phases, the training step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from mgc.ir.graph import Graph, Value, evaluate
from mgc.ir.op import IRError, register_attr
from mgc.ir.types import TensorType, tensor_type_of
from mgc.ir.verifier import verify

NEXT = ".next"

StateKind = Literal["parameter", "moment", "statistic", "counter"]
Draw = Literal["given", "normal", "uniform"]


@register_attr
@dataclass(frozen=True, eq=False)
class State:
    """A value that lives from iteration to iteration: graph input `name`, and output NAME.next where it changes.

    `kind`: a trained parameter, an optimizer's moment of one, a running statistic, or a step counter. `group` is the
    parameter group: the name of the phase that trains it (for a counter: the phase it counts), "" for a statistic of
    no group. `initial` is in the model's own shape. `onnx_name` is the initializer it came from and goes back to (""
    for moments and counters), `network` the file that initializer is in ("generator", "discriminator"; "" for a step
    model). `of` is the parameter that a moment belongs to.
    """

    name: str
    kind: StateKind
    initial: np.ndarray
    group: str = ""
    onnx_name: str = ""
    network: str = ""
    of: str = ""

    @property
    def next(self) -> str:
        """The name of the output with its new value."""
        return self.name + NEXT


@register_attr
@dataclass(frozen=True)
class Data:
    """An input of the training step that is no state. `draw` says what it holds if no file gives it: samples of
    N(0, 1) ("normal") or of U[0, 1) ("uniform"), or that it must be given.
    """

    name: str
    draw: Draw = "normal"


@register_attr
@dataclass(frozen=True)
class Statistic:
    """One application of a normalisation whose statistic updates a running one.

    `output` names the graph output with the batch's statistic; the running one `state` becomes
    momentum * old + (1 - momentum) * factor * statistic (factor n / (n - 1) makes a variance unbiased). The application
    takes place where the value of the output `ran` is computed.
    """

    state: str
    output: str
    ran: str
    momentum: float
    factor: float = 1.0


@dataclass
class TrainingModel:
    """The forward half: a level-1 graph from data and states to losses, before anything is differentiated.

    Graph inputs are the data, then the states (parameters and running statistics); outputs are the losses, then those
    that `statistics` name, in the order in which the networks are applied.
    """

    graph: Graph
    data: tuple[Data, ...]
    states: tuple[State, ...]
    losses: tuple[str, ...]
    statistics: tuple[Statistic, ...] = ()
    warnings: tuple[str, ...] = ()

    def check(self) -> None:
        """IRError unless the graph verifies and its inputs and outputs are those that are listed."""
        verify(self.graph)
        _check_inputs(self.graph, self.data, self.states)
        outputs = dict(self.graph.outputs)
        for name in (*self.losses, *(s.output for s in self.statistics)):
            if name not in outputs:
                raise IRError(f"the training model has no output {name!r}")
        for name in self.losses:
            _check_loss(name, outputs[name])


@register_attr
@dataclass(frozen=True)
class Phase:
    """Minimises one loss output over one parameter group. `steps`: how often in an iteration, each on a fresh batch.

    `lr` replaces the optimizer's learning rate, `clip` limits the weights to [-clip, clip] after each update.
    """

    name: str
    loss: str
    steps: int = 1
    lr: float | None = None
    clip: float | None = None


@dataclass
class TrainingStep:
    """One functional step: a level-1 graph from data and states to losses and new states.

    Inputs are the data, then the states; outputs are the losses, then NAME.next of every state that changes. A state
    without such an output is only read. `phases` are the phases that run, in order. `losses` maps the name that the
    user sees to the phase that reports it.
    """

    graph: Graph
    data: tuple[Data, ...]
    states: tuple[State, ...]
    losses: dict[str, str]
    phases: tuple[Phase, ...]

    def written(self) -> tuple[State, ...]:
        """The states that change."""
        outputs = {name for name, _ in self.graph.outputs}
        return tuple(s for s in self.states if s.next in outputs)

    def run(
        self, data: Mapping[str, np.ndarray], states: Mapping[str, np.ndarray]
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Losses and new states (all, changed or not), by the ops' NumPy meanings."""
        found = evaluate(self.graph, {**{s.name: states[s.name] for s in self.states}, **data})
        new = {**states, **{s.name: found[s.next] for s in self.written()}}
        return {name: found[name] for name in self.losses}, new

    def phase_of(self, graph: Graph | None = None) -> dict[Value, str]:
        """The phase that computes each value: the first one, in order, whose loss or new states need it.

        `graph`: the step's graph after further passes (of any level), which kept the names of its outputs.
        """
        graph = graph or self.graph
        outputs = dict(graph.outputs)
        found: dict[Value, str] = {}
        for phase in self.phases:
            names = [n for n, p in self.losses.items() if p == phase.name]
            names += [s.next for s in self.states if s.group == phase.name and s.kind != "statistic"]
            stack = [outputs[n] for n in names if n in outputs]
            while stack:
                value = stack.pop()
                node = graph.producer(value)
                if node is not None and value not in found:
                    found[value] = phase.name
                    stack.extend(node.inputs)
        last = self.phases[-1].name
        for node in graph.nodes:
            for value in node.outputs:
                found.setdefault(value, last)
        return found

    def check(self) -> None:
        """IRError unless the graph verifies and its inputs and outputs are those that are listed."""
        verify(self.graph)
        _check_inputs(self.graph, self.data, self.states)
        outputs = dict(self.graph.outputs)
        for name in self.losses:
            if name not in outputs:
                raise IRError(f"the training step has no loss {name!r}")
            _check_loss(name, outputs[name])
        known = {s.next: s for s in self.states}
        for name, value in self.graph.outputs:
            if name not in self.losses and (name not in known or tensor_type_of(known[name].initial) != value.type):
                raise IRError(f"the training step's output {name!r} is neither a loss nor the new value of a state")


@dataclass(frozen=True)
class Segment:
    """A training step that runs `repeats` times, each time on a fresh batch."""

    step: TrainingStep
    repeats: int = 1


@dataclass
class Iteration:
    """One training iteration: its segments in order. Without phases of several steps it is a single step."""

    segments: tuple[Segment, ...]
    warnings: tuple[str, ...] = field(default=())

    @property
    def step(self) -> TrainingStep:
        """The last segment's: the one that runs the phases jointly."""
        return self.segments[-1].step

    @property
    def states(self) -> tuple[State, ...]:
        """The states of all segments."""
        return tuple({s.name: s for segment in self.segments for s in segment.step.states}.values())

    @property
    def batches(self) -> int:
        """Batches of data that one iteration takes."""
        return sum(segment.repeats for segment in self.segments)

    def initial(self) -> dict[str, np.ndarray]:
        """The states before the first iteration."""
        return {s.name: s.initial for s in self.states}

    def run(
        self, batches: Sequence[Mapping[str, np.ndarray]], states: Mapping[str, np.ndarray]
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Losses (each as its phase saw it last) and new states after one iteration on `batches` sets of data."""
        losses: dict[str, np.ndarray] = {}
        now, remaining = dict(states), iter(batches)
        for segment in self.segments:
            for _ in range(segment.repeats):
                found, now = segment.step.run(next(remaining), now)
                losses |= found
        return losses, now


def _check_inputs(graph: Graph, data: Sequence[Data], states: Sequence[State]) -> None:
    listed = [d.name for d in data] + [s.name for s in states]
    have = [v.name for v in graph.inputs]
    if listed != have:
        raise IRError(f"the graph's inputs are {have}, but data and states are {listed}")
    types = {v.name: v.type for v in graph.inputs}
    for state in states:
        if tensor_type_of(state.initial) != types[state.name]:
            raise IRError(f"state {state.name!r} is {types[state.name]} but starts as {tensor_type_of(state.initial)}")


def _check_loss(name: str, value: Value) -> None:
    if not isinstance(value.type, TensorType) or value.type.size != 1 or not value.type.dtype.is_float:
        raise IRError(f"loss {name!r} is {value.type}: a float scalar is needed")
