"""How each op treats parts of a batch: takes them one by one, adds up over them, or needs all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from mgc.ir import ops
from mgc.ir.mapped import Copy, Dequant, Lookup, Mvm, Quant, Vec, View
from mgc.ir.mapped_training import DequantBy, MvmT, Outer, QuantBy, RunMax
from mgc.ir.op import Op
from mgc.ir.types import TensorType
from mgc.passes.streaming.axes import Axis, broadcast, by_samples, copied, leading, part_size, reshaped

ELEMENTWISE = (ops.Unary, ops.Binary, ops.Where, ops.Cast, QuantBy, DequantBy)
FIRST_ONLY = (Lookup, Quant, Dequant)
"""Element-wise in the first operand, the others are tables and scales."""


class Flow(NamedTuple):
    """What becomes of the parts. `streamed`: the op takes them one by one. Then a result with an axis is there part by
    part, one without is complete after the last part (a sum over the batch). Else all happens at once.
    """

    streamed: bool
    axes: tuple[Axis, ...]


def flow_of(
    op: Op, types: Sequence[TensorType], axes: Sequence[Axis], results: Sequence[TensorType], split: int
) -> Flow:
    """The flow of one op; `axes` are those of its operands. Sound: what is not known to go by parts is whole."""
    whole = Flow(False, (None,) * len(results))
    if all(a is None for a in axes) and not isinstance(op, View):
        return whole
    shapes = [t.shape for t in types]
    found: Sequence[Axis] | None = None  # None: whole
    match op:
        case View():
            return Flow(True, (reshaped(axes[0], shapes[0], results[0].shape, split),))
        case Vec():
            return _kernel(op, types, axes, len(results), split)
        case Mvm() | MvmT():
            found = _product(op, shapes[0], axes, split)
        case Outer(_, source, errors, runs=runs):
            layouts = zip((source, errors), shapes, axes, strict=False)
            whole_runs = not runs or runs % split == 0
            if whole_runs and all(a is None or by_samples(g, part_size(a, s, split), split) for g, s, a in layouts):
                found = (None,) * len(results)
        case RunMax(runs):
            found = (0,) if axes[0] == 0 and runs % split == 0 else None
        case Copy():
            found = _copy(op, shapes, axes, split)
        case ops.DiffBlock():
            found = _diff(op, shapes, axes, split)
        case ops.Reduce(fn, reduced):
            found = _reduce(fn, reduced, op.keepdims, types[0], axes[0])
        case ops.MatMul():
            found = _matmul(shapes, axes, results[0].shape)
        case _ if isinstance(op, ELEMENTWISE) or (isinstance(op, FIRST_ONLY) and not any(axes[1:])):
            axis = broadcast(shapes, axes, results[0].shape, split)
            found = None if axis is None else (axis,)
    if found is None and all(a in (0, None) for a in axes) and not isinstance(op, Vec):
        flags = [a is not None for a in axes]
        if op.split_batch(types, flags, split) is not None and all(r.shape[0] % split == 0 for r in results):
            found = (0,) * len(results)
    return whole if found is None else Flow(True, tuple(found))


def _product(op: Mvm | MvmT, x: tuple[int, ...], axes: Sequence[Axis], split: int) -> Sequence[Axis] | None:
    """Windows of a sample are of the sample alone."""
    axis = leading(op.out_shape, split)
    if axis is None or any(a is not None for a in axes[1:]):
        return None
    taken = by_samples(op.source, part_size(axes[0], x, split), split)
    given = by_samples(op.result, part_size(axis, op.out_shape, split), split)
    return (axis,) if taken and given else None


def _copy(op: Copy, shapes: Sequence[tuple[int, ...]], axes: Sequence[Axis], split: int) -> Sequence[Axis] | None:
    axis = leading(op.result.shape, split)
    parts = [part_size(a, s, split) for s, a in zip(shapes, axes, strict=True)]
    if axis is None or any(a is not None and not p for a, p in zip(axes, parts, strict=True)):
        return None
    return (axis,) if copied(op, parts, part_size(axis, op.result.shape, split), split) else None


def _diff(
    op: ops.DiffBlock, shapes: Sequence[tuple[int, ...]], axes: Sequence[Axis], split: int
) -> Sequence[Axis] | None:
    """The loss is a sum over the scores; deltas go score by score, unless they are of a mean of the batch."""
    axis = broadcast(shapes, axes, shapes[0], split)
    if op.pairing == "average" or axis is None:
        return None
    return (None, *(axis,) * op.scores)


def _reduce(fn: str, reduced: Sequence[int], keepdims: bool, x: TensorType, axis: Axis) -> Sequence[Axis] | None:
    if axis in reduced:  # what is added up over the batch is there after its last part
        return (None,) if fn != "mean" or x.dtype.is_float else None
    if axis is None or keepdims:
        return (axis,)
    return (axis - sum(r < axis for r in reduced),)


def _matmul(shapes: Sequence[tuple[int, ...]], axes: Sequence[Axis], result: tuple[int, ...]) -> Sequence[Axis] | None:
    """Rows or stacks go by parts; a product over the batch is a sum."""
    (a, b), (x, y) = shapes, axes
    if len(a) < 2 or len(b) < 2:
        return None
    rows, inner = x == len(a) - 2 and y is None, x == len(a) - 1 and y == len(b) - 2
    if rows:
        return (len(result) - 2,)
    if inner:
        return (None,)
    if y == len(b) - 1 and x is None:
        return (len(result) - 1,)
    return None


def _kernel(op: Vec, types: Sequence[TensorType], axes: Sequence[Axis], results: int, split: int) -> Flow:
    """A kernel goes by parts if all its steps do, and none needs what another one adds up over the batch."""
    whole = Flow(False, (None,) * results)
    known, flows = list(types), list(axes)
    summed: set[int] = set()
    for step in op.steps:
        if not summed.isdisjoint(step.args):
            return whole
        own = [known[a] for a in step.args]
        made = [t for t in step.op.infer(*own) if isinstance(t, TensorType)]
        operands = [flows[a] for a in step.args]
        flow = flow_of(step.op, own, operands, made, split)
        if not flow.streamed and any(a is not None for a in operands):
            return whole
        if flow.streamed:
            summed.update(len(known) + k for k, a in enumerate(flow.axes) if a is None)
        known += made
        flows += flow.axes
    return Flow(True, tuple(flows[r] for r in op.results))
