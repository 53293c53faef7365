"""Gradients on the vector unit: level 1's meaning, adjoints of what they undo, rules; scales as operands."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import assume, given, settings

from mgc.ir.ops.gradients_gather import ScatterAdd
from mgc.ir.ops.gradients_pool import AveragePoolGrad, MaxPoolGrad, MaxPoolPick
from mgc.isa.dtypes import CODES
from mgc.isa.error import ExecutionError, ProgramError
from mgc.isa.functions import Operand, evaluate, function_code, infer

F4 = np.dtype(np.float32)


def call(name, *args, attributes=(), ideal=False):
    code = function_code(name)
    attributes = tuple(map(float, attributes))
    result = evaluate(code, args, attributes, ideal)
    if not ideal:
        expected = infer(code, [Operand(a.dtype, a.shape) for a in args], attributes)
        assert (result.dtype, result.shape) == (expected.dtype, expected.shape)
    return result


@st.composite
def pools(draw):
    """(kernel, strides, pads, dilations, include, spatial, windows)."""
    rank = draw(st.integers(1, 3))

    def each(lo, hi, n=rank):
        return tuple(draw(st.integers(lo, hi)) for _ in range(n))

    kernel, strides, pads, dilations, spatial = each(1, 3), each(1, 3), each(0, 2, 2 * rank), each(1, 2), each(1, 6)
    windows = tuple(
        (n + pads[i] + pads[rank + i] - dilations[i] * (kernel[i] - 1) - 1) // strides[i] + 1
        for i, n in enumerate(spatial)
    )
    assume(min(windows) >= 1)
    return kernel, strides, pads, dilations, draw(st.booleans()), spatial, windows


@settings(deadline=None, max_examples=100)
@given(pools(), st.integers(0, 999))
def test_pools(pool, seed):
    kernel, strides, pads, dilations, include, spatial, windows = pool
    rng = np.random.default_rng(seed)
    x = rng.integers(-3, 4, (2, 3, *spatial)).astype(np.float32)  # with ties
    dy, picked = (rng.standard_normal((2, 3, *s)).astype(np.float32) for s in (windows, spatial))
    attributes = (len(kernel), *kernel, *strides, *pads, *dilations)
    expected = AveragePoolGrad(spatial, kernel, strides, pads, dilations, include).evaluate(dy)[0]
    found = call("pool_average_grad", dy, attributes=(*attributes, include, *spatial))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    found = call("pool_max_grad", x, dy, attributes=(*attributes, 0))
    np.testing.assert_allclose(
        found, MaxPoolGrad(kernel, strides, pads, dilations).evaluate(x, dy)[0], rtol=1e-5, atol=1e-6
    )
    found = call("pool_max_pick", x, picked, attributes=(*attributes, 0))
    assert np.array_equal(found, MaxPoolPick(kernel, strides, pads, dilations).evaluate(x, picked)[0])


@settings(deadline=None, max_examples=60)
@given(pools(), st.integers(0, 999))
def test_gradients_are_adjoints(pool, seed):
    kernel, strides, pads, dilations, include, spatial, windows = pool
    rng = np.random.default_rng(seed)
    x, dy = rng.standard_normal((1, 2, *spatial)).astype("f4"), rng.standard_normal((1, 2, *windows)).astype("f4")
    attributes = (len(kernel), *kernel, *strides, *pads, *dilations)
    y = call("pool_average", x, attributes=(*attributes, include))
    dx = call("pool_average_grad", dy, attributes=(*attributes, include, *spatial))
    empty = np.isnan(y)  # a window of padding alone
    assert np.isclose(np.vdot(np.where(empty, 0, y), dy), np.vdot(x, dx), rtol=1e-4, atol=1e-4)
    picked = call("pool_max_pick", x, x, attributes=(*attributes, 0))
    dx = call("pool_max_grad", x, dy, attributes=(*attributes, 0))
    assert np.isclose(np.vdot(picked, dy), np.vdot(x, dx), rtol=1e-4, atol=1e-4)


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_scatter_add(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    size, axis = data.draw(st.integers(1, 5)), data.draw(st.integers(0, 2))
    places = tuple(data.draw(st.lists(st.integers(0, 3), max_size=2)))
    shape = [3, 4]
    shape[axis:axis] = places
    indices = rng.integers(-size, size, places)
    dy = rng.standard_normal(shape).astype(np.float32)
    found = call("scatter_add", dy, indices, attributes=(axis, size))
    np.testing.assert_allclose(found, ScatterAdd(axis, size).evaluate(dy, indices)[0], rtol=1e-5, atol=1e-6)
    gathered = call("gather", found, indices, attributes=(axis,))
    assert gathered.shape == dy.shape


def test_scatter_add_of_integers_and_bad_indices():
    ones = np.ones((3, 2), np.int32)
    assert call("scatter_add", ones, np.array([0, 2, 0]), attributes=(0, 3)).tolist() == [[2, 2], [0, 0], [1, 1]]
    with pytest.raises(ExecutionError, match=r"outside -2\.\.1"):
        call("scatter_add", ones, np.array([0, 2, 0]), attributes=(0, 2))


def test_ties_go_to_the_first():
    x = np.zeros((1, 1, 2, 2), np.float32)
    dx = call("pool_max_grad", x, np.ones((1, 1, 1, 1), np.float32), attributes=(2, 2, 2, 1, 1, 0, 0, 0, 0, 1, 1, 0))
    assert dx.tolist() == [[[[1, 0], [0, 0]]]]


@pytest.mark.parametrize(
    ("name", "shapes", "attributes", "message"),
    [
        ("pool_average_grad", [(1, 1, 4)], (1, 2, 1, 0, 0, 1, 0, 6), r"windows \[5\] are expected"),
        ("pool_average_grad", [(1, 1, 4)], (1, 2, 1, 0, 0, 1, 0), "7 attributes, 8 are expected"),
        ("pool_average_grad", [(1, 1, 4)], (1, 9, 1, 0, 0, 1, 0, 6), "does not fit"),
        ("pool_max_grad", [(1, 1, 4), (1, 2, 3)], (1, 2, 1, 0, 0, 1, 0), "x is float32"),
        ("pool_max_grad", [(1, 1, 4), (1, 1, 4)], (1, 2, 1, 0, 0, 1, 0), r"windows \[3\]"),
        ("pool_max_pick", [(1, 1, 4), (1, 1, 3)], (1, 2, 1, 0, 0, 1, 0), "picked is"),
        ("pool_max_pick", [(1, 4), (1, 4)], (1, 2, 1, 0, 0, 1, 0), r"\[N,C\] and 1 axes"),
        ("scatter_add", [(3, 2), (3,)], (0, 4), "indices are float32"),
        ("quant_by", [(3, 2), (3,)], (-128, 127, 3), "do not broadcast"),
        ("quant_by", [(3,), (3, 1)], (-128, 127, 3), "does not broadcast to"),
        ("quant_by", [(3,), ()], (-128, 128, 3), "quant_by: hi"),
        ("quant_dithered", [(3, 2), (), (2, 1)], (-128, 127, 3), "do not broadcast"),
        ("quant_dithered", [(3,), (), (3, 1)], (-128, 127, 3), "does not broadcast to"),
        ("quant_dithered", [(3,), (3, 1), ()], (-128, 127, 3), "does not broadcast to"),
        ("dequant_by", [(3,), (), ()], (1.0,), "int64 is expected"),
    ],
)
def test_rules(name, shapes, attributes, message):
    with pytest.raises(ProgramError, match=message):
        infer(function_code(name), [Operand(F4, s) for s in shapes], attributes)


def test_rules_of_types():
    i8, f8 = np.dtype(np.int64), np.dtype(np.float64)
    for name, args, attributes, message in (
        ("scatter_add", [Operand(F4, (3, 2)), Operand(i8, (2,))], (0, 4), "do not fit axis 0"),
        ("pool_average_grad", [Operand(i8, (1, 1, 4))], (1, 2, 1, 0, 0, 1, 0, 5), "float elements"),
        ("quant_by", [Operand(F4, (3,)), Operand(f8, ())], (0, 1, 2), "float32 is expected"),
        ("quant_dithered", [Operand(F4, (3,)), Operand(F4, ()), Operand(f8, ())], (0, 1, 2), "float32 is expected"),
        ("dequant_by", [Operand(i8, (3,)), Operand(f8, ()), Operand(F4, ())], (1.0,), "float32 is expected"),
        ("dequant_by", [Operand(i8, (3,)), Operand(F4, (2, 1)), Operand(F4, ())], (1.0,), "do not broadcast"),
        ("dequant_by", [Operand(i8, (3,)), Operand(F4, ()), Operand(F4, ())], (0.0,), "factor 0.0"),
    ):
        with pytest.raises(ProgramError, match=message):
            infer(function_code(name), args, attributes)


def test_quant_by():
    x = np.array([0.5, 1.5, -2.5, 300, -300, np.nan, np.inf, 0.3], np.float32)
    attributes = (-127, 127, CODES["int8"])
    one = np.ones((), np.float32)
    codes = call("quant_by", x, one, attributes=attributes)
    assert codes.tolist() == [0, 2, -2, 127, -127, 0, 127, 0]
    assert call("quant_by", x, one * 0, attributes=attributes).tolist()[:3] == [127, 127, -127]
    assert call("quant_by", x, one, attributes=attributes, ideal=True) is x
    rows = call("quant_by", x.reshape(2, 4), np.array([[1], [100]], np.float32), attributes=attributes)
    assert rows[1].tolist() == [-3, 0, 127, 0]


def test_dither_saves_what_is_less_than_half_a_step():
    x = np.full((100, 3), 0.3, np.float32) * np.array([1, -1, 0], np.float32)
    x[0, 2] = np.nan
    dither = ((np.arange(100, dtype=np.float32) + np.float32(0.5)) / np.float32(100) - np.float32(0.5))[:, None]
    attributes = (-127, 127, CODES["int8"])
    codes = call("quant_dithered", x, np.ones((), np.float32), dither, attributes=attributes)
    assert set(codes.reshape(-1).tolist()) == {-1, 0, 1}
    assert codes.sum(0).tolist() == [30, -30, 0]
    assert call("quant_dithered", x, np.ones((), np.float32), dither, attributes=attributes, ideal=True) is x
    scale = np.array([[0.1]], np.float32)
    exact = np.clip(np.rint((x + dither * scale) / scale), -127, 127)
    assert np.array_equal(
        call("quant_dithered", x, scale, dither, attributes=attributes), np.where(np.isnan(exact), 0, exact)
    )


def test_dequant_by():
    acc = np.array([[1, -3], [1 << 40, 7]], np.int64)
    s1, s2 = np.float32(0.1), np.array([[0.3], [1e-3]], np.float32)
    found = call("dequant_by", acc, np.array(s1), s2, attributes=(0.7,))
    for n, c in np.ndindex(2, 2):
        expected = np.float64(acc[n, c]) * (np.float64(s1) * np.float64(s2[n, 0]) * 0.7)
        assert found[n, c] == np.float32(expected)
    real = acc.astype(np.float32)
    assert np.array_equal(call("dequant_by", real, np.array(s1), s2, attributes=(0.7,), ideal=True), real)
