"""compose, fuse-loss, differentiate, testing: from networks and losses to the graphs of a training program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from mgc.ir.graph import Graph
from mgc.ir.op import register_attr
from mgc.ir.ops.update import Rule
from mgc.ir.training import PLAIN, Forward, Phase, Script, State
from mgc.passes.losses.fuse_loss import fuse_losses
from mgc.passes.manager import Pass, UnsupportedError
from mgc.passes.state import CompileState, with_graph
from mgc.passes.training.compose import DISCRIMINATOR, GENERATOR, IMAGE, compose
from mgc.passes.training.model import step_model
from mgc.passes.training.step import training_iteration
from mgc.passes.training.unsettled import shared_warning, unsettled_warning

SEPARATE = "dataflow cyclic: with a phase of several steps, iterations follow one another, as in parallel"


@register_attr
@dataclass(frozen=True)
class TrainingSetup:
    """What is asked of a training program: its phases in order, the optimizer, and for each phase whose parameters
    have other names than NAME.* the globs of their initializers. `loss` composes a generator and a discriminator; with
    "" one network has losses among its outputs. `gp_weight` weighs the penalty of wgan-gp; with `redraw_noise` the
    generator's phase has noise of its own. `dataflow` is one of `mgc.passes.streaming.dataflow.DATAFLOWS`; only
    "shared" changes what is computed. `script` says what else is done with the step's values, `ema` has the decays of
    moving averages, by group.
    """

    phases: tuple[Phase, ...]
    rule: Rule
    groups: Mapping[str, tuple[str, ...]]
    loss: str
    gp_weight: float
    redraw_noise: bool
    dataflow: str
    script: Script = PLAIN
    ema: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Compose(Pass):
    """Networks and the name of a loss, or one step model with losses among its outputs, become the forward half of a
    training step: one entry from data and states to losses, states being parameters and running statistics. Both are
    as the module's `training` says, see `compose` and `step_model`.
    """

    name: ClassVar[str] = "compose"

    def run(self, state: CompileState) -> CompileState:
        setup: TrainingSetup = state.module.attributes["training"]
        networks, shared = {entry.name: entry for entry in state.module.entries}, setup.dataflow == "shared"
        if DISCRIMINATOR in networks:
            clipped = any(p.clip is not None for p in setup.phases if p.name == DISCRIMINATOR)
            model = compose(
                networks[GENERATOR],
                networks[DISCRIMINATOR],
                setup.loss,
                state.warnings,
                gp_weight=setup.gp_weight,
                redraw_noise=setup.redraw_noise,
                clipped=clipped,
                once=setup.script.once,
            )
            first, second = (p.name for p in setup.phases)
            if shared and first == DISCRIMINATOR:
                state.warnings.append(shared_warning(second, first))
            if first == GENERATOR and not (shared or setup.script.once or setup.redraw_noise):
                state.warnings.append(unsettled_warning(second, first, [IMAGE]))
        else:
            (network,) = networks.values()
            model = step_model(
                network, setup.phases, setup.groups, setup.script, warnings=state.warnings, shared=shared
            )
        return state.with_entries(model.entries, states=model.states)


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
        once = forward.once if forward else ()
        fused = fuse_losses(state.graph, names, [s.name for s in state.module.states], once)
        state.warnings.extend(fused.warnings)
        return state.with_entries([with_graph(state.entry, fused.graph)], losses=fused.reports)


@dataclass(frozen=True)
class Differentiate(Pass):
    """The forward half becomes the graphs of one training iteration, one entry for each run of phases: losses,
    their gradients, and the new values of all that changes, see `training_iteration`. The module then has the `data`
    that an iteration takes.
    """

    name: ClassVar[str] = "differentiate"

    def run(self, state: CompileState) -> CompileState:
        setup: TrainingSetup = state.module.attributes["training"]
        forward: Forward = state.entry.attributes["forward"]
        shared = setup.dataflow == "shared"
        if setup.dataflow == "cyclic" and any(p.steps > 1 for p in setup.phases):
            state.warnings.append(SEPARATE)
        averages = averaged(state.module.states, setup.ema)
        model = training_iteration(
            state.module, setup.phases, setup.rule, state.warnings, old_versions=shared, averages=averages
        )
        samples = _samples(state.graph, forward, state.module.attributes["batch"])
        entries = [replace(entry, micro_batch=samples) for entry in model.entries]
        return state.with_entries(entries, states=model.states, data=forward.data).without("batch")


def averaged(states: Sequence[State], groups: Mapping[str, float]) -> dict[str, float]:
    """The decay of each parameter's average: of the phase GROUP, or under the prefix GROUP. UnsupportedError: none."""
    found: dict[str, float] = {}
    parameters = [s for s in states if s.kind == "parameter"]
    for group, decay in groups.items():
        names = [s.name for s in parameters if group in s.phases or s.name.startswith(f"{group}.")]
        if not names:
            known = dict.fromkeys(p for s in parameters for p in s.phases)
            raise UnsupportedError(f"--ema {group}={decay}: no group has that name; there are {', '.join(known)}")
        found |= dict.fromkeys(names, decay)
    return found


def _samples(graph: Graph, forward: Forward, batch: int) -> int:
    """Samples in a batch: what the data have along axis 0, which a model may state whatever was asked for."""
    names = {d.name for d in forward.data}
    rows = [v.shape[0] for v in graph.inputs if v.name in names and v.shape]
    return rows[0] if rows else batch


@dataclass(frozen=True)
class Testing(Pass):
    """The networks that make samples become an entry of their own, in inference form, one sample at a time, reading the
    states that training leaves. The module then has `export`: the models into which trained weights go back.
    """

    name: ClassVar[str] = "testing"

    def run(self, state: CompileState) -> CompileState:
        return state.tools.templates(state)
