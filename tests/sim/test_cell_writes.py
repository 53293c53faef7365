"""Counts of cells whose level changes, against a chip of single cells on which the states are written."""

import copy
import pickle
import random
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from cells import assert_counted, assert_sums, run
from device_programs import IDEAL, on_devices, random_device
from hypothesis import given, settings
from hypothesis import strategies as st
from programs import random_arithmetic
from training_programs import RandomConvolution, TinyGan

from mgc.isa.device.model import ONE
from mgc.sim import DivergenceError, SimulationError, Simulator


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32 - 1), st.integers(1, 3))
def test_a_chip_of_single_cells_counts_the_same(seed, replicas):
    """Random arithmetics, packings, shapes and replicas; both engines."""
    rng = random.Random(seed)
    drawn = random_arithmetic(rng)
    width = rng.choice([0, rng.randint(1, drawn.cols)])
    c = RandomConvolution(rng, replace(drawn, plane_columns=width, input_bits=max(2, drawn.input_bits)))
    (group,) = c.program.groups
    ids = tuple(rng.sample(range(100 * group.crossbars_per_replica), replicas * group.crossbars_per_replica))
    program = replace(c.program, groups=(replace(group, replicas=replicas, crossbars=ids),))
    feeds = [c.inputs() for _ in range(3)]
    counts, states = run(program, feeds)
    assert_counted(program, counts, states)
    assert run(program, feeds, "reference")[0] == counts


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**32 - 1))
def test_a_gan_of_two_groups(seed):
    gan = TinyGan(seed % 1000)
    counts, states = run(gan.program, [gan.inputs(k) for k in range(4)])
    assert_counted(gan.program, counts, states)
    assert counts["changed"] > 0


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32 - 1))
def test_cells_that_devices_write(seed):
    """Verified: those not nearest to the level that they are to have; with pulses those that get any."""
    rng = random.Random(seed)
    device = replace(random_device(rng), stuck_repair=False, off_us=0.5)
    gan = TinyGan(rng.randint(0, 99))
    program, feeds = on_devices(gan.program, device), [gan.inputs(k) for k in range(3)]
    counts, states = run(program, feeds, numerics="device", seed=seed)
    assert run(program, feeds, "reference", "device", seed=seed)[0] == counts
    assert_sums(program, counts)
    moved = sum(
        int((after[f"device/cells/{g.id}"] != before[f"device/cells/{g.id}"]).sum())
        for before, after in pairwise(states)
        for g in program.groups
    )
    assert counts["changed"] >= moved  # a cell may be written and end where it was, or be stuck
    if device.update == "write-verify" and not (device.stuck_on or device.stuck_off):
        # writes end nearest to their level: what was written is what is nearest to another one now
        pairs = [(nearest(a, g), nearest(b, g)) for a, b in pairwise(states) for g in program.groups]
        assert counts["changed"] == sum(int((old != new).sum()) for old, new in pairs)


def nearest(states, group):
    return np.floor(states[f"device/cells/{group.id}"] / ONE + 0.5)


def test_an_ideal_device_counts_as_levels_do():
    gan = TinyGan(3)
    feeds = [gan.inputs(k) for k in range(3)]
    ideal = run(on_devices(gan.program, IDEAL), feeds, numerics="device")[0]
    assert ideal == run(gan.program, feeds)[0]


def test_nothing_changes_without_a_learning_rate(monkeypatch):
    monkeypatch.setattr(TinyGan, "LR", 0.0)
    gan = TinyGan(1)
    counts, _ = run(gan.program, [gan.inputs(k) for k in range(3)])
    assert counts["changed"] == counts["most_changes"] == 0 < counts["cells"]


def test_weights_from_outside_and_copies():
    """What is loaded goes into cells uncounted, and later writes are compared with it; copies count anew."""
    gan = TinyGan(2)
    simulator = Simulator(gan.program, count_writes=True)
    for k in range(2):
        simulator.run_iteration(gan.inputs(k))
    before, kept = simulator.cell_writes(), simulator.states()
    for again in (copy.deepcopy(simulator), pickle.loads(pickle.dumps(simulator))):
        again.run_iteration(gan.inputs(2))
        simulator.load_states(kept)
        simulator.run_iteration(gan.inputs(2))
        assert again.cell_writes()["changed"] == simulator.cell_writes()["changed"] - before["changed"]
        before = simulator.cell_writes()
    simulator.reset()
    assert simulator.cell_writes() == Simulator(gan.program, count_writes=True).cell_writes()
    simulator.run_iteration(gan.inputs(0))
    first, _ = run(gan.program, [gan.inputs(0)])
    assert simulator.cell_writes() == first


@pytest.mark.parametrize("engine", ["fast", "reference"])
def test_a_run_that_fails_counts_nothing(engine):
    gan = TinyGan(2)
    simulator = Simulator(gan.program, engine, count_writes=True)
    simulator.run_iteration(gan.inputs(0))
    before = simulator.cell_writes()
    bad = gan.inputs(1)
    bad["x"][:] = np.inf
    with pytest.raises(DivergenceError):
        simulator.run_iteration(bad)
    assert simulator.cell_writes() == before


def test_what_cannot_be_counted_is_refused():
    gan = TinyGan(0)
    with pytest.raises(SimulationError, match="numerics float knows no levels"):
        Simulator(gan.program, numerics="float", count_writes=True)
    with pytest.raises(SimulationError, match="count_writes=True"):
        Simulator(gan.program).cell_writes()
