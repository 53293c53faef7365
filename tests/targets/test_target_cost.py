"""The cost model: hand calculations from the sources, and what must hold for any numbers."""

from __future__ import annotations

import doctest
import importlib
from collections import Counter
from itertools import pairwise, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mgc.targets import (
    CostModel,
    EnergyBreakdown,
    Occupancy,
    Route,
    chip_area_mm2,
    load_target,
    parse_target,
    peak_power_w,
    target_names,
)

ISAAC = CostModel(load_target("isaac"))
DEFAULT = CostModel(load_target("liu2018"))

costs = st.sampled_from([CostModel(load_target(name)) for name in target_names()])
windows = st.integers(0, 100_000)


@pytest.mark.parametrize("module", ["targets", "mgc.targets.cost", "mgc.targets.energy"])
def test_examples_in_docstrings(module: str):
    result = doctest.testmod(importlib.import_module(module))
    assert result.attempted
    assert not result.failed


# ---- hand calculations ----


def test_isaac_has_16128_crossbars():
    structure = ISAAC.target.structure
    assert (structure.crossbars_per_macro, structure.macros_per_tile, structure.tiles_per_chip) == (8, 12, 168)
    assert structure.crossbars_per_chip == 8 * 12 * 168 == 16_128


def test_isaac_reads_every_100_ns():
    """128 columns at 1.28 GS/s take exactly the 100 ns of a read."""
    assert ISAAC.conversion_cycles() == 100
    assert ISAAC.read_interval_cycles() == 100
    # 16 digits: drive 1, 16 reads, conversion of the last, one addition
    assert ISAAC.mvm_cycles(1, signed=False) == 1 + 16 * 100 + 100 + 1


def test_isaac_macro_power():
    """One macro (8 crossbars) reading without pause: 24 mW sum over its parts [M: 289 mW for 12 macros]."""
    full = Occupancy(crossbars=8, drives=1024, conversions=1024, cells=8 * 128 * 128, inputs=128)
    energy = ISAAC.mvm_energy(1, full, signed=False)
    seconds = 16 * 100e-9
    assert energy.adc / seconds == pytest.approx(16e-3 * 1.28 / 1.2, rel=0.01)  # 16 mW [V], quoted at 1.2 GS/s
    assert energy.dac / seconds == pytest.approx(4e-3, rel=0.08)  # 4 mW [V], quoted at 1.2 GS/s
    assert energy.crossbar / seconds == pytest.approx(2.4e-3, rel=0.01)  # 2.4 mW [V]
    assert energy.shift_add / seconds == pytest.approx(0.2e-3, rel=0.1)  # 0.2 mW [V]
    assert energy.edram / seconds == pytest.approx(1.24e-3, rel=0.2)  # input register, 1.24 mW [V]
    assert 12 * energy.total / seconds == pytest.approx(289e-3, rel=0.05)  # [M]


def test_isaac_chip_power_and_area_are_near_the_paper():
    """65.8 W and 85.4 mm2 are [M]: remembered, not read. The vector unit is PUMA's, so it is left out."""
    power, area = peak_power_w(ISAAC.target), chip_area_mm2(ISAAC.target)
    assert sum(power.values()) - power["vector"] == pytest.approx(65.8, rel=0.05)
    assert sum(area.values()) - area["vector"] == pytest.approx(85.4, rel=0.05)
    assert power["adc"] == pytest.approx(16_128 * 2e-3, rel=0.1)  # 2 mW each [V]


@pytest.mark.parametrize("name", target_names())
def test_totals_of_all_chips_are_positive(name: str):
    target = load_target(name)
    assert all(value >= 0 for value in (*peak_power_w(target).values(), *chip_area_mm2(target).values()))
    assert sum(peak_power_w(target).values()) > 10
    assert sum(chip_area_mm2(target).values()) > 50


