"""The tables of element-wise functions: meanings against ONNX Runtime, and what they claim about themselves."""

import math

import numpy as np
import pytest
from op_checks import check

from mgc.functions.binary import BINARY
from mgc.functions.unary import UNARY, erf
from mgc.ir.ops import Binary, Unary

GRID = np.linspace(-6, 6, 241, dtype=np.float32)
# function -> (alpha, beta); those not listed have none
PARAMETERS = {
    "leaky_relu": (0.2, 0),
    "elu": (1.3, 0),
    "selu": (1.67, 1.05),
    "celu": (0.7, 0),
    "hard_sigmoid": (0.2, 0.5),
    "silu": (1.5, 0),
    "thresholded_relu": (1.0, 0),
}


def grid(fn):
    if UNARY[fn].domain == "bool":
        return np.array([True, False])
    if fn in ("asin", "acos", "atanh"):
        return GRID / 6.5
    if fn == "acosh":
        return 7 + GRID
    if fn in ("isnan", "isinf"):
        return np.array([1.0, np.nan, np.inf, -np.inf], np.float32)
    return GRID


@pytest.mark.parametrize("fn", UNARY)
def test_unary_means_what_onnx_says(fn):
    check(Unary(fn, *PARAMETERS.get(fn, (0.0, 0.0))), grid(fn), rtol=1e-4, atol=2e-6)


def test_silu_without_scale():
    check(Unary("silu", 1.0), GRID)


@pytest.mark.parametrize("fn", ["neg", "abs", "sign", "relu"])
def test_unary_of_integers(fn):
    check(Unary(fn), np.arange(-3, 4, dtype=np.int32))


@pytest.mark.parametrize("fn", UNARY)
def test_nonnegative_claims_hold(fn):
    op = Unary(fn, *PARAMETERS.get(fn, (0.0, 0.0)))
    with np.errstate(all="ignore"):
        (y,) = op.evaluate(grid(fn) if UNARY[fn].domain == "bool" else np.concatenate([grid(fn), GRID * 100]))
    if op.is_nonnegative([False]):
        assert not (y < 0).any()
    elif fn not in ("log", "reciprocal"):
        assert (y < 0).any(), "could claim more"


def test_what_is_nonnegative():
    assert Unary("relu").is_nonnegative([False])
    assert Unary("sigmoid").is_nonnegative([False])
    assert not Unary("tanh").is_nonnegative([False])
    assert not Unary("leaky_relu", 0.2).is_nonnegative([False])
    assert Unary("leaky_relu", 0.0).is_nonnegative([False])


@pytest.mark.parametrize("fn", [f for f, entry in UNARY.items() if entry.domain != "bool" and not entry.to_bool])
def test_piecewise_linear_claims_hold(fn):
    """On a fine grid a piecewise-linear function bends in a few places only."""
    op = Unary(fn, *PARAMETERS.get(fn, (0.0, 0.0)))
    x = np.linspace(-5.987, 6.013, 4001)
    with np.errstate(all="ignore"):
        (y,) = op.evaluate(x)
    bends = np.abs(np.diff(y, 2)) > 1e-9
    jumps = np.abs(np.diff(y)) > 0.02
    if UNARY[fn].piecewise_linear:
        assert bends.sum() <= 4
        assert not jumps.any()
    else:
        assert bends.sum() > 4 or jumps.any() or np.isnan(y).any()


def test_extremes_do_not_overflow():
    x = np.array([-1e30, -1000, -100, 0, 100, 1000, 1e30], np.float32)
    for fn in ("sigmoid", "tanh", "softplus", "mish", "silu", "gelu", "gelu_tanh", "elu", "selu", "celu", "erf"):
        (y,) = Unary(fn, 1.0, 1.0).evaluate(x)
        assert not np.isnan(y).any(), fn
    assert Unary("sigmoid").evaluate(x)[0].tolist() == [0, 0, pytest.approx(3.8e-44, rel=0.1), 0.5, 1, 1, 1]


def test_erf_to_double_precision():
    x = np.concatenate([np.linspace(-7, 7, 5001), [np.inf, -np.inf]])
    np.testing.assert_allclose(erf(x), [math.erf(v) for v in x], rtol=0, atol=1e-13)
    assert np.isnan(erf(np.array([np.nan])))[0]


def operands(fn):
    rng = np.random.default_rng(0)
    if BINARY[fn].domain == "bool":
        return np.array([[True], [False]]), np.array([True, False])
    a, b = rng.standard_normal((3, 1, 4)).astype(np.float32), rng.standard_normal((2, 4)).astype(np.float32)
    if fn == "pow":
        return np.abs(a), b
    if fn == "prelu":
        return a, b[:1]
    if fn == "mod":
        return np.array([[-7], [7], [5]]), np.array([3, -3])
    return a, b


@pytest.mark.parametrize("fn", BINARY)
def test_binary_means_what_onnx_says(fn):
    check(Binary(fn), *operands(fn))


@pytest.mark.parametrize("fn", ["add", "sub", "mul", "div", "pow", "max", "min", "mod", "equal", "less"])
@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_binary_of_integers(fn, dtype):
    a, b = np.array([[-7], [7], [0]], dtype), np.array([3, 2, 5], dtype)
    check(Binary(fn), a, b)


def test_integer_division_truncates():
    (y,) = Binary("div").evaluate(np.array([-7, 7, -6]), np.array([2, -2, 2]))
    assert y.tolist() == [-3, -3, -3]


def test_pow_takes_an_exponent_of_another_type():
    check(Binary("pow"), np.array([1.5, 2.0], np.float32), np.array([2, -1], np.int64))
    check(Binary("pow"), np.array([2, 9], np.int64), np.array([3.0, 0.5], np.float32))


def test_modulus_of_floats_has_the_sign_of_the_divisor():
    check(Binary("mod"), np.array([[-4.3], [7.2], [5.0]], np.float32), np.array([2.1, -3.4], np.float32))


def test_nan_passes_through_maximum():
    (y,) = Binary("max").evaluate(np.array([np.nan, 1], np.float32), np.array([0, np.nan], np.float32))
    assert np.isnan(y).all()
