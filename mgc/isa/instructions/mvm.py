"""PROGRAM, REWRITE and MVM: writing and reading crossbars."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mgc.isa.error import ProgramError
from mgc.isa.instruction import Instruction, elements_of, opcode
from mgc.isa.machine import Machine
from mgc.isa.memory import Access
from mgc.isa.resources import Resources
from mgc.isa.windows import CHUNK, CrossbarRead


@dataclass(frozen=True)
class GroupWrite(Instruction):
    """Writes the weights of a group into its cells."""

    cost_class: ClassVar[str] = "write"

    group: int

    def check(self, program: Resources) -> None:
        if not 0 <= self.group < len(program.groups):
            raise ProgramError(f"group {self.group} does not exist; there are {len(program.groups)}")

    def writes_groups(self) -> tuple[int, ...]:
        return (self.group,)


@opcode
@dataclass(frozen=True)
class WriteCells(GroupWrite):
    """Writes a group's weights into its cells, once, before the first micro-batch."""

    opcode: ClassVar[int] = 1
    mnemonic: ClassVar[str] = "program"
    timed: ClassVar[bool] = False

    def check(self, program: Resources) -> None:
        super().check(program)
        if program.groups[self.group].off_chip:
            raise ProgramError(f"group {self.group} is off-chip: REWRITE writes its cells")

    def execute(self, machine: Machine) -> None:
        machine.write_cells(self.group, machine.initial_weights(self.group), self.id)


@opcode
@dataclass(frozen=True)
class Rewrite(GroupWrite):
    """Writes the weights of an off-chip group into its cells.

    Groups that take turns on the same crossbars are off-chip and have no PROGRAM. In every run of an entry a REWRITE
    comes before the first read of such a group, and before its next read wherever its cells no longer hold its weights:
    a REWRITE of another group has taken some of its crossbars, or an UPDATE has changed the weights. It waits for all
    reads of what its crossbars held before. A run goes through one micro-batch, and no run overlaps another one.
    """

    opcode: ClassVar[int] = 12
    mnemonic: ClassVar[str] = "rewrite"

    def check(self, program: Resources) -> None:
        super().check(program)
        if not program.groups[self.group].off_chip:
            raise ProgramError(f"group {self.group} is not off-chip: its weights stay in its cells")

    def execute(self, machine: Machine) -> None:
        taken = set(machine.program.groups[self.group].crossbars)
        for other in [g for g in machine.cells if not taken.isdisjoint(machine.program.groups[g].crossbars)]:
            del machine.cells[other]
        machine.write_cells(self.group, machine.weights(self.group), self.id)

    def fetches(self, program: Resources) -> int:
        """The weights once, for all replicas."""
        return program.groups[self.group].weight_bytes


@opcode
@dataclass(frozen=True)
class Mvm(CrossbarRead):
    """Streams every window of a code buffer through a crossbar group and writes the sums to an accumulator buffer.

    `input` is how the source is seen, `output` how the destination is. For each spatial dimension window q, tap t read
    input position in_base + q*in_stride + t*in_dilation (outside the input: the code `outside`, in `float` numerics 0)
    and window q writes out_base + q*out_stride. Matrix g reads channels [g*C, (g+1)*C), C = rows/taps, and writes
    channels [g*cols, (g+1)*cols). Row k of a matrix is channel k // taps, tap k mod taps when `tap_fastest`, else tap
    k // C, channel k mod C. `signed` says whether codes are two's complement.
    Positions of the destination that no MVM writes are zero. One that drains has no accumulator (`dst` is -1): it
    writes its results at the positions of its windows; all MVMs that write them have one drain, and leave no place.
    In `quantized` numerics the sums are what `mgc.isa.crossbar` defines (to be multiplied by the arithmetic's factor),
    in `device` numerics those of `mgc.isa.device.reads`, in `float` numerics the product with the real weights, in
    float64, rounded once to float32.
    """

    opcode: ClassVar[int] = 2
    mnemonic: ClassVar[str] = "mvm"
    cost_class: ClassVar[str] = "crossbar"

    outside: int = 0

    def check(self, program: Resources) -> None:
        if (self.steps or self.stores) and self.dst != -1:
            raise ProgramError(f"it drains its sums, and has accumulator {self.dst}: -1 is expected")
        super().check(program)

    def accesses(self, program: Resources) -> tuple[Access, ...]:
        """Codes, gathered window by window, and its own results: parts of one product write positions of their own."""
        group = program.groups[self.group]
        gathered = self.window_total * group.matrices * group.rows
        codes = Access(self.src, elements_of(program, self.src), False, gathered)
        if self.stores:
            return codes, *self.drain_accesses(program, self.results(program))
        return codes, Access(self.dst, self.results(program), True)

    def results(self, program: Resources) -> int:
        """Positions that it writes, of all channels."""
        group = program.groups[self.group]
        return self.window_total * group.matrices * group.cols

    def execute(self, machine: Machine) -> None:
        group = machine.program.groups[self.group]
        source = self.input.view(machine.buffer(self.src))
        shape = machine.program.buffers[self.buffer_at("dst")].shape
        sums = np.zeros(shape, machine.sum_dtype) if self.stores else machine.writable(self.dst)
        target = self.output.view(sums)
        windows, outside = self.windows, 0 if machine.ideal else self.outside
        channels = group.rows // windows.tap_total
        # all windows at once, or as many lines of windows as fit
        lines = windows.count[0] if windows.count else 1
        each = windows.total // lines
        step = max(1, CHUNK // (len(source) * group.matrices * group.rows * each))
        for q in range(0, lines, step):
            part = windows.part(q, min(step, lines - q))
            rows = part.gather_inputs(source, group.matrices, channels, self.tap_fastest, outside)
            runs = [(n * windows.total + q * each, part.total) for n in range(len(source))]
            part.scatter_outputs(self.product(machine, rows, runs), target)
        where = (slice(None), slice(None), *windows.out_slices)
        for buffer, value in self.drained(machine, sums) if self.stores else ():
            self.output.view(machine.writable(buffer))[where] = self.output.view(value)[where]
