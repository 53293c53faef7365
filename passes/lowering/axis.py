"""Window arithmetic of one spatial axis: which output positions meet which kernel taps at which input positions."""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd

import numpy as np


@dataclass(frozen=True)
class AxisClass:
    """Output positions of one axis that meet the same kernel taps.

    Window q in 0..count-1 writes output position out_base + q*out_stride; its tap t reads input position
    in_base + q*in_stride + t*in_dilation and multiplies it by kernel entry taps[t].
    """

    count: int
    in_base: int
    in_stride: int
    in_dilation: int
    out_base: int
    out_stride: int
    taps: tuple[int, ...]


def conv_axis(
    size: int, kernel: int, stride: int, dilation: int, begin: int, out: int, *, refined: bool = True
) -> tuple[AxisClass, ...]:
    """The classes of a convolution: one, less what only meets padding if `refined`."""
    whole = AxisClass(out, -begin, stride, dilation, 0, 1, tuple(range(kernel)))
    return refine(whole, size) if refined else (whole,)


def conv_transpose_axis(
    size: int, kernel: int, stride: int, dilation: int, begin: int, out: int, *, refined: bool = True
) -> tuple[AxisClass, ...]:
    """The classes of a transposed convolution: one for each residue of the output position mod stride, zero-free.

    Output position o sums kernel entry k times input (o + begin - dilation*k) / stride over the k that divide evenly:
    every (stride / gcd)-th one, or none if o + begin is no multiple of gcd = gcd(stride, dilation).
    """
    common = gcd(stride, dilation)
    step = stride // common
    classes: list[AxisClass] = []
    for residue in range(min(stride, out)):
        at = residue + begin
        first = next((k for k in range(min(step, kernel)) if (at - dilation * k) % stride == 0), None)
        if first is None:
            continue
        last = first + (kernel - 1 - first) // step * step
        # taps are stored backwards, so that input positions rise with the tap
        taps = tuple(range(last, first - 1, -step))
        base = (at - dilation * last) // stride
        count = -(-(out - residue) // stride)
        whole = AxisClass(count, base, 1, dilation // common, residue, stride, taps)
        classes.extend(refine(whole, size) if refined else [whole])
    return tuple(classes)


def refine(axis: AxisClass, size: int) -> tuple[AxisClass, ...]:
    """Drops taps and windows that meet padding only, and parts windows that share no tap.

    The taps of a window that lie inside an input of `size` positions are an interval, which only moves down from
    window to window. Windows are kept in one class as long as consecutive intervals overlap; parting them where they
    do not stores no tap twice. So ordinary padding at a border stays, but a 1-position input with a kernel of 4
    gives 4 classes of one tap and one window.
    """
    base = axis.in_base + np.arange(axis.count) * axis.in_stride
    low = np.maximum(0, -(base // axis.in_dilation))
    high = np.minimum(len(axis.taps), (size - 1 - base) // axis.in_dilation + 1)
    inside = np.flatnonzero(low < high)
    if inside.size == 0:
        return ()
    begins = np.flatnonzero(high[inside[1:]] <= low[inside[:-1]]) + 1
    return tuple(_part(axis, run, int(low[run[-1]]), int(high[run[0]])) for run in np.split(inside, begins))


def _part(axis: AxisClass, run: np.ndarray, low: int, high: int) -> AxisClass:
    q = int(run[0])
    return AxisClass(
        len(run),
        axis.in_base + q * axis.in_stride + low * axis.in_dilation,
        axis.in_stride,
        axis.in_dilation,
        axis.out_base + q * axis.out_stride,
        axis.out_stride,
        axis.taps[low:high],
    )
