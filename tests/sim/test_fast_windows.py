"""Windows of the fast engine: residue classes with different rows, long gathers, sums in NumPy's order."""

import dataclasses
import random
from math import prod

import numpy as np
import pytest
from builder import ProgramBuilder, quant_attributes
from hypothesis import given, settings
from hypothesis import strategies as st
from programs import random_arithmetic
from test_fast import SEEDS, assert_same_bits, run

from mgc.functions import products
from mgc.functions.reduce import total
from mgc.functions.windows import Layout, Windows
from mgc.isa.dtypes import CODES
from mgc.isa.functions import evaluate, function_code
from mgc.isa.instructions import Mvm
from mgc.sim.fast import FastEngine, im2col, mvm, sums
from mgc.sim.fast import windows as fast_windows
from mgc.sim.fast.graph import GraphBuilder
from mgc.sim.fast.values import Element, Frame, Part, Rows
from mgc.sim.fast.windows import shared_products
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
    real = rng.choice([np.float32, np.float64])
    scale, bias = b.constant(np.ones((1,) * (dims + 1), real)), b.constant(np.zeros((1,) * (dims + 1), real))
    k = b.kernel()
    y = k.store(k.step("dequant", acc, scale, bias, b.constant(np.zeros((1,) * (dims + 1), np.float32))))
    k.emit()
    b.output(y)
    if not any(d[0].mnemonic == "mvm" for d in b.drafts):
        return classes_program(rng, dims)
    return b.build()


@settings(max_examples=200, deadline=None)
@given(SEEDS, st.integers(1, 3), st.sampled_from(["model", "share", "split", "position"]))
def test_residue_classes_of_any_kind(seed, dims, choice):
    rng = random.Random(seed)
    program = classes_program(rng, dims)
    inputs = {"in0": np.random.default_rng(1).normal(size=(2, *program.inputs[0].shape[1:])).astype(np.float32)}
    expected = run(ReferenceEngine(program, "quantized"), program, inputs, 2)
    with pytest.MonkeyPatch.context() as patch:
        if choice == "position":
            by_position(patch)
        elif choice != "model":
            price = {"share": lambda j, *_: 1.0, "split": lambda j, *_: float(len(j.instructions) > 1)}[choice]
            patch.setattr(fast_windows, "cost", price)
        engine = FastEngine(program, "quantized", 1)
        assert_same_bits(run(engine, program, inputs, 2), expected)
    # some draws have sums that no kernel holds exactly: those stay with the reference's reads
    assert all(e.lowered or e.reason.endswith("no kernel is exact") for e in engine.plan.placements)


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
        "dst": 1, "signed": False, "tap_fastest": True, "input": Layout.nchw((1, channels, *spatial)),
    }  # fmt: skip
    stride = tuple(rng.randint(1, 3) for _ in spatial)
    dilation = (*(rng.choice([1, 2, -1]) for _ in spatial[1:]), 1)
    similar = []
    for _ in range(rng.randint(1, 2)):
        count = tuple(rng.randint(1, 5) for _ in spatial)
        base = tuple(-rng.randint(0, 3) for _ in spatial)
        windows = Windows(count, tuple(taps), base, stride, dilation, (0,) * dims, (1,) * dims)
        similar.append(Mvm(**fields, windows=windows, output=Layout.nchw((1, 1, *count))))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fast_windows, "cost", lambda j, a, c: 1.0)
        (shared,) = shared_products(similar, channels, 1)
    frame = Frame.channels_first((1, channels, *spatial))
    assert frame is not None
    order = rng.sample(range(positions), positions) if rng.random() < 0.5 else list(range(positions))
    x = np.random.default_rng(0).integers(1, 100, (2, positions, channels)).astype(np.uint8)

    def gathered(node):
        g = GraphBuilder()
        rows = Rows(frame, (Part(g.input("x", x.dtype), positions),), np.array(order))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(im2col, "_NODE", node)  # what each node of the form with several costs
            out = im2col.windows(g, rows, Element(x.dtype), shared)
        g.output(g.reshape(out, [2, *shared.reads.shape, channels]), "y", x.dtype)
        (y,) = g.session(1).run(["y"], {"x": x})
        return y

    expected = np.where((shared.reads < 0)[None, :, :, None], 0, x[:, np.array(order)][:, shared.reads])
    np.testing.assert_array_equal(gathered(np.inf), expected)
    np.testing.assert_array_equal(gathered(-np.inf), expected)


