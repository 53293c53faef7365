"""How much of a program the ADCs compute without loss."""

from __future__ import annotations

from mgc.isa.crossbar import exact_columns as exact_columns_of
from mgc.isa.instructions import Mvm
from mgc.isa.program import Program


def exact_columns(program: Program) -> float:
    """The fraction of logical columns (of all matrices of all groups) proven exact from the weights; 1.0 with none."""
    signed: dict[int, set[bool]] = {}
    for instruction in program.instructions:
        if isinstance(instruction, Mvm):
            signed.setdefault(instruction.group, set()).add(instruction.signed)
    exact = columns = 0
    for group in program.groups:
        weights = program.tensors[group.weights]
        found = [exact_columns_of(weights, group.arithmetic, s) for s in sorted(signed.get(group.id, {False}))]
        exact += sum(int(f.sum()) for f in found)
        columns += sum(f.size for f in found)
    return exact / columns if columns else 1.0
