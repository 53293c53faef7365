"""What converters change: the part of an MVM's sums that is no integer product.

With M = 2^A - 1, a column block's converter turns the bitline sum a into code(a) (`mgc.isa.crossbar`). The sums are
split into one integer product x @ W' over everything that converters leave alone, done by one exact kernel, and a
correction, computed read by read for the inexact blocks only:

- clip: code(a) = a + min(M - a, 0), so W' = W and the correction sums significance * min(M - a, 0);
- scale: code(a) = a M / full in exact blocks, whose cells make that a whole number, so W' is made of their cells, and
  the correction sums significance * code(a) over the others.

significance = +-2^(b s) * weight_of_digit(t). Offset encoding takes 2^(Bw-1) * sum(x) off, which goes into W' (all
columns of scale mode in offset encoding carry the factor full, see the ISA).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mgc.isa.crossbar import Arithmetic, encode_weights, exact_blocks
from mgc.sim.fast import kernels
from mgc.sim.fast.graph import GraphBuilder
from mgc.sim.fast.refusal import NotLoweredError
from mgc.sim.fast.values import Element


@dataclass(frozen=True)
class Block:
    """The inexact bitlines of one row block of one matrix.

    `cells` uint8 [rows of the block, bitlines]; bitline q adds significance[q] times its codes to column columns[q].
    """

    matrix: int
    start: int
    cells: np.ndarray
    significance: np.ndarray
    columns: np.ndarray


@dataclass(frozen=True)
class Split:
    """Integer weights W' [matrices, K, N] (int64), and the blocks that need a correction."""

    weights: np.ndarray
    blocks: tuple[Block, ...]
    arithmetic: Arithmetic
    signed: bool


def split(weights: np.ndarray, arithmetic: Arithmetic, signed: bool) -> Split:
    """Splits an MVM's weights [matrices, K, N] into an integer product and corrections."""
    exact = exact_blocks(weights, arithmetic, signed)
    if arithmetic.adc_mode == "clip" and exact.all():
        return Split(weights, (), arithmetic, signed)
    cells = encode_weights(weights, arithmetic)  # [matrices, slices, signs, K, N]
    steps = np.array([[sign << (arithmetic.cell_bits * s) for sign in (1, -1)] for s in range(arithmetic.slices)])
    steps = steps[:, : arithmetic.signs].astype(np.int64)
    blocks: list[Block] = []
    for matrix, start in np.ndindex(exact.shape[:2]):
        # bitlines ordered slice, sign, column
        inexact = ~np.moveaxis(exact[matrix, start], 0, -1)
        if not inexact.any():
            continue
        row = start * arithmetic.rows
        s, sign, columns = np.nonzero(inexact)
        chosen = cells[matrix, :, :, row : row + arithmetic.rows].transpose(2, 0, 1, 3)[:, s, sign, columns]
        blocks.append(Block(matrix, row, np.ascontiguousarray(chosen), steps[s, sign], columns))
    return Split(_linear(weights, cells, exact, steps, arithmetic), tuple(blocks), arithmetic, signed)


def _linear(
    weights: np.ndarray, cells: np.ndarray, exact: np.ndarray, steps: np.ndarray, arithmetic: Arithmetic
) -> np.ndarray:
    """W' of the module's text."""
    if arithmetic.adc_mode == "clip":
        return weights.astype(np.int64)
    kept = np.repeat(np.moveaxis(exact, (3, 4), (1, 2)), arithmetic.rows, axis=3)[:, :, :, : weights.shape[1]]
    levels = np.where(kept, cells, 0).astype(np.int64) * arithmetic.adc_max
    scaled = np.einsum("mtgkn,tg->mkn", levels, steps)
    if arithmetic.encoding == "offset":  # full * (codes) - M * 2^(Bw-1) * x
        return scaled - (arithmetic.adc_max << (arithmetic.weight_bits - 1))
    return scaled // arithmetic.full_scale  # exact: every kept M * cell is a multiple of full


