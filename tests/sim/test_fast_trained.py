"""MVM, MVM_T, OUTER and UPDATE on the fast engine: the reference's bits for random products and kept weights."""

import random
from dataclasses import replace

import numpy as np
import pytest
from builder import ProgramBuilder
from hypothesis import given, settings
from hypothesis import strategies as st
from programs import plan_of, random_arithmetic
from training_programs import DENSE, EXACT, RandomConvolution, real_of

from mgc.isa.crossbar import Arithmetic
from mgc.sim import Simulator
from mgc.sim.fast import kernels, outer

ARITHMETICS = {
    "16 bits": EXACT,
    "8 bits": replace(EXACT, weight_bits=8),
    "12 bits, 4-bit codes": replace(EXACT, weight_bits=12, input_bits=4),
    "16-bit codes": replace(EXACT, input_bits=16),
    "offset": Arithmetic(16, 32, 2, 1, 12, "clip", "offset", 16, 8),
    "columns across the line": replace(EXACT, adc_bits=5),
    "clipped": Arithmetic(4, 24, 2, 2, 3, "clip", "offset", 6, 5),
    "planes": replace(EXACT, plane_columns=2),
    "planes that can clip": Arithmetic(16, 8, 2, 1, 3, "clip", "differential", 16, 8, 4),
    "planes at full scale": Arithmetic(5, 32, 1, 1, 4, "scale", "differential", 16, 8, 3),
    "full scale met": Arithmetic(15, 60, 1, 1, 4, "scale", "differential", 16, 8),
    "full scale": Arithmetic(5, 32, 1, 1, 4, "scale", "differential", 16, 8),
}
OPTIMIZERS = ["sgd", "momentum", "adam", "rmsprop"]


def both(program, threads=1):
    return [Simulator(program, engine, threads=threads) for engine in ("reference", "fast")]


def assert_same(first, second):
    assert list(first) == list(second)
    for name, value in first.items():
        np.testing.assert_array_equal(second[name], value, err_msg=name)


def assert_same_runs(program, feeds, threads=1):
    reference, fast = both(program, threads)
    for f in feeds:
        assert_same(reference.run(f), fast.run(f))
        assert_same(reference.states(), fast.states())
    return fast


def kernels_of(fast):
    return {e.what: e.kernel for e in plan_of(fast).placements if e.what in ("mvm", "mvm_t", "outer")}


@pytest.mark.parametrize("name", ARITHMETICS)
@settings(deadline=None, max_examples=12)
@given(st.integers(0, 2**32 - 1), st.sampled_from(OPTIMIZERS), st.sampled_from([1, 2, 4]))
def test_random_products_and_updates(name, seed, optimizer, threads):
    rng = random.Random(seed)
    c = RandomConvolution(rng, ARITHMETICS[name], optimizer, spare=rng.random() < 0.2)
    assert_same_runs(c.program, [c.inputs() for _ in range(3)], threads)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1))
def test_random_arithmetics_and_packings(seed):
    rng = random.Random(seed)
    drawn = random_arithmetic(rng)
    width = rng.choice([0, rng.randint(1, drawn.cols)])
    c = RandomConvolution(rng, replace(drawn, plane_columns=width, input_bits=max(2, drawn.input_bits)))
    assert_same_runs(c.program, [c.inputs() for _ in range(2)])


@pytest.mark.parametrize("exact", [("u8s8", "u8u8"), ("u8u8",), ()], ids=str)
@settings(deadline=None, max_examples=8)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["16 bits", "8 bits", "16-bit codes"]))
def test_results_do_not_depend_on_the_processors_kernels(exact, seed, name):
    if "u8s8" in exact and not kernels.is_exact("u8s8"):
        pytest.skip("saturates on this processor")
    c = RandomConvolution(random.Random(seed), ARITHMETICS[name], "sgd", spare=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "is_exact", lambda name: name in exact)
        assert_same_runs(c.program, [c.inputs() for _ in range(2)])


def convolution(arithmetic, **windows):
    """A convolution of one size, whose windows all lie inside."""
    for seed in range(5000):
        c = RandomConvolution(random.Random(seed), arithmetic, "sgd", backward=False, spare=False)
        if len(c.count) == 2 and min(c.windows["in_base"]) == 0 and c.matrices == 2:
            return c
    raise AssertionError("no such convolution")


@pytest.mark.parametrize("name", ["16 bits", "8 bits", "offset", "full scale met"])
def test_products_run_on_integer_kernels(name):
    c = convolution(ARITHMETICS[name])
    found = kernels_of(assert_same_runs(c.program, [c.inputs() for _ in range(2)]))
    assert found["mvm"].startswith("u8")
    assert found["outer"].startswith("u8")
    assert found["mvm_t"].startswith("u8") == (name != "full scale met")


