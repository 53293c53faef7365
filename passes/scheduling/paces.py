"""How fast operations move what they move off-chip: slower ones leave room in the channel for those beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil

from mgc.functions.channel import WHOLE, shares_of
from mgc.passes.scheduling.inserting import insert, squeeze
from mgc.passes.scheduling.listing import as_late, list_schedule, self_timed
from mgc.passes.scheduling.problem import Problem, Tasks

PACES = (0.5, 0.35, 0.9, 1.0)
"""The most of the channel that one task takes, tried for all operations: what takes all of it runs beside nothing that
takes any. The first is that of plans that are compared, the others are tried for the one that is chosen.
"""

STREAM_PACES = (0.9, 0.25, 0.125, 0.0625)
"""Other paces of a stream of micro-batches, which all its operations share: its slots are made for its steady state."""

SLOWEST = WHOLE // 16
"""Shares down to which an operation is made slower."""

TRY_BUDGET = 660_000
"""Tasks that list schedules may place, all of them together, to find each operation's own pace."""

INSERT_BUDGET = 400_000
"""And schedules by insertion, after them."""

WAITING = 12
"""Operations that wait for the channel longest, whose pace, and that of those that they wait for, is tried first."""


@dataclass(frozen=True)
class Paced:
    """A problem with bytes that each operation moves off-chip in a task, at `rate` bytes a cycle of the whole channel.

    `least` are the durations at which nothing is slower than it must be.
    """

    problem: Problem
    offchip: Sequence[int]
    least: Sequence[int]
    rate: float

    def at(self, durations: Sequence[int]) -> Paced:
        """The same with other durations."""
        shares = tuple(shares_of(b, d, self.rate) for b, d in zip(self.offchip, durations, strict=True))
        return replace(self, problem=self.problem.at(durations, shares))

    def at_most(self, pace: float) -> Paced:
        """With all so slow that none takes more than a part of the channel."""
        rate = self.rate * pace
        return self.at([max(d, ceil(b / rate)) for b, d in zip(self.offchip, self.least, strict=True)])


def own_paces(paced: Paced, starts: Sequence[int], bound: int) -> tuple[Paced, list[int]]:
    """Paces of their own, found by trying, with a schedule that is no longer than the one given.

    Where tasks on the critical path wait for the channel, those that wait and those that take it meanwhile are made
    slower or faster, one at a time, as long as that shortens the list schedule.
    """

    def listed(tasks: Tasks, order: Sequence[int]) -> list[int]:
        found = (list_schedule(tasks, order, patient=patient) for patient in (False, True))
        return self_timed(tasks, min(found, key=tasks.makespan))

    return _shorter(paced, list(starts), bound, TRY_BUDGET, listed)


def fitting_paces(
    paced: Paced, starts: Sequence[int], bound: int, fits: Callable[[Paced, list[int]], bool]
) -> tuple[Paced, list[int]]:
    """The same by insertion, which takes longer, and only through schedules that fit, as the one given does."""
    tasks = paced.problem.tasks
    begin = squeeze(tasks, starts)
    if tasks.makespan(begin) >= tasks.makespan(starts) or not fits(paced, begin):
        begin = list(starts)

    def inserted(tasks: Tasks, order: Sequence[int]) -> list[int]:
        return self_timed(tasks, insert(tasks, order))

    def accepted(changed: Paced, found: list[int]) -> list[int] | None:
        squeezed = squeeze(changed.problem.tasks, found)
        return next((some for some in (squeezed, found) if fits(changed, some)), None)

    return _shorter(paced, begin, bound, INSERT_BUDGET, inserted, accepted)


def _shorter(
    paced: Paced,
    order: list[int],
    bound: int,
    budget: int,
    scheduled: Callable[[Tasks, Sequence[int]], list[int]],
    accepted: Callable[[Paced, list[int]], list[int] | None] = lambda _, found: found,
) -> tuple[Paced, list[int]]:
    """One change of pace after another, each the first that shortens the schedule and is accepted."""
    best, least = paced, paced.problem.tasks.makespan(order)
    while budget > 0 and least > bound:
        for durations in _changes(best, order):
            changed = best.at(durations)
            tasks = changed.problem.tasks
            found = scheduled(tasks, order)
            budget -= 2 * len(tasks)
            taken = accepted(changed, found) if tasks.makespan(found) < least else None
            if taken is not None:
                best, order, least = changed, taken, tasks.makespan(taken)
                break
            if budget <= 0:
                break
        else:
            break
    return best, order


def _changes(paced: Paced, starts: Sequence[int]) -> Iterator[list[int]]:
    """Durations with one operation slower or faster, the most promising first."""
    problem = paced.problem
    seen: set[tuple[int, int]] = set()
    for waiting, holders in _waits(problem.tasks, starts):
        for i in (*holders, waiting):
            now = problem.durations[i]
            for duration in (
                now * 9 // 8,
                now * 3 // 2,
                2 * now,
                max(paced.least[i], now * 2 // 3),
                max(paced.least[i], now // 2),
            ):
                slow = shares_of(paced.offchip[i], duration, paced.rate) < SLOWEST
                if (i, duration) in seen or duration == now or slow:
                    continue
                seen.add((i, duration))
                yield [*problem.durations[:i], duration, *problem.durations[i + 1 :]]


def _waits(tasks: Tasks, starts: Sequence[int]) -> Iterator[tuple[int, list[int]]]:
    """The operations that wait for the channel longest, on the critical path, and who takes it meanwhile."""
    late = as_late(tasks, starts)
    free: dict[int, int] = {}
    waited: dict[int, int] = {}
    longest: dict[int, tuple[int, int]] = {}  # operation -> its longest wait, until when
    for t in tasks.order(starts):
        ready = max([free.get(tasks.units[t], 0), *(starts[s] + tasks.durations[s] for s in tasks.before[t])])
        free[tasks.units[t]] = starts[t] + tasks.durations[t]
        wait, i = starts[t] - ready, tasks.operation[t]
        if wait and tasks.shares[t] and late[t] == starts[t]:
            waited[i] = waited.get(i, 0) + wait
            longest[i] = max(longest.get(i, (0, 0)), (wait, starts[t]))
    for i in sorted(waited, key=lambda i: (-waited[i], i))[:WAITING]:
        before = longest[i][1] - 1
        holders = [t for t in tasks.on_channel if starts[t] <= before < starts[t] + tasks.durations[t]]
        yield i, list(dict.fromkeys(tasks.operation[t] for t in sorted(holders, key=lambda t: -tasks.shares[t])))
