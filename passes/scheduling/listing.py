"""List scheduling: whenever a unit is free, it starts the most urgent task that is ready."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from heapq import heappop, heappush
from typing import Any

from mgc.functions.channel import WHOLE, Channel
from mgc.passes.scheduling.problem import Tasks

LOOK_PAST = 8
"""Tasks that a unit looks past, as the off-chip channel has no room for them yet, to find one that it can start."""


def list_schedule(tasks: Tasks, priority: Sequence[Any], *, backward: bool = False, patient: bool = False) -> list[int]:
    """Starts of a schedule without avoidable waits; the smallest priority goes first, then the lower number.

    With `backward` time runs the other way: the result is still in forward time, ending where it must, beginning at 0.
    With `patient` no one takes the off-chip channel ahead of a more urgent task that waits for it.
    """
    before, after = (tasks.after, tasks.before) if backward else (tasks.before, tasks.after)
    missing = [len(b) for b in before]
    ready = _Ready(tasks, priority, patient)
    starts = [0] * len(tasks)
    ends: list[tuple[int, int]] = []
    durations = tasks.durations
    for t, count in enumerate(missing):
        if count == 0:
            ready.add(t)
    time = 0
    while True:
        for t in ready.started():
            starts[t] = time
            heappush(ends, (time + durations[t], t))
        if not ends:
            break
        time = ends[0][0]
        while ends and ends[0][0] == time:
            _, t = heappop(ends)
            ready.end(t)
            for s in after[t]:
                missing[s] -= 1
                if missing[s] == 0:
                    ready.add(s)
    if backward:
        total = tasks.makespan(starts)
        starts = [total - s - d for s, d in zip(starts, durations, strict=True)]
    return starts


class _Ready:
    """The tasks that may start, unit by unit, and what is free of units and channel."""

    def __init__(self, tasks: Tasks, priority: Sequence[Any], patient: bool) -> None:
        self.units, self.shares, self.priority, self.patient = tasks.units, tasks.shares, priority, patient
        self.waiting: dict[int, list[tuple[Any, int]]] = {u: [] for u in tasks.on_unit}
        self.busy = dict.fromkeys(tasks.on_unit, False)
        self.free, self.shared = WHOLE, bool(tasks.on_channel)
        self.touched: dict[int, None] = {}  # units that may have something to start
        self.held: dict[int, None] = {}  # units that are free, and wait for the channel

    def add(self, t: int) -> None:
        """A task may start."""
        heappush(self.waiting[self.units[t]], (self.priority[t], t))
        self.touched[self.units[t]] = None

    def end(self, t: int) -> None:
        """A task has ended."""
        self.busy[self.units[t]] = False
        self.touched[self.units[t]] = None
        if self.shares[t]:
            self.free += self.shares[t]
            self.touched |= self.held
            self.held.clear()

    def started(self) -> Iterator[int]:
        """The tasks that start now, the most urgent first where units want the channel."""
        units = [u for u in self.touched if not self.busy[u] and self.waiting[u]]
        self.touched.clear()
        if self.shared:
            units.sort(key=lambda u: self.waiting[u][0])
        barred = False
        for u in units:
            t = self._next(u, 0 if barred else self.free)
            if t is None:
                self.held[u] = None
                barred |= self.patient
                continue
            self.busy[u] = True
            self.free -= self.shares[t]
            yield t

    def _next(self, unit: int, free: int) -> int | None:
        """The most urgent task of a unit for which the channel has room; None if there is none among the first."""
        waiting, shares = self.waiting[unit], self.shares
        passed: list[tuple[Any, int]] = []
        found: int | None = None
        while waiting and len(passed) <= LOOK_PAST:
            first = heappop(waiting)
            if shares[first[1]] <= free:
                found = first[1]
                break
            passed.append(first)
        for each in passed:
            heappush(waiting, each)
        return found


def self_timed(tasks: Tasks, starts: Sequence[int]) -> list[int]:
    """The schedule in which every unit, and the channel, keeps the order of `starts` and every task starts as soon as
    it can.

    This is what a machine does that replays the instruction streams. Every task must start after all those that it
    waits for. Where tasks come to start together the channel serves them in their own order, so that is done again.
    """
    current = list(starts)
    while True:
        moved = _self_timed(tasks, current)
        if moved == current or not tasks.on_channel:
            return moved
        current = moved


def _self_timed(tasks: Tasks, starts: Sequence[int]) -> list[int]:
    result = [0] * len(tasks)
    free = dict.fromkeys(tasks.on_unit, 0)
    durations, units, before, shares = tasks.durations, tasks.units, tasks.before, tasks.shares
    channel = Channel()
    for t in tasks.order(starts):
        at = free[units[t]]
        for s in before[t]:
            end = result[s] + durations[s]
            if end > at:
                at = end
        if shares[t]:
            at = channel.grant(at, durations[t], shares[t])
        result[t] = at
        free[units[t]] = at + durations[t]
    return result


def as_late(tasks: Tasks, starts: Sequence[int]) -> list[int]:
    """The schedule of the same makespan in which every unit, and the channel, keeps its order and every task starts as
    late as it can.
    """
    result = [0] * len(tasks)
    free = dict.fromkeys(tasks.on_unit, tasks.makespan(starts))
    channel = Channel()  # in time that runs the other way
    for t in sorted(range(len(tasks)), key=lambda t: (starts[t] + tasks.durations[t], t), reverse=True):
        end = min([free[tasks.units[t]], *(result[s] for s in tasks.after[t])])
        if tasks.shares[t]:
            end = -channel.grant(-end, tasks.durations[t], tasks.shares[t])
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
