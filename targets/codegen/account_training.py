"""What training's instructions cost: transposed reads, weight gradients, updates."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

from mgc.isa.crossbar import CrossbarGroup
from mgc.isa.instructions import MvmT, Outer, Update
from mgc.isa.optimizers import OPTIMIZERS
from mgc.isa.program import Program
from mgc.targets.cost import CostModel, Occupancy
from mgc.targets.energy import EnergyBreakdown
from mgc.targets.training_cost import TrainingCost

Touch = Callable[[int, int], EnergyBreakdown]
"""The energy of reading or writing some bytes of a buffer where it lives: (buffer, bytes)."""

_ACCUMULATOR_BYTES = 4
_WORK = {"sgd": "Sgd", "momentum": "momentum", "adam": "Adam", "rmsprop": "RmsProp"}


def training_energy(
    program: Program, cost: CostModel, instruction: MvmT | Outer | Update, touch: Touch
) -> EnergyBreakdown:
    """Joules of one instruction for one micro-batch."""
    training = TrainingCost(cost.target)
    match instruction:
        case MvmT():
            group = program.groups[instruction.group]
            windows = instruction.src_shape[0] * prod(instruction.count)
            read = cost.mvm_energy(windows, _transposed(group), signed=instruction.signed)
            sums = _ACCUMULATOR_BYTES * windows * group.matrices * group.rows
            return read + touch(instruction.src, windows * group.matrices * group.cols) + touch(instruction.dst, sums)
        case Outer():
            matrices, rows, cols = program.buffers[instruction.dst].shape
            windows = instruction.x_shape[0] * prod(instruction.count)
            moved = touch(instruction.x, windows * matrices * rows) + touch(instruction.dy, windows * matrices * cols)
            moved += touch(instruction.dst, _ACCUMULATOR_BYTES * matrices * rows * cols)
            return moved + training.outer_energy(windows, training.outer_blocks(matrices, rows, cols))
        case Update():
            return _update(program, cost, training, instruction, touch)


def _transposed(group: CrossbarGroup) -> Occupancy:
    """What all turns of a transposed read set in motion: slices and signs are driven one after the other, so a turn
    drives only the columns of its slice and sign; every wordline is converted in every turn, in every column block.
    """
    a = group.arithmetic
    turns = a.slices * a.signs
    return Occupancy(
        crossbars=group.crossbars_per_replica,
        drives=group.matrices * group.cols * turns * group.row_blocks,
        conversions=group.matrices * group.rows * group.column_blocks * turns,
        cells=group.matrices * group.rows * group.cols * turns,
        inputs=group.matrices * group.cols,
    )


def _update(
    program: Program, cost: CostModel, training: TrainingCost, instruction: Update, touch: Touch
) -> EnergyBreakdown:
    """The optimizer's arithmetic, its operands, and every cell of the group written once, in all replicas."""
    elements = prod(program.buffers[instruction.gradient].shape)
    total = cost.vector_energy(elements, training.update_work(_WORK[OPTIMIZERS[instruction.optimizer].name], False))
    buffers = [instruction.gradient, *instruction.moments, *instruction.moments]
    if instruction.parameter >= 0:
        buffers += [instruction.parameter, instruction.parameter]
    for buffer in buffers:
        total += touch(buffer, 4 * elements)
    if instruction.group >= 0:
        group = program.groups[instruction.group]
        cells = elements * group.arithmetic.slices * group.arithmetic.signs
        total += cost.write_energy(group.replicas * cells)
    return total
