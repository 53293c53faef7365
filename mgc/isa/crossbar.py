"""Crossbar groups and the arithmetic of their cells, digits and ADCs (design section 4, normative)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Arithmetic:
    """How a crossbar group computes.

    rows, cols: size of one crossbar. weight_bits Bw, cell_bits b, dac_bits d, adc_bits A, input_bits Bx as in the
    target. In encoding "differential" w = p - n with magnitudes below 2^(Bw-1) in ceil((Bw-1)/b) slices each; in
    "offset" w + 2^(Bw-1) is stored in ceil(Bw/b) slices and 2^(Bw-1) * sum(x) is subtracted digitally.
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

    def digits(self, signed: bool) -> int:
        """Input cycles of one read: the digits that stream, the sign bit alone for signed inputs."""
        bits = self.input_bits - 1 if signed else self.input_bits
        return -(-bits // self.dac_bits) + int(signed)


@dataclass(frozen=True)
class CrossbarGroup:
    """Weight matrices [matrices, rows, cols] that one MVM instruction reads, and where their cells sit.

    Row k of a matrix is in row block k // arithmetic.rows, at wordline k mod arithmetic.rows. Column c, slice s, sign
    g (0 = p, 1 = n) is physical column q = (c * slices + s) * signs + g, which sits in column block q // cols at bitline
    q mod cols. Crossbars of one replica are numbered matrix-major, then row block, then column block; `crossbars` lists
    their ids on the chip, replica after replica.
    `weights` names the integer weights, `real_weights` the float32 ones that `float` numerics uses.
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
    tiles: tuple[int, ...]
    crossbars: tuple[int, ...]
    sources: tuple[str, ...] = ()

    @property
    def row_blocks(self) -> int:
        """Crossbars one above the other, for one matrix."""
        return -(-self.rows // self.arithmetic.rows)

    @property
    def column_blocks(self) -> int:
        """Crossbars side by side, for one matrix."""
        a = self.arithmetic
        return -(-(self.cols * a.slices * a.signs) // a.cols)

    @property
    def crossbars_per_replica(self) -> int:
        """Crossbars of one replica."""
        return self.matrices * self.row_blocks * self.column_blocks
