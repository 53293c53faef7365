"""Windows over spatial axes: kernels of convolutions and pools tap by tap, and the address generators of crossbars."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import prod

import numpy as np

Array = np.ndarray


def output_extent(size: int, kernel: int, stride: int, begin: int, end: int, dilation: int) -> int:
    """Number of windows along one axis; may come out <= 0 if the kernel does not fit."""
    return (size + begin + end - dilation * (kernel - 1) - 1) // stride + 1


def padded(x: Array, pads: Sequence[int], value: float) -> Array:
    """x with its spatial axes (all but the first two) padded by `pads` = (begins..., ends...)."""
    rank = len(pads) // 2
    if not any(pads):
        return x
    return np.pad(x, [(0, 0), (0, 0), *zip(pads[:rank], pads[rank:], strict=True)], constant_values=value)


def taps(
    kernel: Sequence[int], extents: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> Iterator[tuple[tuple[int, ...], tuple[slice, ...]]]:
    """Each kernel tap, the last axis fastest, with the slices of a padded input that it meets over all windows."""
    for tap in product(*map(range, kernel)):
        spans = zip(tap, extents, strides, dilations, strict=True)
        yield tap, (slice(None), slice(None), *(slice(t * d, t * d + (n - 1) * s + 1, s) for t, n, s, d in spans))


def strided_view(flat: Array, base: int, extents: Sequence[int], strides: Sequence[int]) -> Array:
    """The box of a C-contiguous array at `base` with `strides` in elements. Bounds must have been checked."""
    flat = flat.reshape(-1)
    if 0 in extents:
        return np.zeros(tuple(extents), flat.dtype)
    return np.lib.stride_tricks.as_strided(flat[base:], tuple(extents), [s * flat.itemsize for s in strides])


@dataclass(frozen=True)
class Layout:
    """A strided view of a dense tensor as [batch, channels, *spatial]; strides in elements.

    NCHW tensors and the rows of a matrix product ([.., tokens, K]: channel stride 1) both have one.
    """

    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def view(self, array: Array) -> Array:
        """The view of a C-contiguous array (writable if the array is)."""
        return strided_view(array, 0, self.shape, self.strides)

    @staticmethod
    def nchw(shape: Sequence[int]) -> Layout:
        """The layout of a C-contiguous tensor [batch, channels, *spatial]."""
        return Layout(tuple(shape), tuple(prod(shape[d + 1 :]) for d in range(len(shape))))


@dataclass(frozen=True)
class Windows:
    """The address generator of one windowed matrix product, one entry for each spatial dimension.

    Window q, tap t of a dimension meet input position `in_base + q*in_stride + t*in_dilation`; positions outside the
    input read as zero. Window q meets output position `out_base + q*out_stride`. Of `matrices` matrices, matrix g reads
    channels [g*C, (g+1)*C) of the input and writes channels [g*cols, (g+1)*cols) of the output; its rows are C channels
    times taps, the tap fastest or the channel.
    """

    count: tuple[int, ...]
    taps: tuple[int, ...]
    in_base: tuple[int, ...]
    in_stride: tuple[int, ...]
    in_dilation: tuple[int, ...]
    out_base: tuple[int, ...]
    out_stride: tuple[int, ...]

    @property
    def total(self) -> int:
        """Windows of one sample."""
        return prod(self.count)

    @property
    def tap_total(self) -> int:
        """Taps of one window."""
        return prod(self.taps)

    @property
    def out_slices(self) -> tuple[slice, ...]:
        """The spatial positions of the output that they meet."""
        spans = zip(self.out_base, self.count, self.out_stride, strict=True)
        return tuple(slice(b, b + (q - 1) * s + 1, s) for b, q, s in spans)

    def part(self, first: int, count: int) -> Windows:
        """Windows first .. first + count of the first dimension (if there is one), with all of the others."""
        if not self.count:
            return self
        return replace(
            self,
            count=(count, *self.count[1:]),
            in_base=(self.in_base[0] + first * self.in_stride[0], *self.in_base[1:]),
            out_base=(self.out_base[0] + first * self.out_stride[0], *self.out_base[1:]),
        )

    @property
    def out_positions(self) -> list[Array]:
        """For each spatial dimension the output positions [count]."""
        return [np.arange(s.start, s.stop, s.step) for s in self.out_slices]

    @property
    def starts(self) -> list[Array]:
        """For each spatial dimension the input positions [count] that the first taps meet."""
        return [b + s * np.arange(n) for b, s, n in zip(self.in_base, self.in_stride, self.count, strict=True)]

    def in_positions(self, spatial: Sequence[int]) -> list[Array]:
        """For each spatial dimension the input positions [count, taps], the extent for those outside the input."""
        positions = []
        for start, taps, dilation, extent in zip(self.starts, self.taps, self.in_dilation, spatial, strict=True):
            at = start[:, None] + dilation * np.arange(taps)
            positions.append(np.where((at >= 0) & (at < extent), at, extent))
        return positions

    def hits(self, spatial: Sequence[int]) -> int:
        """How often the windows meet the input position that they meet most often."""
        most = 1
        for positions, extent in zip(self.in_positions(spatial), spatial, strict=True):
            inside = positions[positions < extent]
            most *= int(np.bincount(inside).max()) if inside.size else 0
        return most

    def open_lines(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Of an input [batch, channels, *spatial] the shape of what one line of windows (all of one position in the
        first spatial dimension) meets.
        """
        if not self.taps:
            return tuple(shape)
        reach = (self.taps[0] - 1) * abs(self.in_dilation[0]) + 1
        return (*shape[:2], min(shape[2], reach), *shape[3:])

    def gather_inputs(self, x: Array, matrices: int, channels: int, tap_fastest: bool, outside: int = 0) -> Array:
        """Crossbar inputs [matrices, batch * windows, rows] of x [batch, channels of all, *spatial]: what each window
        reads, `outside` beyond the input.
        """
        dims, batch = len(self.count), x.shape[0]
        x = x[:, : matrices * channels]
        starts, tap_steps, window_steps = [], [], []
        for d, positions in enumerate(self.in_positions(x.shape[2:])):
            base, tap, window = self.in_base[d], self.in_dilation[d], self.in_stride[d]
            ends = [base + a + b for a in (0, (self.count[d] - 1) * window) for b in (0, (self.taps[d] - 1) * tap)]
            extent = x.shape[2 + d]
            before, after = max(0, -min(ends)), max(0, max(ends) - extent + 1)
            far = before + after > extent + positions.size
            widths = [(0, 0)] * x.ndim
            widths[2 + d] = (0, 1) if far else (before, after)
            if far or before or after:
                x = np.pad(x, widths, constant_values=outside)
            if far:  # picked one by one instead of padding all the way there
                x, before, base, tap, window = np.take(x, positions.reshape(-1), 2 + d), 0, 0, 1, self.taps[d]
            starts.append(base + before)
            tap_steps.append(tap)
            window_steps.append(window)
        sample, channel, *spatial = x.strides
        start = x[(slice(None), slice(None), *(slice(s, None) for s in starts))]
        steps = [s * n for s, n in zip(spatial, tap_steps, strict=True)]
        steps += [s * n for s, n in zip(spatial, window_steps, strict=True)]
        boxes = np.lib.stride_tricks.as_strided(
            start,
            (batch, matrices, channels, *self.taps, *self.count),
            (sample, channels * channel, channel, *steps),
            writeable=False,
        )
        tap_axes, window_axes = range(3, 3 + dims), range(3 + dims, 3 + 2 * dims)
        row_axes = [2, *tap_axes] if tap_fastest else [*tap_axes, 2]
        rows = boxes.transpose([1, 0, *window_axes, *row_axes])
        return rows.reshape(matrices, batch * self.total, channels * self.tap_total)

    def add_inputs(self, sums: Array, x: Array, matrices: int, tap_fastest: bool) -> None:
        """Adds sums [matrices, batch * windows, rows] into x [batch, channels, *spatial] where the windows read.

        Tap after tap, the last axis fastest, so that the order of float additions is known.
        """
        dims, taps = len(self.count), self.tap_total
        batch, spatial = x.shape[0], x.shape[2:]
        channels = sums.shape[2] // taps
        split = (channels, taps) if tap_fastest else (taps, channels)
        values = sums.reshape(matrices, batch, *self.count, *split)
        tap_axis, channel_axis = (dims + 3, dims + 2) if tap_fastest else (dims + 2, dims + 3)
        values = values.transpose(tap_axis, 1, 0, channel_axis, *range(2, dims + 2))
        values = values.reshape(taps, batch, matrices * channels, *self.count)
        # positions outside the input go to one more position at the end of each axis, which is dropped
        whole = np.zeros((batch, matrices * channels, *(n + 1 for n in spatial)), sums.dtype)
        positions = self.in_positions(spatial)
        for tap, part in zip(np.ndindex(*self.taps), values, strict=True):
            where = np.ix_(*(p[:, t] for p, t in zip(positions, tap, strict=True))) if dims else ()
            whole[(slice(None), slice(None), *where)] += part
        x[:, : matrices * channels] += whole[(slice(None), slice(None), *[slice(0, -1)] * dims)]

    def gather_outputs(self, y: Array, matrices: int) -> Array:
        """[matrices, batch * windows, cols] of y [batch, matrices * cols, *spatial]: what each window writes."""
        batch, channels = y.shape[:2]
        met = y[(slice(None), slice(None), *self.out_slices)].reshape(batch, matrices, channels // matrices, -1)
        return met.transpose(1, 0, 3, 2).reshape(matrices, -1, channels // matrices)

    def scatter_outputs(self, sums: Array, out: Array) -> None:
        """Writes sums [matrices, batch * windows, cols] to the positions of out [batch, matrices * cols, *spatial]."""
        matrices, _, cols = sums.shape
        values = sums.reshape(matrices, out.shape[0], *self.count, cols)
        values = np.moveaxis(np.moveaxis(values, -1, 1), 2, 0).reshape(out.shape[0], matrices * cols, *self.count)
        out[(slice(None), slice(None), *self.out_slices)] = values
