"""What a program costs: energy by component, from its instructions and the target's cost model."""

from __future__ import annotations

from math import prod

import numpy as np

from mgc.isa import functions
from mgc.isa.crossbar import CrossbarGroup
from mgc.isa.diffblock import PAIRINGS
from mgc.isa.instruction import Instruction
from mgc.isa.instructions import BUFFER, CONSTANT, Diff, Load, Move, Mvm, MvmT, Outer, Ref, Store, Update, Vec
from mgc.isa.instructions import Program as WriteCells
from mgc.isa.program import Program
from mgc.targets.codegen.account_training import training_energy
from mgc.targets.codegen.traffic import ACCUMULATOR_BYTES, Traffic, itemsize
from mgc.targets.cost import CostModel, Occupancy
from mgc.targets.description import CostClass
from mgc.targets.energy import EnergyBreakdown


def occupancy(group: CrossbarGroup) -> Occupancy:
    """What one window sets in motion in the crossbars of all the group's matrices, as they are packed."""
    a = group.arithmetic
    columns = group.cols * a.slices * a.signs
    return Occupancy(
        crossbars=group.crossbars_per_replica,
        drives=group.matrices * group.rows * group.column_blocks,
        conversions=group.matrices * group.row_blocks * columns,
        cells=group.matrices * group.rows * columns,
        inputs=group.matrices * group.rows,
    )


class Account:
    """Energies of a program's instructions, one micro-batch each."""

    def __init__(self, program: Program, cost: CostModel):
        self.program = program
        self.cost = cost
        self.traffic = Traffic(program, cost)

    def energy(self, instruction: Instruction) -> EnergyBreakdown:
        """Joules of one instruction for one micro-batch (a PROGRAM: once), the ways of its operands included."""
        return self._work(instruction) + self.traffic.energy(instruction)

    def _work(self, instruction: Instruction) -> EnergyBreakdown:
        match instruction:
            case WriteCells():
                group = self.program.groups[instruction.group]
                return self.cost.write_energy(group.replicas * occupancy(group).cells)
            case Mvm():
                group = self.program.groups[instruction.group]
                windows = instruction.src_shape[0] * prod(instruction.count)
                read = self.cost.mvm_energy(windows, occupancy(group), signed=instruction.signed)
                written = ACCUMULATOR_BYTES * windows * group.matrices * group.cols
                codes = windows * group.matrices * group.rows * self._itemsize(instruction.src)
                return read + self.cost.edram_energy(codes) + self._store(instruction.dst, written)
            case Vec():
                return self._vec(instruction)
            case Diff():
                return self._diff(instruction)
            case MvmT() | Outer() | Update():
                return training_energy(self.program, self.cost, instruction, self._store)
            case Move():
                moved = EnergyBreakdown()
                for piece in instruction.pieces:
                    size = prod(piece.extents) * self._ref_itemsize(piece.src)
                    moved += self._touch(piece.src, size) + self._store(instruction.dst, size)
                return moved
            case Load():
                size = self._bytes(instruction.dst)
                return self.cost.host_energy(size) + self._store(instruction.dst, size)
            case Store():
                size = self._ref_bytes(instruction.src)
                return self.cost.host_energy(size) + self._touch(instruction.src, size)
        # a host segment's own energy is not the chip's; its operands and results cross the link
        size = sum(self._bytes(b) for b in (*instruction.reads(), *instruction.writes()))
        return self.cost.host_energy(size)

    def _diff(self, instruction: Diff) -> EnergyBreakdown:
        scores, *second = (self._ref_elements(ref) for ref in instruction.scores)
        averaged = second[0] if PAIRINGS[instruction.pairing] == "average" else 0
        total = self.cost.diff_energy(scores, averaged)
        for index in (*instruction.reads(), *instruction.writes()):
            total += self._store(index, self._bytes(index))
        return total

    def _vec(self, instruction: Vec) -> EnergyBreakdown:
        total = EnergyBreakdown()
        registers: list[functions.Operand] = []

        def operand(ref: Ref) -> functions.Operand:
            if ref.space == BUFFER:
                buffer = self.program.buffers[ref.index]
                return functions.Operand(np.dtype(buffer.dtype), buffer.shape)
            if ref.space == CONSTANT:
                data = self.program.tensors[self.program.constants[ref.index].tensor]
                return functions.Operand(data.dtype, data.shape)
            return registers[ref.index]

        for step in instruction.steps:
            args = [operand(r) for r in step.args]
            result = functions.infer(step.function, args, step.attributes)
            kind: CostClass = functions.function(step.function).cost
            # a reduction works once on each element that it takes in
            elements = max(prod(result.shape), prod(args[0].shape) if kind == "reduction" else 0)
            total += self.cost.vector_energy(elements, {kind: 1})
            registers.append(result)
        for index in instruction.reads():
            total += self._touch(Ref(BUFFER, index), self._bytes(index))
        for index in instruction.writes():
            total += self._store(index, self._bytes(index))
        return total

    def _itemsize(self, index: int) -> int:
        return itemsize(self.program, index)

    def _bytes(self, index: int) -> int:
        return prod(self.program.buffers[index].shape) * self._itemsize(index)

    def _ref_itemsize(self, ref: Ref) -> int:
        if ref.space == BUFFER:
            return self._itemsize(ref.index)
        return self.program.tensors[self.program.constants[ref.index].tensor].itemsize

    def _ref_elements(self, ref: Ref) -> int:
        if ref.space == BUFFER:
            return prod(self.program.buffers[ref.index].shape)
        return self.program.tensors[self.program.constants[ref.index].tensor].size

    def _ref_bytes(self, ref: Ref) -> int:
        if ref.space == BUFFER:
            return self._bytes(ref.index)
        return self.program.tensors[self.program.constants[ref.index].tensor].nbytes

    def _touch(self, ref: Ref, size: int) -> EnergyBreakdown:
        """Reading `size` bytes of an operand; constants stand in the unit's own memory."""
        return self._store(ref.index, size) if ref.space == BUFFER else EnergyBreakdown()

    def _store(self, index: int, size: int) -> EnergyBreakdown:
        """Reading or writing `size` bytes of a buffer where it lives."""
        if self.program.buffers[index].space == "dram":
            return self.cost.dram_energy(size)
        return self.cost.edram_energy(size)


def run_energy(program: Program, cost: CostModel) -> tuple[EnergyBreakdown, EnergyBreakdown]:
    """(one run of the schedule with leakage over its makespan, writing the weights once), in joules."""
    account = Account(program, cost)
    setup = [account.energy(i) for i in program.instructions if isinstance(i, WriteCells)]
    work = [account.energy(i) * program.micro_batches for i in program.instructions if not isinstance(i, WriteCells)]
    return EnergyBreakdown.sum(work) + cost.static_energy(program.schedule.makespan), EnergyBreakdown.sum(setup)
