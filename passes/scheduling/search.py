"""From problem to schedule: lists first, bounds next, CP-SAT for what is left between them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mgc.passes.scheduling.listing import justify, list_schedule, self_timed
from mgc.passes.scheduling.modulo import steady_state
from mgc.passes.scheduling.problem import Problem
from mgc.passes.scheduling.solver import SolverOptions, build, solve

MOST_TASKS = 2500
"""Tasks of the largest problem that goes to CP-SAT whole: beyond, building the model alone takes seconds."""

MOST_ON_CHANNEL = 200
"""Tasks that share the off-chip channel in the largest problem that goes to CP-SAT: with more of them a step of its
search takes far longer than the deterministic time that it counts.
"""

LIST_BUDGET = 100_000
"""Tasks that list schedules may place, all candidates together: about a second."""

SMALL_GAP = 0.005
"""Below this gap CP-SAT gets a quarter of its effort: there is little to win."""


@dataclass(frozen=True)
class TaskSchedule:
    """A schedule: start of every task (by task number), its makespan, a proven lower bound, CP-SAT's word for both.

    `hint` is the makespan of the best list schedule, which it never exceeds. Where runs overlap, task t of run n starts
    at starts[t] + n * interval, and the bound and the hint are those of the interval.
    """

    starts: list[int]
    makespan: int
    lower_bound: int
    hint: int
    interval: int = 0

    @property
    def period(self) -> int:
        """Cycles from a run to the next: the interval, or the makespan."""
        return self.interval or self.makespan

    @property
    def status(self) -> str:
        """OPTIMAL if the period meets the bound, else FEASIBLE."""
        return "OPTIMAL" if self.period == self.lower_bound else "FEASIBLE"


def improve(problem: Problem, hint: list[int], bound: int, options: SolverOptions) -> TaskSchedule:
    """The schedule that CP-SAT makes of a hint, left-justified; the hint itself where it finds none that is shorter."""
    tasks = problem.tasks
    most = tasks.makespan(hint)
    found = TaskSchedule(hint, most, bound, most)
    if most == bound or len(tasks) > MOST_TASKS or len(tasks.on_channel) > MOST_ON_CHANNEL or options.effort <= 0:
        return found
    if most <= bound * (1 + SMALL_GAP):
        options = replace(options, effort=options.effort / 4)
    solution = solve(build(problem, hint, bound), options)
    found = replace(found, lower_bound=max(bound, solution.bound))
    if solution.starts is not None and tasks.makespan(solution.starts) < most:
        starts = self_timed(tasks, solution.starts)
        found = replace(found, starts=starts, makespan=tasks.makespan(starts))
    return found


def best_list(problem: Problem, bound: int) -> list[int]:
    """The shortest of the steady state's schedule and several list schedules.

    Stops at one that meets the bound, or once `LIST_BUDGET` tasks have been scheduled over and over.
    """
    tasks = problem.tasks
    best: list[int] = []
    least = spent = 0
    for starts in candidates(problem):
        span = tasks.makespan(starts)
        spent += len(tasks)
        if not best or span < least:
            best, least = starts, span
        if least <= bound or spent > LIST_BUDGET:
            break
    return self_timed(tasks, best)


def candidates(problem: Problem) -> Iterator[list[int]]:
    """Schedules by several rules, each also improved by justification: the most promising first."""
    tasks = problem.tasks
    plain: list[list[int]] = []
    for priority in _rules(problem):
        for patient in (False, True)[: 1 + bool(tasks.on_channel)]:
            plain.append(list_schedule(tasks, priority, patient=patient))
            yield plain[-1]
    steady = _steady_starts(problem) if problem.repeats > 1 and not problem.streamed else None
    if steady is not None:
        plain.append(steady)
        yield steady
    for starts in sorted(plain, key=tasks.makespan):
        yield from justify(tasks, starts)


def _steady_starts(problem: Problem) -> list[int] | None:
    """The steady state's schedule, left-justified; None where edges between micro-batches do not allow its order."""
    steady = steady_state(problem)
    n = problem.operations
    starts = [steady.offsets[t % n] + t // n * steady.interval for t in range(n * problem.repeats)]
    ends = [s + d for s, d in zip(starts, problem.tasks.durations, strict=True)]
    if any(starts[t] < ends[s] for t, before in enumerate(problem.tasks.before) for s in before):
        return None
    return self_timed(problem.tasks, starts)


def _rules(problem: Problem) -> Iterator[Sequence[Any]]:
    """Priorities of the list schedules (least first), by name in the comments."""
    tasks, n = problem.tasks, problem.operations
    tails, heads = tasks.tails, tasks.heads
    count = range(len(tasks))
    yield [-tails[t] for t in count]  # critical path
    if problem.repeats == 1:
        return
    if problem.streamed:
        yield [(tasks.number[t], -tails[t]) for t in count]  # oldest micro-batch
        yield [heads[t] - tails[t] for t in count]  # least time from before to after
        yield [(heads[t], -tails[t]) for t in count]  # what could have started first
        return
    yield [(t // n, -tails[t]) for t in count]  # oldest micro-batch
    steady = steady_state(problem)
    yield [steady.offsets[t % n] + t // n * steady.interval for t in count]  # steady state
    yield [(tails[t % n], t // n) for t in count]  # what is nearest to its end
    yield [heads[t] - tails[t] for t in count]  # least time from before to after
