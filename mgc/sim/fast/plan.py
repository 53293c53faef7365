"""From a program to a plan: instructions in order, as large a part as possible in ONNX graphs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from mgc.isa.instruction import Instruction
from mgc.isa.instructions import Diff, Host, Load, Move, Mvm, MvmT, Outer, Store, Update, Vec, WriteCells
from mgc.isa.program import Program
from mgc.sim.fast import data, diff, moves, outer, reads, updates, vec
from mgc.sim.fast.builder import Plan, PlanBuilder

LOWERINGS: Mapping[type[Instruction], Callable[[PlanBuilder, Any], None]] = {
    WriteCells: data.lower_write_cells,
    Load: data.lower_load,
    Store: data.lower_store,
    Host: data.lower_host,
    Mvm: reads.lower_read,
    MvmT: reads.lower_read,
    Outer: outer.lower_outer,
    Update: updates.lower_update,
    Diff: diff.lower_diff,
    Vec: vec.lower_vec,
    Move: moves.lower_move,
}
"""Instruction class -> what makes items of it. An instruction of no such class runs as the reference runs it."""


def build(
    program: Program, ideal: bool, persistent: Mapping[int, np.ndarray], lossy: frozenset[int] = frozenset()
) -> Plan:
    """The plan of a verified program for `quantized` or (`ideal`) `float` numerics; see `PlanBuilder`.

    Instructions take effect in the order of their ids, which is a topological order: what timing and units add does not
    change values.
    """
    builder = PlanBuilder(program, ideal, persistent, lossy)
    for instruction in program.instructions:
        lower = LOWERINGS.get(type(instruction))
        if lower is None:
            builder.as_reference([instruction], f"{instruction.mnemonic} has no graph form")
        else:
            lower(builder, instruction)
    return builder.finish()
