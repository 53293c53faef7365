"""An optimizer's update as plain ops; nothing is differentiated through it."""

from __future__ import annotations

from typing import Any

from mgc.functions.optimizers import OPTIMIZERS
from mgc.ir.build import Build
from mgc.ir.gradients.rules import Values, decomposition
from mgc.ir.graph import Value
from mgc.ir.ops.update import Update
from mgc.ir.types import DType


@decomposition(Update)
def update(g: Build, op: Update, inputs: Values) -> Values:
    """The rule's formulas; the corrections of a rule that counts in float64."""
    w, gradient, *rest = inputs
    count, dtype = len(op.rule.kept), w.tensor.dtype
    t = rest[-1] if op.rule.counts else w  # read by those only that count
    entry = OPTIMIZERS[op.rule.optimizer]
    own, (decay, first, last, runs, average) = entry.parted(op.rule.hyper)
    rate: Any = own[0]
    if last > 0:
        iteration = g.unary("floor", g.mul(g.sub(g.cast(t, DType.F64), 1.0), 1 / runs))
        done = g.mul(g.binary("max", g.sub(iteration, first), 0.0), 1 / (last - first))
        rate = g.mul(g.binary("max", g.sub(g.number(1.0, DType.F64), done), 0.0), own[0])
    corrections = (None, None)
    if entry.always_counts:
        _, beta1, beta2 = own[:3]
        corrected = g.mul(g.unary("reciprocal", _rest(g, beta1, t)), rate)
        root = g.unary("reciprocal", g.unary("sqrt", _rest(g, beta2, t)))
        corrections = g.cast(corrected, dtype), g.cast(root, dtype)
    if decay and entry.decoupled:
        shrink: Any = 1 - own[0] * decay
        if last > 0:
            shrink = g.cast(g.sub(g.number(1.0, DType.F64), g.mul(rate, decay)), dtype)
        w = g.mul(w, shrink)
    elif decay:
        gradient = g.add(gradient, g.mul(w, decay))
    rate = rate if isinstance(rate, float) else g.cast(rate, dtype)
    change, moments = entry.change(g, gradient, rest[:count], (rate, *own[1:]), corrections)
    new = g.sub(w, change)
    if op.clip is not None:
        new = g.binary("min", g.binary("max", new, -op.clip), op.clip)
    if average:
        moments = [*moments, g.add(g.mul(rest[count], average), g.mul(new, 1 - average))]
    return (new, *moments)


def _rest(g: Build, beta: float, t: Value) -> Value:
    """1 - beta^t in float64: in float32 the difference would lose four digits at the first steps."""
    power = g.binary("pow", g.number(beta, DType.F64), g.cast(t, DType.F64))
    return g.sub(g.number(1.0, DType.F64), power)
