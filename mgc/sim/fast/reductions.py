"""Pooling and order-free reductions as graph nodes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from mgc.isa.functions import PoolWindows
from mgc.sim.fast import layout
from mgc.sim.fast.graph import GraphBuilder
from mgc.sim.fast.refusal import NotLoweredError
from mgc.sim.fast.steps import FLOAT, Call, Lowering
from mgc.sim.fast.values import Element, Frame, Part, Rows, Value
from mgc.sim.fast.windows import flatten


def _source(call: Call) -> tuple[Value, PoolWindows, np.ndarray]:
    """The operand, the windows, and what they read: flat positions [windows, taps], -1 for padding."""
    (x,) = call.args
    if not isinstance(x, Value):
        raise NotLoweredError("a pool of a constant")
    windows = PoolWindows.parse(call.attributes)
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


def _pool_max(g: GraphBuilder, call: Call) -> Value:
    """Maxima are order-free. Padding is left out by reading a tap inside twice; a window of padding only is refused."""
    x, _, reads = _source(call)
    if x.logical == FLOAT and not math.isfinite(x.limit):
        raise NotLoweredError("a maximum of values that may be NaN")
    if x.element.dtype.name not in ("float32", "uint8", "int8", "int32", "int64"):
        raise NotLoweredError(f"a maximum of {x.element.dtype}")
    inside = (reads >= 0).any(axis=1)
    if not inside.all():
        raise NotLoweredError("a window that meets nothing but padding")
    first = reads[np.arange(len(reads)), (reads >= 0).argmax(axis=1)]
    reads = np.where(reads >= 0, reads, first[:, None])
    frame, target = _nchw(x.shape), _nchw(call.result.shape)
    rows = layout.rows_of(g, x, frame)
    taps = list(dict.fromkeys(layout.take(g, rows, reads[:, t], x.element) for t in range(reads.shape[1])))
    tensor = taps[0] if len(taps) == 1 else g.node("Max", *taps)
    found = Rows(target, (Part(tensor, target.positions),), np.arange(target.positions))
    return replace(x, shape=call.result.shape, dense=None, rows=found)


def _pool_average(g: GraphBuilder, call: Call) -> Value:
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
    found = Rows(target, (Part(tensor, target.positions),), np.arange(target.positions))
    return Value(call.result.shape, FLOAT, Element(FLOAT), rows=found, limit=x.limit, batched=x.batched)


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


def _reduce_extreme(op: str) -> Lowering:
    """Maximum or minimum over axes: order-free, of values known not to be NaN."""

    def lower(g: GraphBuilder, call: Call) -> Value:
        (x,) = call.args
        keepdims, *axes = (int(a) for a in call.attributes)
        if not isinstance(x, Value) or not axes or (x.batched and 0 in axes):
            raise NotLoweredError(f"{call.name} over the batch axis, of a constant, or over nothing")
        if x.element != Element(FLOAT) or not math.isfinite(x.limit):
            raise NotLoweredError(f"{call.name} of values that may be NaN, or of {x.logical}")
        tensor = g.node(op, layout.dense(g, x), g.constant(axes), keepdims=keepdims)
        return replace(x, shape=call.result.shape, dense=tensor, rows=None)

    return lower


REDUCTIONS: Mapping[str, Lowering] = {
    "pool_max": _pool_max,
    "pool_average": _pool_average,
    "reduce_max": _reduce_extreme("ReduceMax"),
    "reduce_min": _reduce_extreme("ReduceMin"),
}
"""Functions over windows or axes whose graph form is the same in both numerics."""
