"""What can be asked of a compilation: every option once, for Python's keywords, the command line and docs/options.md.

Nothing heavy is imported before it is needed: the command line starts with this module.

    python -m mgc.options > docs/options.md
"""
# ruff: noqa: RUF009 - `_option` makes a field

from __future__ import annotations

import functools
import inspect
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn, ParamSpec, Protocol, TypeVar

if TYPE_CHECKING:
    import numpy as np

    from mgc.frontend.load import Source
    from mgc.ir.ops.update import Rule
    from mgc.ir.training import Carry, Penalty, Phase, Replay, Script
    from mgc.passes.mapping.allocate import Objective
    from mgc.targets.description import Target

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)


@dataclass(frozen=True)
class Spelling:
    """How the command line has an option.

    `names` are the values that it may have, or where they are listed ("module:TABLE"); "{names}" in `help` stands for
    them. `type` is what a text is parsed as, `read` makes the option's value of that. `training`: it is for training.
    """

    flag: str
    metavar: str | None
    help: str
    type: Any
    names: str | tuple[str, ...] = ()
    read: Callable[[Any], Any] | None = None
    minimum: int | None = None
    training: bool = False

    def choices(self) -> tuple[str, ...]:
        """The values that it may have; () if any."""
        if isinstance(self.names, tuple):
            return self.names
        module, _, table = self.names.partition(":")
        return tuple(getattr(import_module(module), table))

    def text(self) -> str:
        """The help, with the names in it."""
        return self.help.format(names=", ".join(self.choices()))


def _option(default: Any, flag: str, metavar: str | None, help: str, type: Any = str, **rest: Any) -> Any:
    return field(default=default, metadata={"spelling": Spelling(flag, metavar, help, type, **rest)})


def _training(flag: str, metavar: str | None, help: str, type: Any = str, default: Any = None, **rest: Any) -> Any:
    return _option(default, flag, metavar, help, type, training=True, **rest)


def refuse(message: str) -> NoReturn:
    """Raises UnsupportedError."""
    from mgc.passes.state import UnsupportedError

    raise UnsupportedError(message)


def _dims(texts: Sequence[str]) -> dict[str, int]:
    dims: dict[str, int] = {}
    for text in texts:
        name, _, value = text.rpartition("=")
        if not name or not value.isdecimal() or int(value) < 1:
            refuse(f"--dim {text}: write NAME=N with a whole number N of at least 1")
        if dims.setdefault(name, int(value)) != int(value):
            refuse(f"--dim {name} is given twice, as {dims[name]} and {value}")
    return dims


def _overrides(texts: Sequence[str]) -> dict[str, str]:
    changes: dict[str, str] = {}
    for text in texts:
        key, mark, value = text.partition("=")
        if not key or not mark or not value:
            refuse(f"--set {text}: write KEY=VALUE with a key of the target, such as adc_bits=6")
        if key in changes:
            refuse(f"--set {key} is given twice")
        changes[key] = value
    return changes


def _globs(texts: Sequence[str]) -> dict[str, tuple[str, ...]]:
    groups: dict[str, tuple[str, ...]] = {}
    for text in texts:
        name, _, glob = text.partition("=")
        if not name or not glob:
            refuse(f"--group {text}: write NAME=GLOB, such as generator='net_g.*'")
        groups[name] = (*groups.get(name, ()), *filter(None, glob.split(",")))
    return groups


def _decays(texts: Sequence[str]) -> dict[str, float]:
    decays: dict[str, float] = {}
    for text in texts:
        name, _, number = text.rpartition("=")
        try:
            decays[name] = float(number)
        except ValueError:
            refuse(f"--ema {text}: write GROUP=DECAY, such as generator=0.999")
    return decays


def _betas(text: str) -> tuple[float, float]:
    try:
        first, second = (float(part) for part in text.split(","))
    except ValueError:
        refuse(f"--betas {text}: write two numbers with a comma, such as 0.5,0.999")
    return first, second


