"""PROGRAM and MVM: writing and reading crossbars."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from mgc.isa.crossbar import sliced_product
from mgc.isa.error import ProgramError
from mgc.isa.instruction import Instruction, opcode
from mgc.isa.strided import (
    check_box,
    check_distinct,
    gather_windows,
    scatter_windows,
    strided_view,
    window_positions,
)

if TYPE_CHECKING:
    from mgc.isa.machine import Machine
    from mgc.isa.program import Program as WholeProgram


@opcode
@dataclass(frozen=True)
class Program(Instruction):
    """Writes a group's weights into its cells, once, before the first micro-batch."""

    opcode: ClassVar[int] = 1
    mnemonic: ClassVar[str] = "program"
    cost_class: ClassVar[str] = "write"

    group: int

    def check(self, program: WholeProgram) -> None:
        if not 0 <= self.group < len(program.groups):
            raise ProgramError(f"group {self.group} does not exist; there are {len(program.groups)}")

    def execute(self, machine: Machine) -> None:
        group = machine.program.groups[self.group]
        machine.write_cells(self.group, machine.program.tensors[group.real_weights if machine.ideal else group.weights])

    def writes_groups(self) -> tuple[int, ...]:
        return (self.group,)


_CHUNK = 1 << 24
"""Crossbar inputs gathered at once."""


