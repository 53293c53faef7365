"""Crossbar groups and the arithmetic of their cells, digits and ADCs.

This is the normative text of crossbar arithmetic. With a weight matrix W [K, N] of integers and codes x [n, K]:

- Cells. "differential": w = p - n, one of them 0, each below 2^(Bw-1), cut into S = ceil((Bw-1)/b) slices of b bits,
  lowest first. "offset": w + 2^(Bw-1) in S = ceil(Bw/b) slices, one sign.
- Digits. Unsigned x: ceil(Bx/d) digits of d bits, lowest first (the top one may be narrower). Signed x: its low Bx-1
  bits likewise in ceil((Bx-1)/d) digits, then the sign bit alone, a digit of 1 bit with weight -2^(Bx-1).
- Bitline. For row block r of `rows` rows (the last may have fewer), column c, slice s, sign g, digit t:
  a = sum over the block's rows of digit_t(x) * cell, in 0 .. full = rows (2^d - 1) (2^b - 1). A block with fewer rows
  has the same full scale.
- ADC. M = 2^A - 1. "clip": code = min(round(a), M). "scale": code = round(a * M / full) in float64, half to even.
- Sum. y = sum over r, s, g, t of (+1 for p, -1 for n) 2^(b s) weight_of_digit(t) code, in integers.
- What MVM writes, int64: differential: y. Offset: the stored offset is taken off digitally, exactly, with
  X = sum over all rows of x: clip: y - 2^(Bw-1) X; scale: full * y - M * 2^(Bw-1) * X, that is in units of 1/M.
- Factor. The product that this stands for is `sums * factor` with factor = 1 (clip), full/M (scale, differential) or
  1/M (scale, offset). MVM does not multiply by it: the compiler folds it into the scale of DEQUANT.

A column block (r, c, s, g) is exact if its ADC loses nothing for any x. Clip: its largest sum, (largest digit) *
(sum of its cells), is at most M. Scale: M * cell is a multiple of full for each of its cells (always if full divides
M). A column is exact if all its blocks are: then sums * factor is x @ W, as a rational number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from mgc.functions.codes import weight_bytes
from mgc.isa.error import ExecutionError, ProgramError
from mgc.isa.schema import RunsOf


@dataclass(frozen=True)
class Arithmetic:
    """How a crossbar group computes.

    rows, cols: size of one crossbar. weight_bits Bw, cell_bits b, dac_bits d, adc_bits A, input_bits Bx as in the
    target. In encoding "differential" w = p - n with magnitudes below 2^(Bw-1) in ceil((Bw-1)/b) slices each; in
    "offset" w + 2^(Bw-1) is stored in ceil(Bw/b) slices and 2^(Bw-1) * sum(x) is subtracted digitally.
    plane_columns W says how slices and signs are packed (`CrossbarGroup`): 0 side by side for each column, else as
    whole planes of W columns. Only transposed reads depend on it.
    """

    rows: int
    cols: int
    cell_bits: int
    dac_bits: int
    adc_bits: int
    adc_mode: Literal["clip", "scale"]
    encoding: Literal["differential", "offset"]
    weight_bits: int
    input_bits: int
    plane_columns: int = 0

    @property
    def slices(self) -> int:
        """Cells that hold one magnitude (one sign of one weight)."""
        bits = self.weight_bits - 1 if self.encoding == "differential" else self.weight_bits
        return max(1, -(-bits // self.cell_bits))

    @property
    def signs(self) -> int:
        """Cell columns per slice: 2 for differential, 1 for offset."""
        return 2 if self.encoding == "differential" else 1

    @property
    def full_scale(self) -> int:
        """The largest sum one bitline can carry: rows * (2^d - 1) * (2^b - 1)."""
        return self.rows * ((1 << self.dac_bits) - 1) * ((1 << self.cell_bits) - 1)

    @property
    def adc_max(self) -> int:
        """The largest ADC code."""
        return (1 << self.adc_bits) - 1

    @property
    def factor(self) -> float:
        """What the sums that MVM writes are to be multiplied by; folded into DEQUANT's scale by the compiler."""
        if self.adc_mode == "clip":
            return 1.0
        return self.full_scale / self.adc_max if self.encoding == "differential" else 1 / self.adc_max

    @property
    def weight_range(self) -> tuple[int, int]:
        """Smallest and largest integer weight that the cells can hold."""
        half = 1 << (self.weight_bits - 1)
        return (1 - half if self.encoding == "differential" else -half), half - 1

    def code_range(self, signed: bool) -> tuple[int, int]:
        """Smallest and largest input code."""
        half = 1 << (self.input_bits - 1)
        return (-half, half - 1) if signed else (0, 2 * half - 1)

    def digits(self, signed: bool) -> int:
        """Input cycles of one read: the digits that stream, the sign bit alone for signed inputs."""
        return len(self.digit_table(signed))

    def digit_table(self, signed: bool) -> tuple[tuple[int, int, int], ...]:
        """(lowest bit, number of bits, weight) of each digit in streaming order."""
        bits = self.input_bits - 1 if signed else self.input_bits
        table = [(low, min(self.dac_bits, bits - low), 1 << low) for low in range(0, bits, self.dac_bits)]
        if signed:
            table.append((bits, 1, -(1 << bits)))
        return tuple(table)

    @property
    def planes_per_crossbar(self) -> int:
        """Planes (one slice, one sign) of a column strip in a crossbar: the turns of a transposed read."""
        planes = self.slices * self.signs
        return -(-planes // self.column_blocks(1)) if self.plane_columns else planes

    def column_blocks(self, cols: int) -> int:
        """Crossbars side by side that hold the slices and signs of `cols` columns."""
        planes = self.slices * self.signs
        if not self.plane_columns:
            return -(-cols * planes // self.cols)
        return -(-cols // self.plane_columns) * -(-planes // (self.cols // self.plane_columns))

    @property
    def transposed_columns(self) -> int:
        """The most columns of one slice and sign that a crossbar holds: what a transposed read adds up at once."""
        return self.plane_columns or -(-self.cols // (self.slices * self.signs))

    @property
    def transposed_full_scale(self) -> int:
        """The largest sum one wordline can carry in a transposed read."""
        return self.transposed_columns * ((1 << self.dac_bits) - 1) * ((1 << self.cell_bits) - 1)

    @property
    def transposed_factor(self) -> float:
        """What the sums that MVM_T adds are to be multiplied by, as `factor` is for MVM."""
        if self.adc_mode == "clip":
            return 1.0
        return self.transposed_full_scale / self.adc_max if self.encoding == "differential" else 1 / self.adc_max

    def largest_sum(self, rows: int) -> int:
        """A bound on what MVM adds up for weights of `rows` rows; it must stay below 2^63."""
        return self._largest(rows, -(-rows // self.rows), self.full_scale)

    def largest_transposed_sum(self, cols: int) -> int:
        """A bound on what one transposed read adds up for weights of `cols` columns; it must stay below 2^63."""
        runs = -(-cols // self.plane_columns) if self.plane_columns else self.column_blocks(cols)
        return self._largest(cols, min(cols, runs), self.transposed_full_scale)

    def _largest(self, lines: int, blocks: int, full: int) -> int:
        """A bound for `lines` driven lines in `blocks` crossbars of full scale `full`."""
        streamed = sum(abs(weight) for _, _, weight in self.digit_table(True) + self.digit_table(False))
        reads = blocks * streamed * sum(1 << (self.cell_bits * s) for s in range(self.slices))
        inputs = lines << (self.input_bits + self.weight_bits - 1)
        if self.encoding == "differential":
            return self.adc_max * reads
        if self.adc_mode == "clip":
            return self.adc_max * reads + inputs
        # full * code is at most M * a + full / 2, and all a add up to x @ (w + 2^(Bw-1))
        stored = lines << (self.input_bits + self.cell_bits * self.slices)
        return self.adc_max * (stored + inputs) + full * reads

    def check(self) -> None:
        """Raises ProgramError for a value outside what the ISA knows."""
        limits = {"rows": 1 << 16, "cols": 1 << 16, "cell_bits": 8, "dac_bits": 8, "adc_bits": 16, "input_bits": 16}
        for name, most in limits.items():
            if not 1 <= getattr(self, name) <= most:
                raise ProgramError(f"crossbar arithmetic: {name} is {getattr(self, name)}, 1..{most} is expected")
        if not 0 <= self.plane_columns <= self.cols:
            raise ProgramError(
                f"crossbar arithmetic: plane_columns is {self.plane_columns}, 0..{self.cols} (cols) is expected"
            )
        if not 2 <= self.weight_bits <= 16:
            raise ProgramError(f"crossbar arithmetic: weight_bits is {self.weight_bits}, 2..16 is expected")
        if self.adc_mode not in ("clip", "scale"):
            raise ProgramError(f"crossbar arithmetic: adc_mode is {self.adc_mode!r}, clip or scale is expected")
        if self.encoding not in ("differential", "offset"):
            raise ProgramError(
                f"crossbar arithmetic: encoding is {self.encoding!r}, differential or offset is expected"
            )


def encode_weights(weights: np.ndarray, arithmetic: Arithmetic) -> np.ndarray:
    """Cell levels, uint8 [..., slices, signs, K, N], of integer weights [..., K, N].

    Sign 0 is p, 1 is n; offset encoding has one sign. Raises ProgramError for a weight that does not fit.
    """
    lo, hi = arithmetic.weight_range
    if weights.size and not lo <= int(weights.min()) <= int(weights.max()) <= hi:
        raise ProgramError(f"weights are in {int(weights.min())}..{int(weights.max())}, cells hold {lo}..{hi}")
    shape = (*weights.shape[:-2], arithmetic.slices, arithmetic.signs, *weights.shape[-2:])
    cells = np.empty(shape, np.uint8)
    for sign, stored in enumerate(stored_levels(weights, arithmetic)):
        for s in range(arithmetic.slices):
            cells[..., s, sign, :, :] = slice_of(stored, s, arithmetic)
    return cells


def stored_levels(weights: np.ndarray, arithmetic: Arithmetic) -> tuple[np.ndarray, ...]:
    """The non-negative number that each sign's cells hold, uint16 like weights: (p, n), or (w + 2^(Bw-1),)."""
    wide = weights.astype(np.int32)
    if arithmetic.encoding == "offset":
        return ((wide + (1 << (arithmetic.weight_bits - 1))).astype(np.uint16),)
    return np.maximum(wide, 0).astype(np.uint16), np.maximum(-wide, 0).astype(np.uint16)


def slice_of(stored: np.ndarray, s: int, arithmetic: Arithmetic) -> np.ndarray:
    """Slice s (bits b*s .. b*s + b - 1) of stored levels, uint8."""
    b = arithmetic.cell_bits
    return ((stored >> (b * s)) & ((1 << b) - 1)).astype(np.uint8)


def check_codes(codes: np.ndarray, arithmetic: Arithmetic, signed: bool) -> None:
    """Raises ExecutionError for a code that has more than Bx bits."""
    lo, hi = arithmetic.code_range(signed)
    if codes.size and not lo <= int(codes.min()) <= int(codes.max()) <= hi:
        raise ExecutionError(f"input codes are in {int(codes.min())}..{int(codes.max())}, {lo}..{hi} is expected")


def split_digits(codes: np.ndarray, arithmetic: Arithmetic, signed: bool) -> tuple[np.ndarray, np.ndarray]:
    """Digits, uint8 [digits, *codes.shape], of input codes, and their weights, int64 [digits].

    sum(digits * weights) over the first axis is codes. Raises ExecutionError for a code that has more than Bx bits.
    """
    check_codes(codes, arithmetic, signed)
    table = arithmetic.digit_table(signed)
    wide = codes.astype(np.int32)
    digits = np.empty((len(table), *codes.shape), np.uint8)
    for t, (low, bits, _) in enumerate(table):
        digits[t] = (wide >> low) & ((1 << bits) - 1)
    return digits, np.array([weight for _, _, weight in table], np.int64)


def adc(sums: np.ndarray, arithmetic: Arithmetic, full_scale: int | None = None) -> np.ndarray:
    """ADC codes, float64 whole numbers in 0..2^A - 1, of bitline sums (non-negative, real).

    `full_scale` is the arithmetic's own unless given.
    """
    codes = np.array(sums, np.float64)
    top = float(arithmetic.adc_max)
    if arithmetic.adc_mode == "scale":
        codes *= top
        codes /= full_scale or arithmetic.full_scale
    np.rint(codes, out=codes)
    return np.minimum(codes, top, out=codes)


_CHUNK = 1 << 18
"""Bitline sums held at once: few enough to stay in a cache."""


def sliced_product(codes: np.ndarray, cells: np.ndarray, arithmetic: Arithmetic, signed: bool) -> np.ndarray:
    """What MVM writes: int64 [n, N] from codes [n, K] and cell levels [slices, signs, K, N], read by read."""
    slices, signs, depth, cols = cells.shape
    rows = arithmetic.rows
    # sums of a bitline are whole numbers up to full scale: float32 holds them below 2^24
    real = np.float32 if arithmetic.full_scale < 1 << 24 else np.float64
    significance = np.array([[sign << (arithmetic.cell_bits * s) for sign in (1, -1)] for s in range(slices)])
    significance = significance[:, :signs].reshape(-1).astype(np.float64)
    total = np.zeros((len(codes), cols), np.int64)
    window_chunk = max(1, _CHUNK // (arithmetic.digits(signed) * slices * signs * cols))
    for r in range(0, depth, rows):
        # [rows of the block, slices * signs * N]
        block = np.moveaxis(cells[:, :, r : r + rows], 2, 0).reshape(-1, slices * signs * cols).astype(real)
        for w in range(0, len(codes), window_chunk):
            digits, weights = split_digits(codes[w : w + window_chunk, r : r + rows], arithmetic, signed)
            n = digits.shape[1]
            sums = digits.reshape(-1, digits.shape[2]).astype(real) @ block
            converted = adc(sums, arithmetic).reshape(len(weights), -1)
            # whole numbers below 2^(A + Bx + Bw) <= 2^48: exact in float64 in any order
            streamed = (weights.astype(np.float64) @ converted).reshape(n, slices * signs, cols)
            total[w : w + n] += np.einsum("nqc,q->nc", streamed, significance).astype(np.int64)
    return without_offset(total, codes, arithmetic, arithmetic.full_scale)


def without_offset(total: np.ndarray, codes: np.ndarray, arithmetic: Arithmetic, full: int) -> np.ndarray:
    """Sums without the stored offset of offset encoding, which is taken off digitally."""
    if arithmetic.encoding != "offset":
        return total
    inputs = codes.sum(axis=1, dtype=np.int64)[:, None] << (arithmetic.weight_bits - 1)
    return total - inputs if arithmetic.adc_mode == "clip" else full * total - arithmetic.adc_max * inputs


def decode_weights(cells: np.ndarray, arithmetic: Arithmetic) -> np.ndarray:
    """The integer weights, int32 [..., K, N], that cell levels [..., slices, signs, K, N] hold."""
    shifts = arithmetic.cell_bits * np.arange(arithmetic.slices, dtype=np.int32)
    levels = (cells.astype(np.int32) << shifts[:, None, None, None]).sum(axis=-4, dtype=np.int32)
    if arithmetic.encoding == "offset":
        return levels[..., 0, :, :] - (1 << (arithmetic.weight_bits - 1))
    return levels[..., 0, :, :] - levels[..., 1, :, :]


def exact_blocks(weights: np.ndarray, arithmetic: Arithmetic, signed: bool) -> np.ndarray:
    """Which column blocks are exact: bool [matrices, row_blocks, N, slices, signs] of weights [matrices, K, N]."""
    matrices, depth, cols = weights.shape
    starts = np.arange(0, depth, arithmetic.rows)
    exact = np.empty((matrices, len(starts), cols, arithmetic.slices, arithmetic.signs), np.bool_)
    digit = max((1 << bits) - 1 for _, bits, _ in arithmetic.digit_table(signed))
    lossless = np.arange(1 << arithmetic.cell_bits) * arithmetic.adc_max % arithmetic.full_scale == 0
    for sign, stored in enumerate(stored_levels(weights, arithmetic)):
        for s in range(arithmetic.slices):
            cells = slice_of(stored, s, arithmetic)
            if arithmetic.adc_mode == "clip":
                most = np.add.reduceat(cells, starts, axis=1, dtype=np.int64) * digit
                exact[..., s, sign] = most <= arithmetic.adc_max
            else:
                exact[..., s, sign] = np.logical_and.reduceat(lossless[cells], starts, axis=1)
    return exact


def exact_columns(weights: np.ndarray, arithmetic: Arithmetic, signed: bool) -> np.ndarray:
    """Which columns are exact: bool [matrices, N] of weights [matrices, K, N]."""
    return np.asarray(exact_blocks(weights, arithmetic, signed).all(axis=(1, 3, 4)))


@dataclass(frozen=True)
class CrossbarGroup:
    """Weight matrices [matrices, rows, cols] that one MVM instruction reads, and where their cells sit.

    Row k of a matrix is in row block k // arithmetic.rows, at wordline k mod arithmetic.rows. Where column c, slice s,
    sign g (0 = p, 1 = n) is, its arithmetic's packing says. With plane_columns = 0 they stand side by side for each
    column: physical column q = (c * slices + s) * signs + g sits in column block q // cols, at bitline q mod cols. With
    plane_columns = W > 0 a plane is one slice and one sign of a strip of W columns. The planes of a strip are spread
    evenly over as few crossbars as hold them, B = ceil(slices * signs / (cols // W)) with P = ceil(slices * signs / B)
    planes each: plane p = s * signs + g of strip k = c // W sits in column block k * B + p // P, at bitline
    (p mod P) * W + c mod W. Sums of forward reads are the same.
    Crossbars of one replica are numbered matrix-major, then row block, then column block; `crossbars` lists their ids
    on the chip, replica after replica.
    `weights` names the integer weights, `real_weights` the float32 ones that `float` numerics uses. `weight_scale` is
    what a step of an integer weight is worth, one for the whole group, so that it holds for reads in both directions
    and for UPDATE; 0 in a group of an inference program, whose scales (one a column) are in its dequantising constants.
    The weights of a group that is `off_chip` lie in off-chip memory: its cells hold them from a REWRITE on, until a
    crossbar of it is written for another group or its weights change.
    """

    id: int
    name: str
    matrices: int
    rows: int
    cols: int
    arithmetic: Arithmetic
    weights: str
    real_weights: str
    replicas: int
    tiles: RunsOf
    crossbars: RunsOf
    sources: tuple[str, ...] = ()
    weight_scale: float = 0.0
    off_chip: bool = False

    @property
    def row_blocks(self) -> int:
        """Crossbars one above the other, for one matrix."""
        return -(-self.rows // self.arithmetic.rows)

    @property
    def column_blocks(self) -> int:
        """Crossbars side by side, for one matrix."""
        return self.arithmetic.column_blocks(self.cols)

    @property
    def weight_bytes(self) -> int:
        """Bytes of its weights as integers, in off-chip memory."""
        return weight_bytes(self.matrices * self.rows * self.cols, self.arithmetic.weight_bits)

    @property
    def crossbars_per_replica(self) -> int:
        """Crossbars of one replica."""
        return self.matrices * self.row_blocks * self.column_blocks

    @property
    def cells(self) -> int:
        """Cells of one replica that hold weights."""
        return self.matrices * self.rows * self.cols * self.arithmetic.slices * self.arithmetic.signs
