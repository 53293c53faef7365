"""What a target says of its cells as devices, and what follows from it for cells of b bits.

This is the normative text of conductances. A cell of b bits has levels 0 .. L, L = 2^b - 1: level l is the conductance
off + l (on - off) / L. Conductances are held as whole numbers of 2^-12 levels above `off` (the offset that `off` gives
on a bitline is taken off by a reference column), from 0 uS to a quarter of the range above `on` (ceil(L / 4) levels).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Literal

import numpy as np

from mgc.isa.device.draws import normals
from mgc.isa.error import ProgramError

GRID_BITS = 12
ONE = 1 << GRID_BITS
"""One level in units of the grid. Sums of cells are whole numbers of these units: no order of additions matters."""

UpdateMode = Literal["write-verify", "pulses"]


@dataclass(frozen=True)
class DeviceModel:
    """The non-idealities of a target's cells: the `[device]` table of its description, with the same names and units.

    on_us, off_us: conductances of the highest and lowest level. write_sigma: coefficients c of the standard deviation
    of a verified write, on_us * sum(c[k] (G / on_us)^k). stuck_on, stuck_off: shares of cells. stuck_repair: whether
    verified writes set the other cell of a pair against a stuck one. read_noise_levels: standard deviation of the noise
    on one line in one read. drift_exponent, drift_exponent_sigma: mean and spread over cells of nu in G (age)^-nu.
    drift_s: age of the cells of a program that never writes them again, in seconds (1: as written). update: how UPDATE
    writes. pulse_levels: pulses from off to on. pulse_asymmetry, pulse_noise, pulse_spread: as shares of the mean
    pulse, see `mgc.isa.device.pulses`.
    """

    on_us: float
    off_us: float
    write_sigma: tuple[float, ...]
    stuck_on: float
    stuck_off: float
    stuck_repair: bool
    read_noise_levels: float
    drift_exponent: float
    drift_exponent_sigma: float
    drift_s: float
    update: UpdateMode
    pulse_levels: int
    pulse_asymmetry: float
    pulse_noise: float
    pulse_spread: float

    @staticmethod
    def of_target(target: Mapping[str, Any]) -> DeviceModel:
        """The model in a program's target description. ProgramError where it has none or it is unsound."""
        table = target.get("device")
        if not isinstance(table, Mapping):
            raise ProgramError("the program's target has no [device] table, which numerics device needs")
        values = dict(table)
        names = {f.name for f in fields(DeviceModel)}
        if set(values) != names:
            raise ProgramError(f"target: [device] has wrong keys: {', '.join(sorted(set(values) ^ names))}")
        values["write_sigma"] = tuple(values["write_sigma"]) if isinstance(values["write_sigma"], list | tuple) else ()
        model = DeviceModel(**values)
        model.check()
        return model

    def check(self) -> None:
        """Raises ProgramError for values that no device has. A target file is checked more closely when it is read."""
        numbers = [
            getattr(self, f.name) for f in fields(self) if f.name not in ("write_sigma", "stuck_repair", "update")
        ]
        numbers += self.write_sigma
        sound = all(isinstance(n, int | float) and math.isfinite(n) for n in numbers) and self.write_sigma
        ranges = sound and (
            0 <= self.off_us < self.on_us
            and min(self.stuck_on, self.stuck_off, self.read_noise_levels, self.drift_exponent_sigma) >= 0
            and self.stuck_on + self.stuck_off <= 1
            and isinstance(self.stuck_repair, bool)
            and self.drift_s >= 1
            and self.pulse_levels >= 1
            and 0 <= self.pulse_asymmetry < 1
            and min(self.pulse_noise, self.pulse_spread) >= 0
            and max(self.read_noise_levels, *map(abs, self.write_sigma)) < 1e6
        )
        if not ranges or self.update not in ("write-verify", "pulses"):
            raise ProgramError("target: [device] has values that no device has")

    @property
    def ages(self) -> bool:
        """Whether conductances drift before they are read."""
        return self.drift_s > 1 and (self.drift_exponent != 0 or self.drift_exponent_sigma != 0)

    @property
    def noise_bound(self) -> int:
        """The largest noise of a read, in units of the grid: draws are bounded."""
        return int(np.rint(self.read_noise_levels * ONE * normals()[-1]))


@dataclass(frozen=True)
class Cells:
    """A device as a cell of `bits` bits, in units of the grid."""

    device: DeviceModel
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

    @cached_property
    def write_sigma(self) -> np.ndarray:
        """Standard deviation of a verified write to each level, float64 [top + 1], in units of the grid."""
        share = (self.device.off_us + np.arange(self.top + 1) * self.unit_us) / self.device.on_us
        total = sum(c * share**k for k, c in enumerate(self.device.write_sigma))
        return np.maximum(total, 0.0) * self.device.on_us / self.unit_us * ONE

    def clipped(self, values: np.ndarray) -> np.ndarray:
        """Conductances within their bounds, in `dtype`; rounded half to even first if they are real."""
        whole = np.rint(values) if values.dtype.kind == "f" else values
        return np.clip(whole, *self.bounds).astype(self.dtype)

    def nearest(self, conductances: np.ndarray) -> np.ndarray:
        """The level that a cell is nearest to, the upper one of two, uint8: what a verifying read finds."""
        wide = conductances.astype(np.int32) if conductances.dtype.itemsize < 4 else conductances
        return np.clip((wide + ONE // 2) >> GRID_BITS, 0, self.top).astype(np.uint8)
