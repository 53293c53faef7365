"""Functions of two operands that broadcast: one entry a function.

In a derivative rule `k` is the graph that is built, y = fn(p, q), dy its cotangent; both operands' cotangents come in
the result's shape, before they are summed over what was broadcast. max and min share a tie half and half (as
torch.maximum does; torch.clamp would pass all of it); prelu takes the left side at 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from mgc.functions.algebra import Algebra
from mgc.functions.dtypes import is_float, is_integer
from mgc.functions.onnx_form import OnnxForm

Array = np.ndarray
Rule = Callable[[Any, Any, Any, Any, Any], tuple[Any, Any]]


@dataclass(frozen=True)
class BinaryFunction:
    """One function of two operands.

    code: its number in a VEC step. `meaning(a, b)` in NumPy; `in_double`: an instruction computes it in float64 and
    rounds once (the meaning itself has the operands' precision). domain: the element types it takes; to_bool: the
    result is bool. cost: class of the target's `[vector.op_ns]`. vjp: its derivative. nonnegative: whether the result
    is >= 0 given whether each operand is.
    """

    code: int
    name: str
    doc: str
    meaning: Callable[[Array, Array], Array]
    onnx: OnnxForm
    vjp: Rule
    cost: str = "simple"
    domain: str = "number"
    to_bool: bool = False
    nonnegative: Callable[[bool, bool], bool] = lambda a, b: False
    in_double: bool = False

    def precise(self, a: Array, b: Array) -> Array:
        """As instructions compute it, in a's type."""
        if self.in_double and (is_float(a.dtype) or is_float(b.dtype)):
            wide = self.meaning(np.array(a, np.float64, order="C"), np.array(b, np.float64, order="C"))
            return wide.astype(a.dtype)
        return np.asarray(self.meaning(a, b), np.bool_ if self.to_bool else a.dtype)


def _div(x: Array, y: Array) -> Array:
    if not is_integer(x.dtype):
        return x / y
    quotient = x // y  # rounds down; ONNX's rounds toward zero
    return (quotient + ((quotient < 0) & (quotient * y != x))).astype(x.dtype)


def _pow(x: Array, y: Array) -> Array:
    if not is_integer(x.dtype):
        return np.power(x, y.astype(x.dtype) if is_float(y.dtype) else y).astype(x.dtype)
    if is_float(y.dtype):
        return np.power(x.astype(np.float64), y).astype(x.dtype)
    exact = np.power(x, np.maximum(y, 0))
    return np.where(y >= 0, exact, np.power(x.astype(np.float64), y).astype(x.dtype)).astype(x.dtype)


def _extreme(of: Callable[[Array, Array], Array]) -> Callable[[Array, Array], Array]:
    """np.maximum or np.minimum; which of two zeros these pick depends on the processor."""
    return lambda a, b: np.where((a == 0) & (b == 0), a.dtype.type(0), of(a, b)) if is_float(a.dtype) else of(a, b)


def _vjp_mul(k: Algebra, p: Any, q: Any, y: Any, dy: Any) -> tuple[Any, Any]:
    """dy q, dy p; a square's two terms are one."""
    if p is q:
        return k.mul(k.mul(dy, p), 2.0), None
    return k.mul(dy, q), k.mul(dy, p)


def _vjp_div(k: Algebra, p: Any, q: Any, y: Any, dy: Any) -> tuple[Any, Any]:
    """dy / q, -dy y / q."""
    dp = k.div(dy, q)
    return dp, k.neg(k.mul(dp, y))


def _vjp_pow(k: Any, p: Any, q: Any, y: Any, dy: Any) -> tuple[Any, Any]:
    """dy q p^(q-1) (0 where q is 0), dy y log(p) (0 where p is 0)."""
    exponent = k.data(q)
    if exponent is not None and exponent.size == 1:
        return _vjp_power(k, p, dy, float(exponent.reshape(()))), None
    one = k.number(1.0 if q.tensor.dtype.is_float else 1, q)
    factor = k.mul(k.cast(q, p.tensor.dtype), k.binary("pow", p, k.binary("sub", q, one)))
    dp = k.where(k.binary("equal", q, k.number(0, q)), k.full(0.0, y), k.mul(dy, factor))
    if not q.tensor.dtype.is_float:
        return dp, None
    zero = k.binary("equal", p, 0.0)
    logarithm = k.unary("log", k.where(zero, k.number(1.0, p), p))
    dq = k.where(zero, k.full(0.0, y), k.mul(dy, k.mul(y, k.cast(logarithm, y.tensor.dtype))))
    return dp, k.cast(dq, q.tensor.dtype)


def _vjp_power(k: Algebra, p: Any, dy: Any, c: float) -> Any:
    """The derivative of p^c for a constant c."""
    if c == 0:
        return None
    if c == 1:
        return dy
    return k.mul(dy, k.mul(p if c == 2 else k.binary("pow", p, c - 1), c))


def _vjp_extremum(fn: str, other: str) -> Rule:
    def rule(k: Algebra, p: Any, q: Any, y: Any, dy: Any) -> tuple[Any, Any]:
        half = k.where(k.binary("equal", p, q), k.mul(dy, 0.5), 0.0)
        return k.where(k.binary(fn, p, q), dy, half), k.where(k.binary(other, p, q), dy, half)

    return rule


def _vjp_remainder(k: Algebra, p: Any, q: Any, y: Any, dy: Any) -> tuple[Any, Any]:
    """p - q n with n an integer: dy, -n dy."""
    return dy, k.mul(dy, k.div(k.sub(y, p), q))


def _vjp_prelu(k: Algebra, p: Any, q: Any, y: Any, dy: Any) -> tuple[Any, Any]:
    """dy where p > 0, q dy elsewhere; for the slope p dy where p <= 0."""
    positive = k.binary("greater", p, 0.0)
    return k.where(positive, dy, k.mul(dy, q)), k.where(positive, k.full(0.0, y), k.mul(dy, p))


def _no_slope(k: Algebra, p: Any, q: Any, y: Any, dy: Any) -> tuple[None, None]:
    """Comparisons and logic."""
    return None, None


def _both(a: bool, b: bool) -> bool:
    return a and b


def _first(a: bool, b: bool) -> bool:
    return a


def _truth(code: int, name: str, doc: str, meaning: Callable[[Array, Array], Array], onnx: str, domain: str = "number"
           ) -> BinaryFunction:  # fmt: skip
    return BinaryFunction(code, name, doc, meaning, OnnxForm(onnx), _no_slope, "simple", domain, to_bool=True)


BINARY: dict[str, BinaryFunction] = {f.name: f for f in (
    BinaryFunction(64, "add", "a + b", np.add, OnnxForm("Add"), lambda k, p, q, y, dy: (dy, dy), nonnegative=_both),
    BinaryFunction(65, "sub", "a - b", np.subtract, OnnxForm("Sub"), lambda k, p, q, y, dy: (dy, k.neg(dy))),
    BinaryFunction(66, "mul", "a * b", np.multiply, OnnxForm("Mul"), _vjp_mul, "multiply", nonnegative=_both),
    BinaryFunction(67, "div", "a / b; of integers, rounded toward zero (0 where b is 0)", _div, OnnxForm("Div"),
                   _vjp_div, "divide", nonnegative=_both),
    BinaryFunction(68, "pow", "a^b, the exponent of any number type; with a float operand in float64, rounded once",
                   _pow, OnnxForm("Pow"), _vjp_pow, "table", nonnegative=_first, in_double=True),
    BinaryFunction(69, "max", "the greater; NaN if either is; +0 of two zeros", _extreme(np.maximum), OnnxForm("Max"),
                   _vjp_extremum("greater", "less"), nonnegative=lambda a, b: a or b),
    BinaryFunction(70, "min", "the smaller; NaN if either is; +0 of two zeros", _extreme(np.minimum), OnnxForm("Min"),
                   _vjp_extremum("less", "greater"), nonnegative=_both),
    BinaryFunction(71, "mod", "remainder with the sign of b", np.mod, OnnxForm("Mod"), _vjp_remainder, "divide",
                   nonnegative=_both),
    BinaryFunction(72, "fmod", "remainder with the sign of a", np.fmod, OnnxForm("Mod", {"fmod": 1}), _vjp_remainder,
                   "divide", nonnegative=_first),
    BinaryFunction(73, "prelu", "a * b if a < 0 else a; b broadcasts to a", lambda x, s: np.where(x < 0, x * s, x),
                   OnnxForm("PRelu"), _vjp_prelu, "multiply", nonnegative=_first),
    _truth(74, "equal", "a = b", np.equal, "Equal", "any"),
    _truth(75, "less", "a < b", np.less, "Less"),
    _truth(76, "less_or_equal", "a <= b", np.less_equal, "LessOrEqual"),
    _truth(77, "greater", "a > b", np.greater, "Greater"),
    _truth(78, "greater_or_equal", "a >= b", np.greater_equal, "GreaterOrEqual"),
    _truth(79, "and", "a and b", np.logical_and, "And", "bool"),
    _truth(80, "or", "a or b", np.logical_or, "Or", "bool"),
    _truth(81, "xor", "one of a and b", np.logical_xor, "Xor", "bool"),
)}  # fmt: skip
"""Functions of two operands by name; codes 64 to 95."""
