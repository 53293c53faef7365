"""What a chip is: the target description as frozen, strictly typed pydantic models.

Every field states its meaning and unit; values come from one TOML file a chip (`targets/*.toml`), where each constant
carries its source. Energies are per action (pJ, fJ), times in ns, areas in um2 or mm2; `mgc.targets.cost` turns
them into cycles, joules and mm2.

Cross-field checks are *field* validators that look at the fields before them: pydantic runs those even when another
field is wrong, so a bad file gets all its errors at once (a model validator would wait until the fields are right).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from mgc.targets.override import override
from mgc.targets.problems import TargetError, explain

AdcMode = Literal["clip", "scale"]
Encoding = Literal["differential", "offset"]
UpdateMode = Literal["write-verify", "pulses"]
CostClass = Literal["simple", "multiply", "divide", "table", "reduction", "random"]

COST_CLASSES: tuple[CostClass, ...] = ("simple", "multiply", "divide", "table", "reduction", "random")
"""Cost classes of a vector-unit operation. `simple`: add, subtract, negate, compare, select, min, max, abs, copy;
`multiply`: product, square; `divide`: quotient, reciprocal, square root; `table`: one look-up in a piecewise-linear
function table, interpolation included; `reduction`: one element accumulated into a sum, minimum or maximum."""

Count = Annotated[int, Field(ge=1, le=1_000_000)]
Positive = Annotated[float, Field(gt=0, le=1e18)]
NonNegative = Annotated[float, Field(ge=0, le=1e18)]
Duration = Annotated[float, Field(gt=0, le=1e12)]
Latency = Annotated[float, Field(ge=0, le=1e12)]
Bandwidth = Annotated[float, Field(ge=1e-9, le=1e9)]


class _Table(BaseModel):
    """One TOML table: unknown keys, wrong types (no coercion) and non-finite numbers are errors; values are frozen."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Crossbar(_Table):
    """Arithmetic of one crossbar (docs/isa.md). All that decides the bits of a result stands in this table."""

    rows: int = Field(ge=1, le=4096, description="word lines of one crossbar; a row block holds this many inputs")
    cols: int = Field(ge=1, le=4096, description="bit lines of one crossbar")
    cell_bits: int = Field(ge=1, le=8, description="bits one cell stores (b): 2^b conductance levels")
    weight_bits: int = Field(ge=2, le=16, description="bits of a weight in inference (Bw), sign included")
    input_bits: int = Field(
        ge=1,
        le=16,
        description="bits of an input (Bx); an input that can be negative needs at least 2, one a sign",
    )
    register_bits: int = Field(
        default=0,
        ge=0,
        le=16,
        description="bits that an input register holds (0: input_bits): inputs that matter most have up to so many",
    )
    dac_bits: int = Field(ge=1, le=8, description="bits of one input digit (d), driven in one read; at most input_bits")
    adc_bits: int = Field(ge=1, le=16, description="resolution of the converter on a bit line (A): codes 0 .. 2^A - 1")
    adc_mode: AdcMode = Field(
        description="clip: one code a cell level, sums over 2^A - 1 saturate; scale: codes span the full column sum"
    )
    encoding: Encoding = Field(
        description="differential: w = p - n on two crossbars; offset: w + 2^(Bw-1) on one, the offset subtracted after"
    )

    @field_validator("register_bits")
    @classmethod
    def _holds_inputs(cls, value: int, info: ValidationInfo) -> int:
        input_bits = info.data.get("input_bits")
        if value and input_bits is not None and value < input_bits:
            raise ValueError(f"must not be below input_bits ({input_bits}), not {value}")
        return value

    @field_validator("dac_bits")
    @classmethod
    def _digit_fits_input(cls, value: int, info: ValidationInfo) -> int:
        input_bits = info.data.get("input_bits")
        if input_bits is not None and value > input_bits:
            raise ValueError(f"must not exceed input_bits ({input_bits}), not {value}: a digit is a part of the input")
        return value

    @property
    def widest_input(self) -> int:
        """Bits of the widest input."""
        return max(self.input_bits, self.register_bits)

    @property
    def signs(self) -> int:
        """Crossbars that hold one slice of a block: 2 (plus and minus) in differential encoding, 1 in offset."""
        return 2 if self.encoding == "differential" else 1

    @property
    def full_scale(self) -> int:
        """Largest possible sum on a bit line in one read, in cell levels: R (2^d - 1) (2^b - 1)."""
        return self.rows * self.largest_product

    @property
    def largest_product(self) -> int:
        """What one cell adds to a sum in one read, at most: (2^d - 1) (2^b - 1)."""
        return (2**self.dac_bits - 1) * (2**self.cell_bits - 1)

    @property
    def max_code(self) -> int:
        """Largest code of the converter: 2^A - 1."""
        return 2**self.adc_bits - 1

    def slices(self, weight_bits: int | None = None) -> int:
        """Cells that hold one weight of one sign: ceil((Bw-1)/b) in differential encoding, ceil(Bw/b) in offset.

        `weight_bits` defaults to the inference width; training passes its own.
        """
        bits = self.weight_bits if weight_bits is None else weight_bits
        if bits < 2:
            raise ValueError(f"weight_bits must be at least 2 (one is the sign), not {bits}")
        stored = bits - 1 if self.encoding == "differential" else bits
        return _ceil_div(stored, self.cell_bits)

    def row_blocks(self, rows: int) -> int:
        """Crossbars one above the other that hold a matrix of `rows` rows: row k is in block k // self.rows."""
        return _ceil_div(rows, self.rows)

    def column_blocks(self, columns: int, weight_bits: int | None = None, *, plane_columns: int = 0) -> int:
        """Crossbars side by side that hold a matrix of `columns` columns. With plane_columns = 0 column c, slice s,
        sign g is bit line q = (c * slices + s) * signs + g, in block q // cols; else whole planes (one slice, one sign)
        of a strip of so many columns are spread evenly over as few crossbars as hold them.
        """
        planes = self.slices(weight_bits) * self.signs
        if not plane_columns:
            return _ceil_div(columns * planes, self.cols)
        return _ceil_div(columns, plane_columns) * _ceil_div(planes, self.cols // plane_columns)

    def transposed_turns(self, weight_bits: int | None = None, *, plane_columns: int = 0) -> int:
        """Reads of a transposed product for each read of the product: the planes of a crossbar take turns."""
        planes = self.slices(weight_bits) * self.signs
        return _ceil_div(planes, _ceil_div(planes, self.cols // plane_columns)) if plane_columns else planes

    def transposed_columns(self, weight_bits: int | None = None) -> int:
        """Columns that a transposed read drives at once where slices and signs stand side by side, at most."""
        return _ceil_div(self.cols, self.transposed_turns(weight_bits))

    def digits(self, *, signed: bool, input_bits: int | None = None) -> int:
        """Reads that stream one input: ceil(Bx/d) unsigned; ceil((Bx-1)/d) + 1 signed, the sign bit streams alone.

        Raises ValueError where a signed input has fewer than 2 bits: there is no magnitude left to stream.
        """
        bits = self.input_bits if input_bits is None else input_bits
        if bits < 1:
            raise ValueError(f"input_bits must be at least 1, not {bits}")
        if not signed:
            return _ceil_div(bits, self.dac_bits)
        if bits < 2:
            raise ValueError("a signed input needs input_bits of at least 2: one bit is the sign")
        return _ceil_div(bits - 1, self.dac_bits) + 1


class Structure(_Table):
    """How many of what: chips > tiles > macros > crossbars. A tile has one memory and one vector unit."""

    chips: Count = Field(description="chips in the system, joined by [link]")
    tiles_per_chip: Count = Field(description="tiles on one chip")
    macros_per_tile: Count = Field(description="macros (ISAAC: in-situ multiply-accumulate units) in one tile")
    crossbars_per_macro: Count = Field(description="crossbars in one macro; they share the macro's converters")

    @property
    def crossbars_per_tile(self) -> int:
        """Crossbars in one tile."""
        return self.macros_per_tile * self.crossbars_per_macro

    @property
    def crossbars_per_chip(self) -> int:
        """Crossbars on one chip (ISAAC: 8 x 12 x 168 = 16,128)."""
        return self.tiles_per_chip * self.crossbars_per_tile

    @property
    def tiles(self) -> int:
        """Tiles of all chips together."""
        return self.chips * self.tiles_per_chip

    @property
    def crossbars(self) -> int:
        """Crossbars of all chips together: the capacity a program must fit."""
        return self.chips * self.crossbars_per_chip


class Cell(_Table):
    """The memristor cell and its array."""

    read_ns: Duration = Field(description="time of one analog read of a crossbar (one input digit, all rows), ns")
    read_energy_fj: NonNegative = Field(description="energy of one cell in one read, fJ; the mean over cell levels")
    row_write_ns: Duration = Field(description="time to write one row of a crossbar, all its columns at once, ns")
    write_energy_pj: NonNegative = Field(description="energy to write one cell, pJ")
    write_drivers_per_macro: Count = Field(description="crossbars of one macro that can be written at the same time")
    endurance_writes: Positive = Field(description="writes a cell survives")
    area_um2: NonNegative = Field(description="area of one cell, um2")


_Share = Annotated[float, Field(ge=0, le=1)]
_Coefficients = Annotated[
    tuple[Annotated[float, Field(ge=-1e3, le=1e3)], ...], Field(strict=False, min_length=1, max_length=8)
]


class Device(_Table):
    """What is not ideal in a cell, for `device` numerics: docs/device.md; `mgc.isa.device` says what it does."""

    on_us: Annotated[float, Field(gt=0, le=1e6)] = Field(description="conductance of the highest level, uS")
    off_us: Annotated[float, Field(ge=0, le=1e6)] = Field(description="conductance of level 0, uS; below on_us")
    write_sigma: _Coefficients = Field(
        description="coefficients c0, c1, .. of a verified write's standard deviation: on_us (c0 + c1 g + c2 g^2 + ..) "
        "for the conductance g = G / on_us; nowhere below 0"
    )
    stuck_on: _Share = Field(description="share of cells that are stuck at the highest level")
    stuck_off: _Share = Field(description="share of cells that are stuck at level 0")
    stuck_repair: bool = Field(
        description="whether verified writes set the other cell of a differential pair against a stuck one"
    )
    read_noise_levels: Annotated[float, Field(ge=0, le=1e3)] = Field(
        description="standard deviation of the noise of one read of one line, in cell levels"
    )
    drift_exponent: Annotated[float, Field(ge=-1, le=1)] = Field(
        description="nu in G(t) = G (t / 1 s)^-nu, mean over cells"
    )
    drift_exponent_sigma: Annotated[float, Field(ge=0, le=1)] = Field(description="its standard deviation over cells")
    drift_s: Annotated[float, Field(ge=1, le=1e12)] = Field(
        description="age of cells when an inference program reads them, s; 1: as they were written"
    )
    update: UpdateMode = Field(
        description="how training changes a weight. write-verify: cells of other levels are written anew; pulses: "
        "blind pulses, without reading back"
    )
    pulse_levels: Annotated[int, Field(ge=1, le=1_000_000)] = Field(description="pulses from off_us to on_us")
    pulse_asymmetry: Annotated[float, Field(ge=0, lt=1)] = Field(
        description="a in a pulse up of (1 + a) and a pulse down of (1 - a) times the mean"
    )
    pulse_noise: Annotated[float, Field(ge=0, le=1e3)] = Field(
        description="standard deviation of one pulse from cycle to cycle, as a share of the mean pulse"
    )
    pulse_spread: Annotated[float, Field(ge=0, le=1e3)] = Field(
        description="standard deviation of a cell's own mean pulse over cells, as a share of the mean pulse"
    )

    @field_validator("off_us")
    @classmethod
    def _below_on(cls, value: float, info: ValidationInfo) -> float:
        on_us = info.data.get("on_us")
        if on_us is not None and value >= on_us:
            raise ValueError(f"must be below on_us ({on_us}), not {value}")
        return value

    @field_validator("write_sigma")
    @classmethod
    def _no_negative_sigma(cls, value: tuple[float, ...], info: ValidationInfo) -> tuple[float, ...]:
        on_us, off_us = info.data.get("on_us"), info.data.get("off_us")
        if on_us is None or off_us is None:
            return value
        for k in range(101):
            share = (off_us + (on_us - off_us) * k / 100) / on_us
            sigma = sum(c * share**n for n, c in enumerate(value))
            if sigma < -1e-12:
                raise ValueError(f"must not be negative: it is {sigma:.3g} at {share:.2f} on_us")
        return value

    @field_validator("stuck_off")
    @classmethod
    def _not_more_than_all(cls, value: float, info: ValidationInfo) -> float:
        stuck_on = info.data.get("stuck_on")
        if stuck_on is not None and stuck_on + value > 1:
            raise ValueError(f"with stuck_on ({stuck_on}) must not exceed 1, not {value}")
        return value


def _per_resolution(values: tuple[float, ...], info: ValidationInfo) -> tuple[float, ...]:
    """Check that a column of a converter table is as long as its `resolutions`."""
    resolutions = info.data.get("resolutions")
    if resolutions is not None and len(values) != len(resolutions):
        raise ValueError(f"must have one value for each of the {len(resolutions)} resolutions, not {len(values)}")
    return values


# TOML arrays arrive as lists; only the container is converted, the numbers in it stay strict.
_Numbers = Annotated[tuple[NonNegative, ...], Field(strict=False, min_length=1)]
_Durations = Annotated[tuple[Duration, ...], Field(strict=False, min_length=1)]
_Resolutions = Annotated[tuple[Annotated[int, Field(ge=1, le=16)], ...], Field(strict=False, min_length=1)]


class _Converter(_Table):
    """A converter known at some resolutions. Others are interpolated, see `at_resolution`."""

    resolutions: _Resolutions = Field(description="resolutions that the columns below list, bits, ascending")

    @field_validator("resolutions")
    @classmethod
    def _ascending(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if any(low >= high for low, high in pairwise(value)):
            raise ValueError("must be strictly ascending")
        return value

    def at_resolution(self, column: tuple[float, ...], bits: int) -> float:
        """A column's value at `bits`: linear between the listed resolutions, proportional to the bits below the lowest,
        doubling with every bit above the highest.

        The doubling is assumed from two facts: a converter's figure of merit is quoted per level (energy / 2^bits),
        and MNSIM's DAC table doubles a bit (hardware_constants 2.7).
        """
        known = self.resolutions
        if bits <= known[0]:
            return column[0] * bits / known[0]
        if bits >= known[-1]:
            return column[-1] * 2.0 ** (bits - known[-1])
        high = next(i for i, resolution in enumerate(known) if resolution >= bits)
        share = (bits - known[high - 1]) / (known[high] - known[high - 1])
        return column[high - 1] + share * (column[high] - column[high - 1])


class Adc(_Converter):
    """Analog-to-digital converters of a macro, each shared by the columns of its crossbars in turn."""

    per_macro: Count = Field(description="converters in one macro; its crossbars' columns take turns on them")
    sample_ns: _Durations = Field(description="time of one conversion at each resolution, ns")
    energy_pj: _Numbers = Field(description="energy of one conversion at each resolution, pJ")
    area_um2: _Numbers = Field(description="area of one converter at each resolution, um2")

    _lengths = field_validator("sample_ns", "energy_pj", "area_um2")(_per_resolution)


class Dac(_Converter):
    """Digital-to-analog converters: one drives each row of each crossbar."""

    energy_pj: _Numbers = Field(description="energy of driving one row for one read at each resolution, pJ")
    area_um2: _Numbers = Field(description="area of one converter at each resolution, um2")

    _lengths = field_validator("energy_pj", "area_um2")(_per_resolution)


class Periphery(_Table):
    """What stands between array, converters and the macro's registers."""

    fill_ns: Latency = Field(description="time from input register to driven row, before the first read, ns")
    sample_hold_energy_fj: NonNegative = Field(description="energy of holding one column's sum for one read, fJ")
    sample_hold_area_um2: NonNegative = Field(description="area of the sample-and-hold of one column, um2")
    shift_add_ns: Latency = Field(description="time from the last conversion to the finished sum, ns")
    shift_add_energy_pj: NonNegative = Field(description="energy of adding one code into a sum, pJ")
    accumulator_bytes: int = Field(
        default=8, ge=1, le=8, description="bytes of a crossbar sum wherever it is stored or moved"
    )
    shift_add_per_macro: Count = Field(description="shift-and-add units in one macro")
    shift_add_area_um2: NonNegative = Field(description="area of one shift-and-add unit, um2")
    input_register_energy_pj_per_byte: NonNegative = Field(
        description="energy of taking one input byte through a macro's input register: written once, read once, pJ/B"
    )
    input_register_area_um2: NonNegative = Field(description="area of one macro's input register, um2")


class Edram(_Table):
    """The memory of one tile, with its bus."""

    bytes_per_tile: Annotated[int, Field(ge=1, le=2**40)] = Field(description="capacity of one tile's memory, bytes")
    bytes_per_ns: Bandwidth = Field(description="bandwidth of one tile's memory, B/ns (= GB/s)")
    latency_ns: Latency = Field(description="time to the first byte, ns")
    energy_pj_per_byte: NonNegative = Field(description="energy of reading or writing one byte, bus included, pJ/B")
    area_mm2: NonNegative = Field(description="area of one tile's memory, bus included, mm2")


_PRODUCTS_A_DRAW = 40


class PerClass(_Table):
    """One number for each cost class of the vector unit."""

    simple: NonNegative = Field(description="add, subtract, compare, select, min, max, abs, copy")
    multiply: NonNegative = Field(description="product, square")
    divide: NonNegative = Field(description="quotient, reciprocal, square root")
    table: NonNegative = Field(description="one look-up in a function table, interpolation included")
    reduction: NonNegative = Field(description="one element accumulated into a sum, minimum or maximum")
    random: NonNegative | None = Field(
        default=None,
        description="one random number. Default, assumed: 40 products. Philox4x64-10 takes 20 products of 64 bits, "
        "each 16 of 16 bits, for 8 numbers",
    )

    def of(self, cost_class: CostClass) -> float:
        """The number of one cost class."""
        value: float | None = getattr(self, cost_class)
        return _PRODUCTS_A_DRAW * self.multiply if value is None else value


class Vector(_Table):
    """The vector unit of a tile: lanes that do one operation a cycle each."""

    lanes_per_tile: Count = Field(description="elements worked on at once in one tile")
    drain_lanes_per_tile: int = Field(
        default=0,
        ge=0,
        le=1 << 16,
        description="of these, lanes that work on crossbar sums as they come, each crossbar having an equal share of "
        "them, and on nothing else; 0: sums are stored first",
    )
    latency_ns: Latency = Field(description="time from the first operand to the first result, ns")
    op_ns: PerClass = Field(description="time one lane is busy with one operation, ns, by cost class")
    energy_pj: PerClass = Field(description="energy of one operation, pJ, by cost class")
    table_segments: int = Field(ge=1, le=65536, description="linear segments of one function table (sigmoid, tanh)")
    area_mm2: NonNegative = Field(description="area of one tile's vector unit, mm2")

    @property
    def kernel_lanes(self) -> int:
        """Lanes of a tile that run kernels."""
        return self.lanes_per_tile - self.drain_lanes_per_tile

    @field_validator("drain_lanes_per_tile")
    @classmethod
    def _leaves_some(cls, value: int, info: ValidationInfo) -> int:
        if value >= info.data.get("lanes_per_tile", value + 1):
            raise ValueError("must be less than lanes_per_tile: kernels need lanes too")
        return value

    @field_validator("op_ns")
    @classmethod
    def _takes_time(cls, value: PerClass) -> PerClass:
        free = [cost_class for cost_class in COST_CLASSES if value.of(cost_class) == 0]
        if free:
            raise ValueError(f"must be greater than 0: {', '.join(free)}")
        return value


class DiffUnit(_Table):
    """The diff-block of a chip: scores in; loss and error deltas out. A subtractor, a comparator, tables of sigmoid and
    softplus, a multiplier for the scale, a batch accumulator.
    """

    lanes: Count = Field(description="scores worked on at once")
    setup_ns: Latency = Field(description="time to set function, target and scale, ns")
    latency_ns: Latency = Field(description="time from the last score to its delta and the finished sum, ns")
    score_ns: Duration = Field(description="time one lane is busy with one score, ns")
    sum_ns: Duration = Field(description="time one lane is busy with accumulating or writing one score of a mean, ns")
    score_energy_pj: NonNegative = Field(description="energy of one score: argument, f, f', scale, accumulation, pJ")
    sum_energy_pj: NonNegative = Field(description="energy of accumulating one score for a mean, pJ")
    table_segments: int = Field(ge=4, le=65536, description="linear segments of its function tables")
    area_mm2: NonNegative = Field(description="area of a chip's diff-block, mm2")


class Noc(_Table):
    """The network between the tiles of a chip: a mesh of routers, filled row by row."""

    tiles_per_router: Count = Field(description="tiles that share one router")
    mesh_columns: Count = Field(description="routers in one row of the mesh")
    hop_ns: Latency = Field(description="time a message's head takes through one router and its wire, ns")
    bytes_per_ns: Bandwidth = Field(description="bandwidth of one port, B/ns (= GB/s)")
    energy_pj_per_byte_hop: NonNegative = Field(description="energy of one byte through one router, pJ/B")
    router_area_mm2: NonNegative = Field(description="area of one router, mm2")


class Channel(_Table):
    """A way off the chip: to another chip, to DRAM, to the host."""

    bytes_per_ns: Bandwidth = Field(description="bandwidth, B/ns (= GB/s)")
    latency_ns: Latency = Field(description="time to the first byte, ns")
    energy_pj_per_byte: NonNegative = Field(description="energy of one byte, pJ/B")
    area_mm2: NonNegative = Field(description="area on each chip, mm2")


class Power(_Table):
    """Power that is drawn whether the chip works or not."""

    static_mw_per_tile: NonNegative = Field(description="leakage of one tile and its share of the router, mW")


class Training(_Table):
    """What training needs beyond inference."""

    master_bits: int = Field(ge=2, le=16, description="bits of a weight while it is trained, sign included")
    transposed_read: bool = Field(
        description="an array can be read along its columns too (MVM_T); otherwise back-propagation needs a second copy"
    )
    packing: Literal["planes", "interleaved"] = Field(
        default="planes",
        description="planes: a crossbar may hold whole planes (one slice, one sign) of many weight columns, so that a "
        "transposed read drives many at once; interleaved: slices and signs of a column stand side by side",
    )
    transposed_clip: bool = Field(
        default=False,
        description="a transposed read may drive so many columns at once that its sums can exceed the converter, as "
        "forward reads can; otherwise no more than never clip, whatever the weights become",
    )
    copies: Literal["least", "fast"] = Field(
        default="least",
        description="where arrays can be read both ways, least: one copy of a weight; fast: two where that saves time",
    )


class Target(_Table):
    """A chip: everything that the compiler and the cost model know about it."""

    name: str = Field(min_length=1, max_length=64, description="short name, as given to --target")
    title: str = Field(min_length=1, max_length=200, description="one line for lists and reports")
    description: str = Field(min_length=1, max_length=4000, description="where the numbers come from, what is assumed")
    clock_ns: Annotated[float, Field(ge=1e-3, le=1e6)] = Field(description="one cycle of the digital part, ns")
    crossbar: Crossbar = Field(description="arithmetic of one crossbar")
    structure: Structure = Field(description="how many of what")
    cell: Cell = Field(description="the memristor cell")
    device: Device = Field(description="what is not ideal in it")
    dac: Dac = Field(description="row drivers")
    adc: Adc = Field(description="column converters")
    periphery: Periphery = Field(description="sample-and-hold, shift-and-add, registers")
    edram: Edram = Field(description="tile memory")
    vector: Vector = Field(description="tile vector unit")
    diff_block: DiffUnit = Field(description="loss and error deltas")
    noc: Noc = Field(description="on-chip network")
    link: Channel = Field(description="chip to chip")
    dram: Channel = Field(description="off-chip memory")
    host: Channel = Field(description="host interface")
    power: Power = Field(description="static power")
    training: Training = Field(description="what training needs")

    @property
    def crossbars(self) -> int:
        """Crossbars of all chips together."""
        return self.structure.crossbars

    def cycles(self, ns: float) -> int:
        """Whole cycles that cover `ns` nanoseconds. A rounding error of 1e-9 cycles does not cost a cycle."""
        return max(0, math.ceil(ns / self.clock_ns - 1e-9))

    def replace(self, changes: Mapping[str, Any] | None = None, /, **keys: Any) -> Self:
        """A target with some keys changed, such as `adc_bits=6` or {"crossbar.adc_bits": 6}; see `override`."""
        return override(self, {**(changes or {}), **keys})

    def to_json_dict(self) -> dict[str, Any]:
        """The description as JSON values in the order of the fields: the canonical form for a program's manifest.

        Equal targets give equal dictionaries, whatever the order, comments or number spelling (2, 2.0) of their files.
        """
        return self.model_dump(mode="json")

    @classmethod
    def from_json_dict(cls, data: object) -> Self:
        """Rebuild a target from `to_json_dict`'s output. TargetError lists all that is wrong with it."""
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise TargetError("description", explain(error, cls)) from error


def _ceil_div(a: int, b: int) -> int:
    return -(-a // b)
