"""Rules of what persists: states, their homes, and who changes them."""

from __future__ import annotations

from collections import Counter
from math import prod
from typing import get_args

import numpy as np

from mgc.isa.dataflow import changing
from mgc.isa.error import ProgramError
from mgc.isa.instructions import Update
from mgc.isa.memory import Buffer
from mgc.isa.state import StateKind, StatePiece, StoredState
from mgc.isa.strided import check_box, check_distinct
from mgc.isa.tables import Tables

Home = tuple[int, int]
"""(group, root buffer), -1 for the one that it is not."""


def check_persistent(buffer: Buffer) -> None:
    """Raises ProgramError if a buffer cannot persist."""
    if buffer.persistent and (buffer.kind != "real" or buffer.slots != 1):
        raise ProgramError(
            f"buffer {buffer.id} ({buffer.name}) is persistent, of kind {buffer.kind} with {buffer.slots} slots: "
            "kind real and one slot are expected"
        )


def check_states(program: Tables) -> None:
    """Raises ProgramError for a state or one of its pieces that breaks a rule: names, types, addresses.

    No two states share an element of a home, and together they hold all of every persistent buffer.
    """
    twice = [name for name, n in Counter(s.name for s in program.states).items() if n > 1]
    if twice:
        raise ProgramError(f"state {twice[0]} is there twice")
    held: dict[Home, np.ndarray] = {}
    for state in program.states:
        where = f"state {state.id} ({state.name})"
        if state.kind not in get_args(StateKind):
            raise ProgramError(f"{where} is of kind {state.kind!r}; there are {', '.join(get_args(StateKind))}")
        if state.initial not in program.tensors:
            raise ProgramError(f"{where}: tensor {state.initial} is missing")
        for k, piece in enumerate(state.pieces):
            try:
                _check_piece(program, state, piece, held)
            except ProgramError as error:
                raise ProgramError(f"{where}: piece {k}: {error}") from error
    for buffer in program.buffers:
        if buffer.persistent and buffer.alias_of < 0:
            _check_whole(held.get((-1, buffer.id)), prod(buffer.shape), f"persistent buffer {buffer.name}")


def home_of(program: Tables, piece: StatePiece) -> Home:
    """Where a piece's entries live."""
    return piece.group, program.root(piece.buffer) if piece.buffer >= 0 else -1


def _check_piece(program: Tables, state: StoredState, piece: StatePiece, held: dict[Home, np.ndarray]) -> None:
    if (piece.group < 0) == (piece.buffer < 0) or min(piece.home) != -1:
        raise ProgramError(f"its home is group {piece.group}, buffer {piece.buffer}: one of them is expected")
    if piece.group >= 0:
        if piece.group >= len(program.groups):
            raise ProgramError(f"group {piece.group} does not exist; there are {len(program.groups)}")
        group = program.groups[piece.group]
        size, dtype = group.matrices * group.rows * group.cols, np.dtype(np.float32)
    else:
        value = program.operand(0, piece.buffer)
        if not program.buffers[piece.buffer].persistent:
            raise ProgramError(f"buffer {piece.buffer} is not persistent")
        size, dtype = prod(value.shape), value.dtype
    initial = program.tensors[state.initial]
    if initial.dtype != dtype:
        raise ProgramError(f"its first value is {initial.dtype}, its home holds {dtype}")
    check_box("state", piece.base, piece.extents, piece.strides, initial.size)
    check_box("home", piece.home_base, piece.extents, piece.home_strides, size)
    check_distinct("state", piece.extents, piece.strides)
    check_distinct("home", piece.extents, piece.home_strides)
    if piece.group >= 0:
        real = program.tensors[program.groups[piece.group].real_weights]
        same = real.dtype == dtype and np.array_equal(
            piece.of_home(np.ascontiguousarray(real)), piece.of_state(np.ascontiguousarray(initial)), equal_nan=True
        )
        if not same:
            raise ProgramError(f"its first value is not in the real weights of group {piece.group}")
    hits = held.setdefault(home_of(program, piece), np.zeros(size, np.uint8))
    box = piece.of_home(hits)
    if box.any():
        raise ProgramError("its home holds other entries in the same place")
    box[...] = 1


def _check_whole(hits: np.ndarray | None, size: int, what: str) -> None:
    missing = size if hits is None else size - int(hits.sum(dtype=np.int64))
    if missing:
        raise ProgramError(f"{what}: {missing} of its {size} elements belong to no state, so no checkpoint keeps them")


def check_changes(program: Tables) -> None:
    """Raises ProgramError if what changes from run to run could be lost, or is changed while samples run side by side.

    Every weight of a group that UPDATE writes belongs to a state.
    """
    groups = {i.group for i in program.instructions if isinstance(i, Update) and i.group >= 0}
    for index in sorted(groups):
        group = program.groups[index]
        hits = np.zeros(group.matrices * group.rows * group.cols, np.uint8)
        for piece in (p for s in program.states for p in s.pieces if p.group == index):
            piece.of_home(hits)[...] = 1
        _check_whole(hits, hits.size, f"group {group.name}, which UPDATE writes")
    changes = changing(program)
    if changes and program.entry.batched:
        i = program.instructions[changes[0]]
        raise ProgramError(f"instruction {i.id} ({i.mnemonic}) changes what persists: the program cannot be batched")
