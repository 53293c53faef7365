"""Integer products of the fast engine: bounds, the choice of kernel, the probe, corrections of inexact columns."""

import random
from itertools import product

import numpy as np
import pytest
from builder import ProgramBuilder, quant_attributes
from hypothesis import example, given, settings
from hypothesis import strategies as st
from programs import random_arithmetic
from test_fast import SEEDS, assert_same_bits, run

from mgc.isa.crossbar import exact_columns
from mgc.sim.fast import FastEngine, kernels, quantisation
from mgc.sim.fast.graph import GraphBuilder
from mgc.sim.fast.lossless import is_lossless
from mgc.sim.fast.values import Element
from mgc.sim.reference import ReferenceEngine

U8 = np.dtype(np.uint8)
U16 = np.dtype(np.uint16)


def test_probes_find_an_exact_kernel():
    assert kernels.is_exact("u8s8") or kernels.is_exact("u8u8")


@pytest.mark.parametrize("whole", [U8, U16])
def test_quantise_probe_runs(whole):
    assert quantisation.quantises_exactly(whole) in (True, False)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.lists(st.integers(-9, 9), min_size=2, max_size=2), min_size=1, max_size=4),
    st.integers(-5, 0),
    st.integers(0, 5),
)
def test_partial_sums_never_exceed_the_bound(weights, lo, hi):
    w = np.array(weights)
    bound = kernels.largest_partial_sum(w, (lo, hi))
    # every subset of terms at extreme codes is a partial sum of some order of additions
    worst = max(
        abs(sum(x * v for x, v in zip(codes, column, strict=True)))
        for column in w.T.tolist()
        for codes in product((lo, 0, hi), repeat=len(column))
    )
    assert worst <= bound


@pytest.mark.parametrize(
    ("weights", "codes", "element", "kernel"),
    [
        (np.full((4, 2), 127), (0, 255), Element(U8), "u8s8"),
        (np.full((4, 2), -128), (-128, 127), Element(U8, 128), "u8s8"),
        (np.full((4, 2), 200), (0, 255), Element(U8), "float32"),
        (np.full((4, 2), 127), (0, 65535), Element(U16), "float64"),
        (np.full((1, 2), 255), (0, 65535), Element(U16), "float32"),
        (np.full((2, 2), 32767), (0, 65535), Element(U16), "float64"),
    ],
)
def test_kernel_is_the_cheapest_exact_one(weights, codes, element, kernel, monkeypatch):
    monkeypatch.setattr(kernels, "is_exact", lambda name: True)
    assert kernels.choose(weights, codes, element) == kernel


def test_saturating_kernels_are_not_used(monkeypatch):
    weights, codes = np.full((4, 2), 127), (0, 255)
    monkeypatch.setattr(kernels, "is_exact", lambda name: name != "u8s8")
    assert kernels.choose(weights, codes, Element(U8)) == "u8u8"
    monkeypatch.setattr(kernels, "is_exact", lambda name: False)
    assert kernels.choose(weights, codes, Element(U8)) == "float32"
    assert kernels.choose(np.full((1000, 1), 127), codes, Element(U8)) == "float64"


def test_sums_beyond_every_kernel_are_refused():
    with pytest.raises(OverflowError):
        kernels.choose(np.full((1 << 10, 1), 1 << 40), (0, 255), Element(U8))


@pytest.mark.parametrize("kernel", ["u8s8", "u8u8", "float32", "float64"])
@pytest.mark.parametrize("bias", [0, 128])
def test_every_kernel_gives_the_integer_product(kernel, bias):
    if kernel.startswith("u8") and not kernels.is_exact(kernel):
        pytest.skip("saturates on this processor")
    rng = np.random.default_rng(3)
    codes, weights = rng.integers(0, 256, (9, 70)).astype(np.uint8), rng.integers(-128, 128, (70, 21))
    g = GraphBuilder()
    result, dtype = kernels.product(g, g.input("x", U8), Element(U8, bias), weights, kernel)
    g.output(result, "y", dtype)
    (got,) = g.session(1).run(["y"], {"x": codes})
    np.testing.assert_array_equal(got, (codes.astype(np.int64) - bias) @ weights)


def crossbar_program(arithmetic, weights, signed):
    """quant -> mvm -> dequant to integers, with the accumulators as float32 sums of any size."""
    b = ProgramBuilder(micro_batch=1)
    x = b.input((1, weights.shape[1], 3))
    k = b.kernel()
    codes = k.store(k.step("quant", x, attributes=quant_attributes(1.0, arithmetic, signed)), "code")
    k.emit()
    acc = b.buffer("acc", "int64", (1, weights.shape[2], 3))
    b.mvm(b.group(weights, weights / 8, arithmetic), codes, acc, signed, count=[3], taps=[1], in_base=[0],
          in_stride=[1], in_dilation=[1], out_base=[0], out_stride=[1])  # fmt: skip
    k = b.kernel()
    zero = b.constant(np.zeros((1, 1)))
    one = b.constant(np.ones((1, 1)))
    b_float = b.constant(np.zeros((1, 1), np.float32))
    real = k.store(k.step("dequant", acc, one, zero, b_float))
    k.emit()
    b.output(real)
    return b.build()


