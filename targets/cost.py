"""What work costs on a target: cycles and joules as pure functions of its description.

Cycles are whole cycles of `Target.clock_ns`, rounded up for each stage (none can end within a cycle). Energies are
`EnergyBreakdown`s in joules, without leakage: `static_energy` gives that once, for the whole duration. The constants
and their sources stand in the target's TOML file; this file holds only the formulas.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from mgc.targets.description import Channel, CostClass, Edram, Target
from mgc.targets.energy import EnergyBreakdown

Way = Literal["edram", "dram", "host"]
"""Where bytes come from or go to."""

_PJ = 1e-12
_FJ = 1e-15

# Target files do not have the gradient unit's figures. These are PANTHER's (puma-simulator, mlpPanther/constants.py,
# hardware_constants 2.6) for outer products in CMOS, which are exact, as OUTER is. One unit a macro is assumed.
OUTER_SIDE = 128
"""Rows and columns of the outer product that a gradient unit adds up at once."""
OUTER_NS = 256.0
"""Time of one such outer product, ns."""
OUTER_PJ = 290.0
"""Energy of one, pJ."""

_UPDATE_WORK: Mapping[str, Mapping[CostClass, int]] = {
    "sgd": {"multiply": 1, "simple": 1},
    "momentum": {"multiply": 2, "simple": 2},
    "adam": {"multiply": 7, "simple": 4, "divide": 2},
    "adamw": {"multiply": 7, "simple": 4, "divide": 2},
    "rmsprop": {"multiply": 4, "simple": 3, "divide": 2},
}


def update_work(
    optimizer: str, *, clips: bool, decays: bool = False, averages: bool = False
) -> Mapping[CostClass, int]:
    """Operations of an optimizer's step for each weight (KeyError for an unknown one); a clip is two comparisons,
    weight decay a product and a sum, a moving average two products and a sum.
    """
    work = dict(_UPDATE_WORK[optimizer])
    work["simple"] += 2 * clips + decays + averages
    work["multiply"] += decays + 2 * averages
    return work


def _outer_products(matrices: int, rows: int, columns: int) -> int:
    """Outer products of the gradient unit's size that one window needs."""
    return matrices * _ceil_div(rows, OUTER_SIDE) * _ceil_div(columns, OUTER_SIDE)


@dataclass(frozen=True, slots=True)
class Occupancy:
    """What one window (one input vector) sets in motion in a crossbar group, summed over the group's crossbars."""

    crossbars: int
    """Crossbars read together."""
    drives: int
    """Rows driven in one read, counted once for each crossbar that they drive."""
    conversions: int
    """Columns converted in one read."""
    cells: int
    """Occupied cells that are read in one read."""
    inputs: int
    """Input values taken through the macros' input registers, once a window."""


@dataclass(frozen=True, slots=True)
class Route:
    """The way between two tiles."""

    hops: int
    """Routers passed on the chips; 0 within a tile."""
    links: int
    """Links between chips passed."""


