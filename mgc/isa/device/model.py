"""Conductances: what a cell of b bits holds, in whole numbers.

This is the normative text of conductances. A cell of b bits has levels 0 .. L, L = 2^b - 1: level l is the conductance
off + l (on - off) / L. Conductances are held as whole numbers of 2^-12 levels above `off` (the offset that `off` gives
on a bitline is taken off by a reference column), from 0 uS to a quarter of the range above `on` (ceil(L / 4) levels).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

GRID_BITS = 12
ONE = 1 << GRID_BITS
"""One level in units of the grid. Sums of cells are whole numbers of these units: no order of additions matters."""


@dataclass(frozen=True)
class Conductances:
    """The range of a target's cells, by keys of its `[device]` table.

    on_us, off_us: conductances of the highest and lowest level.
    """

    on_us: float
    off_us: float


@dataclass(frozen=True)
class Cells:
    """A device as a cell of `bits` bits, in units of the grid."""

    device: Conductances
    bits: int

    @property
    def top(self) -> int:
        """The highest level."""
        return (1 << self.bits) - 1

    @property
    def unit_us(self) -> float:
        """One level."""
        return (self.device.on_us - self.device.off_us) / self.top

    @property
    def off(self) -> float:
        """The conductance of level 0 above 0 uS, in units of the grid."""
        return self.device.off_us / self.unit_us * ONE

    @property
    def bounds(self) -> tuple[int, int]:
        """The least and the largest value of a cell."""
        above = max(1, -(-self.top // 4))
        return -math.floor(min(self.off, 1 << 30)), (self.top + above) * ONE - 1

    @property
    def dtype(self) -> np.dtype:
        """int16, or int32 where that is too narrow."""
        low, high = self.bounds
        return np.dtype(np.int16 if max(-low, high) < 1 << 15 else np.int32)

    def clipped(self, values: np.ndarray) -> np.ndarray:
        """Conductances within their bounds, in `dtype`; rounded half to even first if they are real."""
        whole = np.rint(values) if values.dtype.kind == "f" else values
        return np.clip(whole, *self.bounds).astype(self.dtype)

    def nearest(self, conductances: np.ndarray) -> np.ndarray:
        """The level that a cell is nearest to, the upper one of two, uint8: what a verifying read finds."""
        wide = conductances.astype(np.int32) if conductances.dtype.itemsize < 4 else conductances
        return np.clip((wide + ONE // 2) >> GRID_BITS, 0, self.top).astype(np.uint8)
