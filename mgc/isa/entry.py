"""Entries: the parts of a program that run on their own, over common crossbars, buffers and states."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from mgc.isa.error import ProgramError
from mgc.isa.instruction import Instruction
from mgc.isa.instructions import BUFFER, Load, Store
from mgc.isa.instructions import Program as WriteCells
from mgc.isa.memory import Port
from mgc.isa.schedule import Schedule

if TYPE_CHECKING:
    from mgc.isa.program import Program

EntryKind = Literal["train", "test"]


@dataclass(frozen=True)
class Entry:
    """Instructions `first` .. `stop` - 1, which run on their own after the PROGRAMs.

    An iteration of training runs the entries of kind "train" in order, each `repeats` times on fresh inputs; one of
    kind "test" is run by itself, once for each micro-batch, and changes nothing. A port that several load or store is
    in a buffer of its own in each of them, the table of ports has it as the first of them has it. Entries follow each
    other, in the instructions and in the planned time: its tasks run from cycle `start` on, `makespan` cycles. `status`
    and `lower_bound` are those of its own schedule, as `split` and `interval` are (see `Schedule`); `micro_batch` and
    `batched` are as in a program.
    """

    id: int
    name: str
    kind: EntryKind
    first: int
    stop: int
    repeats: int
    start: int
    makespan: int
    lower_bound: int
    status: str
    micro_batch: int
    batched: bool
    split: int = 1
    interval: int = 0

    @property
    def period(self) -> int:
        """Cycles from one run of it to the next."""
        return self.interval or self.makespan


def entry_program(program: Program, entry: Entry) -> Program:
    """The program that an entry is with the PROGRAMs: its own instructions and ports, everything else in common.

    Groups, buffers, states and units keep their numbers, so what one entry leaves another one can take over.
    """
    setup = [i for i in program.instructions[: entry.first] if isinstance(i, WriteCells)]
    own = program.instructions[entry.first : entry.stop]
    number = {i.id: k for k, i in enumerate((*setup, *own))}
    ports_in: dict[int, int] = {}
    ports_out: dict[int, int] = {}
    inputs: list[Port] = []
    outputs: list[Port] = []
    instructions: list[Instruction] = []
    for i in (*setup, *own):
        if any(j not in number for j in (*i.after, *i.after_all, *(j for j, _ in i.after_previous))):
            raise ProgramError(f"entry {entry.name}: instruction {i.id} waits for an instruction of another entry")
        after = tuple(number[j] for j in i.after)
        previous = tuple((number[j], lag) for j, lag in i.after_previous)
        every = tuple(number[j] for j in i.after_all)
        moved = replace(i, id=number[i.id], after=after, after_previous=previous, after_all=every)
        if isinstance(moved, Load):
            port = _port(program.inputs, moved.port, f"entry {entry.name}: input")
            if moved.port not in ports_in:
                ports_in[moved.port] = len(inputs)
                inputs.append(_placed(program, entry, port, moved.dst))
            moved = replace(moved, port=ports_in[moved.port])
        elif isinstance(moved, Store):
            port = _port(program.outputs, moved.port, f"entry {entry.name}: output")
            if moved.port not in ports_out:
                ports_out[moved.port] = len(outputs)
                outputs.append(_placed(program, entry, port, moved.src.index if moved.src.space == BUFFER else -1))
            moved = replace(moved, port=ports_out[moved.port])
        instructions.append(moved)
    rows = [i.id for i in (*setup, *own)]
    starts = program.schedule.starts[rows][:, : entry.split]
    starts = np.where(starts >= 0, starts - entry.start, -1)
    return replace(
        program,
        name=f"{program.name}.{entry.name}",
        instructions=tuple(instructions),
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        micro_batch=entry.micro_batch,
        batched=entry.batched,
        schedule=Schedule(
            starts,
            entry.status,
            entry.makespan,
            entry.lower_bound,
            program.schedule.clock_ns,
            entry.split,
            entry.interval,
        ),
        entries=(),
    )


def _placed(program: Program, entry: Entry, port: Port, buffer: int) -> Port:
    """A port as an entry has it: in its own buffer, of that shape."""
    if not 0 <= buffer < len(program.buffers):
        return replace(port, buffer=buffer, batched=False)
    return replace(port, buffer=buffer, shape=program.buffers[buffer].shape, batched=entry.batched)


def _port(ports: tuple[Port, ...], index: int, what: str) -> Port:
    if not 0 <= index < len(ports):
        raise ProgramError(f"{what} {index} does not exist; there are {len(ports)}")
    return ports[index]


def check_entries(program: Program) -> None:
    """Raises ProgramError unless the entries follow each other in instructions and time, and name what exists.

    Their own rules are those of programs.
    """
    names = [e.name for e in program.entries]
    at = sum(isinstance(i, WriteCells) for i in program.instructions)
    time = 0
    if any(not isinstance(i, WriteCells) for i in program.instructions[:at]):
        raise ProgramError("the PROGRAMs of a program with entries come first")
    for entry in program.entries:
        where = f"entry {entry.id} ({entry.name})"
        if names.count(entry.name) > 1:
            raise ProgramError(f"{where} is there twice")
        if entry.kind not in get_args(EntryKind):
            raise ProgramError(f"{where} is of kind {entry.kind!r}; there are {', '.join(get_args(EntryKind))}")
        if entry.first != at or not entry.first <= entry.stop <= len(program.instructions):
            raise ProgramError(f"{where} has instructions {entry.first}..{entry.stop - 1}, from {at} on is expected")
        if entry.start != time or entry.makespan < 0:
            raise ProgramError(f"{where} runs at {entry.start} for {entry.makespan} cycles, from {time} on is expected")
        if entry.repeats < 1 or entry.micro_batch < 1 or entry.split < 1:
            raise ProgramError(f"{where}: repeats, micro_batch and split must be at least 1")
        at, time = entry.stop, entry.start + entry.makespan
    if at != len(program.instructions):
        raise ProgramError(f"instructions {at}..{len(program.instructions) - 1} belong to no entry")
    if program.schedule.makespan != time or program.micro_batches != 1:
        raise ProgramError(
            f"schedule: the makespan is {program.schedule.makespan} of {program.micro_batches} micro-batches, "
            f"{time} of 1 is expected"
        )