@pytest.mark.parametrize(
    "n", [1, 2, 7, 8, 9, 16, 49, 127, 128, 129, 196, 256, 300, 1024, 1600, 4096, 3136, 20000, 50176]
)
@pytest.mark.parametrize("channels", [1, 5, 64])
def test_sums_have_the_defined_bits(n, channels):
    assert sums.is_exact(n, channels)
    dtype = np.dtype(np.float64)
    g = GraphBuilder()
    g.output(sums.emit(g, g.input("x", dtype), n, channels, wide=True), "y", dtype)
    rng = np.random.default_rng(n)
    rows = 4 if n < 20_000 else 1
    x = rng.normal(size=(rows, n, channels)) * 10.0 ** rng.integers(-9, 9, (rows, n, channels))
    (y,) = g.session(2).run(["y"], {"x": x})
    np.testing.assert_array_equal(y.reshape(rows, channels), total(x, 1))


def step_program(shape, make, others=()):
    """One kernel `make(builder, kernel, refs)` on inputs of `shape` and `others`."""
    b = ProgramBuilder()
    refs = [b.input(s) for s in (shape, *others)]
    k = b.kernel()
    y = k.store(make(b, k, *refs))
    k.emit()
    b.output(y)
    return b.build()


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_resizing_is_a_few_gathers():
    matrix = np.zeros((5, 4), np.float32)
    matrix[0, 0], matrix[1, [0, 1]], matrix[2, [1, 2]], matrix[3, [2, 3]] = 1, (0.3, 0.7), (0.5, 0.5), (0.9, 0.2)
    program = step_program((1, 3, 6, 4, 2), lambda b, k, x: k.step("axis_map", x, b.constant(matrix), attributes=(3,)))
    inputs = {"in0": noise(2, 3, 6, 4, 2)}
    engine = FastEngine(program, "quantized", 1)
    assert_same_bits(run(engine, program, inputs, 2), run(ReferenceEngine(program, "quantized"), program, inputs, 2))
    assert [e.kernel for e in engine.plan.placements] == ["graph"]


