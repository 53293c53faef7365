"""Gradients of ops that move elements, the transposes of what they do, and of those that read none."""

from __future__ import annotations

import numpy as np

from mgc.ir.build import Build
from mgc.ir.gradients.rules import Gradients, Values, gradient
from mgc.ir.graph import Value
from mgc.ir.ops.gradients_gather import ScatterAdd
from mgc.ir.ops.linear import AxisMap
from mgc.ir.ops.random import Random
from mgc.ir.ops.shape import Concat, Detach, Expand, Gather, Pad, Reshape, Slice, Transpose


@gradient(Random)
def random(g: Build, op: Random, inputs: Values, y: Value, dy: Value) -> Gradients:
    """None: the numbers depend on nothing."""
    return (None,) * len(inputs)


@gradient(Reshape)
def reshape(g: Build, op: Reshape, inputs: Values, y: Value, dy: Value) -> Gradients:
    """dy in the operand's shape."""
    return (g.reshape(dy, inputs[0].shape),)


@gradient(Detach)
def detach(g: Build, op: Detach, inputs: Values, y: Value, dy: Value) -> Gradients:
    """Nothing goes back."""
    return (None,)


@gradient(Transpose)
def transpose(g: Build, op: Transpose, inputs: Values, y: Value, dy: Value) -> Gradients:
    """dy with the axes moved back."""
    return (g.transpose(dy, [op.perm.index(a) for a in range(len(op.perm))]),)


@gradient(Expand)
def expand(g: Build, op: Expand, inputs: Values, y: Value, dy: Value) -> Gradients:
    """dy summed over what was broadcast."""
    return (g.sum_to(dy, inputs[0].shape),)


@gradient(Slice)
def slice_(g: Build, op: Slice, inputs: Values, y: Value, dy: Value) -> Gradients:
    """dy put back, zeros elsewhere."""
    if dy.tensor.size == 0:
        return (None,)
    for axis, (n, start, step) in enumerate(zip(inputs[0].shape, op.starts, op.steps, strict=True)):
        dy = _unsliced(g, dy, axis, n, start, step)
    return (dy,)


@gradient(Concat)
def concat(g: Build, op: Concat, inputs: Values, y: Value, dy: Value) -> Gradients:
    """To each operand its part of dy."""
    ends = np.cumsum([v.shape[op.axis] for v in inputs])
    parts = zip(inputs, ends, strict=True)
    return tuple(g.part(dy, op.axis, int(end) - v.shape[op.axis], int(end)) for v, end in parts)


@gradient(Pad)
def pad(g: Build, op: Pad, inputs: Values, y: Value, dy: Value) -> Gradients:
    """What was copied into the padding is added back."""
    (x,) = inputs
    for axis, n in enumerate(x.shape):
        begin, end = op.pads[axis], op.pads[x.tensor.rank + axis]
        if begin or end:
            dy = _unpadded(g, dy, axis, n, begin, end, op.mode)
    return (dy,)


@gradient(Gather)
def gather(g: Build, op: Gather, inputs: Values, y: Value, dy: Value) -> Gradients:
    """Entries of dy added up where they were taken from."""
    data, indices = inputs
    return g.emit(ScatterAdd(op.axis, data.shape[op.axis]), dy, indices), None


@gradient(ScatterAdd)
def scatter_add(g: Build, op: ScatterAdd, inputs: Values, y: Value, dy: Value) -> Gradients:
    """The gather that it is the transpose of."""
    return g.emit(Gather(op.axis), dy, inputs[1]), None


def _unsliced(g: Build, dy: Value, axis: int, n: int, start: int, step: int) -> Value:
    """dy put back at start, start + step, ... of an axis of size n, zeros elsewhere."""
    count = dy.shape[axis]
    if step < 0:
        start, step = start + (count - 1) * step, -step
        dy = g.part(dy, axis, count - 1, -1, -1)
    if step > 1 and count > 1:
        # an axis of zeros behind each element, folded in, and the last zeros cut off again
        lead, rest = dy.shape[:axis], dy.shape[axis + 1 :]
        dy = g.pad_axis(g.reshape(dy, (*lead, count, 1, *rest)), axis + 1, 0, step - 1)
        dy = g.part(g.reshape(dy, (*lead, count * step, *rest)), axis, 0, (count - 1) * step + 1)
    return g.pad_axis(dy, axis, start, n - start - dy.shape[axis])


def _unpadded(g: Build, dy: Value, axis: int, n: int, begin: int, end: int, mode: str) -> Value:
    """The transpose of padding one axis of size n: what was copied into the padding is added back."""
    inner = g.part(dy, axis, begin, begin + n)
    if mode == "constant":
        return inner
    if max(begin, end) > {"reflect": n - 1, "wrap": n, "edge": max(begin, end)}[mode]:
        # the padding repeats itself: the map as a matrix
        source = np.pad(np.arange(n), (begin, end), mode)  # type: ignore[call-overload]
        matrix = (np.arange(n)[:, None] == source).astype(dy.tensor.dtype.numpy)
        return g.emit(AxisMap(axis), dy, g.array(matrix))
    for count, first, edge in ((begin, 0, 0), (end, begin + n, n - 1)):
        if not count:
            continue
        side = g.part(dy, axis, first, first + count)
        if mode == "edge":
            side, at = g.reduce("sum", side, [axis]), edge
        elif mode == "reflect":
            side, at = g.part(side, axis, count - 1, -1, -1), 1 if edge == 0 else n - 1 - count
        else:
            at = n - count if edge == 0 else 0
        inner = g.add(inner, g.pad_axis(side, axis, at, n - at - side.shape[axis]))
    return inner
