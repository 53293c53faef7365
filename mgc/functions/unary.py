"""Functions of one operand, element by element: one entry a function.

In a derivative rule `k` is the graph that is built, y = fn(x), dy its cotangent; None stands for zero. Where a function
has no derivative the rules take what PyTorch takes: relu'(0) = 0, abs'(0) = sign(0) = 0, sqrt'(0) = 0 (as its norm has
it); leaky_relu and elu take the left side at 0; hard_sigmoid is flat at its corners. Rules are in terms of the result
where that saves keeping the operand and is as exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np

from mgc.functions.algebra import Algebra, Formula
from mgc.functions.binary import BINARY
from mgc.functions.error_function import erf, gelu
from mgc.functions.onnx_form import OnnxForm

Array = np.ndarray
Line = tuple[float, float]
"""Slope and intercept."""
Lines = tuple[Line | None, Line | None]
Rule = Callable[[Algebra, Any, Any, Any, float, float], Any]


@dataclass(frozen=True)
class UnaryFunction:
    """One function of one operand.

    code: its number in a VEC step. doc: what it is, in words. Its meaning is `numpy(x, alpha, beta)`, else a `formula`
    of other functions, in the operand's precision; `smooth`: an instruction computes it in float64 and rounds once.
    vjp: its derivative. onnx: the ONNX op that it is, whose attributes are alpha and beta under the names and with the
    defaults in `attributes`; `form` instead of it where ONNX needs more to say the same.

    cost: class of the target's `[vector.op_ns]`; "table" if it is smooth. domain: the element types it takes; to_bool:
    the result is bool.
    piecewise_linear: continuous with finitely many linear pieces. table: a chip computes it by a table (None: if it is
    smooth); then `asymptotes(alpha, beta)` are the lines that it tends to on the left and right, None where there
    is none, and `defined` where it has values. nonnegative: whether the result is >= 0 (or NaN) for every operand,
    given alpha and beta; keeps_sign: whether it is for operands >= 0, if alpha and beta are. activation: networks have
    it between or after layers.
    """

    code: int
    name: str
    doc: str
    numpy: Callable[[Array, float, float], Array] | None = None
    _: KW_ONLY
    formula: Formula | None = None
    vjp: Rule
    onnx: str
    attributes: tuple[tuple[str, float], ...] = ()
    form: Callable[[float, float], OnnxForm] | None = None
    smooth: bool = False
    cost: str = "simple"
    domain: str = "float"
    to_bool: bool = False
    piecewise_linear: bool = False
    table: bool | None = None
    asymptotes: Callable[[float, float], Lines] = lambda alpha, beta: (None, None)
    defined: tuple[float, float] = (-math.inf, math.inf)
    nonnegative: Callable[[float, float], bool] = lambda alpha, beta: False
    keeps_sign: bool = False
    activation: bool = False

    def __post_init__(self) -> None:
        if self.smooth:
            object.__setattr__(self, "cost", "table")

    @property
    def tabulated(self) -> bool:
        """Whether a chip computes it by a table: it is neither piecewise linear nor exact in the vector unit."""
        return self.smooth if self.table is None else self.table

    def meaning(self, x: Array, alpha: float, beta: float) -> Array:
        """In x's precision and type (or bool)."""
        y = self.numpy(x, alpha, beta) if self.numpy else self.formula(ARRAYS, x, alpha, beta)  # type: ignore[misc]
        return np.asarray(y, np.bool_ if self.to_bool else x.dtype)

    def precise(self, x: Array, alpha: float, beta: float) -> Array:
        """As instructions compute it: in float64 on a contiguous copy and rounded once, if it is smooth."""
        if not self.smooth:
            return self.meaning(x, alpha, beta)
        return self.meaning(np.array(x, np.float64, order="C"), alpha, beta).astype(x.dtype)

    def onnx_form(self, alpha: float, beta: float) -> OnnxForm:
        """Itself as ONNX nodes."""
        if self.form is not None:
            return self.form(alpha, beta)
        given = zip(self.attributes, (alpha, beta), strict=False)
        return OnnxForm(self.onnx, {name: float(value) for (name, _), value in given})


