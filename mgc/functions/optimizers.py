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

- adamw: as adam.

Five more numbers may follow the hyper-parameters: weight_decay, decay_from, decay_until, runs, average. Before all
else, where weight_decay is not 0, g := g + [weight_decay] * w; adamw instead: w := w * [1 - lr weight_decay]. Where
decay_until is above 0 the optimizer counts, i = floor((t - 1) / runs) is the iteration, and lr stands for
lr max(0, 1 - max(0, i - decay_from) / (decay_until - decay_from)).

Last, where a clipping bound lo, hi is finite: w' := min(max(w', [lo]), [hi]). Where average is above 0 there is one
more moment a: a' = [average] * a + [1 - average] * w'.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mgc.functions.algebra import Algebra
from mgc.functions.unary import ARRAYS

Array = np.ndarray
Hyper = tuple[float, ...]
Change = Callable[[Algebra, Any, Sequence[Any], Hyper, tuple[Any, Any]], tuple[Any, list[Any]]]
"""(algebra, g, moments, hyper-parameters, corrections) -> (w - w', new moments); corrections are [lr / (1 - beta1^t)]
and [(1 - beta2^t)^-0.5] of an optimizer that counts, for others they mean nothing.
"""

ITERATIONS = "iterations"
"""The state that counts the iterations done, where not all of them are alike."""


MORE = ("weight_decay", "decay_from", "decay_until", "runs", "average")
"""Names of the numbers that may follow an optimizer's own hyper-parameters."""


AVERAGE = "ema"
"""The moment that is a moving average of the weights."""


@dataclass(frozen=True)
class Optimizer:
    """One optimizer: its code in UPDATE, the names of its hyper-parameters in order, its moments and its rule.

    `kept(hyper)` names what it keeps for each weight, by its own hyper-parameters; `always_counts` says whether it
    needs the step's number whatever these are. `decoupled`: weights decay by themselves, not by way of the gradient.
    """

    code: int
    name: str
    hyper: tuple[str, ...]
    kept: Callable[[Hyper], tuple[str, ...]]
    always_counts: bool
    change: Change
    decoupled: bool = False

    def parted(self, hyper: Hyper) -> tuple[Hyper, Hyper]:
        """Its own hyper-parameters, and the numbers of `MORE`."""
        own = len(self.hyper)
        return hyper[:own], hyper[own:] or (0.0, 0.0, 0.0, 1.0, 0.0)

    def moments(self, hyper: Hyper) -> tuple[str, ...]:
        """The names of its moments, in order; a moving average of the weights is the last."""
        own, more = self.parted(hyper)
        return (*self.kept(own), *((AVERAGE,) if more[-1] > 0 else ()))

    def counts(self, hyper: Hyper) -> bool:
        """Whether it needs the step's number."""
        return self.always_counts or self.parted(hyper)[1][2] > 0


def _sgd(k: Algebra, g: Any, moments: Sequence[Any], hyper: Hyper, corrections: Any) -> tuple[Any, list[Any]]:
    (lr,) = hyper
    return k.mul(g, lr), []


def _momentum(k: Algebra, g: Any, moments: Sequence[Any], hyper: Hyper, corrections: Any) -> tuple[Any, list[Any]]:
    lr, momentum = hyper
    b = k.add(k.mul(moments[0], momentum), g)
    return k.mul(b, lr), [b]


def _adam(k: Algebra, g: Any, moments: Sequence[Any], hyper: Hyper, corrections: Any) -> tuple[Any, list[Any]]:
    _, beta1, beta2, eps = hyper
    m, v = moments
    m = k.add(k.mul(m, beta1), k.mul(g, 1 - beta1))
    v = k.add(k.mul(v, beta2), k.mul(k.mul(g, g), 1 - beta2))
    rate, root = corrections
    d = k.add(k.mul(k.unary("sqrt", v), root), eps)
    return k.mul(k.div(m, d), rate), [m, v]


def _rmsprop(k: Algebra, g: Any, moments: Sequence[Any], hyper: Hyper, corrections: Any) -> tuple[Any, list[Any]]:
    lr, alpha, eps, momentum, centered = hyper
    kept = list(moments)
    square = k.mul(k.mul(g, g), 1 - alpha)
    kept[0] = inner = k.add(k.mul(kept[0], alpha), square)
    if centered:
        kept[1] = a = k.add(k.mul(kept[1], alpha), k.mul(g, 1 - alpha))
        inner = k.sub(inner, k.mul(a, a))
    d = k.div(g, k.add(k.unary("sqrt", inner), eps))
    if momentum:
        kept[-1] = d = k.add(k.mul(kept[-1], momentum), d)
    return k.mul(d, lr), kept


def _rmsprop_moments(hyper: Hyper) -> tuple[str, ...]:
    momentum, centered = hyper[3:5]
    return ("v", *(("a",) if centered else ()), *(("b",) if momentum else ()))


OPTIMIZERS: dict[str, Optimizer] = {
    o.name: o
    for o in (
        Optimizer(0, "sgd", ("lr",), lambda h: (), False, _sgd),
        Optimizer(1, "momentum", ("lr", "momentum"), lambda h: ("b",), False, _momentum),
        Optimizer(2, "adam", ("lr", "beta1", "beta2", "eps"), lambda h: ("m", "v"), True, _adam),
        Optimizer(4, "adamw", ("lr", "beta1", "beta2", "eps"), lambda h: ("m", "v"), True, _adam, decoupled=True),
        Optimizer(3, "rmsprop", ("lr", "alpha", "eps", "momentum", "centered"), _rmsprop_moments, False, _rmsprop),
    )
}
"""Optimizers by name."""


def optimize(
    rule: Optimizer, hyper: Hyper, w: Array, g: Array, moments: Sequence[Array], step: float, clip: tuple[float, float]
) -> tuple[Array, list[Array]]:
    """(new weights, new moments) in w's type; nothing is changed in place. See the module's text."""
    real = w.dtype.type
    own, (decay, first, last, runs, average) = rule.parted(hyper)
    count = len(rule.kept(own))
    if last > 0:
        iteration = (step - 1) // runs
        own = (own[0] * max(0.0, 1 - max(0.0, iteration - first) / (last - first)), *own[1:])
    corrections = (None, None)
    if rule.always_counts:
        lr, beta1, beta2 = own[:3]
        corrections = real(lr / (1 - beta1**step)), real((1 - beta2**step) ** -0.5)
    with np.errstate(all="ignore"):
        if decay and rule.decoupled:
            w = w * real(1 - own[0] * decay)
        elif decay:
            g = g + real(decay) * w
        change, kept = rule.change(ARRAYS, g, moments[:count], own, corrections)
        new = w - change
        lo, hi = clip
        if math.isfinite(lo) or math.isfinite(hi):
            new = np.minimum(np.maximum(new, real(lo)), real(hi))
        if average:
            kept = [*kept, real(average) * moments[count] + real(1 - average) * new]
    return new, kept
