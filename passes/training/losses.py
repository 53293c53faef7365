"""GAN losses by name, on discriminator scores: stable forms, as PyTorch's *_with_logits functions define them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mgc.ir.build import Build
from mgc.ir.graph import Value


@dataclass(frozen=True)
class Loss:
    """`d(build, real, fake)` and `g(build, real, fake)` give the scalar losses of the discriminator and the generator.

    `logits`: the scores are what goes into a sigmoid (a discriminator that ends in one is taken without it).
    `penalty`: the discriminator's loss has a gradient penalty. `about` states the formulas; mean is over all scores.
    """

    d: Callable[[Build, Value, Value], Value]
    g: Callable[[Build, Value, Value], Value]
    about: str
    logits: bool = False
    penalty: bool = False


def mean(g: Build, x: Value) -> Value:
    """The mean of all elements, a scalar."""
    return g.reduce("mean", x, range(x.tensor.rank), keepdims=False)


def _softplus(g: Build, x: Value) -> Value:
    return mean(g, g.unary("softplus", x))


def _as_real(g: Build, x: Value) -> Value:
    """Cross-entropy with target 1: mean softplus(-x)."""
    return _softplus(g, g.neg(x))


def _as_fake(g: Build, x: Value) -> Value:
    """Cross-entropy with target 0: mean softplus(x)."""
    return _softplus(g, x)


def _square(g: Build, x: Value, target: float) -> Value:
    off = g.sub(x, target) if target else x
    return mean(g, g.mul(off, off))


def _hinge(g: Build, x: Value, sign: float) -> Value:
    """Mean max(0, 1 + sign x)."""
    margin = g.add(x, 1.0) if sign > 0 else g.sub(g.number(1.0, x), x)
    return mean(g, g.unary("relu", margin))


def _less_mean(g: Build, a: Value, b: Value) -> Value:
    return g.sub(a, mean(g, b))


def _average(g: Build, up: Value, down: Value) -> Value:
    """Half the cross-entropies of `up` above the mean of `down` and the other way round."""
    both = g.add(_as_real(g, _less_mean(g, up, down)), _as_fake(g, _less_mean(g, down, up)))
    return g.mul(both, 0.5)


LOSSES: Mapping[str, Loss] = {
    "bce": Loss(
        lambda g, r, f: g.add(_as_real(g, r), _as_fake(g, f)),
        lambda g, r, f: _as_real(g, f),
        "D: mean softplus(-r) + mean softplus(f); G (non-saturating): mean softplus(-f)",
        logits=True,
    ),
    "minimax": Loss(
        lambda g, r, f: g.add(_as_real(g, r), _as_fake(g, f)),
        lambda g, r, f: g.neg(_as_fake(g, f)),
        "D: as bce; G (saturating): mean log(1 - sigmoid(f)) = -mean softplus(f)",
        logits=True,
    ),
    "lsgan": Loss(
        lambda g, r, f: g.add(_square(g, r, 1.0), _square(g, f, 0.0)),
        lambda g, r, f: _square(g, f, 1.0),
        "D: mean (r - 1)^2 + mean f^2; G: mean (f - 1)^2",
    ),
    "wgan": Loss(
        lambda g, r, f: g.sub(mean(g, f), mean(g, r)),
        lambda g, r, f: g.neg(mean(g, f)),
        "D: mean f - mean r; G: -mean f",
    ),
    "wgan-gp": Loss(
        lambda g, r, f: g.sub(mean(g, f), mean(g, r)),
        lambda g, r, f: g.neg(mean(g, f)),
        "D: mean f - mean r + weight mean (|grad D(e x + (1 - e) G(z))| - 1)^2, e uniform; G: -mean f",
        penalty=True,
    ),
    "hinge": Loss(
        lambda g, r, f: g.add(_hinge(g, r, -1.0), _hinge(g, f, 1.0)),
        lambda g, r, f: g.neg(mean(g, f)),
        "D: mean max(0, 1 - r) + mean max(0, 1 + f); G: -mean f",
    ),
    "relativistic": Loss(
        lambda g, r, f: _as_real(g, g.sub(r, f)),
        lambda g, r, f: _as_real(g, g.sub(f, r)),
        "D: mean softplus(f - r); G: mean softplus(r - f), sample by sample",
        logits=True,
    ),
    "relativistic-average": Loss(
        lambda g, r, f: _average(g, r, f),
        lambda g, r, f: _average(g, f, r),
        "D: (mean softplus(mean f - r) + mean softplus(f - mean r)) / 2; G: real and fake swapped",
        logits=True,
    ),
}