def test_default_energy_of_one_window():
    """128 x 128 weights, 8 bits unsigned: 8 reads; 4 slices x 2 signs x 128 columns; 8 crossbars of 128 rows."""
    occupancy = DEFAULT.occupancy(128, 128)
    assert occupancy == Occupancy(crossbars=8, drives=1024, conversions=1024, cells=8 * 16_384, inputs=128)
    energy = DEFAULT.mvm_energy(1, occupancy, signed=False)
    assert energy.adc == pytest.approx(8 * 1024 * (1.667e-12 + 0.97e-15))
    assert energy.dac == pytest.approx(8 * 1024 * 0.417e-12)
    assert energy.crossbar == pytest.approx(8 * 8 * 16_384 * 1.83e-15)
    assert energy.shift_add == pytest.approx(8 * 1024 * 0.021e-12)
    assert energy.edram == pytest.approx(128 * 6.46e-12)


def test_puma_converters_follow_their_resolution():
    """12.5 ns a bit for 128 columns; at 4 bits the read sets the pace again."""
    puma = load_target("puma")
    assert CostModel(puma).conversion_cycles() == 100
    slower = parse_target('base = "puma"\n[crossbar]\nadc_bits = 9\n')
    assert CostModel(slower).read_interval_cycles() == 113  # 112.5 ns
    faster = parse_target('base = "puma"\n[crossbar]\nadc_bits = 4\n')
    assert CostModel(faster).conversion_cycles() in (50, 51)
    assert CostModel(faster).read_interval_cycles() == 100


def test_shared_converters_slow_the_reads():
    shared = parse_target('base = "isaac"\n[adc]\nper_macro = 2\n')
    assert CostModel(shared).read_interval_cycles() == 400
    assert CostModel(shared).read_interval_cycles(columns=16) == 100


def test_write_time_and_energy():
    assert DEFAULT.write_cycles(128) == 128 * 80
    assert DEFAULT.write_cycles(128, crossbars_per_macro=8) == 8 * 128 * 80
    assert DEFAULT.write_energy(1000).write == pytest.approx(80e-9)
    assert DEFAULT.write_cycles(0) == 0


def test_vector_unit():
    assert DEFAULT.vector_cycles(48, {"simple": 1}) == 2
    assert DEFAULT.vector_cycles(49, {"simple": 1}) == 3
    assert DEFAULT.vector_cycles(96, {"simple": 1}, lanes=96) == 2
    assert DEFAULT.vector_cycles(48, {"reduction": 1}) == 2 + 6
    assert DEFAULT.vector_cycles(0, {"simple": 1}) == 0
    assert DEFAULT.vector_energy(100, {"multiply": 2, "table": 1}).vector == pytest.approx(100 * 1.39e-12)


def test_routes_on_the_mesh():
    """Four tiles a router, six routers a row: tile 23 is at the end of row 0, tile 24 begins row 1."""
    assert DEFAULT.route(0, 0) == Route(0, 0)
    assert DEFAULT.route(0, 3) == Route(1, 0)
    assert DEFAULT.route(0, 23) == Route(6, 0)
    assert DEFAULT.route(0, 24) == Route(2, 0)
    assert DEFAULT.route(167, 0) == Route(12, 0)
    with pytest.raises(ValueError, match="tiles 0 to 167"):
        DEFAULT.route(0, 168)


def test_routes_between_chips():
    three = CostModel(parse_target('base = "liu2018"\n[structure]\nchips = 3\n'))
    assert three.route(0, 168) == Route(2, 1)
    assert three.route(0, 2 * 168 + 4) == Route(3, 2)
    slow, fast = three.move_cycles(6400, three.route(0, 168)), three.move_cycles(6400, three.route(0, 4))
    assert slow > fast
    assert three.move_energy(100, Route(2, 1)).link == pytest.approx(162.5e-9)


def test_transfers():
    assert DEFAULT.move_cycles(400, Route(3, 0)) == 3 * 4 + 100
    assert DEFAULT.move_cycles(400, Route(0, 0)) == 0
    assert DEFAULT.transfer_cycles(3200, "edram") == 2 + 100
    assert DEFAULT.transfer_cycles(6400, "dram") == 100 + 100
    assert DEFAULT.transfer_cycles(6400, "host") == 1000 + 1000
    assert DEFAULT.move_energy(1000, Route(3, 0)).noc == pytest.approx(1000 * 3 * 0.648e-12)
    assert DEFAULT.transfer_energy(1000, "edram").edram == pytest.approx(1.07e-9)
    assert DEFAULT.transfer_energy(1000, "dram").dram == pytest.approx(160e-9)
    assert DEFAULT.transfer_energy(1000, "host").host == pytest.approx(1.625e-6)


