"""The functions of the vector unit: the steps of a VEC kernel.

Arithmetic: floats are rounded once an operation, to the operand's own type (float32 on the chip); integers keep their
type and wrap. A function whose text says so is computed in float64 and rounded once. A zero has the sign that IEEE 754
gives it; of several zeros an extreme (`max`, `min`, of windows, over axes) is +0.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mgc.functions.pool import PoolWindows
from mgc.isa.error import ProgramError
from mgc.isa.functions.base import Array, Attributes, Operand, VecFunction, windows_of
from mgc.isa.functions.binary import BINARY
from mgc.isa.functions.gradients import GRADIENTS
from mgc.isa.functions.quantised import QUANTISED
from mgc.isa.functions.random import RANDOM
from mgc.isa.functions.reduce import REDUCE
from mgc.isa.functions.tensor import TENSOR, cast
from mgc.isa.functions.unary import UNARY

FUNCTIONS: dict[int, VecFunction] = {
    f.code: f for f in (*UNARY, *BINARY, *TENSOR, *RANDOM, *REDUCE, *GRADIENTS, *QUANTISED)
}
"""Code -> function."""

BY_NAME: dict[str, VecFunction] = {f.name: f for f in FUNCTIONS.values()}
"""Name -> function."""


def function_code(name: str) -> int:
    """The code of a function. Raises ProgramError for an unknown name."""
    if name not in BY_NAME:
        raise ProgramError(f"vector function {name!r} is unknown; there are {', '.join(BY_NAME)}")
    return BY_NAME[name].code


def function(code: int) -> VecFunction:
    """The function of a code. Raises ProgramError for an unknown code."""
    if code not in FUNCTIONS:
        raise ProgramError(f"vector function code {code} is unknown")
    return FUNCTIONS[code]


def infer(code: int, args: Sequence[Operand], attributes: Attributes) -> Operand:
    """Element type and shape of a step's result in `quantized` numerics. Raises ProgramError."""
    f = function(code)
    if len(args) != len(f.args):
        raise ProgramError(f"{f.name} takes {len(f.args)} operands ({', '.join(f.args)}), not {len(args)}")
    fixed = sum(not a.endswith("...") for a in f.attributes)
    if len(attributes) < fixed or (len(attributes) > fixed and fixed == len(f.attributes)):
        raise ProgramError(f"{f.name} takes attributes ({', '.join(f.attributes)}), not {len(attributes)} values")
    return f.infer(args, attributes)


def evaluate(code: int, args: Sequence[Array], attributes: Attributes, ideal: bool = False) -> Array:
    """One step's result; `ideal` in `float` numerics. Operands as `infer` accepts them. Raises ExecutionError."""
    with np.errstate(all="ignore"):
        return FUNCTIONS[code].meaning(args, attributes, ideal)


__all__ = [
    "BY_NAME",
    "FUNCTIONS",
    "Array",
    "Attributes",
    "Operand",
    "PoolWindows",
    "VecFunction",
    "cast",
    "evaluate",
    "function",
    "function_code",
    "infer",
    "windows_of",
]
