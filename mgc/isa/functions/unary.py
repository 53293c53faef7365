"""Functions of one operand, element by element."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np

from mgc.isa.dtypes import is_float
from mgc.isa.functions.base import Array, Attributes, CostClass, Operand, VecFunction, in_domain, require

Meaning = Callable[[Array, float, float], Array]

SINGLE = "in float64, rounded once to the operand's type"


@cache
def _erf_table() -> tuple[Array, Array]:
    grid = np.arange(-6 * 128, 6 * 128 + 1) / 128
    return np.array([math.erf(x) for x in grid]), 2 / math.sqrt(math.pi) * np.exp(-grid * grid)


def _erf(x: Array) -> Array:
    """The error function of float64 values to 1e-13: Taylor's series from the nearest of the points k/128."""
    values, slopes = _erf_table()
    inside = np.clip(np.nan_to_num(x, nan=0.0), -6, 6)
    step = np.rint(inside * 128)
    at = step / 128
    h = inside - at
    series = 1 + h * (-at + h * ((2 * at * at - 1) / 3 + h * (at * (3 - 2 * at * at) / 6)))
    index = step.astype(np.int64) + 6 * 128
    return np.where(np.isnan(x), np.nan, np.clip(values[index] + slopes[index] * h * series, -1, 1))


def _sigmoid(x: Array) -> Array:
    e = np.exp(-np.abs(x))  # of a non-positive number only: no overflow on either side
    return np.where(x >= 0, 1, e) / (1 + e)


def _softplus(x: Array) -> Array:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def _elu(x: Array, alpha: float) -> Array:
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def _hard_sigmoid(x: Array, alpha: float, beta: float) -> Array:
    one = x.dtype.type(1)
    return np.minimum(np.maximum(x.dtype.type(alpha) * x + x.dtype.type(beta), x.dtype.type(0)), one)


def _in_double(meaning: Meaning) -> Meaning:
    """The function in float64 on a contiguous copy, rounded once to the operand's type."""

    def rounded(x: Array, alpha: float, beta: float) -> Array:
        return np.asarray(meaning(np.array(x, np.float64, order="C"), alpha, beta)).astype(x.dtype)

    return rounded


def _function(
    code: int, name: str, doc: str, meaning: Meaning, cost: CostClass, domain: str, to_bool: bool
) -> VecFunction:
    def run(args: Sequence[Array], attributes: Attributes, ideal: bool) -> Array:
        (x,) = args
        if domain == "float" and not is_float(x.dtype):
            x = x.astype(np.float32)  # a code buffer that `float` numerics left as it is
        return np.asarray(meaning(x, *attributes), np.bool_ if to_bool else x.dtype)

    def infer(args: Sequence[Operand], attributes: Attributes) -> Operand:
        (x,) = args
        require(in_domain(x.dtype, domain), f"{name} of {x}: {domain} elements are expected")
        return Operand(np.dtype(np.bool_), x.shape) if to_bool else x

    return VecFunction(code, name, ("x",), ("alpha", "beta"), cost, doc, run, infer)


def _plain(code: int, name: str, doc: str, meaning: Meaning, cost: CostClass = "simple", domain: str = "float",
           to_bool: bool = False) -> VecFunction:  # fmt: skip
    return _function(code, name, doc, meaning, cost, domain, to_bool)


def _smooth(code: int, name: str, formula: str, meaning: Meaning) -> VecFunction:
    return _function(code, name, f"{formula}; {SINGLE}", _in_double(meaning), "table", "float", False)


def _typed(x: Array, value: float) -> np.generic:
    return x.dtype.type(value)


