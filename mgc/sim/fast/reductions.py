"""Pooling and reductions as graph nodes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from math import prod

import numpy as np

from mgc.isa.functions import PoolWindows, windows_of
from mgc.sim.fast import layout, sums
from mgc.sim.fast.graph import GraphBuilder, NotLoweredError
from mgc.sim.fast.steps import FLOAT, Call, Lowering, finite, logical
from mgc.sim.fast.values import Element, Frame, GraphValue, Rows
from mgc.sim.fast.windows import flatten


def _source(call: Call) -> tuple[GraphValue, PoolWindows, np.ndarray]:
    """The operand, the windows, and what they read: flat positions [windows, taps], -1 for padding."""
    (x,) = call.args
    if not isinstance(x, GraphValue):
        raise NotLoweredError("a pool of a constant")
    windows = windows_of(call.attributes)
    spatial = x.shape[2:]
    axes = []
    for d, count in enumerate(windows.extents(spatial)):
        start = windows.strides[d] * np.arange(count)[:, None] - windows.pads[d]
        axes.append(start + windows.dilations[d] * np.arange(windows.kernel[d]))
    return x, windows, flatten(axes, spatial)


def _nchw(shape: tuple[int, ...]) -> Frame:
    frame = Frame.channels_first(shape)
    if frame is None:
        raise NotLoweredError("an empty tensor")
    return frame


def _pool_max(g: GraphBuilder, call: Call) -> GraphValue:
    """Maxima are order-free but for the sign of a zero, and Max passes NaN on as NumPy's does.

    Padding is left out by reading a tap inside twice; a window of padding only is refused.
    """
    x, _, reads = _source(call)
    own, wide = x.element.dtype, x.element.dtype
    if own in (np.uint16, np.int16):
        wide = np.dtype(np.int32)  # Max knows no 16-bit integers
    elif own.name not in ("float32", "uint8", "int8", "int32", "int64"):
        raise NotLoweredError(f"a maximum of {own}")
    inside = (reads >= 0).any(axis=1)
    if not inside.all():
        raise NotLoweredError("a window that meets nothing but padding")
    first = reads[np.arange(len(reads)), (reads >= 0).argmax(axis=1)]
    reads = np.where(reads >= 0, reads, first[:, None])
    frame, target = _nchw(x.shape), _nchw(call.result.shape)
    rows = layout.rows_of(g, x, frame)
    taps = list(dict.fromkeys(layout.take(g, rows, reads[:, t], x.element) for t in range(reads.shape[1])))
    if own != wide:
        taps = [g.cast(t, wide) for t in taps]
    tensor = taps[0] if len(taps) == 1 else g.node("Max", *taps)
    if own == FLOAT:
        tensor = g.positive_zero(tensor)
    elif own != wide:
        tensor = g.cast(tensor, own)
    return replace(x, shape=call.result.shape, dense=None, rows=Rows.whole(target, tensor))


def _pool_average(g: GraphBuilder, call: Call) -> GraphValue:
    """The ISA's own order: taps added in float64 one after the other, padding as zeros, one division, one rounding."""
    x, windows, reads = _source(call)
    if x.logical != FLOAT:
        raise NotLoweredError(f"an average of {x.logical}")
    frame, target = _nchw(x.shape), _nchw(call.result.shape)
    rows = layout.rows_of(g, x, frame)
    total: str | None = None
    for t in range(reads.shape[1]):
        term = g.cast(layout.take(g, rows, reads[:, t], x.element), np.float64)
        # the ISA starts from +0, which turns a first -0 into +0
        total = g.node("Add", g.constant(np.float64(0)) if total is None else total, term)
    assert total is not None
    count = _divisor(windows, x.shape[2:], reads)
    if (count == 0).any():
        raise NotLoweredError("a window that meets nothing")
    tensor = g.cast(g.node("Div", total, g.constant(count.reshape(1, -1, 1))), FLOAT)
    return GraphValue(
        call.result.shape, FLOAT, Element(FLOAT), rows=Rows.whole(target, tensor), limit=x.limit, batched=x.batched
    )


def _divisor(windows: PoolWindows, spatial: tuple[int, ...], reads: np.ndarray) -> np.ndarray:
    """Elements that each window counts, float64 [windows]."""
    if not windows.count_include_pad:
        return (reads >= 0).sum(axis=1).astype(np.float64)
    counted = windows.padded(np.ones((1, 1, *spatial)), 1.0)
    extents = windows.extents(spatial)
    total = np.zeros((1, 1, *extents))
    for where in windows.taps(extents):
        total += counted[where]
    return total.reshape(-1)


