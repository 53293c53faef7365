"""Reads of cells that are devices, in large products: equal to `mgc.isa.device.reads` bit for bit.

Conductances are whole numbers of 2^-12 levels, so a bitline's sum is a whole number of those, whatever the order of
additions: float32 holds it exactly where the largest stays below 2^24 of them, float64 elsewhere. Codes and their
weighted sums are whole numbers too. So only the converters' rounding is done read by read.

A plane is one slice and sign of a row block (a column block, in a transposed read). A plane whose lines all lose
nothing (their whole error, noise included, stays below half a step, as in the empty top slices of 16-bit weights) is
part of one integer product instead.
"""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass
from functools import cache
from math import prod

import numpy as np

from mgc.isa.crossbar import Arithmetic, check_codes, split_digits, without_offset
from mgc.isa.device.model import GRID_BITS, ONE, Cells
from mgc.isa.device.reads import Plane, Planes, ReadNoise, Runs, windows_of
from mgc.isa.transposed import integer_product
from mgc.sim.fast.graph import GraphBuilder, Session

_WINDOWS = 64
"""Windows worked on at once, at most."""
_READS = 1 << 18
"""Reads held at once: few enough to stay in a cache."""
_DRAWS = 1 << 22
"""Draws of noise held at once."""
_LINES = 512
"""Lines of all planes that are read at once."""


@dataclass(frozen=True)
class LineBlock:
    """What is driven at once: some of the inputs, and the planes that are read line by line.

    cells: conductances in levels for lines `first` .. of each plane, [inputs, planes * lines]. significance: what a
    code of each plane is worth, float64 [1, planes].
    """

    inputs: slice
    first: int
    cells: np.ndarray
    significance: np.ndarray
    planes: tuple[Plane, ...]

    @property
    def lines(self) -> int:
        """Lines of each plane."""
        return self.cells.shape[1] // len(self.planes)


