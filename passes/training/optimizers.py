"""Optimizers by name, and the update of a parameter group added to a graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from mgc.ir.build import Build
from mgc.ir.graph import Value
from mgc.ir.ops import Adam, RmsProp, Sgd, Update
from mgc.ir.ops.update import Rule
from mgc.passes.manager import UnsupportedError

OPTIMIZERS: Mapping[str, frozenset[str]] = {
    "sgd": frozenset({"momentum"}),
    "momentum": frozenset({"momentum"}),
    "adam": frozenset({"betas", "eps"}),
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
) -> Rule:
    """An optimizer by its name; what is not given has PyTorch's default (momentum: 0.9 for "momentum", else 0).

    UnsupportedError for an unknown name, an option that the optimizer does not have, or a number out of range.
    """
    given = {"betas": betas, "alpha": alpha, "eps": eps, "momentum": momentum, "centered": centered or None}
    options = {key: value for key, value in given.items() if value is not None}
    if name not in OPTIMIZERS:
        raise UnsupportedError(f"no optimizer {name!r}: choose one of {', '.join(OPTIMIZERS)}")
    strange = sorted(set(options) - OPTIMIZERS[name])
    if strange:
        raise UnsupportedError(f"optimizer {name} has no {', '.join(strange)}: leave it out")
    rate = (1e-3 if name in ("adam", "sgd", "momentum") else 1e-2) if lr is None else lr
    for what, value in (("lr", rate), *((k, options[k]) for k in ("alpha", "eps", "momentum") if k in options)):
        if not value >= 0:
            raise UnsupportedError(f"{what} is {value}: a number >= 0 is needed")
    if name in ("sgd", "momentum"):
        return Sgd(rate, options.get("momentum", 0.9 if name == "momentum" else 0.0))
    if name == "rmsprop":
        return RmsProp(rate, **options)
    first, second = options.get("betas", (0.9, 0.999))
    if not (0 <= first < 1 and 0 <= second < 1):
        raise UnsupportedError(f"betas are {first}, {second}: both must be at least 0 and below 1")
    return Adam(rate, first, second, options.get("eps", 1e-8))


def with_rate(rule: Rule, lr: float | None) -> Rule:
    """The same optimizer with another learning rate (None: its own)."""
    return rule if lr is None else replace(rule, lr=lr)


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