@dataclass(frozen=True, slots=True)
class CostModel:
    """Cycles and energy on one target.

    A signed 8-bit window on the default target takes 8 reads of 100 cycles; then the last read's 128 columns are
    converted (100 cycles) and added (1), and the first row was driven 1 cycle before it all:

    >>> from targets import load_target
    >>> cost = CostModel(load_target("liu2018"))
    >>> cost.read_interval_cycles(), cost.mvm_cycles(1, signed=True), cost.mvm_cycles(64, replicas=4, signed=True)
    (100, 902, 12902)
    """

    target: Target

    # ---- crossbars ----

    def conversion_cycles(self, columns: int | None = None) -> int:
        """Cycles to convert one read's sums in a macro, with `columns` occupied in each crossbar (default: all).

        The macro's converters share its crossbars' columns: crossbars x columns / converters turns of one conversion.
        """
        macro, adc = self.target.structure, self.target.adc
        used = self.target.crossbar.cols if columns is None else columns
        turns = _ceil_div(macro.crossbars_per_macro * used, adc.per_macro)
        return self.target.cycles(turns * adc.at_resolution(adc.sample_ns, self.target.crossbar.adc_bits))

    def read_interval_cycles(self, columns: int | None = None) -> int:
        """Cycles from one read to the next: reading and converting overlap (sample-and-hold), the slower one counts."""
        return max(1, self.target.cycles(self.target.cell.read_ns), self.conversion_cycles(columns))

    def mvm_cycles(
        self,
        windows: int,
        *,
        signed: bool,
        replicas: int = 1,
        input_bits: int | None = None,
        row_blocks: int = 1,
    ) -> int:
        """Cycles from the first row driven to the last sum of a matrix product over `windows` input vectors.

        Replicas share the windows evenly; each window takes one read for each input digit (`Crossbar.digits`):
        fill + read + (reads - 1) x interval + conversion + additions, reads = ceil(windows / replicas) x digits.
        Sums of `row_blocks` crossbars are joined by a tree of adders. ValueError for impossible counts.
        """
        _check_at_least("windows", windows, 0)
        _check_at_least("replicas", replicas, 1)
        _check_at_least("row_blocks", row_blocks, 1)
        digits = self.target.crossbar.digits(signed=signed, input_bits=input_bits)
        if windows == 0:
            return 0
        cycles = self.target.cycles
        periphery = self.target.periphery
        reads = _ceil_div(windows, replicas) * digits
        levels = 1 + (row_blocks - 1).bit_length()  # own slices and digits, then the tree over the row blocks
        return (
            cycles(periphery.fill_ns)
            + max(1, cycles(self.target.cell.read_ns))
            + (reads - 1) * self.read_interval_cycles()
            + self.conversion_cycles()
            + levels * cycles(periphery.shift_add_ns)
        )

    def occupancy(
        self,
        rows: int,
        columns: int,
        *,
        matrices: int = 1,
        weight_bits: int | None = None,
        transposed: bool = False,
        plane_columns: int = 0,
    ) -> Occupancy:
        """What one window sets in motion in `matrices` weight matrices of `rows` x `columns`, as groups are packed.

        In a transposed read the planes of a crossbar are driven one after the other, so the numbers are those of all
        turns; every wordline is converted for every plane in every crossbar that holds columns of it.

        >>> from targets import load_target
        >>> CostModel(load_target("liu2018")).occupancy(256, 64)
        Occupancy(crossbars=8, drives=1024, conversions=1024, cells=131072, inputs=256)
        """
        _check_at_least("rows", rows, 1)
        _check_at_least("columns", columns, 1)
        crossbar = self.target.crossbar
        planes, row_blocks = crossbar.slices(weight_bits) * crossbar.signs, crossbar.row_blocks(rows)
        column_blocks = crossbar.column_blocks(columns, weight_bits, plane_columns=plane_columns)
        drives, conversions = rows * column_blocks, row_blocks * columns * planes
        if transposed:
            strips = _ceil_div(columns, plane_columns) if plane_columns else column_blocks
            drives, conversions = conversions, rows * strips * planes
        return Occupancy(
            crossbars=matrices * row_blocks * column_blocks,
            drives=matrices * drives,
            conversions=matrices * conversions,
            cells=matrices * rows * columns * planes,
            inputs=matrices * (columns if transposed else rows),
        )

    def mvm_energy(
        self, windows: int, occupancy: Occupancy, *, signed: bool, input_bits: int | None = None
    ) -> EnergyBreakdown:
        """Energy of a matrix product over `windows` input vectors; it does not depend on the number of replicas.

        The tile memory's reads and writes are not in it (`transfer_energy`), the input registers are.
        """
        _check_at_least("windows", windows, 0)
        crossbar, periphery = self.target.crossbar, self.target.periphery
        adc, dac = self.target.adc, self.target.dac
        bits = crossbar.input_bits if input_bits is None else input_bits
        reads = windows * crossbar.digits(signed=signed, input_bits=input_bits)
        conversion = adc.at_resolution(adc.energy_pj, crossbar.adc_bits) * _PJ + periphery.sample_hold_energy_fj * _FJ
        input_bytes = windows * occupancy.inputs * bits / 8
        return EnergyBreakdown(
            adc=reads * occupancy.conversions * conversion,
            dac=reads * occupancy.drives * dac.at_resolution(dac.energy_pj, crossbar.dac_bits) * _PJ,
            crossbar=reads * occupancy.cells * self.target.cell.read_energy_fj * _FJ,
            shift_add=reads * occupancy.conversions * periphery.shift_add_energy_pj * _PJ,
            edram=input_bytes * periphery.input_register_energy_pj_per_byte * _PJ,
        )

    def write_cycles(self, rows: int, *, crossbars_per_macro: int = 1) -> int:
        """Cycles to write `rows` rows in each of some crossbars of a macro; macros write in parallel."""
        _check_at_least("rows", rows, 0)
        _check_at_least("crossbars_per_macro", crossbars_per_macro, 0)
        turns = _ceil_div(crossbars_per_macro, self.target.cell.write_drivers_per_macro)
        return turns * rows * self.target.cycles(self.target.cell.row_write_ns)

    def write_energy(self, cells: int) -> EnergyBreakdown:
        """Energy of writing `cells` cells once."""
        return EnergyBreakdown(write=cells * self.target.cell.write_energy_pj * _PJ)

    # ---- vector unit ----

    def vector_cycles(self, elements: int, ops: Mapping[CostClass, int], *, lanes: int | None = None) -> int:
        """Cycles of a fused kernel that does `ops` (operations of each class an element) on `elements` elements.

        `lanes` defaults to one tile's; several tiles give the sum of theirs. A reduction ends in a tree over the lanes.

        >>> from targets import load_target
        >>> CostModel(load_target("liu2018")).vector_cycles(4800, {"multiply": 1, "table": 1})
        201
        """
        _check_at_least("elements", elements, 0)
        unit = self.target.vector
        width = unit.lanes_per_tile if lanes is None else lanes
        _check_at_least("lanes", width, 1)
        if elements == 0 or not any(ops.values()):
            return 0
        busy_ns = sum(count * unit.op_ns.of(cost_class) for cost_class, count in ops.items())
        busy = self.target.cycles(_ceil_div(elements, width) * busy_ns)
        tree = (min(width, elements) - 1).bit_length() * self.target.cycles(unit.op_ns.simple)
        return max(1, self.target.cycles(unit.latency_ns) + busy + (tree if ops.get("reduction") else 0))

    def vector_energy(self, elements: int, ops: Mapping[CostClass, int]) -> EnergyBreakdown:
        """Energy of `ops` (operations of each class an element) on `elements` elements."""
        per_element = sum(count * self.target.vector.energy_pj.of(cost_class) for cost_class, count in ops.items())
        return EnergyBreakdown(vector=elements * per_element * _PJ)

    # ---- gradient unit, optimizers ----

    def outer_cycles(self, windows: int, matrices: int, rows: int, columns: int, tiles: int) -> int:
        """Cycles of the outer products of `windows` windows in the gradient units of some tiles, one a macro."""
        units = tiles * self.target.structure.macros_per_tile
        products = windows * _outer_products(matrices, rows, columns)
        return max(1, _ceil_div(products, units) * self.target.cycles(OUTER_NS))

    def outer_energy(self, windows: int, matrices: int, rows: int, columns: int) -> EnergyBreakdown:
        """Energy of the outer products; counted with the vector units'."""
        return EnergyBreakdown(vector=windows * _outer_products(matrices, rows, columns) * OUTER_PJ * _PJ)

    # ---- diff-block ----

    def diff_cycles(self, scores: int, averaged: int = 0) -> int:
        """Cycles of a diff-block on `scores` scores. `averaged`: scores whose mean is subtracted; they are summed up
        before, and get their deltas after the others.

        >>> from targets import load_target
        >>> cost = CostModel(load_target("liu2018"))
        >>> cost.diff_cycles(64), cost.diff_cycles(64, averaged=64)
        (24, 56)
        """
        _check_at_least("scores", scores, 0)
        _check_at_least("averaged", averaged, 0)
        if scores == 0:
            return 0
        unit = self.target.diff_block
        streamed = _ceil_div(scores, unit.lanes) * unit.score_ns + 2 * _ceil_div(averaged, unit.lanes) * unit.sum_ns
        return max(1, self.target.cycles(unit.setup_ns + streamed + unit.latency_ns))

    def diff_energy(self, scores: int, averaged: int = 0) -> EnergyBreakdown:
        """Energy of a diff-block on `scores` scores, with the mean of `averaged` others subtracted."""
        unit = self.target.diff_block
        return EnergyBreakdown(diff=(scores * unit.score_energy_pj + averaged * unit.sum_energy_pj) * _PJ)

    # ---- data movement ----

    def route(self, source: int, destination: int) -> Route:
        """The way from tile to tile; tiles are numbered chip by chip, from 0.

        On a chip it passes the routers of a mesh row and column, both ends included. Chips stand in a line, their links
        at router 0 (assumed: the papers do not say). ValueError for a tile that the target does not have.
        """
        structure = self.target.structure
        for tile in (source, destination):
            if not 0 <= tile < structure.tiles:
                raise ValueError(f"tile {tile}: the target has tiles 0 to {structure.tiles - 1}")
        if source == destination:
            return Route(hops=0, links=0)
        source_chip, source_tile = divmod(source, structure.tiles_per_chip)
        destination_chip, destination_tile = divmod(destination, structure.tiles_per_chip)
        if source_chip == destination_chip:
            return Route(hops=self._hops(source_tile, destination_tile), links=0)
        hops = self._hops(source_tile, 0) + self._hops(0, destination_tile)
        return Route(hops=hops, links=abs(source_chip - destination_chip))

    def _hops(self, source: int, destination: int) -> int:
        """Routers passed between two tiles of one chip."""
        noc = self.target.noc
        y1, x1 = divmod(source // noc.tiles_per_router, noc.mesh_columns)
        y2, x2 = divmod(destination // noc.tiles_per_router, noc.mesh_columns)
        return abs(x1 - x2) + abs(y1 - y2) + 1

    @property
    def gate(self) -> Route:
        """The way between a tile and off-chip memory: through the tile's own router (assumed: each has a way out)."""
        return Route(hops=1, links=0)

    def move_cycles(self, size: int, route: Route) -> int:
        """Cycles to move `size` bytes along a route: the head's way, then the rest at the slowest part's bandwidth."""
        _check_at_least("size", size, 0)
        if size == 0 or (route.hops == 0 and route.links == 0):
            return 0
        noc, link = self.target.noc, self.target.link
        head_ns = route.hops * noc.hop_ns + route.links * link.latency_ns
        bandwidth = min(noc.bytes_per_ns, link.bytes_per_ns) if route.links else noc.bytes_per_ns
        return max(1, self.target.cycles(head_ns + size / bandwidth))

    def move_energy(self, size: int, route: Route) -> EnergyBreakdown:
        """Energy of moving `size` bytes along a route."""
        return EnergyBreakdown(
            noc=size * route.hops * self.target.noc.energy_pj_per_byte_hop * _PJ,
            link=size * route.links * self.target.link.energy_pj_per_byte * _PJ,
        )

    def transfer_cycles(self, size: int, way: Way) -> int:
        """Cycles to read or write `size` bytes of one tile's memory ("edram") or off-chip memory ("dram"), or to move
        them to or from the host; what the host computes with them is not in it.
        """
        _check_at_least("size", size, 0)
        channel: Channel | Edram = getattr(self.target, way)
        return max(1, self.target.cycles(channel.latency_ns + size / channel.bytes_per_ns)) if size else 0

    def transfer_energy(self, size: int, way: Way) -> EnergyBreakdown:
        """Energy of the same."""
        channel: Channel | Edram = getattr(self.target, way)
        return EnergyBreakdown(**{way: size * channel.energy_pj_per_byte * _PJ})

    # ---- the whole ----

    def seconds(self, cycles: int) -> float:
        """Duration of `cycles` cycles, s."""
        return cycles * self.target.clock_ns * 1e-9

    def static_energy(self, cycles: int) -> EnergyBreakdown:
        """Leakage of all tiles of all chips over `cycles` cycles."""
        watts = self.target.structure.tiles * self.target.power.static_mw_per_tile * 1e-3
        return EnergyBreakdown(static=watts * self.seconds(cycles))


def _ceil_div(a: int, b: int) -> int:
    return -(-a // b)


def _check_at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise ValueError(f"{name} must be at least {least}, not {value}")
