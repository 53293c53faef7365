"""Level-2 ops of training mean what the instructions mean, bit for bit; text form; type rules."""

import sys
from dataclasses import replace
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from mgc.functions.codes import in_reals, in_steps
from mgc.functions.optimizers import OPTIMIZERS, optimize
from mgc.ir.graph import Graph, evaluate
from mgc.ir.mapped import (
    CHANNEL_MAJOR,
    TAP_MAJOR,
    DequantBy,
    Layout,
    Mvm,
    MvmPart,
    MvmT,
    Outer,
    QuantBy,
    UpdateCells,
    Windows,
)
from mgc.ir.op import IRError
from mgc.ir.ops.update import Adam, RmsProp, Sgd
from mgc.ir.text import parse_graph, print_graph
from mgc.ir.types import DType, TensorType
from mgc.ir.verifier import verify
from mgc.isa.dtypes import CODES
from mgc.isa.functions import evaluate as run_function
from mgc.isa.functions import function_code
from mgc.sim import Simulator

sys.path.append(str(Path(__file__).parents[1] / "sim"))  # the helpers that build programs

from training_programs import EXACT, RandomConvolution


def layout(shape):
    return Layout.nchw(shape)


def part_of(c):
    names = ("count", "taps", "in_base", "in_stride", "in_dilation", "out_base", "out_stride")
    order = CHANNEL_MAJOR if c.windows["tap_fastest"] else TAP_MAJOR
    return MvmPart("p", c.matrices, c.rows, c.cols, order, Windows(*(tuple(c.windows[n]) for n in names)))


@settings(deadline=None, max_examples=60)
@given(st.randoms(use_true_random=False), st.booleans())
def test_products_are_those_of_the_instructions(rng, real):
    c = RandomConvolution(rng, EXACT, None, backward=False)  # level 2 has no windows that go backward
    feeds = c.inputs()
    out = Simulator(c.program, engine="reference", numerics="float" if real else "quantized").run(feeds)
    x, dy = (feeds[n] if real else feeds[n].astype(np.int64) for n in ("x", "dy"))
    weights = c.real if real else c.steps
    part = part_of(c)
    forward = Mvm((part,), layout(c.src), layout(c.dst), c.dst)
    back = MvmT((part,), layout(c.dst), layout(c.src), c.src)
    outer = Outer((part,), layout(c.src), layout(c.dst))
    for op, name, args in ((forward, "y", (x, weights)), (back, "dx", (dy, weights)), (outer, "dw", (x, dy))):
        (found,) = op.evaluate(*args)
        assert found.dtype == (np.float32 if real else np.int64)
        found = found.astype(np.float32)
        assert np.allclose(found, out[name], rtol=1e-6, atol=1e-3) if real else np.array_equal(found, out[name]), name


def test_parts_add_up():
    """Both residue classes of a transposed convolution in one op."""
    parts = tuple(
        MvmPart(f"r{r}", 1, 6, 3, CHANNEL_MAJOR, Windows((4,), (3,), (-1,), (1,), (1,), (r,), (2,))) for r in range(2)
    )
    rng = np.random.default_rng(0)
    weights, dy = rng.integers(-99, 100, (2, 1, 6, 3)), rng.integers(-128, 128, (2, 3, 8))
    op = MvmT(parts, layout((2, 3, 8)), layout((2, 2, 6)), (2, 2, 6))
    (both,) = op.evaluate(dy, *weights)
    alone = [replace(op, parts=(p,)).evaluate(dy, w)[0] for p, w in zip(parts, weights, strict=True)]
    assert np.array_equal(both, alone[0] + alone[1])
    x = rng.integers(-128, 128, (2, 2, 6))
    gradients = Outer(parts, layout((2, 2, 6)), layout((2, 3, 8))).evaluate(x, dy)
    assert [g.shape for g in gradients] == [(1, 6, 3)] * 2
    assert np.vdot(both, x) == sum(np.vdot(g, w) for g, w in zip(gradients, weights, strict=True))


def test_large_integers_stay_exact():
    part = MvmPart("p", 1, 1, 1, CHANNEL_MAJOR, Windows((), (), (), (), (), (), ()))
    x = np.full((1 << 12, 1), 65535, np.int64)
    big = np.full((1 << 12, 1), (1 << 31) - 1, np.int64)
    (total,) = Outer((part,), layout(x.shape), layout(x.shape)).evaluate(x, big)
    assert total[0, 0, 0] == (1 << 12) * 65535 * ((1 << 31) - 1)


