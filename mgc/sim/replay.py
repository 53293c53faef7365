"""Self-timed replay: every unit takes the tasks of its stream in their order, each as soon as it may."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mgc.isa.error import ProgramError
from mgc.isa.instructions import Program as WriteCells
from mgc.isa.program import Program

Task = tuple[int, int]
"""(instruction, micro-batch)."""


@dataclass(frozen=True)
class Replay:
    """When every task ran: int64 [instructions, micro_batches] in cycles, -1 for PROGRAM; makespan is the last end."""

    starts: np.ndarray
    ends: np.ndarray
    makespan: int


def unit_orders(program: Program) -> list[list[Task]]:
    """For each unit its tasks in order of planned start (a task that takes no time before one that does)."""
    orders: list[list[Task]] = [[] for _ in program.units]
    starts = program.schedule.starts
    for i in program.instructions:
        if not isinstance(i, WriteCells):
            orders[i.unit].extend((i.id, k) for k in range(program.micro_batches))
    for tasks in orders:
        tasks.sort(key=lambda t: (starts[t], program.instructions[t[0]].duration > 0, t[1], t[0]))
    return orders


def replay(program: Program) -> Replay:
    """Runs the clock over one pass of all micro-batches.

    A task starts when its unit has ended the task before it in the unit's order, the instructions of `after` have
    ended for its micro-batch and those of `after_previous` for theirs. Entries run one after the other. Raises
    ProgramError if the orders wait for one another in a circle.
    """
    if program.entries:
        return _entries(program)
    orders = unit_orders(program)
    shape = (len(program.instructions), program.micro_batches)
    starts, ends = np.full(shape, -1, np.int64), np.full(shape, -1, np.int64)
    free = [0] * len(orders)
    place = [0] * len(orders)
    tasks = [not isinstance(i, WriteCells) for i in program.instructions]
    waiting = list(range(len(orders)))
    while waiting:
        progress = False
        for unit in waiting:
            while place[unit] < len(orders[unit]):
                i, k = orders[unit][place[unit]]
                instruction = program.instructions[i]
                needs = [(j, k) for j in instruction.after]
                needs += [(j, k - lag) for j, lag in instruction.after_previous if k >= lag]
                times = [ends[n] for n in needs if tasks[n[0]]]
                if any(t < 0 for t in times):
                    break
                start = max([free[unit], *map(int, times)])
                starts[i, k], ends[i, k] = start, start + instruction.duration
                free[unit] = start + instruction.duration
                place[unit] += 1
                progress = True
        waiting = [u for u in waiting if place[u] < len(orders[u])]
        if waiting and not progress:
            stuck = ", ".join(f"{program.units[u].name} at {orders[u][place[u]]}" for u in waiting[:5])
            raise ProgramError(f"the streams wait for one another: unit at (instruction, micro-batch) {stuck}")
    return Replay(starts, ends, max(free, default=0))


def _entries(program: Program) -> Replay:
    """Each entry from where the one before it ended."""
    shape = program.schedule.starts.shape
    starts, ends = np.full(shape, -1, np.int64), np.full(shape, -1, np.int64)
    at = 0
    for entry in program.entries:
        own = replay(program.part(entry.name))
        count = entry.stop - entry.first
        starts[entry.first : entry.stop] = own.starts[len(own.starts) - count :] + at
        ends[entry.first : entry.stop] = own.ends[len(own.ends) - count :] + at
        at += own.makespan
    return Replay(starts, ends, at)
