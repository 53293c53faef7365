"""Random scheduling problems, and the best schedule of a tiny one by trying every order."""

from dataclasses import replace
from itertools import permutations, product

import hypothesis.strategies as st

from mgc.functions.channel import WHOLE, Channel
from mgc.passes.scheduling.bounds import lower_bound
from mgc.passes.scheduling.problem import Edge, Problem
from mgc.passes.scheduling.search import TaskSchedule, best_list, improve
from mgc.passes.scheduling.solver import SolverOptions


def search(problem: Problem, options: SolverOptions | None = None) -> TaskSchedule:
    """The best schedule found. List schedules come first; if one meets the combinatorial bound, nothing is to solve."""
    bound = lower_bound(problem.tasks)
    return improve(problem, best_list(problem, bound), bound, options or SolverOptions())


@st.composite
def problems(draw, most_operations=8, most_units=4, most_repeats=4, lags=True):
    """Operations in a random order of precedence on random units; edges to later micro-batches if `lags`."""
    n = draw(st.integers(1, most_operations))
    pairs = [(a, b) for b in range(n) for a in range(b)]
    chosen = draw(st.lists(st.sampled_from(pairs), max_size=2 * n)) if pairs else []
    edges = [Edge(a, b) for a, b in sorted(set(chosen))]
    if lags:
        back = st.tuples(st.integers(0, n - 1), st.integers(0, n - 1), st.integers(1, 3))
        edges += (Edge(*e) for e in sorted(set(draw(st.lists(back, max_size=n)))))
    return Problem(
        tuple(draw(st.lists(st.integers(1, 9), min_size=n, max_size=n))),
        tuple(draw(st.lists(st.integers(0, most_units - 1), min_size=n, max_size=n))),
        tuple(edges),
        draw(st.integers(1, most_repeats)),
    )


def best_makespan(problem: Problem) -> int:
    """The least makespan, by every order of tasks on every unit, micro-batches of an operation in any order."""
    n, repeats = problem.operations, problem.repeats
    tasks = range(n * repeats)
    needs = {t: [] for t in tasks}
    for e in problem.edges:
        for k in range(e.lag, repeats):
            needs[k * n + e.after].append((k - e.lag) * n + e.before)
    units: dict[int, list[int]] = {}
    for t in tasks:
        units.setdefault(problem.units[t % n], []).append(t)
    best = 1 << 60
    for orders in product(*(permutations(members) for members in units.values())):
        end: dict[int, int] = {}
        queues = [list(o) for o in orders]
        free = [0] * len(queues)
        moved = True
        while moved:
            moved = False
            for u, queue in enumerate(queues):
                while queue and all(s in end for s in needs[queue[0]]):
                    t = queue.pop(0)
                    start = max([free[u], *(end[s] for s in needs[t])])
                    end[t] = free[u] = start + problem.durations[t % n]
                    moved = True
        if len(end) == len(tasks):
            best = min(best, max(end.values()))
    return best


@st.composite
def parted(draw, **most):
    """A batch in parts: streamed and whole operations that share the off-chip channel; some of those that need the same
    part of another are only so many parts behind it.
    """
    base = draw(problems(lags=False, **most))
    count = st.integers(0, base.operations - 1)
    whole = draw(st.lists(st.booleans(), min_size=len(base.edges), max_size=len(base.edges)))
    edges = [Edge(e.before, e.after, 0, w) for e, w in zip(base.edges, whole, strict=True)]
    share = st.one_of(st.just(0), st.integers(1, WHOLE))
    streamed = tuple(k not in draw(st.sets(count, max_size=2)) for k in range(base.operations))
    if base.repeats > 1 and not any(whole) and all(streamed):  # no barrier, so any limits can be kept
        edges += [Edge(e.after, e.before, draw(st.integers(1, 2))) for e in base.edges if draw(st.booleans())]
    shares = tuple(draw(st.lists(share, min_size=base.operations, max_size=base.operations)))
    return replace(base, edges=tuple(edges), streamed=streamed if base.repeats > 1 else (), shares=shares)


def faults_of(problem: Problem, starts: list[int]) -> list[object]:
    """What is wrong with a schedule of a batch in parts, by the meaning of the words alone."""
    tasks = problem.tasks
    number = {(i, k): t for t, (i, k) in enumerate(zip(tasks.operation, tasks.number, strict=True))}
    ends = [s + problem.durations[i] for s, i in zip(starts, tasks.operation, strict=True)]
    wrong: list[object] = []
    for e in problem.edges:
        counts = problem.count(e.before), problem.count(e.after)
        for k in range(counts[1]):
            together = e.whole or counts[0] != counts[1]
            needed = range(counts[0]) if together else range(k - e.lag, k - e.lag + 1)
            wrong += [(e, k) for m in needed if m >= 0 and ends[number[e.before, m]] > starts[number[e.after, k]]]
    for t, (i, k) in enumerate(zip(tasks.operation, tasks.number, strict=True)):
        wrong += [("order", t)] if k and ends[number[i, k - 1]] > starts[t] else []
        for s in range(t):
            if problem.units[tasks.operation[s]] == problem.units[i] and starts[s] < ends[t] and starts[t] < ends[s]:
                wrong.append(("unit", s, t))
        running = [s for s in range(len(tasks)) if starts[s] <= starts[t] < ends[s]]
        if problem.shares and sum(problem.shares[tasks.operation[s]] for s in running) > WHOLE:
            wrong.append(("channel", t))
    return wrong


def best_on_channel(problem: Problem) -> int:
    """The least makespan by every order of starts: each task as early as those before it in the order let it."""
    tasks = problem.tasks
    best = 1 << 60
    for order in permutations(range(len(tasks))):
        end: dict[int, int] = {}
        free, last, channel = dict.fromkeys(tasks.units, 0), 0, Channel()
        for t in order:
            if any(s not in end for s in tasks.before[t]):
                break
            at = max([last, free[tasks.units[t]], *(end[s] for s in tasks.before[t])])
            last = channel.grant(at, tasks.durations[t], tasks.shares[t]) if tasks.shares[t] else at
            end[t] = free[tasks.units[t]] = last + tasks.durations[t]
        else:
            best = min(best, max(end.values()))
    return best
