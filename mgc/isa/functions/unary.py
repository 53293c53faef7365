"""Functions of one operand, element by element."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mgc.functions import unary
from mgc.functions.dtypes import in_domain, is_float
from mgc.functions.unary import UnaryFunction
from mgc.isa.functions.base import Array, Attributes, Operand, VecFunction, require

SINGLE = "in float64, rounded once to the operand's type"


def _function(f: UnaryFunction) -> VecFunction:
    def run(args: Sequence[Array], attributes: Attributes, ideal: bool) -> Array:
        (x,) = args
        if f.domain == "float" and not is_float(x.dtype):
            x = x.astype(np.float32)  # a code buffer that `float` numerics left as it is
        return f.precise(x, *attributes)

    def infer(args: Sequence[Operand], attributes: Attributes) -> Operand:
        (x,) = args
        require(in_domain(x.dtype, f.domain), f"{f.name} of {x}: {f.domain} elements are expected")
        return Operand(np.dtype(np.bool_), x.shape) if f.to_bool else x

    doc = f"{f.doc}; {SINGLE}" if f.smooth else f.doc
    return VecFunction(f.code, f.name, ("x",), ("alpha", "beta"), f.cost, doc, run, infer)


UNARY: tuple[VecFunction, ...] = tuple(map(_function, unary.UNARY.values()))
"""Functions of one operand; codes 1 to 63."""
