"""Random scheduling problems, and the best schedule of a tiny one by trying every order."""

from itertools import permutations, product

import hypothesis.strategies as st

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
