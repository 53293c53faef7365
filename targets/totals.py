"""Sums over a whole chip: its area and the power it draws at full load, by component."""

from __future__ import annotations

from collections.abc import Collection

from mgc.targets.cost import CostModel, Occupancy
from mgc.targets.description import COST_CLASSES, Target


def chip_area_mm2(target: Target) -> dict[str, float]:
    """Area of one chip in mm2 by component; `sum(chip_area_mm2(t).values())` is the chip.

    ISAAC's parts without the vector unit sum to 83 mm2; its paper has 85.4 mm2 [M]. Arrays that are read both ways have
    drivers and sample-and-holds on all four sides: rows and columns drive, and are sampled.
    """
    structure, periphery, crossbar = target.structure, target.periphery, target.crossbar
    macros = structure.tiles_per_chip * structure.macros_per_tile
    crossbars = structure.crossbars_per_chip
    both = target.training.transposed_read
    driven, sampled = crossbar.rows + both * crossbar.cols, crossbar.cols + both * crossbar.rows
    adc_um2 = target.adc.at_resolution(target.adc.area_um2, crossbar.adc_bits)
    dac_um2 = target.dac.at_resolution(target.dac.area_um2, crossbar.dac_bits)
    um2 = {
        "adc": macros * target.adc.per_macro * adc_um2 + crossbars * sampled * periphery.sample_hold_area_um2,
        "dac": crossbars * driven * dac_um2,
        "crossbar": crossbars * crossbar.rows * crossbar.cols * target.cell.area_um2,
        "shift_add": macros * periphery.shift_add_per_macro * periphery.shift_add_area_um2,
        "input_register": macros * periphery.input_register_area_um2,
    }
    mm2 = {
        "edram": structure.tiles_per_chip * target.edram.area_mm2,
        "vector": structure.tiles_per_chip * target.vector.area_mm2,
        "diff": target.diff_block.area_mm2,
        "noc": -(-structure.tiles_per_chip // target.noc.tiles_per_router) * target.noc.router_area_mm2,
        "link": target.link.area_mm2 + target.dram.area_mm2 + target.host.area_mm2,
    }
    return {name: area * 1e-6 for name, area in um2.items()} | mm2


def used_area_mm2(target: Target, crossbars: Collection[int]) -> float:
    """Area of the parts that serve some crossbars, mm2: their macros, tiles and routers, and what a chip has once."""
    structure, whole = target.structure, chip_area_mm2(target)
    shares = {
        "macro": (structure.crossbars_per_macro, structure.tiles_per_chip * structure.macros_per_tile),
        "tile": (structure.crossbars_per_tile, structure.tiles_per_chip),
        "chip": (structure.crossbars_per_chip, 1),
    }
    level = {"edram": "tile", "vector": "tile", "noc": "tile", "diff": "chip", "link": "chip"}
    total = 0.0
    for name, area in whole.items():
        each, count = shares[level.get(name, "macro")]
        total += area / count * len({c // each for c in crossbars})
    return total


def peak_power_w(target: Target) -> dict[str, float]:
    """Power of one chip in W by component with every part busy all the time: an upper bound for any program.

    Crossbars read all rows and columns without a pause, memories and ports run at full bandwidth, each lane does the
    costliest operation. ISAAC's parts without the vector unit sum to 67 W; its paper has 65.8 W [M].
    """
    structure, crossbar = target.structure, target.crossbar
    cost = CostModel(target)
    crossbars = structure.crossbars_per_chip
    full = Occupancy(
        crossbars=crossbars,
        drives=crossbars * crossbar.rows,
        conversions=crossbars * crossbar.cols,
        cells=crossbars * crossbar.rows * crossbar.cols,
        inputs=structure.tiles_per_chip * structure.macros_per_tile * crossbar.rows,
    )
    window_s = cost.seconds(cost.read_interval_cycles() * crossbar.digits(signed=False))
    window = cost.mvm_energy(1, full, signed=False)
    vector = target.vector
    op_watts = max(vector.energy_pj.of(c) / vector.op_ns.of(c) for c in COST_CLASSES) * 1e-3
    edram = target.edram.bytes_per_ns * target.edram.energy_pj_per_byte * 1e-3
    port = target.noc.bytes_per_ns * target.noc.energy_pj_per_byte_hop * 1e-3
    return {
        "adc": window.adc / window_s,
        "dac": window.dac / window_s,
        "crossbar": window.crossbar / window_s,
        "shift_add": window.shift_add / window_s,
        "input_register": window.edram / window_s,
        "edram": structure.tiles_per_chip * edram,
        "vector": structure.tiles_per_chip * vector.lanes_per_tile * op_watts,
        "diff": target.diff_block.lanes * target.diff_block.score_energy_pj / target.diff_block.score_ns * 1e-3,
        "noc": structure.tiles_per_chip * port,
        "link": target.link.bytes_per_ns * target.link.energy_pj_per_byte * 1e-3,
        "static": structure.tiles_per_chip * target.power.static_mw_per_tile * 1e-3,
    }
