"""Devices cell by cell: draws, writes, stuck cells, drift, pulses, reads; their statistics are as stated."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[1] / "sim"))
from device_programs import IDEAL

from mgc.isa.crossbar import Arithmetic, encode_weights, sliced_product
from mgc.isa.device.draws import BLOCK, CellDraws, Stream, normals
from mgc.isa.device.errors import effective_weights, repair
from mgc.isa.device.model import ONE, Cells
from mgc.isa.device.reads import ReadNoise, forward_planes, read, transposed_planes, windows_of

A = Arithmetic(128, 128, 2, 1, 8, "clip", "differential", 8, 8)
ANALOG = Arithmetic(128, 128, 8, 1, 16, "clip", "differential", 9, 8)
"""One cell a weight and sign."""


def sliced_read(codes, held, arithmetic, signed, noise=None, runs=()):
    return read(codes, forward_planes(held, arithmetic, signed), arithmetic, signed, noise, runs)


def stream(n=0):
    return Stream.of(1, "test", n)


def test_a_draw_is_known_without_those_before_it():
    whole = stream().draws(0, 100 * BLOCK)
    assert np.array_equal(stream().draws(37, 5 * BLOCK), whole[37 * BLOCK : 42 * BLOCK])
    assert np.array_equal(stream().draws(99, 3), whole[99 * BLOCK :][:3])
    assert not np.array_equal(stream(1).draws(0, 100 * BLOCK), whole)
    assert np.array_equal(stream().wide_draws(3, 8), stream().draws(3, 16).view("<u4"))


def test_the_bits_of_a_stream_are_these():
    """They are part of what a seed means: a change of them changes every result."""
    known = Stream.of(0, "write", 1, 2)
    assert known.key == 0x7CC88194A70D7C53CE2FFAD811BEC777
    assert known.draws(0, 4).tolist() == [30788, 43423, 55155, 57646]


def test_normals_are_normal():
    z = normals()
    assert z.mean() == 0
    assert abs(z.std() - 1) < 1e-3
    assert np.array_equal(z, -z[::-1])
    assert 4.3 < z[-1] < 4.33
    drawn = z[stream().draws(0, 1 << 18)]
    assert abs(drawn.mean()) < 0.01
    assert abs(drawn.std() - 1) < 0.01


@pytest.mark.parametrize("bits", [1, 2, 4, 6])
def test_verified_writes_scatter_as_stated(bits):
    """Standard deviation c0 + c1 g of on_us at each level."""
    device = replace(IDEAL, off_us=50.0, write_sigma=(0.004, 0.01))
    cells = Cells(device, bits)
    for level in {0, 1, cells.top}:
        held = device.written(np.full(1 << 16, level, np.uint8), cells, stream(level))
        conductance = device.off_us + held / ONE * cells.unit_us
        share = (device.off_us + level * cells.unit_us) / device.on_us
        sigma = device.on_us * (0.004 + 0.01 * share)
        assert abs(conductance.mean() - share * device.on_us) < 0.02 * sigma
        assert abs(conductance.std() / sigma - 1) < 0.02


def test_conductances_stay_in_their_bounds():
    device = replace(IDEAL, off_us=50.0, write_sigma=(0.5,))
    cells = Cells(device, 2)
    held = device.written(np.repeat(np.arange(4, dtype=np.uint8), 4096), cells, stream())
    assert held.min() == cells.bounds[0] == -int(50.0 / 150.0 * ONE)
    assert held.max() == cells.bounds[1] == 4 * ONE - 1
    assert cells.dtype == np.int16
    assert Cells(device, 4).dtype == np.int32


def test_the_nearest_level_is_the_upper_one_of_two():
    cells = Cells(IDEAL, 2)
    held = np.array([-5, 0, ONE // 2 - 1, ONE // 2, 3 * ONE + ONE // 2, 4 * ONE - 1], np.int16)
    assert cells.nearest(held).tolist() == [0, 0, 0, 1, 3, 3]


def test_stuck_cells_are_as_many_as_stated():
    device = replace(IDEAL, stuck_on=0.01, stuck_off=0.03)
    cells = Cells(device, 2)
    where, values = device.stuck_cells((1 << 20,), cells, stream())
    assert (np.diff(where) > 0).all()
    assert abs((values == 3 * ONE).sum() / (1 << 20) - 0.01) < 0.0005
    assert abs((values == 0).sum() / (1 << 20) - 0.03) < 0.001
    assert IDEAL.stuck_cells((64,), Cells(IDEAL, 2), stream())[0].size == 0


def test_the_other_cell_of_a_pair_is_set_against_a_stuck_one():
    cells = Cells(IDEAL, 2)
    weights = np.array([[0, 2, -2, 3, 1, -3, 0, 2]])
    one = Arithmetic(8, 64, 2, 1, 8, "clip", "differential", 3, 8)  # one slice: p is cells 0..7, n 8..15
    levels = encode_weights(weights, one)[None]
    where = np.array([0, 1, 2, 11, 12, 13, 14, 7])
    held = np.array([3, 3, 3, 3, 3, 3, 0, 0]) * ONE
    order = np.argsort(where)
    repair(levels, where[order], held[order], cells)
    levels.reshape(-1)[where] = held // ONE
    found = levels[0, 0, 0].astype(int) - levels[0, 0, 1]
    # -2 beside a plus cell that is stuck on: 0 is the nearest; 3 and 1 beside a stuck minus cell likewise
    assert found.tolist() == [[0, 2, 0, 0, 0, -3, 0, 0]]


def test_drift_is_a_power_of_age():
    device = replace(IDEAL, off_us=50.0, drift_exponent=0.05, drift_exponent_sigma=0.01, drift_s=1e4)
    cells = Cells(device, 2)
    before = np.full(1 << 16, 2 * ONE, np.int16)
    after = device.aged(before, cells, CellDraws(1, 0))
    ratio = (after / ONE * cells.unit_us + 50) / (2 * cells.unit_us + 50)
    exponent = -np.log(ratio) / np.log(1e4)
    assert abs(exponent.mean() - 0.05) < 1e-3
    assert abs(exponent.std() - 0.01) < 1e-3


def test_effective_weights_are_those_of_levels():
    rng = np.random.default_rng(0)
    for arithmetic in (A, replace(A, encoding="offset"), replace(A, weight_bits=16), ANALOG):
        lo, hi = arithmetic.weight_range
        w = rng.integers(lo, hi + 1, (2, 5, 3))
        held = encode_weights(w, arithmetic).astype(np.int32) * ONE
        assert np.array_equal(effective_weights(held, arithmetic), w)


def test_pulses_go_to_the_highest_slice_that_they_fill():
    device = replace(IDEAL, pulse_levels=30)
    cells = Cells(device, 2)  # a pulse is a tenth of a level
    counts = device.pulses_of(np.array([[1.0, -0.26, 6.41, -39.9, 0.04]]), A, cells)
    assert counts[:, 0].T.tolist() == [[2, 2, 0, 0], [-3, 0, 0, 0], [0, 0, 0, 1], [-3, -3, 0, -6], [0, 0, 0, 0]]
    assert device.pulses_of(np.array([[1e9]]), A, cells)[3] == 30  # no more than there are


def pulsed(device, held, change, cells, spread, noise):
    return device.pulsed(held, device.pulses_of_cells(held, change, ANALOG, cells), cells, spread, noise)


@pytest.mark.parametrize("up", [True, False])
def test_pulses_are_asymmetric_and_scatter_as_stated(up):
    device = replace(IDEAL, pulse_levels=1000, pulse_asymmetry=0.25, pulse_noise=2.0, pulse_spread=0.1)
    cells, shape = Cells(device, 8), (1, 2, 256, 256)
    held = np.full(shape, 100 * ONE, np.int32)
    held[:, 1 if up else 0] = 0
    step = 255 / 1000
    change = np.full((256, 256), (1 if up else -1) * 16 * step)
    moved = (pulsed(device, held, change, cells, stream(1), stream(2)) - held)[0] / ONE
    own, other = (moved[0], moved[1]) if up else (moved[1], moved[0])
    assert not other.any()
    assert abs(own.mean() / (16 * step * 1.25) - 1) < 0.01
    expected = np.hypot(16 * step * 1.25 * 0.1, np.sqrt(16) * step * 2.0)
    assert abs(own.std() / expected - 1) < 0.02
    down = (pulsed(device, held, -change, cells, stream(1), stream(2)) - held)[0] / ONE
    lowered, other = (down[0], down[1]) if up else (down[1], down[0])
    assert not other.any()
    assert abs(lowered.mean() / (-16 * step * 0.75) - 1) < 0.01


def test_pulses_saturate_and_pass_from_one_sign_to_the_other():
    device = replace(IDEAL, pulse_levels=255)
    cells = Cells(device, 8)
    held = np.zeros((1, 2, 1, 3), np.int32)
    held[0, :, 0] = [[250 * ONE, 0, 7 * ONE], [0, 10 * ONE, 0]]
    new = pulsed(device, held, np.array([[20.0, 30.0, 0.2]]), cells, stream(), stream())
    assert (new[0, :, 0] / ONE).tolist() == [[255, 20, 7], [0, 0, 0]]


def test_noise_under_half_a_step_disappears():
    rng = np.random.default_rng(1)
    w, x = rng.integers(-127, 128, (100, 6)), rng.integers(0, 256, (9, 100))
    held = encode_weights(w, A).astype(np.int16) * ONE
    exact = sliced_product(x, encode_weights(w, A), A, False)
    quiet, loud = (ReadNoise(sigma, stream()) for sigma in (0.5 / 4.33, 0.3))
    assert np.array_equal(sliced_read(x, held, A, False, quiet, [(0, 9)]), exact)
    assert not np.array_equal(sliced_read(x, held, A, False, loud, [(0, 9)]), exact)


def test_the_converter_clips_below_zero():
    held = np.full((4, 2, 64, 1), -ONE // 4, np.int16)
    held[:, 1] = 0
    x = np.full((1, 64), 255)
    assert sliced_read(x, held, A, False).tolist() == [[0]]
    assert read(np.array([[127]]), transposed_planes(held, A, True), A, True).tolist() == [[0] * 64]


def test_reads_of_windows_do_not_depend_on_how_they_come():
    rng = np.random.default_rng(2)
    w, x = rng.integers(-127, 128, (150, 5)), rng.integers(0, 256, (12, 150))
    held = encode_weights(w, A).astype(np.int16) * ONE
    noise = ReadNoise(0.5, stream())
    whole = sliced_read(x, held, A, False, noise, [(0, 12)])
    parts = [sliced_read(x[k : k + 4], held, A, False, noise, [(k, 4)]) for k in (0, 4, 8)]
    assert np.array_equal(np.concatenate(parts), whole)
    mixed = sliced_read(x[[7, 8, 2]], held, A, False, noise, [(7, 2), (2, 1)])
    assert np.array_equal(mixed, whole[[7, 8, 2]])
    assert windows_of([(10, 4), (30, 4)], 2, 6) == [(12, 2), (30, 2)]
