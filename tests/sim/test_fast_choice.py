"""WHERE without Where, and codes with a computed scale: bits of the reference, odd numbers included."""

import numpy as np
import pytest
from builder import ProgramBuilder
from hypothesis import given, settings
from hypothesis import strategies as st
from programs import plan_of
from training_programs import scale_of

from mgc.isa.instructions import Piece, Result
from mgc.sim import Simulator
from mgc.sim.fast import FastEngine, choice

SHAPES = {"small": (2, 3, 5), "large": (2, 64, 40)}
ODD = [0.0, -0.0, 1e-45, -1e-45, 3e38, -3e38, np.inf, -np.inf, np.nan]


def builder():
    """A program that trains: it counts."""
    b = ProgramBuilder(micro_batch=2, micro_batches=1, batched=False)
    count = b.kept("steps", "counter", np.int64(0))
    k = b.kernel()
    k.stores.append(Result(k.step("add", count, b.constant(np.int64(1))), count.index))
    k.emit()
    return b


def choosing(shape, form, constant, rows):
    """y = where(x > 0, a, b) in one of the forms; with `rows` x lies as rows of channels."""
    b = builder()
    k = b.kernel()
    x = b.input(shape, name="x", batched=False)
    if rows:
        pool = (1, 1, 1, 0, 0, 1, 0)
        x = k.step("pool_max", x, attributes=pool)
    over = k.step("greater", x, b.constant(np.float32(0)))
    c = b.constant(np.float32(constant))
    first, second = {
        "scaled": lambda: (x, k.step("mul", x, c)),
        "swapped": lambda: (k.step("mul", x, c), x),
        "constant last": lambda: (x, c),
        "constant first": lambda: (c, x),
        "two values": lambda: (x, k.step("add", x, c)),
        "two constants": lambda: (c, b.constant(np.float32(1))),
    }[form]()
    y = k.store(k.step("where", over, first, second))
    k.emit()
    b.output(y, batched=False, name="y")
    return b.build()


def numbers(rng, shape, odd):
    x = rng.normal(size=shape).astype(np.float32)
    at = rng.integers(0, x.size, 9)
    x.reshape(-1)[at] = odd[: len(at)] if len(odd) >= len(at) else rng.choice(odd, len(at))
    return x


@pytest.mark.parametrize("size", SHAPES)
@pytest.mark.parametrize("rows", [False, True])
@settings(deadline=None, max_examples=10)
@given(
    st.sampled_from(["scaled", "swapped", "constant last", "constant first", "two values", "two constants"]),
    st.sampled_from([0.0, -0.0, 0.2, 1.0, 1.5, -0.5, np.inf, np.nan]),
    st.booleans(),
    st.integers(0, 99),
)
def test_choices(size, rows, form, constant, odd, seed):
    program = choosing(SHAPES[size], form, constant, rows)
    x = numbers(np.random.default_rng(seed), SHAPES[size], ODD if odd else ODD[:6])
    expected, got = (Simulator(program, e, threads=1).run({"x": x})["y"] for e in ("reference", "fast"))
    np.testing.assert_array_equal(got, expected)  # the sign of a zero is open after WHERE


@pytest.mark.parametrize(("form", "op"), [("scaled", "Where"), ("constant last", "Where"), ("two values", None)])
def test_large_choices_avoid_where(form, op):
    simulator = Simulator(choosing(SHAPES["large"], form, 0.2, False), "fast", threads=1)
    (item,) = (i for i in plan_of(simulator).items if hasattr(i, "graph"))
    found = [n.op_type for n in item.graph._live()[0]]
    assert ("Where" in found) == (op is None)
    assert np.prod(SHAPES["small"]) < choice._LARGE <= np.prod(SHAPES["large"])


def test_nan_that_is_not_chosen(monkeypatch):
    """The clamped form would pass it on: its guard hands the iteration to the reference."""
    fell_back = []
    original = FastEngine._as_reference
    monkeypatch.setattr(FastEngine, "_as_reference", lambda self, *batch: fell_back.append(1) or original(self, *batch))
    program = choosing(SHAPES["large"], "constant last", 0.5, False)
    x = np.ones(SHAPES["large"], np.float32)
    simulator = Simulator(program, "fast", threads=1)
    simulator.run({"x": x})
    assert not fell_back
    x[0, 0, 0] = np.nan  # not over 0
    assert simulator.run({"x": x})["y"][0, 0, 0] == 0.5
    assert fell_back == [1]
    assert simulator.states()["steps"] == 2


