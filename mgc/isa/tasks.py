"""Tasks: what the instructions are in time, and which of them wait for which."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mgc.isa.entry import Entry
from mgc.isa.instruction import Instruction
from mgc.isa.tables import Tables

Task = tuple[int, int]
"""(instruction, number): the number is the micro-batch, or the part of the batch where the schedule splits a run."""


@dataclass(frozen=True)
class Need:
    """A task that another one waits for, `lag` runs before it (0: the same run; without a split, micro-batches are
    numbered and lag is 0).
    """

    task: Task
    lag: int = 0


def tasks_of(entry: Entry, instruction: Instruction) -> int:
    """How many tasks an instruction of an entry has in a run; a PROGRAM has none."""
    if not instruction.timed:
        return 0
    if entry.schedule.split > 1:
        return entry.schedule.split if instruction.streamed else 1
    return entry.micro_batches


def count_of(program: Tables, instruction: Instruction) -> int:
    """How many tasks an instruction has, in a program with one entry."""
    return tasks_of(program.entry, instruction) if instruction.timed else 0


def needs(program: Tables, instruction: Instruction, number: int) -> Iterator[Need]:
    """What a task waits for by its instruction's fields, the instruction's own task before it included."""
    table, schedule = program.instructions, program.entry.schedule
    if number:
        yield Need((instruction.id, number - 1))
    if schedule.split == 1:
        for j in (*instruction.after, *instruction.after_all):
            if table[j].timed:
                yield Need((j, number))
        for j, lag in instruction.after_previous:
            if schedule.interval:
                yield Need((j, 0), lag)
            elif number >= lag:
                yield Need((j, number - lag))
        return
    for j in instruction.after:
        last = count_of(program, table[j]) - 1
        if last >= 0:
            yield Need((j, min(number, last) if instruction.streamed else last))
    for j in instruction.after_all:
        yield Need((j, count_of(program, table[j]) - 1))
    for j, lag in instruction.after_previous:
        yield Need((j, count_of(program, table[j]) - 1), lag)
