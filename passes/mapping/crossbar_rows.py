"""How many columns of a weight matrix an ADC in clip mode reads exactly, by whole-array sums."""

from __future__ import annotations

import numpy as np

from mgc.targets.description import Crossbar


def exact_columns(
    weights: np.ndarray, crossbar: Crossbar, *, signed: bool = False, input_bits: int | None = None
) -> np.ndarray:
    """Which columns can never clip: integer weights [matrices, rows, columns] -> bool [matrices, columns].

    A column is exact if in every row block, slice and sign the sum of its cells times the largest digit (of codes of so
    many bits, None: the crossbar's, that are `signed` or not; exact for unsigned ones is exact for both) is at most
    2^A - 1. In mode "scale" the converter
    rounds every sum, and none is taken to be exact.
    """
    matrices, _, columns = weights.shape
    if crossbar.adc_mode != "clip":
        return np.zeros((matrices, columns), bool)
    bits = input_bits or crossbar.input_bits
    streamed = min(crossbar.dac_bits, bits - 1 if signed else bits)
    limit = crossbar.max_code // ((1 << max(1, streamed)) - 1)
    exact = np.ones((matrices, columns), bool)
    for magnitudes in _magnitudes(weights, crossbar):
        exact &= _largest_sums(magnitudes, crossbar)[..., :columns] <= limit
    return exact


def _magnitudes(weights: np.ndarray, crossbar: Crossbar) -> list[np.ndarray]:
    """What the cells of each sign hold, unsigned, padded with empty cells to whole row blocks and 8 columns."""
    unsigned = np.uint8 if crossbar.weight_bits <= 8 else np.uint16
    if crossbar.encoding == "offset":
        stored = [weights.astype(np.int32) + (1 << (crossbar.weight_bits - 1))]
    else:
        small = np.int8 if weights.dtype == np.int8 else np.int32
        wide = weights.astype(small, copy=False)
        # -(-128) overflows int8, but a magnitude is below 2^(Bw-1)
        stored = [np.maximum(wide, 0), np.maximum(np.negative(wide), 0)]
    matrices, rows, columns = weights.shape
    shape = (matrices, -(-rows // crossbar.rows) * crossbar.rows, -(-columns // 8) * 8)
    if shape == weights.shape:
        return [np.ascontiguousarray(s.astype(unsigned, copy=False)) for s in stored]
    padded = [np.zeros(shape, unsigned) for _ in stored]
    for to, s in zip(padded, stored, strict=True):
        to[:, :rows, :columns] = s
    return padded


def _largest_sums(magnitudes: np.ndarray, crossbar: Crossbar) -> np.ndarray:
    """The largest sum over row blocks and slices of each column: [matrices, columns], columns padded.

    Sums run on eight columns at once, as bytes of one 64-bit word, over as few rows as cannot overflow a byte.
    """
    matrices, rows, columns = magnitudes.shape
    bits = crossbar.cell_bits
    mask = (1 << bits) - 1
    group = max(g for g in range(1, crossbar.rows + 1) if crossbar.rows % g == 0 and g * mask <= max(255, mask))
    words_mask = np.uint64(int.from_bytes(bytes([mask]) * 8, "little"))
    largest = np.zeros((matrices, columns), np.int64)
    for shift in range(0, crossbar.slices() * bits, bits):
        if magnitudes.dtype == np.uint8:
            # bits that a neighbour shifts in are masked away: the mask of a byte stays below 8 - shift bits, or the
            # cell's top bits are zero because a magnitude has no more bits than its byte
            words = magnitudes.view(np.uint64) >> np.uint64(shift)
            words &= np.uint64(int.from_bytes(bytes([mask & (255 >> shift)]) * 8, "little"))
        else:
            words = ((magnitudes >> shift) & mask).astype(np.uint8).view(np.uint64)
            words &= words_mask
        sums = words.reshape(matrices, rows // crossbar.rows, crossbar.rows // group, group, columns // 8).sum(axis=3)
        blocks = sums.view(np.uint8).reshape(matrices, rows // crossbar.rows, crossbar.rows // group, columns)
        largest = np.maximum(largest, blocks.sum(axis=2, dtype=np.int64).max(axis=1, initial=0))
    return largest