UNARY: tuple[VecFunction, ...] = (
    _plain(1, "neg", "-x", lambda x, a, b: -x, domain="number"),
    _plain(2, "abs", "|x|", lambda x, a, b: np.abs(x), domain="number"),
    _smooth(3, "exp", "e^x", lambda x, a, b: np.exp(x)),
    _smooth(4, "log", "ln x", lambda x, a, b: np.log(x)),
    _plain(5, "sqrt", "square root, correctly rounded", lambda x, a, b: np.sqrt(x), "divide"),
    _plain(6, "reciprocal", "1 / x, correctly rounded", lambda x, a, b: _typed(x, 1) / x, "divide"),
    _plain(7, "sign", "-1, 0 or 1", lambda x, a, b: np.sign(x), domain="number"),
    _plain(8, "floor", "the next integer below", lambda x, a, b: np.floor(x)),
    _plain(9, "ceil", "the next integer above", lambda x, a, b: np.ceil(x)),
    _plain(10, "round", "the nearest integer, half to even", lambda x, a, b: np.rint(x)),
    _plain(11, "relu", "x if x > 0 else 0; NaN stays", lambda x, a, b: np.where(x <= 0, _typed(x, 0), x),
           domain="number"),
    _plain(12, "leaky_relu", "alpha * x if x < 0 else x; alpha in the operand's type",
           lambda x, a, b: np.where(x < 0, _typed(x, a) * x, x), "multiply"),
    _smooth(13, "elu", "x if x > 0 else alpha (e^x - 1)", lambda x, a, b: _elu(x, a)),
    _smooth(14, "selu", "beta * elu(x, alpha)", lambda x, a, b: b * _elu(x, a)),
    _smooth(15, "celu", "x if x > 0 else alpha (e^(x / alpha) - 1)",
            lambda x, a, b: np.where(x > 0, x, a * np.expm1(np.minimum(x, 0) / a))),
    _smooth(16, "sigmoid", "1 / (1 + e^-x)", lambda x, a, b: _sigmoid(x)),
    _smooth(17, "tanh", "hyperbolic tangent", lambda x, a, b: np.tanh(x)),
    _smooth(18, "softplus", "ln(1 + e^x)", lambda x, a, b: _softplus(x)),
    _smooth(19, "softsign", "x / (1 + |x|)", lambda x, a, b: x / (1 + np.abs(x))),
    _smooth(20, "erf", "the error function", lambda x, a, b: _erf(x)),
    _smooth(21, "gelu", "x/2 (1 + erf(x / sqrt 2))", lambda x, a, b: 0.5 * x * (1 + _erf(x * math.sqrt(0.5)))),
    _smooth(22, "gelu_tanh", "x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))",
            lambda x, a, b: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))),
    _plain(23, "hard_sigmoid", "alpha * x + beta clipped to 0..1; alpha and beta in the operand's type, each operation "
           "rounded", _hard_sigmoid, "multiply"),
    _plain(24, "hard_swish", "x * hard_sigmoid(x, 1/6, 1/2)", lambda x, a, b: x * _hard_sigmoid(x, 1 / 6, 0.5),
           "multiply"),
    _smooth(25, "silu", "x * sigmoid(alpha x)", lambda x, a, b: x * _sigmoid(a * x)),
    _smooth(26, "mish", "x * tanh(softplus(x))", lambda x, a, b: x * np.tanh(_softplus(x))),
    _plain(27, "thresholded_relu", "x if x > alpha else 0; alpha in the operand's type",
           lambda x, a, b: np.where(x > _typed(x, a), x, _typed(x, 0))),
    _smooth(28, "sin", "sine", lambda x, a, b: np.sin(x)),
    _smooth(29, "cos", "cosine", lambda x, a, b: np.cos(x)),
    _smooth(30, "tan", "tangent", lambda x, a, b: np.tan(x)),
    _smooth(31, "asin", "inverse sine", lambda x, a, b: np.arcsin(x)),
    _smooth(32, "acos", "inverse cosine", lambda x, a, b: np.arccos(x)),
    _smooth(33, "atan", "inverse tangent", lambda x, a, b: np.arctan(x)),
    _smooth(34, "sinh", "hyperbolic sine", lambda x, a, b: np.sinh(x)),
    _smooth(35, "cosh", "hyperbolic cosine", lambda x, a, b: np.cosh(x)),
    _smooth(36, "asinh", "inverse hyperbolic sine", lambda x, a, b: np.arcsinh(x)),
    _smooth(37, "acosh", "inverse hyperbolic cosine", lambda x, a, b: np.arccosh(x)),
    _smooth(38, "atanh", "inverse hyperbolic tangent", lambda x, a, b: np.arctanh(x)),
    _plain(39, "not", "logical not", lambda x, a, b: np.logical_not(x), domain="bool", to_bool=True),
    _plain(40, "isnan", "whether x is NaN", lambda x, a, b: np.isnan(x), to_bool=True),
    _plain(41, "isinf", "whether x is infinite", lambda x, a, b: np.isinf(x), to_bool=True),
)  # fmt: skip
"""Functions of one operand; codes 1 to 63."""