class _Arrays:
    """The algebra of NumPy arrays, in the precision of the first operand."""

    def unary(self, fn: str, x: Array, alpha: float = 0.0, beta: float = 0.0) -> Array:
        return UNARY[fn].meaning(x, alpha, beta)

    def binary(self, fn: str, a: Array, b: Array | float) -> Array:
        entry = BINARY[fn]
        return np.asarray(entry.meaning(a, self._typed(b, a)), np.bool_ if entry.to_bool else a.dtype)

    def where(self, condition: Array, a: Array, b: Array | float) -> Array:
        return np.where(condition, a, self._typed(b, a))

    def number(self, number: float, like: Array) -> Array:
        return like.dtype.type(number)

    def full(self, number: float, like: Array) -> Array:
        return np.full(like.shape, number, like.dtype)

    def log1p(self, x: Array) -> Array:
        return np.log1p(x)

    def neg(self, x: Array) -> Array:
        return -x

    def add(self, a: Array, b: Array | float) -> Array:
        return a + self._typed(b, a)

    def sub(self, a: Array, b: Array | float) -> Array:
        return a - self._typed(b, a)

    def mul(self, a: Array, b: Array | float) -> Array:
        return a * self._typed(b, a)

    def div(self, a: Array, b: Array | float) -> Array:
        return a / self._typed(b, a)

    @staticmethod
    def _typed(number: Array | float, like: Array) -> Any:
        return like.dtype.type(number) if isinstance(number, int | float) else number


ARRAYS = _Arrays()


GELU_TANH_RATE, GELU_TANH_CUBIC = math.sqrt(2 / math.pi), 0.044715
"""The u of gelu_tanh is rate (x + cubic x^3)."""

# -- meanings ----------------------------------------------------------------------------------------------------------


def sigmoid(x: Array) -> Array:
    """1 / (1 + e^-x)."""
    e = np.exp(-np.abs(x))  # of a non-positive number only: no overflow on either side
    return np.where(x >= 0, 1, e) / (1 + e)


def softplus(x: Array) -> Array:
    """ln(1 + e^x)."""
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def _elu(x: Array, alpha: float) -> Array:
    return np.where(x > 0, x, alpha * np.expm1(np.where(x > 0, 0, x)))


def _gelu(k: Algebra, x: Any, a: float, b: float) -> Any:
    return k.mul(k.mul(x, 0.5), k.add(k.unary("erf", k.mul(x, math.sqrt(0.5))), 1.0))


def _gelu_tanh(k: Algebra, x: Any, a: float, b: float) -> Any:
    cubic = k.mul(k.mul(k.mul(x, GELU_TANH_CUBIC), x), x)
    return k.mul(k.mul(x, 0.5), k.add(k.unary("tanh", k.mul(k.add(x, cubic), GELU_TANH_RATE)), 1.0))


def _gelu_tanh_values(x: Array) -> Array:
    """x sigmoid(2 u): the same, and right where 1 + tanh(u) cancels."""
    return x * sigmoid(2 * GELU_TANH_RATE * (x + GELU_TANH_CUBIC * x * x * x))


def _hard_sigmoid(k: Algebra, x: Any, a: float, b: float) -> Any:
    return k.binary("min", k.binary("max", k.add(k.mul(x, a), b), 0.0), 1.0)


# -- derivatives -------------------------------------------------------------------------------------------------------


def _by_slope(slope: Callable[[Algebra, Any, Any, float, float], Any]) -> Rule:
    """The rule dy * slope(x, y)."""
    return lambda k, x, y, dy, a, b: k.mul(dy, slope(k, x, y, a, b))


def _flat(k: Algebra, x: Any, y: Any, dy: Any, a: float, b: float) -> None:
    """Piecewise constant: the derivative is zero."""


def _vjp_sqrt(k: Algebra, x: Any, y: Any, dy: Any, a: float, b: float) -> Any:
    """dy / 2y, 0 where y is 0: PyTorch's norm has that derivative there, its sqrt an infinite one."""
    positive = k.binary("greater", y, 0.0)
    return k.where(positive, k.div(dy, k.mul(k.where(positive, y, 1.0), 2.0)), 0.0)


def _vjp_relu(k: Algebra, x: Any, y: Any, dy: Any, a: float, b: float) -> Any:
    """dy where y > 0. A choice, not a product: an infinite dy behind a closed relu is 0."""
    return k.where(k.binary("greater", y, 0.0), dy, 0.0)


def _vjp_leaky_relu(k: Algebra, x: Any, y: Any, dy: Any, a: float, b: float) -> Any:
    """dy where x > 0, a dy elsewhere."""
    # y has the sign of x if the slope is positive
    return k.where(k.binary("greater", y if a > 0 else x, 0.0), dy, k.mul(dy, a))


