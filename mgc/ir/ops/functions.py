"""The tables of element-wise functions: one entry a function, for `Unary` and `Binary`."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

import numpy as np

from mgc.ir.op import OnnxForm
from mgc.ir.ops import derivatives as d
from mgc.ir.ops.derivatives import BinaryRule, UnaryRule
from mgc.ir.types import DType

Array = np.ndarray


@cache
def _erf_table() -> tuple[Array, Array]:
    """Values and slopes of erf at k/128 for |x| <= 6."""
    grid = np.arange(-6 * 128, 6 * 128 + 1) / 128
    return np.array([math.erf(x) for x in grid]), 2 / math.sqrt(math.pi) * np.exp(-grid * grid)


def erf(x: Array) -> Array:
    """The error function to 1e-13, in the operand's precision: Taylor's series from the next grid point."""
    values, slopes = _erf_table()
    wide = np.asarray(x, np.float64)
    inside = np.clip(np.nan_to_num(wide, nan=0.0), -6, 6)
    index = np.rint(inside * 128).astype(np.int64) + 6 * 128
    at = (index - 6 * 128) / 128
    h = inside - at
    series = 1 + h * (-at + h * ((2 * at * at - 1) / 3 + h * (at * (3 - 2 * at * at) / 6)))
    result = np.where(np.isnan(wide), np.nan, values[index] + slopes[index] * h * series)
    return np.clip(result, -1, 1).astype(x.dtype)


@dataclass(frozen=True)
class UnaryFn:
    """One function of one operand.

    `meaning(x, alpha, beta)` in NumPy; `onnx(alpha, beta)` its ONNX form. `piecewise_linear`: continuous with
    finitely many linear pieces. `nonnegative`: the result is >= 0 (or NaN) for every operand, given alpha and beta.
    `domain`: the element types it takes; `to_bool`: the result is bool. `vjp`: its derivative, a rule of `derivatives`.
    """

    meaning: Callable[[Array, float, float], Array]
    onnx: Callable[[float, float], OnnxForm]
    piecewise_linear: bool = False
    nonnegative: Callable[[float, float], bool] = lambda alpha, beta: False
    domain: str = "float"  # float, number, bool
    to_bool: bool = False
    vjp: UnaryRule = field(kw_only=True)


def _plain(op_type: str) -> Callable[[float, float], OnnxForm]:
    return lambda alpha, beta: OnnxForm(op_type)


def _with_alpha(op_type: str) -> Callable[[float, float], OnnxForm]:
    return lambda alpha, beta: OnnxForm(op_type, {"alpha": float(alpha)})


def _always(alpha: float, beta: float) -> bool:
    return True


def _sigmoid(x: Array) -> Array:
    # exp of a non-positive number only: no overflow on either side
    e = np.exp(-np.abs(x))
    return (np.where(x >= 0, 1, e) / (1 + e)).astype(x.dtype)


def _softplus(x: Array) -> Array:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def _elu(x: Array, alpha: float) -> Array:
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0))).astype(x.dtype)


def _gelu_tanh(x: Array) -> Array:
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))


def _hard_sigmoid(x: Array, alpha: float, beta: float) -> Array:
    return np.clip(alpha * x + beta, 0, 1)


def _swish_form(alpha: float, beta: float) -> OnnxForm:
    scaled = 0 if alpha == 1 else OnnxForm("Mul", constants=(np.float32(alpha),), operands=(0,))  # type: ignore[arg-type]
    return OnnxForm("Mul", operands=(0, OnnxForm("Sigmoid", operands=(scaled,))))


UNARY: dict[str, UnaryFn] = {
    "neg": UnaryFn(lambda x, a, b: -x, _plain("Neg"), True, domain="number", vjp=d.neg),
    "abs": UnaryFn(
        lambda x, a, b: np.abs(x),
        _plain("Abs"),
        True,
        _always,
        domain="number",
        vjp=d.by_slope(lambda g, x, y, a, b: g.unary("sign", x)),
    ),
    "exp": UnaryFn(lambda x, a, b: np.exp(x), _plain("Exp"), False, _always, vjp=d.by_slope(lambda g, x, y, a, b: y)),
    "log": UnaryFn(lambda x, a, b: np.log(x), _plain("Log"), vjp=d.log),
    "sqrt": UnaryFn(lambda x, a, b: np.sqrt(x), _plain("Sqrt"), False, _always, vjp=d.sqrt),
    "reciprocal": UnaryFn(lambda x, a, b: 1 / x, _plain("Reciprocal"), vjp=d.reciprocal),
    "sign": UnaryFn(lambda x, a, b: np.sign(x), _plain("Sign"), domain="number", vjp=d.flat),
    "floor": UnaryFn(lambda x, a, b: np.floor(x), _plain("Floor"), vjp=d.flat),
    "ceil": UnaryFn(lambda x, a, b: np.ceil(x), _plain("Ceil"), vjp=d.flat),
    "round": UnaryFn(lambda x, a, b: np.rint(x), _plain("Round"), vjp=d.flat),
    "relu": UnaryFn(lambda x, a, b: np.maximum(x, 0), _plain("Relu"), True, _always, domain="number", vjp=d.relu),
    "leaky_relu": UnaryFn(
        lambda x, a, b: np.where(x < 0, a * x, x), _with_alpha("LeakyRelu"), True, lambda a, b: a <= 0, vjp=d.leaky_relu
    ),
    "elu": UnaryFn(lambda x, a, b: _elu(x, a), _with_alpha("Elu"), False, lambda a, b: a <= 0, vjp=d.elu),
    "selu": UnaryFn(
        lambda x, a, b: b * _elu(x, a),
        lambda a, b: OnnxForm("Selu", {"alpha": float(a), "gamma": float(b)}),
        vjp=d.selu,
    ),
    "celu": UnaryFn(
        lambda x, a, b: np.where(x > 0, x, a * np.expm1(np.minimum(x, 0) / a)).astype(x.dtype),
        _with_alpha("Celu"),
        vjp=d.celu,
    ),
    "sigmoid": UnaryFn(lambda x, a, b: _sigmoid(x), _plain("Sigmoid"), False, _always, vjp=d.by_slope(d.sigmoid_slope)),
    "tanh": UnaryFn(lambda x, a, b: np.tanh(x), _plain("Tanh"), vjp=d.by_slope(d.one_less_square)),
    "softplus": UnaryFn(
        lambda x, a, b: _softplus(x),
        _plain("Softplus"),
        False,
        _always,
        vjp=d.by_slope(lambda g, x, y, a, b: g.unary("sigmoid", x)),
    ),
    "softsign": UnaryFn(lambda x, a, b: x / (1 + np.abs(x)), _plain("Softsign"), vjp=d.by_slope(d.softsign_slope)),
    "erf": UnaryFn(
        lambda x, a, b: erf(x),
        _plain("Erf"),
        vjp=d.by_slope(lambda g, x, y, a, b: d.gaussian(g, x, 1.0, 2 / math.sqrt(math.pi))),
    ),
    "gelu": UnaryFn(
        lambda x, a, b: 0.5 * x * (1 + erf(x * math.sqrt(0.5))), _plain("Gelu"), vjp=d.by_slope(d.gelu_slope)
    ),
    "gelu_tanh": UnaryFn(
        lambda x, a, b: _gelu_tanh(x),
        lambda a, b: OnnxForm("Gelu", {"approximate": "tanh"}),
        vjp=d.by_slope(d.gelu_tanh_slope),
    ),
    "hard_sigmoid": UnaryFn(
        lambda x, a, b: _hard_sigmoid(x, a, b),
        lambda a, b: OnnxForm("HardSigmoid", {"alpha": float(a), "beta": float(b)}),
        True,
        _always,
        vjp=d.hard_sigmoid,
    ),
    "hard_swish": UnaryFn(lambda x, a, b: x * _hard_sigmoid(x, 1 / 6, 0.5), _plain("HardSwish"), vjp=d.hard_swish),
    "silu": UnaryFn(lambda x, a, b: x * _sigmoid(a * x), _swish_form, vjp=d.by_slope(d.silu_slope)),
    "mish": UnaryFn(lambda x, a, b: x * np.tanh(_softplus(x)), _plain("Mish"), vjp=d.by_slope(d.mish_slope)),
    "thresholded_relu": UnaryFn(
        lambda x, a, b: np.where(x > a, x, 0).astype(x.dtype),
        _with_alpha("ThresholdedRelu"),
        False,
        lambda a, b: a >= 0,
        vjp=d.thresholded_relu,
    ),
    "sin": UnaryFn(lambda x, a, b: np.sin(x), _plain("Sin"), vjp=d.by_slope(lambda g, x, y, a, b: g.unary("cos", x))),
    "cos": UnaryFn(
        lambda x, a, b: np.cos(x), _plain("Cos"), vjp=d.by_slope(lambda g, x, y, a, b: g.neg(g.unary("sin", x)))
    ),
    "tan": UnaryFn(
        lambda x, a, b: np.tan(x), _plain("Tan"), vjp=d.by_slope(lambda g, x, y, a, b: d.one_plus_square(g, y))
    ),
    "asin": UnaryFn(lambda x, a, b: np.arcsin(x), _plain("Asin"), vjp=d.inverse_root(d.one_minus_square)),
    "acos": UnaryFn(
        lambda x, a, b: np.arccos(x), _plain("Acos"), False, _always, vjp=d.inverse_root(d.one_minus_square, -1.0)
    ),
    "atan": UnaryFn(
        lambda x, a, b: np.arctan(x), _plain("Atan"), vjp=lambda g, x, y, dy, a, b: g.div(dy, d.one_plus_square(g, x))
    ),
    "sinh": UnaryFn(
        lambda x, a, b: np.sinh(x), _plain("Sinh"), vjp=d.by_slope(lambda g, x, y, a, b: g.unary("cosh", x))
    ),
    "cosh": UnaryFn(
        lambda x, a, b: np.cosh(x),
        _plain("Cosh"),
        False,
        _always,
        vjp=d.by_slope(lambda g, x, y, a, b: g.unary("sinh", x)),
    ),
    "asinh": UnaryFn(lambda x, a, b: np.arcsinh(x), _plain("Asinh"), vjp=d.inverse_root(d.one_plus_square)),
    "acosh": UnaryFn(
        lambda x, a, b: np.arccosh(x), _plain("Acosh"), False, _always, vjp=d.inverse_root(d.square_minus_one)
    ),
    "atanh": UnaryFn(
        lambda x, a, b: np.arctanh(x),
        _plain("Atanh"),
        vjp=lambda g, x, y, dy, a, b: g.div(dy, d.one_minus_square(g, x)),
    ),
    "not": UnaryFn(lambda x, a, b: np.logical_not(x), _plain("Not"), False, _always, "bool", True, vjp=d.flat),
    "isnan": UnaryFn(lambda x, a, b: np.isnan(x), _plain("IsNaN"), False, _always, "float", True, vjp=d.flat),
    "isinf": UnaryFn(lambda x, a, b: np.isinf(x), _plain("IsInf"), False, _always, "float", True, vjp=d.flat),
}


@dataclass(frozen=True)
class BinaryFn:
    """One function of two operands that broadcast. `domain`: the element types it takes; `to_bool`: result is bool.

    `vjp`: its derivative, a rule of `derivatives`.
    """

    meaning: Callable[[Array, Array], Array]
    onnx: OnnxForm
    domain: str = "number"  # number, bool, any
    to_bool: bool = False
    vjp: BinaryRule = field(kw_only=True)


def _div(x: Array, y: Array) -> Array:
    if not DType.of(x.dtype).is_integer:
        return x / y
    # ONNX's integer division truncates toward zero, NumPy's floors
    quotient = x // y
    return (quotient + ((quotient < 0) & (quotient * y != x))).astype(x.dtype)


def _pow(x: Array, y: Array) -> Array:
    if not DType.of(x.dtype).is_integer:
        return np.power(x, y.astype(x.dtype) if DType.of(y.dtype).is_float else y).astype(x.dtype)
    if DType.of(y.dtype).is_float:
        return np.power(x.astype(np.float64), y).astype(x.dtype)
    exact = np.power(x, np.maximum(y, 0))
    return np.where(y >= 0, exact, np.power(x.astype(np.float64), y).astype(x.dtype)).astype(x.dtype)


BINARY: dict[str, BinaryFn] = {
    "add": BinaryFn(np.add, OnnxForm("Add"), vjp=d.add),
    "sub": BinaryFn(np.subtract, OnnxForm("Sub"), vjp=d.sub),
    "mul": BinaryFn(np.multiply, OnnxForm("Mul"), vjp=d.mul),
    "div": BinaryFn(_div, OnnxForm("Div"), vjp=d.div),
    "pow": BinaryFn(_pow, OnnxForm("Pow"), vjp=d.pow_),
    "max": BinaryFn(np.maximum, OnnxForm("Max"), vjp=d.maximum),
    "min": BinaryFn(np.minimum, OnnxForm("Min"), vjp=d.minimum),
    "mod": BinaryFn(np.mod, OnnxForm("Mod"), vjp=d.remainder),
    "fmod": BinaryFn(np.fmod, OnnxForm("Mod", {"fmod": 1}), vjp=d.remainder),
    "prelu": BinaryFn(lambda x, slope: np.where(x < 0, x * slope, x), OnnxForm("PRelu"), vjp=d.prelu),
    "equal": BinaryFn(np.equal, OnnxForm("Equal"), "any", True, vjp=d.no_slope),
    "less": BinaryFn(np.less, OnnxForm("Less"), "number", True, vjp=d.no_slope),
    "less_or_equal": BinaryFn(np.less_equal, OnnxForm("LessOrEqual"), "number", True, vjp=d.no_slope),
    "greater": BinaryFn(np.greater, OnnxForm("Greater"), "number", True, vjp=d.no_slope),
    "greater_or_equal": BinaryFn(np.greater_equal, OnnxForm("GreaterOrEqual"), "number", True, vjp=d.no_slope),
    "and": BinaryFn(np.logical_and, OnnxForm("And"), "bool", True, vjp=d.no_slope),
    "or": BinaryFn(np.logical_or, OnnxForm("Or"), "bool", True, vjp=d.no_slope),
    "xor": BinaryFn(np.logical_xor, OnnxForm("Xor"), "bool", True, vjp=d.no_slope),
}