RULES = [
    (Sgd(0.1), "sgd", (0.1,)),
    (Sgd(0.1, 0.9), "momentum", (0.1, 0.9)),
    (Adam(1e-3, 0.5, 0.99), "adam", (1e-3, 0.5, 0.99, 1e-8)),
    (RmsProp(0.01, 0.9, 1e-8, 0.5, True), "rmsprop", (0.01, 0.9, 1e-8, 0.5, 1.0)),
]


@pytest.mark.parametrize(("rule", "name", "hyper"), RULES)
@pytest.mark.parametrize("clip", [None, 0.4])
@pytest.mark.parametrize("integers", [True, False])
def test_updates_are_those_of_the_instruction(rule, name, hyper, clip, integers):
    rng = np.random.default_rng(1)
    scale, bits, shape = 2e-5, 16, (2, 3, 4)
    steps = rng.integers(-32767, 32768, shape).astype(np.int16)
    g = rng.standard_normal(shape).astype(np.float32)
    moments = [rng.uniform(1, 2, shape).astype(np.float32) for _ in rule.moments]
    if name == "rmsprop":
        moments[1] *= np.float32(0.1)  # no variance is negative
    op = UpdateCells(rule, scale, bits, clip)
    w = steps if integers else in_reals(steps, scale)
    count = (np.int64(3),) if rule.counts else ()
    new, *kept = op.evaluate(w, g, *moments, *count)
    bounds = (-clip, clip) if clip else (-np.inf, np.inf)
    real, expected = optimize(OPTIMIZERS[name], hyper, in_reals(steps, scale), g, moments, 3, bounds)
    assert new.dtype == w.dtype
    assert np.array_equal(new, in_steps(real, scale, bits) if integers else real)
    assert all(np.array_equal(a, b) for a, b in zip(kept, expected, strict=True))
    types = [TensorType(DType.of(a.dtype), a.shape) for a in (w, g, *moments, *count)]
    assert op.infer(*types) == (types[0], *types[2 : 2 + len(moments)])


def test_codes_are_those_of_the_functions():
    rng = np.random.default_rng(2)
    x = np.append(rng.standard_normal((3, 5)), [[np.nan, np.inf, -np.inf, 0.5, 1.5]], 0).astype(np.float32)
    for s in (np.array(0.01, np.float32), np.array([[1], [0.1], [0.3], [1]], np.float32)):
        found = QuantBy(-128, 127, DType.I8).evaluate(x, s)[0]
        assert np.array_equal(found, run_function(function_code("quant_by"), [x, s], (-128, 127, CODES["int8"])))
        d = np.array([[0.4], [-0.4], [0.1], [0.3]], np.float32)
        dithered = QuantBy(-128, 127, DType.I8, True).evaluate(x, s, d)[0]
        attributes = (-128, 127, CODES["int8"])
        assert np.array_equal(dithered, run_function(function_code("quant_dithered"), [x, s, d], attributes))
        assert not np.array_equal(dithered, found)
        acc = found.astype(np.int64) << 30
        second = np.array(0.7, np.float32)
        real = DequantBy(0.3).evaluate(acc, s, second)[0]
        assert np.array_equal(real, run_function(function_code("dequant_by"), [acc, s, second], (0.3,)))
        assert real.dtype == np.float32


def graph():
    g = Graph("training")
    x, dy = (g.add_input(n, TensorType(DType.I8, (2, 2, 6))) for n in ("x", "dy"))
    real, s = g.add_input("real", TensorType(DType.F32, (2, 2, 6))), g.add_input("s", TensorType(DType.F32, ()))
    w = g.add_input("w", TensorType(DType.I16, (1, 6, 2)))
    part = MvmPart("p", 1, 6, 2, CHANNEL_MAJOR, Windows((6,), (3,), (-1,), (1,), (1,), (0,), (1,)))
    shape = (2, 2, 6)
    dx = g.add(MvmT((part,), layout(shape), layout(shape), shape, 12), dy, w)
    (dw,) = g.add_multi(Outer((part,), layout(shape), layout(shape)), x, dy)
    gradient = g.add(DequantBy(0.5), dw, s, s)
    new = g.add(UpdateCells(Sgd(0.1), 1e-4, 16, 0.5), w, gradient)
    code = g.add(QuantBy(-128, 127, DType.I8), real, s)
    g.outputs += [("dx", dx), ("w.next", new), ("code", code)]
    return g


