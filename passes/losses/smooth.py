"""The element-wise functions of level 1 as jets: what `tabulate` can prove a bound for."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from mgc.functions.algebra import Formula
from mgc.functions.unary import UNARY as FUNCTIONS
from mgc.functions.unary import erf as erf_of
from mgc.functions.unary import sigmoid as sigmoid_of
from mgc.functions.unary import softplus as softplus_of
from mgc.passes.losses.interval import Array, Interval
from mgc.passes.losses.jet import (
    Derivatives,
    Jet,
    Truth,
    chosen,
    equal,
    greater,
    greater_or_equal,
    maximum,
    minimum,
    not_below,
)


def _exp(x: Interval) -> Derivatives:
    e = x.increasing(np.exp)
    return e, e, e, e


def _log(x: Interval) -> Derivatives:
    r = x.where_positive(lambda p: p.inverse())
    return x.where_positive(lambda p: p.increasing(np.log)), r, -r.power(2), r.power(3).times(2)


def _sqrt(x: Interval) -> Derivatives:
    root = x.where_positive(lambda p: p.increasing(np.sqrt))
    r = x.where_positive(lambda p: p.inverse())
    first = root * r
    second = first * r
    return root, first.times(0.5), second.times(-0.25), (second * r).times(0.375)


def _reciprocal(x: Interval) -> Derivatives:
    r = x.inverse()
    # r ** 2 and so on would forget that nothing is known where x may be 0
    return r, -(r * r), (r * r * r).times(2), (r * r * r * r).times(-6)


def _bell(size: Array) -> Array:
    e = np.exp(-size)
    return e / ((1 + e) * (1 + e))


def _sigmoid(x: Interval) -> Derivatives:
    s = x.increasing(sigmoid_of).limited(0.0, 1.0)
    first = x.decreasing_in_size(_bell).limited(0.0, 0.25)
    return s, first, first * s.times(-2).plus(1), first * first.times(-6).plus(1)


def _softplus(x: Interval) -> Derivatives:
    value = x.increasing(softplus_of).limited(0.0, np.inf)
    return value, *_sigmoid(x)[:3]


def _tanh(x: Interval) -> Derivatives:
    t = x.increasing(np.tanh).limited(-1.0, 1.0)
    first = x.times(2).decreasing_in_size(_bell).times(4).limited(0.0, 1.0)
    return t, first, (t * first).times(-2), first * first.times(-6).plus(4)


def _waves(x: Interval) -> tuple[Interval, Interval]:
    """sin(x), cos(x)."""

    def wave(phase: float) -> Interval:
        at = x.plus(phase)  # sin(x + phase): extremes at pi/2 + k pi
        with np.errstate(invalid="ignore"):
            ends = Interval.rounded(*np.sort(np.stack([np.sin(at.lo), np.sin(at.hi)]), axis=0))
            top = np.floor((at.hi - math.pi / 2) / (2 * math.pi) + 1e-9) >= (at.lo - math.pi / 2) / (2 * math.pi) - 1e-9
            low = np.floor((at.hi + math.pi / 2) / (2 * math.pi) + 1e-9) >= (at.lo + math.pi / 2) / (2 * math.pi) - 1e-9
        known = np.isfinite(x.lo) & np.isfinite(x.hi)
        lo, hi = np.where(low | ~known, -1.0, ends.lo), np.where(top | ~known, 1.0, ends.hi)
        return Interval(lo, hi).limited(-1.0, 1.0)

    return wave(0.0), wave(math.pi / 2)


def _sin(x: Interval) -> Derivatives:
    s, c = _waves(x)
    return s, c, -s, -c


def _cos(x: Interval) -> Derivatives:
    s, c = _waves(x)
    return c, -s, -c, s


def _erf(x: Interval) -> Derivatives:
    value = Interval(erf_of(x.lo) - 1e-12, erf_of(x.hi) + 1e-12).limited(-1.0, 1.0)  # erf_of is right to 1e-13
    first = x.decreasing_in_size(lambda v: 2 / math.sqrt(math.pi) * np.exp(-v * v))
    return value, first, (x * first).times(-2), x.power(2).times(4).plus(-2) * first


def _atan(x: Interval) -> Derivatives:
    r = x.power(2).plus(1).inverse()
    third = (x.power(2).times(6).plus(-2)) * r * r * r
    return x.increasing(np.arctan), r, (x * r * r).times(-2), third


def exp(x: Jet) -> Jet:
    """e^x."""
    return x.through(_exp)


def log(x: Jet) -> Jet:
    """ln x."""
    return x.through(_log)


def reciprocal(x: Jet) -> Jet:
    """1 / x."""
    return x.through(_reciprocal)


def absolute(x: Jet) -> Jet:
    """|x|."""
    return chosen(not_below(x, number(0.0, x)), x, -x, continuous=True)


def number(value: float, like: Jet) -> Jet:
    """A constant."""
    return Jet.constant(value, like.shape)


def relu(x: Jet) -> Jet:
    """max(x, 0)."""
    return maximum(x, number(0.0, x))


def _negative_part(x: Jet) -> Jet:
    return minimum(x, number(0.0, x))


def elu(x: Jet, alpha: float, rate: float = 1.0) -> Jet:
    """x for x > 0, alpha (e^(x / rate) - 1) elsewhere."""
    return relu(x) + exp(_negative_part(x).times(1 / rate)).plus(-1).times(alpha)


def power(x: Jet, c: float) -> Jet:
    """x ** c for a constant c."""
    if c == int(c) and 0 <= c <= 64:
        n = int(c)

        def derivatives(v: Interval) -> Derivatives:
            zero = Interval.constant(0.0, v.lo.shape)
            orders = [v.power(n - k).times(math.perm(n, k)) if n >= k else zero for k in range(4)]
            return orders[0], orders[1], orders[2], orders[3]

        return x.through(derivatives)
    if c == int(c) and -64 <= c < 0:
        return power(reciprocal(x), -c)
    if c == 0.5:
        return x.through(_sqrt)
    return exp(log(x).times(c))


def _step(x: Jet, at_least: Callable[[Array], Array]) -> Jet:
    """A function that is constant between jumps: known where both ends of a cell have one value."""
    with np.errstate(invalid="ignore"):
        lo, hi = at_least(x.value.lo), at_least(x.value.hi)
    value = Interval(np.where(np.isnan(lo), -np.inf, lo), np.where(np.isnan(hi), np.inf, hi))
    zero, whole = Interval.constant(0.0, x.shape), Interval.whole(x.shape)
    flat = np.broadcast_to((value.width == 0)[:1], x.shape)
    slope = zero.chosen(flat, whole)
    return Jet((value, slope, slope, slope))


COMPARE: dict[str, Callable[[Jet, Jet], Truth]] = {
    "equal": equal,
    "greater": greater,
    "greater_or_equal": greater_or_equal,
    "less": lambda a, b: greater(b, a),
    "less_or_equal": lambda a, b: greater_or_equal(b, a),
}
ARITHMETIC: dict[str, Callable[[Jet, Jet], Jet]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: power(a, 2.0) if a is b else a * b,
    "div": lambda a, b: a * reciprocal(b),
    "max": maximum,
    "min": minimum,
}


class _Jets:
    """The algebra of jets, for formulas of `mgc.functions`."""

    def unary(self, fn: str, x: Jet, alpha: float = 0.0, beta: float = 0.0) -> Jet:
        return UNARY[fn](x, alpha, beta)

    def binary(self, fn: str, a: Jet, b: Jet | float) -> Jet | Truth:
        other = b if isinstance(b, Jet) else number(b, a)
        return COMPARE[fn](a, other) if fn in COMPARE else ARITHMETIC[fn](a, other)

    def where(self, condition: Truth, a: Jet, b: Jet | float) -> Jet:
        return chosen(condition, a, b if isinstance(b, Jet) else number(b, a), continuous=False)

    def number(self, value: float, like: Jet) -> Jet:
        return number(value, like)

    full = number

    def log1p(self, x: Jet) -> Jet:
        return log(x.plus(1.0))

    def neg(self, x: Jet) -> Jet:
        return -x

    def add(self, a: Jet, b: Jet | float) -> Jet:
        return a + b if isinstance(b, Jet) else a.plus(b)

    def sub(self, a: Jet, b: Jet | float) -> Jet:
        return a - b if isinstance(b, Jet) else a.plus(-b)

    def mul(self, a: Jet, b: Jet | float) -> Jet:
        return ARITHMETIC["mul"](a, b) if isinstance(b, Jet) else a.times(b)

    def div(self, a: Jet, b: Jet | float) -> Jet:
        return ARITHMETIC["div"](a, b) if isinstance(b, Jet) else a.times(1 / b)


def _composed(formula: Formula) -> Callable[[Jet, float, float], Jet]:
    jets = _Jets()
    return lambda x, a, b: formula(jets, x, a, b)


UNARY: dict[str, Callable[[Jet, float, float], Jet]] = {
    "neg": lambda x, a, b: -x,
    "abs": lambda x, a, b: absolute(x),
    "exp": lambda x, a, b: exp(x),
    "log": lambda x, a, b: log(x),
    "sqrt": lambda x, a, b: x.through(_sqrt),
    "reciprocal": lambda x, a, b: reciprocal(x),
    "sign": lambda x, a, b: _step(x, np.sign),
    "floor": lambda x, a, b: _step(x, np.floor),
    "ceil": lambda x, a, b: _step(x, np.ceil),
    "round": lambda x, a, b: _step(x, np.rint),
    "relu": lambda x, a, b: relu(x),
    "leaky_relu": lambda x, a, b: relu(x) + _negative_part(x).times(a),
    "elu": lambda x, a, b: elu(x, a),
    "celu": lambda x, a, b: elu(x, a, a),
    "sigmoid": lambda x, a, b: x.through(_sigmoid),
    "tanh": lambda x, a, b: x.through(_tanh),
    "softplus": lambda x, a, b: x.through(_softplus),
    "erf": lambda x, a, b: x.through(_erf),
    "sin": lambda x, a, b: x.through(_sin),
    "cos": lambda x, a, b: x.through(_cos),
    "sinh": lambda x, a, b: (exp(x) - exp(-x)).times(0.5),
    "cosh": lambda x, a, b: (exp(x) + exp(-x)).times(0.5),
    "atan": lambda x, a, b: x.through(_atan),
    **{name: _composed(f.formula) for name, f in FUNCTIONS.items() if f.formula is not None},
}
"""Functions of one operand, by the names of `mgc.functions.unary`; the others have no enclosure."""
