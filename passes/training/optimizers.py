"""Optimizers by name, and the update of a parameter group added to a graph."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from mgc.ir.build import Build
from mgc.ir.graph import Value
from mgc.ir.ops import Adam, AdamW, RmsProp, Sgd, Update
from mgc.ir.ops.update import Rule
from mgc.ir.training import Phase
from mgc.passes.manager import UnsupportedError

OPTIMIZERS: Mapping[str, frozenset[str]] = {
    "sgd": frozenset({"momentum"}),
    "momentum": frozenset({"momentum"}),
    "adam": frozenset({"betas", "eps"}),
    "adamw": frozenset({"betas", "eps"}),
    "rmsprop": frozenset({"alpha", "eps", "momentum", "centered"}),
}
"""Optimizers by name, with the options that each has beside the learning rate."""


def optimizer(
    name: str,
    *,
    lr: float | None = None,
    betas: tuple[float, float] | None = None,
    alpha: float | None = None,
    eps: float | None = None,
    momentum: float | None = None,
    centered: bool = False,
    weight_decay: float | None = None,
    lr_decay: str | None = None,
) -> Rule:
    """An optimizer by its name; what is not given has PyTorch's default (momentum: 0.9 for "momentum", else 0; weight
    decay: 0.01 for adamw, else 0). lr_decay: "linear:A:B".

    UnsupportedError for an unknown name, an option that the optimizer does not have, or a number out of range.
    """
    given = {"betas": betas, "alpha": alpha, "eps": eps, "momentum": momentum, "centered": centered or None}
    options = {key: value for key, value in given.items() if value is not None}
    if name not in OPTIMIZERS:
        raise UnsupportedError(f"no optimizer {name!r}: choose one of {', '.join(OPTIMIZERS)}")
    strange = sorted(set(options) - OPTIMIZERS[name])
    if strange:
        raise UnsupportedError(f"optimizer {name} has no {', '.join(strange)}: leave it out")
    rate = (1e-2 if name == "rmsprop" else 1e-3) if lr is None else lr
    decay = (0.01 if name == "adamw" else 0.0) if weight_decay is None else weight_decay
    first, last = parse_decay(lr_decay) if lr_decay is not None else (0.0, 0.0)
    numbers = {
        "lr": rate,
        "weight decay": decay,
        **{k: options[k] for k in ("alpha", "eps", "momentum") if k in options},
    }
    for what, value in numbers.items():
        if not (value >= 0 and math.isfinite(value)):
            raise UnsupportedError(f"{what} is {value}: a number >= 0 is needed")
    if name in ("sgd", "momentum"):
        rule: Rule = Sgd(rate, options.get("momentum", 0.9 if name == "momentum" else 0.0))
    elif name == "rmsprop":
        rule = RmsProp(rate, **options)
    else:
        rule = _adam(AdamW if name == "adamw" else Adam, rate, options)
    return replace(rule, weight_decay=decay, decay_from=first, decay_until=last)


def _adam(kind: type[Adam], rate: float, options: Mapping[str, Any]) -> Adam:
    first, second = options.get("betas", (0.9, 0.999))
    if not (0 <= first < 1 and 0 <= second < 1):
        raise UnsupportedError(f"betas are {first}, {second}: both must be at least 0 and below 1")
    return kind(rate, first, second, options.get("eps", 1e-8))


def parse_decay(text: str) -> tuple[float, float]:
    """The A and B of "linear:A:B". UnsupportedError for anything else."""
    kind, *numbers = text.split(":")
    if kind != "linear" or len(numbers) != 2 or not all(n.isdecimal() for n in numbers):
        raise UnsupportedError(f"rate decay {text!r}: write linear:A:B with two whole numbers of iterations")
    first, last = map(int, numbers)
    if not first < last:
        raise UnsupportedError(f"rate decay {text!r}: it begins at {first} and must end later than that, not at {last}")
    return float(first), float(last)


def rule_of(rule: Rule, phase: Phase) -> Rule:
    """The optimizer with what a phase states of its own."""
    own = {"lr": phase.lr, "weight_decay": phase.wd}
    runs = {"runs": float(phase.steps)} if rule.decay_until else {}
    return replace(rule, **{k: v for k, v in own.items() if v is not None}, **runs)


def since(rule: Rule, begin: int) -> Rule:
    """The optimizer of a weight whose steps are counted from iteration `begin` on."""
    if not rule.decay_until or not begin:
        return rule
    if begin >= rule.decay_until:
        return replace(rule, lr=0.0, decay_from=0.0, decay_until=0.0)
    return replace(rule, decay_from=rule.decay_from - begin, decay_until=rule.decay_until - begin)


def within_norm(build: Build, gradients: Sequence[Value | None], most: float | None) -> list[Value | None]:
    """The gradients times min(1, most / (norm + 1e-6)), norm being that of all of them together (None: as they are)."""
    found = [g for g in gradients if g is not None]
    if most is None or not found:
        return list(gradients)
    build.hint = "norm"
    squares = [build.reduce("sum", build.mul(g, g), range(g.tensor.rank), keepdims=False) for g in found]
    total = squares[0]
    for square in squares[1:]:
        total = build.add(total, square)
    norm = build.add(build.unary("sqrt", total), 1e-6)
    factor = build.binary("min", build.div(build.full(most, norm), norm), 1.0)
    return [None if g is None else build.mul(g, factor) for g in gradients]


def updated(
    build: Build, rule: Rule, clip: float | None, w: Value, g: Value, moments: Sequence[Value], t: Value | None
) -> tuple[Value, ...]:
    """The new parameter and the new moments."""
    operands = (w, g, *moments, *([t] if rule.counts and t is not None else []))
    names = (f"{w.name}.new", *(f"{m.name}.new" for m in moments))
    return build.graph.add_multi(Update(rule, clip), *operands, names=names, sources=build.sources)


def clipped(build: Build, w: Value, clip: float | None) -> Value:
    """A parameter without a gradient: only limited."""
    return w if clip is None else build.binary("min", build.binary("max", w, -clip), clip)
