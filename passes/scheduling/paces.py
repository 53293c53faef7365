"""How fast operations move what they move off-chip: slower ones leave room in the channel for those beside them."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from math import ceil

from mgc.functions.channel import WHOLE, shares_of
from mgc.passes.scheduling.inserting import insert, squeeze
from mgc.passes.scheduling.listing import as_late, self_timed
from mgc.passes.scheduling.problem import Problem, Tasks

PACES = (0.5, 0.35, 0.9, 1.0)
"""The most of the channel that one task takes, tried for all operations: what takes all of it runs beside nothing that
takes any. The first is that of plans that are compared, the others are tried for the one that is chosen.
"""

STREAM_PACES = (0.9, 0.25, 0.125, 0.0625)
"""Other paces of a stream of micro-batches, which all its operations share: its slots are made for its steady state."""

SLOWEST = WHOLE // 16
"""Shares down to which an operation is made slower."""

TRY_BUDGET = 900_000
"""Tasks that schedules by insertion may place, all of them together, to find each operation's own pace."""

MOST_TRIES = 150
"""Such schedules, at most."""

BEGINNINGS = 2
"""Common paces, those of the shortest schedules, from which own ones are looked for."""

FACTORS = ((9, 8), (3, 2), (2, 1), (2, 3), (1, 2))
"""What the duration of a single operation is multiplied by."""

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

    def but(self, durations: Mapping[int, int]) -> tuple[int, ...]:
        """Its durations but for those of some operations, as far as they can go so fast and are not too slow."""
        changed = list(self.problem.durations)
        for i, duration in durations.items():
            if shares_of(self.offchip[i], max(1, duration), self.rate) >= SLOWEST:
                changed[i] = max(self.least[i], duration)
        return tuple(changed)


Fits = Callable[[Paced, list[int]], bool]
"""Whether a schedule's values fit into the tiles' memories."""


