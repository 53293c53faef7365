"""Schedules: legal, never below their bound, optimal where they say so, the same in every process."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from checker import Facts, Instruction, check
from hypothesis import given, settings
from hypothesis import strategies as st
from random_problems import best_makespan, problems, search

from mgc.passes.scheduling.bounds import lower_bound, one_machine
from mgc.passes.scheduling.listing import justify, list_schedule, self_timed
from mgc.passes.scheduling.modulo import steady_state
from mgc.passes.scheduling.problem import Edge, Problem
from mgc.passes.scheduling.search import best_list
from mgc.passes.scheduling.solver import SolverOptions, build, solve

QUICK = SolverOptions(effort=0.3)


def facts_of(problem: Problem, starts: list[int], bound: int = 0) -> Facts:
    """A schedule as the independent checker sees it, without memory."""
    instructions = tuple(
        Instruction(
            problem.units[i],
            problem.durations[i],
            tuple(e.before for e in problem.edges if e.after == i and e.lag == 0),
            tuple((e.before, e.lag) for e in problem.edges if e.after == i and e.lag),
            (),
            (),
        )
        for i in range(problem.operations)
    )
    table = np.array(starts, np.int64).reshape(problem.repeats, -1).T
    makespan = max(s + problem.durations[t % problem.operations] for t, s in enumerate(starts))
    return Facts(instructions, {}, table, makespan, bound, {})


@settings(max_examples=150, deadline=None)
@given(problems())
def test_every_schedule_passes_the_independent_checker_and_its_bound(problem):
    tasks = problem.tasks
    bound = lower_bound(tasks)
    for starts in (
        list_schedule(tasks, [0] * len(tasks)),
        self_timed(tasks, list_schedule(tasks, [-t for t in tasks.tails], backward=True)),
        *justify(tasks, list_schedule(tasks, tasks.heads)),
        best_list(problem, bound),
    ):
        assert not check(facts_of(problem, starts, bound))


@settings(max_examples=25, deadline=None)
@given(problems())
def test_search_is_never_worse_than_its_hint_and_legal(problem):
    found = search(problem, QUICK)
    assert not check(facts_of(problem, found.starts, found.lower_bound))
    assert found.lower_bound <= found.makespan <= found.hint
    assert found.makespan == problem.tasks.makespan(found.starts)


@settings(max_examples=40, deadline=None)
@given(problems(most_operations=4, most_units=3, most_repeats=2))
def test_search_is_optimal_on_tiny_problems(problem):
    found = search(problem, SolverOptions(effort=5))
    assert found.status == "OPTIMAL"
    assert found.makespan == best_makespan(problem)


@settings(max_examples=100, deadline=None)
@given(problems(lags=False))
def test_the_steady_state_repeats_without_clashes(problem):
    steady = steady_state(problem)
    assert steady.interval == max(problem.load().values())
    for e in problem.edges:
        assert steady.offsets[e.after] >= steady.offsets[e.before] + problem.durations[e.before]
    for unit in set(problem.units):
        members = [i for i, u in enumerate(problem.units) if u == unit]
        busy = [(steady.offsets[i] + c) % steady.interval for i in members for c in range(problem.durations[i])]
        assert len(busy) == len(set(busy))


@given(st.lists(st.integers(1, 20), min_size=1, max_size=8), st.integers(1, 20))
def test_a_pipeline_takes_its_length_and_the_slowest_stage_again_for_each_batch(stages, repeats):
    edges = tuple(Edge(i, i + 1) for i in range(len(stages) - 1))
    problem = Problem(tuple(stages), tuple(range(len(stages))), edges, repeats)
    found = search(problem)
    assert found.status == "OPTIMAL"
    assert found.makespan == sum(stages) + (repeats - 1) * max(stages)


def test_unit_stages_reach_the_yardstick_without_and_with_pipelining():
    # one phase of L + 1 unit stages, B samples: B * (L + 1) one after the other, L + B pipelined
    stages, batch = 11, 64
    chain = tuple(Edge(i, i + 1) for i in range(stages - 1))
    barrier = (*chain, Edge(stages - 1, 0, 1))
    assert search(Problem((1,) * stages, tuple(range(stages)), barrier, batch)).makespan == stages * batch
    assert search(Problem((1,) * stages, tuple(range(stages)), chain, batch)).makespan == stages + batch - 1


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 9), st.integers(0, 9)), min_size=1, max_size=6))
def test_one_machine_bound_is_below_every_order(jobs):
    from itertools import permutations

    heads, durations, tails = (list(column) for column in zip(*jobs, strict=True))
    best = 1 << 60
    for order in permutations(range(len(jobs))):
        time = span = 0
        for j in order:
            time = max(time, heads[j]) + durations[j]
            span = max(span, time + tails[j])
        best = min(best, span)
    assert one_machine(range(len(jobs)), heads, durations, tails) <= best


def test_the_solver_improves_a_bad_hint_and_proves_it():
    # a long task first on the shared unit delays the chain: the list is fooled by equal tails
    problem = Problem((5, 1, 6, 1, 6), (0, 0, 1, 0, 2), (Edge(1, 2), Edge(3, 4)))
    bad = self_timed(problem.tasks, [0, 5, 6, 6, 7])
    solution = solve(build(problem, bad, lower_bound(problem.tasks)), SolverOptions())
    assert solution.status == "OPTIMAL"
    assert solution.starts is not None
    assert problem.tasks.makespan(solution.starts) == solution.bound == 8 < problem.tasks.makespan(bad)
    assert {v.name.split("[")[0] for v in build(problem, bad, 0).model.proto.variables} == {"makespan", "start"}


@pytest.mark.parametrize("wrong", ["precedence", "overlap", "makespan", "late"])
def test_the_checker_rejects_mutated_schedules(wrong):
    problem = Problem((3, 4, 2), (0, 1, 0), (Edge(0, 1), Edge(1, 2)), 3)
    found = search(problem)
    facts = facts_of(problem, found.starts)
    assert not check(facts)
    starts = facts.starts.copy()
    if wrong == "precedence":
        starts[1, 1] -= 1
    elif wrong == "overlap":
        starts[2, 0] = starts[0, 1]
    elif wrong == "late":
        starts[2, 2] += 1
    makespan = facts.makespan + (wrong == "makespan") + (wrong == "late")
    assert check(replace(facts, starts=starts, makespan=makespan))


def test_a_broken_problem_is_refused():
    with pytest.raises(ValueError, match="does not go forward"):
        Problem((1, 1), (0, 0), (Edge(1, 0),))
    with pytest.raises(ValueError, match="at least 1"):
        Problem((0,), (0,), ())


def test_schedules_do_not_depend_on_the_process():
    code = (
        "from random import Random\n"
        "from mgc.passes.scheduling.problem import Edge, Problem\n"
        "from random_problems import search\n"
        "from mgc.passes.scheduling.solver import SolverOptions\n"
        "r = Random(1)\n"
        "edges = tuple(Edge(r.randrange(i), i) for i in range(1, 14))\n"
        "p = Problem(tuple(r.randint(1, 30) for _ in range(14)), tuple(r.randrange(4) for _ in range(14)), edges, 5)\n"
        "f = search(p, SolverOptions(effort=0.5))\n"
        "print(f.starts, f.lower_bound, f.hint)\n"
    )
    path = os.pathsep.join(map(str, (Path(__file__).parents[2], Path(__file__).parent)))
    outputs = set()
    for seed in ("0", "1"):
        environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": path}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
        outputs.add(done.stdout)
    assert len(outputs) == 1