@dataclass(frozen=True)
class Reader:
    """Reads of one matrix in one direction, made for conductances as they are now.

    linear: integer weights [inputs, lines] of the planes that lose nothing, None if there is none.
    """

    arithmetic: Arithmetic
    planes: Planes
    signed: bool
    blocks: tuple[LineBlock, ...]
    linear: np.ndarray | None

    def read(
        self, codes: np.ndarray, noise: ReadNoise | None = None, runs: Runs = (), pool: Executor | None = None
    ) -> np.ndarray:
        """Sums int64 [n, lines] of codes [n, inputs]; windows are shared out to `pool`."""
        check_codes(codes, self.arithmetic, self.signed)
        total = np.zeros((len(codes), self.planes.lines), np.int64)
        if self.linear is not None:
            total += integer_product(codes, self.linear)
        if self.blocks:
            widest = max(b.cells.shape[1] for b in self.blocks)
            most = _DRAWS // prod(self.planes.noise_shape) if noise is not None else _WINDOWS
            step = max(1, min(_WINDOWS, most, _READS // (self.arithmetic.digits(self.signed) * widest)))

            def work(w: int) -> None:
                part = codes[w : w + step]
                numbers = windows_of(runs, w, w + len(part))
                added = noise.of_windows(numbers, self.planes.noise_shape) if noise is not None else None
                self._add_reads(total[w : w + step], part, added)

            for _ in (pool.map if pool is not None else map)(work, range(0, len(codes), step)):
                pass
        return without_offset(total, codes, self.arithmetic, self.planes.full_scale)

    def _add_reads(self, total: np.ndarray, codes: np.ndarray, noise: np.ndarray | None) -> None:
        """Adds what is read line by line for a few windows."""
        digits, weights = split_digits(codes, self.arithmetic, self.signed)
        count, n = digits.shape[:2]
        driven: dict[tuple[int, int, np.dtype], np.ndarray] = {}
        for block in self.blocks:
            real = block.cells.dtype
            key = block.inputs.start, block.inputs.stop, real
            if key not in driven:
                driven[key] = digits[:, :, block.inputs].astype(real).reshape(count * n, -1)
            feeds = {
                "driven": driven[key],
                "cells": block.cells,
                "weights": weights[None].astype(self._code_type(real)),
                "shape": np.array([count, n * block.cells.shape[1]], np.int64),
                "planes": np.array([n, len(block.planes), block.lines], np.int64),
                "significance": block.significance,
            }
            if noise is not None:
                feeds["noise"] = self._noise_of(noise, block).astype(real) / real.type(ONE)
            (sums,) = self._session(real, noise is not None).run(["sums"], feeds)
            total[:, block.first : block.first + block.lines] += sums[:, 0].astype(np.int64)

    def _code_type(self, real: np.dtype) -> np.dtype:
        """What holds weighted codes of one line: whole numbers, below 2^24 in float32."""
        streamed = sum(abs(weight) for _, _, weight in self.arithmetic.digit_table(self.signed))
        return real if self.arithmetic.adc_max * streamed < 1 << 24 else np.dtype(np.float64)

    def _session(self, real: np.dtype, noisy: bool) -> Session:
        scaled = (self.arithmetic.adc_max, self.planes.full_scale) if self.arithmetic.adc_mode == "scale" else None
        return _converters(real, self._code_type(real), self.arithmetic.adc_max, scaled, noisy)

    def _noise_of(self, noise: np.ndarray, block: LineBlock) -> np.ndarray:
        """Noise [digits * n, planes * lines] of a block."""
        lines = slice(block.first, block.first + block.lines)
        each = [self.planes.noise_of(plane, noise)[:, :, lines] for plane in block.planes]
        joined = np.stack(each, axis=2).swapaxes(0, 1)
        return joined.reshape(joined.shape[0] * joined.shape[1], -1)


@cache
def _converters(real: np.dtype, code: np.dtype, top: int, scaled: tuple[int, int] | None, noisy: bool) -> Session:
    """From driven lines to weighted sums of codes, each a whole number that its type holds: a graph for one thread.

    The converter's operations are the ISA's own, in its order: in scale mode a float64 product, a division, rounding.
    """
    g = GraphBuilder()
    sums = g.node("MatMul", g.input("driven", real), g.input("cells", real))
    if noisy:
        sums = g.node("Add", sums, g.input("noise", real))
    if scaled is not None:
        sums = g.cast(sums, np.float64)
        sums = g.node("Mul", sums, g.constant(np.float64(scaled[0])))
        sums = g.node("Div", sums, g.constant(np.float64(scaled[1])))
    kind = np.dtype(np.float64) if scaled is not None else real
    codes = g.node("Clip", g.node("Round", sums), g.constant(kind.type(0)), g.constant(kind.type(top)))
    codes = g.node("Reshape", g.cast(codes, code), g.input("shape", np.dtype(np.int64)))
    streamed = g.node("MatMul", g.input("weights", code), codes)
    planes = g.node("Reshape", g.cast(streamed, np.float64), g.input("planes", np.dtype(np.int64)))
    g.output(g.node("MatMul", g.input("significance", np.dtype(np.float64)), planes), "sums", np.dtype(np.float64))
    return g.session(1)


def reader(planes: Planes, cells: Cells, arithmetic: Arithmetic, signed: bool, noise: int) -> Reader:
    """Reads of planes: line by line, by what these are driven with, of the others as integer weights.

    `noise` is the largest of a read, in units of the grid.
    """
    digit = max((1 << bits) - 1 for _, bits, _ in arithmetic.digit_table(signed))
    kept: dict[tuple[int, int], list[Plane]] = {}
    linear = None
    for plane in planes.each:
        levels = _lossless_levels(plane, arithmetic, planes.full_scale, digit, noise)
        if levels is None:
            kept.setdefault((plane.inputs.start, plane.inputs.stop), []).append(plane)
        elif levels.any():
            if linear is None:
                linear = np.zeros((planes.inputs, planes.lines), np.int64)
            linear[plane.inputs] += (-levels if plane.sign else levels) << (arithmetic.cell_bits * plane.slice)
    blocks: list[LineBlock] = []
    for inputs, of_block in kept.items():
        largest = max(cells.bounds[1], -cells.bounds[0]) * digit * (inputs[1] - inputs[0]) + noise
        real = np.float32 if largest < 1 << 24 else np.float64
        significance = [(-1.0 if p.sign else 1.0) * (1 << (arithmetic.cell_bits * p.slice)) for p in of_block]
        step = max(8, _LINES // len(of_block))
        for first in range(0, planes.lines, step):
            joined = np.concatenate([p.conductances[:, first : first + step] for p in of_block], axis=1).astype(real)
            joined *= real(1 / ONE)
            blocks.append(LineBlock(slice(*inputs), first, joined, np.array([significance]), tuple(of_block)))
    return Reader(arithmetic, planes, signed, tuple(blocks), linear)


def _lossless_levels(plane: Plane, arithmetic: Arithmetic, full: int, digit: int, noise: int) -> np.ndarray | None:
    """What a plane's cells add to codes, int64 [inputs, lines]; None if its converters lose anything."""
    held = plane.conductances
    if not held.any():
        error, levels = 0, None
    else:
        found = (held.astype(np.int32) + ONE // 2) >> GRID_BITS
        off = held - (found << GRID_BITS)
        error = digit * int(max(np.maximum(off, 0).sum(axis=0).max(), np.maximum(-off, 0).sum(axis=0).max()))
        levels = found.astype(np.int64)
    error += noise
    if arithmetic.adc_mode == "clip":
        if 2 * error >= ONE:
            return None
        if levels is None:
            return np.zeros(held.shape, np.int64)
        lossless = levels.min() >= 0 and int(levels.sum(axis=0).max()) * digit <= arithmetic.adc_max
        return levels if lossless else None
    if 2 * error * arithmetic.adc_max >= ONE * full:
        return None
    if levels is None:
        return np.zeros(held.shape, np.int64)
    scaled = levels * arithmetic.adc_max
    return scaled // full if levels.min() >= 0 and not (scaled % full).any() else None