def own_paces(begun: Sequence[tuple[Paced, Sequence[int]]], bound: int, fits: Fits) -> tuple[Paced, list[int]]:
    """Paces of their own, found by trying, with a schedule that is no longer than the shortest of those given, and fits
    if these do. Half of the tries are dealt out to all of them, and the rest is for what has become the shortest.
    """
    searches = [_PaceSearch(*some, fits) for some in begun]
    tries = min(MOST_TRIES, TRY_BUDGET // max(1, len(searches[0].starts)))
    for search in searches if len(searches) > 1 else ():
        search.go_on(bound, tries // (2 * len(searches)))
    best = min(searches, key=lambda search: search.makespan)
    best.go_on(bound, tries - tries // 2 if len(searches) > 1 else tries)
    return best.paced, best.starts


class _PaceSearch:
    """One change after another, each the first that shortens the schedule by insertion, and fits. The critical path
    says what to change; what has failed before is tried last.
    """

    def __init__(self, paced: Paced, starts: Sequence[int], fits: Fits) -> None:
        self.paced, self.fits = paced, fits
        squeezed = squeeze(paced.problem.tasks, starts)
        self.starts = squeezed if fits(paced, squeezed) else list(starts)
        self.failed: Counter[Hashable] = Counter()
        self.seen = {paced.problem.durations}

    @property
    def makespan(self) -> int:
        """Of the shortest schedule by now."""
        return self.paced.problem.tasks.makespan(self.starts)

    def go_on(self, bound: int, tries: int) -> None:
        """Tries so many changes more, at most, until the schedule meets the bound."""
        while self.makespan > bound:
            changes = sorted(_changes(self.paced, self.starts), key=lambda change: self.failed[change[0]])
            for name, some in changes:
                durations = self.paced.but(some)
                if durations in self.seen:
                    continue
                if tries == 0:
                    return
                tries -= 1
                self.seen.add(durations)
                if self._take(self.paced.at(durations)):
                    break
                self.failed[name] += 1
            else:
                return

    def _take(self, changed: Paced) -> bool:
        """Takes a change if it shortens the schedule."""
        since = _first(self.paced, changed, self.starts)
        found = _shorter(changed, self.starts, since, self.makespan, self.fits)
        if found is not None:
            self.paced, self.starts = changed, found
        return found is not None


def _first(one: Paced, other: Paced, starts: Sequence[int]) -> int:
    """When the first task starts whose duration is another."""
    each = zip(starts, one.problem.tasks.durations, other.problem.tasks.durations, strict=True)
    return min(start for start, before, now in each if before != now)


def _shorter(paced: Paced, order: Sequence[int], since: int, least: int, fits: Fits) -> list[int] | None:
    """The schedule by insertion, shortened as far as it fits; None if it is not shorter than `least`, or does not.
    What starts before `since` is as it was.
    """
    tasks = paced.problem.tasks
    found = insert(tasks, order, since=since)
    if tasks.makespan(found) >= least:
        return None
    found = self_timed(tasks, found)
    return next((some for some in (squeeze(tasks, found), found) if fits(paced, some)), None)


def _changes(paced: Paced, starts: Sequence[int]) -> Iterator[tuple[Hashable, dict[int, int]]]:
    """Other durations of some operations, each with a name; the most promising first.

    On the critical path all go faster where the channel has room. Where one waits for the channel, it and those that
    take it meanwhile, or all who wait too, go slower until all have room, which wins most; or one of them does, or goes
    slower or faster.
    """
    tasks, durations, shares = paced.problem.tasks, paced.problem.durations, paced.problem.shares
    late = as_late(tasks, starts)
    for middle in (False, True):
        room = {i: own[len(own) // 2 if middle else 0] for i, own in _room(tasks, starts, late).items()}
        yield ("faster", middle), {i: -(-durations[i] * shares[i] // (shares[i] + r)) for i, r in room.items()}
    waits = list(_waits(tasks, starts, late))
    for waiting, holders, others in waits:
        group = (*holders, waiting)
        for some in (group, (*group, *others)):
            yield from _side_by_side(paced, waiting, some, some)
    for waiting, holders, _ in waits:
        group = (waiting, *holders)
        for i in group:
            yield from _side_by_side(paced, waiting, group, (i,))
        for i in group:
            yield from (((n, d, i), {i: durations[i] * n // d}) for n, d in FACTORS)


def _side_by_side(
    paced: Paced, waiting: int, group: Sequence[int], some: Sequence[int]
) -> Iterator[tuple[Hashable, dict[int, int]]]:
    """Durations of some of a group of operations with which there is room for all of it in the channel."""
    durations, shares = paced.problem.durations, paced.problem.shares
    taken, over = sum(shares[i] for i in some), sum(shares[i] for i in group) - WHOLE
    left = taken - over - len(some)  # as shares are rounded up
    if over > 0 and left > 0:
        yield (waiting, some), {i: -(-durations[i] * taken // left) for i in some}


def _room(tasks: Tasks, starts: Sequence[int], late: Sequence[int]) -> dict[int, list[int]]:
    """The shares that are free all the while that a task on the critical path takes some: of each such operation, in
    order of size.
    """
    changes: Counter[int] = Counter()
    for t in tasks.on_channel:
        changes[starts[t]] += tasks.shares[t]
        changes[starts[t] + tasks.durations[t]] -= tasks.shares[t]
    moments = sorted(changes)
    free = [WHOLE - used for used in accumulate(changes[m] for m in moments)]
    found: dict[int, list[int]] = {}
    for t in tasks.on_channel:
        if late[t] == starts[t]:
            first, last = (bisect_left(moments, m) for m in (starts[t], starts[t] + tasks.durations[t]))
            found.setdefault(tasks.operation[t], []).append(min(free[first:last]))
    return {i: sorted(own) for i, own in found.items()}


def _waits(
    tasks: Tasks, starts: Sequence[int], late: Sequence[int]
) -> Iterator[tuple[int, tuple[int, ...], tuple[int, ...]]]:
    """The operations that wait for the channel longest, on the critical path, who takes it meanwhile, and who else
    waits.
    """
    free: dict[int, int] = {}
    waits: list[tuple[int, int]] = []  # since when a task waits, and which
    waited: Counter[int] = Counter()
    longest: dict[int, tuple[int, int]] = {}  # operation -> its longest wait, until when
    for t in tasks.order(starts):
        ready = max([free.get(tasks.units[t], 0), *(starts[s] + tasks.durations[s] for s in tasks.before[t])])
        free[tasks.units[t]] = starts[t] + tasks.durations[t]
        wait, i = starts[t] - ready, tasks.operation[t]
        if not wait or not tasks.shares[t]:
            continue
        waits.append((ready, t))
        if late[t] == starts[t]:
            waited[i] += wait
            longest[i] = max(longest.get(i, (0, 0)), (wait, starts[t]))
    for i in sorted(waited, key=lambda i: (-waited[i], i))[:WAITING]:
        before = longest[i][1] - 1
        holders = [t for t in tasks.on_channel if starts[t] <= before < starts[t] + tasks.durations[t]]
        others = [t for ready, t in waits if ready <= before < starts[t] and tasks.operation[t] != i]
        yield i, _operations(tasks, holders), _operations(tasks, others)


def _operations(tasks: Tasks, some: Sequence[int]) -> tuple[int, ...]:
    """The operations of some tasks, those that take most of the channel first."""
    return tuple(dict.fromkeys(tasks.operation[t] for t in sorted(some, key=lambda t: -tasks.shares[t])))
