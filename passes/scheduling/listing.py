"""List scheduling: whenever a unit is free, it starts the most urgent task that is ready."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from heapq import heappop, heappush
from typing import Any

from mgc.passes.scheduling.problem import Tasks


def list_schedule(tasks: Tasks, priority: Sequence[Any], *, backward: bool = False) -> list[int]:
    """Starts of a schedule without avoidable waits; the smallest priority goes first, then the lower number.

    With `backward` time runs the other way: the result is still in forward time, ending where it must, beginning at 0.
    """
    before, after = (tasks.after, tasks.before) if backward else (tasks.before, tasks.after)
    missing = [len(b) for b in before]
    ready: dict[int, list[tuple[Any, int]]] = {u: [] for u in tasks.on_unit}
    busy = dict.fromkeys(tasks.on_unit, False)
    starts = [0] * len(tasks)
    ends: list[tuple[int, int]] = []
    touched: dict[int, None] = {}
    durations, units = tasks.durations, tasks.units
    for t, count in enumerate(missing):
        if count == 0:
            heappush(ready[units[t]], (priority[t], t))
            touched[units[t]] = None
    time = 0
    while True:
        for u in touched:
            if not busy[u] and ready[u]:
                _, t = heappop(ready[u])
                starts[t] = time
                busy[u] = True
                heappush(ends, (time + durations[t], t))
        if not ends:
            break
        touched.clear()
        time = ends[0][0]
        while ends and ends[0][0] == time:
            _, t = heappop(ends)
            busy[units[t]] = False
            touched[units[t]] = None
            for s in after[t]:
                missing[s] -= 1
                if missing[s] == 0:
                    heappush(ready[units[s]], (priority[s], s))
                    touched[units[s]] = None
    if backward:
        total = tasks.makespan(starts)
        starts = [total - s - d for s, d in zip(starts, durations, strict=True)]
    return starts


def self_timed(tasks: Tasks, starts: Sequence[int]) -> list[int]:
    """The schedule in which every unit keeps the order of `starts` and every task starts as soon as it can.

    This is what a machine does that replays the instruction streams. Every task must start after all those that it
    waits for.
    """
    result = [0] * len(tasks)
    free = dict.fromkeys(tasks.on_unit, 0)
    durations, units, before = tasks.durations, tasks.units, tasks.before
    for t in sorted(range(len(tasks)), key=lambda t: (starts[t], t)):
        at = free[units[t]]
        for s in before[t]:
            end = result[s] + durations[s]
            if end > at:
                at = end
        result[t] = at
        free[units[t]] = at + durations[t]
    return result


def as_late(tasks: Tasks, starts: Sequence[int]) -> list[int]:
    """The schedule of the same makespan in which every unit keeps its order and every task starts as late as it can."""
    result = [0] * len(tasks)
    free = dict.fromkeys(tasks.on_unit, tasks.makespan(starts))
    for t in sorted(range(len(tasks)), key=lambda t: (starts[t] + tasks.durations[t], t), reverse=True):
        end = min([free[tasks.units[t]], *(result[s] for s in tasks.after[t])])
        free[tasks.units[t]] = result[t] = end - tasks.durations[t]
    return result


def justify(tasks: Tasks, starts: Sequence[int], rounds: int = 4) -> Iterator[list[int]]:
    """Backward and forward list scheduling by turns, each keeping the other's order of urgency, while that helps."""
    current, least = starts, tasks.makespan(starts)
    for _ in range(rounds):
        ends = [s + d for s, d in zip(current, tasks.durations, strict=True)]
        late = list_schedule(tasks, [-e for e in ends], backward=True)
        current = list_schedule(tasks, late)
        yield current
        span = tasks.makespan(current)
        if span >= least:
            break
        least = span