def coded_input(b, name, shape):
    """An input of whole numbers as signed codes."""
    k = b.kernel()
    x = b.input(shape, name=name, batched=False)
    codes = k.store(k.step("quant_by", x, b.constant(np.float32(1)), attributes=(-128, 127, 3)), "code")
    k.emit()
    return codes


def kept_group(b, rng, name, rows, cols, arithmetic=EXACT, matrices=1):
    most = arithmetic.weight_range[1]
    steps = rng.integers(-most, most, (matrices, rows, cols), endpoint=True)
    real = (steps * 0.01).astype(np.float32)
    group = b.group(steps.astype(np.int16), real, arithmetic, weight_scale=0.01)
    b.state(name, "parameter", real, group)
    return group


def shown(b, acc, name):
    y = real_of(b, acc, b.constant(np.float32(1)), None, 1.0)
    b.output(y, batched=False, name=name)
    return y


def updated(b, group, gradient):
    b.update("sgd", (0.01,), gradient, group=group)


def integers(rng, *shape):
    return rng.integers(-128, 128, shape).astype(np.float32)


def versions(transposed, again):
    """Reads of two groups into one destination, with an UPDATE of the first between them; `again`: of one group."""
    rng = np.random.default_rng(0)
    b = ProgramBuilder(micro_batch=2, micro_batches=1, batched=False)
    x, dy = coded_input(b, "x", (2, 3, 4)), coded_input(b, "dy", (2, 5, 8))
    first = kept_group(b, rng, "first", 3, 5)
    second = first if again else kept_group(b, rng, "second", 3, 5)
    gradient = b.input((1, 3, 5), name="gradient", batched=False)
    acc = b.buffer("acc", "int64", (2, 3, 4) if transposed else (2, 5, 8))
    parts = [{"count": (4,), "taps": (1,), "in_base": (0,), "in_stride": (1,), "in_dilation": (1,),
              "out_base": (r,), "out_stride": (2,)} for r in range(2)]  # fmt: skip
    if transposed:
        b.mvm_t(first, dy, acc, True, **parts[0])
        updated(b, first, gradient)
        b.mvm_t(second, dy, acc, True, accumulate=True, **parts[1])
    else:
        b.mvm(first, x, acc, True, **parts[0])
        updated(b, first, gradient)
        b.mvm(second, x, acc, True, **parts[1])
    shown(b, acc, "y")
    shape = {"x": (2, 3, 4), "dy": (2, 5, 8), "gradient": (1, 3, 5)}
    return b.build(), [{n: integers(rng, *s) for n, s in shape.items()} for _ in range(3)]


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("again", [False, True])
def test_reads_of_the_version_that_was_there(transposed, again):
    """What is read before an UPDATE stays in the sum; two versions of a group in one sum run as the reference does."""
    program, feeds = versions(transposed, again)
    found = kernels_of(assert_same_runs(program, feeds))
    assert (found["mvm_t" if transposed else "mvm"] == "reference") == again


@pytest.mark.parametrize("transposed", [False, True])
def test_groups_of_different_forms_in_one_sum(transposed):
    """8-bit and 16-bit weights; one matrix and two."""
    rng = np.random.default_rng(1)
    b = ProgramBuilder(micro_batch=2, micro_batches=1, batched=False)
    x, dy = coded_input(b, "x", (2, 4, 6)), coded_input(b, "dy", (2, 4, 6))
    groups = [
        kept_group(b, rng, "wide", 4, 4),
        kept_group(b, rng, "narrow", 4, 4, replace(EXACT, weight_bits=8)),
        kept_group(b, rng, "two", 2, 2, matrices=2),
    ]
    gradients = [b.input((2, 2, 2) if k == 2 else (1, 4, 4), name=f"g{k}", batched=False) for k in range(3)]
    acc = b.buffer("acc", "int64", (2, 4, 6))
    for r, group in enumerate(groups):
        part = {"count": (2,), "taps": (1,), "in_base": (0,), "in_stride": (1,), "in_dilation": (1,),
                "out_base": (r,), "out_stride": (3,)}  # fmt: skip
        if transposed:
            b.mvm_t(group, dy, acc, True, accumulate=r > 0, **part)
        else:
            b.mvm(group, x, acc, True, **part)
    shown(b, acc, "y")
    for group, gradient in zip(groups, gradients, strict=True):
        updated(b, group, gradient)
    shapes = {"x": (2, 4, 6), "dy": (2, 4, 6), "g0": (1, 4, 4), "g1": (1, 4, 4), "g2": (2, 2, 2)}
    assert_same_runs(b.build(), [{n: integers(rng, *s) for n, s in shapes.items()} for _ in range(2)])


