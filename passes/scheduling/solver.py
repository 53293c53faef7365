"""The CP-SAT model of the scheduling problem: built, solved and read apart from one another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mgc.functions.channel import WHOLE
from mgc.passes.scheduling.problem import Problem

if TYPE_CHECKING:
    from ortools.sat.python import cp_model


@dataclass(frozen=True)
class SolverOptions:
    """How long and how CP-SAT searches. Nothing here depends on the machine: equal options give equal schedules.

    `effort` is in CP-SAT's deterministic time (about seconds of one core), there is no wall-clock limit.
    """

    effort: float = 2.0
    workers: int = 1
    seed: int = 1


@dataclass(frozen=True)
class Solution:
    """What the solver found: its status, the starts (None if it found none) and its proven bound, cycles."""

    status: str
    starts: list[int] | None
    bound: int


@dataclass(frozen=True)
class Model:
    """A CP-SAT model with the start variable of each task."""

    model: cp_model.CpModel
    starts: list[cp_model.IntVar]
    makespan: cp_model.IntVar


def build(problem: Problem, hint: Sequence[int], bound: int) -> Model:
    """Starts of all tasks under precedence, exclusive units and the channel that they share, least makespan, which lies
    from `bound` to the hint's.

    Every task's start ranges from its head to what its tail leaves of the hint's makespan, so the hint is always
    within. Precedence alone orders the tasks of a unit that has one operation.
    """
    from ortools.sat.python import cp_model

    tasks = problem.tasks
    most = tasks.makespan(hint)
    model = cp_model.CpModel()
    makespan = model.new_int_var(bound, most, "makespan")
    starts: list[cp_model.IntVar] = []
    for t, (head, duration, tail) in enumerate(zip(tasks.heads, tasks.durations, tasks.tails, strict=True)):
        k, i = tasks.number[t], tasks.operation[t]
        start = model.new_int_var(head, most - duration - tail, f"start[{problem.name(i)},{k}]")
        model.add_hint(start, hint[t])
        starts.append(start)
        model.add(makespan >= start + duration + tail)
    for t, sources in enumerate(tasks.before):
        for s in sources:
            model.add(starts[t] >= starts[s] + tasks.durations[s])

    def busy(what: object, t: int) -> cp_model.IntervalVar:
        return model.new_fixed_size_interval_var(starts[t], tasks.durations[t], f"busy[{what},{t}]")

    for unit, members in sorted(tasks.on_unit.items()):
        if len({tasks.operation[t] for t in members}) > 1:
            model.add_no_overlap([busy(unit, t) for t in members])
    if tasks.on_channel:
        demands = [tasks.shares[t] for t in tasks.on_channel]
        model.add_cumulative([busy("channel", t) for t in tasks.on_channel], demands, WHOLE)
    model.add_hint(makespan, most)
    model.minimize(makespan)
    return Model(model, starts, makespan)


def solve(built: Model, options: SolverOptions) -> Solution:
    """Runs CP-SAT. The status is read before any value."""
    from ortools.sat.python import cp_model

    solver = cp_model.CpSolver()
    parameters = solver.parameters
    parameters.num_workers = options.workers
    parameters.interleave_search = options.workers > 1
    parameters.random_seed = options.seed
    # Bounds first, then branches on the order of each unit's tasks: on training schedules of models/zoo that finds
    # proofs that the default search does not, in less time. The linear relaxation of such a model says nothing.
    parameters.linearization_level = 0
    parameters.use_objective_lb_search = True
    parameters.use_dynamic_precedence_in_disjunctive = True
    parameters.catch_sigint_signal = False  # an interrupt ends the process, not just the search
    parameters.max_deterministic_time = options.effort
    status = solver.solve(built.model)
    name = solver.status_name(status)
    found = status in (cp_model.OPTIMAL, cp_model.FEASIBLE)
    starts = [solver.value(s) for s in built.starts] if found else None
    bound = int(solver.best_objective_bound + 0.5) if found else 0
    return Solution(name, starts, bound)
