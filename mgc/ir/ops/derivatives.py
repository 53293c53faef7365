"""Derivative rules of the element-wise functions, as ops: what the tables in `functions` refer to.

A unary rule gives the operand's cotangent from x, y = fn(x), the result's cotangent dy and the function's two
attributes; None where the derivative is zero everywhere. A binary rule gives both operands' cotangents in the
result's shape, before they are summed over what was broadcast.

Where a function has no derivative the rules take what PyTorch takes: relu'(0) = 0, abs'(0) = sign(0) = 0,
sqrt'(0) = 0 (as its norm has it); leaky_relu, prelu and elu take the left side at 0; hard_sigmoid is flat at its
corners; max and min share a tie half and half (as torch.maximum does; torch.clamp would pass all of it). Rules are in
terms of the result where that saves keeping the operand and is as exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mgc.ir.build import Build
    from mgc.ir.graph import Value

UnaryRule = Callable[["Build", "Value", "Value", "Value", float, float], "Value | None"]
BinaryRule = Callable[["Build", "Value", "Value", "Value", "Value"], "tuple[Value | None, Value | None]"]


def by_slope(slope: Callable[[Build, Value, Value, float, float], Value]) -> UnaryRule:
    """The rule dy * slope(x, y)."""
    return lambda g, x, y, dy, a, b: g.mul(dy, slope(g, x, y, a, b))


def flat(g: Build, x: Value, y: Value, dy: Value, a: float, b: float) -> None:
    """Piecewise constant: the derivative is zero."""


def neg(g: Build, x: Value, y: Value, dy: Value, a: float, b: float) -> Value:
    """-dy."""
    return g.neg(dy)


def log(g: Build, x: Value, y: Value, dy: Value, a: float, b: float) -> Value:
    """dy / x."""
    return g.div(dy, x)


def sqrt(g: Build, x: Value, y: Value, dy: Value, a: float, b: float) -> Value:
    """dy / 2y, 0 where y is 0: PyTorch's norm has that derivative there, its sqrt an infinite one."""
    positive = g.binary("greater", y, 0.0)
    return g.where(positive, g.div(dy, g.mul(g.where(positive, y, 1.0), 2.0)), 0.0)


def reciprocal(g: Build, x: Value, y: Value, dy: Value, a: float, b: float) -> Value:
    """-dy y^2."""
    return g.neg(g.mul(dy, g.mul(y, y)))


def relu(g: Build, x: Value, y: Value, dy: Value, a: float, b: float) -> Value:
    """dy where y > 0. A choice, not a product: an infinite dy behind a closed relu is 0."""
    return g.where(g.binary("greater", y, 0.0), dy, 0.0)


def leaky_relu(g: Build, x: Value, y: Value, dy: Value, a: float, b: float) -> Value:
    """dy where x > 0, a dy elsewhere."""
    # y has the sign of x if the slope is positive
    return g.where(g.binary("greater", y if a > 0 else x, 0.0), dy, g.mul(dy, a))


def _exp_of_negative(g: Build, x: Value, scale: float = 1.0) -> Value:
    """exp(x / scale) for x < 0, 1 elsewhere: never an overflow in the branch that is not taken."""
    return g.unary("exp", g.mul(g.binary("min", x, 0.0), 1 / scale))


def elu(g: Build, x: Value, y: Value, dy: Value, a: float, b: float) -> Value:
    """dy where x > 0, a exp(x) dy elsewhere."""
    return g.where(g.binary("greater", x, 0.0), dy, g.mul(dy, g.mul(_exp_of_negative(g, x), a)))


def selu(g: Build, x: Value, y: Value, dy: Value, a: float, b: float) -> Value:
    """b times elu's."""
    return elu(g, x, y, g.mul(dy, b), a, b)


def celu(g: Build, x: Value, y: Value, dy: Value, a: float, b: float) -> Value:
    """dy where x > 0, exp(x / a) dy elsewhere."""
    return g.where(g.binary("greater", x, 0.0), dy, g.mul(dy, _exp_of_negative(g, x, a)))


