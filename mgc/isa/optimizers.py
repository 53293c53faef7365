"""The optimizers of UPDATE, by PyTorch's definitions.

This is the normative text. w is the weight, g the gradient, t the number of the step (1 for the first); a dash marks a
new value. All are float32 and every operation is rounded once, in the order that the parentheses say. A number in
brackets [..] is computed in float64 from the hyper-parameters and t, then rounded once to float32.

- sgd (lr): w' = w - [lr] * g.
- momentum (lr, momentum), moment b: b' = [momentum] * b + g; w' = w - [lr] * b'.
- adam (lr, beta1, beta2, eps), moments m, v, and the step t: m' = [beta1] * m + [1 - beta1] * g;
  v' = [beta2] * v + [1 - beta2] * (g * g); d = sqrt(v') * [(1 - beta2^t)^-0.5] + [eps];
  w' = w - [lr / (1 - beta1^t)] * (m' / d).
- rmsprop (lr, alpha, eps, momentum, centered), moments v, then a if centered (1, else 0), then b if momentum > 0:
  v' = [alpha] * v + [1 - alpha] * (g * g); a' = [alpha] * a + [1 - alpha] * g;
  d = g / (sqrt(v') + [eps]), centered g / (sqrt(v' - a' * a') + [eps]); b' = [momentum] * b + d;
  w' = w - [lr] * d, with momentum w - [lr] * b'.

Last, where a clipping bound lo, hi is finite: w' := min(max(w', [lo]), [hi]).
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


def _sgd(
    w: np.ndarray, g: np.ndarray, moments: Sequence[np.ndarray], hyper: tuple[float, ...], step: int
) -> tuple[np.ndarray, Moments]:
    (lr,) = hyper
    return w - _f(lr) * g, []


def _momentum(
    w: np.ndarray, g: np.ndarray, moments: Sequence[np.ndarray], hyper: tuple[float, ...], step: int
) -> tuple[np.ndarray, Moments]:
    lr, momentum = hyper
    b = _f(momentum) * moments[0] + g
    return w - _f(lr) * b, [b]


def _adam(
    w: np.ndarray, g: np.ndarray, moments: Sequence[np.ndarray], hyper: tuple[float, ...], step: int
) -> tuple[np.ndarray, Moments]:
    lr, beta1, beta2, eps = hyper
    m, v = moments
    m = _f(beta1) * m + _f(1 - beta1) * g
    v = _f(beta2) * v + _f(1 - beta2) * (g * g)
    d = np.sqrt(v) * _f((1 - beta2**step) ** -0.5) + _f(eps)
    return w - _f(lr / (1 - beta1**step)) * (m / d), [m, v]


def _rmsprop(
    w: np.ndarray, g: np.ndarray, moments: Sequence[np.ndarray], hyper: tuple[float, ...], step: int
) -> tuple[np.ndarray, Moments]:
    lr, alpha, eps, momentum, centered = hyper
    kept = list(moments)
    kept[0] = square = _f(alpha) * kept[0] + _f(1 - alpha) * (g * g)
    if centered:
        kept[1] = a = _f(alpha) * kept[1] + _f(1 - alpha) * g
        square = square - a * a
    d = g / (np.sqrt(square) + _f(eps))
    if momentum:
        kept[-1] = d = _f(momentum) * kept[-1] + d
    return w - _f(lr) * d, kept


def _rmsprop_moments(hyper: tuple[float, ...]) -> tuple[str, ...]:
    *_, momentum, centered = hyper
    return ("v", *(("a",) if centered else ()), *(("b",) if momentum else ()))


OPTIMIZERS: dict[int, Optimizer] = {
    o.code: o
    for o in (
        Optimizer(0, "sgd", ("lr",), lambda h: (), False, _sgd),
        Optimizer(1, "momentum", ("lr", "momentum"), lambda h: ("b",), False, _momentum),
        Optimizer(2, "adam", ("lr", "beta1", "beta2", "eps"), lambda h: ("m", "v"), True, _adam),
        Optimizer(3, "rmsprop", ("lr", "alpha", "eps", "momentum", "centered"), _rmsprop_moments, False, _rmsprop),
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
        fine = value in (0, 1) if name == "centered" else math.isfinite(value) and value >= 0
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