def _exp_of_negative(k: Algebra, x: Any, scale: float = 1.0) -> Any:
    """exp(x / scale) for x < 0, 1 elsewhere: never an overflow in the branch that is not taken."""
    return k.unary("exp", k.mul(k.binary("min", x, 0.0), 1 / scale))


def _vjp_elu(k: Algebra, x: Any, y: Any, dy: Any, a: float, b: float) -> Any:
    """dy where x > 0, a exp(x) dy elsewhere."""
    return k.where(k.binary("greater", x, 0.0), dy, k.mul(dy, k.mul(_exp_of_negative(k, x), a)))


def _vjp_celu(k: Algebra, x: Any, y: Any, dy: Any, a: float, b: float) -> Any:
    """dy where x > 0, exp(x / a) dy elsewhere."""
    return k.where(k.binary("greater", x, 0.0), dy, k.mul(dy, _exp_of_negative(k, x, a)))


def _sigmoid_slope(k: Algebra, x: Any, y: Any, a: float, b: float) -> Any:
    """y (1 - y)."""
    return k.mul(y, k.sub(k.number(1.0, y), y))


def _tanh_slope(k: Algebra, x: Any, y: Any, a: float, b: float) -> Any:
    """1 - y^2."""
    return k.sub(k.number(1.0, y), k.mul(y, y))


def _softsign_slope(k: Algebra, x: Any, y: Any, a: float, b: float) -> Any:
    """1 / (1 + |x|)^2."""
    r = k.unary("reciprocal", k.add(k.unary("abs", x), 1.0))
    return k.mul(r, r)


def _gaussian(k: Algebra, x: Any, rate: float, height: float) -> Any:
    """height exp(-rate x^2)."""
    return k.mul(k.unary("exp", k.mul(k.mul(x, x), -rate)), height)


def _gelu_slope(k: Algebra, x: Any, y: Any, a: float, b: float) -> Any:
    """Phi(x) + x phi(x)."""
    phi = k.add(k.mul(k.unary("erf", k.mul(x, math.sqrt(0.5))), 0.5), 0.5)
    return k.add(phi, k.mul(x, _gaussian(k, x, 0.5, 1 / math.sqrt(2 * math.pi))))


def _gelu_tanh_slope(k: Algebra, x: Any, y: Any, a: float, b: float) -> Any:
    """(1 + t)/2 + x (1 - t^2) u' / 2 with t = tanh(u), u = sqrt(2/pi) (x + 0.044715 x^3)."""
    rate, cubic = GELU_TANH_RATE, GELU_TANH_CUBIC
    square = k.mul(x, x)
    t = k.unary("tanh", k.mul(k.mul(x, k.add(k.mul(square, cubic), 1.0)), rate))
    inner = k.mul(k.add(k.mul(square, 3 * cubic), 1.0), 0.5 * rate)
    return k.add(k.add(k.mul(t, 0.5), 0.5), k.mul(k.mul(x, inner), _tanh_slope(k, x, t, a, b)))


def _vjp_hard_sigmoid(k: Algebra, x: Any, y: Any, dy: Any, a: float, b: float) -> Any:
    """a dy strictly between the corners."""
    inside = k.binary("and", k.binary("greater", y, 0.0), k.binary("less", y, 1.0))
    return k.where(inside, k.mul(dy, a), 0.0)


def _vjp_hard_swish(k: Algebra, x: Any, y: Any, dy: Any, a: float, b: float) -> Any:
    """0 up to -3, x/3 + 1/2 up to 3, then 1."""
    middle = k.mul(dy, k.add(k.mul(x, 1 / 3), 0.5))
    above = k.where(k.binary("less", x, 3.0), middle, dy)
    return k.where(k.binary("greater", x, -3.0), above, 0.0)


def _silu_slope(k: Algebra, x: Any, y: Any, a: float, b: float) -> Any:
    """s + a x s (1 - s) with s = sigmoid(a x)."""
    s = k.unary("sigmoid", k.mul(x, a))
    return k.add(s, k.mul(k.mul(x, a), _sigmoid_slope(k, x, s, a, b)))


def _mish_slope(k: Algebra, x: Any, y: Any, a: float, b: float) -> Any:
    """t + x (1 - t^2) sigmoid(x) with t = tanh(softplus(x))."""
    t = k.unary("tanh", k.unary("softplus", x))
    return k.add(t, k.mul(k.mul(x, k.unary("sigmoid", x)), _tanh_slope(k, x, t, a, b)))


