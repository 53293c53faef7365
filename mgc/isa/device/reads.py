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
[row blocks, digits, slices, signs, columns] for MVM, [digits, slices, signs, column blocks, rows] for MVM_T (in planes,
the strips are the column blocks).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mgc.isa.crossbar import Arithmetic, adc, split_digits, without_offset
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


_CHUNK = 1 << 20
"""Reads held at once."""


@dataclass(frozen=True)
class Plane:
    """One slice and sign of a block of lines that are read together.

    `inputs` drive it, conductances are [inputs, lines]; `place` is where a window's noise of it is.
    """

    inputs: slice
    slice: int
    sign: int
    place: tuple[int, int, int]
    conductances: np.ndarray


@dataclass(frozen=True)
class Planes:
    """All that a read of one matrix in one direction is made of: from `inputs` codes to `lines` sums.

    noise_shape: the array of one window's reads. In it a plane's place is (block, slice, sign) around the digits, for
    transposed reads (slice, sign, block) after them.
    """

    each: tuple[Plane, ...]
    inputs: int
    lines: int
    full_scale: int
    noise_shape: tuple[int, ...]
    transposed: bool

    def noise_of(self, plane: Plane, noise: np.ndarray) -> np.ndarray:
        """[windows, digits, lines] of [windows, *noise_shape]."""
        a, b, c = plane.place
        return noise[:, :, a, b, c] if self.transposed else noise[:, a, :, b, c]


def forward_planes(conductances: np.ndarray, arithmetic: Arithmetic, signed: bool) -> Planes:
    """Reads along the rows of conductances [slices, signs, K, N]: those of MVM."""
    slices, signs, depth, cols = conductances.shape
    starts = range(0, depth, arithmetic.rows)
    rows = [slice(r, min(r + arithmetic.rows, depth)) for r in starts]
    each = tuple(
        Plane(block, s, g, (b, s, g), conductances[s, g, block])
        for b, block in enumerate(rows)
        for s in range(slices)
        for g in range(signs)
    )
    shape = (len(rows), arithmetic.digits(signed), slices, signs, cols)
    return Planes(each, depth, cols, arithmetic.full_scale, shape, False)


def transposed_planes(conductances: np.ndarray, arithmetic: Arithmetic, signed: bool) -> Planes:
    """Reads along the columns of conductances [slices, signs, K, N]: those of MVM_T."""
    slices, signs, depth, cols = conductances.shape
    each: list[Plane] = []
    most = 0
    for s in range(slices):
        for g in range(signs):
            starts = column_runs(cols, s, g, arithmetic).tolist()
            most = max(most, len(starts))
            for b, (start, stop) in enumerate(zip(starts, [*starts[1:], cols], strict=True)):
                columns = slice(start, stop)
                each.append(Plane(columns, s, g, (s, g, b), conductances[s, g, :, columns].T))
    shape = (arithmetic.digits(signed), slices, signs, most, depth)
    return Planes(tuple(each), cols, depth, arithmetic.transposed_full_scale, shape, True)


def planes_of(conductances: np.ndarray, arithmetic: Arithmetic, signed: bool, transposed: bool) -> Planes:
    """Reads of conductances [slices, signs, K, N] in one direction."""
    return (transposed_planes if transposed else forward_planes)(conductances, arithmetic, signed)


def read(
    codes: np.ndarray,
    planes: Planes,
    arithmetic: Arithmetic,
    signed: bool,
    noise: ReadNoise | None = None,
    runs: Runs = (),
) -> np.ndarray:
    """What MVM writes, or MVM_T adds: int64 [n, lines] from codes [n, inputs], read by read."""
    digits, weights = split_digits(codes, arithmetic, signed)
    total = np.zeros((len(codes), planes.lines), np.int64)
    step = max(1, _CHUNK // int(np.prod(planes.noise_shape)))
    for w in range(0, len(codes), step):
        driven = digits[:, w : w + step].astype(np.float64)
        n = driven.shape[1]
        added = noise.of_windows(windows_of(runs, w, w + n), planes.noise_shape) / ONE if noise else None
        for plane in planes.each:
            a = driven[:, :, plane.inputs] @ (plane.conductances.astype(np.float64) / ONE)
            if added is not None:
                a = a + planes.noise_of(plane, added).swapaxes(0, 1)
            codes_read = np.maximum(adc(a, arithmetic, planes.full_scale), 0.0).astype(np.int64)
            streamed = np.einsum("t,tnc->nc", weights, codes_read)
            total[w : w + n] += (-1 if plane.sign else 1) * (streamed << (arithmetic.cell_bits * plane.slice))
    return without_offset(total, codes, arithmetic, planes.full_scale)


def undisturbed(
    planes: Planes, levels: Planes, arithmetic: Arithmetic, signed: bool, device: DeviceModel
) -> np.ndarray:
    """Which lines read what planes of `levels` say, for any codes: bool [lines].

    In every plane the whole error of a line, noise included, must stay below half a step of the ADC.
    """
    digit = max((1 << bits) - 1 for _, bits, _ in arithmetic.digit_table(signed))
    step = ONE if arithmetic.adc_mode == "clip" else ONE * planes.full_scale / arithmetic.adc_max
    sound = np.ones(planes.lines, np.bool_)
    for plane, aim in zip(planes.each, levels.each, strict=True):
        error = plane.conductances.astype(np.int64) - (aim.conductances.astype(np.int64) << GRID_BITS)
        up, down = (np.maximum(e, 0).sum(axis=0) * digit for e in (error, -error))
        sound &= 2 * (np.maximum(up, down) + device.noise_bound) < step
    return sound
