"""What a user asks of training: the optimizer, the phases, the loss. Checked as it is made, with a message each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from passes.manager import UnsupportedError

OptimizerName = Literal["sgd", "momentum", "adam", "rmsprop"]
LossName = Literal[
    "bce", "minimax", "lsgan", "wgan", "wgan-gp", "hinge", "relativistic", "relativistic-average"
]  # fmt: skip

OPTIMIZER_NAMES: tuple[str, ...] = get_args(OptimizerName)
LOSS_NAMES: tuple[str, ...] = get_args(LossName)

DISCRIMINATOR, GENERATOR = "discriminator", "generator"
"""The phases, and the groups that they train, of a composed step; its losses are `loss_d` and `loss_g`."""
LOSS_D, LOSS_G = "loss_d", "loss_g"


@dataclass(frozen=True)
class OptimizerOptions:
    """An optimizer by PyTorch's definition; fields that it does not use keep their defaults and mean nothing.

    `momentum` belongs to momentum and rmsprop, `betas` to adam, `alpha` to rmsprop, `eps` to adam and rmsprop.
    """

    name: OptimizerName
    lr: float
    betas: tuple[float, float] = (0.9, 0.999)
    momentum: float = 0.0
    alpha: float = 0.99
    eps: float = 1e-8
    weight_decay: float = 0.0
    nesterov: bool = False
    centered: bool = False

    def __post_init__(self) -> None:
        if self.name not in OPTIMIZER_NAMES:
            raise UnsupportedError(f"optimizer {self.name!r} is unknown; there are {', '.join(OPTIMIZER_NAMES)}")
        for name, value in (("lr", self.lr), ("eps", self.eps), ("weight decay", self.weight_decay)):
            if not math.isfinite(value) or value < 0:
                raise UnsupportedError(f"{self.name}: {name} is {value:g}; give a number of at least 0")
        shares = {"beta 1": self.betas[0], "beta 2": self.betas[1], "momentum": self.momentum, "alpha": self.alpha}
        for name, value in shares.items():
            if not 0 <= value < 1:
                raise UnsupportedError(f"{self.name}: {name} is {value:g}; give a number from 0 to below 1")
        if self.name == "momentum" and self.momentum == 0:
            raise UnsupportedError("momentum: its momentum is 0, which is sgd; give one above 0, 0.9 for example")

    def at_rate(self, lr: float | None) -> OptimizerOptions:
        """The same with another learning rate; None changes nothing."""
        return self if lr is None else replace(self, lr=lr)


@dataclass(frozen=True)
class PhaseOptions:
    """One phase: it minimises the loss output `loss` over the parameters of group `name`.

    `steps`: how often in an iteration, each time on a fresh batch. `lr`: its own learning rate, None for the
    optimizer's. `clip`: weights are kept within -clip .. clip after each update; None for no clipping.
    """

    name: str
    loss: str
    steps: int = 1
    lr: float | None = None
    clip: float | None = None

    def __post_init__(self) -> None:
        where = f"phase {self.name!r}"
        if not self.name or not self.loss:
            raise UnsupportedError(f"{where} with loss {self.loss!r}: write NAME=LOSS, LOSS a loss output of the model")
        if self.steps < 1:
            raise UnsupportedError(f"{where}: steps is {self.steps}; give a whole number of at least 1")
        if self.lr is not None and not (math.isfinite(self.lr) and self.lr >= 0):
            raise UnsupportedError(f"{where}: lr is {self.lr:g}; give a number of at least 0")
        if self.clip is not None and not (math.isfinite(self.clip) and self.clip > 0):
            raise UnsupportedError(f"{where}: clip is {self.clip:g}; give a number above 0")


@dataclass(frozen=True)
class GroupOptions:
    """Which float initializers a phase trains where their names do not say it: those that match one of the globs."""

    name: str
    globs: tuple[str, ...]


@dataclass(frozen=True)
class TrainingOptions:
    """Everything that is asked of a training program.

    Composed (a generator and a discriminator as two models): `loss` is its name; `phases` are discriminator, then
    generator. One step model: `loss` is None and `phases` name its loss outputs. `gp_weight` is the weight of wgan-gp's
    penalty; `redraw_noise` gives the generator's phase fresh noise instead of that of the discriminator's.
    """

    optimizer: OptimizerOptions
    phases: tuple[PhaseOptions, ...]
    groups: tuple[GroupOptions, ...] = ()
    loss: LossName | None = None
    gp_weight: float = 10.0
    redraw_noise: bool = False

    def __post_init__(self) -> None:
        names = [p.name for p in self.phases]
        if not names:
            raise UnsupportedError("training needs at least one phase: --phase NAME=LOSS")
        for name in names:
            if names.count(name) > 1:
                raise UnsupportedError(f"phase {name!r} is given twice")
        for group in self.groups:
            if group.name not in names:
                raise UnsupportedError(f"group {group.name!r}: no phase trains it; the phases are {', '.join(names)}")
        if self.loss is not None and self.loss not in LOSS_NAMES:
            raise UnsupportedError(f"loss {self.loss!r} is unknown; there are {', '.join(LOSS_NAMES)}")
        if not (math.isfinite(self.gp_weight) and self.gp_weight >= 0):
            raise UnsupportedError(f"gp weight is {self.gp_weight:g}; give a number of at least 0")

    def optimizer_of(self, phase: PhaseOptions) -> OptimizerOptions:
        """The optimizer with the phase's own learning rate."""
        return self.optimizer.at_rate(phase.lr)

    @property
    def composed(self) -> bool:
        """Whether the step is made from a generator, a discriminator and a loss's name."""
        return self.loss is not None


def composed_phases(given: Sequence[PhaseOptions] = ()) -> tuple[PhaseOptions, ...]:
    """The phases of a composed step, discriminator then generator: as given, or plain where one is not."""
    losses = {DISCRIMINATOR: LOSS_D, GENERATOR: LOSS_G}
    for phase in given:
        if losses.get(phase.name) != phase.loss:
            known = " and ".join(f"{name}={loss}" for name, loss in losses.items())
            raise UnsupportedError(f"phase {phase.name}={phase.loss}: a composed step has the phases {known}")
    own = {phase.name: phase for phase in given}
    if len(own) < len(given):
        raise UnsupportedError("a phase is given twice")
    return tuple(own.get(name) or PhaseOptions(name, loss) for name, loss in losses.items())
