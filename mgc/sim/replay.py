"""Self-timed replay: every unit takes the tasks of its stream in their order, each as soon as it may."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mgc.functions.channel import Channel
from mgc.isa.error import ProgramError
from mgc.isa.program import Program
from mgc.isa.tasks import Needs, count_of
from mgc.isa.traffic import channel_shares

MOST_PASSES = 64
"""Passes, for each that runs at once, that are replayed until two keep the same times."""


@dataclass(frozen=True)
class Replay:
    """When every task ran: int64 [the entry's own instructions, tasks] in cycles, -1 where there is none.

    `makespan` is the last end.
    Of passes that overlap it is the first that those after it repeat, in cycles from its own start.
    """

    starts: np.ndarray
    ends: np.ndarray
    makespan: int


def _unit_orders(program: Program, passes: int) -> list[list[tuple[int, int, int]]]:
    """For each unit its tasks (instruction, task, pass) by planned start; those that take no time come first."""
    orders: list[list[tuple[int, int, int]]] = [[] for _ in program.units]
    entry = program.entry
    for i in program.instructions:
        orders[i.unit].extend((i.id, k, n) for k in range(count_of(program, i)) for n in range(passes))

    def place(task: tuple[int, int, int]) -> tuple[int, bool, int, int, int]:
        i, k, n = task
        return entry.start(i, k) + n * entry.schedule.interval, program.instructions[i].duration > 0, n, k, i

    for tasks in orders:
        tasks.sort(key=place)
    return orders


def _channel_order(program: Program, shares: Mapping[int, int], passes: int) -> list[tuple[int, int, int]]:
    """The tasks (instruction, task, pass) that take a part of the off-chip channel, as it serves them."""
    entry = program.entry
    tasks = [
        (i, k, n) for i in shares for k in range(count_of(program, program.instructions[i])) for n in range(passes)
    ]
    return sorted(tasks, key=lambda t: (entry.start(*t[:2]) + t[2] * entry.schedule.interval, t))


def replay(program: Program) -> Replay:
    """Runs the clock over one pass of all micro-batches.

    A task starts when its unit has ended the task before it in the unit's order, and all that it needs has ended (see
    `mgc.isa.tasks.Needs`); if it moves anything off-chip, when the channel has room for it, which serves tasks in order
    of planned starts. The program has one entry. Where passes overlap, pass n may start after n intervals,
    and a unit's order is that of all of them. Raises ProgramError if the orders wait for one another in a circle, or if
    overlapping passes do not settle.
    """
    entry, interval = program.entry, program.entry.schedule.interval
    if not interval:
        return _run(program, _unit_orders(program, 1), 1)[0]
    deep = -(-entry.schedule.makespan // interval)
    passes = 4 * deep
    while passes <= MOST_PASSES * deep:
        ran = _run(program, _unit_orders(program, passes), passes)
        # the last passes lack those after them, whose first tasks go before their last ones
        middle = passes - deep - 1
        if np.array_equal(ran[middle].starts, ran[middle - 1].starts):
            return ran[middle]
        passes *= 2
    raise ProgramError(f"passes of {interval} cycles do not settle: their times still change after {passes // 2}")


def _run(program: Program, orders: list[list[tuple[int, int, int]]], passes: int) -> list[Replay]:
    """Passes by the orders of their units; each in cycles from its own start."""
    entry = program.entry
    shape = (passes, *entry.schedule.starts.shape)
    starts, ends = np.full(shape, -1, np.int64), np.full(shape, -1, np.int64)
    interval = entry.schedule.interval
    ended: dict[tuple[int, int, int], int] = {}
    free, place = [0] * len(orders), [0] * len(orders)
    waiting_for: dict[tuple[int, int, int], list[int]] = {}
    shares, channel, turn = channel_shares(program, entry), Channel(), 0
    served = _channel_order(program, shares, passes)
    ready, needs = [u for u in range(len(orders)) if orders[u]], Needs(program)
    while ready:
        unit = ready.pop()
        while place[unit] < len(orders[unit]):
            i, k, n = orders[unit][place[unit]]
            instruction = program.instructions[i]
            start, missing = max(free[unit], n * interval), None
            for need in needs.of(instruction, k):
                if n < need.lag:
                    continue
                end = ended.get((*need.task, n - need.lag))
                if end is None:
                    missing = (*need.task, n - need.lag)
                    break
                start = max(start, end)
            share = shares.get(i, 0)
            if missing is None and share and served[turn] != (i, k, n):
                missing = served[turn]
            if missing is not None:
                waiting_for.setdefault(missing, []).append(unit)
                break
            if share:
                start = channel.grant(start, instruction.duration, share)
                turn += 1
            free[unit] = ended[i, k, n] = start + instruction.duration
            starts[n, i - entry.first, k], ends[n, i - entry.first, k] = start, start + instruction.duration
            place[unit] += 1
            ready.extend(waiting_for.pop((i, k, n), ()))
    stuck = [u for u in range(len(orders)) if place[u] < len(orders[u])]
    if stuck:
        units = ", ".join(f"{program.units[u].name} at {orders[u][place[u]][:2]}" for u in stuck[:5])
        raise ProgramError(f"the streams wait for one another: unit at (instruction, task) {units}")
    made: list[Replay] = []
    for n in range(passes):
        there = starts[n] >= 0
        begun, done = (np.where(there, t - n * interval, -1) for t in (starts[n], ends[n]))
        made.append(Replay(begun, done, max(int(done.max(initial=0)), 0)))
    return made
