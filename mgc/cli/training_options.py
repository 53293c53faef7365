"""The training options of `mgc compile`: what they ask for, and that they go together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mgc.cli.errors import UserError

if TYPE_CHECKING:
    from mgc.passes.training.options import TrainingOptions


class Loss(StrEnum):
    """Losses of a generator and a discriminator."""

    bce = "bce"
    minimax = "minimax"
    lsgan = "lsgan"
    wgan = "wgan"
    wgan_gp = "wgan-gp"
    hinge = "hinge"
    relativistic = "relativistic"
    relativistic_average = "relativistic-average"


class DataflowChoice(StrEnum):
    """What of an iteration may overlap."""

    sequential = "sequential"
    pipelined = "pipelined"
    parallel = "parallel"
    cyclic = "cyclic"
    shared = "shared"


class Optimizer(StrEnum):
    """Optimizers, by PyTorch's definitions."""

    sgd = "sgd"
    momentum = "momentum"
    adam = "adam"
    rmsprop = "rmsprop"


def _option(*names: str, metavar: str | None = None, help: str) -> typer.models.OptionInfo:
    return typer.Option(*names, metavar=metavar, help=help)


DiscriminatorOption = Annotated[
    Path | None, _option("--discriminator", metavar="D.onnx", help="Train MODEL.onnx, a generator, against it.")
]
LossOption = Annotated[Loss | None, _option("--loss", metavar="NAME", help=f"Of both networks: {', '.join(Loss)}.")]
GpWeightOption = Annotated[
    float | None, _option("--gp-weight", metavar="W", help="Of wgan-gp's penalty. [default: 10]")
]
RedrawOption = Annotated[bool, _option("--redraw-noise", help="The generator's step gets noise of its own.")]
DataflowOption = Annotated[
    DataflowChoice | None,
    _option(
        "--dataflow",
        help="What of an iteration overlaps: nothing; parts of the batch; the phases' parts too; iterations too; or, "
        "shared, phases that all read the old weights, which is another training. [default: parallel]",
    ),
]
PhaseOption = Annotated[
    list[str] | None,
    _option(
        "--phase",
        metavar="NAME=LOSS[,steps=K][,lr=X][,clip=C]",
        help="Train the parameters NAME.* to minimise the output LOSS. Repeatable; in this order.",
    ),
]
GroupOption = Annotated[
    list[str] | None,
    _option("--group", metavar="NAME=GLOB", help="The parameters of phase NAME, if not NAME.*. Repeatable."),
]
OptimizerOption = Annotated[Optimizer | None, _option("--optimizer", help="As PyTorch defines them.")]
LrOption = Annotated[float | None, _option("--lr", metavar="X", help="Learning rate. [default: PyTorch's]")]
BetasOption = Annotated[str | None, _option("--betas", metavar="B1,B2", help="Of adam. [default: 0.9,0.999]")]
MomentumOption = Annotated[
    float | None, _option("--momentum", metavar="M", help="Of momentum (default 0.9), sgd and rmsprop (0).")
]
AlphaOption = Annotated[float | None, _option("--alpha", metavar="A", help="Of rmsprop. [default: 0.99]")]
EpsOption = Annotated[float | None, _option("--eps", metavar="E", help="Of adam and rmsprop. [default: 1e-8]")]


@dataclass(frozen=True)
class Given:
    """The training options as they stand on the command line; None, False and () where they do not."""

    discriminator: Path | None
    loss: Loss | None
    gp_weight: float | None
    redraw_noise: bool
    phase: Sequence[str]
    group: Sequence[str]
    optimizer: Optimizer | None
    lr: float | None
    betas: str | None
    momentum: float | None
    alpha: float | None
    eps: float | None
    dataflow: DataflowChoice | None = None


def training_options(given: Given) -> TrainingOptions | None:
    """What is asked for; None if nothing is, so that the model is compiled for inference.

    Raises UserError or UnsupportedError: which option, and what to do.
    """
    asked = [f"--{f.name.replace('_', '-')}" for f in fields(given) if getattr(given, f.name) not in (None, False, ())]
    if not asked:
        return None
    composed = given.discriminator is not None or given.loss is not None
    if not composed and not given.phase:
        raise UserError(
            f"{asked[0]} is for training: give --discriminator D.onnx and --loss NAME, "
            "or --phase NAME=LOSS for a model whose outputs are losses"
        )
    if given.discriminator is None and composed:
        raise UserError("--loss needs --discriminator D.onnx; a model whose outputs are losses takes --phase NAME=LOSS")
    if given.loss is None and composed:
        raise UserError(f"--discriminator needs --loss NAME: one of {', '.join(Loss)}")
    if given.optimizer is None:
        raise UserError(f"training needs --optimizer NAME: one of {', '.join(Optimizer)}")
    if given.gp_weight is not None and given.loss is not Loss.wgan_gp:
        raise UserError("--gp-weight goes with --loss wgan-gp")
    if not composed and given.redraw_noise:
        raise UserError("--redraw-noise goes with --discriminator: a step model says itself what each loss reads")
    if composed and given.group:
        raise UserError("--group goes with --phase: with --discriminator each model's parameters are a group")
    return _options(given, composed)


def _options(given: Given, composed: bool) -> TrainingOptions:
    from mgc.passes.training.optimizers import optimizer
    from mgc.passes.training.options import DEFAULT_DATAFLOW, TrainingOptions, composed_phases
    from mgc.passes.training.phases import parse_phase

    phases = tuple(parse_phase(text) for text in given.phase)
    rule = optimizer(
        str(given.optimizer),
        lr=given.lr,
        betas=_betas(given.betas),
        alpha=given.alpha,
        eps=given.eps,
        momentum=given.momentum,
    )
    return TrainingOptions(
        composed_phases(phases) if composed else phases,
        rule,
        _groups(given.group),
        str(given.loss) if given.loss else "",
        10.0 if given.gp_weight is None else given.gp_weight,
        given.redraw_noise,
        str(given.dataflow) if given.dataflow else DEFAULT_DATAFLOW,
    )


def _betas(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    try:
        first, second = (float(part) for part in text.split(","))
    except ValueError as error:
        raise UserError(f"--betas {text}: write two numbers with a comma, such as 0.5,0.999") from error
    return first, second


def _groups(texts: Sequence[str]) -> dict[str, tuple[str, ...]]:
    groups: dict[str, tuple[str, ...]] = {}
    for text in texts:
        name, _, glob = text.partition("=")
        if not name or not glob:
            raise UserError(f"--group {text}: write NAME=GLOB, such as generator='net_g.*'")
        groups[name] = (*groups.get(name, ()), glob)
    return groups
