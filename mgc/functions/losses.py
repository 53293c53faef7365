"""The element-wise loss functions f(u) of a diff-block: one entry a function.

u is a score (or a difference of scores), t the target. Formulas are exact and stable for any finite u: the exponential
is taken of -|u| only, and what cancels is never formed (for t = 1, softplus(u) - u is computed as softplus(-u)).
cross-entropy is PyTorch's binary_cross_entropy_with_logits; minimax at t = 0 is the saturating log(1 - sigmoid(u)). A
hinge is flat at its corner, as relu is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from mgc.functions.algebra import Algebra
from mgc.functions.unary import ARRAYS

Array = np.ndarray
Loss = Callable[[Algebra, Any, Any, int], Any]
"""(algebra, u, target, sign) -> values; the target is a plain number or a value of the algebra."""
Fit = tuple[float, float, int, float]
"""weight, target, sign and constant of weight * f(u, target, sign) + constant."""


@dataclass(frozen=True)
class LossFunction:
    """One function: its code in DIFF, the formulas of f and f' in words, then as such, and what recognises it.

    `curvature` is f'', None where that is zero everywhere. `mixed` is the derivative of f' by the target, `by_target`
    that of f; None for a function that has no target. logistic: 1 or -1 for plus or minus (softplus(u) - t u), which a
    chip computes from tables of softplus and sigmoid. opposite: the function that it is with the sign changed.
    of_probabilities: whether it is meant for what a sigmoid gives, too. `fit(u, values, tolerance)` recognises a
    function by its values on ascending points; None for sums of 1, u, softplus(u) and u^2, which are fitted together.
    """

    code: int
    name: str
    value_text: str
    slope_text: str
    value: Loss
    slope: Loss
    curvature: Callable[[Algebra, Any], Any]
    mixed: float | None = None
    by_target: Loss | None = None
    logistic: int = 0
    opposite: str = ""
    of_probabilities: bool = False
    fit: Callable[[Array, Array, float], Fit | None] | None = None

    def on_arrays(self, u: Array, t: Any, sign: int) -> tuple[Array, Array]:
        """f(u) and f'(u) in u's precision."""
        return self.value(ARRAYS, u, t, sign), self.slope(ARRAYS, u, t, sign)


def _is_number(t: Any) -> bool:
    return isinstance(t, int | float | np.number)


def _one_less(k: Algebra, t: Any, u: Any) -> Any:
    """1 - t, a plain number if t is one."""
    return 1 - t if _is_number(t) else k.sub(k.number(1.0, u), t)


def _decay(k: Algebra, u: Any) -> Any:
    """exp(-|u|)."""
    return k.unary("exp", k.neg(k.unary("abs", u)))


def _not_negative(k: Algebra, u: Any) -> Any:
    return k.binary("greater_or_equal", u, 0.0)


def _cross_entropy(k: Algebra, u: Any, t: Any, sign: int) -> Any:
    less = -t if _is_number(t) else k.neg(t)
    linear = k.where(_not_negative(k, u), k.mul(u, _one_less(k, t, u)), k.mul(u, less))
    return k.add(linear, k.log1p(_decay(k, u)))


def _cross_entropy_slope(k: Algebra, u: Any, t: Any, sign: int) -> Any:
    e = _decay(k, u)
    far = k.div(e, k.add(e, 1.0))  # the smaller of sigmoid(u) and sigmoid(-u)
    less = _one_less(k, t, u)
    above = k.sub(k.number(less, u) if _is_number(less) else less, far)
    return k.where(_not_negative(k, u), above, k.sub(far, t))


def _cross_entropy_curvature(k: Algebra, u: Any) -> Any:
    e = _decay(k, u)
    w = k.add(e, 1.0)
    return k.div(e, k.mul(w, w))


def _square(k: Algebra, u: Any, t: Any, sign: int) -> Any:
    off = k.sub(u, t)
    return k.mul(off, off)


def _reach(k: Algebra, u: Any, t: Any, sign: int) -> Any:
    reach = k.sub(u, t)
    return reach if sign > 0 else k.neg(reach)


def _hinge_slope(k: Algebra, u: Any, t: Any, sign: int) -> Any:
    return k.where(k.binary("greater", _reach(k, u, t, sign), 0.0), k.full(float(sign), u), k.full(0.0, u))


def _fit_hinge(u: Array, v: Array, tolerance: float) -> Fit | None:
    """Two straight pieces, one of them level."""
    slopes = np.diff(v) / np.diff(u)
    left, right = slopes[0], slopes[-1]
    near = tolerance * max(abs(left), abs(right))
    if abs(left - right) <= near or min(abs(left), abs(right)) > near:
        return None
    turn = int(np.argmax(np.abs(slopes - left) > near))  # the first piece that is not the left one
    if (np.abs(slopes[turn + 1 :] - right) > near).any():
        return None
    # both lines start from values near the corner, which keeps the digits of where they meet
    corner = (v[turn + 1] - v[turn] + left * u[turn] - right * u[turn + 1]) / (left - right)
    if not u[turn] - 1e-9 <= corner <= u[turn + 1] + 1e-9:
        return None
    sign, weight = (1, right) if abs(left) <= near else (-1, -left)
    return float(weight), float(corner), sign, float(v[turn] if sign > 0 else v[turn + 1])


LOSSES: dict[str, LossFunction] = {f.name: f for f in (
    LossFunction(
        1, "cross-entropy", "softplus(u) - t u", "sigmoid(u) - t", _cross_entropy, _cross_entropy_slope,
        _cross_entropy_curvature, -1.0, lambda k, u, t, sign: k.neg(u), logistic=1, opposite="minimax",
    ),
    LossFunction(
        2, "minimax", "t u - softplus(u)", "t - sigmoid(u)",
        lambda k, u, t, sign: k.neg(_cross_entropy(k, u, t, sign)),
        lambda k, u, t, sign: k.neg(_cross_entropy_slope(k, u, t, sign)),
        lambda k, u: k.neg(_cross_entropy_curvature(k, u)), 1.0, lambda k, u, t, sign: u, logistic=-1,
        opposite="cross-entropy",
    ),
    LossFunction(
        3, "least-squares", "(u - t)^2", "2 (u - t)", _square, lambda k, u, t, sign: k.mul(k.sub(u, t), 2.0),
        lambda k, u: k.full(2.0, u), -2.0, lambda k, u, t, sign: k.mul(k.sub(u, t), -2.0), of_probabilities=True,
    ),
    LossFunction(
        4, "wasserstein", "u", "1", lambda k, u, t, sign: u, lambda k, u, t, sign: k.full(1.0, u), lambda k, u: None,
    ),
    LossFunction(
        5, "hinge", "max(0, sign (u - t))", "sign where sign (u - t) > 0, else 0",
        lambda k, u, t, sign: k.unary("relu", _reach(k, u, t, sign)), _hinge_slope, lambda k, u: None, 0.0,
        lambda k, u, t, sign: k.neg(_hinge_slope(k, u, t, sign)), of_probabilities=True, fit=_fit_hinge,
    ),
)}  # fmt: skip
"""Loss functions by name."""

TABULATED = "tabulated"
"""The function that a table gives; code 6."""

LOSS_CODES: dict[str, int] = {name: f.code for name, f in LOSSES.items()} | {TABULATED: 6}
"""Name -> code in DIFF."""

PAIRINGS: tuple[str, ...] = ("single", "pair", "average")
"""What u is, by code: a; a - b; a - mean(b)."""


def text() -> str:
    """The functions as an indented table."""
    rows = [(f.name, f.value_text, f.slope_text) for f in LOSSES.values()]
    rows.append((TABULATED, "f(u)", "f'(u), both by table"))
    return "\n".join(f"    {name:<15} {value:<24} {slope}" for name, value, slope in rows)


def exact_segment(table: Array, u: Array) -> tuple[Array, Array]:
    """f(u) and f'(u) by an exact table, float64 [segments, 5]: a segment's left end, then value and slope there of f,
    then of f'.
    """
    at = np.clip(np.searchsorted(table[:, 0], u, side="right") - 1, 0, len(table) - 1)
    left, value, slope, by_value, by_slope = np.moveaxis(table[at], -1, 0)
    return value + slope * (u - left), by_value + by_slope * (u - left)


def branch(
    f: Callable[[Array], tuple[Array, Array]], pairing: str, scale: float, a: Array, b: Array | None, real: np.dtype
) -> tuple[float, Array, Array | None]:
    """(loss, delta of a, delta of b if there is one) of scores in row-major order, with f giving f(u) and f'(u).

    Elements are computed in type `real`, sums in float64.
    """
    x = np.ascontiguousarray(a, real).reshape(-1)
    second = None if b is None else np.ascontiguousarray(b, real).reshape(-1)
    u = x
    if second is not None:
        u = x - (second if pairing == "pair" else real.type(_sum(second) / second.size))
    value, slope = f(u)
    loss, delta = scale * _sum(value), real.type(scale) * slope
    if b is None or second is None:
        return loss, delta.reshape(a.shape), None
    other = -delta if pairing == "pair" else np.full(second.size, -(scale * _sum(slope)) / second.size)
    return loss, delta.reshape(a.shape), other.reshape(b.shape)


def _sum(x: Array) -> np.float64:
    """In float64, over a contiguous vector, in NumPy's pairwise order."""
    return np.add.reduce(x.astype(np.float64))
