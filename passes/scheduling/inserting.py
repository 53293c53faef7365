"""Schedules by insertion: tasks come one by one, and each goes into the first gap of its unit and of the channel.

A list schedule never lets a unit, or the channel, wait for something more urgent that is ready a moment later; here
what is urgent is placed first, and the others around it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from mgc.functions.channel import WHOLE
from mgc.passes.scheduling.listing import self_timed
from mgc.passes.scheduling.problem import Tasks


def squeeze(tasks: Tasks, starts: Sequence[int], rounds: int = 4) -> list[int]:
    """A schedule that is no longer: everything as late as it goes, from the end on, then as early, from the beginning
    on, by turns while that helps.
    """
    best, least = list(starts), tasks.makespan(starts)
    for _ in range(rounds):
        moved = self_timed(tasks, insert(tasks, insert(tasks, best, backward=True)))
        if tasks.makespan(moved) >= least:
            break
        best, least = moved, tasks.makespan(moved)
    return best


def insert(tasks: Tasks, starts: Sequence[int], *, backward: bool = False, since: int = 0) -> list[int]:
    """Every task, in the order of `starts`, as early as there is room beside those before it in the order: if they were
    a schedule, no task starts later than it did. What starts before `since` stays where it is.

    With `backward` time runs the other way, from the task that ends last: the result begins at 0.
    """
    durations = tasks.durations
    count = range(len(durations))
    if backward:
        order, before = sorted(count, key=lambda t: (-starts[t] - durations[t], -t)), tasks.after
    else:
        order, before = tasks.order(starts), tasks.before
    units, channel = {u: _Gaps() for u in tasks.on_unit}, _Room()
    found = [0] * len(durations)
    for t in order:
        duration, share, unit = durations[t], tasks.shares[t], units[tasks.units[t]]
        at = starts[t]
        if at >= since:
            at = max((found[s] + durations[s] for s in before[t]), default=0)
            at = unit.earliest(at, duration)
            while share and (later := channel.earliest(at, duration, share)) > at:
                at = unit.earliest(later, duration)
        found[t] = at
        unit.take(at, duration)
        if share:
            channel.take(at, duration, share)
    if not backward:
        return found
    end = tasks.makespan(found)
    return [end - at - duration for at, duration in zip(found, durations, strict=True)]


class _Gaps:
    """When a unit is busy."""

    def __init__(self) -> None:
        self.begins: list[int] = []
        self.ends: list[int] = []

    def earliest(self, ready: int, duration: int) -> int:
        """The first moment from `ready` on from which the unit is free for so long."""
        begins, ends = self.begins, self.ends
        for k in range(bisect_right(ends, ready), len(ends)):
            if begins[k] >= ready + duration:
                break
            ready = ends[k]
        return ready

    def take(self, start: int, duration: int) -> None:
        """The unit is busy from `start` on."""
        place = bisect_left(self.begins, start)
        self.begins.insert(place, start)
        self.ends.insert(place, start + duration)


class _Room:
    """What is taken of the channel: `used[k]` shares from `moments[k]` to the next moment, none after the last."""

    def __init__(self) -> None:
        self.moments = [0]
        self.used = [0]

    def earliest(self, ready: int, duration: int, share: int) -> int:
        """The first moment from `ready` on from which a share is free for so long."""
        moments, used, most = self.moments, self.used, WHOLE - share
        k, count = bisect_right(moments, ready) - 1, len(moments)
        while k < count and moments[k] < ready + duration:
            if used[k] > most:
                ready = moments[k + 1]
            k += 1
        return ready

    def take(self, start: int, duration: int, share: int) -> None:
        """A share is taken from `start` on."""
        first = self._at(start, 0)
        used = self.used
        for k in range(first, self._at(start + duration, first)):
            used[k] += share

    def _at(self, moment: int, first: int) -> int:
        """The place of a moment, which is one from now on; not before place `first`."""
        moments = self.moments
        k = bisect_left(moments, moment, first)
        if k == len(moments) or moments[k] != moment:
            moments.insert(k, moment)
            self.used.insert(k, self.used[k - 1])
        return k
