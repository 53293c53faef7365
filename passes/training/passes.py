"""compose, fuse-loss, differentiate, testing: from networks and losses to the graphs of a training program."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mgc.ir.module import Entry
from mgc.ir.op import register_attr
from mgc.ir.ops.update import Rule
from mgc.ir.training import Data, Phase, Statistic, TrainingModel
from mgc.passes.losses.fuse_loss import fuse_losses
from mgc.passes.manager import Pass
from mgc.passes.state import CompileState, with_graph
from mgc.passes.training.compose import DISCRIMINATOR, GENERATOR, compose
from mgc.passes.training.model import Network, step_model
from mgc.passes.training.step import training_iteration

SEPARATE = "dataflow cyclic: with a phase of several steps, iterations follow one another, as in parallel"

SHARED = (
    "dataflow shared: every phase reads the parameters as they were before the iteration, so the generator's step sees "
    "the discriminator before its update; this is another training than that of the models' script"
)


@register_attr
@dataclass(frozen=True)
class TrainingSetup:
    """What is asked of a training program: its phases in order, the optimizer, and for each phase whose parameters
    have other names than NAME.* the globs of their initializers. `loss` composes a generator and a discriminator; with
    "" one network has losses among its outputs. `gp_weight` weighs the penalty of wgan-gp; with `redraw_noise` the
    generator's phase has noise of its own. `dataflow` is one of `mgc.passes.streaming.dataflow.DATAFLOWS`; only
    "shared" changes what is computed.
    """

    phases: tuple[Phase, ...]
    rule: Rule
    groups: Mapping[str, tuple[str, ...]]
    loss: str
    gp_weight: float
    redraw_noise: bool
    dataflow: str


@register_attr
@dataclass(frozen=True, eq=False)
class Weights:
    """What is known of an imported network that can be trained (see `Network`), whose initializers are constants."""

    arrays: Mapping[str, np.ndarray]
    parameters: Mapping[str, str]


@register_attr
@dataclass(frozen=True)
class Forward:
    """What the outputs and inputs of the forward half are, see `TrainingModel`."""

    data: tuple[Data, ...]
    losses: tuple[str, ...]
    statistics: tuple[Statistic, ...]


def _network(entry: Entry) -> Network:
    weights: Weights = entry.attributes["weights"]
    return Network(entry.graph, weights.arrays, weights.parameters)


def _model(state: CompileState) -> TrainingModel:
    forward: Forward = state.entry.attributes["forward"]
    return TrainingModel(state.graph, forward.data, state.module.states, forward.losses, forward.statistics)


@dataclass(frozen=True)
class Compose(Pass):
    """Networks and the name of a loss, or one step model with losses among its outputs, become the forward half of a
    training step: one entry from data and states to losses, states being parameters and running statistics. Both are
    as the module's `training` says, see `compose` and `step_model`.
    """

    name: ClassVar[str] = "compose"

    def run(self, state: CompileState) -> CompileState:
        setup: TrainingSetup = state.module.attributes["training"]
        networks = {entry.name: _network(entry) for entry in state.module.entries}
        if DISCRIMINATOR in networks:
            clipped = any(p.clip is not None for p in setup.phases if p.name == DISCRIMINATOR)
            model = compose(
                networks[GENERATOR],
                networks[DISCRIMINATOR],
                setup.loss,
                gp_weight=setup.gp_weight,
                redraw_noise=setup.redraw_noise,
                clipped=clipped,
            )
        else:
            (network,) = networks.values()
            model = step_model(network, setup.phases, setup.groups)
        state.warnings.extend(model.warnings)
        forward = Forward(model.data, model.losses, model.statistics)
        entry = Entry("forward", "train", model.graph, attributes={"forward": forward})
        return state.with_entries([entry], states=model.states)


@dataclass(frozen=True)
class FuseLoss(Pass):
    """Each loss becomes a sum of diff-blocks, recognised by meaning, and of terms that are no function of single
    scores; see `fuse_losses`. In a graph that is no forward half, losses are all outputs that are float scalars. The
    value of every loss is what it was, where that was finite: to the rounding of float32 for known forms, within the
    table's proven error for tabulated ones. The module then has `losses`, what is reported of them.
    """

    name: ClassVar[str] = "fuse-loss"

    def run(self, state: CompileState) -> CompileState:
        forward: Forward | None = state.entry.attributes.get("forward")
        scalars = (n for n, v in state.graph.outputs if v.tensor.size == 1 and v.tensor.dtype.is_float)
        names = forward.losses if forward else tuple(scalars)
        fused = fuse_losses(state.graph, names, [s.name for s in state.module.states])
        state.warnings.extend(fused.warnings)
        return state.with_entries([with_graph(state.entry, fused.graph)], losses=fused.reports)


@dataclass(frozen=True)
class Differentiate(Pass):
    """The forward half becomes the graphs of one training iteration, one entry for each segment of phases: losses,
    their gradients, and the new values of all that changes, see `training_iteration`. The module then has the `data`
    that an iteration takes.
    """

    name: ClassVar[str] = "differentiate"

    def run(self, state: CompileState) -> CompileState:
        setup: TrainingSetup = state.module.attributes["training"]
        model = _model(state)
        shared = setup.dataflow == "shared"
        iteration = training_iteration(model, setup.phases, setup.rule, old_versions=shared)
        if setup.dataflow == "cyclic" and iteration.batches > 1:
            state.warnings.append(SEPARATE)
        if shared and len(setup.phases) > 1:
            state.warnings.append(SHARED)
        state.warnings.extend(iteration.warnings)
        samples = _samples(model, state.module.attributes["batch"])
        entries: list[Entry] = []
        for number, segment in enumerate(iteration.segments):
            name = " and ".join(p.name for p in segment.step.phases)
            if any(e.name == name for e in entries):
                name = f"{name} {number}"
            entries.append(Entry(name, "train", segment.step.graph, segment.repeats, samples))
        return state.with_entries(entries, states=iteration.states, data=model.data).without("batch")


def _samples(model: TrainingModel, batch: int) -> int:
    """Samples in a batch: what the data have along axis 0, which a model may state whatever was asked for."""
    names = {d.name for d in model.data}
    rows = [v.shape[0] for v in model.graph.inputs if v.name in names and v.shape]
    return rows[0] if rows else batch


@dataclass(frozen=True)
class Testing(Pass):
    """The networks that make samples become an entry of their own, in inference form, one sample at a time, reading the
    states that training leaves. The module then has `export`: the models into which trained weights go back.
    """

    name: ClassVar[str] = "testing"

    def run(self, state: CompileState) -> CompileState:
        return state.tools.templates(state)