@opcode
@dataclass(frozen=True)
class Mvm(Instruction):
    """Streams every window of a code buffer through a crossbar group and writes the sums to an accumulator buffer.

    The source is seen as [batch, channels, *spatial] through `src_shape` and `src_strides` (elements), the
    destination likewise. For each spatial dimension window q, tap t read input position
    in_base + q*in_stride + t*in_dilation (outside the input: the code `outside`, in `float` numerics 0) and window q
    writes out_base + q*out_stride. Matrix g reads channels [g*C, (g+1)*C), C = rows/taps, and writes channels
    [g*cols, (g+1)*cols). Row k of a matrix is channel k // taps, tap k mod taps when `tap_fastest`, else tap k // C,
    channel k mod C.
    `signed` says whether codes are two's complement.
    Positions of the destination that no MVM writes are zero. In `quantized` numerics the sums are what
    `mgc.isa.crossbar` defines (to be multiplied by the arithmetic's factor), in `float` numerics the product with the
    real weights, in float64, rounded once to float32.
    """

    opcode: ClassVar[int] = 2
    mnemonic: ClassVar[str] = "mvm"
    cost_class: ClassVar[str] = "crossbar"

    group: int
    src: int
    dst: int
    signed: bool
    tap_fastest: bool
    src_shape: tuple[int, ...]
    src_strides: tuple[int, ...]
    dst_shape: tuple[int, ...]
    dst_strides: tuple[int, ...]
    count: tuple[int, ...]
    taps: tuple[int, ...]
    in_base: tuple[int, ...]
    in_stride: tuple[int, ...]
    in_dilation: tuple[int, ...]
    out_base: tuple[int, ...]
    out_stride: tuple[int, ...]
    outside: int = 0

    @property
    def windows(self) -> int:
        """Windows of one sample."""
        return prod(self.count)

    @property
    def out_slices(self) -> tuple[slice, ...]:
        """The spatial positions of the destination that it writes."""
        spans = zip(self.out_base, self.count, self.out_stride, strict=True)
        return tuple(slice(b, b + (q - 1) * s + 1, s) for b, q, s in spans)

    def in_positions(self) -> list[np.ndarray]:
        """For each spatial dimension the input positions [count, taps], the extent for those outside the input."""
        columns = (self.in_base, self.count, self.in_stride, self.taps, self.in_dilation, self.src_shape[2:])
        return [window_positions(*row) for row in zip(*columns, strict=True)]

    def check(self, program: WholeProgram) -> None:
        if not 0 <= self.group < len(program.groups):
            raise ProgramError(f"group {self.group} does not exist; there are {len(program.groups)}")
        group = program.groups[self.group]
        src, dst = program.operand(0, self.src), program.operand(0, self.dst)
        for index, kind in ((self.src, "code"), (self.dst, "acc")):
            if program.buffers[index].kind != kind:
                raise ProgramError(f"buffer {index} is of kind {program.buffers[index].kind}, {kind} is expected")
        if (src.dtype.kind == "i") != self.signed:
            raise ProgramError(f"signed is {self.signed} but the source is {src}")
        dims = len(self.count)
        for name in ("taps", "in_base", "in_stride", "in_dilation", "out_base", "out_stride"):
            if len(getattr(self, name)) != dims:
                raise ProgramError(f"{name} has {len(getattr(self, name))} entries, count has {dims}")
        if dims > 4 or len(self.src_shape) != dims + 2 or len(self.dst_shape) != dims + 2:
            raise ProgramError(f"[batch, channels] and the same {dims} (at most 4) spatial dimensions are expected")
        if min((*self.count, *self.taps, *self.out_stride, *self.src_shape, *self.dst_shape)) < 1:
            raise ProgramError("count, taps, out_stride, src_shape and dst_shape must be at least 1")
        # so that no position overflows; far above any tensor
        if any(abs(v) > 1 << 31 for v in (*self.in_base, *self.in_stride, *self.in_dilation)):
            raise ProgramError("in_base, in_stride and in_dilation must be within 2^31")
        check_box("src", 0, self.src_shape, self.src_strides, prod(src.shape))
        check_box("dst", 0, self.dst_shape, self.dst_strides, prod(dst.shape))
        check_distinct("dst", self.dst_shape, self.dst_strides)
        if self.src_shape[0] != self.dst_shape[0]:
            raise ProgramError(f"the source has batch {self.src_shape[0]}, the destination {self.dst_shape[0]}")
        if group.rows % prod(self.taps) or self.src_shape[1] < group.matrices * (group.rows // prod(self.taps)):
            raise ProgramError(
                f"{group.matrices} matrices of {group.rows} rows with {prod(self.taps)} taps do not read "
                f"{self.src_shape[1]} channels"
            )
        if self.dst_shape[1] != group.matrices * group.cols:
            raise ProgramError(f"{group.matrices} x {group.cols} columns but {self.dst_shape[1]} channels to write")
        for d, (span, extent) in enumerate(zip(self.out_slices, self.dst_shape[2:], strict=True)):
            if span.start < 0 or span.stop > extent:
                raise ProgramError(f"dimension {d}: windows write {span.start}..{span.stop - 1} of {extent} positions")

    def execute(self, machine: Machine) -> None:
        group = machine.program.groups[self.group]
        source = strided_view(machine.buffer(self.src), 0, self.src_shape, self.src_strides)
        target = strided_view(machine.writable(self.dst), 0, self.dst_shape, self.dst_strides)
        positions = self.in_positions()
        channels = group.rows // prod(self.taps)
        outside = 0 if machine.ideal else self.outside
        if not positions:
            rows = gather_windows(source, positions, group.matrices, channels, self.tap_fastest, outside)
            scatter_windows(self._product(machine, rows), target, (), ())
            return
        # all windows at once, or as many rows of windows as fit
        per_row = source.shape[0] * group.matrices * group.rows * prod(self.count[1:])
        step = max(1, _CHUNK // per_row)
        first, *others = self.out_slices
        for q in range(0, self.count[0], step):
            part = [positions[0][q : q + step], *positions[1:]]
            rows = gather_windows(source, part, group.matrices, channels, self.tap_fastest, outside)
            count = (len(part[0]), *self.count[1:])
            start = first.start + q * first.step
            where = (slice(start, start + (count[0] - 1) * first.step + 1, first.step), *others)
            scatter_windows(self._product(machine, rows), target, where, count)

    def _product(self, machine: Machine, rows: np.ndarray) -> np.ndarray:
        """Sums [matrices, n, cols] for inputs [matrices, n, rows]."""
        arithmetic = machine.program.groups[self.group].arithmetic
        cells = machine.cells[self.group]
        if machine.ideal:
            return np.matmul(rows.astype(np.float64), cells.astype(np.float64)).astype(np.float32)
        return np.stack([sliced_product(x, c, arithmetic, self.signed) for x, c in zip(rows, cells, strict=True)])

    def reads(self) -> tuple[int, ...]:
        return (self.src,)

    def writes(self) -> tuple[int, ...]:
        return (self.dst,)

    def reads_groups(self) -> tuple[int, ...]:
        return (self.group,)