@example(11980, False)
@settings(max_examples=200, deadline=None)
@given(SEEDS, st.booleans())
def test_inexact_columns_are_corrected(seed, signed):
    rng = random.Random(seed)
    arithmetic = random_arithmetic(rng)
    generator = np.random.default_rng(rng.getrandbits(32))
    lo, hi = arithmetic.weight_range
    weights = generator.integers(lo, hi + 1, (1, rng.randint(1, 20), rng.randint(1, 5)))
    weights[:, :, 0] = 0  # exact in clip mode
    program = crossbar_program(arithmetic, weights.astype(np.int16 if lo < -128 else np.int8), signed)
    least, most = arithmetic.code_range(signed)
    codes = generator.integers(least, most + 1, (2, weights.shape[1], 3)).astype(np.float32)
    codes.reshape(-1)[::3] = most
    inputs = {"in0": codes}
    expected = run(ReferenceEngine(program, "quantized"), program, inputs, 2)
    engine = FastEngine(program, "quantized", 1)
    assert_same_bits(run(engine, program, inputs, 2), expected)
    (entry,) = [e for e in engine.plan.placements if e.what == "mvm"]
    if not entry.lowered:  # no sum in float64 is sure to be exact, by a bound within four times the ISA's
        assert "no kernel is exact" in entry.reason
        assert 4 * arithmetic.largest_sum(weights.shape[1]) >= 1 << 53
        return
    assert ("sliced" in entry.kernel) == (not exact_columns(weights, arithmetic, signed).all())


@settings(max_examples=40, deadline=None)
@given(st.integers(9, 16), st.booleans(), st.integers(1, 60), st.integers(1, 3), SEEDS)
def test_products_in_halves_are_exact(bits, signed, rows, windows, seed):
    rng = np.random.default_rng(seed)
    span = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    weights = rng.integers(-127, 128, (rows, 5))
    codes = rng.choice([*span, 0, 127, 128, *rng.integers(span[0], span[1] + 1, 40)], (3, windows, rows))
    g = GraphBuilder()
    x = g.input("x", np.dtype(np.float32))
    made = kernels.product_of_halves(g, x, windows, weights, span)
    exact = any(kernels.is_exact(name) for name in ("u8s8", "u8u8"))
    assert (made is not None) == (exact and max(-span[0], span[1]) <= 127 * 255)
    if made is not None:
        g.output(made[0], "y", made[1])
        (got,) = g.session(1).run(["y"], {"x": codes.astype(np.float32)})
        assert np.array_equal(got, codes @ weights)


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_results_do_not_depend_on_the_processors_kernels(seed):
    rng = random.Random(seed)
    arithmetic = random_arithmetic(rng)
    lo, hi = arithmetic.weight_range
    generator = np.random.default_rng(rng.getrandbits(32))
    weights = generator.integers(lo, hi + 1, (1, 9, 4)).astype(np.int16 if lo < -128 else np.int8)
    program = crossbar_program(arithmetic, weights, True)
    inputs = {"in0": generator.normal(0, 50, (1, 9, 3)).astype(np.float32)}
    expected = run(FastEngine(program, "quantized", 1), program, inputs, 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "is_exact", lambda name: False)
        patch.setattr(quantisation, "quantises_exactly", lambda whole: False)
        plain = FastEngine(program, "quantized", 1)
        assert_same_bits(run(plain, program, inputs, 1), expected)
        assert not any("u8" in e.kernel for e in plain.plan.placements)


@settings(max_examples=200, deadline=None)
@given(SEEDS, st.booleans())
def test_quick_proof_of_exactness_is_the_instruction_sets(seed, signed):
    rng = random.Random(seed)
    arithmetic = random_arithmetic(rng)
    generator = np.random.default_rng(seed)
    lo, hi = arithmetic.weight_range
    weights = generator.integers(lo, hi + 1, (rng.randint(1, 2), rng.randint(1, 40), rng.randint(1, 4)))
    weights = weights // generator.choice([1, 4, 32, 200]) if rng.random() < 0.8 else weights * 0
    weights = weights.astype(np.int16 if lo < -128 else np.int8)
    whole = arithmetic.encoding == "differential" and arithmetic.full_scale == arithmetic.adc_max
    plain = arithmetic.adc_mode == "clip" or whole  # no factor on the sums
    expected = plain and bool(exact_columns(weights, arithmetic, signed).all())
    assert is_lossless(weights, arithmetic, (signed,)) == expected
