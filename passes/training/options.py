"""What a user asks of training, checked as far as it can be without the model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mgc.ir.ops.update import Rule
from mgc.ir.training import Phase
from mgc.passes.manager import UnsupportedError
from mgc.passes.training.phases import check_phases

LOSS_NAMES = ("bce", "minimax", "lsgan", "wgan", "wgan-gp", "hinge", "relativistic", "relativistic-average")

COMPOSED = {"discriminator": "loss_d", "generator": "loss_g"}
"""The phases of a step composed of G, D and a loss's name, in order: the groups that they train, their losses."""


DATAFLOWS = ("sequential", "pipelined", "parallel", "cyclic", "shared")
"""What of an iteration may overlap; `mgc.passes.streaming.dataflow` says what each is."""

DEFAULT_DATAFLOW = "parallel"


@dataclass(frozen=True)
class TrainingOptions:
    """Everything that is asked of a training program but its models.

    Composed (a generator and a discriminator as two models): `loss` is one of `LOSS_NAMES`; `phases` are those of
    `COMPOSED`, and redraw_noise gives the generator's phase noise of its own. One step model: `loss` is "" and `phases`
    name its loss outputs. `rule` is the optimizer with its hyper-parameters. `groups` holds, for phases whose
    parameters have other names than NAME.*, the globs of their initializers. gp_weight weighs the penalty of wgan-gp.
    `dataflow` is one of `DATAFLOWS`; only "shared" changes what is computed.
    Raises UnsupportedError.
    """

    phases: tuple[Phase, ...]
    rule: Rule
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    loss: str = ""
    gp_weight: float = 10.0
    redraw_noise: bool = False
    dataflow: str = DEFAULT_DATAFLOW

    def __post_init__(self) -> None:
        check_phases(self.phases, [p.loss for p in self.phases])
        known = [p.name for p in self.phases]
        for name in self.groups:
            if name not in known:
                raise UnsupportedError(f"group {name}: there is no such phase; phases are {', '.join(known)}")
        if self.dataflow not in DATAFLOWS:
            raise UnsupportedError(f"dataflow {self.dataflow!r} is unknown; there are {', '.join(DATAFLOWS)}")
        if self.loss and self.loss not in LOSS_NAMES:
            raise UnsupportedError(f"loss {self.loss!r} is unknown; there are {', '.join(LOSS_NAMES)}")
        if self.loss and [(p.name, p.loss) for p in self.phases] != list(COMPOSED.items()):
            raise UnsupportedError(f"the phases of a composed step are {_listed(COMPOSED)}")
        if not (math.isfinite(self.gp_weight) and self.gp_weight >= 0):
            raise UnsupportedError(f"the penalty's weight is {self.gp_weight}: a number >= 0 is needed")


def composed_phases(given: Sequence[Phase] = ()) -> tuple[Phase, ...]:
    """The phases of a composed step in order, each as given, or plain. UnsupportedError for one that it has not."""
    for phase in given:
        if COMPOSED.get(phase.name) != phase.loss:
            raise UnsupportedError(f"phase {phase.name}={phase.loss}: the phases of G and D are {_listed(COMPOSED)}")
    if given:
        check_phases(given, [p.loss for p in given])
    own = {phase.name: phase for phase in given}
    return tuple(own.get(name) or Phase(name, loss) for name, loss in COMPOSED.items())


def _listed(phases: Mapping[str, str]) -> str:
    return " and ".join(f"{name}={loss}" for name, loss in phases.items())
