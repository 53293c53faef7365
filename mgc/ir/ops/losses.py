"""The element-wise loss functions f(u) of a diff-block, each with f' and f'', in NumPy and as level-1 ops.

u is a score (or a difference of scores), t the target. All are exact and stable for any finite u: the exponential is
taken of -|u| only, and what cancels is never formed (for t = 1, softplus(u) - u is computed as softplus(-u)).

| name          | f(u)                 | f'(u)          | f''(u)      |
|---------------|----------------------|----------------|-------------|
| cross-entropy | softplus(u) - t u    | sigmoid(u) - t | s (1 - s)   |
| minimax       | t u - softplus(u)    | t - sigmoid(u) | -s (1 - s)  |
| least-squares | (u - t)^2            | 2 (u - t)      | 2           |
| wasserstein   | u                    | 1              | 0           |
| hinge         | max(0, sign (u - t)) | sign [f > 0]   | 0           |

cross-entropy is PyTorch's binary_cross_entropy_with_logits; minimax at t = 0 is the saturating log(1 - sigmoid(u)).
A hinge is flat at its corner, as relu is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mgc.ir.graph import Value

if TYPE_CHECKING:
    from mgc.ir.build import Build

Array = np.ndarray
Target = Array | float


@dataclass(frozen=True)
class LossFunction:
    """One function. `value` and `slope` take (u, t, sign) in float64; the `_ops` add the same to a graph.

    `curvature_ops` gives None where f'' is zero everywhere. `mixed` is the derivative of f' by t; `by_target_ops`
    gives the derivative of f by t. None for a function that has no target.
    """

    value: Callable[[Array, Target, int], Array]
    slope: Callable[[Array, Target, int], Array]
    value_ops: Callable[[Build, Value, Value | float, int], Value]
    slope_ops: Callable[[Build, Value, Value | float, int], Value]
    curvature_ops: Callable[[Build, Value], Value | None]
    mixed: float | None
    by_target_ops: Callable[[Build, Value, Value | float, int], Value] | None


def _cross_entropy(u: Array, t: Target, sign: int) -> Array:
    return np.where(u >= 0, (1 - t) * u, -t * u) + np.log1p(np.exp(-np.abs(u)))


def _cross_entropy_slope(u: Array, t: Target, sign: int) -> Array:
    e = np.exp(-np.abs(u))
    far = e / (1 + e)  # the smaller of sigmoid(u) and sigmoid(-u)
    return np.where(u >= 0, (1 - t) - far, far - t)


def _hinge(u: Array, t: Target, sign: int) -> Array:
    return np.maximum(sign * (u - t), 0)


def _hinge_slope(u: Array, t: Target, sign: int) -> Array:
    return np.where(sign * (u - t) > 0, float(sign), 0.0)


# -- as level-1 ops ------------------------------------------------------------------------------------------------


def _one_less(g: Build, t: Value | float, like: Value) -> Value | float:
    return g.sub(g.number(1.0, like), t) if isinstance(t, Value) else 1 - t


def _decay(g: Build, u: Value) -> Value:
    """exp(-|u|)."""
    return g.unary("exp", g.neg(g.unary("abs", u)))


def _not_negative(g: Build, u: Value) -> Value:
    return g.binary("greater_or_equal", u, 0.0)


def _log1p(g: Build, e: Value) -> Value:
    """log(1 + e) to full relative accuracy for small e, where ONNX has no log1p: Kahan's log(w) e / (w - 1)."""
    w = g.add(e, 1.0)
    lost = g.binary("equal", w, 1.0)
    rest = g.where(lost, g.number(1.0, e), g.sub(w, 1.0))
    return g.where(lost, e, g.mul(g.unary("log", w), g.div(e, rest)))


def _cross_entropy_ops(g: Build, u: Value, t: Value | float, sign: int) -> Value:
    less = g.neg(t) if isinstance(t, Value) else -t
    linear = g.where(_not_negative(g, u), g.binary("mul", u, _one_less(g, t, u)), g.binary("mul", u, less))
    return g.add(linear, _log1p(g, _decay(g, u)))


def _cross_entropy_slope_ops(g: Build, u: Value, t: Value | float, sign: int) -> Value:
    e = _decay(g, u)
    far = g.div(e, g.add(e, 1.0))
    one_less = _one_less(g, t, u)
    above = g.sub(one_less if isinstance(one_less, Value) else g.number(one_less, u), far)
    return g.where(_not_negative(g, u), above, g.sub(far, t))


def _cross_entropy_curvature_ops(g: Build, u: Value) -> Value:
    e = _decay(g, u)
    w = g.add(e, 1.0)
    return g.div(e, g.mul(w, w))


def _hinge_reach(g: Build, u: Value, t: Value | float, sign: int) -> Value:
    reach = g.sub(u, t)
    return reach if sign > 0 else g.neg(reach)


def _hinge_slope_ops(g: Build, u: Value, t: Value | float, sign: int) -> Value:
    inside = g.binary("greater", _hinge_reach(g, u, t, sign), 0.0)
    return g.where(inside, g.full(float(sign), u), g.full(0.0, u))


FUNCTIONS: dict[str, LossFunction] = {
    "cross-entropy": LossFunction(
        _cross_entropy,
        _cross_entropy_slope,
        _cross_entropy_ops,
        _cross_entropy_slope_ops,
        _cross_entropy_curvature_ops,
        -1.0,
        lambda g, u, t, sign: g.neg(u),
    ),
    "minimax": LossFunction(
        lambda u, t, sign: -_cross_entropy(u, t, sign),
        lambda u, t, sign: -_cross_entropy_slope(u, t, sign),
        lambda g, u, t, sign: g.neg(_cross_entropy_ops(g, u, t, sign)),
        lambda g, u, t, sign: g.neg(_cross_entropy_slope_ops(g, u, t, sign)),
        lambda g, u: g.neg(_cross_entropy_curvature_ops(g, u)),
        1.0,
        lambda g, u, t, sign: u,
    ),
    "least-squares": LossFunction(
        lambda u, t, sign: (u - t) * (u - t),
        lambda u, t, sign: 2 * (u - t),
        lambda g, u, t, sign: (lambda d: g.mul(d, d))(g.sub(u, t)),
        lambda g, u, t, sign: g.mul(g.sub(u, t), 2.0),
        lambda g, u: g.full(2.0, u),
        -2.0,
        lambda g, u, t, sign: g.mul(g.sub(u, t), -2.0),
    ),
    "wasserstein": LossFunction(
        lambda u, t, sign: u,
        lambda u, t, sign: np.ones_like(u),
        lambda g, u, t, sign: u,
        lambda g, u, t, sign: g.full(1.0, u),
        lambda g, u: None,
        None,
        None,
    ),
    "hinge": LossFunction(
        _hinge,
        _hinge_slope,
        lambda g, u, t, sign: g.unary("relu", _hinge_reach(g, u, t, sign)),
        _hinge_slope_ops,
        lambda g, u: None,
        0.0,
        lambda g, u, t, sign: g.neg(_hinge_slope_ops(g, u, t, sign)),
    ),
}
