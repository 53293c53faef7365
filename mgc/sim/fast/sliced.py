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
from mgc.sim.fast.graph import GraphBuilder, NotLoweredError
from mgc.sim.fast.values import Element
from mgc.sim.fast.weights import Sums


@dataclass(frozen=True)
class InexactBlock:
    """The inexact bitlines of one row block, in a grid: for each affected column as many as the worst one has.

    cells uint8 [rows of the block, depth, columns]; bitline [i, j] adds significance[i, j] times its codes to the j-th
    affected column. Places that a column does not need have no cells and no significance.
    """

    start: int
    cells: np.ndarray
    significance: np.ndarray

    @property
    def size(self) -> int:
        """Bitlines."""
        return self.significance.size


@dataclass(frozen=True)
class Correction:
    """The inexact blocks of one matrix, and the columns (of N) that they affect."""

    columns: np.ndarray
    blocks: tuple[InexactBlock, ...]


@dataclass(frozen=True)
class ConverterSplit:
    """Integer weights W' [matrices, K, N], and for each matrix its correction, if it needs one."""

    weights: np.ndarray
    corrections: tuple[Correction | None, ...]
    arithmetic: Arithmetic
    signed: bool


def split(weights: np.ndarray, arithmetic: Arithmetic, signed: bool) -> ConverterSplit:
    """Splits an MVM's weights [matrices, K, N] into an integer product and corrections."""
    exact = exact_blocks(weights, arithmetic, signed)
    cells = encode_weights(weights, arithmetic)  # [matrices, slices, signs, K, N]
    steps = np.array([[sign << (arithmetic.cell_bits * s) for sign in (1, -1)] for s in range(arithmetic.slices)])
    steps = steps[:, : arithmetic.signs].astype(np.int64)
    corrections = tuple(_correction(cells[m], exact[m], steps, arithmetic.rows) for m in range(len(weights)))
    return ConverterSplit(_linear(weights, cells, exact, steps, arithmetic), corrections, arithmetic, signed)


def _correction(cells: np.ndarray, exact: np.ndarray, steps: np.ndarray, rows: int) -> Correction | None:
    """The inexact blocks of one matrix: cells [slices, signs, K, N], exact [row_blocks, N, slices, signs]."""
    columns = np.flatnonzero(~exact.all(axis=(0, 2, 3)))
    if not columns.size:
        return None
    blocks: list[InexactBlock] = []
    for k in range(len(exact)):
        inexact = ~exact[k, columns].reshape(len(columns), -1)  # [columns, slices * signs]
        depth = int(inexact.sum(axis=1).max())
        if not depth:
            continue
        order = np.argsort(~inexact, axis=1, kind="stable")[:, :depth].T  # [depth, columns]: each column's bitlines
        used = np.take_along_axis(inexact.T, order, axis=0)
        own = cells[:, :, k * rows : (k + 1) * rows].reshape(steps.size, -1, cells.shape[3])
        chosen = own[order, :, columns[None, :]]  # [depth, columns, rows]
        chosen = np.where(used[:, :, None], chosen, 0).transpose(2, 0, 1)
        significance = np.where(used, steps.reshape(-1)[order], 0)
        blocks.append(InexactBlock(k * rows, np.ascontiguousarray(chosen), significance))
    return Correction(columns, tuple(blocks))


def _linear(
    weights: np.ndarray, cells: np.ndarray, exact: np.ndarray, steps: np.ndarray, arithmetic: Arithmetic
) -> np.ndarray:
    """W' of the module's text."""
    if arithmetic.adc_mode == "clip":
        return weights
    kept = np.repeat(np.moveaxis(exact, (3, 4), (1, 2)), arithmetic.rows, axis=3)[:, :, :, : weights.shape[1]]
    levels = np.where(kept, cells, 0).astype(np.int64) * arithmetic.adc_max
    scaled = np.einsum("mtgkn,tg->mkn", levels, steps)
    if arithmetic.encoding == "offset":  # full * (codes) - M * 2^(Bw-1) * x
        return scaled - (arithmetic.adc_max << (arithmetic.weight_bits - 1))
    return scaled // arithmetic.full_scale  # exact: every kept M * cell is a multiple of full


def emit(g: GraphBuilder, x: str, element: Element, split: ConverterSplit, matrix: int, windows: int) -> Sums:
    """The correction [n, windows, N] of a matrix for inputs x [n, windows, K].

    All steps are exact: digits are bits of the codes; bitline sums are below full <= 2^32 and taken by an exact kernel;
    the converter is the ISA's own formula; sums of codes stay below the bound that chose int32 or float64.
    """
    correction, arithmetic = split.corrections[matrix], split.arithmetic
    assert correction is not None
    table = arithmetic.digit_table(split.signed)
    factor = arithmetic.full_scale if (arithmetic.adc_mode, arithmetic.encoding) == ("scale", "offset") else 1
    term = arithmetic.adc_max if arithmetic.adc_mode == "scale" else arithmetic.full_scale
    per_digit = term * sum(int(np.abs(b.significance).sum(axis=0).max()) for b in correction.blocks)
    most = per_digit * sum(abs(w) for _, _, w in table) * factor
    if most >= 1 << 53:
        raise NotLoweredError(f"sums reach {most}: no kernel is exact")
    dtype = np.dtype(np.int32 if most < 1 << 31 else np.float64)
    digits = _digits(g, x, element, table)
    total: str | None = None
    for block in correction.blocks:
        g.note(windows * len(table) * block.size)
        added = _block(g, digits, split, block, dtype)
        total = added if total is None else g.node("Add", total, added)
    assert total is not None
    # [digits, n, windows, columns]: weigh the digits and add them up
    weights = np.array([w * factor for _, _, w in table]).astype(dtype).reshape(-1, 1, 1, 1)
    weighed = g.node("Mul", total, g.constant(weights))
    result = g.node("ReduceSum", weighed, g.constant([0]), keepdims=0)
    if len(correction.columns) == split.weights.shape[2]:
        return Sums(result, dtype, most, "sliced")
    place = np.full(split.weights.shape[2], len(correction.columns), np.int32)
    place[correction.columns] = np.arange(len(correction.columns))
    widened = g.node("Pad", result, g.constant([0, 0, 0, 0, 0, 1]))
    return Sums(g.node("Gather", widened, g.constant(place), axis=2), dtype, most, "sliced")


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
    return g.concat(parts, axis=0)


def _block(g: GraphBuilder, digits: str, split: ConverterSplit, block: InexactBlock, dtype: np.dtype) -> str:
    """A block's sums of significance * term for each digit: [digits, n, windows, columns]."""
    rows, depth, columns = block.cells.shape
    if rows != split.weights.shape[1]:
        digits = g.slice(digits, block.start, block.start + rows, axis=3)
    cells = block.cells.reshape(rows, -1).astype(np.int64)
    element, codes = Element(np.dtype(np.uint8)), (0, (1 << split.arithmetic.dac_bits) - 1)
    sums, real = kernels.product(g, digits, element, cells, kernels.choose(cells, codes, element))
    terms = _convert(g, sums, real, split.arithmetic)
    significance = g.constant(block.significance.reshape(-1).astype(dtype))
    weighed = g.node("Mul", g.cast(terms, dtype), significance)
    if depth == 1:
        return weighed
    # [digits, n, windows, depth * columns]; whole numbers: the order of additions does not matter
    spread = g.node("Reshape", weighed, g.constant([0, 0, 0, depth, columns]))
    return g.node("ReduceSum", spread, g.constant([3]), keepdims=0)


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
