"""Recognising a loss function by its values: fitted against the known forms on a grid, and checked far out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from mgc.functions.losses import LOSSES, Fit
from mgc.functions.unary import softplus

Array = np.ndarray
Function = Callable[[Array], Array]
"""Values [points, K] of K functions (one for each kind of element) on points [points, 1]; NaN and inf are allowed."""

# Up to 16 even the formulas that exporters write (log(1 - sigmoid(u)) in float64) are right to 1e-9. Besides round
# numbers, where corners are, there are points of no regular distance, so that no period can hide.
_IRREGULAR = 16 * (np.arange(96) * 0.6180339887498949 % 1) - 8
NEAR = np.unique(np.concatenate([np.linspace(-8, 8, 161), np.linspace(-16, 16, 65), _IRREGULAR]))
_DISTANCES = np.array([20, 24, 30, 36, 50, 64, 100, 200, 500, 1e3, 3e3, 1e4])
FAR_POINTS = np.concatenate([-_DISTANCES[::-1], _DISTANCES])

_FIT = 1e-7
"""How closely a form must fit near zero, relative to how much the function varies there."""
_FAR_FIT = 0.05
"""The same far out, where the formulas as written lose digits before they overflow."""


@dataclass(frozen=True)
class Form:
    """weight * function(u, target): a name and the parameters of `mgc.functions.losses`.

    `target` is an array [K] where it differs between the elements.
    """

    function: str
    weight: float
    target: float | Array = 0.0
    sign: int = 1


@dataclass(frozen=True)
class Match:
    """f(u) = sum of forms + constant; `constant` is [K]. No forms: f does not depend on u."""

    forms: tuple[Form, ...]
    constant: Array


def recognise(f: Function) -> Match | None:
    """The known forms that f is made of, or None. Also None where the weights differ from element to element."""
    near = f(NEAR[:, None])
    if not np.isfinite(near).all():
        return None
    return _spanned(f, near) or _fitted(f, near)


def snap(x: float) -> float:
    """x without the rounding error of a fit: the short decimal that a float32, or 12 digits, of it stand for."""
    single = float(np.float32(x))
    if abs(x - single) <= 1e-11 * max(1.0, abs(x)):
        return float(str(np.float32(x)))
    short = float(f"{x:.11e}")
    return short if abs(x - short) <= 1e-11 * abs(x) else x


# -- sums of 1, u, softplus(u), u^2 --------------------------------------------------------------------------------


def _basis(u: Array) -> Array:
    return np.stack([np.ones_like(u), u, softplus(u), u * u], axis=1)


def _spanned(f: Function, near: Array) -> Match | None:
    spread = np.maximum(np.ptp(near, axis=0), 1e-30)
    basis = _basis(NEAR)
    used = [0, 1, 2, 3]
    # refitted without what turned out to be nothing, the rest comes out exact
    for _ in range(2):
        found = np.linalg.lstsq(basis[:, used], near, rcond=None)[0]
        part = np.abs(found) * np.ptp(basis[:, used], axis=0)[:, None] > _FIT * spread
        used = [k for k, needed in zip(used, part.any(axis=1), strict=True) if needed or k == 0]
    coefficients = np.zeros((4, near.shape[1]))
    # formulas as written have all their digits only around zero
    inner = np.abs(NEAR) <= 6
    coefficients[used] = np.linalg.lstsq(basis[inner][:, used], near[inner], rcond=None)[0]
    if (np.abs(basis @ coefficients - near) > _FIT * spread).any() or not _fits_far_out(f, coefficients, spread):
        return None
    constant, linear, soft, square = coefficients
    forms: list[Form] = []
    if 2 in used:
        if (weight := _common(soft)) is None:
            return None
        forms.append(_logistic(weight, -linear / weight))
        if isinstance(forms[0].target, float) and not -0.5 <= forms[0].target <= 1.5:
            forms[0] = replace(forms[0], target=0.0)
            forms.append(Form("wasserstein", snap(float(linear[0]))))
        linear = np.zeros_like(linear)
    if 3 in used:
        if (weight := _common(square)) is None:
            return None
        target = -linear / (2 * weight)
        forms.append(Form("least-squares", weight, _target(target)))
        constant = constant - weight * target * target
    elif 1 in used and 2 not in used:
        if (weight := _common(linear)) is None:
            return None
        forms.append(Form("wasserstein", weight))
    return Match(tuple(forms), _rounded(constant, spread))


def _fits_far_out(f: Function, coefficients: Array, spread: Array) -> bool:
    values, expected = f(FAR_POINTS[:, None]), _basis(FAR_POINTS) @ coefficients
    values = np.broadcast_to(values, expected.shape)
    finite = np.isfinite(values)
    error = np.abs(np.where(finite, values, 0) - np.where(finite, expected, 0))
    return bool((error <= _FAR_FIT * np.abs(expected) + 1e-3 * spread).all())


def _logistic(weight: float, target: Array) -> Form:
    """weight * (softplus(u) - t u) as cross-entropy, or as minimax where the weight is negative."""
    return Form("cross-entropy" if weight > 0 else "minimax", abs(weight), _target(target))


def _common(values: Array) -> float | None:
    """The one value that all have, up to the error of a fit."""
    least, most = float(values.min()), float(values.max())
    return snap((least + most) / 2) if most - least <= 1e-9 * max(abs(least), abs(most)) else None


def _target(values: Array) -> float | Array:
    values = np.array([snap(t) if abs(t) > 1e-9 else 0.0 for t in values])
    return float(values[0]) if np.ptp(values) == 0 else values


def _rounded(constant: Array, spread: Array) -> Array:
    """The constant, 0 where it is only the error of a fit."""
    return np.where(np.abs(constant) <= 1e-9 * np.maximum(1, spread), 0.0, constant)


# -- functions with a fit of their own -------------------------------------------------------------------------------


def _fitted(f: Function, near: Array) -> Match | None:
    u = np.concatenate([FAR_POINTS[FAR_POINTS < 0], NEAR, FAR_POINTS[FAR_POINTS > 0]])
    values = np.broadcast_to(f(u[:, None]), (len(u), near.shape[1]))
    if not np.isfinite(values).all():
        return None
    for loss in LOSSES.values():
        if loss.fit is not None and (match := _alike(loss.name, loss.fit, u, values)) is not None:
            return match
    return None


def _alike(name: str, fit: Callable[[Array, Array, float], Fit | None], u: Array, values: Array) -> Match | None:
    """One form for all columns, which may differ in target and constant."""
    found: dict[bytes, Fit | None] = {}
    columns: list[Fit] = []
    for column in values.T:
        key = column.tobytes()
        if key not in found:
            found[key] = fit(u, column, _FIT)
        one = found[key]
        if one is None:
            return None
        columns.append(one)
    weights, signs = {snap(weight) for weight, *_ in columns}, {sign for _, _, sign, _ in columns}
    if len(weights) > 1 or len(signs) > 1:
        return None
    weight = weights.pop()
    target = _target(np.array([corner for _, corner, _, _ in columns]))
    constant = np.array([c if abs(c) > 1e-9 * max(abs(weight), 1.0) else 0.0 for *_, c in columns])
    return Match((Form(name, weight, target, signs.pop()),), constant)


def with_targets(f: Callable[[Array, float], Array]) -> tuple[Form, float, float] | None:
    """The form of f(u, t) for a target t that comes at run time: (form, alpha, beta), its target alpha t + beta."""
    at = (0.0, 0.25, 0.5, 0.75, 1.0)
    matches = [recognise(lambda u, t=t: f(u, t)) for t in at]
    forms: list[Form] = []
    for match in matches:
        if match is None or len(match.forms) != 1 or match.constant.any():
            return None
        forms.append(match.forms[0])
    first = forms[0]
    if LOSSES[first.function].by_target is None or any(not isinstance(form.target, float) for form in forms):
        return None
    if any((form.function, form.weight, form.sign) != (first.function, first.weight, first.sign) for form in forms):
        return None
    targets = np.array([form.target for form in forms], np.float64)
    beta, alpha = float(targets[0]), float(targets[-1] - targets[0])
    if alpha == 0 or np.abs(targets - (alpha * np.array(at) + beta)).max() > 1e-7:
        return None
    return first, snap(alpha), snap(beta)