def correction(
    g: GraphBuilder, x: str, element: Element, split: Split, blocks: list[Block], windows: int
) -> tuple[str, np.dtype, int]:
    """Sums [n, windows, N] over `blocks` (of one matrix) for inputs x [n, windows, K], their type, a bound on them.

    All steps are exact: digits are bits of the codes; bitline sums are below full <= 2^32 and taken in the narrowest
    type that holds them; the converter is the ISA's, tabulated over every sum there can be (`_convert`); sums of codes
    stay below the bound that chose int32 or float64.
    """
    arithmetic = split.arithmetic
    table = arithmetic.digit_table(split.signed)
    digits = _digits(g, x, element, table)
    cols = split.weights.shape[2]
    factor = arithmetic.full_scale if (arithmetic.adc_mode, arithmetic.encoding) == ("scale", "offset") else 1
    most = sum(_largest(b, arithmetic) for b in blocks) * sum(abs(w) for _, _, w in table) * factor
    if most >= 1 << 53:
        raise NotLoweredError(f"sums reach {most}: no kernel is exact")
    dtype = np.dtype(np.int32 if most < 1 << 31 else np.float64)
    total: str | None = None
    for block in blocks:
        inputs = digits
        if block.start or len(block.cells) != split.weights.shape[1]:
            ends = [g.constant([v]) for v in (block.start, block.start + len(block.cells))]
            inputs = g.node("Slice", digits, *ends, g.constant([3]))
        g.note(windows * len(table) * block.cells.shape[1])
        codes = _convert(g, *_bitlines(g, inputs, block.cells, arithmetic), arithmetic)
        added = _reduce(g, g.cast(codes, dtype), block, cols, dtype)
        total = added if total is None else g.node("Add", total, added)
    assert total is not None
    # [digits, n, windows, N]: weigh the digits and add them up
    weights = np.array([w * factor for _, _, w in table]).astype(dtype).reshape(-1, 1, 1, 1)
    weighed = g.node("Mul", total, g.constant(weights))
    parts = g.nodes_of("Split", [weighed], len(table), axis=0, num_outputs=len(table)) if len(table) > 1 else [weighed]
    result = parts[0]
    for part in parts[1:]:
        result = g.node("Add", result, part)
    return g.node("Squeeze", result, g.constant([0])), dtype, most


def _largest(block: Block, arithmetic: Arithmetic) -> int:
    """A bound on the sum over a column's bitlines of |significance * term| for one digit, for the worst column."""
    term = arithmetic.adc_max if arithmetic.adc_mode == "scale" else arithmetic.full_scale
    return int(np.bincount(block.columns, np.abs(block.significance)).max()) * term


def _digits(g: GraphBuilder, x: str, element: Element, table: tuple[tuple[int, int, int], ...]) -> str:
    """uint8 [digits, n, windows, K]: the digits of codes x."""
    if element.bias == 128 and element.dtype == np.uint8:
        x = g.node("BitwiseXor", x, g.constant(np.uint8(128)))  # two's complement: bit 7 means -128, not +128
    elif element.bias:
        raise NotLoweredError(f"codes with bias {element.bias}")
    if element.dtype.itemsize > 1:
        # the low 16 bits of the wide number are those of the code, signed or not
        x = g.cast(g.cast(x, np.int32), np.uint32)
    elif element.dtype == np.int8:
        x = g.cast(x, np.uint8)
    dtype = np.dtype(np.uint32 if element.dtype.itemsize > 1 else np.uint8)
    parts = []
    for low, bits, _ in table:
        part = g.node("BitShift", x, g.constant(dtype.type(low)), direction="RIGHT") if low else x
        part = g.node("BitwiseAnd", part, g.constant(dtype.type((1 << bits) - 1)))
        parts.append(g.node("Unsqueeze", g.cast(part, np.uint8), g.constant([0])))
    return parts[0] if len(parts) == 1 else g.node("Concat", *parts, axis=0)


def _bitlines(g: GraphBuilder, digits: str, cells: np.ndarray, arithmetic: Arithmetic) -> tuple[str, np.dtype]:
    """Bitline sums [digits, n, windows, bitlines], exact, and their type."""
    codes = (0, (1 << arithmetic.dac_bits) - 1)
    element = Element(np.dtype(np.uint8))
    kernel = kernels.choose(cells.astype(np.int64), codes, element)
    return kernels.product(g, digits, element, cells.astype(np.int64), kernel)


def _convert(g: GraphBuilder, sums: str, dtype: np.dtype, arithmetic: Arithmetic) -> str:
    """min(M - a, 0) in clip mode, code(a) in scale mode, of whole sums a in 0 .. full, in type `dtype` or float64."""
    top = arithmetic.adc_max
    if arithmetic.adc_mode == "clip":
        return g.node("Min", g.node("Sub", g.constant(dtype.type(top)), sums), g.constant(dtype.type(0)))
    # the ISA's own operations in its own order: float64 product, division, rounding
    wide = g.cast(sums, np.float64)
    most = g.constant(np.float64(top))
    scaled = g.node("Div", g.node("Mul", wide, most), g.constant(np.float64(arithmetic.full_scale)))
    return g.node("Min", g.node("Round", scaled), most)


def _reduce(g: GraphBuilder, codes: str, block: Block, cols: int, dtype: np.dtype) -> str:
    """Adds the bitlines of each column with their significance: [digits, n, windows, N]."""
    lines = len(block.columns)
    if lines % cols == 0 and bool((block.columns.reshape(-1, cols) == np.arange(cols)).all()):
        weighed = g.node("Mul", codes, g.constant(block.significance.astype(dtype)))
        if lines == cols:
            return weighed
        parts = g.nodes_of("Split", [weighed], lines // cols, axis=3, num_outputs=lines // cols)
        result = parts[0]
        for part in parts[1:]:
            result = g.node("Add", result, part)
        return result
    # few bitlines: a product with the matrix that says where each goes
    combine = np.zeros((lines, cols))
    combine[np.arange(lines), block.columns] = block.significance
    real = g.node("MatMul", g.cast(codes, np.float64), g.constant(combine))
    return g.cast(real, dtype)
