"""The optimizers of UPDATE, by PyTorch's definitions.

This is the normative text. w is the weight, g the gradient, t the number of the step (1 for the first); a dash marks a
new value. All are float32 and every operation is rounded once, in the order that the parentheses say; hyper-parameters
are rounded to float32 when they meet them. Where a factor is written in brackets [..], it is computed in float64 from
the hyper-parameters and t, then rounded once. With a weight decay other than 0, first g := g + decay * w.

- sgd (lr, weight_decay): w' = w - lr * g.
- momentum (lr, weight_decay, momentum, nesterov), moment b: b' = momentum * b + g; with nesterov (1, else 0)
  w' = w - lr * (g + momentum * b'), else w' = w - lr * b'.
- adam (lr, weight_decay, beta1, beta2, eps), moments m, v and the step t: m' = m + [1 - beta1] * (g - m);
  v' = beta2 * v + ([1 - beta2] * g) * g; d = sqrt(v') / [sqrt(1 - beta2^t)] + eps;
  w' = w - ([lr / (1 - beta1^t)] * m') / d.
- rmsprop (lr, weight_decay, alpha, eps, momentum, centered), moments v, then with centered (1, else 0) a, then with
  momentum > 0 b: v' = alpha * v + ([1 - alpha] * g) * g; a' = a + [1 - alpha] * (g - a);
  d = sqrt(v') + eps, with centered sqrt(v' - a' * a') + eps; without momentum w' = w - (lr * g) / d, with it
  b' = momentum * b + g / d and w' = w - lr * b'.

Last, where clipping bounds lo, hi are finite: w' := min(max(w', lo), hi).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from mgc.isa.error import ProgramError

Moments = list[np.ndarray]
Rule = Callable[[np.ndarray, np.ndarray, Sequence[np.ndarray], tuple[float, ...], int], tuple[np.ndarray, Moments]]


@dataclass(frozen=True)
class Optimizer:
    """One optimizer: its code in UPDATE, the names of its hyper-parameters in order, its moments and its rule.

    `moments(hyper)` names what it keeps for each weight; `counts` says whether it needs the step's number.
    """

    code: int
    name: str
    hyper: tuple[str, ...]
    moments: Callable[[tuple[float, ...]], tuple[str, ...]]
    counts: bool
    rule: Rule


_f = np.float32


def _decayed(w: np.ndarray, g: np.ndarray, decay: float) -> np.ndarray:
    return g + _f(decay) * w if decay else g


def _sgd(
    w: np.ndarray, g: np.ndarray, moments: Sequence[np.ndarray], hyper: tuple[float, ...], step: int
) -> tuple[np.ndarray, Moments]:
    lr, decay = hyper
    return w - _f(lr) * _decayed(w, g, decay), []


def _momentum(
    w: np.ndarray, g: np.ndarray, moments: Sequence[np.ndarray], hyper: tuple[float, ...], step: int
) -> tuple[np.ndarray, Moments]:
    lr, decay, momentum, nesterov = hyper
    g = _decayed(w, g, decay)
    b = _f(momentum) * moments[0] + g
    return w - _f(lr) * (g + _f(momentum) * b if nesterov else b), [b]


def _adam(
    w: np.ndarray, g: np.ndarray, moments: Sequence[np.ndarray], hyper: tuple[float, ...], step: int
) -> tuple[np.ndarray, Moments]:
    lr, decay, beta1, beta2, eps = hyper
    m, v = moments
    g = _decayed(w, g, decay)
    m = m + _f(1 - beta1) * (g - m)
    v = _f(beta2) * v + (_f(1 - beta2) * g) * g
    d = np.sqrt(v) / _f(math.sqrt(1 - beta2**step)) + _f(eps)
    return w - (_f(lr / (1 - beta1**step)) * m) / d, [m, v]


def _rmsprop(
    w: np.ndarray, g: np.ndarray, moments: Sequence[np.ndarray], hyper: tuple[float, ...], step: int
) -> tuple[np.ndarray, Moments]:
    lr, decay, alpha, eps, momentum, centered = hyper
    g = _decayed(w, g, decay)
    kept = list(moments)
    v = _f(alpha) * kept[0] + (_f(1 - alpha) * g) * g
    kept[0] = v
    square = v
    if centered:
        a = kept[1] + _f(1 - alpha) * (g - kept[1])
        kept[1] = a
        square = v - a * a
    d = np.sqrt(square) + _f(eps)
    if not momentum:
        return w - (_f(lr) * g) / d, kept
    kept[-1] = _f(momentum) * kept[-1] + g / d
    return w - _f(lr) * kept[-1], kept


def _rmsprop_moments(hyper: tuple[float, ...]) -> tuple[str, ...]:
    *_, momentum, centered = hyper
    return ("v", *(("a",) if centered else ()), *(("b",) if momentum else ()))


OPTIMIZERS: dict[int, Optimizer] = {
    o.code: o
    for o in (
        Optimizer(0, "sgd", ("lr", "weight_decay"), lambda h: (), False, _sgd),
        Optimizer(1, "momentum", ("lr", "weight_decay", "momentum", "nesterov"), lambda h: ("b",), False, _momentum),
        Optimizer(2, "adam", ("lr", "weight_decay", "beta1", "beta2", "eps"), lambda h: ("m", "v"), True, _adam),
        Optimizer(3, "rmsprop", ("lr", "weight_decay", "alpha", "eps", "momentum", "centered"), _rmsprop_moments,
                  False, _rmsprop),
    )
}  # fmt: skip
"""Code -> optimizer."""

OPTIMIZER_CODES: dict[str, int] = {o.name: o.code for o in OPTIMIZERS.values()}
"""Name -> code."""


def optimizer(code: int, hyper: tuple[float, ...]) -> Optimizer:
    """The optimizer of a code. Raises ProgramError for an unknown one, or hyper-parameters that it does not take."""
    if code not in OPTIMIZERS:
        known = ", ".join(f"{o.code} ({o.name})" for o in OPTIMIZERS.values())
        raise ProgramError(f"optimizer {code} is unknown; there are {known}")
    found = OPTIMIZERS[code]
    if len(hyper) != len(found.hyper):
        raise ProgramError(f"{found.name} takes ({', '.join(found.hyper)}), not {len(hyper)} values")
    for name, value in zip(found.hyper, hyper, strict=True):
        fine = value in (0, 1) if name in ("nesterov", "centered") else math.isfinite(value) and value >= 0
        if not fine or (name in ("momentum", "alpha", "beta1", "beta2") and value >= 1):
            raise ProgramError(f"{found.name}: {name} is {value}, which is outside its range")
    return found


def optimize(
    code: int,
    hyper: tuple[float, ...],
    weights: np.ndarray,
    gradient: np.ndarray,
    moments: Sequence[np.ndarray],
    step: int,
    clip: tuple[float, float],
) -> tuple[np.ndarray, Moments]:
    """(new weights, new moments), float32; nothing is changed in place. See the module's text."""
    with np.errstate(all="ignore"):
        new, kept = OPTIMIZERS[code].rule(weights, gradient, moments, hyper, step)
        lo, hi = clip
        if math.isfinite(lo) or math.isfinite(hi):
            new = np.minimum(np.maximum(new, _f(lo)), _f(hi))
    return new, kept


def in_steps(weights: np.ndarray, scale: float, weight_bits: int) -> np.ndarray:
    """Real weights as whole steps of `scale`: int32 clip(rint(w / scale)) in float64, within +-(2^(Bw-1) - 1)."""
    most = (1 << (weight_bits - 1)) - 1
    return np.clip(np.rint(weights.astype(np.float64) / scale), -most, most).astype(np.int32)


def in_reals(steps: np.ndarray, scale: float) -> np.ndarray:
    """The real weights, float32, that whole steps stand for: the product in float64, rounded once."""
    return (steps.astype(np.float64) * scale).astype(np.float32)
