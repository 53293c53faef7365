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


class Needs:
    """What the tasks of a program with one entry wait for."""

    def __init__(self, program: Tables) -> None:
        self.program = program
        self.turns = _turns(program)

    def of(self, instruction: Instruction, number: int) -> Iterator[Need]:
        """What a task waits for: by its instruction's fields, its own task before it included; and for the slots that
        it writes, where parts of the batch go round in fewer slots than there are parts.
        """
        if number:
            yield Need((instruction.id, number - 1))
        if self.program.entry.schedule.split == 1:
            yield from self._of_micro_batch(instruction, number)
            return
        table = self.program.instructions
        for j in instruction.after:
            last = count_of(self.program, table[j]) - 1
            if last >= 0:
                yield Need((j, min(number, last) if instruction.streamed else last))
        for j in instruction.after_all:
            yield Need((j, count_of(self.program, table[j]) - 1))
        for j, slots in self.turns.get(instruction.id, ()):
            if number >= slots:
                yield Need((j, number - slots))
        for j, lag in instruction.after_previous:
            yield Need((j, count_of(self.program, table[j]) - 1), lag)

    def _of_micro_batch(self, instruction: Instruction, number: int) -> Iterator[Need]:
        table, schedule = self.program.instructions, self.program.entry.schedule
        for j in (*instruction.after, *instruction.after_all):
            if table[j].timed:
                yield Need((j, number))
        for j, lag in instruction.after_previous:
            if schedule.interval:
                yield Need((j, 0), lag)
            elif number >= lag:
                yield Need((j, number - lag))


def _turns(program: Tables) -> dict[int, list[tuple[int, int]]]:
    """For each streamed instruction that writes parts of a batch into fewer slots than there are parts: who else uses
    these, and how many slots there are.
    """
    split = program.entry.schedule.split
    if split == 1:
        return {}
    tight = {b.id: b.slots for b in program.buffers if b.alias_of < 0 and b.slots < b.parts == split}
    writers: dict[int, list[int]] = {}
    users: dict[int, dict[int, None]] = {}
    for i in program.instructions:
        if not i.streamed:
            continue
        for b in i.writes():
            writers.setdefault(program.root(b), []).append(i.id)
        for b in (*i.reads(), *i.writes()):
            users.setdefault(program.root(b), {})[i.id] = None
    found: dict[int, dict[tuple[int, int], None]] = {}
    for root, slots in tight.items():
        for w in writers.get(root, ()):
            found.setdefault(w, {}).update(((j, slots), None) for j in users[root] if j != w)
    return {w: list(own) for w, own in found.items()}