def test_long_sums_leave_int32():
    """66,000 windows of extreme codes: an OUTER in pieces of int32; and a deep product in float64."""
    rng = np.random.default_rng(2)
    n = 66_000
    b = ProgramBuilder(micro_batch=1, micro_batches=1, batched=False)
    x, dy = coded_input(b, "x", (1, 1, n)), coded_input(b, "dy", (1, 1, n))
    group = kept_group(b, rng, "w", 1, 1)
    dense = {"count": (n,), "taps": (1,), "in_base": (0,), "in_stride": (1,), "in_dilation": (1,), "out_base": (0,),
             "out_stride": (1,)}  # fmt: skip
    dw = b.buffer("acc", "int64", (1, 1, 1))
    b.outer(x, dy, dw, **dense)
    gradient = shown(b, dw, "dw")
    acc = b.buffer("acc", "int64", (1, 1, n))
    b.mvm(group, x, acc, True, **dense)
    shown(b, acc, "y")
    deep = kept_group(b, rng, "deep", n, 1, replace(EXACT, rows=128, cols=128, adc_bits=16))
    flat = b.alias(x, (1, n))
    score = b.buffer("acc", "int64", (1, 1))
    b.mvm(deep, flat, score, True, **DENSE)
    shown(b, score, "score")
    updated(b, group, gradient)
    updated(b, deep, b.input((1, n, 1), name="gradient", batched=False))
    feeds = [{"x": np.full((1, 1, n), s, np.float32), "dy": np.full((1, 1, n), -128, np.float32),
              "gradient": integers(rng, 1, n, 1)} for s in (-128, 127)]  # fmt: skip
    fast = assert_same_runs(b.build(), feeds)
    entries = [e.kernel for e in plan_of(fast).placements if e.what == "mvm"]
    assert [("bytes" in k, k) for k in entries] == [(True, entries[0]), (False, "float64")]
    assert kernels_of(fast)["outer"].startswith("u8")


def test_codes_of_nothing_but_zero():
    """An OUTER whose codes are known to be zero."""
    rng = np.random.default_rng(3)
    b = ProgramBuilder(micro_batch=1, micro_batches=1, batched=False)
    k = b.kernel()
    x = b.input((1, 2), name="x", batched=False)
    zero = k.store(k.step("quant_by", x, b.constant(np.float32(1)), attributes=(0, 0, 3)), "code")
    k.emit()
    group = kept_group(b, rng, "w", 2, 2)
    dw = b.buffer("acc", "int64", (1, 2, 2))
    b.outer(zero, zero, dw, **DENSE)
    y = b.buffer("acc", "int64", (1, 2))
    b.mvm(group, zero, y, True, **DENSE)
    shown(b, y, "y")
    updated(b, group, shown(b, dw, "dw"))
    assert_same_runs(b.build(), [{"x": np.ones((1, 2), np.float32)}])


@pytest.mark.parametrize("in_order", [True, False], ids=["reduced", "added"])
@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32 - 1))
def test_weight_gradients_in_runs(in_order, seed):
    """Runs of samples with scales of their own: odd scales, scales that all samples share, grouped windows."""
    rng = random.Random(seed)
    generator = np.random.default_rng(seed)
    runs, each = rng.choice([1, 2, 3, 5, 9]), rng.randint(1, 3)
    batch, matrices, channels, cols, taps = runs * each, rng.randint(1, 2), rng.randint(1, 3), rng.randint(1, 4), 3
    b = ProgramBuilder(micro_batch=batch, micro_batches=1, batched=False)
    shapes = {"x": (batch, matrices * channels, 8), "dy": (batch, matrices * cols, 4)}
    codes = [coded_input(b, name, shape) for name, shape in shapes.items()]
    scales = []
    for name in ("sx", "sdy"):
        shapes[name] = rng.choice([(), (1,), (batch,), (batch, 1, 1)])
        scales.append(b.input(shapes[name], name=name, batched=False))
    rows = channels * taps
    group = kept_group(b, generator, "w", rows, cols, matrices=matrices)
    dw = b.buffer("real", "float32", (matrices, rows, cols))
    b.outer(*codes, dw, scales, runs, count=(4,), taps=(taps,), in_base=(-1,), in_stride=(2,), in_dilation=(1,),
            out_base=(0,), out_stride=(1,), tap_fastest=rng.random() < 0.5)  # fmt: skip
    b.output(dw, batched=False, name="dw")
    updated(b, group, b.input((matrices, rows, cols), name="gradient", batched=False))
    feeds = {n: integers(generator, *s) for n, s in shapes.items()}
    feeds["gradient"] = integers(generator, matrices, rows, cols)
    for name in ("sx", "sdy"):
        feeds[name] = np.array(10.0 ** generator.integers(-9, 9, shapes[name]), np.float32)
        if rng.random() < 0.2:
            feeds[name].reshape(-1)[rng.randrange(feeds[name].size)] = rng.choice([0, -1, np.inf, 1e-45])
    with pytest.MonkeyPatch.context() as patch:
        if not in_order:
            patch.setattr(outer, "adds_in_order", lambda count: False)
        fast = assert_same_runs(b.build(), [feeds])
    assert kernels_of(fast)["outer"].startswith("u8")
