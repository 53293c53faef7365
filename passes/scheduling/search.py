"""From problem to schedule: lists first, bounds next, CP-SAT for what is left between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from passes.scheduling.bounds import lower_bound
from passes.scheduling.listing import justified, list_schedule, self_timed
from passes.scheduling.modulo import steady_state
from passes.scheduling.problem import Problem, Tasks
from passes.scheduling.solver import SolverOptions, build, solve


@dataclass(frozen=True)
class Found:
    """A schedule: start of every task (by task number), its makespan, a proven lower bound, CP-SAT's word for both.

    `hint` is the makespan of the best list schedule, which it never exceeds.
    """

    starts: list[int]
    makespan: int
    lower_bound: int
    status: str
    hint: int


def search(problem: Problem, options: SolverOptions | None = None) -> Found:
    """The best schedule found: OPTIMAL if its makespan meets a proven bound, else FEASIBLE.

    List schedules under several rules come first; if the best meets the combinatorial bound there is nothing to solve.
    """
    options = options or SolverOptions()
    tasks = problem.tasks
    if not len(tasks):
        return Found([], 0, 0, "OPTIMAL", 0)
    bound = lower_bound(tasks)
    starts = best_list(problem, bound)
    hint = tasks.makespan(starts)
    if hint > bound and options.effort > 0:
        solution = solve(build(problem, starts, bound), options)
        bound = max(bound, solution.bound)
        if solution.starts is not None and tasks.makespan(solution.starts) < hint:
            starts = self_timed(tasks, solution.starts)
    makespan = tasks.makespan(starts)
    return Found(starts, makespan, bound, "OPTIMAL" if makespan == bound else "FEASIBLE", hint)


def best_list(problem: Problem, bound: int) -> list[int]:
    """The shortest of the list schedules, each improved by justification; stops at one that meets the bound."""
    tasks = problem.tasks
    best: list[int] = []
    least = 0
    for priority in _rules(problem, tasks):
        starts = list_schedule(tasks, priority)
        for candidate in (starts, None):
            candidate = justified(tasks, starts) if candidate is None else candidate
            span = tasks.makespan(candidate)
            if not best or span < least:
                best, least = candidate, span
            if least <= bound:
                return self_timed(tasks, best)
    return self_timed(tasks, best)


def _rules(problem: Problem, tasks: Tasks) -> Sequence[Sequence[object]]:
    """Priorities of the list schedules: critical path, oldest micro-batch, steady state, newest, earliest deadline."""
    n = tasks.operations
    steady = steady_state(problem)
    tails, heads = tasks.tails, tasks.heads
    count = range(len(tasks))
    return [
        [-tails[t] for t in count],
        [(t // n, -tails[t]) for t in count],
        [steady.offsets[t % n] + t // n * steady.interval for t in count],
        [(tails[t % n], t // n) for t in count],
        [heads[t] - tails[t] for t in count],
    ]
