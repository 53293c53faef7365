"""What crosses the network and the links: bytes and ways, read off a program."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod

import numpy as np

from mgc.isa.instruction import Instruction
from mgc.isa.instructions import BUFFER, Host, Load, Move, Mvm, Store
from mgc.isa.instructions import Program as WriteCells
from mgc.isa.program import Program
from mgc.targets.cost import CostModel
from mgc.targets.energy import EnergyBreakdown

ACCUMULATOR_BYTES = 4
"""What a sum occupies on the chip: it leaves the shift-and-add unit in four bytes."""


def itemsize(program: Program, buffer: int) -> int:
    """Bytes of one element of a buffer on the chip."""
    held = program.buffers[buffer]
    return ACCUMULATOR_BYTES if held.kind == "acc" else np.dtype(held.dtype).itemsize


def nbytes(program: Program, buffer: int) -> int:
    """Bytes of a buffer on the chip, one micro-batch; 0 for an opaque one."""
    held = program.buffers[buffer]
    return 0 if held.kind == "opaque" else prod(held.shape) * itemsize(program, buffer)


class Traffic:
    """The energy of the ways that an instruction's operands take.

    A buffer lies in the tile of who writes it first; one that the host, a diff-block or the run before wrote, in that
    of who reads it first. A unit of several tiles, and what it works on, is taken to be in the first of them: ways
    within a layer are not counted. Each operand goes its way once for each instruction; off-chip memory is next to
    every tile.
    """

    def __init__(self, program: Program, cost: CostModel) -> None:
        self.program = program
        self.cost = cost
        self.tile_of: dict[int, int] = {}
        """The tile of each buffer that is no view; of those that no tile touches, none."""
        tasks = [i for i in program.instructions if not isinstance(i, WriteCells)]
        for i in tasks:
            if self._tile(i) >= 0:
                made = (program.root(b) for b in i.writes())
                self._place(self._tile(i), (b for b in made if not program.buffers[b].persistent))
        for i in tasks:
            if self._tile(i) >= 0:
                self._place(self._tile(i), (program.root(b) for b in (*i.reads(), *i.writes())))

    def _place(self, tile: int, buffers: Iterable[int]) -> None:
        for buffer in buffers:
            self.tile_of.setdefault(buffer, tile)

    def _tile(self, instruction: Instruction) -> int:
        return self.program.units[instruction.unit].tile

    def energy(self, instruction: Instruction) -> EnergyBreakdown:
        """Joules of the network and the links for one micro-batch."""
        here = self._tile(instruction)
        total = EnergyBreakdown()
        if here < 0 or isinstance(instruction, Load | Store | Host | WriteCells):
            return total
        for buffer, size in (*self._read(instruction), *self._written(instruction)):
            total += self.way(buffer, size, here)
        return total

    def way(self, buffer: int, size: int, tile: int) -> EnergyBreakdown:
        """Joules of bringing bytes of a buffer to a tile, or from there."""
        root = self.program.root(buffer)
        if self.program.buffers[root].space == "dram":
            return EnergyBreakdown()
        return self.cost.move_energy(size, self.cost.route(self.tile_of.get(root, tile), tile))

    def _read(self, instruction: Instruction) -> Iterable[tuple[int, int]]:
        if isinstance(instruction, Move):
            pieces = (p for p in instruction.pieces if p.src.space == BUFFER)
            return [(p.src.index, prod(p.extents) * itemsize(self.program, p.src.index)) for p in pieces]
        return [(b, nbytes(self.program, b)) for b in instruction.reads()]

    def _written(self, instruction: Instruction) -> Iterable[tuple[int, int]]:
        if isinstance(instruction, Mvm):  # parts of one product write their own positions
            group = self.program.groups[instruction.group]
            sums = instruction.src_shape[0] * prod(instruction.count) * group.matrices * group.cols
            return [(instruction.dst, sums * itemsize(self.program, instruction.dst))]
        return [(b, nbytes(self.program, b)) for b in instruction.writes()]
