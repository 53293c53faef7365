"""The windows of a product: what MVM, MVM_T and OUTER have in common."""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import prod

from mgc.functions.windows import Layout, Windows
from mgc.isa.error import ProgramError
from mgc.isa.strided import check_box


@dataclass(frozen=True)
class BufferLayout(Layout):
    """A flat buffer seen as [batch, channels, *spatial]; `name` is for messages."""

    name: str


def check_windows(
    windows: Windows,
    inner: BufferLayout,
    outer: BufferLayout,
    sizes: tuple[int, int],
    matrices: int,
    rows: int,
    cols: int,
) -> None:
    """Raises ProgramError unless every address of input `inner` and output `outer`, of `sizes` elements, is inside.

    Matrix g of [matrices, rows, cols] reads channels [g*C, (g+1)*C) of the input, C = rows/taps, and writes
    channels [g*cols, (g+1)*cols) of the output.
    """
    dims = len(windows.count)
    for name in ("taps", "in_base", "in_stride", "in_dilation", "out_base", "out_stride"):
        if len(getattr(windows, name)) != dims:
            raise ProgramError(f"{name} has {len(getattr(windows, name))} entries, count has {dims}")
    if dims > 4 or len(inner.shape) != dims + 2 or len(outer.shape) != dims + 2:
        raise ProgramError(f"[batch, channels] and the same {dims} (at most 4) spatial dimensions are expected")
    if min((*windows.count, *windows.taps, *windows.out_stride, *inner.shape, *outer.shape)) < 1:
        raise ProgramError(f"count, taps, out_stride, {inner.name}_shape and {outer.name}_shape must be at least 1")
    # so that no position overflows; far above any tensor
    if any(abs(v) > 1 << 31 for v in (*windows.in_base, *windows.in_stride, *windows.in_dilation)):
        raise ProgramError("in_base, in_stride and in_dilation must be within 2^31")
    for view, size in zip((inner, outer), sizes, strict=True):
        check_box(view.name, 0, view.shape, view.strides, size)
    if inner.shape[0] != outer.shape[0]:
        raise ProgramError(f"{inner.name} has batch {inner.shape[0]}, {outer.name} {outer.shape[0]}")
    taps = prod(windows.taps)
    if rows % taps or inner.shape[1] < matrices * (rows // taps):
        raise ProgramError(f"{matrices} matrices of {rows} rows with {taps} taps do not read {inner.shape[1]} channels")
    if outer.shape[1] != matrices * cols:
        raise ProgramError(f"{matrices} x {cols} columns but {outer.shape[1]} channels to write")
    for d, (span, extent) in enumerate(zip(windows.out_slices, outer.shape[2:], strict=True)):
        if span.start < 0 or span.stop > extent:
            raise ProgramError(
                f"dimension {d}: windows write {span.start}..{span.stop - 1} of {extent} positions of {outer.name}"
            )


@dataclass(frozen=True)
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