def sigmoid_slope(g: Build, x: Value, y: Value, a: float, b: float) -> Value:
    """y (1 - y)."""
    return g.mul(y, g.sub(g.number(1.0, y), y))


def one_less_square(g: Build, x: Value, y: Value, a: float, b: float) -> Value:
    """1 - y^2: tanh's slope."""
    return g.sub(g.number(1.0, y), g.mul(y, y))


def softsign_slope(g: Build, x: Value, y: Value, a: float, b: float) -> Value:
    """1 / (1 + |x|)^2."""
    r = g.unary("reciprocal", g.add(g.unary("abs", x), 1.0))
    return g.mul(r, r)


def gaussian(g: Build, x: Value, rate: float, height: float) -> Value:
    """height exp(-rate x^2)."""
    return g.mul(g.unary("exp", g.mul(g.mul(x, x), -rate)), height)


def gelu_slope(g: Build, x: Value, y: Value, a: float, b: float) -> Value:
    """Phi(x) + x phi(x)."""
    phi = g.add(g.mul(g.unary("erf", g.mul(x, math.sqrt(0.5))), 0.5), 0.5)
    return g.add(phi, g.mul(x, gaussian(g, x, 0.5, 1 / math.sqrt(2 * math.pi))))


def gelu_tanh_slope(g: Build, x: Value, y: Value, a: float, b: float) -> Value:
    """(1 + t)/2 + x (1 - t^2) u' / 2 with t = tanh(u), u = sqrt(2/pi) (x + 0.044715 x^3)."""
    rate, cubic = math.sqrt(2 / math.pi), 0.044715
    square = g.mul(x, x)
    t = g.unary("tanh", g.mul(g.mul(x, g.add(g.mul(square, cubic), 1.0)), rate))
    inner = g.mul(g.add(g.mul(square, 3 * cubic), 1.0), 0.5 * rate)
    return g.add(g.add(g.mul(t, 0.5), 0.5), g.mul(g.mul(x, inner), one_less_square(g, x, t, a, b)))


def hard_sigmoid(g: Build, x: Value, y: Value, dy: Value, a: float, b: float) -> Value:
    """a dy strictly between the corners."""
    inside = g.binary("and", g.binary("greater", y, 0.0), g.binary("less", y, 1.0))
    return g.where(inside, g.mul(dy, a), 0.0)


def hard_swish(g: Build, x: Value, y: Value, dy: Value, a: float, b: float) -> Value:
    """0 up to -3, x/3 + 1/2 up to 3, then 1."""
    middle = g.mul(dy, g.add(g.mul(x, 1 / 3), 0.5))
    above = g.where(g.binary("less", x, 3.0), middle, dy)
    return g.where(g.binary("greater", x, -3.0), above, 0.0)


def silu_slope(g: Build, x: Value, y: Value, a: float, b: float) -> Value:
    """s + a x s (1 - s) with s = sigmoid(a x)."""
    s = g.unary("sigmoid", g.mul(x, a))
    return g.add(s, g.mul(g.mul(x, a), sigmoid_slope(g, x, s, a, b)))


def mish_slope(g: Build, x: Value, y: Value, a: float, b: float) -> Value:
    """t + x (1 - t^2) sigmoid(x) with t = tanh(softplus(x))."""
    t = g.unary("tanh", g.unary("softplus", x))
    return g.add(t, g.mul(g.mul(x, g.unary("sigmoid", x)), one_less_square(g, x, t, a, b)))


def thresholded_relu(g: Build, x: Value, y: Value, dy: Value, a: float, b: float) -> Value:
    """dy where x > a."""
    return g.where(g.binary("greater", x, a), dy, 0.0)


def inverse_root(square: Callable[[Build, Value], Value], sign: float = 1.0) -> UnaryRule:
    """sign dy / sqrt(square(x)): the inverse trigonometric and hyperbolic functions."""
    return lambda g, x, y, dy, a, b: g.div(g.mul(dy, sign), g.unary("sqrt", square(g, x)))


