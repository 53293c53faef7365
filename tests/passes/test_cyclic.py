"""Runs that overlap: legal whatever the run, never above a run alone, never below the bound; replay settles to them."""

from dataclasses import replace
from itertools import pairwise, permutations, product
from math import factorial, prod

from hypothesis import given, settings
from hypothesis import strategies as st
from ortools.sat.python import cp_model
from random_problems import problems

from mgc.functions.channel import WHOLE
from mgc.passes.scheduling.bounds import barrier_bound, lower_bound
from mgc.passes.scheduling.cyclic import least_interval, overlap_runs, repeat_run, self_timed_runs, with_ancestors
from mgc.passes.scheduling.problem import Edge, Problem
from mgc.passes.scheduling.search import best_list

RUNS = 5


@st.composite
def repeated(draw):
    """A problem of streamed and whole operations, waits for the run before, and moves."""
    base = draw(problems(most_operations=7, most_units=3, lags=False))
    streamed = tuple(draw(st.lists(st.booleans(), min_size=base.operations, max_size=base.operations)))
    whole = draw(st.lists(st.booleans(), min_size=len(base.edges), max_size=len(base.edges)))
    edges = tuple(Edge(e.before, e.after, 0, w) for e, w in zip(base.edges, whole, strict=True))
    problem = Problem(base.durations, base.units, edges, base.repeats, (), streamed if base.repeats > 1 else ())
    number = st.integers(0, problem.operations - 1)
    waits = draw(st.lists(st.tuples(number, number), max_size=5, unique=True))
    moves = [
        with_ancestors(problem, draw(st.lists(number, min_size=1, max_size=3))) for _ in range(draw(st.integers(0, 3)))
    ]
    return problem, waits, moves


def faults(problem, waits, starts, interval):
    """What is wrong in `RUNS` runs, by the meaning of the words alone."""
    tasks = problem.tasks
    wrong = []
    busy = {}
    ends = [s + d for s, d in zip(starts, tasks.durations, strict=True)]
    for n in range(RUNS):
        for t, start in enumerate(starts):
            busy.setdefault(tasks.units[t], []).append((start + n * interval, ends[t] + n * interval, t))
    for spans in busy.values():
        spans.sort()
        wrong += [(a, b) for a, b in pairwise(spans) if b[0] < a[1]]
    for t, (i, k) in enumerate(zip(tasks.operation, tasks.number, strict=True)):
        for s, (j, m) in enumerate(zip(tasks.operation, tasks.number, strict=True)):
            for e in problem.edges:
                alike = problem.count(i) == problem.count(j) and not e.whole
                if (e.before, e.after) == (j, i) and (not alike or k == m) and ends[s] > starts[t]:
                    wrong.append((s, t))
            if (j, i) in waits and ends[s] > starts[t] + interval:
                wrong.append((s, t, "next run"))
    return wrong


@settings(max_examples=150, deadline=None)
@given(repeated())
def test_overlapping_runs_are_legal_and_between_their_bounds(drawn):
    problem, waits, moves = drawn
    alone = best_list(problem, lower_bound(problem.tasks))
    bound = least_interval(problem, waits)
    found = overlap_runs(problem, waits, moves, alone, bound)
    assert not faults(problem, waits, found.starts, found.interval)
    assert bound == found.lower_bound <= found.interval <= problem.tasks.makespan(alone)
    assert self_timed_runs(problem, waits, found.starts, found.interval) == found.starts
    apart = repeat_run(problem, waits, alone, problem.tasks.makespan(alone), bound)
    assert not faults(problem, waits, apart.starts, apart.interval)
    assert (apart.starts, apart.period, apart.lower_bound) == (alone, problem.tasks.makespan(alone), bound)


def test_what_a_run_begins_with_goes_beside_the_end_of_the_run_before():
    # 0 -> 1 -> 2 -> 3 around by a wait from 3 to 1; 4 -> 3 shares the unit of 1 and needs nothing of the run before
    problem = Problem((4, 4, 4, 1, 4), (0, 1, 0, 2, 1), (Edge(0, 1), Edge(1, 2), Edge(2, 3)), 1)
    waits = [(3, 1)]
    alone = best_list(problem, lower_bound(problem.tasks))
    found = overlap_runs(problem, waits, [frozenset({0})], alone, least_interval(problem, waits))
    assert problem.tasks.makespan(alone) == 13
    assert (found.interval, found.lower_bound, found.status) == (9, 9, "OPTIMAL")


