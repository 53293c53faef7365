"""PROGRAM and MVM: writing and reading crossbars."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from mgc.isa.error import ProgramError
from mgc.isa.instruction import Instruction, elements_of, opcode
from mgc.isa.machine import Machine
from mgc.isa.memory import Access
from mgc.isa.resources import Resources
from mgc.isa.windows import CHUNK, CrossbarRead


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


@opcode
@dataclass(frozen=True)
class Mvm(CrossbarRead):
    """Streams every window of a code buffer through a crossbar group and writes the sums to an accumulator buffer.

    `input` is how the source is seen, `output` how the destination is. For each spatial dimension window q, tap t read
    input position in_base + q*in_stride + t*in_dilation (outside the input: the code `outside`, in `float` numerics 0)
    and window q writes out_base + q*out_stride. Matrix g reads channels [g*C, (g+1)*C), C = rows/taps, and writes
    channels [g*cols, (g+1)*cols). Row k of a matrix is channel k // taps, tap k mod taps when `tap_fastest`, else tap
    k // C, channel k mod C. `signed` says whether codes are two's complement.
    Positions of the destination that no MVM writes are zero. In `quantized` numerics the sums are what
    `mgc.isa.crossbar` defines (to be multiplied by the arithmetic's factor), in `device` numerics those of
    `mgc.isa.device.reads`, in `float` numerics the product with the real weights, in float64, rounded once to float32.
    """

    opcode: ClassVar[int] = 2
    mnemonic: ClassVar[str] = "mvm"
    cost_class: ClassVar[str] = "crossbar"

    outside: int = 0

    def accesses(self, program: Resources) -> tuple[Access, ...]:
        """Codes, gathered window by window, and its own sums: parts of one product write positions of their own."""
        group, windows = program.groups[self.group], self.window_total
        codes = Access(self.src, elements_of(program, self.src), False, windows * group.matrices * group.rows)
        return codes, Access(self.dst, windows * group.matrices * group.cols, True)

    def execute(self, machine: Machine) -> None:
        group = machine.program.groups[self.group]
        source, target = self.input.view(machine.buffer(self.src)), self.output.view(machine.writable(self.dst))
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
