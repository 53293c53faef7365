"""Device errors: what is not ideal in cells. Each class is one error: its keys of a target's `[device]` table are its
fields, with the same names and units, and its methods say what it does.

This is the normative text of device errors. z is the normal number of a draw of the cell (`mgc.isa.device.draws`);
cells are numbered as they lie in [matrices, slices, signs, rows, cols]. Conductances are in units of the grid
(2^-12 levels), rounded half to even and clipped to the bounds of a cell. Errors take effect in the order of `ERRORS`.

UPDATE with `update` "write-verify" finds the old weight by reading each cell to the nearest level (the upper one of
two). It writes, verified, the cells whose level is not that of the new weight; all others keep their conductance.
With "pulses" nothing is read back.

Draws: one stream for each write of a group: (seed, "write", group, number of the run, instruction); for what a cell is
for ever (seed, "stuck" or "drift" or "spread", group), one draw for each cell of the group whether it is used or not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import cached_property, lru_cache
from typing import Any, Literal

import numpy as np

from mgc.isa.crossbar import Arithmetic
from mgc.isa.device.draws import CellDraws, Stream, normals
from mgc.isa.device.model import GRID_BITS, ONE, Cells, Conductances
from mgc.isa.error import ProgramError

UpdateMode = Literal["write-verify", "pulses"]
_TABULATED = 4
"""Cells of up to so many bits have their errors tabulated by level and draw."""
_CHUNK = 1 << 20
"""Cells worked on at once."""


class Nonideality:
    """The base: an error that does nothing. An error overrides what it does.

    Levels (uint8) and conductances are [matrices, slices, signs, rows, cols] of one group.
    """

    def is_sound(self) -> bool:
        """Whether its keys have values that a device can have; reading a target file checks more closely."""
        return True

    def aim(self, levels: np.ndarray, cells: Cells, draws: CellDraws) -> None:
        """Changes the levels that a verified write aims at."""

    def at_write(self, conductances: np.ndarray, levels: np.ndarray, cells: Cells, stream: Stream) -> np.ndarray:
        """What a verified write of levels leaves; `stream` is that of the write."""
        return conductances

    def for_ever(self, conductances: np.ndarray, cells: Cells, draws: CellDraws) -> np.ndarray:
        """What conductances are, however they came about; it may change them in place."""
        return conductances

    def ages(self) -> bool:
        """Whether `at_age` changes anything."""
        return False

    def at_age(self, conductances: np.ndarray, cells: Cells, draws: CellDraws) -> np.ndarray:
        """How cells are read in a program that never writes them again."""
        return conductances

    def line_noise(self) -> float:
        """Standard deviation of the noise on one line in one read, in levels."""
        return 0.0


@dataclass(frozen=True)
class WriteVariation(Nonideality):
    """A verified write of level l leaves l * 2^12 + sigma(l) z.

    write_sigma: coefficients c of the standard deviation of a verified write, on_us * sum(c[k] (G / on_us)^k).
    """

    write_sigma: tuple[float, ...]

    def is_sound(self) -> bool:
        return bool(self.write_sigma) and max(map(abs, self.write_sigma)) < 1e6

    def at_write(self, conductances: np.ndarray, levels: np.ndarray, cells: Cells, stream: Stream) -> np.ndarray:
        def scattered(held: np.ndarray, place: slice, draws: np.ndarray) -> np.ndarray:
            aims = levels.reshape(-1)[place]
            if cells.bits > _TABULATED:
                return held + write_sigma(self.write_sigma, cells)[aims] * normals()[draws]
            return held + _write_errors(self.write_sigma, cells).take((aims.astype(np.int32) << 16) | draws)

        return _each_cell(conductances, cells, stream, scattered)


def write_sigma(coefficients: tuple[float, ...], cells: Cells) -> np.ndarray:
    """Standard deviation of a verified write to each level, float64 [top + 1], in units of the grid."""
    device = cells.device
    share = (device.off_us + np.arange(cells.top + 1) * cells.unit_us) / device.on_us
    total = sum(c * share**k for k, c in enumerate(coefficients))
    return np.maximum(total, 0.0) * device.on_us / cells.unit_us * ONE


@lru_cache(maxsize=4)
def _write_errors(coefficients: tuple[float, ...], cells: Cells) -> np.ndarray:
    """What a write adds for every level and draw, int32 [(top + 1) * 2^16]."""
    levels = np.arange(cells.top + 1, dtype=np.float64)[:, None] * ONE
    held = cells.clipped(levels + write_sigma(coefficients, cells)[:, None] * normals())
    return (held - levels.astype(np.int32)).reshape(-1)


@dataclass(frozen=True)
class StuckCells(Nonideality):
    """A 32-bit draw below stuck_on * 2^32 is a cell that is at L * 2^12 for ever, one below (stuck_on + stuck_off) *
    2^32 a cell at 0.

    stuck_on, stuck_off: shares of cells. stuck_repair: whether, in differential encoding, a verified write of a weight
    aims at other levels next to a stuck cell: with v the level of the stuck cell and q the digit that the slice is to
    stand for (plus less minus), the other cell gets v - q (of a stuck plus cell) or v + q (minus), within 0 .. L.
    """

    stuck_on: float
    stuck_off: float
    stuck_repair: bool

    def is_sound(self) -> bool:
        return min(self.stuck_on, self.stuck_off) >= 0 and self.stuck_on + self.stuck_off <= 1

    def aim(self, levels: np.ndarray, cells: Cells, draws: CellDraws) -> None:
        if self.stuck_repair and levels.shape[2] == 2:
            repair(levels, *self._stuck(levels.shape, cells, draws), cells)

    def for_ever(self, conductances: np.ndarray, cells: Cells, draws: CellDraws) -> np.ndarray:
        where, values = self._stuck(conductances.shape, cells, draws)
        conductances.reshape(-1)[where] = values
        return conductances

    def _stuck(self, shape: tuple[int, ...], cells: Cells, draws: CellDraws) -> tuple[np.ndarray, np.ndarray]:
        if "stuck" not in draws.known:
            draws.known["stuck"] = self.stuck_cells(shape, cells, draws.stream("stuck"))
        return draws.known["stuck"]

    def stuck_cells(self, shape: tuple[int, ...], cells: Cells, stream: Stream) -> tuple[np.ndarray, np.ndarray]:
        """(flat indices of stuck cells, ascending; the conductance of each)."""
        size = int(np.prod(shape))
        on, any_ = self.stuck_on * 2.0**32, (self.stuck_on + self.stuck_off) * 2.0**32
        found, held = [np.zeros(0, np.int64)], [np.zeros(0, cells.dtype)]
        for start in range(0, size if any_ else 0, _CHUNK):
            draws = stream.wide_draws(start // 8, min(_CHUNK, size - start))
            where = np.flatnonzero(draws < any_)
            found.append(where + start)
            held.append(np.where(draws[where] < on, cells.top * ONE, 0).astype(cells.dtype))
        return np.concatenate(found), np.concatenate(held)


def repair(levels: np.ndarray, where: np.ndarray, held: np.ndarray, cells: Cells) -> None:
    """Changes levels [matrices, slices, 2, K, N] to aim at next to stuck cells, as `stuck_cells` gave them."""
    flat, plane = levels.reshape(-1), int(np.prod(levels.shape[3:]))
    is_minus = (where // plane % 2).astype(np.bool_)
    other = np.where(is_minus, where - plane, where + plane)
    digit = flat[where].astype(np.int32) - flat[other]  # of a minus cell: the digit with its sign turned
    flat[other] = np.clip(cells.nearest(held).astype(np.int32) - digit, 0, cells.top)


@dataclass(frozen=True)
class LineNoise(Nonideality):
    """Each read of each line gets normal noise.

    read_noise_levels: its standard deviation, in levels.
    """

    read_noise_levels: float

    def is_sound(self) -> bool:
        return 0 <= self.read_noise_levels < 1e6

    def line_noise(self) -> float:
        return self.read_noise_levels


@dataclass(frozen=True)
class Drift(Nonideality):
    """In a program that never writes its cells again, a cell is read as (g + off) drift_s^-(nu + nu_sigma z) - off.

    drift_exponent, drift_exponent_sigma: mean nu and spread over cells of the exponent in G (age)^-nu. drift_s: age of
    the cells, in seconds (1: as written).
    """

    drift_exponent: float
    drift_exponent_sigma: float
    drift_s: float

    def is_sound(self) -> bool:
        return self.drift_exponent_sigma >= 0 and self.drift_s >= 1

    def ages(self) -> bool:
        return self.drift_s > 1 and (self.drift_exponent != 0 or self.drift_exponent_sigma != 0)

    def at_age(self, conductances: np.ndarray, cells: Cells, draws: CellDraws) -> np.ndarray:
        with np.errstate(over="ignore"):
            factor = np.float64(self.drift_s) ** -(self.drift_exponent + self.drift_exponent_sigma * normals())
        factor = np.minimum(factor, 1e6)

        def aged(held: np.ndarray, place: slice, draws: np.ndarray) -> np.ndarray:
            return (held + cells.off) * factor[draws] - cells.off

        return _each_cell(conductances, cells, draws.stream("drift"), aged)


@dataclass(frozen=True)
class Updates(Nonideality):
    """How UPDATE writes: "write-verify", or "pulses", which change conductances without reading them back.

    A pulse changes a cell by d = L 2^12 / pulse_levels on average (in units of the grid, L the highest level). The
    change that the optimizer asks for, v = (w' - w) / weight_scale steps, is handed to the slices of a weight from
    the highest to the lowest: slice s > 0 takes trunc(v / u) pulses, u = d / 2^12 * 2^(b s), slice 0 rint(v / u) of
    what is left; never more than pulse_levels. There is no carry: what a saturated cell cannot take is lost.

    - Differential encoding: n > 0 pulses first lower the minus cell, as many as bring it to 0 (ceil(g / d), at most
      n), the rest raises the plus cell; n < 0 the other way round. Offset encoding: n > 0 raises the cell, n < 0
      lowers it.
    - k pulses up change a cell by k d p (1 + pulse_asymmetry) + sqrt(k) d pulse_noise z; k pulses down by -k d p (1 -
      pulse_asymmetry) + sqrt(k) d pulse_noise z. p = max(0, 1 + pulse_spread z_c) is the cell's own for ever; z is
      drawn for each cell and update. The result is rounded half to even and clipped to 0 .. L 2^12.
    - Stuck cells do not change.

    Steps are constant within the range: a device's saturation near its bounds is not modelled. Draws: (seed,
    "spread", group) and (seed, "pulse", group, number of the run, instruction), cells numbered as for writes.

    update: how UPDATE writes. pulse_levels: pulses from off to on. pulse_asymmetry, pulse_noise, pulse_spread: as
    shares of the mean pulse.
    """

    update: UpdateMode
    pulse_levels: int
    pulse_asymmetry: float
    pulse_noise: float
    pulse_spread: float

    def is_sound(self) -> bool:
        shares = 0 <= self.pulse_asymmetry < 1 and min(self.pulse_noise, self.pulse_spread) >= 0
        return shares and self.pulse_levels >= 1 and self.update in ("write-verify", "pulses")

    def pulses_of(self, change: np.ndarray, arithmetic: Arithmetic, cells: Cells) -> np.ndarray:
        """Pulses, float64 [..., slices, K, N], for a change in weight steps [..., K, N]."""
        pulse = cells.top / self.pulse_levels
        most = float(self.pulse_levels)
        rest = change.astype(np.float64)
        counts = np.empty((*change.shape[:-2], arithmetic.slices, *change.shape[-2:]))
        for s in reversed(range(arithmetic.slices)):
            unit = pulse * (1 << (arithmetic.cell_bits * s))
            whole = np.trunc(rest / unit) if s else np.rint(rest / unit)
            counts[..., s, :, :] = whole = np.clip(whole, -most, most)
            rest = rest - whole * unit
        return counts

    def pulses_of_cells(
        self, conductances: np.ndarray, change: np.ndarray, arithmetic: Arithmetic, cells: Cells
    ) -> np.ndarray:
        """Pulses of each cell [..., slices, signs, K, N], up positive, for a change in weight steps [..., K, N]."""
        pulse = cells.top * ONE / self.pulse_levels
        counts = self.pulses_of(change, arithmetic, cells)
        own = np.empty(conductances.shape)
        if arithmetic.signs == 2:
            for sign in (0, 1):
                asked = counts if sign == 0 else -counts
                other = np.ceil(np.maximum(conductances[..., 1 - sign, :, :], 0) / pulse)
                mine = np.ceil(np.maximum(conductances[..., sign, :, :], 0) / pulse)
                raised = asked - np.minimum(np.maximum(asked, 0), other)
                own[..., sign, :, :] = np.where(asked > 0, raised, np.maximum(asked, -mine))
        else:
            own[..., 0, :, :] = counts
        return own

    def pulsed(
        self, conductances: np.ndarray, own: np.ndarray, cells: Cells, spread: Stream, noise: Stream
    ) -> np.ndarray:
        """New conductances [..., slices, signs, K, N] after so many pulses of each cell."""
        pulse = cells.top * ONE / self.pulse_levels
        size = own.size
        factor = np.maximum(1 + self.pulse_spread * normals(), 0)[spread.draws(0, size)].reshape(own.shape)
        side = np.where(own > 0, 1 + self.pulse_asymmetry, 1 - self.pulse_asymmetry)
        z = normals()[noise.draws(0, size)].reshape(own.shape)
        new = conductances + own * pulse * factor * side + np.sqrt(np.abs(own)) * pulse * self.pulse_noise * z
        new = np.clip(np.rint(new), 0, cells.top * ONE).astype(cells.dtype)
        return np.where(own == 0, conductances, new)


Work = Callable[[np.ndarray, slice, np.ndarray], np.ndarray]
"""(conductances, which of all they are, draws) -> conductances, not yet whole or clipped."""


def _each_cell(conductances: np.ndarray, cells: Cells, stream: Stream, work: Work) -> np.ndarray:
    """`work` over all cells, a chunk at a time."""
    flat = np.ascontiguousarray(conductances).reshape(-1)
    out = np.empty(flat.shape, cells.dtype)
    for start in range(0, flat.size, _CHUNK):
        place = slice(start, min(start + _CHUNK, flat.size))
        drawn = stream.draws(start // 16, place.stop - start)
        out[place] = cells.clipped(work(flat[place], place, drawn))
    return out.reshape(conductances.shape)


ERRORS: tuple[type[Nonideality], ...] = (WriteVariation, StuckCells, LineNoise, Drift, Updates)
"""Every error, in the order in which they take effect."""


@dataclass(frozen=True)
class DeviceModel(Updates, Drift, LineNoise, StuckCells, WriteVariation, Conductances):
    """The non-idealities of a target's cells: the `[device]` table of its description. Every error of `ERRORS` is a
    base: its keys are fields here, and what it does is done by walking `ERRORS`.
    """

    @staticmethod
    def of_target(target: Mapping[str, Any]) -> DeviceModel:
        """The model in a program's target description. ProgramError where it has none or it is unsound."""
        table = target.get("device")
        if not isinstance(table, Mapping):
            raise ProgramError("the program's target has no [device] table, which numerics device needs")
        own = fields(DeviceModel)
        strange = sorted(set(table) ^ {f.name for f in own})
        if strange:
            raise ProgramError(f"target: [device] has wrong keys: {', '.join(strange)}")
        values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in table.items()}
        model = DeviceModel(**values)
        sound = all(_is_of(str(f.type), values[f.name]) for f in own) and 0 <= model.off_us < model.on_us
        if not sound or not all(error.is_sound(model) for error in ERRORS):
            raise ProgramError("target: [device] has values that no device has")
        return model

    def written(self, levels: np.ndarray, cells: Cells, stream: Stream) -> np.ndarray:
        """Conductances that a verified write of levels, uint8, leaves in cells that can be written."""
        held = (levels.astype(np.int32) << GRID_BITS).astype(cells.dtype)
        for error in ERRORS:
            held = error.at_write(self, held, levels, cells, stream)
        return held

    def with_lasting_errors(self, held: np.ndarray, cells: Cells, draws: CellDraws) -> np.ndarray:
        """Conductances as they are for ever; it may change them in place."""
        for error in ERRORS:
            held = error.for_ever(self, held, cells, draws)
        return held

    @property
    def is_aged(self) -> bool:
        """Whether conductances change until they are read, where nothing writes them again."""
        return any(error.ages(self) for error in ERRORS)

    def aged(self, held: np.ndarray, cells: Cells, draws: CellDraws) -> np.ndarray:
        """Conductances as they are read then."""
        for error in ERRORS:
            held = error.at_age(self, held, cells, draws) if error.ages(self) else held
        return held

    @cached_property
    def noise_levels(self) -> float:
        """Standard deviation of all noise on one line in one read, in levels."""
        return math.hypot(*(error.line_noise(self) for error in ERRORS))

    @property
    def noise_bound(self) -> int:
        """The largest noise of a read, in units of the grid: draws are bounded."""
        return int(np.rint(self.noise_levels * ONE * normals()[-1]))


def _is_of(kind: str, value: Any) -> bool:
    """Whether a value of the description is of a field's type; numbers are finite."""
    if kind.startswith("tuple"):
        return isinstance(value, tuple) and all(_is_of("float", v) for v in value)
    if kind in ("float", "int", "bool"):
        return isinstance(value, bool if kind == "bool" else int | float) and math.isfinite(value)
    return isinstance(value, str)


def effective_weights(conductances: np.ndarray, arithmetic: Arithmetic) -> np.ndarray:
    """What cells [..., slices, signs, K, N] stand for, in steps of an integer weight: float64 [..., K, N], exact."""
    shifts = arithmetic.cell_bits * np.arange(arithmetic.slices)
    total = np.zeros((*conductances.shape[:-4], *conductances.shape[-2:]), np.int64)
    for s, shift in enumerate(shifts):
        total += conductances[..., s, 0, :, :].astype(np.int64) << shift
        if arithmetic.signs == 2:
            total -= conductances[..., s, 1, :, :].astype(np.int64) << shift
    if arithmetic.encoding == "offset":
        total -= 1 << (arithmetic.weight_bits - 1 + GRID_BITS)
    return total / ONE