@pytest.mark.parametrize("depth", [1, 5, 64, 1000])
@pytest.mark.parametrize("hard", [False, True])
def test_products_of_computed_matrices_are_one_product(depth, hard):
    shapes = [(1, 2, 7, depth), (1, 2, depth, 9)]
    program = step_program(shapes[0], lambda b, k, x, y: k.step("matmul", x, y), shapes[1:])
    x, y = noise(3, 2, 7, depth), noise(3, 2, depth, 9, seed=1)
    if hard:  # sums that cancel, and sums on the edge between two float32 numbers
        x[:, :, ::2, depth // 2 :] = -x[:, :, ::2, : depth - depth // 2]
        y[:, :, depth // 2 :] = y[:, :, : depth - depth // 2]
        x[:, :, 1], y[:, :, :, 0] = 0, 0
        x[:, :, 1, 0], y[:, :, 0, 0] = 1 + 2.0**-12, 1 + 2.0**-12
        x[0, 0, 3, :2] = 3e38
        y[0, 0, :2, 4] = 3e38
    inputs = {"in0": x, "in1": y}
    engine = FastEngine(program, "quantized", 1)
    got, expected = run(engine, program, inputs, 3), run(ReferenceEngine(program, "quantized"), program, inputs, 3)
    assert got["out0"].tobytes() == expected["out0"].tobytes()
    assert [e.kernel for e in engine.plan.placements] == ["graph"]


STACKS = st.sampled_from([((), ()), ((2,), ()), ((), (3,)), ((2, 1), (3,)), ((1,), (2,))])


@settings(max_examples=60, deadline=None)
@given(STACKS, st.integers(1, 5), st.integers(1, 600), st.integers(1, 5), st.sampled_from([0, 4, 30]), SEEDS)
def test_no_order_of_additions_changes_a_product(stacks, rows, depth, columns, spread, seed):
    """Whole multiples are added, fewer than 2^53: numbers of any sizes, in any order, near the real sum."""
    rng = np.random.default_rng(seed)
    a, b = (
        (rng.normal(size=(*stack, *shape)) * 2.0 ** rng.integers(-spread, spread + 1, (*stack, *shape))).astype(
            np.float32
        )
        for stack, shape in zip(stacks, [(rows, depth), (depth, columns)], strict=True)
    )
    order, code = rng.permutation(depth), function_code("matmul")
    expected = evaluate(code, [a, b], ())
    assert evaluate(code, [a[..., order], b[..., order, :]], ()).tobytes() == expected.tobytes()
    left, right = products.aligned(a, (-1,), depth), products.aligned(b, (-2, -1), depth)
    assert (np.matmul(left, right).astype(np.float32) + np.float32(0)).tobytes() == expected.tobytes()
    exact = np.matmul(a.astype(np.float64), b.astype(np.float64))
    most = np.abs(a).max(-1, keepdims=True) * np.abs(b).max((-2, -1), keepdims=True).astype(np.float64)
    assert (np.abs(expected - exact) <= depth * most * 2.0**-20 + np.abs(exact) * 2.0**-23).all()


@pytest.mark.parametrize("shape", [(6, 6), (5, 7)])
def test_products_without_stack_axes_are_the_isas(shape):
    """As a penalty written out by hand makes them: no sample axis in either operand."""
    count, depth = shape
    edge = (1 + 2.0**-12) * 2.0 ** np.arange(-count, count)
    x, y = np.zeros((count, depth), np.float32), np.zeros((depth, count), np.float32)
    x[:, 0], y[0] = edge[:count], edge[count:]
    x[:, 1:] = 2.0**-60
    y[1:] = 2.0**-60
    b = ProgramBuilder(1, 1)
    refs = [b.input(a.shape, batched=False) for a in (x, y)]
    k = b.kernel()
    z = k.store(k.step("matmul", *refs))
    k.emit()
    b.output(z, batched=False)
    program = b.build()
    inputs = {"in0": x, "in1": y}
    got, expected = (run(e(program, "quantized"), program, inputs, 1) for e in (FastEngine, ReferenceEngine))
    assert got["out0"].tobytes() == expected["out0"].tobytes()


def test_products_with_infinities_are_the_isas():
    program = step_program((1, 3, 5), lambda b, k, x, y: k.step("matmul", x, y), [(1, 5, 4)])
    x = noise(1, 3, 5)
    x[0, 0, 0], x[0, 1, 1] = np.inf, np.nan
    y = noise(1, 5, 4)
    y[0, 2, 1], y[0, 3, 2], y[0, 1, 2] = -np.inf, np.nan, 1e-30
    inputs = {"in0": x, "in1": y}
    expected = run(ReferenceEngine(program, "quantized"), program, inputs, 1)
    assert_same_bits(run(FastEngine(program, "quantized", 1), program, inputs, 1), expected)


def by_position(patch):
    """Products position by position wherever they have that form."""
    patch.setattr(mvm, "by_position_pays", lambda *_: True)


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.booleans())
def test_what_lies_outside_the_input_is_a_code(seed, positions):
    rng = random.Random(seed)
    program = classes_program(rng, 1 + seed % 3)

    def changed(i):
        if not isinstance(i, fast_windows.Mvm):
            return i
        return dataclasses.replace(i, outside=rng.randint(*program.groups[i.group].arithmetic.code_range(i.signed)))

    program = dataclasses.replace(program, instructions=tuple(map(changed, program.instructions)))
    program.verify()
    inputs = {"in0": noise(2, *program.inputs[0].shape[1:])}
    for numerics in ("quantized", "float"):
        expected = run(ReferenceEngine(program, numerics), program, inputs, 2)
        with pytest.MonkeyPatch.context() as patch:
            if positions:
                by_position(patch)
            got = run(FastEngine(program, numerics, 1), program, inputs, 2)
        if numerics == "quantized":
            assert_same_bits(got, expected)
        np.testing.assert_allclose(got["out0"], expected["out0"], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("lo", "hi", "zero", "dtype"),
    [(0, 255, 37, "uint8"), (0, 255, 255, "uint8"), (3, 200, 3, "uint8"), (-128, 127, -128, "int8"),
     (-5, 7, 7, "int8"), (0, 4095, 1000, "uint16"), (-2048, 2047, -3, "int16")],
)  # fmt: skip
@pytest.mark.parametrize("relu", [False, True])
def test_codes_with_a_zero_point(lo, hi, zero, dtype, relu):
    def make(b, k, x):
        x = k.step("relu", x) if relu else x
        code = k.step("quant", x, attributes=(1 / 64, lo, hi, CODES[dtype], zero))
        return k.step("cast", code, attributes=(CODES["float32"],))

    program = step_program((1, 5, 7), make)
    x = 3 * noise(2, 5, 7)
    x.reshape(-1)[:4] = [np.nan, np.inf, -np.inf, -0.0]
    inputs = {"in0": x}
    engine = FastEngine(program, "quantized", 1)
    assert_same_bits(run(engine, program, inputs, 2), run(ReferenceEngine(program, "quantized"), program, inputs, 2))