def _inverse_root(square: Callable[[Algebra, Any], Any], sign: float = 1.0) -> Rule:
    """sign dy / sqrt(square(x)): the inverse trigonometric and hyperbolic functions."""
    return lambda k, x, y, dy, a, b: k.div(k.mul(dy, sign), k.unary("sqrt", square(k, x)))


def _one_minus_square(k: Algebra, x: Any) -> Any:
    return k.sub(k.number(1.0, x), k.mul(x, x))


def _one_plus_square(k: Algebra, x: Any) -> Any:
    return k.add(k.mul(x, x), 1.0)


def _square_minus_one(k: Algebra, x: Any) -> Any:
    return k.sub(k.mul(x, x), 1.0)


# -- the table ---------------------------------------------------------------------------------------------------------


def _like_relu(a: float, b: float) -> Lines:
    return (0.0, 0.0), (1.0, 0.0)


def _like_tanh(a: float, b: float) -> Lines:
    return (0.0, -1.0), (0.0, 1.0)


def _always(a: float, b: float) -> bool:
    return True


def _silu_form(alpha: float, beta: float) -> OnnxForm:
    scaled = 0 if alpha == 1 else OnnxForm("Mul", constants=(np.array(alpha, np.float32),), operands=(0,))
    return OnnxForm("Mul", operands=(0, OnnxForm("Sigmoid", operands=(scaled,))))


_F = UnaryFunction
_ALPHA = (("alpha", 1.0),)

