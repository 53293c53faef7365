"""What happens to cells: verified writes, stuck cells, drift.

This is the normative text of writes and drift. z is the normal number of a draw of the cell (`mgc.isa.device.draws`);
cells are numbered as they lie in [matrices, slices, signs, rows, cols]. Conductances are in units of the grid
(2^-12 levels), rounded half to even and clipped to the bounds of a cell.

- A verified write of level l leaves l * 2^12 + sigma(l) z, with sigma the device's write_sigma at that level.
- Stuck cells: a 32-bit draw below stuck_on * 2^32 is a cell that is at L * 2^12 for ever, one below
  (stuck_on + stuck_off) * 2^32 a cell at 0.
- Repair: where the device has stuck_repair, in differential encoding, a verified write of a weight aims at other levels
  next to a stuck cell: with v the level of the stuck cell and q the digit that the slice is to stand for (plus less
  minus), the other cell gets v - q (of a stuck plus cell) or v + q (minus), within 0 .. L.
- Drift: in a program that never writes its cells again, a cell is read as (g + off) drift_s^-(nu + nu_sigma z) - off.
- UPDATE with "write-verify" finds the old weight by reading each cell to the nearest level (the upper one of two). It
  writes, verified, the cells whose level is not that of the new weight; all others keep their conductance.

Draws: one stream for each write of a group: (seed, "write", group, number of the run, instruction); stuck cells
(seed, "stuck", group), drift (seed, "drift", group), one draw for each cell of the group whether it is used or not.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from mgc.isa.crossbar import Arithmetic
from mgc.isa.device.draws import Stream, normals
from mgc.isa.device.model import GRID_BITS, ONE, Cells

_TABULATED = 4
"""Cells of up to so many bits have their errors tabulated by level and draw."""
Work = Callable[[np.ndarray, np.ndarray, Cells], np.ndarray]
"""(values, draws, cells) -> conductances."""
_CHUNK = 1 << 20
"""Cells worked on at once."""


def written(levels: np.ndarray, cells: Cells, stream: Stream) -> np.ndarray:
    """Conductances that a verified write of levels, uint8, leaves."""
    return _each_cell(levels, cells, stream, _written)


def _written(levels: np.ndarray, draws: np.ndarray, cells: Cells) -> np.ndarray:
    if cells.bits <= _TABULATED:
        index = levels.astype(np.int32)
        index <<= 16
        index |= draws
        return _written_by_draw(cells).take(index)
    return cells.clipped(levels.astype(np.float64) * ONE + cells.write_sigma[levels] * normals()[draws])


@lru_cache(maxsize=4)
def _written_by_draw(cells: Cells) -> np.ndarray:
    """Conductance for every level and draw, [(top + 1) * 2^16]."""
    levels = np.arange(cells.top + 1, dtype=np.float64)[:, None]
    return cells.clipped(levels * ONE + cells.write_sigma[:, None] * normals()).reshape(-1)


def aged(conductances: np.ndarray, cells: Cells, stream: Stream) -> np.ndarray:
    """Conductances as they are after the device's `drift_s`."""
    device = cells.device
    with np.errstate(over="ignore"):
        factor = np.float64(device.drift_s) ** -(device.drift_exponent + device.drift_exponent_sigma * normals())
    factor = np.minimum(factor, 1e6)

    def drift(values: np.ndarray, draws: np.ndarray, cells: Cells) -> np.ndarray:
        return cells.clipped((values + cells.off) * factor[draws] - cells.off)

    return _each_cell(conductances, cells, stream, drift)


def _each_cell(values: np.ndarray, cells: Cells, stream: Stream, work: Work) -> np.ndarray:
    """work(values, draws, cells) over all cells, a chunk at a time."""
    flat = np.ascontiguousarray(values).reshape(-1)
    out = np.empty(flat.shape, cells.dtype)
    for start in range(0, flat.size, _CHUNK):
        part = flat[start : start + _CHUNK]
        out[start : start + _CHUNK] = work(part, stream.draws(start // 16, part.size), cells)
    return out.reshape(values.shape)


def stuck_cells(shape: tuple[int, ...], cells: Cells, stream: Stream) -> tuple[np.ndarray, np.ndarray]:
    """(flat indices of stuck cells, ascending; the conductance of each)."""
    device, size = cells.device, int(np.prod(shape))
    on, any_ = device.stuck_on * 2.0**32, (device.stuck_on + device.stuck_off) * 2.0**32
    found: list[np.ndarray] = []
    held: list[np.ndarray] = []
    for start in range(0, size if any_ else 0, _CHUNK):
        draws = stream.wide_draws(start // 8, min(_CHUNK, size - start))
        where = np.flatnonzero(draws < any_)
        found.append(where + start)
        held.append(np.where(draws[where] < on, cells.top * ONE, 0).astype(cells.dtype))
    if not found:
        return np.zeros(0, np.int64), np.zeros(0, cells.dtype)
    return np.concatenate(found), np.concatenate(held)


def repaired(levels: np.ndarray, where: np.ndarray, held: np.ndarray, cells: Cells) -> None:
    """Changes levels [matrices, slices, 2, K, N] to aim at next to stuck cells, as `stuck_cells` gave them."""
    flat, plane = levels.reshape(-1), int(np.prod(levels.shape[3:]))
    is_minus = (where // plane % 2).astype(np.bool_)
    other = np.where(is_minus, where - plane, where + plane)
    digit = flat[where].astype(np.int32) - flat[other]  # of a minus cell: the digit with its sign turned
    flat[other] = np.clip(cells.nearest(held).astype(np.int32) - digit, 0, cells.top)


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
