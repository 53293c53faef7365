"""The scheduling problem, and its tasks: one for each operation and micro-batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from heapq import heappop, heappush
from itertools import accumulate

import numpy as np

from mgc.functions.channel import WHOLE


@dataclass(frozen=True)
class Edge:
    """`after` of micro-batch k starts no earlier than `before` of micro-batch k - lag has ended; with `whole` no
    earlier than all micro-batches of `before` have.
    """

    before: int
    after: int
    lag: int = 0
    whole: bool = False


@dataclass(frozen=True)
class Problem:
    """Operations, each with a duration (cycles, at least 1) and a unit, run for `repeats` micro-batches.

    A unit runs one operation at a time, and an operation's micro-batches run in order (nothing is lost by that: they
    are alike, so exchanging two that are out of order breaks no rule). Edges of lag 0 go from lower to higher numbers.
    `shares` says how much of the off-chip channel each takes while it runs (`mgc.functions.channel`; none given: no one
    takes any); those that run at once take no more than the whole.

    Where `streamed` is given, an operation that is not streamed runs once for all micro-batches: it waits for all of
    those before it, and all of those after it wait for it. Edges with a lag are between streamed ones then.
    """

    durations: tuple[int, ...]
    units: tuple[int, ...]
    edges: tuple[Edge, ...]
    repeats: int = 1
    names: tuple[str, ...] = ()
    streamed: tuple[bool, ...] = ()
    shares: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.shares and (
            len(self.shares) != len(self.durations) or not 0 <= min(self.shares) <= max(self.shares) <= WHOLE
        ):
            raise ValueError(f"each operation must take from 0 to {WHOLE} shares of the channel")
        if len(self.units) != len(self.durations):
            raise ValueError(f"{len(self.durations)} durations but {len(self.units)} units")
        if min(self.durations, default=1) < 1 or self.repeats < 1:
            raise ValueError("durations and repeats must be at least 1")
        if self.streamed and (
            len(self.streamed) != len(self.durations)
            or any(e.lag and not (self.streamed[e.before] and self.streamed[e.after]) for e in self.edges)
        ):
            raise ValueError("streamed must say of every operation what it is, and edges with a lag be between those")
        for e in self.edges:
            if e.lag < 0 or (e.lag == 0 and e.before >= e.after) or max(e.before, e.after) >= len(self.durations):
                raise ValueError(f"edge {e} does not go forward among {len(self.durations)} operations")

    @property
    def operations(self) -> int:
        """Number of operations."""
        return len(self.durations)

    def name(self, operation: int) -> str:
        """What an operation is called in a model or a report."""
        return self.names[operation] if self.names else f"op{operation}"

    def count(self, operation: int) -> int:
        """Tasks of an operation."""
        return self.repeats if not self.streamed or self.streamed[operation] else 1

    def load(self) -> dict[int, int]:
        """Cycles that each unit works for one micro-batch."""
        load: dict[int, int] = {}
        for unit, duration in zip(self.units, self.durations, strict=True):
            load[unit] = load.get(unit, 0) + duration
        return load

    def channel_load(self) -> int:
        """Cycles that the off-chip channel needs for one micro-batch, with nothing of it unused."""
        work = sum(s * d for s, d in zip(self.shares, self.durations, strict=True)) if self.shares else 0
        return -(-work // WHOLE)

    @cached_property
    def tasks(self) -> Tasks:
        """All tasks with their precedences."""
        return Tasks.of(self)

    def at(self, durations: Sequence[int], shares: Sequence[int]) -> Problem:
        """The same with other durations and shares of the channel."""
        other, tasks = replace(self, durations=tuple(durations), shares=tuple(shares)), self.tasks
        own = [durations[i] for i in tasks.operation], [shares[i] for i in tasks.operation]
        object.__setattr__(other, "tasks", replace(tasks, durations=own[0], shares=own[1]))
        return other


@dataclass
class Tasks:
    """Task t is micro-batch `number[t]` of operation `operation[t]`; their order is a topological one: micro-batch by
    micro-batch; where some are not streamed operation by operation, as far as edges with a lag let it be.

    `shares[t]` is its part of the off-chip channel. `before[t]` and `after[t]` list the tasks that must end before t
    starts and those that wait for t, the same operation's neighbouring micro-batches included.
    """

    operations: int
    repeats: int
    operation: list[int]
    number: list[int]
    durations: list[int]
    units: list[int]
    shares: list[int]
    before: list[list[int]]
    after: list[list[int]] = field(default_factory=list)

    @staticmethod
    def of(problem: Problem) -> Tasks:
        n, repeats = problem.operations, problem.repeats
        counts = [problem.count(i) for i in range(n)]
        into: list[dict[tuple[int, int], bool]] = [{} for _ in range(n)]
        for e in problem.edges:
            own = into[e.after]
            own[e.before, e.lag] = own.get((e.before, e.lag), False) or e.whole or counts[e.before] != counts[e.after]
        if problem.streamed:
            order, stride = [(i, k) for i in range(n) for k in range(counts[i])], 1
            first = [0, *accumulate(counts)]
        else:
            order, stride = [(i, k) for k in range(repeats) for i in range(n)], n
            first = list(range(n))
        before: list[list[int]] = []
        sources = [sorted((j, lag, whole) for (j, lag), whole in own.items()) for own in into]
        lagging = bool(problem.streamed) and any(e.lag for e in problem.edges)
        for i, k in order:
            waits = [first[i] + (k - 1) * stride] if k else []
            for j, lag, whole in sources[i]:
                if not whole and lag <= k:
                    waits.append(first[j] + (k - lag) * stride)
                elif whole and k == 0:  # the operation's own order carries this on from its first task
                    waits.append(first[j] + (counts[j] - 1) * stride)
            before.append(waits)
        if lagging:
            order, before = _in_order(order, before)
        operation, number = [i for i, _ in order], [k for _, k in order]
        durations, units = [problem.durations[i] for i in operation], [problem.units[i] for i in operation]
        shares = [problem.shares[i] if problem.shares else 0 for i in operation]
        return Tasks(n, repeats, operation, number, durations, units, shares, before)

    def __post_init__(self) -> None:
        if self.after:
            return
        self.after = [[] for _ in self.before]
        for t, sources in enumerate(self.before):
            for s in sources:
                self.after[s].append(t)

    def __len__(self) -> int:
        return len(self.durations)

    @cached_property
    def heads(self) -> list[int]:
        """The earliest start of each task by precedence alone, cycles."""
        heads = [0] * len(self)
        for t, sources in enumerate(self.before):
            heads[t] = max((heads[s] + self.durations[s] for s in sources), default=0)
        return heads

    @cached_property
    def tails(self) -> list[int]:
        """The least time between the end of each task and the end of everything, by precedence alone, cycles."""
        tails = [0] * len(self)
        for t in range(len(self) - 1, -1, -1):
            tails[t] = max((tails[s] + self.durations[s] for s in self.after[t]), default=0)
        return tails

    @cached_property
    def on_unit(self) -> dict[int, list[int]]:
        """The tasks of each unit."""
        found: dict[int, list[int]] = {}
        for t, unit in enumerate(self.units):
            found.setdefault(unit, []).append(t)
        return found

    @cached_property
    def on_channel(self) -> list[int]:
        """The tasks that take a part of the off-chip channel."""
        return [t for t, share in enumerate(self.shares) if share]

    def order(self, starts: Sequence[int]) -> list[int]:
        """The tasks in order of start, on a tie by operation and number: the order in which the channel serves them."""
        return sorted(range(len(self)), key=lambda t: (starts[t], self.operation[t], self.number[t]))

    def makespan(self, starts: Sequence[int]) -> int:
        """When the last task ends."""
        return max((s + d for s, d in zip(starts, self.durations, strict=True)), default=0)

    def matrix(self, starts: Sequence[int]) -> np.ndarray:
        """Starts as an int64 array [operations, repeats], -1 where there is no task."""
        table = np.full((self.operations, self.repeats), -1, np.int64)
        table[self.operation, self.number] = starts
        return table


def _in_order(
    tasks: Sequence[tuple[int, int]], before: Sequence[Sequence[int]]
) -> tuple[list[tuple[int, int]], list[list[int]]]:
    """Tasks in a topological order, the first of those that may come next first, with what is before each. ValueError
    if they wait for one another in a circle.
    """
    after: list[list[int]] = [[] for _ in tasks]
    missing = [len(sources) for sources in before]
    for t, sources in enumerate(before):
        for s in sources:
            after[s].append(t)
    ready = [t for t, count in enumerate(missing) if count == 0]
    order: list[int] = []
    while ready:
        t = heappop(ready)
        order.append(t)
        for s in after[t]:
            missing[s] -= 1
            if missing[s] == 0:
                heappush(ready, s)
    if len(order) < len(tasks):
        raise ValueError("operations wait for one another in a circle")
    place = {t: n for n, t in enumerate(order)}
    return [tasks[t] for t in order], [[place[s] for s in before[t]] for t in order]