def _limits(text: str) -> tuple[float, float]:
    from mgc.images import parse_range

    return parse_range(text)


_OF_RULES = ("lr", "betas", "alpha", "eps", "momentum", "weight_decay", "lr_decay")


@dataclass(frozen=True, kw_only=True)
class CompileOptions:
    """The options of a compilation. None stands for one that is not given. UnsupportedError if they do not go together.

    A model is compiled for inference unless `phases`, or `discriminator` and `loss`, say what trains it.
    """

    target: str | Path | Target = _option(
        "liu2018", "--target", "NAME|FILE.toml", "The chip: a name of `mgc targets`, or a file."
    )
    overrides: Mapping[str, Any] | None = _option(
        None,
        "--set",
        "KEY=VALUE",
        "Changes a key of the target, such as adc_bits=6 or training.copies=fast. Repeatable.",
        list[str],
        read=_overrides,
    )
    batch: int = _option(1, "--batch", "N", "Binds the first dynamic dimension.", int, minimum=1)
    dims: Mapping[str, int] | None = _option(
        None, "--dim", "NAME=N", "Binds another dynamic dimension. Repeatable.", list[str], read=_dims
    )
    calibration: str | Path | Mapping[str, np.ndarray] | None = _option(
        None,
        "--calibration",
        "DATA",
        "Sample inputs: X.npz (under their names, samples on axis 0), FILE.npy, an image, or a folder of images. "
        "[default: N(0,1) noise]",
        Path,
    )
    image_range: tuple[float, float] | None = _option(
        None,
        "--image-range",
        "A,B",
        "What black and white become in images to calibrate on. [default: -1,1]",
        read=_limits,
    )
    calibrate: Literal["error", "minmax", "none"] = _option(
        "error",
        "--calibrate",
        "error|minmax",
        "error: least output error; minmax: the full range, quick.",
        names=("error", "minmax"),
    )
    extra_bits: float | None = _option(
        None,
        "--extra-bits",
        "SHARE",
        "Reads that crossbars may add, as a share of all, to take in more bits of the values that matter most. "
        "[default: 0.05; 0: none]",
        float,
        minimum=0,
    )
    objective: Objective = _option(
        "edp",
        "--objective",
        "time|energy|edp",
        "What replicas are to make least, whose cells each training iteration writes: its time, its energy, or their "
        "product.",
        names=("time", "energy", "edp"),
    )
    dump_dir: str | Path | None = _option(
        None, "--dump-dir", "DIR", "Write every stage, for mgc opt to go on from.", Path
    )
    seed: int = _option(0, "--seed", "S", "Seed of everything that is drawn.", int, minimum=0)
    max_elements: int = _option(
        1 << 25, "--max-elements", "N", "Refuse a model with a larger value for one sample.", int, minimum=1
    )
    max_nodes: int = _option(
        1 << 14, "--max-nodes", "N", "Refuse a model with more nodes, functions and loops written out.", int, minimum=1
    )
    discriminator: Source | None = _training(
        "--discriminator", "D.onnx", "Train MODEL.onnx, a generator, against it.", Path
    )
    loss: str | None = _training(
        "--loss", "NAME", "Of both networks: {names}.", names="mgc.passes.training.losses:LOSSES"
    )
    gp_weight: float | None = _training("--gp-weight", "W", "Of wgan-gp's penalty. [default: 10]", float)
    redraw_noise: bool = _training(
        "--redraw-noise", None, "The generator's step gets noise of its own.", bool, default=False
    )
    phases: Sequence[Phase | str] = _training(
        "--phase",
        "NAME=LOSS[,steps=K][,from=STEP][,lr=X][,wd=W][,clip=C][,clipnorm=X]",
        "Train the parameters NAME.* to minimise the output LOSS. Repeatable; in this order.",
        list[str],
        read=tuple,
        default=(),
    )
    groups: Mapping[str, Sequence[str]] | None = _training(
        "--group",
        "NAME=GLOB[,GLOB]",
        "The parameters of phase NAME, if not NAME.*; phases may share some. Repeatable.",
        list[str],
        read=_globs,
    )
    order: Sequence[str] = _training(
        "--order",
        "NAME,NAME",
        "Of the phases with --discriminator. [default: discriminator,generator]",
        read=lambda text: tuple(text.split(",")),
        default=(),
    )
    once: Sequence[str] = _training(
        "--once",
        "VALUE",
        "Compute VALUE once an iteration; it is a constant for the phases after the first that needs it. Repeatable.",
        list[str],
        read=tuple,
        default=(),
    )
    stop_gradient: Sequence[str] = _training(
        "--stop-gradient", "VALUE", "Let gradients end at VALUE. Repeatable.", list[str], read=tuple, default=()
    )
    carry: Sequence[Carry | str] = _training(
        "--carry",
        "INPUT=OUTPUT",
        "OUTPUT of an iteration is INPUT of the next; mgc train --input INPUT=FILE.npy gives the first. Repeatable.",
        list[str],
        read=tuple,
        default=(),
    )
    penalty: Sequence[Penalty | str] = _training(
        "--penalty",
        "LOSS:SCORE:INPUT[,center=1|0][,p=2][,weight=W][,sides=two|one]",
        "Add W mean((|dSCORE/dINPUT| - center)^p) over samples to LOSS. [default: 1, 2, 10, two] Repeatable.",
        list[str],
        read=tuple,
        default=(),
    )
    replay: Sequence[Replay | str] = _training(
        "--replay",
        "INPUT=OUTPUT,size=N",
        "INPUT is samples of OUTPUT, new ones and those out of a pool of N. Repeatable.",
        list[str],
        read=tuple,
        default=(),
    )
    optimizer: str | None = _training(
        "--optimizer", "NAME", "As PyTorch defines it: {names}.", names="mgc.passes.training.optimizers:OPTIMIZERS"
    )
    lr: float | None = _training("--lr", "X", "Learning rate. [default: PyTorch's]", float)
    betas: tuple[float, float] | None = _training("--betas", "B1,B2", "Of adam. [default: 0.9,0.999]", read=_betas)
    momentum: float | None = _training("--momentum", "M", "Of momentum (default 0.9), sgd and rmsprop (0).", float)
    alpha: float | None = _training("--alpha", "A", "Of rmsprop. [default: 0.99]", float)
    eps: float | None = _training("--eps", "E", "Of adam and rmsprop. [default: 1e-8]", float)
    centered: bool = _training("--centered", None, "Of rmsprop: by the variance.", bool, default=False)
    weight_decay: float | None = _training(
        "--weight-decay",
        "W",
        "W times the weight joins its gradient (adamw: apart). [default: adamw 0.01, else 0]",
        float,
    )
    clip_norm: float | None = _training(
        "--clip-norm", "X", "Limits the norm of all gradients of a phase together.", float
    )
    lr_decay: str | None = _training(
        "--lr-decay", "linear:A:B", "Rates fall from iteration A on, counted from 0, to nothing at B."
    )
    ema: Mapping[str, float] | None = _training(
        "--ema", "GROUP=DECAY", "Keep a moving average of a group's weights. Repeatable.", list[str], read=_decays
    )
    dataflow: str | None = _training(
        "--dataflow",
        "NAME",
        "{names}. What of an iteration overlaps: nothing; parts of the batch; the phases' parts too; iterations "
        "too; or phases that all read the old weights, which is another training. [default: parallel]",
        names="mgc.passes.streaming.dataflow:DATAFLOWS",
    )

    def _check_name(self, name: str) -> None:
        value, known = getattr(self, name), SPELLINGS[name].choices()
        if value and value not in known:
            refuse(f"{name} {value!r} is unknown; there are {', '.join(known)}")

    def __post_init__(self) -> None:
        self._check_name("objective")
        self._check_extra_bits()
        if not self.trains:
            asked = [s.flag for name, s in spellings() if s.training and _is_given(getattr(self, name))]
            if asked:
                refuse(
                    f"{asked[0]} is for training: give --discriminator D.onnx and --loss NAME, "
                    "or --phase NAME=LOSS for a model whose outputs are losses"
                )
            return
        if self.loss and self.discriminator is None:
            refuse("--loss needs --discriminator D.onnx; a model whose outputs are losses takes --phase NAME=LOSS")
        if self.discriminator is not None and not self.loss:
            refuse(f"--discriminator needs --loss NAME: one of {', '.join(SPELLINGS['loss'].choices())}")
        if self.gp_weight is not None and self.loss != "wgan-gp":
            refuse("--gp-weight goes with --loss wgan-gp")
        if self.gp_weight is not None and not (math.isfinite(self.gp_weight) and self.gp_weight >= 0):
            refuse(f"the penalty's weight is {self.gp_weight}: a number >= 0 is needed")
        if self.redraw_noise and not self.loss:
            refuse("--redraw-noise goes with --discriminator: a step model says itself what each loss reads")
        if self.order and not self.loss:
            refuse("--order goes with --discriminator: phases of a step model run in the order in which they are given")
        for name in ("carry", "penalty", "replay"):
            if getattr(self, name) and self.loss:
                refuse(f"--{name} goes with --phase: with --discriminator the values of a step have no names")
        if self.groups and self.loss:
            refuse("--group goes with --phase: with --discriminator each model's parameters are a group")
        if self.calibration is not None:
            refuse("--calibration is for inference: in training the chip finds its scales as it runs")
        self._check_name("loss")
        self._check_name("dataflow")
        for name, decay in (self.ema or {}).items():
            if not 0 < decay < 1:
                refuse(f"--ema {name}={decay}: a number between 0 and 1 is needed")
        _ = self.parsed_phases, self.script, self.rule  # their errors now, before any work

    def _check_extra_bits(self) -> None:
        if self.extra_bits is None:
            return
        if not (math.isfinite(self.extra_bits) and self.extra_bits >= 0):
            refuse(f"--extra-bits {self.extra_bits}: a number >= 0 is needed, such as 0.05")
        if self.extra_bits and self.trains:
            refuse("--extra-bits is for inference: in training the chip finds its scales as it runs")
        if self.extra_bits and self.calibrate != "error":
            refuse("--extra-bits needs --calibrate error, which finds out where errors come from")

    def to_json_dict(self) -> dict[str, Any]:
        """The options that are not the default, as JSON has them; of data and models only that they were given."""
        given = {f.name: getattr(self, f.name) for f in fields(self)}
        held = {f.name for f in fields(self) if given[f.name] is f.default or f.name in ("target", "dump_dir", "seed")}
        files = ("calibration", "discriminator")
        return {k: "given" if k in files else _plain(v) for k, v in given.items() if k not in held and v != ()}

    @functools.cached_property
    def chip(self) -> Target:
        """The target, with the keys that are set. TargetError where it is not one."""
        from mgc.targets.description import Target
        from mgc.targets.loader import load_target

        target = self.target if isinstance(self.target, Target) else load_target(self.target)
        return target.replace(self.overrides)

    @property
    def trains(self) -> bool:
        """Whether a training program is asked for."""
        return bool(self.discriminator is not None or self.loss or self.phases)

    @functools.cached_property
    def parsed_phases(self) -> tuple[Phase, ...]:
        """The phases in order, those of G and D where there are two models."""
        from mgc.passes.training.phases import composed_phases, parse_phase

        phases = tuple(parse_phase(p) if isinstance(p, str) else p for p in self.phases)
        phases = composed_phases(phases, self.order) if self.loss else phases
        if self.clip_norm is not None and not (math.isfinite(self.clip_norm) and self.clip_norm > 0):
            refuse(f"--clip-norm {self.clip_norm}: a positive number is needed")
        return tuple(replace(p, clipnorm=self.clip_norm) if p.clipnorm is None else p for p in phases)

    @functools.cached_property
    def script(self) -> Script:
        """What is done with the step's values besides minimising losses."""
        from mgc.ir.training import Script
        from mgc.passes.training.script import parse_carry, parse_penalty, parse_replay

        carries = tuple(parse_carry(c) if isinstance(c, str) else c for c in self.carry)
        penalties = tuple(parse_penalty(p) if isinstance(p, str) else p for p in self.penalty)
        replays = tuple(parse_replay(r) if isinstance(r, str) else r for r in self.replay)
        if replays and any(p.steps > 1 for p in self.parsed_phases):
            refuse("--replay does not go with a phase of several steps: an iteration has one batch of new samples")
        return Script(tuple(dict.fromkeys(self.once)), carries, penalties, replays)

    @functools.cached_property
    def rule(self) -> Rule:
        """The optimizer with its hyper-parameters; adam if none is named."""
        from mgc.passes.training.optimizers import optimizer

        given = {name: getattr(self, name) for name in (*_OF_RULES, "centered")}
        return optimizer(self.optimizer or "adam", **given)


