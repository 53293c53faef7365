"""The transposed read of crossbars: codes along the columns in, sums along the rows out.

This is the normative text of transposed arithmetic; digits, cells and M are those of crossbar arithmetic. With a weight
matrix W [K, N] of integers and codes x [n, N], one for each column:

- Read. The bitlines of one slice s and one sign g of a crossbar are driven at once, those of other slices and signs
  stay silent: the slices of one column would need different significance on one wire. Which columns a crossbar holds
  follows from the packing of its group (S slices, G signs). Side by side (plane_columns = 0), column c, slice s, sign g
  is physical column q = (c * S + s) * G + g, in column block q // cols; so a column block B holds for (s, g) the
  columns L(B, s, g), a run of at most T = ceil(cols / (S * G)) columns, and a read takes S * G turns. In planes of W =
  plane_columns, each (s, g) of a strip B of T = W columns is in one crossbar: L(B, s, g) is the strip, and a read takes
  as many turns as a crossbar has planes. In what follows the strip is the column block.
- Wordline. For row r, column block B, slice s, sign g, digit t: a = sum over c in L(B, s, g) of digit_t(x_c) * cell, in
  0 .. full_T = T (2^d - 1) (2^b - 1). A block that holds fewer columns has the same full scale.
- ADC. "clip": code = min(round(a), M). "scale": code = round(a * M / full_T) in float64, half to even.
- Sum. y = sum over B, s, g, t of (+1 for p, -1 for n) 2^(b s) weight_of_digit(t) code, in integers.
- What MVM_T adds, int64: differential: y. Offset: the stored offset is taken off digitally, exactly, with
  X = sum over all columns of x: clip: y - 2^(Bw-1) X; scale: full_T * y - M * 2^(Bw-1) * X.
- Factor. The product that this stands for, x @ W^T, is `sums * transposed_factor` with transposed_factor = 1 (clip),
  full_T/M (scale, differential) or 1/M (scale, offset).

A row block (r, B, s, g) is exact if its ADC loses nothing for any x. Clip: its largest sum, (largest digit) * (sum of
its cells), is at most M. Scale: M * cell is a multiple of full_T for each of its cells. A row is exact if all its
blocks are: then sums * transposed_factor is x @ W^T, as a rational number. In clip mode every row is exact, whatever
the weights are, if full_T is at most M: with 128 columns, 2-bit cells and 1-bit digits full_T is 24 for 16-bit weights
and 48 for 8-bit ones side by side, and 192 in planes of 64 columns.
"""

from __future__ import annotations

from math import prod

import numpy as np

from mgc.isa.crossbar import (
    Arithmetic,
    adc,
    check_codes,
    decode_weights,
    slice_of,
    split_digits,
    stored_levels,
    without_offset,
)

_CHUNK = 1 << 18
"""Wordline sums held at once: few enough to stay in a cache."""


def column_runs(cols: int, s: int, sign: int, arithmetic: Arithmetic) -> np.ndarray:
    """Where the column blocks of slice s and a sign begin: the first column of each run L(B, s, g), ascending."""
    if arithmetic.plane_columns:
        return np.arange(0, cols, arithmetic.plane_columns)
    physical = (np.arange(cols) * arithmetic.slices + s) * arithmetic.signs + sign
    return np.unique(physical // arithmetic.cols, return_index=True)[1]


def integer_product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Stacked matrix products of integers, int64, exact (wrapped beyond 63 bits)."""
    a, b = a.astype(np.int64, copy=False), b.astype(np.int64, copy=False)
    largest = (int(np.abs(m).max(initial=0)) for m in (a, b))
    if prod(largest) * a.shape[-1] < 1 << 53:  # whole numbers that float64 holds: exact in any order, and quicker
        return np.matmul(a.astype(np.float64), b.astype(np.float64)).astype(np.int64)
    return np.matmul(a, b)


def transposed_sums(codes: np.ndarray, cells: np.ndarray, arithmetic: Arithmetic, signed: bool) -> np.ndarray:
    """What MVM_T adds: int64 [n, K] from codes [n, N] and cell levels [slices, signs, K, N].

    Read by read, but where the ADC covers the full scale in clip mode: there code = a for every read, so that the sums
    are the integer product.
    """
    if arithmetic.adc_mode == "clip" and arithmetic.transposed_full_scale <= arithmetic.adc_max:
        check_codes(codes, arithmetic, signed)
        return integer_product(codes, decode_weights(cells, arithmetic).T)
    return transposed_product(codes, cells, arithmetic, signed)


def transposed_product(codes: np.ndarray, cells: np.ndarray, arithmetic: Arithmetic, signed: bool) -> np.ndarray:
    """`transposed_sums` read by read in any case."""
    slices, signs, depth, cols = cells.shape
    full = arithmetic.transposed_full_scale
    # sums of a wordline are whole numbers up to full scale: float32 holds them below 2^24
    real = np.float32 if full < 1 << 24 else np.float64
    total = np.zeros((len(codes), depth), np.int64)
    window_chunk = max(1, _CHUNK // (arithmetic.digits(signed) * depth))
    for w in range(0, len(codes), window_chunk):
        digits, weights = split_digits(codes[w : w + window_chunk], arithmetic, signed)
        driven = digits.astype(real)
        n = driven.shape[1]
        for s in range(slices):
            for sign in range(signs):
                levels = cells[s, sign].T.astype(real)  # [N, K]
                significance = (-1 if sign else 1) << (arithmetic.cell_bits * s)
                starts = column_runs(cols, s, sign, arithmetic)
                for start, stop in zip(starts, [*starts[1:], cols], strict=True):
                    sums = driven[:, :, start:stop].reshape(-1, stop - start) @ levels[start:stop]
                    converted = adc(sums, arithmetic, full).reshape(len(weights), -1)
                    # whole numbers below 2^(A + Bx) <= 2^32: exact in float64 in any order
                    streamed = (weights.astype(np.float64) @ converted).astype(np.int64).reshape(n, depth)
                    total[w : w + n] += significance * streamed
    return without_offset(total, codes, arithmetic, full)


def transposed_exact_rows(weights: np.ndarray, arithmetic: Arithmetic, signed: bool) -> np.ndarray:
    """Which rows are exact: bool [matrices, K] of weights [matrices, K, N]."""
    exact = np.ones(weights.shape[:2], np.bool_)
    digit = max((1 << bits) - 1 for _, bits, _ in arithmetic.digit_table(signed))
    full = arithmetic.transposed_full_scale
    if arithmetic.adc_mode == "clip" and full <= arithmetic.adc_max:
        return exact
    lossless = np.arange(1 << arithmetic.cell_bits) * arithmetic.adc_max % full == 0
    for sign, stored in enumerate(stored_levels(weights, arithmetic)):
        for s in range(arithmetic.slices):
            cells = slice_of(stored, s, arithmetic)
            if arithmetic.adc_mode == "clip":
                starts = column_runs(weights.shape[2], s, sign, arithmetic)
                most = np.add.reduceat(cells, starts, axis=2, dtype=np.int64) * digit
                exact &= (most <= arithmetic.adc_max).all(axis=2)
            else:
                exact &= lossless[cells].all(axis=2)
    return exact