def _reduce_sum(g: GraphBuilder, call: Call) -> GraphValue:
    """Sum, mean or variance in float64, in the order of `mgc.functions.reduce.total`, rounded once.

    In `float` numerics in float32, in whatever order.
    """
    (x,) = call.args
    axes = [int(a) for a in call.attributes[1:]]
    if not isinstance(x, GraphValue) or x.logical != FLOAT or not axes or (x.batched and 0 in axes):
        raise NotLoweredError(f"{call.name} over the batch axis, of {logical(x)}, or over nothing")
    n = prod(x.shape[a] for a in axes)
    if 0 in x.shape:
        raise NotLoweredError("a sum over nothing")
    tensor, channels = _reduced_axis(g, x, axes, n)
    if call.ideal:
        if channels == 1:  # kernels for a last axis are many times faster than those for one in the middle
            tensor = g.reshape(tensor, [-1, n])
        if call.name == "reduce_variance":
            off = g.node("Sub", tensor, g.node("ReduceMean", tensor, g.constant([1]), keepdims=1))
            tensor = g.node("Mul", off, off)
        total = g.node("ReduceSum" if call.name == "reduce_sum" else "ReduceMean", tensor, g.constant([1]), keepdims=0)
    elif sums.is_exact(n, channels):
        g.note(prod(x.shape))
        if call.name == "reduce_variance":
            total = _variance(g, g.cast(tensor, np.float64), n, channels)
        else:
            # the ISA starts from +0, which turns a sum of -0 into +0
            total = g.node("Add", g.constant(np.float64(0)), sums.emit(g, tensor, n, channels))
        if call.name == "reduce_mean":
            total = g.node("Div", total, g.constant(np.float64(n)))
        total = g.cast(total, FLOAT)
    else:
        raise NotLoweredError(f"a sum of {n} numbers has no form that is proven equal")
    bound = x.limit * {"reduce_sum": n, "reduce_mean": 1}.get(call.name, x.limit)
    dense = g.reshape(total, layout.leading(call.result.shape))
    # sums of what is not negative are not negative either
    least = 0.0 if x.least >= 0 or call.name == "reduce_variance" else -math.inf
    return GraphValue(
        call.result.shape, FLOAT, Element(FLOAT), dense=dense, limit=finite(bound), least=least, batched=x.batched
    )


def _variance(g: GraphBuilder, x: str, n: int, channels: int) -> str:
    """float64 [m, n, channels] -> [m, channels], as `mgc.functions.reduce.variance` adds up."""
    count = g.constant(np.float64(n))
    off = g.node("Sub", x, g.slice(x, 0, 1, axis=1))
    total, squares = (sums.emit(g, v, n, channels, wide=True) for v in (off, g.node("Mul", off, off)))
    less = g.node("Sub", squares, g.node("Div", g.node("Mul", total, total), count))
    zero = g.constant(np.float64(0))
    return g.node("Add", g.node("Max", g.node("Div", less, count), zero), zero)


def _reduced_axis(g: GraphBuilder, x: GraphValue, axes: list[int], n: int) -> tuple[str, int]:
    """x as [m, n, channels] with the reduced axes in the middle, what is kept around them; and channels."""
    rank = len(x.shape)
    rows = x.rows
    by_sample, by_batch = list(range(2, rank)), [0, *range(2, rank)]
    if rows is not None and axes in (by_sample, by_batch) and rows.frame == Frame.channels_first(x.shape):
        (part,) = layout.in_order(g, rows, x.element).parts
        tensor, channels = layout.unfolded(g, part, rows.frame.channels), rows.frame.channels
        return (tensor if axes == by_sample else g.reshape(tensor, [-1, n, channels])), channels
    kept = [a for a in range(rank) if a not in axes]
    tensor = layout.dense(g, x)
    if kept + axes != list(range(rank)):
        tensor = g.node("Transpose", tensor, perm=kept + axes)
    return g.reshape(tensor, [-1, n, 1]), 1


REDUCTIONS: Mapping[str, Lowering] = {
    "pool_max": _pool_max,
    "pool_average": _pool_average,
    "reduce_sum": _reduce_sum,
    "reduce_mean": _reduce_sum,
    "reduce_variance": _reduce_sum,
}
"""Functions over windows or axes whose graph form is the same in both numerics."""
