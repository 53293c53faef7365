"""How much of a program the ADCs compute without loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from mgc.isa.crossbar import Arithmetic
from mgc.isa.crossbar import exact_columns as exact_columns_of
from mgc.isa.instructions import Mvm, MvmT
from mgc.isa.program import Program
from mgc.isa.transposed import transposed_exact_rows

Weights = Mapping[int, np.ndarray]
"""Group -> its integer weights, where these are no longer the program's own."""
Cells = Callable[[int, np.ndarray, bool, bool], np.ndarray]
"""(group, weights, signed, transposed) -> which columns, or rows, the cells' own errors leave as they are."""


def exact_columns(program: Program, weights: Weights | None = None, cells: Cells | None = None) -> float:
    """The fraction of logical columns (of all matrices of all groups) proven exact from the weights; 1.0 with none.

    With `cells` also of those errors that `device` numerics adds.
    """
    signed = {group.id: {False} for group in program.groups} | _reads(program, Mvm)
    return _fraction(program, signed, exact_columns_of, weights, cells, False)


def exact_rows(program: Program, weights: Weights | None = None, cells: Cells | None = None) -> float:
    """The fraction of logical rows that transposed reads are proven to compute exactly; 1.0 with no such read."""
    return _fraction(program, _reads(program, MvmT), transposed_exact_rows, weights, cells, True)


def _fraction(
    program: Program,
    signed: Mapping[int, set[bool]],
    exact_lines: Callable[[np.ndarray, Arithmetic, bool], np.ndarray],
    weights: Weights | None,
    cells: Cells | None,
    transposed: bool,
) -> float:
    """The fraction of exact lines of the groups in `signed`, each counted once for every sign of its codes."""
    exact = lines = 0
    for index, signs in signed.items():
        group = program.groups[index]
        held = (weights or {}).get(index)
        held = program.tensors[group.weights] if held is None else held
        for sign in signs:
            found = exact_lines(held, group.arithmetic, sign)
            if cells is not None:
                found = found & cells(index, held, sign, transposed)
            exact += int(found.sum())
            lines += found.size
    return exact / lines if lines else 1.0


def _reads(program: Program, cls: type[Mvm] | type[MvmT]) -> dict[int, set[bool]]:
    """Group -> whether its codes are signed, by the instructions of a class."""
    signed: dict[int, set[bool]] = {}
    for i in program.instructions:
        if isinstance(i, cls):
            signed.setdefault(i.group, set()).add(i.signed)
    return signed
