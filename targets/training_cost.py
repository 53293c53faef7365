"""What training's own work costs: transposed reads, weight gradients, updates.

Target files do not have the gradient unit's figures; these are PANTHER's (puma-simulator, mlpPanther/constants.py,
hardware_constants 2.6) for outer products in CMOS, which are exact, as OUTER is. One unit a macro is assumed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mgc.targets.cost import CostModel, Occupancy
from mgc.targets.description import CostClass, Target
from mgc.targets.energy import EnergyBreakdown

OUTER_SIDE = 128
"""Rows and columns of the outer product that a gradient unit adds up at once."""
OUTER_NS = 256.0
"""Time of one such outer product, ns."""
OUTER_PJ = 290.0
"""Energy of one, pJ."""

UPDATE_WORK: Mapping[str, Mapping[CostClass, int]] = {
    "Sgd": {"multiply": 1, "simple": 1},
    "momentum": {"multiply": 2, "simple": 2},
    "Adam": {"multiply": 7, "simple": 4, "divide": 2},
    "RmsProp": {"multiply": 4, "simple": 3, "divide": 2},
}
"""Operations of an optimizer's step for each weight; a clip takes two more simple ones."""


@dataclass(frozen=True)
class TrainingCost:
    """Cycles and energy of training's work on a target (with the weight bits that training has)."""

    target: Target

    @property
    def cost(self) -> CostModel:
        """The model of everything else."""
        return CostModel(self.target)

    @property
    def turns(self) -> int:
        """Reads of a transposed product for each read of the product: slices and signs take turns on the wires."""
        crossbar = self.target.crossbar
        return crossbar.slices() * crossbar.signs

    def transposed_cycles(self, windows: int, *, signed: bool, replicas: int = 1, column_blocks: int = 1) -> int:
        """Cycles of MVM_T over `windows` error vectors."""
        return self.cost.mvm_cycles(windows * self.turns, signed=signed, replicas=replicas, row_blocks=column_blocks)

    def transposed_energy(self, windows: int, occupancy: Occupancy, *, signed: bool) -> EnergyBreakdown:
        """Energy of MVM_T; `occupancy` is what one read of all slices and signs sets in motion."""
        return self.cost.mvm_energy(windows, occupancy, signed=signed)

    def outer_blocks(self, matrices: int, rows: int, cols: int) -> int:
        """Outer products of the gradient unit's size for one window."""
        return matrices * -(-rows // OUTER_SIDE) * -(-cols // OUTER_SIDE)

    def outer_cycles(self, windows: int, blocks: int, tiles: int) -> int:
        """Cycles of the outer products of `windows` windows in the gradient units of some tiles."""
        units = tiles * self.target.structure.macros_per_tile
        return max(1, -(-windows * blocks // units) * self.target.cycles(OUTER_NS))

    def outer_energy(self, windows: int, blocks: int) -> EnergyBreakdown:
        """Energy of the outer products; counted with the vector units'."""
        return EnergyBreakdown(vector=windows * blocks * OUTER_PJ * 1e-12)

    def update_work(self, optimizer: str, clips: bool) -> dict[CostClass, int]:
        """Operations of an optimizer's step (a key of `UPDATE_WORK`) for each weight."""
        work = dict(UPDATE_WORK[optimizer])
        if clips:
            work["simple"] = work.get("simple", 0) + 2
        return work

    def update_cycles(self, elements: int, work: Mapping[CostClass, int], tiles: int) -> int:
        """Cycles of an optimizer's arithmetic on the vector units of some tiles."""
        return max(1, self.cost.vector_cycles(elements, work, lanes=tiles * self.target.vector.lanes_per_tile))