def one_minus_square(g: Build, x: Value) -> Value:
    """1 - x^2."""
    return g.sub(g.number(1.0, x), g.mul(x, x))


def one_plus_square(g: Build, x: Value) -> Value:
    """1 + x^2."""
    return g.add(g.mul(x, x), 1.0)


def square_minus_one(g: Build, x: Value) -> Value:
    """x^2 - 1."""
    return g.sub(g.mul(x, x), 1.0)


# -- two operands --------------------------------------------------------------------------------------------------


def add(g: Build, p: Value, q: Value, y: Value, dy: Value) -> tuple[Value, Value]:
    """dy, dy."""
    return dy, dy


def sub(g: Build, p: Value, q: Value, y: Value, dy: Value) -> tuple[Value, Value]:
    """dy, -dy."""
    return dy, g.neg(dy)


def mul(g: Build, p: Value, q: Value, y: Value, dy: Value) -> tuple[Value | None, Value | None]:
    """dy q, dy p; a square's two terms are one."""
    if p is q:
        return g.mul(g.mul(dy, p), 2.0), None
    return g.mul(dy, q), g.mul(dy, p)


def div(g: Build, p: Value, q: Value, y: Value, dy: Value) -> tuple[Value, Value]:
    """dy / q, -dy y / q."""
    dp = g.div(dy, q)
    return dp, g.neg(g.mul(dp, y))


def pow_(g: Build, p: Value, q: Value, y: Value, dy: Value) -> tuple[Value | None, Value | None]:
    """dy q p^(q-1) (0 where q is 0), dy y log(p) (0 where p is 0)."""
    exponent = g.data(q)
    if exponent is not None and exponent.size == 1:
        return _power(g, p, y, dy, float(exponent.reshape(()))), None
    one = g.number(1.0 if q.tensor.dtype.is_float else 1, q)
    factor = g.mul(g.cast(q, p.tensor.dtype), g.binary("pow", p, g.binary("sub", q, one)))
    dp = g.where(g.binary("equal", q, g.number(0, q)), g.full(0.0, y), g.mul(dy, factor))
    if not q.tensor.dtype.is_float:
        return dp, None
    zero = g.binary("equal", p, 0.0)
    logarithm = g.unary("log", g.where(zero, g.number(1.0, p), p))
    dq = g.where(zero, g.full(0.0, y), g.mul(dy, g.mul(y, g.cast(logarithm, y.tensor.dtype))))
    return dp, g.cast(dq, q.tensor.dtype)


def _power(g: Build, p: Value, y: Value, dy: Value, c: float) -> Value | None:
    if c == 0:
        return None
    if c == 1:
        return dy
    less = p if c == 2 else g.binary("pow", p, c - 1)
    return g.mul(dy, g.mul(less, c))


def _extremum(fn: str, other: str) -> BinaryRule:
    def rule(g: Build, p: Value, q: Value, y: Value, dy: Value) -> tuple[Value, Value]:
        half = g.where(g.binary("equal", p, q), g.mul(dy, 0.5), 0.0)
        return g.where(g.binary(fn, p, q), dy, half), g.where(g.binary(other, p, q), dy, half)

    return rule


maximum = _extremum("greater", "less")
minimum = _extremum("less", "greater")


def remainder(g: Build, p: Value, q: Value, y: Value, dy: Value) -> tuple[Value, Value]:
    """p - q k with k an integer: dy, -k dy."""
    return dy, g.mul(dy, g.div(g.sub(y, p), q))


def prelu(g: Build, p: Value, q: Value, y: Value, dy: Value) -> tuple[Value, Value]:
    """dy where p > 0, q dy elsewhere; for the slope p dy where p <= 0."""
    positive = g.binary("greater", p, 0.0)
    return g.where(positive, dy, g.mul(dy, q)), g.where(positive, g.full(0.0, y), g.mul(dy, p))


def no_slope(g: Build, p: Value, q: Value, y: Value, dy: Value) -> tuple[None, None]:
    """Comparisons and logic."""
    return None, None