def test_static_energy_is_power_times_time():
    puma = CostModel(load_target("puma"))
    assert puma.static_energy(1_000_000).static == pytest.approx(168 * 50.1e-3 * 1e-3)
    assert DEFAULT.static_energy(1_000_000).total == 0.0


def test_unknown_resolutions_are_interpolated():
    adc = load_target("liu2018").adc
    assert adc.at_resolution(adc.energy_pj, 8) == 1.667
    assert adc.at_resolution(adc.energy_pj, 2) == pytest.approx(0.79 / 2)
    assert adc.at_resolution(adc.energy_pj, 12) == pytest.approx(2.38 * 4)
    puma = load_target("puma").adc
    assert puma.at_resolution(puma.sample_ns, 6) == pytest.approx(75 / 128, rel=1e-4)


def test_energies_add_by_component():
    parts = [EnergyBreakdown(adc=1.0, noc=2.0), EnergyBreakdown(adc=0.5), EnergyBreakdown(write=4.0)]
    total = EnergyBreakdown.sum(parts)
    assert (total.adc, total.noc, total.write, total.total) == (1.5, 2.0, 4.0, 7.5)
    assert (total * 2).total == 15.0
    assert EnergyBreakdown.sum([]) == EnergyBreakdown()
    assert sum(total.to_json_dict().values()) == total.total


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: DEFAULT.mvm_cycles(-1, signed=False), "windows must be at least 0"),
        (lambda: DEFAULT.mvm_cycles(1, signed=False, replicas=0), "replicas must be at least 1"),
        (lambda: DEFAULT.mvm_cycles(1, signed=True, input_bits=1), "one bit is the sign"),
        (lambda: DEFAULT.occupancy(0, 1), "rows must be at least 1"),
        (lambda: DEFAULT.vector_cycles(1, {"simple": 1}, lanes=0), "lanes must be at least 1"),
        (lambda: DEFAULT.transfer_cycles(-1, "dram"), "size must be at least 0"),
    ],
)
def test_impossible_counts_are_refused(call, message: str):
    with pytest.raises(ValueError, match=message):
        call()


# ---- what holds for any numbers ----


@given(costs, windows, windows, st.integers(1, 64), st.booleans())
def test_more_windows_never_take_less_time(cost: CostModel, a: int, b: int, replicas: int, signed: bool):
    few, many = sorted((a, b))
    assert cost.mvm_cycles(few, signed=signed, replicas=replicas) <= cost.mvm_cycles(
        many, signed=signed, replicas=replicas
    )


@given(costs, windows, st.integers(1, 64), st.integers(1, 64), st.booleans())
def test_more_replicas_never_take_more_time(cost: CostModel, count: int, a: int, b: int, signed: bool):
    few, many = sorted((a, b))
    assert cost.mvm_cycles(count, signed=signed, replicas=many) <= cost.mvm_cycles(count, signed=signed, replicas=few)