def spellings() -> Iterator[tuple[str, Spelling]]:
    """Each option that the command line has: its name in Python, and how it is spelled there."""
    return ((f.name, f.metadata["spelling"]) for f in fields(CompileOptions) if "spelling" in f.metadata)


SPELLINGS = dict(spellings())


def _plain(value: Any) -> Any:
    """As JSON and the text form of modules have it."""
    if is_dataclass(value) and not isinstance(value, type):
        return _plain({f.name: getattr(value, f.name) for f in fields(value) if getattr(value, f.name) != f.default})
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    return tuple(_plain(v) for v in value) if isinstance(value, list | tuple) else value


def _is_given(value: Any) -> bool:
    return value is not None and value is not False and not (isinstance(value, Sequence | Mapping) and not value)


class _Compile(Protocol[P, R_co]):
    """A function of a model, of its example inputs where it is PyTorch's, and of options as keywords."""

    def __call__(self, model: Any, example: Any = None, *args: P.args, **kwargs: P.kwargs) -> R_co: ...


def takes_options(
    options: Callable[P, CompileOptions],
) -> Callable[[Callable[[Any, Any, CompileOptions], R_co]], _Compile[P, R_co]]:
    """Decorator of a function of a model, example inputs and options: it takes the options as keywords of its own."""

    def decorate(function: Callable[[Any, Any, CompileOptions], R_co]) -> _Compile[P, R_co]:
        @functools.wraps(function)
        def call(model: Any, example: Any = None, *args: P.args, **kwargs: P.kwargs) -> R_co:
            return function(model, example, options(*args, **kwargs))

        own = inspect.signature(function)
        first = [own.parameters["model"], own.parameters["example"].replace(default=None)]
        keywords = inspect.signature(options).parameters.values()
        call.__signature__ = own.replace(parameters=[*first, *keywords])  # type: ignore[attr-defined]
        call.__doc__ = (function.__doc__ or "") + "".join(f"\n    {n}: {s.text()}" for n, s in spellings())
        return call

    return decorate


def document() -> str:
    """docs/options.md."""
    rows = [(" ".join(filter(None, (s.flag, s.metavar))).replace("|", "\\|"), name, s) for name, s in spellings()]
    return "\n".join(
        [
            "# Options of a compilation",
            "",
            "Generated from `mgc/options.py` by `make docs`: do not edit. `mgc compile` takes the left column,",
            "`mgc.compile(model, ...)` the keywords beside it.",
            "",
            "| command line | Python | |",
            "|---|---|---|",
            *(f"| `{flag}` | `{name}` | {s.text()} |" for flag, name, s in rows),
            "",
        ]
    )


if __name__ == "__main__":
    sys.stdout.write(document())
