"""Windowed products of `float` numerics as Conv: whatever windows they read, and whatever numbers."""

import random
from dataclasses import replace
from math import prod

import numpy as np
import pytest
from builder import ProgramBuilder, quant_attributes
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from programs import random_arithmetic
from test_fast import SEEDS, assert_same_bits, run

import mgc
from mgc.isa.instructions import Mvm
from mgc.sim.fast import FastEngine, kernels, mvm
from mgc.sim.reference import ReferenceEngine


def convolution(rng: random.Random, dims: int):
    """A convolution of one to three dimensions with an activation; whether Conv can say which windows it reads."""
    b, arithmetic = ProgramBuilder(), random_arithmetic(rng)
    lo, hi = arithmetic.weight_range
    matrices, channels, cols = rng.choice([1, 1, 2, 3]), rng.randint(1, 5), rng.randint(1, 9)
    most = {1: 60, 2: 12, 3: 6}[dims]
    extents = [rng.choice([1, most // 2, most]) for _ in range(dims)]
    taps = [rng.randint(1, 4) for _ in extents]
    strides, dilations = [rng.randint(1, 2) for _ in extents], [rng.choice([1, 1, 2, -1]) for _ in extents]
    bases = [rng.randint(-3, 1) for _ in extents]
    counts = [rng.randint(1, most) if rng.random() < 0.2 else most // s for s in strides]
    x = b.input((1, matrices * channels, *extents))
    k = b.kernel()
    code = k.store(k.step("quant", x, attributes=quant_attributes(1 / 8, arithmetic, True)), "code")
    k.emit()
    acc = b.buffer("acc", "int64", (1, matrices * cols, *counts))
    weights = np.random.default_rng(rng.getrandbits(32)).integers(lo, hi + 1, (matrices, channels * prod(taps), cols))
    group = b.group(weights.astype(np.int16 if lo < -128 else np.int8), weights / 8, arithmetic)
    b.mvm(group, code, acc, True, count=counts, taps=taps, in_base=bases, in_stride=strides, in_dilation=dilations,
          out_base=[0] * dims, out_stride=[1] * dims, tap_fastest=rng.random() < 0.5)  # fmt: skip
    scale, bias = b.constant(np.ones((1,) * (dims + 1))), b.constant(np.zeros((1,) * (dims + 1)))
    k = b.kernel()
    y = k.step("dequant", acc, scale, bias, b.constant(np.zeros((1,) * (dims + 1), np.float32)))
    if rng.random() < 0.5:
        y = k.step("relu", y)
    y = k.store(y)
    k.emit()
    b.output(y)
    axes = [(n, s, d, t, at, c)
            for n, s, d, t, at, c in zip(extents, strides, dilations, taps, bases, counts, strict=True)
            if n > 1 or t > 1 or c > 1]  # fmt: skip
    fits = [at <= 0 and d > 0 and at + s * (c - 1) + d * (t - 1) > n - 1 - (s if c > 1 else 1)
            for n, s, d, t, at, c in axes]  # fmt: skip
    least, most_code = arithmetic.code_range(True)
    outside = rng.choice([0, rng.randint(least, most_code)])
    built = b.build()
    reads = [replace(i, outside=outside) if isinstance(i, Mvm) else i for i in built.instructions]
    built = replace(built, instructions=tuple(reads))
    return built, prod(taps) > 1 and prod(counts) > 32 and len(axes) <= 2 and all(fits)


@settings(max_examples=150, deadline=None)
@given(seed=SEEDS, dims=st.integers(1, 3), odd=st.sampled_from([None, None, np.nan, np.inf]))
def test_convolutions_of_any_windows(seed, dims, odd):
    rng = random.Random(seed)
    program, fits = convolution(rng, dims)
    x = np.random.default_rng(1).normal(size=(2, *program.inputs[0].shape[1:])).astype(np.float32)
    # without Conv small matrices are read as one of blocks, whose zeros meet what is not finite
    if odd is not None and (fits or program.groups[0].matrices == 1):
        x.reshape(-1)[rng.randrange(x.size)] = odd
    engine = FastEngine(program, "float", 1)
    with np.errstate(invalid="ignore"):
        (expected,) = run(ReferenceEngine(program, "float"), program, {"in0": x}, 2).values()
    (found,) = run(engine, program, {"in0": x}, 2).values()
    usable = np.isfinite(expected)
    largest = np.abs(expected[usable]).max(initial=1)
    np.testing.assert_allclose(found[usable], expected[usable], rtol=1e-5, atol=1e-5 * largest)
    np.testing.assert_array_equal(np.isfinite(found), usable)
    assert any(e.kernel == "float32 Conv" for e in engine.plan.placements) == fits


@pytest.mark.parametrize("batch", [1, 3])
def test_a_sample_has_the_same_bits_in_any_batch(batch):
    drawn = (convolution(random.Random(seed), 2) for seed in range(50))
    program = next(program for program, fits in drawn if fits)
    x = np.random.default_rng(1).normal(size=(batch, *program.inputs[0].shape[1:])).astype(np.float32)
    engine = FastEngine(program, "float", 1)
    (together,) = run(engine, program, {"in0": x}, batch).values()
    alone = [next(iter(run(engine, program, {"in0": x[k : k + 1]}, 1).values())) for k in range(batch)]
    np.testing.assert_array_equal(together, np.concatenate(alone))


def quantized_engine(program, narrow=0):
    """An engine of `quantized` numerics for which no codes are bytes, and no more columns than these are few."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "is_exact", lambda name: False)
        patch.setattr(mvm, "NARROW", narrow)
        engine = FastEngine(program, "quantized", 1)
        return engine, {e.kernel for e in engine.plan.placements}


@settings(max_examples=100, deadline=None)
@given(seed=SEEDS, dims=st.integers(1, 3))
def test_codes_whose_sums_float32_holds_are_exact(seed, dims):
    program, fits = convolution(random.Random(seed), dims)
    x = np.random.default_rng(1).normal(size=(2, *program.inputs[0].shape[1:])).astype(np.float32)
    engine, used = quantized_engine(program)
    expected = run(ReferenceEngine(program, "quantized"), program, {"in0": x}, 2)
    assert_same_bits(run(engine, program, {"in0": x}, 2), expected)
    assert fits or "float32 Conv" not in used


def test_exact_reads_of_such_codes_use_conv():
    drawn = (convolution(random.Random(seed), 2) for seed in range(60))
    programs = [program for program, fits in drawn if fits]
    used = [quantized_engine(program)[1] for program in programs]
    assert sum("float32 Conv" in u for u in used) >= 5
    single = [p for p in programs if all(g.matrices == 1 and g.cols <= mvm.NARROW for g in p.groups)]
    assert single
    assert not any("float32 Conv" in quantized_engine(p, mvm.NARROW)[1] for p in single)


@pytest.mark.parametrize("channels", [64, 96, 512])
def test_terms_of_taps_are_narrow_and_their_sums_may_not_be(channels):
    """Three columns of large weights: one tap's sums fit float32, those of all four fit it, do not, or are of bytes."""
    rng = np.random.default_rng(channels)
    weights = {
        "w": rng.normal(size=(channels, 8, 3, 3)).astype(np.float32),
        "v": (rng.uniform(0.6, 1, size=(channels, 3, 4, 4)) / channels).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], pads=[1] * 4),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("ConvTranspose", ["b", "v"], ["y"], strides=[2, 2], pads=[1] * 4),
    ]
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", [1, 8, 12, 12]), ("y", None)))
    graph = helper.make_graph(nodes, "g", [x], [y], [numpy_helper.from_array(w, n) for n, w in weights.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    program = mgc.compile(model, extra_bits=9.0)
    feeds = {"x": 3 * rng.normal(size=(2, 8, 12, 12)).astype(np.float32)}
    found, expected = (mgc.Simulator(program, engine).run(feeds)["y"] for engine in ("fast", "reference"))
    np.testing.assert_array_equal(found, expected)
