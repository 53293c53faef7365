"""Windows of the fast engine: residue classes with different rows, long gathers, sums in NumPy's order."""

import random
from math import prod

import numpy as np
import pytest
from builder import ProgramBuilder, quant_attributes
from hypothesis import given, settings
from hypothesis import strategies as st
from programs import random_arithmetic
from test_fast import SEEDS, assert_same_bits, run

from mgc.sim.fast import FastEngine, im2col, pairwise
from mgc.sim.fast import windows as fast_windows
from mgc.sim.fast.graph import GraphBuilder
from mgc.sim.fast.values import Element, Frame, Part, Rows
from mgc.sim.fast.windows import joints
from mgc.sim.reference import ReferenceEngine


def classes_program(rng: random.Random, dims: int):
    """A transposed convolution as residue classes, every one with its own row order and starts; groups too."""
    arithmetic = random_arithmetic(rng)
    generator = np.random.default_rng(rng.getrandbits(32))
    b = ProgramBuilder()
    matrices, per_matrix, cols = rng.choice([1, 1, 2]), rng.randint(1, 3), rng.randint(1, 3)
    spatial = [rng.randint(1, 4) for _ in range(dims)]
    x = b.input((1, matrices * per_matrix, *spatial))
    signed = rng.random() < 0.5
    k = b.kernel()
    codes = k.store(k.step("quant", x, attributes=quant_attributes(1 / 8, arithmetic, signed)), "code")
    k.emit()
    acc = b.buffer("acc", "int64", (1, matrices * cols, *(2 * n for n in spatial)))
    lo, hi = arithmetic.weight_range
    for residue in np.ndindex(*[2] * dims):
        if rng.random() < 0.15:
            continue  # no tap reaches these positions: they stay zero
        taps = [rng.choice([1, 2, 2, 3]) for _ in spatial]
        weights = generator.integers(lo, hi + 1, (matrices, per_matrix * prod(taps), cols))
        weights[:, :, ::2] //= 8
        group = b.group(weights.astype(np.int16 if lo < -128 else np.int8), weights / 8, arithmetic)
        b.mvm(group, codes, acc, signed, count=spatial, taps=taps, in_base=[-rng.randint(0, 1) for _ in spatial],
              in_stride=[1] * dims, in_dilation=[rng.choice([1, 1, 2, -1]) for _ in spatial], out_base=residue,
              out_stride=[2] * dims, tap_fastest=rng.random() < 0.5)  # fmt: skip
    scale, bias = b.constant(np.ones((1,) * (dims + 1))), b.constant(np.zeros((1,) * (dims + 1)))
    k = b.kernel()
    y = k.store(k.step("dequant", acc, scale, bias, b.constant(np.zeros((1,) * (dims + 1), np.float32))))
    k.emit()
    b.output(y)
    if not any(d[0].mnemonic == "mvm" for d in b.drafts):
        return classes_program(rng, dims)
    return b.build()


@settings(max_examples=200, deadline=None)
@given(SEEDS, st.integers(1, 3), st.sampled_from(["model", "share", "split"]))
def test_residue_classes_of_any_kind(seed, dims, choice):
    rng = random.Random(seed)
    program = classes_program(rng, dims)
    inputs = {"in0": np.random.default_rng(1).normal(size=(2, *program.inputs[0].shape[1:])).astype(np.float32)}
    expected = run(ReferenceEngine(program, "quantized"), program, inputs, 2)
    with pytest.MonkeyPatch.context() as patch:
        if choice != "model":
            price = {"share": lambda j, a, c: 1.0, "split": lambda j, a, c: float(len(j.instructions) > 1)}[choice]
            patch.setattr(fast_windows, "cost", price)
        engine = FastEngine(program, "quantized", 1)
        assert_same_bits(run(engine, program, inputs, 2), expected)
    assert all(e.lowered for e in engine.plan_summary())


@settings(max_examples=80, deadline=None)
@given(SEEDS)
def test_long_gathers_read_what_single_ones_read(seed):
    rng = random.Random(seed)
    dims = rng.randint(1, 3)
    spatial = [rng.randint(1, 6) for _ in range(dims)]
    taps = [*(rng.randint(1, 3) for _ in spatial[1:]), rng.randint(2, 5)]
    channels, positions = rng.randint(1, 4), prod(spatial)
    fields = {
        "id": 0, "unit": 0, "duration": 1, "after": (), "after_previous": (), "source": 0, "group": 0, "src": 0,
        "dst": 1, "signed": False, "tap_fastest": True, "src_shape": (1, channels, *spatial), "src_strides": (),
        "dst_strides": (), "taps": tuple(taps), "in_stride": tuple(rng.randint(1, 3) for _ in spatial),
        "in_dilation": (*(rng.choice([1, 2, -1]) for _ in spatial[1:]), 1), "out_stride": (1,) * dims,
    }  # fmt: skip
    similar = []
    for _ in range(rng.randint(1, 2)):
        count = tuple(rng.randint(1, 5) for _ in spatial)
        base = tuple(-rng.randint(0, 3) for _ in spatial)
        similar.append(
            fast_windows.Mvm(**fields, count=count, in_base=base, out_base=(0,) * dims, dst_shape=(1, 1, *count))
        )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fast_windows, "cost", lambda j, a, c: 1.0)
        (joint,) = joints(similar, channels, 1)
    frame = Frame.channels_first((1, channels, *spatial))
    assert frame is not None
    order = rng.sample(range(positions), positions) if rng.random() < 0.5 else list(range(positions))
    x = np.random.default_rng(0).integers(1, 100, (2, positions, channels)).astype(np.uint8)

    def gathered(plain_cost):
        g = GraphBuilder()
        rows = Rows(frame, (Part(g.input("x", x.dtype), positions),), np.array(order))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(im2col, "_plain_cost", lambda joint, rows: plain_cost)
            out = im2col.windows(g, rows, Element(x.dtype), joint)
        g.output(g.reshape(out, [2, *joint.reads.shape, channels]), "y", x.dtype)
        (y,) = g.session(1).run(["y"], {"x": x})
        return y

    expected = np.where((joint.reads < 0)[None, :, :, None], 0, x[:, np.array(order)][:, joint.reads])
    np.testing.assert_array_equal(gathered(0.0), expected)
    np.testing.assert_array_equal(gathered(np.inf), expected)


@pytest.mark.parametrize("n", [1, 2, 7, 8, 9, 16, 49, 127, 128, 129, 196, 256, 300, 1024, 1600, 4096])
@pytest.mark.parametrize("channels", [1, 5])
def test_sums_have_numpys_bits(n, channels):
    assert pairwise.is_exact(n, channels)
    dtype = np.dtype(np.float64)
    g = GraphBuilder()
    g.output(pairwise.emit(g, g.input("x", dtype), n, channels), "y", dtype)
    rng = np.random.default_rng(n)
    x = rng.normal(size=(4, n, channels)) * 10.0 ** rng.integers(-9, 9, (4, n, channels))
    (y,) = g.session(2).run(["y"], {"x": x})
    np.testing.assert_array_equal(y, np.add.reduce(np.ascontiguousarray(x.transpose(0, 2, 1)), axis=-1))


def test_very_long_uneven_sums_are_left_to_numpy():
    assert not pairwise.is_exact(pairwise.MOST + 1, 1)