def test_text_form():
    g = graph()
    verify(g, levels=(1, 2))
    text = print_graph(g)
    back = parse_graph(text)
    verify(back, levels=(1, 2))
    assert print_graph(back) == text
    assert [n.op for n in back.nodes] == [n.op for n in g.nodes]
    rng = np.random.default_rng(0)
    feeds = {
        "x": rng.integers(-9, 9, (2, 2, 6)).astype(np.int8), "dy": rng.integers(-9, 9, (2, 2, 6)).astype(np.int8),
        "real": rng.standard_normal((2, 2, 6)).astype(np.float32), "s": np.array(0.02, np.float32),
        "w": rng.integers(-99, 99, (1, 6, 2)).astype(np.int16),
    }  # fmt: skip
    a, b = evaluate(g, feeds), evaluate(back, feeds)
    assert all(np.array_equal(a[n], b[n]) for n in ("dx", "w.next", "code"))


F4, I8, I16, I64 = DType.F32, DType.I8, DType.I16, DType.I64
PART = MvmPart("p", 1, 6, 2, CHANNEL_MAJOR, Windows((6,), (3,), (-1,), (1,), (1,), (0,), (1,)))
SHAPE = (2, 2, 6)
MVM_T = MvmT((PART,), layout(SHAPE), layout(SHAPE), SHAPE)
OUTER = Outer((PART,), layout(SHAPE), layout(SHAPE))
CELLS = UpdateCells(Adam(0.1), 1e-3, 16)
W = (1, 6, 2)


@pytest.mark.parametrize(
    ("op", "types", "message"),
    [
        (MVM_T, [(I8, SHAPE)], "1 parts but 0 weight operands"),
        (MVM_T, [(I8, SHAPE), (I16, (1, 6, 3))], "part p: weights"),
        (MVM_T, [(I8, SHAPE), (F4, W)], "do not go with errors"),
        (OUTER, [(I8, SHAPE), (F4, SHAPE)], "both codes, or of one float type"),
        (OUTER, [(F4, SHAPE), (DType.F64, SHAPE)], "both codes, or of one float type"),
        (CELLS, [(I16, W)] * 2, "5 operands are expected"),
        (CELLS, [(I8, W), (F4, W), (F4, W), (F4, W), (I64, ())], "w is i8"),
        (CELLS, [(I16, W), (F4, W), (F4, W), (F4, (3,)), (I64, ())], "adam.v is"),
        (CELLS, [(I16, W), (F4, W), (F4, W), (F4, W), (I64, (2,))], "a scalar is expected"),
        (replace(CELLS, weight_scale=0.0), [(I16, W), (F4, W), (F4, W), (F4, W), (I64, ())], "of scale 0.0"),
        (replace(CELLS, clip=-1.0), [(I16, W), (F4, W), (F4, W), (F4, W), (I64, ())], "clip is -1.0"),
        (QuantBy(0, 255, DType.U8), [(F4, (3,)), (F4, (2, 1))], "the scale is"),
        (QuantBy(0, 255, DType.U8), [(F4, (3,)), (I64, ())], "the scale is"),
        (QuantBy(0, 255, DType.U8, True), [(F4, (3,)), (F4, ()), (F4, (2, 1))], "the dither is"),
        (QuantBy(0, 255, DType.U8, True), [(F4, (3,)), (F4, ())], "operands"),
        (DequantBy(1.0), [(I8, (3,)), (F4, ()), (F4, ())], "the accumulator is i8"),
        (DequantBy(1.0), [(I64, (3,)), (F4, (2, 1)), (F4, ())], "the scales are"),
        (DequantBy(0.0), [(I64, (3,)), (F4, ()), (F4, ())], "factor 0.0"),
    ],
)
def test_type_rules(op, types, message):
    with pytest.raises(IRError, match=message):
        op.infer(*(TensorType(d, s) for d, s in types))
