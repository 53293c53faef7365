"""The windows of a product: what MVM, MVM_T and OUTER have in common."""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import prod

import numpy as np

from mgc.isa.error import ProgramError
from mgc.isa.strided import check_box, strided_view, window_positions


@dataclass(frozen=True)
class View:
    """A flat buffer seen as [batch, channels, *spatial]; strides in elements. `name` is for messages."""

    name: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def of(self, array: np.ndarray) -> np.ndarray:
        """The view of a C-contiguous array (writable if the array is)."""
        return strided_view(array, 0, self.shape, self.strides)


@dataclass(frozen=True)
class Windows:
    """Which positions of an input and an output each window meets.

    For each spatial dimension window q, tap t meet input position in_base + q*in_stride + t*in_dilation (outside the
    input: 0), and window q meets output position out_base + q*out_stride.
    """

    count: tuple[int, ...]
    taps: tuple[int, ...]
    in_base: tuple[int, ...]
    in_stride: tuple[int, ...]
    in_dilation: tuple[int, ...]
    out_base: tuple[int, ...]
    out_stride: tuple[int, ...]
    tap_fastest: bool

    @property
    def out_slices(self) -> tuple[slice, ...]:
        """The spatial positions of the output that they meet."""
        spans = zip(self.out_base, self.count, self.out_stride, strict=True)
        return tuple(slice(b, b + (q - 1) * s + 1, s) for b, q, s in spans)

    def in_positions(self, spatial: tuple[int, ...]) -> list[np.ndarray]:
        """For each spatial dimension the input positions [count, taps], the extent for those outside the input."""
        columns = (self.in_base, self.count, self.in_stride, self.taps, self.in_dilation, spatial)
        return [window_positions(*row) for row in zip(*columns, strict=True)]

    def check(self, inner: View, outer: View, sizes: tuple[int, int], matrices: int, rows: int, cols: int) -> None:
        """Raises ProgramError unless every address of input `inner` and output `outer`, of `sizes` elements, is inside.

        Matrix g of [matrices, rows, cols] reads channels [g*C, (g+1)*C) of the input, C = rows/taps, and writes
        channels [g*cols, (g+1)*cols) of the output.
        """
        dims = len(self.count)
        for name in ("taps", "in_base", "in_stride", "in_dilation", "out_base", "out_stride"):
            if len(getattr(self, name)) != dims:
                raise ProgramError(f"{name} has {len(getattr(self, name))} entries, count has {dims}")
        if dims > 4 or len(inner.shape) != dims + 2 or len(outer.shape) != dims + 2:
            raise ProgramError(f"[batch, channels] and the same {dims} (at most 4) spatial dimensions are expected")
        if min((*self.count, *self.taps, *self.out_stride, *inner.shape, *outer.shape)) < 1:
            raise ProgramError(f"count, taps, out_stride, {inner.name}_shape and {outer.name}_shape must be at least 1")
        # so that no position overflows; far above any tensor
        if any(abs(v) > 1 << 31 for v in (*self.in_base, *self.in_stride, *self.in_dilation)):
            raise ProgramError("in_base, in_stride and in_dilation must be within 2^31")
        for view, size in zip((inner, outer), sizes, strict=True):
            check_box(view.name, 0, view.shape, view.strides, size)
        if inner.shape[0] != outer.shape[0]:
            raise ProgramError(f"{inner.name} has batch {inner.shape[0]}, {outer.name} {outer.shape[0]}")
        taps = prod(self.taps)
        if rows % taps or inner.shape[1] < matrices * (rows // taps):
            raise ProgramError(
                f"{matrices} matrices of {rows} rows with {taps} taps do not read {inner.shape[1]} channels"
            )
        if outer.shape[1] != matrices * cols:
            raise ProgramError(f"{matrices} x {cols} columns but {outer.shape[1]} channels to write")
        for d, (span, extent) in enumerate(zip(self.out_slices, outer.shape[2:], strict=True)):
            if span.start < 0 or span.stop > extent:
                raise ProgramError(
                    f"dimension {d}: windows write {span.start}..{span.stop - 1} of {extent} positions of {outer.name}"
                )

    @property
    def total(self) -> int:
        """Windows of one sample."""
        return prod(self.count)

    def gather_outputs(self, y: np.ndarray, matrices: int) -> np.ndarray:
        """[matrices, batch * windows, cols] of y [batch, matrices * cols, *spatial]: what each window writes."""
        batch, channels = y.shape[:2]
        met = y[(slice(None), slice(None), *self.out_slices)].reshape(batch, matrices, channels // matrices, -1)
        return met.transpose(1, 0, 3, 2).reshape(matrices, -1, channels // matrices)

    def hits(self, spatial: tuple[int, ...]) -> int:
        """How often the windows meet the input position that they meet most often."""
        most = 1
        for positions, extent in zip(self.in_positions(spatial), spatial, strict=True):
            inside = positions[positions < extent]
            most *= int(np.bincount(inside).max()) if inside.size else 0
        return most

    def add_inputs(self, sums: np.ndarray, x: np.ndarray, matrices: int) -> None:
        """Adds sums [matrices, batch * windows, rows] into x [batch, channels, *spatial] where the windows read.

        Tap after tap, the last axis fastest, so that the order of float additions is known.
        """
        dims, taps = len(self.count), prod(self.taps)
        batch, spatial = x.shape[0], x.shape[2:]
        channels = sums.shape[2] // taps
        split = (channels, taps) if self.tap_fastest else (taps, channels)
        values = sums.reshape(matrices, batch, *self.count, *split)
        tap_axis, channel_axis = (dims + 3, dims + 2) if self.tap_fastest else (dims + 2, dims + 3)
        values = values.transpose(tap_axis, 1, 0, channel_axis, *range(2, dims + 2))
        values = values.reshape(taps, batch, matrices * channels, *self.count)
        # positions outside the input go to one more position at the end of each axis, which is dropped
        whole = np.zeros((batch, matrices * channels, *(n + 1 for n in spatial)), sums.dtype)
        positions = self.in_positions(spatial)
        for tap, part in zip(np.ndindex(*self.taps), values, strict=True):
            where = np.ix_(*(p[:, t] for p, t in zip(positions, tap, strict=True))) if dims else ()
            whole[(slice(None), slice(None), *where)] += part
        x[:, : matrices * channels] += whole[(slice(None), slice(None), *[slice(0, -1)] * dims)]


class Windowed:
    """An instruction that loops over windows: the fields of its address generator, and the generator itself."""

    tap_fastest: bool
    count: tuple[int, ...]
    taps: tuple[int, ...]
    in_base: tuple[int, ...]
    in_stride: tuple[int, ...]
    in_dilation: tuple[int, ...]
    out_base: tuple[int, ...]
    out_stride: tuple[int, ...]

    @property
    def geometry(self) -> Windows:
        """Its address generator."""
        return Windows(**{f.name: getattr(self, f.name) for f in fields(Windows)})

    @property
    def windows(self) -> int:
        """Windows of one sample."""
        return self.geometry.total
