"""An optimizer's update as plain ops; nothing is differentiated through it."""

from __future__ import annotations

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
    count = len(op.rule.moments)
    entry, hyper = OPTIMIZERS[op.rule.optimizer], op.rule.hyper
    corrections = (None, None)
    if op.rule.counts:
        lr, beta1, beta2 = hyper[:3]
        rate = g.mul(g.unary("reciprocal", _rest(g, beta1, rest[count])), lr)
        root = g.unary("reciprocal", g.unary("sqrt", _rest(g, beta2, rest[count])))
        corrections = g.cast(rate, w.tensor.dtype), g.cast(root, w.tensor.dtype)
    change, moments = entry.change(g, gradient, rest[:count], hyper, corrections)
    new = g.sub(w, change)
    if op.clip is not None:
        new = g.binary("min", g.binary("max", new, -op.clip), op.clip)
    return (new, *moments)


def _rest(g: Build, beta: float, t: Value) -> Value:
    """1 - beta^t in float64: in float32 the difference would lose four digits at the first steps."""
    power = g.binary("pow", g.number(beta, DType.F64), g.cast(t, DType.F64))
    return g.sub(g.number(1.0, DType.F64), power)