def test_the_bound_of_an_interval_sees_what_a_unit_does_between_two_runs():
    # 0 -> 1, 2, 3, which share unit 1 and go around to 0: the longest chain takes 4, a run 10, however runs overlap
    problem = Problem((1, 3, 3, 3, 1), (0, 1, 1, 1, 2), (Edge(0, 1), Edge(0, 2), Edge(0, 3)), 1)
    assert least_interval(problem, [(1, 0), (2, 0), (3, 0)]) == 10
    # no run waits for the one before it: unit 1 alone is the limit
    assert least_interval(problem, [(4, 4)]) == 9


def may_repeat(problem, waits, interval):
    """Whether some schedule of a tiny problem repeats every so many cycles, by CP-SAT: starts round the interval."""
    tasks = problem.tasks
    model = cp_model.CpModel()
    place = [model.new_int_var(0, interval - 1, f"place {t}") for t in range(len(tasks))]
    starts = [p + interval * model.new_int_var(0, RUNS, f"run {t}") for t, p in enumerate(place)]
    for t, before in enumerate(tasks.before):
        for s in before:
            model.add(starts[s] + tasks.durations[s] <= starts[t])
    for t, i in enumerate(tasks.operation):
        for s, j in enumerate(tasks.operation):
            if (j, i) in waits:
                model.add(starts[s] + tasks.durations[s] <= starts[t] + interval)

    def round_the_interval(own):
        return [
            model.new_fixed_size_interval_var(place[t] - turn, tasks.durations[t], f"{turn} {t}")
            for turn in (0, interval)
            for t in own
        ]

    for own in tasks.on_unit.values():
        model.add_no_overlap(round_the_interval(own))
    model.add_cumulative(round_the_interval(range(len(tasks))), 2 * tasks.shares, WHOLE)
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    status = solver.solve(model)
    assert status in (cp_model.OPTIMAL, cp_model.FEASIBLE, cp_model.INFEASIBLE)
    return status != cp_model.INFEASIBLE


@settings(max_examples=60, deadline=None)
@given(repeated(), st.data())
def test_no_schedule_repeats_sooner_than_the_bound_of_an_interval(drawn, data):
    problem, waits, moves = drawn
    some = st.one_of(st.just(0), st.integers(1, WHOLE))
    shares = data.draw(st.lists(some, min_size=problem.operations, max_size=problem.operations))
    problem = replace(problem, shares=tuple(shares))
    bound = least_interval(problem, waits)
    assert bound == 1 or not may_repeat(
        problem, waits, data.draw(st.one_of(st.just(bound - 1), st.integers(1, bound - 1)))
    )
    alone = best_list(problem, lower_bound(problem.tasks))
    found = overlap_runs(problem, waits, moves, alone, bound)
    assert may_repeat(problem, waits, found.interval)


def best_by_all_orders(problem):
    """The least makespan of a tiny problem, by every order of tasks on every unit."""
    tasks = problem.tasks
    best = 1 << 60
    for orders in product(*(permutations(own) for own in tasks.on_unit.values())):
        queues, free, end = [list(o) for o in orders], [0] * len(orders), {}
        moved = True
        while moved:
            moved = False
            for u, queue in enumerate(queues):
                while queue and all(s in end for s in tasks.before[queue[0]]):
                    t = queue.pop(0)
                    start = max([free[u], *(end[s] for s in tasks.before[t])])
                    end[t] = free[u] = start + tasks.durations[t]
                    moved = True
        if len(end) == len(tasks):
            best = min(best, max(end.values()))
    return best


@settings(max_examples=60, deadline=None)
@given(repeated())
def test_the_bound_of_barriers_is_below_every_schedule(drawn):
    problem = drawn[0]
    bound = barrier_bound(problem.tasks)
    assert lower_bound(problem.tasks) <= bound
    sizes = [len(own) for own in problem.tasks.on_unit.values()]
    if prod(factorial(n) for n in sizes) <= 3000:
        assert bound <= best_by_all_orders(problem)
    assert bound <= problem.tasks.makespan(best_list(problem, bound))


def test_the_bound_of_barriers_adds_up_what_units_do_before_and_after_one():
    # two chains share unit 0, then all is summed up (4), then two tasks share unit 4
    edges = (Edge(0, 1), Edge(1, 4), Edge(2, 3), Edge(3, 4), Edge(4, 5), Edge(4, 6))
    problem = Problem((5, 2, 5, 2, 1, 5, 5), (0, 1, 0, 2, 3, 4, 4), edges, 1)
    assert (lower_bound(problem.tasks), barrier_bound(problem.tasks)) == (18, 23)
    assert problem.tasks.makespan(best_list(problem, 23)) == 23
