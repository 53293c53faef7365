"""Which of several units runs an operation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from mgc.passes.scheduling.problem import Problem


def spread(problem: Problem, choices: Mapping[int, tuple[int, ...]]) -> Problem:
    """The problem with a unit chosen for each operation in `choices`, which gives those that can run it; all tasks of
    an operation run on one.

    In the order in which they could start by precedence alone, operations go where the least other work may want the
    unit at the same time, then where the least work is at all. That is a rule, not a proof; the bounds of the schedule
    are those of the problem it makes.
    """
    if not choices:
        return problem
    tasks = problem.tasks
    window: dict[int, tuple[int, int]] = {}
    for t, i in enumerate(tasks.operation):
        begin, end = window.get(i, (tasks.heads[t], 0))
        window[i] = min(begin, tasks.heads[t]), max(end, tasks.heads[t] + tasks.durations[t])
    held: dict[int, list[int]] = {}
    units = list(problem.units)
    for i, unit in enumerate(units):
        if i not in choices:
            held.setdefault(unit, []).append(i)
    for i in sorted(choices, key=lambda i: (window[i], i)):
        rival: dict[int, tuple[int, int, int]] = {}
        for unit in choices[i]:
            others = held.get(unit, [])
            meeting = sum(max(0, min(window[i][1], window[j][1]) - max(window[i][0], window[j][0])) for j in others)
            rival[unit] = meeting, sum(problem.durations[j] * problem.count(j) for j in others), unit
        units[i] = min(choices[i], key=rival.__getitem__)
        held.setdefault(units[i], []).append(i)
    return replace(problem, units=tuple(units))
