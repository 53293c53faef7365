"""PROGRAM and MVM: writing and reading crossbars."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np

from mgc.isa.crossbar import sliced_product
from mgc.isa.device.reads import Runs
from mgc.isa.error import ProgramError
from mgc.isa.instruction import Instruction, opcode
from mgc.isa.machine import Machine
from mgc.isa.resources import Resources
from mgc.isa.strided import check_distinct
from mgc.isa.windows import BufferLayout, Windowed, check_windows


@opcode
@dataclass(frozen=True)
class WriteCells(Instruction):
    """Writes a group's weights into its cells, once, before the first micro-batch."""

    opcode: ClassVar[int] = 1
    mnemonic: ClassVar[str] = "program"
    cost_class: ClassVar[str] = "write"
    timed: ClassVar[bool] = False

    group: int

    def check(self, program: Resources) -> None:
        if not 0 <= self.group < len(program.groups):
            raise ProgramError(f"group {self.group} does not exist; there are {len(program.groups)}")

    def execute(self, machine: Machine) -> None:
        group = machine.program.groups[self.group]
        weights = machine.program.tensors[group.real_weights if machine.ideal else group.weights]
        machine.write_cells(self.group, weights, self.id)

    def writes_groups(self) -> tuple[int, ...]:
        return (self.group,)


_CHUNK = 1 << 24
"""Crossbar inputs gathered at once."""


@opcode
@dataclass(frozen=True)
class Mvm(Windowed, Instruction):
    """Streams every window of a code buffer through a crossbar group and writes the sums to an accumulator buffer.

    The source is seen as [batch, channels, *spatial] through `src_shape` and `src_strides` (elements), the
    destination likewise. For each spatial dimension window q, tap t read input position
    in_base + q*in_stride + t*in_dilation (outside the input: the code `outside`, in `float` numerics 0) and window q
    writes out_base + q*out_stride. Matrix g reads channels [g*C, (g+1)*C), C = rows/taps, and writes channels
    [g*cols, (g+1)*cols). Row k of a matrix is channel k // taps, tap k mod taps when `tap_fastest`, else tap k // C,
    channel k mod C.
    `signed` says whether codes are two's complement.
    Positions of the destination that no MVM writes are zero. In `quantized` numerics the sums are what
    `mgc.isa.crossbar` defines (to be multiplied by the arithmetic's factor), in `device` numerics those of
    `mgc.isa.device.reads`, in `float` numerics the product with the real weights, in float64, rounded once to float32.
    """

    opcode: ClassVar[int] = 2
    mnemonic: ClassVar[str] = "mvm"
    cost_class: ClassVar[str] = "crossbar"

    group: int
    src: int
    dst: int
    signed: bool
    src_shape: tuple[int, ...]
    src_strides: tuple[int, ...]
    dst_shape: tuple[int, ...]
    dst_strides: tuple[int, ...]
    outside: int = 0

    @property
    def inner(self) -> BufferLayout:
        """The source."""
        return BufferLayout(self.src_shape, self.src_strides, "src")

    @property
    def outer(self) -> BufferLayout:
        """The destination."""
        return BufferLayout(self.dst_shape, self.dst_strides, "dst")

    def check(self, program: Resources) -> None:
        if not 0 <= self.group < len(program.groups):
            raise ProgramError(f"group {self.group} does not exist; there are {len(program.groups)}")
        group = program.groups[self.group]
        src, dst = program.operand(0, self.src), program.operand(0, self.dst)
        for index, kind in ((self.src, "code"), (self.dst, "acc")):
            if program.buffers[index].kind != kind:
                raise ProgramError(f"buffer {index} is of kind {program.buffers[index].kind}, {kind} is expected")
        if (src.dtype.kind == "i") != self.signed:
            raise ProgramError(f"signed is {self.signed} but the source is {src}")
        sizes = (prod(src.shape), prod(dst.shape))
        check_windows(self.geometry, self.inner, self.outer, sizes, group.matrices, group.rows, group.cols)
        check_distinct("dst", self.dst_shape, self.dst_strides)

    def execute(self, machine: Machine) -> None:
        group = machine.program.groups[self.group]
        source, target = self.inner.view(machine.buffer(self.src)), self.outer.view(machine.writable(self.dst))
        windows, channels = self.geometry, group.rows // prod(self.taps)
        outside = 0 if machine.ideal else self.outside
        # all windows at once, or as many rows of windows as fit
        rows_of = self.count[0] if self.count else 1
        step = max(1, _CHUNK // (source.shape[0] * group.matrices * group.rows * prod(self.count[1:])))
        for q in range(0, rows_of, step):
            part = windows.part(q, min(step, rows_of - q)) if self.count else windows
            rows = part.gather_inputs(source, group.matrices, channels, self.tap_fastest, outside)
            runs = [(n * self.windows + q * prod(self.count[1:]), part.total) for n in range(len(source))]
            part.scatter_outputs(self._product(machine, rows, runs), target)

    def _product(self, machine: Machine, rows: np.ndarray, runs: Runs) -> np.ndarray:
        """Sums [matrices, n, cols] for inputs [matrices, n, rows] of windows with the numbers `runs`."""
        arithmetic = machine.program.groups[self.group].arithmetic
        cells = machine.cells[self.group]
        if machine.ideal:
            return np.matmul(rows.astype(np.float64), cells.astype(np.float64)).astype(np.float32)
        if machine.devices is not None:
            return machine.devices.sums(self.group, self.id, rows, cells, self.signed, runs)
        return np.stack([sliced_product(x, c, arithmetic, self.signed) for x, c in zip(rows, cells, strict=True)])

    def reads(self) -> tuple[int, ...]:
        return (self.src,)

    def writes(self) -> tuple[int, ...]:
        return (self.dst,)

    def reads_groups(self) -> tuple[int, ...]:
        return (self.group,)
