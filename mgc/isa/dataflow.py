"""Who writes what before whom: single writers, no read before its write has ended."""

from __future__ import annotations

import numpy as np

from mgc.isa.error import ProgramError
from mgc.isa.instructions import Mvm
from mgc.isa.program import Program
from mgc.isa.strided import strided_view


def writers_of(program: Program) -> dict[int, list[int]]:
    """Root buffer -> ids of the instructions that write it, ascending."""
    writers: dict[int, list[int]] = {}
    for i in program.instructions:
        for root in dict.fromkeys(program.root(b) for b in i.writes()):
            writers.setdefault(root, []).append(i.id)
    return writers


def ancestors(program: Program) -> list[int]:
    """For each instruction a bit set of those that `after` makes it wait for, directly or not."""
    sets: list[int] = []
    for i in program.instructions:
        bits = 0
        for j in i.after:
            bits |= sets[j] | 1 << j
        sets.append(bits)
    return sets


def check_dataflow(program: Program) -> None:
    """Raises ProgramError unless every buffer is written by one instruction, or by MVMs in disjoint places, and every
    reader waits for all of them.
    """
    writers = writers_of(program)
    for root, ids in writers.items():
        writes = [b for k in ids for b in program.instructions[k].writes() if program.root(b) == root]
        if len(writes) > 1:
            _check_disjoint(program, root, ids, len(writes))
    before = ancestors(program)
    for i in program.instructions:
        written = {program.root(b) for b in i.writes()}
        for b in i.reads():
            root = program.root(b)
            if root in written:
                raise ProgramError(f"instruction {i.id} ({i.mnemonic}) reads and writes buffer {b}")
            late = [k for k in writers.get(root, []) if not before[i.id] >> k & 1]
            if late:
                raise ProgramError(
                    f"instruction {i.id} ({i.mnemonic}) reads buffer {b} ({program.buffers[b].name}) without waiting "
                    f"for instruction {late[0]}, which writes it"
                )
            if root not in writers:
                name = program.buffers[b].name
                raise ProgramError(f"instruction {i.id} ({i.mnemonic}) reads buffer {b} ({name}), which nothing writes")


def _check_disjoint(program: Program, root: int, ids: list[int], writes: int) -> None:
    buffer = program.buffers[root]
    mvms = [i for i in (program.instructions[k] for k in ids) if isinstance(i, Mvm)]
    if len(mvms) != writes:
        raise ProgramError(f"buffer {root} ({buffer.name}) is written by instructions {ids}: one is expected")
    hits = np.zeros(buffer.shape, np.uint8)
    for i in mvms:
        view = strided_view(hits, 0, i.dst_shape, i.dst_strides)[(slice(None), slice(None), *i.out_slices)]
        if view.any():
            raise ProgramError(f"instruction {i.id} (mvm) writes where an earlier one wrote buffer {buffer.name}")
        view[...] = 1
