"""From a program to a plan: instructions in order, as large a part as possible in ONNX graphs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from mgc.isa.instruction import Instruction
from mgc.isa.instructions import Diff, Load, Move, Mvm, MvmT, Outer, Rewrite, Store, Update, Vec, WriteCells
from mgc.isa.program import Program
from mgc.sim.fast import diff, moves, outer, reads, updates, vec
from mgc.sim.fast.builder import Plan, PlanBuilder
from mgc.sim.fast.graph import NotLoweredError
from mgc.sim.fast.items import LoadItem, StoreItem
from mgc.sim.fast.lossless import GroupRead


def _lower_load(builder: PlanBuilder, load: Load) -> None:
    """A slot for what comes in."""
    port, buffer = builder.program.inputs[load.port], builder.program.buffers[load.dst]
    opaque = buffer.kind == "opaque"
    dtype = np.dtype(object) if opaque else builder.dtype(load.dst)
    slot = builder.slot(buffer.shape, dtype, port.batched and not opaque, opaque)
    builder.loads.append(LoadItem(port.name, slot))
    builder.hold(load.dst, slot.id)


def _lower_store(builder: PlanBuilder, store: Store) -> None:
    """What goes out."""
    builder.stores.append(StoreItem(store.port, builder.content_of(store.src)))


LOWERINGS: Mapping[type[Instruction], Callable[[PlanBuilder, Any], None]] = {
    WriteCells: lambda builder, write: None,  # plans hold weights, not cells
    Rewrite: lambda builder, rewrite: None,
    Load: _lower_load,
    Store: _lower_store,
    Mvm: reads.lower_read,
    MvmT: reads.lower_read,
    Outer: outer.lower_outer,
    Update: updates.lower_update,
    Diff: diff.lower_diff,
    Vec: vec.lower_vec,
    Move: moves.lower_move,
}
"""Instruction class -> what makes items of it, or raises NotLoweredError.

Such an instruction, and one of no such class, runs as the reference runs it.
"""


def build(
    program: Program,
    ideal: bool,
    persistent: Mapping[int, np.ndarray],
    lossy: frozenset[GroupRead] = frozenset(),
    numbers: bool = False,
) -> Plan:
    """The plan of a verified program for `quantized` or (`ideal`) `float` numerics; see `PlanBuilder`.

    Instructions take effect in the order of their ids, which is a topological order: what timing and units add does not
    change values.
    """
    builder = PlanBuilder(program, ideal, persistent, lossy, numbers)
    for instruction in program.instructions:
        lower = LOWERINGS.get(type(instruction))
        try:
            if lower is None:
                raise NotLoweredError(f"{instruction.mnemonic} has no graph form")
            lower(builder, instruction)
        except NotLoweredError as error:
            builder.as_reference([instruction], str(error))
    return builder.finish()
