"""A windowed product in float32 as one Conv, whose kernels read windows where they lie."""

from __future__ import annotations

import numpy as np

from mgc.sim.fast import kernels, layout
from mgc.sim.fast.graph import GraphBuilder
from mgc.sim.fast.values import Frame, GraphValue
from mgc.sim.fast.windows import SharedProduct

_FEW_WINDOWS = 32
"""Windows up to which a Gather and a MatMul take no longer."""


def emit(
    g: GraphBuilder, source: GraphValue, frame: Frame, shared: SharedProduct, weights: np.ndarray, outside: int = 0
) -> str | None:
    """[n, windows, matrices * columns] of weights [matrices, taps * channels, columns], taps outermost, the number
    `outside` beyond the input; None where a Conv is not worth it, or cannot say which windows are read.
    """
    first = shared.instructions[0]
    matrices, _, columns = weights.shape
    windows, taps = shared.reads.shape
    if taps == 1 or windows <= _FEW_WINDOWS or (matrices > 1 and len(shared.instructions) > 1):
        return None
    axes = list(zip(first.input.shape[2:], shared.starts, first.windows.taps, first.windows.in_dilation, strict=True))
    axes = [a for a in axes if a[0] > 1 or a[2] > 1 or len(a[1]) > 1]
    if len(axes) > 2:
        return None
    axes = [(1, np.zeros(1, np.int64), 1, 1)] * (2 - len(axes)) + axes
    strides, begins, ends = [], [], []
    for extent, starts, count, dilation in axes:
        apart = set(np.diff(starts).tolist()) or {1}
        begin, end = -int(starts[0]), int(starts[-1]) + dilation * (count - 1) - (extent - 1)
        stride = min(apart)
        if len(apart) > 1 or stride < 1 or dilation < 1 or begin < 0 or end <= -stride:
            return None
        strides.append(stride)
        begins.append(begin)
        ends.append(max(end, 0))
    extents, kernel = [a[0] for a in axes], [a[2] for a in axes]
    pads = [*begins, *ends]
    if outside and any(pads):  # what Conv itself adds are zeros
        x, pads = _padded(g, source, frame, extents, pads, outside), [0] * 4
    else:
        x = _channels_first(g, source, frame, extents)
    tensor = g.node(
        "Conv",
        kernels.in_reals(g, x, source.element, np.dtype(np.float32)),
        g.constant(_filters(weights, kernel)),
        kernel_shape=kernel,
        strides=strides,
        pads=pads,
        dilations=[a[3] for a in axes],
        group=matrices,
    )
    return g.reshape(g.node("Transpose", tensor, perm=[0, 2, 3, 1]), [-1, windows, matrices * columns])


def _channels_first(g: GraphBuilder, source: GraphValue, frame: Frame, extents: list[int]) -> str:
    """The source as [n, channels, height, width]."""
    if source.dense is not None and frame == Frame.channels_first((frame.batch, frame.channels, *extents)):
        return g.reshape(source.dense, [-1, frame.channels, *extents])
    rows = layout.rows_of(g, source, frame)
    positions = layout.take(g, rows, np.arange(frame.positions), source.element)
    return g.node("Transpose", g.reshape(positions, [-1, *extents, frame.channels]), perm=[0, 3, 1, 2])


def _padded(
    g: GraphBuilder, source: GraphValue, frame: Frame, extents: list[int], pads: list[int], outside: int
) -> str:
    """`_channels_first` with a border of the number `outside`."""
    border = list(zip(pads[:2], pads[2:], strict=True))
    positions = np.pad(np.arange(frame.positions).reshape(extents), border, constant_values=-1)
    rows = layout.take(g, layout.rows_of(g, source, frame), positions, source.element, outside)
    return g.node("Transpose", g.reshape(rows, [-1, *positions.shape, frame.channels]), perm=[0, 3, 1, 2])


def _filters(weights: np.ndarray, kernel: list[int]) -> np.ndarray:
    """float32 [matrices * columns, channels, *kernel]."""
    matrices, _, columns = weights.shape
    spread = weights.reshape(matrices, *kernel, -1, columns).transpose(0, 4, 3, 1, 2)
    return np.ascontiguousarray(spread.reshape(matrices * columns, -1, *kernel), np.float32)
