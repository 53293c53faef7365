"""Reading cells that are devices.

This is the normative text of reads in `device` numerics: crossbar arithmetic and transposed arithmetic as they are
stated for whole levels, with two differences:

- a = sum over the driven lines of digit * conductance / 2^12, plus the noise of this read; a real number, a whole
  multiple of 2^-12, which may be negative. The noise is rint(read_noise_levels 2^12 z) / 2^12.
- The ADC clips at 0 as well: code = max(0, ..).

So every read is rounded by itself: errors that stay under half a step of the ADC disappear, others count in full. The
stored offset of offset encoding is taken off digitally, as before.

Draws: one stream for each (seed, "read", instruction, number of the run, matrix); windows are numbered sample after
sample, and window q has the blocks q ceil(E / 16) .. of the stream, E the reads of one window: an array
[row blocks, digits, slices, signs, columns] for MVM, [digits, slices, signs, column blocks, rows] for MVM_T.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mgc.isa.crossbar import Arithmetic, adc, split_digits
from mgc.isa.device.draws import BLOCK, Stream, normals
from mgc.isa.device.errors import DeviceModel
from mgc.isa.device.model import GRID_BITS, ONE
from mgc.isa.transposed import column_runs

Runs = Sequence[tuple[int, int]]
"""Windows as (first, count) of consecutive numbers, in the order of the rows they belong to."""


@dataclass(frozen=True)
class ReadNoise:
    """The noise of one instruction's reads of one matrix."""

    sigma: float
    stream: Stream

    def of_windows(self, runs: Runs, shape: tuple[int, ...]) -> np.ndarray:
        """Noise, int32 [windows, *shape] in units of the grid, of the reads of some windows."""
        each = int(np.prod(shape))
        blocks = -(-each // BLOCK)
        parts = [
            self.stream.draws(first * blocks, count * blocks * BLOCK).reshape(count, -1)[:, :each]
            for first, count in runs
        ]
        table = np.rint(self.sigma * ONE * normals()).astype(np.int32)
        return table[np.concatenate(parts)].reshape(-1, *shape)


def windows_of(runs: Runs, start: int, stop: int) -> list[tuple[int, int]]:
    """Runs of the rows start .. stop - 1."""
    part, at = [], 0
    for first, count in runs:
        low, high = max(start, at), min(stop, at + count)
        if low < high:
            part.append((first + low - at, high - low))
        at += count
    return part


def digitised(sums: np.ndarray, arithmetic: Arithmetic, full_scale: int) -> np.ndarray:
    """ADC codes, float64 whole numbers, of sums in levels."""
    return np.maximum(adc(sums, arithmetic, full_scale), 0.0)


_CHUNK = 1 << 20
"""Reads held at once."""


def sliced_read(
    codes: np.ndarray,
    conductances: np.ndarray,
    arithmetic: Arithmetic,
    signed: bool,
    noise: ReadNoise | None = None,
    runs: Runs = (),
) -> np.ndarray:
    """What MVM writes: int64 [n, N] from codes [n, K] and conductances [slices, signs, K, N], read by read."""
    slices, signs, depth, cols = conductances.shape
    digits, weights = split_digits(codes, arithmetic, signed)
    blocks = range(0, depth, arithmetic.rows)
    shape = (len(blocks), len(weights), slices, signs, cols)
    cells = conductances.astype(np.float64) / ONE
    total = np.zeros((len(codes), cols), np.int64)
    step = max(1, _CHUNK // int(np.prod(shape)))
    for w in range(0, len(codes), step):
        driven = digits[:, w : w + step].astype(np.float64)
        n = driven.shape[1]
        added = noise.of_windows(windows_of(runs, w, w + n), shape) / ONE if noise else None
        for b, r in enumerate(blocks):
            for s in range(slices):
                for sign in range(signs):
                    a = driven[:, :, r : r + arithmetic.rows] @ cells[s, sign, r : r + arithmetic.rows]
                    if added is not None:
                        a = a + added[:, b, :, s, sign].swapaxes(0, 1)
                    found = digitised(a, arithmetic, arithmetic.full_scale).astype(np.int64)
                    streamed = np.einsum("t,tnc->nc", weights, found)
                    total[w : w + n] += (-1 if sign else 1) * (streamed << (arithmetic.cell_bits * s))
    return without_offset(total, codes, arithmetic, arithmetic.full_scale)


def transposed_read(
    codes: np.ndarray,
    conductances: np.ndarray,
    arithmetic: Arithmetic,
    signed: bool,
    noise: ReadNoise | None = None,
    runs: Runs = (),
) -> np.ndarray:
    """What MVM_T adds: int64 [n, K] from codes [n, N] and conductances [slices, signs, K, N], read by read."""
    slices, signs, depth, cols = conductances.shape
    full = arithmetic.transposed_full_scale
    digits, weights = split_digits(codes, arithmetic, signed)
    starts = {(s, g): column_runs(cols, s, g, arithmetic) for s in range(slices) for g in range(signs)}
    shape = (len(weights), slices, signs, max(map(len, starts.values())), depth)
    cells = conductances.astype(np.float64) / ONE
    total = np.zeros((len(codes), depth), np.int64)
    step = max(1, _CHUNK // int(np.prod(shape)))
    for w in range(0, len(codes), step):
        driven = digits[:, w : w + step].astype(np.float64)
        n = driven.shape[1]
        added = noise.of_windows(windows_of(runs, w, w + n), shape) / ONE if noise else None
        for (s, sign), begins in starts.items():
            for b, (start, stop) in enumerate(zip(begins, [*begins[1:], cols], strict=True)):
                a = driven[:, :, start:stop] @ cells[s, sign, :, start:stop].T
                if added is not None:
                    a = a + added[:, :, s, sign, b].swapaxes(0, 1)
                found = digitised(a, arithmetic, full).astype(np.int64)
                streamed = np.einsum("t,tnk->nk", weights, found)
                total[w : w + n] += (-1 if sign else 1) * (streamed << (arithmetic.cell_bits * s))
    return without_offset(total, codes, arithmetic, full)


def without_offset(total: np.ndarray, codes: np.ndarray, arithmetic: Arithmetic, full: int) -> np.ndarray:
    """Sums without the stored offset of offset encoding, which is taken off digitally."""
    if arithmetic.encoding != "offset":
        return total
    inputs = codes.sum(axis=1, dtype=np.int64)[:, None] << (arithmetic.weight_bits - 1)
    return total - inputs if arithmetic.adc_mode == "clip" else full * total - arithmetic.adc_max * inputs


def undisturbed_columns(
    conductances: np.ndarray, levels: np.ndarray, arithmetic: Arithmetic, signed: bool, device: DeviceModel
) -> np.ndarray:
    """Which columns of MVM read what `levels` say, for any codes: bool [matrices, N].

    Both are [matrices, slices, signs, K, N]. On every bitline of a column the whole error, noise included, must stay
    below half a step of the ADC.
    """
    starts = np.arange(0, conductances.shape[3], arithmetic.rows)
    sound = np.ones((len(conductances), conductances.shape[4]), np.bool_)
    for s in range(arithmetic.slices):
        for g in range(arithmetic.signs):
            part, full = (conductances[:, s, g], levels[:, s, g]), arithmetic.full_scale
            sound &= _small_errors(*part, starts, 1, arithmetic, full, signed, device).all(axis=1)
    return sound


def undisturbed_rows(
    conductances: np.ndarray, levels: np.ndarray, arithmetic: Arithmetic, signed: bool, device: DeviceModel
) -> np.ndarray:
    """The same of rows of MVM_T: bool [matrices, K]."""
    full, cols = arithmetic.transposed_full_scale, conductances.shape[4]
    sound = np.ones((len(conductances), conductances.shape[3]), np.bool_)
    for s in range(arithmetic.slices):
        for g in range(arithmetic.signs):
            runs = column_runs(cols, s, g, arithmetic)
            part = conductances[:, s, g], levels[:, s, g]
            sound &= _small_errors(*part, runs, 2, arithmetic, full, signed, device).all(axis=2)
    return sound


def _small_errors(
    conductances: np.ndarray,
    levels: np.ndarray,
    starts: np.ndarray,
    axis: int,
    arithmetic: Arithmetic,
    full: int,
    signed: bool,
    device: DeviceModel,
) -> np.ndarray:
    """Where the error of what is added up along an axis, from each of `starts` to the next, is below half a step."""
    digit = max((1 << bits) - 1 for _, bits, _ in arithmetic.digit_table(signed))
    error = conductances.astype(np.int32) - (levels.astype(np.int32) << GRID_BITS)
    up, down = (np.add.reduceat(np.maximum(e, 0), starts, axis=axis, dtype=np.int64) * digit for e in (error, -error))
    most = np.maximum(up, down) + device.noise_bound
    step = ONE if arithmetic.adc_mode == "clip" else ONE * full / arithmetic.adc_max
    return 2 * most < step
