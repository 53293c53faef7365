"""How much of a program the ADCs compute without loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

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
    signed = _reads(program, Mvm)
    exact = columns = 0
    for group in program.groups:
        held = _weights(program, group.id, weights)
        signs = sorted(signed.get(group.id, {False}))
        found = [exact_columns_of(held, group.arithmetic, s) for s in signs]
        if cells is not None:
            found = [f & cells(group.id, held, s, False) for f, s in zip(found, signs, strict=True)]
        exact += sum(int(f.sum()) for f in found)
        columns += sum(f.size for f in found)
    return exact / columns if columns else 1.0


def exact_rows(program: Program, weights: Weights | None = None, cells: Cells | None = None) -> float:
    """The fraction of logical rows that transposed reads are proven to compute exactly; 1.0 with no such read."""
    exact = rows = 0
    for index, signs in _reads(program, MvmT).items():
        group = program.groups[index]
        held = _weights(program, index, weights)
        found = [transposed_exact_rows(held, group.arithmetic, s) for s in sorted(signs)]
        if cells is not None:
            found = [f & cells(index, held, s, True) for f, s in zip(found, sorted(signs), strict=True)]
        exact += sum(int(f.sum()) for f in found)
        rows += sum(f.size for f in found)
    return exact / rows if rows else 1.0


def _reads(program: Program, cls: type[Mvm] | type[MvmT]) -> dict[int, set[bool]]:
    """Group -> whether its codes are signed, by the instructions of a class."""
    signed: dict[int, set[bool]] = {}
    for i in program.instructions:
        if isinstance(i, cls):
            signed.setdefault(i.group, set()).add(i.signed)
    return signed


def _weights(program: Program, group: int, weights: Weights | None) -> np.ndarray:
    if weights is not None and group in weights:
        return weights[group]
    return program.tensors[program.groups[group].weights]
