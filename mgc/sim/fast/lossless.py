"""Whether the ADCs lose nothing in reads of a group: a quick test, since changing weights need it anew."""

from __future__ import annotations

from functools import cache

import numpy as np

from mgc.isa.crossbar import Arithmetic, exact_blocks, slice_of, stored_levels
from mgc.isa.transposed import transposed_exact_rows

GroupRead = tuple[int, bool]
"""A crossbar group, and whether it is read transposed."""

_FIELD = 8
"""Bits of one slice's sum in a packed word."""


def is_lossless(
    weights: np.ndarray, arithmetic: Arithmetic, signs: tuple[bool, ...] = (False, True), transposed: bool = False
) -> bool:
    """Whether reads of integer weights [matrices, rows, cols], or transposed ones, are sure to be the integer product.

    signs: whether inputs are signed. With "scale" they are where a code is a sum itself; other full scales leave a
    factor on it.
    """
    full = arithmetic.transposed_full_scale if transposed else arithmetic.full_scale
    if arithmetic.adc_mode != "clip":
        return arithmetic.encoding == "differential" and full == arithmetic.adc_max
    if transposed and full <= arithmetic.adc_max:
        return True
    lines = arithmetic.plane_columns if transposed else arithmetic.rows
    if lines and _packs(arithmetic, lines):
        digit = max((1 << bits) - 1 for signed in signs for _, bits, _ in arithmetic.digit_table(signed))
        driven = weights.swapaxes(1, 2) if transposed else weights
        return _sums_fit(driven, lines, arithmetic, arithmetic.adc_max // digit)
    exact = transposed_exact_rows if transposed else exact_blocks
    return all(bool(exact(weights, arithmetic, signed).all()) for signed in signs)


def _packs(a: Arithmetic, lines: int) -> bool:
    """Whether the cells of one sign of a weight fit a word of one field a slice, at least two of `lines` deep."""
    wide = lines * ((1 << a.cell_bits) - 1) < 1 << (2 * _FIELD)  # sums of a block fit twice the field
    return wide and a.slices * _FIELD <= 64 and _depth(a) >= 2


def _depth(a: Arithmetic) -> int:
    """Lines whose cells add up in a field without overflow."""
    return ((1 << _FIELD) - 1) // ((1 << a.cell_bits) - 1)


@cache
def _tables(a: Arithmetic) -> tuple[np.ndarray, ...]:
    """uint64 [65536]: the cells of an integer weight (as uint16), one field a slice; of each sign, then of both."""
    tables = []
    for stored in stored_levels(np.arange(1 << 16, dtype=np.uint16).view(np.int16), a):
        word = np.zeros(1 << 16, np.uint64)
        for s in range(a.slices):
            word |= slice_of(stored, s, a).astype(np.uint64) << np.uint64(_FIELD * s)
        tables.append(word)
    return *tables, np.bitwise_or.reduce(tables)  # a weight has cells of one sign only


def _sums_fit(weights: np.ndarray, lines: int, a: Arithmetic, most: int) -> bool:
    """Whether the sum of cells along axis 1 is at most `most` in every block of `lines`."""
    *signs, both = _tables(a)
    codes = weights.astype(np.int16).view(np.uint16)
    for start in range(0, weights.shape[1], lines):
        block = codes[:, start : start + lines]
        # where the cells of both signs together fit, those of each do; most often that is enough
        if not _block_fits(block, both, a, most) and not all(_block_fits(block, sign, a, most) for sign in signs):
            return False
    return True


def _block_fits(block: np.ndarray, table: np.ndarray, a: Arithmetic, most: int) -> bool:
    """The same for one block [matrices, lines, others] of weights as uint16, of the cells that a table says."""
    deep, even = _depth(a), np.uint64(0x00FF00FF00FF00FF)
    sums = [np.zeros((), np.uint64), np.zeros((), np.uint64)]
    for top in range(0, block.shape[1], deep):
        packed = np.add.reduce(table[block[:, top : top + deep]], axis=1)
        sums = [sums[0] + (packed & even), sums[1] + ((packed >> np.uint64(_FIELD)) & even)]
    return all(int(np.ascontiguousarray(wide).view(np.uint16).max(initial=0)) <= most for wide in sums)
