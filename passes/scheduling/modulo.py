"""The steady state: one micro-batch's schedule that repeats every `interval` cycles without clashes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mgc.functions.channel import WHOLE
from mgc.passes.scheduling.problem import Problem


@dataclass(frozen=True)
class SteadyState:
    """Operation i of micro-batch k starts at offsets[i] + k * interval."""

    interval: int
    offsets: tuple[int, ...]


def steady_state(problem: Problem) -> SteadyState:
    """A periodic schedule of the least interval there is: the load of the busiest unit, or of the off-chip channel.
    Edges of lag > 0 are not seen.

    Operations are placed in topological order, each as early as its unit and its part of the channel are free modulo
    the interval. Where that leaves a unit's free time in pieces too small, its operations are put next to each other
    instead, which always fits; where the channel has no room even so, the interval is made longer.
    """
    interval = max(max(problem.load().values(), default=1), problem.channel_load())
    packed: set[int] = set()
    while True:
        offsets, stuck = _place(problem, interval, packed)
        if stuck is None:
            return SteadyState(interval, tuple(offsets))
        if stuck in packed:
            interval += -(-interval // LONGER)
        packed.add(stuck)


LONGER = 16
"""The part by which an interval is made longer in which operations find no room."""


def _place(problem: Problem, interval: int, packed: set[int]) -> tuple[list[int], int | None]:
    """Offsets, and the unit on which an operation found no place (None: all did)."""
    into: list[list[int]] = [[] for _ in range(problem.operations)]
    for e in problem.edges:
        if e.lag == 0:
            into[e.after].append(e.before)
    taken: dict[int, list[tuple[int, int]]] = {u: [] for u in set(problem.units)}
    channel: list[tuple[int, int, int]] = []  # start modulo the interval, duration, shares
    offsets = [0] * problem.operations
    for i, duration in enumerate(problem.durations):
        ready = max((offsets[j] + problem.durations[j] for j in into[i]), default=0)
        unit, share = problem.units[i], problem.shares[i] if problem.shares else 0
        for at in _free(taken[unit], channel if share else (), ready, duration, interval, packed=unit in packed):
            if not share or _has_room(channel, at % interval, duration, share, interval):
                break
        else:
            return offsets, unit
        offsets[i] = at
        taken[unit].append((at % interval, duration))
        if share:
            channel.append((at % interval, duration, share))
    return offsets, None


def _free(
    taken: Sequence[tuple[int, int]],
    channel: Sequence[tuple[int, int, int]],
    ready: int,
    duration: int,
    interval: int,
    *,
    packed: bool,
) -> Iterator[int]:
    """The times from `ready` on at which `duration` cycles are free modulo the interval, as early as can be, or when
    something on the channel ends.
    """
    phases = [(start + d) % interval for start, d in taken]  # right behind another operation
    if packed and taken:
        phases += [(start - duration) % interval for start, _ in taken]  # or right before one
    else:
        phases.append(ready % interval)
    phases += [(start + d) % interval for start, d, _ in channel]
    for at in sorted({ready + (p - ready) % interval for p in phases}):
        if all(_apart(at % interval, duration, start, d, interval) for start, d in taken):
            yield at


def _has_room(channel: Sequence[tuple[int, int, int]], at: int, duration: int, share: int, interval: int) -> bool:
    """Whether the channel has room for a share, from `at` on for so long, modulo the interval."""
    met = [(start, d, s) for start, d, s in channel if not _apart(at, duration, start, d, interval)]
    if share + sum(s for _, _, s in met) <= WHOLE:
        return True
    # the most is taken when one of them starts
    moments = [at, *(start for start, _, _ in met if (start - at) % interval < duration)]
    return all(share + sum(s for start, d, s in met if (m - start) % interval < d) <= WHOLE for m in moments)


def _apart(a: int, a_duration: int, b: int, b_duration: int, interval: int) -> bool:
    """Whether two arcs of a circle of `interval` cycles do not overlap."""
    return (b - a) % interval >= a_duration and (a - b) % interval >= b_duration
