"""Lower bounds on the makespan that need no search."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappop, heappush

from passes.scheduling.problem import Tasks


def lower_bound(tasks: Tasks) -> int:
    """A proven lower bound, cycles: the longest chain, and for each unit what one machine needs preemptively."""
    chain = max((h + d + q for h, d, q in zip(tasks.heads, tasks.durations, tasks.tails, strict=True)), default=0)
    bound = chain
    for members in tasks.on_unit.values():
        load = sum(tasks.durations[t] for t in members)
        if min(tasks.heads[t] for t in members) + load + min(tasks.tails[t] for t in members) > bound - load:
            bound = max(bound, one_machine(members, tasks.heads, tasks.durations, tasks.tails))
    return bound


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
