"""`device` numerics: the fast engine against the reference, determinism, states that come back, what errors do."""

import random
from dataclasses import replace

import numpy as np
import pytest
from device_programs import IDEAL, POOR, on_devices, random_device
from hypothesis import given, settings
from hypothesis import strategies as st
from programs import random_arithmetic, random_inputs, random_program
from training_programs import RandomConvolution, TinyGan

from mgc.isa.program import Program
from mgc.sim import SimulationError, Simulator

SEEDS = st.integers(0, 2**32 - 1)
ENGINES = ("reference", "fast")


def on(program, device, engine="reference", seed=0, threads=None):
    return Simulator(on_devices(program, device), engine, "device", threads, seed)


def assert_same(got, expected):
    assert got.keys() == expected.keys()
    for name, array in expected.items():
        assert got[name].dtype == array.dtype
        np.testing.assert_array_equal(got[name], array)


@settings(max_examples=80, deadline=None)
@given(SEEDS)
def test_engines_agree_on_random_programs(seed):
    rng = random.Random(seed)
    program, device = random_program(rng), random_device(rng)
    inputs = random_inputs(program, rng, samples=2 * program.entry.micro_batch)
    expected = on(program, device, seed=seed).run(inputs)
    assert_same(on(program, device, "fast", seed, threads=rng.randint(1, 3)).run(inputs), expected)


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.sampled_from(["sgd", "momentum", "adam", "rmsprop"]))
def test_engines_agree_on_random_training(seed, optimizer):
    rng = random.Random(seed)
    c, device = RandomConvolution(rng, random_arithmetic(rng), optimizer), random_device(rng)
    a, b = on(c.program, device, seed=seed), on(c.program, device, "fast", seed, threads=2)
    for feeds in [c.inputs() for _ in range(3)]:
        assert_same(b.run(feeds), a.run(feeds))
        assert_same(b.states(), a.states())


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.sampled_from(ENGINES))
def test_without_errors_devices_are_quantized(seed, engine):
    rng = random.Random(seed)
    program = random_program(rng)
    inputs = random_inputs(program, rng, samples=program.entry.micro_batch)
    assert_same(on(program, IDEAL, engine).run(inputs), Simulator(program, "reference").run(inputs))


@pytest.mark.parametrize("engine", ENGINES)
def test_without_errors_training_is_quantized(engine):
    gan = TinyGan()
    devices, quantized = on(gan.program, IDEAL, engine), Simulator(gan.program, "reference")
    for k in range(4):
        assert devices.run_iteration(gan.inputs(k)) == quantized.run_iteration(gan.inputs(k))
    found = devices.states()
    assert_same({name: found[name] for name in quantized.states()}, quantized.states())
    assert devices.exact_columns == quantized.exact_columns
    assert devices.exact_rows == quantized.exact_rows == 1


def test_bits_depend_on_the_seed_alone():
    rng, differ = random.Random(7), 0
    for _ in range(8):
        program = random_program(rng)
        inputs = random_inputs(program, rng, samples=6 * program.entry.micro_batch)
        simulator = on(program, POOR, "fast", seed=3, threads=1)
        first = simulator.run(inputs)
        assert_same(simulator.run(inputs), first)
        assert_same(on(program, POOR, "fast", seed=3, threads=3).run(inputs), first)
        other = on(program, POOR, "fast", seed=4).run(inputs)
        differ += any(not np.array_equal(other[name], first[name]) for name in first)
    assert differ >= 4


def test_micro_batches_draw_noise_of_their_own():
    """The same sample twice, at different places, is read with different noise; at the same place with the same."""
    rng = random.Random(11)
    noisy = replace(IDEAL, read_noise_levels=3.0)
    for _ in range(20):
        program = random_program(rng)
        inputs = random_inputs(program, rng, samples=program.entry.micro_batch)
        if program.entry.batched and program.groups:
            break
    twice = {name: np.concatenate([a, a]) for name, a in inputs.items()}
    once, both = (on(program, noisy, "fast").run(i) for i in (inputs, twice))
    halves = {name: np.split(a, 2) for name, a in both.items()}
    assert_same({name: h[0] for name, h in halves.items()}, once)
    assert any(not np.array_equal(h[0], h[1]) for h in halves.values())


