"""The steady state: one micro-batch's schedule that repeats every `interval` cycles without clashes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mgc.passes.scheduling.problem import Problem


@dataclass(frozen=True)
class SteadyState:
    """Operation i of micro-batch k starts at offsets[i] + k * interval."""

    interval: int
    offsets: tuple[int, ...]


def steady_state(problem: Problem) -> SteadyState:
    """A periodic schedule of the least interval there is: the load of the busiest unit. Edges of lag > 0 are not seen.

    Operations are placed in topological order, each as early as its unit is free modulo the interval. Where that leaves
    a unit's free time in pieces too small, its operations are put next to each other instead, which always fits.
    """
    interval = max(problem.load().values(), default=1)
    packed: set[int] = set()
    while True:
        offsets, stuck = _place(problem, interval, packed)
        if stuck is None:
            return SteadyState(interval, tuple(offsets))
        packed.add(stuck)


def _place(problem: Problem, interval: int, packed: set[int]) -> tuple[list[int], int | None]:
    """Offsets, and the unit on which an operation found no place (None: all did)."""
    into: list[list[int]] = [[] for _ in range(problem.operations)]
    for e in problem.edges:
        if e.lag == 0:
            into[e.after].append(e.before)
    taken: dict[int, list[tuple[int, int]]] = {u: [] for u in set(problem.units)}
    offsets = [0] * problem.operations
    for i, duration in enumerate(problem.durations):
        ready = max((offsets[j] + problem.durations[j] for j in into[i]), default=0)
        unit = problem.units[i]
        at = _free(taken[unit], ready, duration, interval, packed=unit in packed)
        if at is None:
            return offsets, unit
        offsets[i] = at
        taken[unit].append((at % interval, duration))
    return offsets, None


def _free(taken: Sequence[tuple[int, int]], ready: int, duration: int, interval: int, *, packed: bool) -> int | None:
    """The first time from `ready` on at which `duration` cycles are free modulo the interval."""
    phases = [(start + d) % interval for start, d in taken]  # right behind another operation
    if packed and taken:
        phases += [(start - duration) % interval for start, _ in taken]  # or right before one
    else:
        phases.append(ready % interval)
    candidates = sorted(ready + (p - ready) % interval for p in phases)
    for at in candidates:
        if all(_apart(at % interval, duration, start, d, interval) for start, d in taken):
            return at
    return None


def _apart(a: int, a_duration: int, b: int, b_duration: int, interval: int) -> bool:
    """Whether two arcs of a circle of `interval` cycles do not overlap."""
    return (b - a) % interval >= a_duration and (a - b) % interval >= b_duration
