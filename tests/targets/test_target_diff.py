"""The diff-block of a target: its tables' stated errors, its cycles, energy and area."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mgc.ir.build import Build
from mgc.ir.graph import Graph
from mgc.ir.ops import DiffBlock, LossTable
from mgc.ir.types import DType, TensorType
from mgc.isa.diffblock import EvenTable
from mgc.passes.losses.facts import GraphFacts
from mgc.passes.losses.region import Region
from mgc.passes.losses.tabulate import tabulate
from mgc.targets import CostModel, chip_area_mm2, load_target, parse_target, peak_power_w, target_names
from mgc.targets.codegen.diff_tables import chip_table

DEFAULT = CostModel(load_target("liu2018"))


def table_of(make):
    graph = Graph("f")
    u = graph.add_input("u", TensorType(DType.F64, (2,)))
    y = make(Build(graph), u)
    return tabulate(Region.of(GraphFacts(graph, ()), y), u)


def looked_up(chip, u):
    return EvenTable(chip.rows, chip.lo, chip.step).look_up(u.astype(np.float32))


@settings(max_examples=30, deadline=None)
@given(st.integers(16, 5000))
def test_sigmoid_and_softplus_are_within_their_stated_errors(segments):
    chip = chip_table(DiffBlock("cross-entropy"), segments)
    assert chip.rows is not None
    assert chip.rows.shape == (4, segments)
    u = np.linspace(chip.low, chip.high, 40_001).astype(np.float32)
    value, slope = looked_up(chip, u)
    wide = u.astype(np.float64)
    softplus = np.maximum(wide, 0) + np.log1p(np.exp(-np.abs(wide)))
    assert (np.abs(value - softplus) <= chip.value_error * np.maximum(1, softplus)).all()
    assert (np.abs(slope - 1 / (1 + np.exp(-wide))) <= chip.slope_error).all()
    assert (slope >= 0).all()
    assert (slope <= 1 + 1e-6).all()


CURVES = {
    "tanh": lambda g, u: g.unary("tanh", u),
    "quartic": lambda g, u: g.binary("pow", u, 4.0),
    "waves": lambda g, u: g.mul(g.unary("sin", u), 3.0),
    "corner": lambda g, u: g.add(g.unary("abs", g.sub(u, 0.3)), g.mul(u, u)),
    "steep": lambda g, u: g.unary("exp", g.mul(u, 4.0)),
}
TABLES = {name: table_of(make) for name, make in CURVES.items()}


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(sorted(CURVES)), st.integers(8, 3000))
def test_resampled_tables_are_within_their_stated_errors(name, segments):
    table: LossTable = TABLES[name]
    chip = chip_table(DiffBlock("tabulated", table=table), segments)
    assert chip.rows is not None
    assert np.isfinite(chip.rows).all()
    u = np.linspace(chip.low, chip.high, 20_001).astype(np.float32)
    for corner in table.corners:
        u = u[np.abs(u - corner) > 1.01 * chip.step]
    for found, column, error, fine in zip(
        looked_up(chip, u),
        (1, 3),
        (chip.value_error, chip.slope_error),
        (table.loss_error, table.delta_error),
        strict=True,
    ):
        exact = table.look_up(u.astype(np.float64), column)
        # the exact function is within the fine table's own error
        assert (np.abs(found - exact) <= (error - fine) * np.maximum(1, np.abs(exact)) + 1e-30).all()


def test_a_table_stops_where_float32_does():
    chip = chip_table(DiffBlock("tabulated", table=TABLES["steep"]), 256)
    assert chip.high < 22  # exp(4 * 22) is above float32
    assert chip.low == pytest.approx(-32, abs=0.5)


def test_what_needs_no_table_has_none():
    for function in ("least-squares", "wasserstein", "hinge"):
        chip = chip_table(DiffBlock(function, target=1.0), 256)
        assert chip.rows is None
        assert 0 < chip.value_error < 1e-4


def test_cycles_are_the_documented_formula():
    unit = DEFAULT.target.diff_block
    assert (unit.lanes, unit.setup_ns, unit.latency_ns) == (4, 3.0, 5.0)
    assert DEFAULT.diff_cycles(0) == 0
    assert DEFAULT.diff_cycles(1) == 3 + 1 + 5
    assert DEFAULT.diff_cycles(64) == 3 + 16 + 5
    assert DEFAULT.diff_cycles(64, averaged=64) == 3 + 16 + 2 * 16 + 5
    slow = CostModel(parse_target('base = "liu2018"\nname = "x"\nclock_ns = 2.5\n'))
    assert slow.diff_cycles(64) == 10


@given(st.integers(0, 10_000), st.integers(0, 10_000), st.integers(0, 10_000))
def test_more_scores_never_take_less(a, b, averaged):
    low, high = sorted((a, b))
    assert DEFAULT.diff_cycles(low, averaged) <= DEFAULT.diff_cycles(high, averaged)
    assert DEFAULT.diff_energy(low, averaged).total <= DEFAULT.diff_energy(high, averaged).total


def test_energy_goes_to_its_own_component():
    energy = DEFAULT.diff_energy(64, averaged=10)
    assert energy.diff == energy.total == pytest.approx((64 * 1.91 + 10 * 0.265) * 1e-12)


def test_impossible_counts_are_refused():
    with pytest.raises(ValueError, match="scores must be at least 0"):
        DEFAULT.diff_cycles(-1)
    with pytest.raises(ValueError, match="averaged must be at least 0"):
        DEFAULT.diff_cycles(1, -1)


@pytest.mark.parametrize("name", target_names())
def test_every_chip_has_one(name):
    target = load_target(name)
    assert chip_area_mm2(target)["diff"] == target.diff_block.area_mm2
    assert 0 < peak_power_w(target)["diff"] < 0.1