@given(costs, st.integers(1, 1000), st.integers(2, 16), st.booleans())
def test_time_is_the_documented_formula(cost: CostModel, count: int, bits: int, signed: bool):
    target = cost.target
    dac = target.crossbar.dac_bits
    digits = -(-(bits - 1) // dac) + 1 if signed else -(-bits // dac)
    rest = cost.mvm_cycles(1, signed=False, input_bits=1)  # one read with its fill, conversion and addition
    expected = (count * digits - 1) * cost.read_interval_cycles() + rest
    assert cost.mvm_cycles(count, signed=signed, input_bits=bits) == expected


@given(costs, windows, st.integers(1, 2000), st.integers(1, 500), st.booleans())
def test_mvm_energy_is_linear_in_windows(cost: CostModel, count: int, rows: int, columns: int, signed: bool):
    occupancy = cost.occupancy(rows, columns)
    one = cost.mvm_energy(1, occupancy, signed=signed)
    assert one.total > 0
    assert cost.mvm_energy(count, occupancy, signed=signed).total == pytest.approx(count * one.total)


@given(st.integers(1, 300), st.integers(1, 150), st.sampled_from([4, 8, 16]), st.integers(0, 128))
def test_a_transposed_read_sets_in_motion_what_the_places_of_cells_say(rows: int, columns: int, bits: int, width: int):
    """Each crossbar drives each of its planes once, and converts all its occupied rows for it."""
    crossbar = DEFAULT.target.crossbar
    slices, signs = crossbar.slices(bits), crossbar.signs
    blocks = -(-slices * signs // (crossbar.cols // width)) if width else 0
    held = -(-slices * signs // blocks) if width else 0
    planes: set[tuple[int, int]] = set()
    for c, s, g in product(range(columns), range(slices), range(signs)):
        plane = s * signs + g
        beside = (c * slices * signs + plane) // crossbar.cols
        planes.add((c // width * blocks + plane // held if width else beside, plane))
    found = DEFAULT.occupancy(rows, columns, weight_bits=bits, transposed=True, plane_columns=width)
    row_blocks = -(-rows // crossbar.rows)
    assert found.crossbars == row_blocks * len({block for block, _ in planes})
    assert found.drives == row_blocks * columns * slices * signs
    assert found.inputs == columns
    exact = rows * len(planes)  # a crossbar that is not full side by side is taken to hold all planes
    assert found.conversions == exact if width else found.conversions >= exact
    turns = max(Counter(block for block, _ in planes).values())
    assert turns <= crossbar.transposed_turns(bits, plane_columns=width)


@given(costs, st.integers(1, 2000), st.integers(1, 500), st.integers(2, 16), st.integers(0, 64))
def test_occupancy_is_consistent(cost: CostModel, rows: int, columns: int, bits: int, width: int):
    crossbar = cost.target.crossbar
    found = cost.occupancy(rows, columns, weight_bits=bits, plane_columns=width)
    assert found.cells == rows * columns * crossbar.slices(bits) * crossbar.signs
    assert found.cells <= found.crossbars * crossbar.rows * crossbar.cols
    assert found.drives <= found.crossbars * crossbar.rows
    assert found.conversions <= found.crossbars * crossbar.cols
    assert rows <= found.inputs <= found.drives


@given(costs, st.data())
def test_routes_are_symmetric_and_obey_the_triangle(cost: CostModel, data: st.DataObject):
    tiles = st.integers(0, cost.target.structure.tiles - 1)
    a, b, c = data.draw(tiles), data.draw(tiles), data.draw(tiles)
    assert cost.route(a, b) == cost.route(b, a)
    assert cost.route(a, c).hops <= cost.route(a, b).hops + cost.route(b, c).hops


@given(costs, st.lists(st.integers(0, 10**7), min_size=2, max_size=6))
def test_transfers_are_monotone(cost: CostModel, sizes: list[int]):
    route = Route(3, 0)
    for small, large in pairwise(sorted(sizes)):
        assert cost.move_cycles(small, route) <= cost.move_cycles(large, route)
        assert cost.transfer_cycles(small, "edram") <= cost.transfer_cycles(large, "edram")
        assert cost.transfer_cycles(small, "dram") <= cost.transfer_cycles(large, "dram")
        assert cost.transfer_cycles(small, "host") <= cost.transfer_cycles(large, "host")


@given(costs, st.integers(0, 10**6), st.integers(1, 512), st.integers(1, 512))
def test_more_lanes_never_take_more_time_without_a_reduction(cost: CostModel, elements: int, a: int, b: int):
    few, many = sorted((a, b))
    ops = {"multiply": 2, "table": 1}
    assert cost.vector_cycles(elements, ops, lanes=many) <= cost.vector_cycles(elements, ops, lanes=few)