def coding(shape, signed, own_scale, bounds=None, dither=None):
    """Codes of x by the scale of its maximum, or by an input's."""
    b = builder()
    k = b.kernel()
    x = b.input(shape, name="x", batched=False)
    s = b.input((1,), name="s", batched=False) if not own_scale else scale_of(k, x, signed)
    lo, hi = bounds or ((-128, 127) if signed else (0, 255))
    attributes = (lo, hi, 3 if signed else 2)
    if dither is None:
        code = k.step("quant_by", x, s, attributes=attributes)
    else:
        code = k.step("quant_dithered", x, s, b.constant(dither), attributes=attributes)
    codes = k.store(code, "code")
    k.emit()
    k = b.kernel()
    y = k.store(k.step("cast", codes, attributes=(1,)))
    k.emit()
    b.output(y, batched=False, name="y")
    return b.build()


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("scale", [0.0, -0.0, 1e-45, 1e-38, 0.01, -0.5, np.inf, np.nan, None])
@pytest.mark.parametrize("bounds", [None, (-100, 90), (1, 127)])
@pytest.mark.parametrize("dither", [None, (-0.25, 0.25), (3, -7), (np.nan, np.inf)])
def test_codes_by_any_scale(signed, scale, bounds, dither):
    if bounds and not signed:
        bounds = (max(0, bounds[0]), 255)
    offsets = None if dither is None else np.array(dither, np.float32).reshape(2, 1, 1)
    program = coding((2, 3, 5), signed, scale is None, bounds, offsets)
    pair = [Simulator(program, e, threads=1) for e in ("reference", "fast")]
    for odd in (ODD, ODD[:6], ODD[:4], [0.0]):
        x = numbers(np.random.default_rng(0), (2, 3, 5), odd)
        if odd == ODD[:4]:
            x = np.full_like(x, 1e-45)
            x[0] = 0  # the scale underflows, and 0 / 0 is no number
        feeds = {"x": x} if scale is None else {"x": x, "s": np.array([scale], np.float32)}
        expected, got = (s.run(feeds)["y"] for s in pair)
        np.testing.assert_array_equal(got, expected)


def test_a_maximum_does_not_meet_what_is_cut_away():
    """Rows of a value that a crop leaves out are there still."""
    b = builder()
    k = b.kernel()
    x = b.input((2, 3, 4, 4), name="x", batched=False)
    pooled = k.store(k.step("pool_max", x, attributes=(2, 1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 0)))
    k.emit()
    inner = Piece(pooled, (2, 3, 2, 2), 5, (48, 16, 4, 1), 0, (12, 4, 2, 1))
    cut = b.move([inner], (2, 3, 2, 2), "float32")
    k = b.kernel()
    most = k.store(k.step("reduce_max", cut, attributes=(0, 0, 1, 2, 3)))
    k.emit()
    b.output(most, batched=False, name="y")
    program = b.build()
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 4)).astype(np.float32)
    x[:, :, 0] = 100
    for engine in ("reference", "fast"):
        assert Simulator(program, engine, threads=1).run({"x": x})["y"] == x[:, :, 1:3, 1:3].max()


@pytest.mark.parametrize("numerics", ["quantized", "float"])
@pytest.mark.parametrize("trains", [True, False])
@pytest.mark.parametrize("runs", [1, 2, 4])
def test_maxima_of_runs(numerics, trains, runs):
    """Without rows that a crop leaves out, with NaN, of several micro-batches: each run's own."""
    b = builder() if trains else ProgramBuilder(micro_batch=4, micro_batches=3)
    k = b.kernel()
    x = b.input((4, 3, 4, 4), name="x", batched=not trains)
    pooled = k.store(k.step("pool_max", x, attributes=(2, 1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 0)))
    k.emit()
    inner = Piece(pooled, (4, 3, 2, 2), 5, (48, 16, 4, 1), 0, (12, 4, 2, 1))
    cut = b.move([inner], (4, 3, 2, 2), "float32")
    k = b.kernel()
    y = k.store(k.step("run_max", cut, attributes=(runs,)))
    k.emit()
    b.output(y, batched=not trains, name="y")
    program = b.build()
    x = np.random.default_rng(0).normal(size=(4 if trains else 12, 3, 4, 4)).astype(np.float32)
    x[:, :, 0] = 100
    for odd in (0.5, np.nan) if numerics == "quantized" else (0.5,):
        x[2, 1, 2, 2] = odd
        most = x[:, :, 1:3, 1:3].reshape(len(x) // 4 * runs, -1).max(axis=1)
        expected = np.repeat(most, 4 // runs).reshape(-1, 1, 1, 1)
        for engine in ("reference", "fast"):
            found = Simulator(program, engine, numerics, threads=1).run({"x": x})["y"]
            np.testing.assert_array_equal(found, expected)


def test_a_code_of_one_number():
    b = builder()
    k = b.kernel()
    x = b.input((), name="x", batched=False)
    codes = k.store(k.step("quant_by", x, b.constant(np.float32(0.5)), attributes=(-128, 127, 3)), "code")
    k.emit()
    k = b.kernel()
    y = k.store(k.step("cast", codes, attributes=(1,)))
    k.emit()
    b.output(y, batched=False, name="y")
    assert Simulator(b.build(), "fast", threads=1).run({"x": np.float32(3)})["y"] == 6
