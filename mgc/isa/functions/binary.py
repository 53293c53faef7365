"""Functions of two operands that broadcast, and the choice between two."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mgc.functions import binary
from mgc.functions.binary import BinaryFunction
from mgc.functions.dtypes import in_domain
from mgc.isa.functions.base import Array, Attributes, Operand, VecFunction, broadcast, require, same_dtype


def _function(f: BinaryFunction) -> VecFunction:
    def run(args: Sequence[Array], attributes: Attributes, ideal: bool) -> Array:
        x, y = args
        if f.name != "pow" and x.dtype != y.dtype:  # a code buffer in `float` numerics against a constant
            x, y = np.asarray(x, np.result_type(x, y)), np.asarray(y, np.result_type(x, y))
        return f.precise(x, y)

    def infer(args: Sequence[Operand], attributes: Attributes) -> Operand:
        x, y = args
        if f.name != "pow":
            same_dtype(args)
        for operand in args:
            require(in_domain(operand.dtype, f.domain), f"{f.name} of {operand}: {f.domain} elements are expected")
        shape = broadcast([x.shape, y.shape])
        require(f.name != "prelu" or shape == x.shape, f"prelu: slope {y} does not broadcast to {x}")
        return Operand(np.dtype(np.bool_) if f.to_bool else x.dtype, shape)

    return VecFunction(f.code, f.name, ("a", "b"), (), f.cost, f.doc, run, infer)


def _where(args: Sequence[Array], attributes: Attributes, ideal: bool) -> Array:
    return np.where(*args)


def _infer_where(args: Sequence[Operand], attributes: Attributes) -> Operand:
    condition, a, b = args
    require(condition.dtype == np.bool_, f"where: the condition is {condition}, bool is expected")
    return Operand(same_dtype([a, b]), broadcast([condition.shape, a.shape, b.shape]))


BINARY: tuple[VecFunction, ...] = (
    *map(_function, binary.BINARY.values()),
    VecFunction(96, "where", ("condition", "a", "b"), (), "simple", "a where the condition holds, else b", _where,
                _infer_where),
)  # fmt: skip
"""Functions of two operands, codes 64 to 95, and `where`."""
