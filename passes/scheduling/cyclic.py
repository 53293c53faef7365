"""Runs that overlap: a schedule that repeats every so many cycles, found by moving what a run begins with into the run
before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice

from mgc.functions.channel import WHOLE, Channel
from mgc.passes.scheduling.bounds import chains_from, least_between
from mgc.passes.scheduling.listing import as_late
from mgc.passes.scheduling.problem import Edge, Problem, Tasks
from mgc.passes.scheduling.search import TaskSchedule, candidates

LIST_BUDGET = 300_000
"""Tasks that list schedules may place, all moves together."""

SETTLE_BUDGET = 240_000
"""Tasks that runs which overlap may be timed anew, until the channel keeps its order; few schedules need so many."""

FIRST = 4
"""Schedules of each move that are looked at before the best of them get more."""

MOST_CHAINS = 64
"""Operations from which chains into the next run are followed for the bound."""

MOST_CUTS = 4
"""Places on the longest way around at which it is cut to look at what units do from one to the next."""


Waits = Sequence[tuple[int, int]]
"""(before, after): operation `after` of a run starts when all tasks of `before` of the run before it have ended."""


def overlap_runs(
    problem: Problem, waits: Waits, moves: Sequence[frozenset[int]], alone: list[int], bound: int
) -> TaskSchedule:
    """The schedule of least interval found; `alone` are the starts of a run on its own, the hint, whose makespan the
    interval never exceeds. `bound` is proven for the interval.

    `moves` are sets of operations that need nothing of the others in their own run: in a window of the repeating
    schedule such a set is that of the next run, beside the rest of this one. A window is a problem without repetition;
    how closely windows follow one another is then read off its units and waits.
    """
    tasks = problem.tasks
    best = alone, tasks.makespan(alone)
    spent = 0
    tried: list[tuple[int, int, frozenset[int], Iterator[list[int]]]] = []
    places: dict[frozenset[int], list[int]] = {}

    def improve(moved: frozenset[int], schedules: Iterator[list[int]]) -> int:
        nonlocal best, spent
        least = best[1] if moved else tasks.makespan(alone)
        for starts in schedules:
            spent += len(tasks)
            own = [starts[t] for t in places[moved]]
            interval = _interval(problem, waits, moved, own)
            least = min(least, interval)
            if interval < best[1]:
                run = [s if tasks.operation[t] in moved else s + interval for t, s in enumerate(own)]
                first = min(run)
                best = [s - first for s in run], interval
            if best[1] <= bound or spent > LIST_BUDGET:
                break
        return least

    for moved in (*moves, frozenset()):
        window, places[moved] = _window(problem, waits, moved)
        schedules = _both_ways(window)
        tried.append((improve(moved, islice(schedules, FIRST)), len(tried), moved, schedules))
    for _, _, moved, schedules in sorted(tried, key=lambda m: m[:2]):
        if best[1] <= bound or spent > LIST_BUDGET:
            break
        improve(moved, schedules)
    timed = _settled(problem, waits, *best, max(2, SETTLE_BUDGET // len(tasks)))
    if timed is None:
        found = repeat_run(problem, waits, alone, tasks.makespan(alone), bound)
    else:
        found = TaskSchedule(timed, tasks.makespan(timed), bound, best[1], best[1])
    return replace(found, hint=tasks.makespan(alone))


def repeat_run(problem: Problem, waits: Waits, starts: Sequence[int], interval: int, bound: int) -> TaskSchedule:
    """A schedule that repeats every `interval` cycles, as a run on its own does whose makespan that is; `bound` is
    proven for the interval.
    """
    timed = self_timed_runs(problem, waits, starts, interval)
    return TaskSchedule(timed, problem.tasks.makespan(timed), bound, interval, interval)


def _both_ways(window: Problem) -> Iterator[list[int]]:
    """List schedules of a window, and each with everything as late as it goes: then what is moved ends near what it
    begins with, and is soon done with its bytes.
    """
    for starts in candidates(window):
        yield starts
        yield as_late(window.tasks, starts)


def least_interval(problem: Problem, waits: Waits) -> int:
    """A proven lower bound: the work of the busiest unit, that of the off-chip channel, and what has to happen on the
    longest way around from a run to the next.

    A task of one run and that of the next are an interval apart. What lies between them on some chain happens in that
    time, and the units that do it need theirs: the last updates of one run delay the first products of the next, though
    no chain leads from one update to another.
    """
    load: dict[int, int] = {}
    tasks = problem.tasks
    for unit, duration in zip(tasks.units, tasks.durations, strict=True):
        load[unit] = load.get(unit, 0) + duration
    moved = sum(tasks.shares[t] * tasks.durations[t] for t in tasks.on_channel)
    bound = max(*load.values(), -(-moved // WHOLE), 0)
    first, last = _ends(problem)
    # no chain to a task is longer than to its end by all ways, so starts with the longest of those first
    reach: dict[int, int] = {}
    for b, a in waits:
        way = tasks.heads[last[b]] + tasks.durations[last[b]] - tasks.heads[first[a]]
        reach[first[a]] = max(reach.get(first[a], 0), way)
    two, n = _two_runs(problem, waits), len(tasks)
    ring: list[int] = []
    longest = 0
    for t in sorted(reach, key=lambda t: (-reach[t], t))[:MOST_CHAINS]:
        if reach[t] <= longest:
            break
        chain = chains_from(two, t, t + n)
        if chain[n] > longest:
            ring, longest = _longest(two, t, chain), chain[n]
    bound = max(bound, longest)
    for t in ring[len(ring) // MOST_CUTS // 2 :: max(1, len(ring) // MOST_CUTS)]:
        bound = max(bound, least_between(two, t % n, t % n + n))
    return bound


def _two_runs(problem: Problem, waits: Waits) -> Tasks:
    """The tasks of one run and then those of the next, which wait for it."""
    tasks, n = problem.tasks, len(problem.tasks)
    first, last = _ends(problem)
    before = [*(list(b) for b in tasks.before), *([s + n for s in b] for b in tasks.before)]
    for b, a in waits:
        before[first[a] + n].append(last[b])
    return replace(
        tasks,
        operation=2 * tasks.operation,
        number=2 * tasks.number,
        durations=2 * tasks.durations,
        units=2 * tasks.units,
        shares=2 * tasks.shares,
        before=before,
        after=[],
    )


def _longest(tasks: Tasks, start: int, chain: Sequence[int]) -> list[int]:
    """The tasks on the longest chain from a task to another, of which `chain` has the lengths."""
    found = [start + len(chain) - 1]
    while found[-1] != start:
        own = [s for s in tasks.before[found[-1]] if s >= start and chain[s - start] >= 0]
        found.append(max(own, key=lambda s: chain[s - start] + tasks.durations[s]))
    return found[::-1]


def _ends(problem: Problem) -> tuple[list[int], list[int]]:
    """The first and the last task of each operation."""
    first, last = [-1] * problem.operations, [-1] * problem.operations
    for t, i in enumerate(problem.tasks.operation):
        first[i] = t if first[i] < 0 else first[i]
        last[i] = t
    return first, last


def _window(problem: Problem, waits: Waits, moved: frozenset[int]) -> tuple[Problem, list[int]]:
    """One window: what is not moved, then what is, of the next run; and where each task of a run is in it."""
    order = sorted(range(problem.operations), key=lambda i: (i in moved, i))
    at = {i: n for n, i in enumerate(order)}
    edges = [
        Edge(at[e.before], at[e.after], e.lag, e.whole)
        for e in problem.edges
        if (e.before in moved) == (e.after in moved)
    ]
    edges += [Edge(at[b], at[a], 0, True) for b, a in waits if a in moved and b not in moved]
    window = replace(
        problem,
        durations=tuple(problem.durations[i] for i in order),
        units=tuple(problem.units[i] for i in order),
        edges=tuple(edges),
        names=tuple(problem.names[i] for i in order) if problem.names else (),
        streamed=tuple(problem.streamed[i] for i in order) if problem.streamed else (),
        shares=tuple(problem.shares[i] for i in order) if problem.shares else (),
    )
    place = {(i, k): t for t, (i, k) in enumerate(zip(window.tasks.operation, window.tasks.number, strict=True))}
    tasks = problem.tasks
    return window, [place[at[i], k] for i, k in zip(tasks.operation, tasks.number, strict=True)]


def _interval(problem: Problem, waits: Waits, moved: frozenset[int], starts: Sequence[int]) -> int:
    """The least distance of windows that is found: units are free, so is what each takes of the channel, and waits from
    window to window are kept.
    """
    tasks = problem.tasks
    ends = [s + d for s, d in zip(starts, tasks.durations, strict=True)]
    interval = max(max(ends[t] for t in own) - min(starts[t] for t in own) for own in tasks.on_unit.values())
    for t, before in enumerate(tasks.before):
        if tasks.operation[t] not in moved:
            for s in before:
                if tasks.operation[s] in moved:
                    interval = max(interval, ends[s] - starts[t])
    first, last = _ends(problem)
    for b, a in waits:
        lag = 1 + (b in moved) - (a in moved)
        if lag:
            interval = max(interval, -(-(ends[last[b]] - starts[first[a]]) // lag))
    span = max(ends) - min(starts)  # so far apart they do not meet
    while over := _overlap_on_channel(problem, starts, interval):
        interval = min(interval + over, span)
    return interval


def _overlap_on_channel(problem: Problem, starts: Sequence[int], interval: int) -> int:
    """By how many cycles windows have to be farther apart to part two tasks that, with others, ask for more than the
    off-chip channel; 0 if it has room for all.
    """
    tasks = problem.tasks
    durations = tasks.durations
    events = [(starts[t] % interval, 1, t) for t in tasks.on_channel]
    events += [((starts[t] + durations[t]) % interval, 0, t) for t in tasks.on_channel]
    events.sort()  # ends come first
    used = 0
    running: dict[int, None] = {}
    for cycle, begins, t in events * 2:  # the first time round finds what is at work at the turn
        if not begins:
            used -= tasks.shares[t] if t in running else 0
            running.pop(t, None)
            continue
        used += tasks.shares[t]
        running[t] = None
        if used <= WHOLE:
            continue
        apart: list[int] = []
        for s in running:
            # runs between these two: a longer interval moves the later one away
            between = starts[s] // interval + (starts[s] % interval > cycle) - starts[t] // interval
            if between > 0:
                left = starts[s] + durations[s] - starts[t] - between * interval
            else:
                left = starts[t] + durations[t] - starts[s] + between * interval
            apart += [-(-left // abs(between))] if between else []
        return max(1, min(apart, default=1))
    return 0


def self_timed_runs(problem: Problem, waits: Waits, starts: Sequence[int], interval: int) -> list[int]:
    """The earliest repeating schedule in which every unit, and the off-chip channel, keeps its order: what replay
    settles to.
    """
    timed = _settled(problem, waits, starts, interval, None)
    assert timed is not None
    return timed


def _settled(
    problem: Problem, waits: Waits, starts: Sequence[int], interval: int, rounds: int | None
) -> list[int] | None:
    """The same; None if so many rounds do not lead to it."""
    current = list(starts)
    while rounds is None or rounds > 0:
        moved = _self_timed_runs(problem, waits, current, interval)
        if moved == current or not problem.tasks.on_channel:
            return moved
        current = moved
        rounds = None if rounds is None else rounds - 1
    return None


def _self_timed_runs(problem: Problem, waits: Waits, starts: Sequence[int], interval: int) -> list[int]:
    """Interval after interval, from the first run on, until one is as the one before it."""
    tasks = problem.tasks
    durations, shares = tasks.durations, tasks.shares
    first, last = _ends(problem)
    # (s, k): task s of the run k after this one, which is one before it for k = -1
    edges: list[list[tuple[int, int]]] = [[(s, 0) for s in before] for before in tasks.before]
    for b, a in waits:
        edges[first[a]].append((last[b], -1))
    for own in tasks.on_unit.values():
        order = sorted(own, key=lambda t: (starts[t] % interval, starts[t]))
        for s, t in zip(order, [*order[1:], order[0]], strict=True):
            # the latest run of s that is not after this run of t
            edges[t].append((s, (starts[t] - starts[s] - (1 if s == t else 0)) // interval))
    order = sorted(range(len(tasks)), key=lambda t: (starts[t] % interval, tasks.operation[t], tasks.number[t]))
    place = [s // interval for s in starts]
    tasks_in_order = [(t, place[t], edges[t], durations[t], shares[t]) for t in order]
    runs: list[list[int]] = []  # when each task of a run ends
    channel = Channel()
    window = alike = 0
    while alike <= max(place) + 1:
        alike += 1
        runs.append(list(durations))
        for t, behind, before, duration, share in tasks_in_order:
            n = window - behind
            if n < 0:
                alike = 0
                continue
            at = n * interval
            for s, k in before:
                if n + k >= 0 and runs[n + k][s] > at:
                    at = runs[n + k][s]
            if share:
                at = channel.grant(at, duration, share)
            runs[n][t] = at + duration
            if n == 0 or runs[n][t] - runs[n - 1][t] != interval:
                alike = 0
        window += 1
    return [runs[window - 1 - p][t] - durations[t] - (window - 1 - p) * interval for t, p in enumerate(place)]


def with_ancestors(problem: Problem, wanted: Iterable[int]) -> frozenset[int]:
    """Operations with all that they need in their own run."""
    import networkx as nx

    graph = nx.DiGraph((e.before, e.after) for e in problem.edges)
    graph.add_edges_from((i, -1) for i in wanted)  # -1 is what needs just them
    return frozenset(nx.ancestors(graph, -1)) if -1 in graph else frozenset()
