"""What a program costs: the energy of every instruction, from the program alone and the target's cost model.

An instruction spends energy on its work, on the memory that its operands are read from and written to, and on the ways
that they take over the network and the links.

A buffer lies in the tile of who writes it first; one that the host, a diff-block or the run before wrote, in that of
who reads it first. A unit of several tiles, and what it works on, is taken to be in the first of them: ways within a
layer are not counted. Off-chip memory is reached through a tile's own router.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from math import isfinite, prod
from typing import cast

from mgc.isa import functions
from mgc.isa import instructions as isa
from mgc.isa.crossbar import CrossbarGroup
from mgc.isa.diffblock import PAIRINGS
from mgc.isa.entry import Entry
from mgc.isa.instruction import Instruction, elements_of
from mgc.isa.memory import Access, bytes_of, nbytes
from mgc.isa.optimizers import BY_CODE
from mgc.isa.program import Program
from mgc.isa.traffic import accesses_of, task_bytes
from mgc.targets.cost import CostModel, Occupancy, update_work
from mgc.targets.description import CostClass
from mgc.targets.energy import EnergyBreakdown


class Account:
    """Energies of a program's instructions, one micro-batch each."""

    def __init__(self, program: Program, cost: CostModel) -> None:
        self.program = program
        self.cost = cost
        self.entry_of = {i: e for e in program.entries for i in range(e.first, e.stop)}
        self.tile_of = self._tiles()
        """The tile of each buffer that is no view; of those that no tile touches, none."""

    def energy(self, instruction: Instruction) -> EnergyBreakdown:
        """Joules of one instruction for one micro-batch (a PROGRAM: once), the ways of its operands included."""
        here = self._tile(instruction)
        parts = [self._work(instruction), self._fetched(instruction)]
        for access in accesses_of(self.program, instruction):
            parts.append(self._memory(instruction, access, here))
        return EnergyBreakdown.sum(parts)

    def _memory(self, instruction: Instruction, access: Access, tile: int) -> EnergyBreakdown:
        """Reading or writing an operand where it lies, and bringing it to a tile or from there. What windows gather is
        gathered in the tiles' memory, wherever it comes from.
        """
        entry, root = self.entry_of[instruction.id], self.program.root(access.buffer)
        streamed = instruction.streamed and entry.schedule.split > 1
        moved = task_bytes(self.program, entry, instruction, access) * (entry.schedule.split if streamed else 1)
        buffer, gathered = self.program.buffers[access.buffer], access.gathered
        taken = None if gathered is None else bytes_of(buffer, gathered, self.program.target)
        if self.program.buffers[root].space == "dram":
            memory = self.cost.transfer_energy(moved, "dram") + self.cost.transfer_energy(taken or 0, "edram")
            route = self.cost.gate
        else:
            memory = self.cost.transfer_energy(moved if taken is None else taken, "edram")
            route = self.cost.route(self.tile_of.get(root, tile), tile) if tile >= 0 else None
        return memory if tile < 0 or route is None else memory + self.cost.move_energy(moved, route)

    def _fetched(self, instruction: Instruction) -> EnergyBreakdown:
        """Bringing what it has from off-chip memory to its tile."""
        size = instruction.fetches(self.program)
        if not size:
            return EnergyBreakdown()
        return self.cost.transfer_energy(size, "dram") + self.cost.move_energy(size, self.cost.gate)

    @cached_property
    def energies(self) -> tuple[EnergyBreakdown, ...]:
        """`energy` of every instruction, by id."""
        return tuple(map(self.energy, self.program.instructions))

    def entry(self, entry: Entry) -> EnergyBreakdown:
        """Joules of one run of an entry, with leakage over its period."""
        spent = EnergyBreakdown.sum(self.energies[entry.first : entry.stop])
        return spent * entry.micro_batches + self.cost.static_energy(entry.schedule.period)

    def run(self) -> tuple[int, EnergyBreakdown, EnergyBreakdown]:
        """(cycles, joules) of one run, in training of an iteration, and the joules of writing the weights before it."""
        entries, first = self.program.iteration, self.program.entries[0].first
        spent = EnergyBreakdown.sum(self.entry(e) * e.repeats for e in entries)
        return self.program.iteration_cycles, spent, EnergyBreakdown.sum(self.energies[:first])

    def _elements(self, buffer: int) -> int:
        return elements_of(self.program, buffer)

    def _tiles(self) -> dict[int, int]:
        program, tiles = self.program, {}
        placed = [(i, self._tile(i)) for i in program.instructions if self._tile(i) >= 0]
        for i, tile in placed:
            for b in map(program.root, i.writes()):
                if not program.buffers[b].persistent:
                    tiles.setdefault(b, tile)
        for i, tile in placed:
            for b in map(program.root, (*i.reads(), *i.writes())):
                tiles.setdefault(b, tile)
        return tiles

    def _tile(self, instruction: Instruction) -> int:
        return self.program.units[instruction.unit].tile

    # -- what is done ----------------------------------------------------------------------------------------------

    def _work(self, instruction: Instruction) -> EnergyBreakdown:
        match instruction:
            case isa.WriteCells(group=group) | isa.Rewrite(group=group):
                return self._cell_writes(group)
            case isa.Mvm():
                group, windows = self.program.groups[instruction.group], instruction.window_total
                bits = group.arithmetic.input_bits
                read = self.cost.mvm_energy(windows, self._occupancy(group), signed=instruction.signed, input_bits=bits)
                return read + self._drain(instruction, instruction.results(self.program))
            case isa.MvmT():
                occupancy = self._occupancy(self.program.groups[instruction.group], transposed=True)
                read = self.cost.mvm_energy(instruction.window_total, occupancy, signed=instruction.signed)
                return read + self._drain(instruction, self._elements(instruction.buffer_at("dst")))
            case isa.Outer():
                return self.cost.outer_energy(instruction.window_total, *self.program.buffers[instruction.dst].shape)
            case isa.Update():
                return self._update(instruction)
            case isa.Vec():
                return self._vec(instruction)
            case isa.Diff(pairing=pairing):
                scores, *second = (self._operand(ref, ()) for ref in instruction.scores)
                averaged = prod(second[0].shape) if PAIRINGS[pairing] == "average" else 0
                return self.cost.diff_energy(prod(scores.shape), averaged)
            case isa.Store(src=isa.Ref(space, index)) if space == isa.CONSTANT:
                return self.cost.transfer_energy(
                    self.program.tensors[self.program.constants[index].tensor].nbytes, "host"
                )
            case isa.Load() | isa.Store() | isa.Host():  # what the host does with it is not the chip's
                buffers = (self.program.buffers[b] for b in (*instruction.reads(), *instruction.writes()))
                return self.cost.transfer_energy(sum(nbytes(b, self.program.target) for b in buffers), "host")
        return EnergyBreakdown()

    def _occupancy(self, group: CrossbarGroup, *, transposed: bool = False) -> Occupancy:
        held = group.arithmetic
        return self.cost.occupancy(
            group.rows,
            group.cols,
            matrices=group.matrices,
            weight_bits=held.weight_bits,
            transposed=transposed,
            plane_columns=held.plane_columns,
        )

    def _cell_writes(self, group: int) -> EnergyBreakdown:
        """Every cell of a group written once, in all replicas."""
        held = self.program.groups[group]
        return self.cost.write_energy(held.replicas * held.cells)

    def _update(self, instruction: isa.Update) -> EnergyBreakdown:
        """The optimizer's arithmetic, and the cells of a group that is not off-chip."""
        clips = isfinite(instruction.lo) or isfinite(instruction.hi)
        optimizer = BY_CODE[instruction.optimizer]
        decay, *_, average = optimizer.parted(instruction.hyper)[1]
        work = update_work(optimizer.name, clips=clips, decays=decay > 0, averages=average > 0)
        arithmetic = self.cost.vector_energy(self._elements(instruction.gradient), work)
        return EnergyBreakdown.sum([arithmetic, *map(self._cell_writes, instruction.writes_cells(self.program))])

    def _drain(self, read: isa.Mvm | isa.MvmT, elements: int) -> EnergyBreakdown:
        """What drains so many sums of a read."""
        spent: list[EnergyBreakdown] = []
        for step in read.steps:
            work: dict[CostClass, int] = {cast(CostClass, functions.function(step.function).cost): 1}
            spent.append(self.cost.vector_energy(elements, work))
        return EnergyBreakdown.sum(spent)

    def _vec(self, instruction: isa.Vec) -> EnergyBreakdown:
        total = EnergyBreakdown()
        registers: list[functions.Operand] = []
        for step in instruction.steps:
            args = [self._operand(r, registers) for r in step.args]
            result = functions.infer(step.function, args, step.attributes)
            kind = cast(CostClass, functions.function(step.function).cost)
            # a reduction works once on each element that it takes in
            elements = max(prod(result.shape), prod(args[0].shape) if kind == "reduction" else 0)
            total += self.cost.vector_energy(elements, {kind: 1})
            registers.append(result)
        return total

    def _operand(self, ref: isa.Ref, registers: Sequence[functions.Operand]) -> functions.Operand:
        return registers[ref.index] if ref.space == isa.REGISTER else self.program.operand(ref.space, ref.index)
