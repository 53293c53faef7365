"""A branch of a loss, as analysed: what becomes one diff-block."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from mgc.functions.losses import LOSSES
from mgc.ir.graph import Value
from mgc.ir.ops import LossTable
from mgc.passes.losses.forms import Form, snap

_LOGISTIC = ("cross-entropy", "minimax", "wasserstein")
_SPANNED = (*_LOGISTIC, "least-squares")
"""Functions whose sums with other weights and targets are such functions."""


@dataclass(frozen=True)
class RuntimeTarget:
    """A target alpha * value + beta that comes at run time."""

    value: Value
    alpha: float
    beta: float


@dataclass(frozen=True)
class Branch:
    """scale * sum_i f(u_i), f = `form` (its weight not applied: it is in `scale`) or `table`.

    a, b: the score operands, u as `mgc.ir.ops.DiffBlock` has it by `pairing`. `target`: one that is not the form's
    number: an array with an entry for each element of a, or one that comes at run time. mean: `scale` came from a mean
    over a. guarded: the formula as written had limits that keep its logarithm finite, which are left out.
    """

    form: Form
    scale: float
    mean: bool
    a: Value
    b: Value | None = None
    pairing: str = "single"
    target: np.ndarray | RuntimeTarget | None = None
    table: LossTable | None = None
    guarded: bool = False

    @property
    def kind(self) -> str:
        """As `DiffBlock.kind`."""
        return {"pair": "relativistic", "average": "relativistic-average"}.get(self.pairing, self.form.function)


def merge(branches: list[Branch]) -> tuple[list[Branch], float]:
    """Branches on the same scores as one where their sum is a known form; and the constant that is left over."""
    groups: dict[object, list[Branch]] = {}
    for i, branch in enumerate(branches):
        groups.setdefault(_family(branch) or i, []).append(branch)
    result: list[Branch] = []
    left = 0.0
    for group in groups.values():
        if len(group) == 1:
            result += group
            continue
        sum_, constant = _sum(group)
        result += sum_
        left += constant
    return result, left


def _family(branch: Branch) -> object:
    """What branches have in common that can be one; None for a branch that stays as it is."""
    form = branch.form
    if isinstance(branch.target, np.ndarray):
        return None
    if branch.table is not None or branch.target is not None:
        return branch.a, branch.b, branch.pairing, form, branch.target, branch.table
    kind = "logistic" if form.function in _LOGISTIC else form.function if form.function == "least-squares" else form
    return branch.a, branch.b, branch.pairing, kind


def _sum(group: list[Branch]) -> tuple[list[Branch], float]:
    first = group[0]
    mean = any(b.mean for b in group)
    guarded = any(b.guarded for b in group)
    scale = snap(sum(b.scale for b in group))

    def of(form: Form, scale: float) -> list[Branch]:
        return [replace(first, form=form, scale=scale, mean=mean, guarded=guarded)] if scale else []

    if first.form.function not in _SPANNED or first.table is not None or first.target is not None:
        return of(first.form, scale), 0.0
    if first.form.function == "least-squares":
        if scale == 0:
            return group, 0.0
        weights, targets = [b.scale for b in group], [_number(b) for b in group]
        target = sum(w * t for w, t in zip(weights, targets, strict=True)) / scale
        constant = sum(w * t * t for w, t in zip(weights, targets, strict=True)) - scale * target * target
        return of(replace(first.form, target=snap(target)), scale), constant * first.a.tensor.size
    soft = linear = 0.0
    for branch in group:
        sign = LOSSES[branch.form.function].logistic
        soft += sign * branch.scale
        linear += branch.scale if sign == 0 else -sign * _number(branch) * branch.scale
    if abs(soft) <= 1e-12 * max(abs(b.scale) for b in group):
        return of(Form("wasserstein", 1.0), snap(linear)), 0.0
    target = snap(-linear / soft)
    rest: list[Branch] = []
    if not -0.5 <= target <= 1.5:
        rest, target = of(Form("wasserstein", 1.0), snap(linear)), 0.0
    function = "cross-entropy" if soft > 0 else "minimax"
    return of(Form(function, 1.0, target), snap(abs(soft))) + rest, 0.0


def _number(branch: Branch) -> float:
    assert isinstance(branch.form.target, float)  # arrays stand in `target`
    return branch.form.target
