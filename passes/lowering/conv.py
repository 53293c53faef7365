"""Convolutions and transposed convolutions as windowed matrix products."""

from __future__ import annotations

from dataclasses import fields
from itertools import product
from math import prod

import numpy as np

from mgc.ir.mapped import CHANNEL_MAJOR, Layout, Mvm, MvmPart, Windows
from mgc.ir.ops import Conv, ConvTranspose
from mgc.ir.types import TensorType
from mgc.passes.lowering.axis import AxisClass, conv_axis, conv_transpose_axis


def lower_conv(
    op: Conv | ConvTranspose,
    x: TensorType,
    w: np.ndarray,
    y: TensorType,
    name: str,
    macs_useful: int,
    *,
    refined: bool = True,
) -> tuple[Mvm, tuple[np.ndarray, ...]]:
    """The product that equals `op` on an operand of type `x` with weights `w` and result type `y`, with the weights of
    its parts, each [matrices, rows, cols].

    Parts are named `name.I,J` after the first output position that they write (`name` alone if there is one part).
    Taps that only meet padding are dropped if `refined`; else the parts hold the same taps whatever the extents of x.
    """
    rank = x.rank - 2
    axes: list[tuple[AxisClass, ...]] = []
    classes = conv_axis if isinstance(op, Conv) else conv_transpose_axis
    for i in range(rank):
        sizes = x.shape[2 + i], w.shape[2 + i]
        axes.append(classes(*sizes, op.strides[i], op.dilations[i], op.pads[i], y.shape[2 + i], refined=refined))
    combinations = list(product(*axes))
    parts: list[MvmPart] = []
    weights: list[np.ndarray] = []
    for combination in combinations:
        data = part_weights(op, w, combination)
        columns = {f.name: tuple(getattr(a, f.name) for a in combination) for f in fields(Windows)}
        windows = Windows(**columns | {"taps": tuple(len(a.taps) for a in combination)})
        position = ",".join(str(a.out_base) for a in combination)
        part_name = name if len(combinations) == 1 else f"{name}.{position}"
        matrices, rows, cols = data.shape
        parts.append(MvmPart(part_name, matrices, rows, cols, CHANNEL_MAJOR, windows))
        weights.append(data)
    mvm = Mvm(tuple(parts), Layout.nchw(x.shape), Layout.nchw(y.shape), y.shape, macs_useful)
    return mvm, tuple(weights)


def part_weights(op: Conv | ConvTranspose, w: np.ndarray, axes: tuple[AxisClass, ...]) -> np.ndarray:
    """The weights [groups, channels*taps, columns] of the taps of one class a dimension; tap fastest among rows."""
    chosen = w[np.ix_(range(w.shape[0]), range(w.shape[1]), *(a.taps for a in axes))]
    g, taps = op.groups, prod(len(a.taps) for a in axes)
    if isinstance(op, Conv):  # w[M, C/g, *kernel]
        rows = chosen.reshape(g, w.shape[0] // g, w.shape[1] * taps).swapaxes(1, 2)
    else:  # w[C, M/g, *kernel]
        per_tap = chosen.reshape(g, w.shape[0] // g, w.shape[1], taps).swapaxes(2, 3)
        rows = per_tap.reshape(g, w.shape[0] // g * taps, w.shape[1])
    return np.ascontiguousarray(rows)