@pytest.mark.parametrize("update", ["write-verify", "pulses"])
@pytest.mark.parametrize("engine", ENGINES)
def test_a_restored_run_goes_on_to_the_same_bits(engine, update, tmp_path):
    gan, device = TinyGan(seed=1), replace(POOR, update=update)
    on_devices(gan.program, device).save(tmp_path / "gan.mgc")
    alone = on(gan.program, device, engine, seed=5)
    for k in range(3):
        alone.run_iteration(gan.inputs(k))
    middle = alone.states()
    assert int(middle["device/clock"]) == 3
    late = [alone.run_iteration(gan.inputs(k)) for k in range(3, 6)]
    resumed = Simulator(Program.load(tmp_path / "gan.mgc"), engine, "device", seed=5)
    resumed.run_iteration(gan.inputs(99))
    resumed.load_states(middle)
    assert_same(resumed.states(), middle)
    assert [resumed.run_iteration(gan.inputs(k)) for k in range(3, 6)] == late
    assert_same(resumed.states(), alone.states())


def test_weights_alone_are_written_anew():
    gan = TinyGan(seed=1)
    simulator = on(gan.program, replace(IDEAL, write_sigma=(0.02,)), seed=5)
    cells = simulator.states()
    wanted = {name: value for name, value in cells.items() if not name.startswith("device/")}
    simulator.load_states(wanted)
    found = simulator.states()
    assert not np.array_equal(found["device/cells/0"], cells["device/cells/0"])
    assert np.array_equal(found["b"], wanted["b"])
    with pytest.raises(SimulationError, match="states of devices go together"):
        simulator.load_states({**wanted, "device/clock": np.array(0)})
    cells["device/cells/0"] = cells["device/cells/0"].astype(np.int64)
    with pytest.raises(SimulationError, match="device/cells/0 is int64"):
        simulator.load_states(cells)


def test_a_failed_iteration_leaves_cells_and_clock():
    gan = TinyGan()
    simulator = on(gan.program, POOR, "fast")
    simulator.run_iteration(gan.inputs(0))
    before = simulator.states()
    bad = gan.inputs(1)
    bad["x"][0, 0] = np.inf
    with pytest.raises(SimulationError):
        simulator.run_iteration(bad)
    assert_same(simulator.states(), before)


@pytest.mark.parametrize(("update", "sigma", "most"), [("write-verify", 0.002, 0.35), ("pulses", 0.0, 0.45)])
def test_training_on_good_devices_still_learns(update, sigma, most):
    """Least-squares losses of a small GAN with verified writes of 0.2 %, or with 500 fine pulses, come down."""
    gan = TinyGan(seed=2)
    device = replace(IDEAL, write_sigma=(0.0, sigma), update=update, pulse_noise=0.1, pulse_asymmetry=0.02)
    simulator, exact = on(gan.program, device, "fast"), Simulator(gan.program, "reference", "float")
    found = [(simulator.run_iteration(gan.inputs(k)), exact.run_iteration(gan.inputs(k))) for k in range(60)]
    mean, ideal = (np.mean([float(pair[side]["loss_d"]) for pair in found[40:]]) for side in (0, 1))
    assert np.isfinite([float(a["loss_g"]) for a, _ in found]).all()
    assert abs(mean - ideal) < most * ideal, (mean, ideal)


def test_drift_is_for_programs_that_never_write_again():
    old = replace(IDEAL, drift_exponent=0.1, drift_s=1e6)
    gan = TinyGan()
    assert on(gan.program, old).run_iteration(gan.inputs(0)) == on(gan.program, IDEAL).run_iteration(gan.inputs(0))
    c = RandomConvolution(random.Random(3), random_arithmetic(random.Random(1)), None)
    c.program.verify()
    feeds = c.inputs()
    fresh, aged = (on(c.program, d).run(feeds) for d in (IDEAL, old))
    assert np.abs(aged["y"]).sum() != np.abs(fresh["y"]).sum()


def test_exactness_is_that_of_the_cells():
    gan = TinyGan()
    assert on(gan.program, IDEAL).exact_columns == 1
    assert on(gan.program, replace(IDEAL, read_noise_levels=0.11)).exact_columns == 1  # never half a step
    assert on(gan.program, replace(IDEAL, read_noise_levels=0.12)).exact_columns == 0
    assert on(gan.program, replace(IDEAL, stuck_on=0.5)).exact_columns < 1
    assert on(gan.program, replace(IDEAL, read_noise_levels=0.12)).exact_rows == 0


def test_a_program_without_devices_is_refused():
    gan = TinyGan()
    with pytest.raises(SimulationError, match=r"no \[device\] table, .*; compile it again"):
        Simulator(gan.program, "reference", "device")
    wrong = replace(gan.program, target={"device": {"on_us": 1.0}})
    with pytest.raises(SimulationError, match=r"\[device\] has wrong keys: drift_exponent"):
        Simulator(wrong, "fast", "device")
    with pytest.raises(SimulationError, match="values that no device has"):
        on(gan.program, replace(IDEAL, off_us=600.0))
