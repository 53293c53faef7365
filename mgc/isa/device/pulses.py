"""UPDATE by pulses: changes of conductance without reading it back.

This is the normative text of pulses. A pulse changes a cell by d = L 2^12 / pulse_levels on average (in units of the
grid, L the highest level). The change that the optimizer asks for, v = (w' - w) / weight_scale steps, is handed to the
slices of a weight from the highest to the lowest: slice s > 0 takes trunc(v / u) pulses, u = d / 2^12 * 2^(b s), slice
0 rint(v / u) of what is left; never more than pulse_levels. There is no carry: what a saturated cell cannot take is
lost.

- Differential encoding: n > 0 pulses first lower the minus cell, as many as bring it to 0 (ceil(g / d), at most n), the
  rest raises the plus cell; n < 0 the other way round. Offset encoding: n > 0 raises the cell, n < 0 lowers it.
- k pulses up change a cell by k d p (1 + pulse_asymmetry) + sqrt(k) d pulse_noise z; k pulses down by
  -k d p (1 - pulse_asymmetry) + sqrt(k) d pulse_noise z. p = max(0, 1 + pulse_spread z_c) is the cell's own for ever;
  z is drawn for each cell and update. The result is rounded half to even and clipped to 0 .. L 2^12.
- Stuck cells do not change.

Steps are constant within the range: a device's saturation near its bounds is not modelled. Draws: (seed, "spread",
group) and (seed, "pulse", group, number of the run, instruction), cells numbered as for writes.
"""

from __future__ import annotations

import numpy as np

from mgc.isa.crossbar import Arithmetic
from mgc.isa.device.draws import Stream, normals
from mgc.isa.device.model import ONE, Cells


def pulses_of(change: np.ndarray, arithmetic: Arithmetic, cells: Cells) -> np.ndarray:
    """Pulses, float64 [..., slices, K, N], for a change in weight steps [..., K, N]."""
    pulse = cells.top / cells.device.pulse_levels
    most = float(cells.device.pulse_levels)
    rest = change.astype(np.float64)
    counts = np.empty((*change.shape[:-2], arithmetic.slices, *change.shape[-2:]))
    for s in reversed(range(arithmetic.slices)):
        unit = pulse * (1 << (arithmetic.cell_bits * s))
        whole = np.trunc(rest / unit) if s else np.rint(rest / unit)
        counts[..., s, :, :] = whole = np.clip(whole, -most, most)
        rest = rest - whole * unit
    return counts


def pulsed(
    conductances: np.ndarray, change: np.ndarray, arithmetic: Arithmetic, cells: Cells, spread: Stream, noise: Stream
) -> np.ndarray:
    """New conductances [..., slices, signs, K, N] for a change in weight steps [..., K, N]."""
    device, pulse = cells.device, cells.top * ONE / cells.device.pulse_levels
    counts = pulses_of(change, arithmetic, cells)
    own = np.empty(conductances.shape)  # pulses of each cell, up positive
    if arithmetic.signs == 2:
        for sign in (0, 1):
            asked = counts if sign == 0 else -counts
            other = np.ceil(np.maximum(conductances[..., 1 - sign, :, :], 0) / pulse)
            mine = np.ceil(np.maximum(conductances[..., sign, :, :], 0) / pulse)
            raised = asked - np.minimum(np.maximum(asked, 0), other)
            own[..., sign, :, :] = np.where(asked > 0, raised, np.maximum(asked, -mine))
    else:
        own[..., 0, :, :] = counts
    size = own.size
    factor = np.maximum(1 + device.pulse_spread * normals(), 0)[spread.draws(0, size)].reshape(own.shape)
    side = np.where(own > 0, 1 + device.pulse_asymmetry, 1 - device.pulse_asymmetry)
    z = normals()[noise.draws(0, size)].reshape(own.shape)
    new = conductances + own * pulse * factor * side + np.sqrt(np.abs(own)) * pulse * device.pulse_noise * z
    new = np.clip(np.rint(new), 0, cells.top * ONE).astype(cells.dtype)
    return np.where(own == 0, conductances, new)