UNARY: dict[str, UnaryFunction] = {f.name: f for f in (
    _F(1, "neg", "-x", lambda x, a, b: -x, vjp=lambda k, x, y, dy, a, b: k.neg(dy), onnx="Neg", domain="number",
       piecewise_linear=True),
    _F(2, "abs", "|x|", lambda x, a, b: np.abs(x), vjp=_by_slope(lambda k, x, y, a, b: k.unary("sign", x)), onnx="Abs",
       domain="number", piecewise_linear=True, nonnegative=_always),
    _F(3, "exp", "e^x", lambda x, a, b: np.exp(x), vjp=_by_slope(lambda k, x, y, a, b: y), onnx="Exp", smooth=True,
       nonnegative=_always, asymptotes=lambda a, b: ((0.0, 0.0), None)),
    _F(4, "log", "ln x", lambda x, a, b: np.log(x), vjp=lambda k, x, y, dy, a, b: k.div(dy, x), onnx="Log", smooth=True,
       defined=(0.0, math.inf)),
    _F(5, "sqrt", "square root, correctly rounded", lambda x, a, b: np.sqrt(x), vjp=_vjp_sqrt, onnx="Sqrt",
       cost="divide", nonnegative=_always, keeps_sign=True),
    _F(6, "reciprocal", "1 / x, correctly rounded", lambda x, a, b: x.dtype.type(1) / x, cost="divide", keeps_sign=True,
       vjp=lambda k, x, y, dy, a, b: k.neg(k.mul(dy, k.mul(y, y))), onnx="Reciprocal"),
    _F(7, "sign", "-1, 0 or 1", lambda x, a, b: np.sign(x), vjp=_flat, onnx="Sign", domain="number", keeps_sign=True),
    _F(8, "floor", "the next integer below", lambda x, a, b: np.floor(x), vjp=_flat, onnx="Floor", keeps_sign=True),
    _F(9, "ceil", "the next integer above", lambda x, a, b: np.ceil(x), vjp=_flat, onnx="Ceil", keeps_sign=True),
    _F(10, "round", "the nearest integer, half to even", lambda x, a, b: np.rint(x), vjp=_flat, onnx="Round",
       keeps_sign=True),
    _F(11, "relu", "0 if x < 0 else x; NaN and -0 stay", lambda x, a, b: np.where(x < 0, x.dtype.type(0), x),
       vjp=_vjp_relu, onnx="Relu", domain="number", piecewise_linear=True, nonnegative=_always, activation=True),
    _F(12, "leaky_relu", "alpha * x if x < 0 else x; alpha in the operand's type",
       lambda x, a, b: np.where(x < 0, x.dtype.type(a) * x, x), vjp=_vjp_leaky_relu, onnx="LeakyRelu",
       attributes=(("alpha", 0.01),), cost="multiply", piecewise_linear=True, nonnegative=lambda a, b: a <= 0,
       keeps_sign=True, activation=True),
    _F(13, "elu", "x if x > 0 else alpha (e^x - 1)", lambda x, a, b: _elu(x, a), vjp=_vjp_elu, onnx="Elu",
       attributes=_ALPHA, smooth=True, asymptotes=lambda a, b: ((0.0, -a), (1.0, 0.0)),
       nonnegative=lambda a, b: a <= 0, keeps_sign=True, activation=True),
    _F(14, "selu", "beta * elu(x, alpha)", formula=lambda k, x, a, b: k.mul(k.unary("elu", x, a), b),
       vjp=lambda k, x, y, dy, a, b: _vjp_elu(k, x, y, k.mul(dy, b), a, b), onnx="Selu",
       attributes=(("alpha", 1.67326319217681884765625), ("gamma", 1.05070102214813232421875)), smooth=True,
       asymptotes=lambda a, b: ((0.0, -a * b), (b, 0.0)), keeps_sign=True, activation=True),
    _F(15, "celu", "x if x > 0 else alpha (e^(x / alpha) - 1)",
       lambda x, a, b: np.where(x > 0, x, a * np.expm1(np.where(x > 0, 0, x) / a)), vjp=_vjp_celu, onnx="Celu",
       attributes=_ALPHA, smooth=True, asymptotes=lambda a, b: ((0.0, -a), (1.0, 0.0)), keeps_sign=True,
       activation=True),
    _F(16, "sigmoid", "1 / (1 + e^-x)", lambda x, a, b: sigmoid(x), vjp=_by_slope(_sigmoid_slope), onnx="Sigmoid",
       smooth=True, asymptotes=lambda a, b: ((0.0, 0.0), (0.0, 1.0)), nonnegative=_always, activation=True),
    _F(17, "tanh", "hyperbolic tangent", lambda x, a, b: np.tanh(x), vjp=_by_slope(_tanh_slope), onnx="Tanh",
       smooth=True, asymptotes=_like_tanh, keeps_sign=True, activation=True),
    _F(18, "softplus", "ln(1 + e^x)", lambda x, a, b: softplus(x), onnx="Softplus", smooth=True,
       vjp=_by_slope(lambda k, x, y, a, b: k.unary("sigmoid", x)), asymptotes=_like_relu, nonnegative=_always),
    _F(19, "softsign", "x / (1 + |x|)", formula=lambda k, x, a, b: k.div(x, k.add(k.unary("abs", x), 1.0)),
       vjp=_by_slope(_softsign_slope), onnx="Softsign", smooth=True, keeps_sign=True, activation=True),
    _F(20, "erf", "the error function", lambda x, a, b: erf(x), onnx="Erf", smooth=True, asymptotes=_like_tanh,
       vjp=_by_slope(lambda k, x, y, a, b: _gaussian(k, x, 1.0, 2 / math.sqrt(math.pi))), keeps_sign=True),
    _F(21, "gelu", "x/2 (1 + erf(x / sqrt 2))", lambda x, a, b: gelu(x), formula=_gelu,
       vjp=_by_slope(_gelu_slope), onnx="Gelu", smooth=True, asymptotes=_like_relu, keeps_sign=True, activation=True),
    _F(22, "gelu_tanh", "x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))",
       lambda x, a, b: _gelu_tanh_values(x), formula=_gelu_tanh,
       vjp=_by_slope(_gelu_tanh_slope), onnx="", form=lambda a, b: OnnxForm("Gelu", {"approximate": "tanh"}),
       smooth=True, asymptotes=_like_relu, keeps_sign=True),
    _F(23, "hard_sigmoid", "alpha * x + beta clipped to 0..1; alpha and beta in the operand's type, each operation "
       "rounded", formula=_hard_sigmoid, vjp=_vjp_hard_sigmoid, onnx="HardSigmoid",
       attributes=(("alpha", 0.2), ("beta", 0.5)), cost="multiply", piecewise_linear=True, nonnegative=_always,
       activation=True),
    _F(24, "hard_swish", "x * hard_sigmoid(x, 1/6, 1/2)", vjp=_vjp_hard_swish, onnx="HardSwish", cost="multiply",
       formula=lambda k, x, a, b: k.mul(x, k.unary("hard_sigmoid", x, 1 / 6, 0.5)), table=True, asymptotes=_like_relu,
       keeps_sign=True),
    _F(25, "silu", "x * sigmoid(alpha x)", formula=lambda k, x, a, b: k.mul(x, k.unary("sigmoid", k.mul(x, a))),
       vjp=_by_slope(_silu_slope), onnx="Swish", attributes=_ALPHA, form=_silu_form, smooth=True,
       asymptotes=lambda a, b: _like_relu(a, b) if a > 0 else ((1.0, 0.0), (0.0, 0.0)), keeps_sign=True,
       activation=True),
    _F(26, "mish", "x * tanh(softplus(x))", vjp=_by_slope(_mish_slope), onnx="Mish", smooth=True,
       formula=lambda k, x, a, b: k.mul(x, k.unary("tanh", k.unary("softplus", x))), asymptotes=_like_relu,
       keeps_sign=True, activation=True),
    _F(27, "thresholded_relu", "x if x > alpha else 0; alpha in the operand's type",
       formula=lambda k, x, a, b: k.where(k.binary("greater", x, a), x, 0.0),
       vjp=lambda k, x, y, dy, a, b: k.where(k.binary("greater", x, a), dy, 0.0), onnx="ThresholdedRelu",
       attributes=_ALPHA, nonnegative=lambda a, b: a >= 0, keeps_sign=True),
    _F(28, "sin", "sine", lambda x, a, b: np.sin(x), onnx="Sin", smooth=True,
       vjp=_by_slope(lambda k, x, y, a, b: k.unary("cos", x))),
    _F(29, "cos", "cosine", lambda x, a, b: np.cos(x), onnx="Cos", smooth=True,
       vjp=_by_slope(lambda k, x, y, a, b: k.neg(k.unary("sin", x)))),
    _F(30, "tan", "tangent", lambda x, a, b: np.tan(x), onnx="Tan", smooth=True,
       vjp=_by_slope(lambda k, x, y, a, b: _one_plus_square(k, y))),
    _F(31, "asin", "inverse sine", lambda x, a, b: np.arcsin(x), vjp=_inverse_root(_one_minus_square), onnx="Asin",
       smooth=True, defined=(-1.0, 1.0), keeps_sign=True),
    _F(32, "acos", "inverse cosine", lambda x, a, b: np.arccos(x), vjp=_inverse_root(_one_minus_square, -1.0),
       onnx="Acos", smooth=True, defined=(-1.0, 1.0), nonnegative=_always),
    _F(33, "atan", "inverse tangent", lambda x, a, b: np.arctan(x), onnx="Atan", smooth=True, keeps_sign=True,
       vjp=lambda k, x, y, dy, a, b: k.div(dy, _one_plus_square(k, x))),
    _F(34, "sinh", "hyperbolic sine", lambda x, a, b: np.sinh(x), onnx="Sinh", smooth=True, keeps_sign=True,
       vjp=_by_slope(lambda k, x, y, a, b: k.unary("cosh", x))),
    _F(35, "cosh", "hyperbolic cosine", lambda x, a, b: np.cosh(x), onnx="Cosh", smooth=True, nonnegative=_always,
       vjp=_by_slope(lambda k, x, y, a, b: k.unary("sinh", x))),
    _F(36, "asinh", "inverse hyperbolic sine", lambda x, a, b: np.arcsinh(x), vjp=_inverse_root(_one_plus_square),
       onnx="Asinh", smooth=True, keeps_sign=True),
    _F(37, "acosh", "inverse hyperbolic cosine", lambda x, a, b: np.arccosh(x), vjp=_inverse_root(_square_minus_one),
       onnx="Acosh", smooth=True, defined=(1.0, math.inf), nonnegative=_always, keeps_sign=True),
    _F(38, "atanh", "inverse hyperbolic tangent", lambda x, a, b: np.arctanh(x), onnx="Atanh", smooth=True,
       vjp=lambda k, x, y, dy, a, b: k.div(dy, _one_minus_square(k, x)), defined=(-1.0, 1.0), keeps_sign=True),
    _F(39, "not", "logical not", lambda x, a, b: np.logical_not(x), vjp=_flat, onnx="Not", domain="bool", to_bool=True,
       nonnegative=_always),
    _F(40, "isnan", "whether x is NaN", lambda x, a, b: np.isnan(x), vjp=_flat, onnx="IsNaN", to_bool=True,
       nonnegative=_always),
    _F(41, "isinf", "whether x is infinite", lambda x, a, b: np.isinf(x), vjp=_flat, onnx="IsInf", to_bool=True,
       nonnegative=_always),
)}  # fmt: skip
"""Functions of one operand by name; codes 1 to 63."""
