"""Lower bounds on the makespan that need no search."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappop, heappush

from mgc.functions.channel import WHOLE
from mgc.passes.scheduling.problem import Tasks


def lower_bound(tasks: Tasks) -> int:
    """A proven lower bound, cycles: the longest chain, and for each unit and the off-chip channel what one machine
    needs preemptively.
    """
    chain = max((h + d + q for h, d, q in zip(tasks.heads, tasks.durations, tasks.tails, strict=True)), default=0)
    bound = chain
    for members in tasks.on_unit.values():
        load = sum(tasks.durations[t] for t in members)
        if min(tasks.heads[t] for t in members) + load + min(tasks.tails[t] for t in members) > bound - load:
            bound = max(bound, one_machine(members, tasks.heads, tasks.durations, tasks.tails))
    return max(bound, channel_bound(tasks, tasks.on_channel, tasks.heads, tasks.tails))


def channel_bound(tasks: Tasks, members: Sequence[int], heads: Sequence[int], tails: Sequence[int]) -> int:
    """The least makespan of what some tasks move over the off-chip channel.

    The channel is one machine that may preempt, on which a task works for the time that it would need alone: what it
    moves is moved when it ends, at the latest.
    """
    if not members:
        return 0
    own = range(len(members))
    work = [tasks.shares[t] * tasks.durations[t] for t in members]
    scaled = ([times[t] * WHOLE for t in members] for times in (heads, tails))
    first, last = scaled
    return -(-one_machine(own, first, work, last) // WHOLE)


def one_machine(members: Sequence[int], heads: Sequence[int], durations: Sequence[int], tails: Sequence[int]) -> int:
    """The least makespan of some tasks on one machine that may preempt: released at heads, followed by tails.

    Always working on the released task with the longest tail is optimal (Jackson's preemptive schedule), so this bounds
    every schedule from below.
    """
    order = sorted(members, key=lambda t: heads[t])
    waiting: list[tuple[int, int, int]] = []
    time = best = 0
    index = 0
    while index < len(order) or waiting:
        if not waiting:
            time = max(time, heads[order[index]])
        while index < len(order) and heads[order[index]] <= time:
            t = order[index]
            heappush(waiting, (-tails[t], t, durations[t]))
            index += 1
        tail, t, left = heappop(waiting)
        until = heads[order[index]] if index < len(order) else time + left
        if time + left <= until:
            time += left
            best = max(best, time - tail)
        else:
            heappush(waiting, (tail, t, left - (until - time)))
            time = until
    return best


MOST_BARRIERS = 40
"""Tasks, spread over the time, before which the work of every unit is looked at."""

NEAR = 0.97
"""Of the longest chain: as long are the chains of tasks that can make it longer."""


def barrier_bound(tasks: Tasks) -> int:
    """A lower bound that sees what units must do before a task that waits for much: the end of a phase, say.

    For such a task the work of each unit that must come before it is a one-machine problem of its own, with the longest
    chain to the task as tails; that may move its earliest start, and those of all that follow. Tasks are taken in
    order of time, so later ones see what earlier ones made of the starts. Then the units' bounds are taken with these.
    """
    heads, tails, durations = tasks.heads, tasks.tails, tasks.durations
    chain = max((h + d + q for h, d, q in zip(heads, durations, tails, strict=True)), default=0)
    waiting = [t for t in range(len(tasks)) if heads[t] + durations[t] + tails[t] >= NEAR * chain]
    heads = raise_heads(tasks, heads, sorted(waiting, key=lambda t: (heads[t], t)), len(tasks))
    bound = max((h + d + q for h, d, q in zip(heads, durations, tails, strict=True)), default=0)
    bound = max(bound, *(one_machine(own, heads, durations, tails) for own in tasks.on_unit.values()), 0)
    return max(bound, channel_bound(tasks, tasks.on_channel, heads, tails))


def least_between(tasks: Tasks, start: int, stop: int) -> int:
    """The least time from the start of one task to that of a later one, which depends on it: the longest chain between
    them, and what units have to do on the way.
    """
    durations = tasks.durations
    heads = [-1] * start + chains_from(tasks, start, stop)
    far = chains_to(tasks, stop, heads)
    near = [t for t in range(start + 1, stop + 1) if min(heads[t], far[t]) >= 0]
    near = [t for t in near if heads[t] + far[t] + (durations[t] if t < stop else 0) >= NEAR * heads[stop]]
    return raise_heads(tasks, heads, near, stop + 1)[stop]


def chains_from(tasks: Tasks, start: int, stop: int) -> list[int]:
    """The longest chain from the start of one task to that of each up to `stop`, itself first; -1 if there is none."""
    heads, durations = [0] * (stop - start + 1), tasks.durations
    for t in range(start + 1, stop + 1):
        ends = (heads[s - start] + durations[s] for s in tasks.before[t] if s >= start and heads[s - start] >= 0)
        heads[t - start] = max(ends, default=-1)
    return heads


def chains_to(tasks: Tasks, stop: int, heads: Sequence[int]) -> list[int]:
    """The longest chain from the end of each task to the start of `stop`; -1 if there is none, or it has no head."""
    far, durations = [-1] * (stop + 1), tasks.durations
    far[stop] = 0
    for t in range(stop, -1, -1):
        if far[t] < 0 or heads[t] < 0:
            far[t] = -1
            continue
        own = far[t] + (durations[t] if t != stop else 0)
        for s in tasks.before[t]:
            far[s] = max(far[s], own)
    return far


def raise_heads(tasks: Tasks, heads: Sequence[int], waiting: Sequence[int], stop: int) -> list[int]:
    """The earliest starts of the tasks before `stop` for what units have to do before some of those that wait for
    several, and what follows from these; tasks whose head is below 0 are not looked at.
    """
    raised, durations = list(heads), tasks.durations
    barriers = [t for t in waiting if len(tasks.before[t]) > 1 and tasks.number[t] == 0]
    step = max(1, len(barriers) // MOST_BARRIERS)
    for barrier in barriers[step - 1 :: step]:
        start = units_before(tasks, barrier, raised)
        if start <= raised[barrier]:
            continue
        raised[barrier] = start
        for t in range(barrier + 1, stop):
            if raised[t] >= 0:
                ends = (raised[s] + durations[s] for s in tasks.before[t] if raised[s] >= 0)
                raised[t] = max(raised[t], max(ends, default=0))
    return raised


def units_before(tasks: Tasks, barrier: int, heads: Sequence[int]) -> int:
    """The earliest start of a task for what its unit, another or the channel has to do before it; tasks whose head is
    below 0 are not looked at.
    """
    durations, far = tasks.durations, chains_to(tasks, barrier, heads)
    units: dict[int, list[int]] = {}
    for t in range(barrier - 1, -1, -1):
        if far[t] >= 0:
            units.setdefault(tasks.units[t], []).append(t)
    start = heads[barrier]
    for members in units.values():
        load = sum(durations[t] for t in members)
        if max(heads[t] for t in members) + load + max(far[t] for t in members) > start:
            start = max(start, one_machine(members, heads, durations, far))
    moving = [t for t in tasks.on_channel if t < barrier and far[t] >= 0]
    return max(start, channel_bound(tasks, moving, heads, far))
