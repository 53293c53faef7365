"""The diff-block as plain ops, and its gradient: by the loss the deltas, by a delta f''."""

from __future__ import annotations

from collections.abc import Sequence

from mgc.functions.losses import LOSSES, TABULATED, LossFunction
from mgc.ir.build import Build
from mgc.ir.gradients.rules import Gradients, Values, decomposition, gradient_of_all
from mgc.ir.graph import Value
from mgc.ir.op import NotDifferentiable
from mgc.ir.ops.diff_block import DiffBlock
from mgc.ir.ops.loss_table import LossTable
from mgc.ir.ops.shape import Gather
from mgc.ir.types import DType


@decomposition(DiffBlock)
def decompose(g: Build, op: DiffBlock, inputs: Values) -> Values:
    """The stable formulas in the operands' own precision, a table in float64."""
    k = op.scale(inputs[0].tensor.size)
    u = _argument(g, op, inputs)
    if op.table is not None:
        wide = g.cast(u, DType.F64)
        value, slope = (g.cast(_look_up(g, op.table, wide, c), u.tensor.dtype) for c in (1, 3))
    else:
        f, t = LOSSES[op.function], inputs[-1] if op.targets else op.target
        value, slope = f.value(g, u, t, op.sign), f.slope(g, u, t, op.sign)
    delta = g.mul(slope, k)
    return g.mul(g.total(value), k), delta, *_to_second(g, op, inputs, delta)


@gradient_of_all(DiffBlock)
def diff_block(g: Build, op: DiffBlock, inputs: Values, outputs: Values, cotangents: Gradients) -> Gradients:
    """The loss's cotangent times the deltas; a delta's own cotangent goes by f'', which a table does not have."""
    by_loss, by_delta = cotangents[0], cotangents[1:]
    result: list[Value | None] = [None] * len(inputs)
    if by_loss is not None:
        for i, delta in enumerate(outputs[1:]):
            result[i] = _scaled(g, delta, by_loss)
        if op.targets:
            result[-1] = g.mul(_by_target(g, op, inputs), by_loss)
    if any(c is not None for c in by_delta):
        second = _second_order(g, op, inputs, by_delta)
        result = [_sum(g, x, y) for x, y in zip(result, second, strict=True)]
    return result


def _look_up(g: Build, table: LossTable, u: Value, column: int) -> Value:
    """`LossTable.look_up` as ops: the number of left ends up to u is the segment's number. u of type f64."""
    data = table.segments
    flat = g.reshape(u, (u.tensor.size, 1))
    passed = g.binary("greater_or_equal", flat, g.array(data[1:, 0].copy()))
    at = g.reduce("sum", g.cast(passed, DType.I64), (1,), keepdims=False)

    def entry(c: int) -> Value:
        return g.reshape(g.emit(Gather(0), g.array(data[:, c].copy()), at), u.shape)

    return g.add(entry(column), g.mul(entry(column + 1), g.sub(u, entry(0))))


def _argument(g: Build, op: DiffBlock, inputs: Values) -> Value:
    if op.pairing == "single":
        return inputs[0]
    b = inputs[1]
    return g.sub(inputs[0], b if op.pairing == "pair" else _mean(g, b))


def _mean(g: Build, x: Value) -> Value:
    return g.reduce("mean", x, range(x.tensor.rank), keepdims=False)


def _to_second(g: Build, op: DiffBlock, inputs: Values, du: Value) -> list[Value]:
    """What a cotangent of u is for b, as a list of one; empty for a single operand."""
    if op.pairing == "single":
        return []
    if op.pairing == "pair":
        return [g.neg(du)]
    b = inputs[1]
    return [g.expand(g.mul(g.total(du), -1 / b.tensor.size), b.shape)]


def _function(op: DiffBlock) -> LossFunction:
    if op.function == TABULATED:
        raise NotDifferentiable(op, "a tabulated loss has no second derivative")
    return LOSSES[op.function]


def _by_target(g: Build, op: DiffBlock, inputs: Values) -> Value:
    by_target = _function(op).by_target
    assert by_target is not None  # the type rule admits no targets otherwise
    u = _argument(g, op, inputs)
    return g.mul(by_target(g, u, inputs[-1], op.sign), op.scale(u.tensor.size))


def _second_order(g: Build, op: DiffBlock, inputs: Values, by_delta: Sequence[Value | None]) -> list[Value | None]:
    """delta_a = k f'(u), and delta_b its negative or minus its mean share: their cotangents act on f'(u)."""
    f = _function(op)
    by_slope = by_delta[0]
    if op.pairing != "single" and by_delta[1] is not None:
        c = by_delta[1]
        share = g.neg(c if op.pairing == "pair" else _mean(g, c))
        by_slope = g.expand(share, inputs[0].shape) if by_slope is None else g.add(by_slope, share)
    assert by_slope is not None
    by_slope = g.mul(by_slope, op.scale(inputs[0].tensor.size))
    result: list[Value | None] = [None] * len(inputs)
    curvature = f.curvature(g, _argument(g, op, inputs))
    if curvature is not None:
        du = g.mul(curvature, by_slope)
        result[: op.scores] = [du, *_to_second(g, op, inputs, du)]
    if op.targets and f.mixed:
        result[-1] = g.mul(by_slope, f.mixed)
    return result


def _scaled(g: Build, delta: Value, factor: Value) -> Value:
    """delta * factor; delta itself where the factor is the constant 1, as it is for a loss on its own."""
    known = g.data(factor)
    return delta if known is not None and known.size == 1 and known.item() == 1 else g.mul(delta, factor)


def _sum(g: Build, a: Value | None, b: Value | None) -> Value | None:
    return b if a is None else a if b is None else g.add(a, b)
