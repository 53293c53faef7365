"""Functions of two operands that broadcast, and the choice between two."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from mgc.isa.dtypes import is_float, is_integer
from mgc.isa.functions.base import (
    Array,
    Attributes,
    CostClass,
    Operand,
    VecFunction,
    broadcast,
    in_domain,
    require,
    same_dtype,
)


def _div(x: Array, y: Array) -> Array:
    if not is_integer(x.dtype):
        return x / y
    quotient = x // y  # rounds down; ONNX's rounds toward zero
    return (quotient + ((quotient < 0) & (quotient * y != x))).astype(x.dtype)


def _pow(x: Array, y: Array) -> Array:
    if is_float(x.dtype) or is_float(y.dtype):
        wide = np.power(np.array(x, np.float64, order="C"), np.array(y, np.float64, order="C"))
        return wide.astype(x.dtype)
    exact = np.power(x, np.maximum(y, 0))
    return np.where(y >= 0, exact, np.power(x.astype(np.float64), y).astype(x.dtype))


def _function(
    code: int,
    name: str,
    doc: str,
    meaning: Callable[[Array, Array], Array],
    cost: CostClass = "simple",
    domain: str = "number",
    to_bool: bool = False,
) -> VecFunction:
    def run(args: Sequence[Array], attributes: Attributes, ideal: bool) -> Array:
        x, y = args
        if name != "pow" and x.dtype != y.dtype:  # a code buffer in `float` numerics against a constant
            x, y = np.asarray(x, np.result_type(x, y)), np.asarray(y, np.result_type(x, y))
        return np.asarray(meaning(x, y), np.bool_ if to_bool else x.dtype)

    def infer(args: Sequence[Operand], attributes: Attributes) -> Operand:
        x, y = args
        if name != "pow":
            same_dtype(args)
        for operand in args:
            require(in_domain(operand.dtype, domain), f"{name} of {operand}: {domain} elements are expected")
        shape = broadcast([x.shape, y.shape])
        require(name != "prelu" or shape == x.shape, f"prelu: slope {y} does not broadcast to {x}")
        return Operand(np.dtype(np.bool_) if to_bool else x.dtype, shape)

    return VecFunction(code, name, ("a", "b"), (), cost, doc, run, infer)


def _where(args: Sequence[Array], attributes: Attributes, ideal: bool) -> Array:
    return np.where(*args)


def _infer_where(args: Sequence[Operand], attributes: Attributes) -> Operand:
    condition, a, b = args
    require(condition.dtype == np.bool_, f"where: the condition is {condition}, bool is expected")
    return Operand(same_dtype([a, b]), broadcast([condition.shape, a.shape, b.shape]))


BINARY: tuple[VecFunction, ...] = (
    _function(64, "add", "a + b", np.add),
    _function(65, "sub", "a - b", np.subtract),
    _function(66, "mul", "a * b", np.multiply, "multiply"),
    _function(67, "div", "a / b; of integers, rounded toward zero (0 where b is 0)", _div, "divide"),
    _function(68, "pow", "a^b, the exponent of any number type; with a float operand in float64, rounded once", _pow,
              "table"),
    _function(69, "max", "the greater; NaN if either is", np.maximum),
    _function(70, "min", "the smaller; NaN if either is", np.minimum),
    _function(71, "mod", "remainder with the sign of b", np.mod, "divide"),
    _function(72, "fmod", "remainder with the sign of a", np.fmod, "divide"),
    _function(73, "prelu", "a * b if a < 0 else a; b broadcasts to a", lambda x, s: np.where(x < 0, x * s, x),
              "multiply"),
    _function(74, "equal", "a = b", np.equal, domain="any", to_bool=True),
    _function(75, "less", "a < b", np.less, to_bool=True),
    _function(76, "less_or_equal", "a <= b", np.less_equal, to_bool=True),
    _function(77, "greater", "a > b", np.greater, to_bool=True),
    _function(78, "greater_or_equal", "a >= b", np.greater_equal, to_bool=True),
    _function(79, "and", "a and b", np.logical_and, domain="bool", to_bool=True),
    _function(80, "or", "a or b", np.logical_or, domain="bool", to_bool=True),
    _function(81, "xor", "one of a and b", np.logical_xor, domain="bool", to_bool=True),
    VecFunction(96, "where", ("condition", "a", "b"), (), "simple", "a where the condition holds, else b", _where,
                _infer_where),
)  # fmt: skip
"""Functions of two operands, codes 64 to 95, and `where`."""
