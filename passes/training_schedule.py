"""schedule, of a training iteration: into how many parts its batch is cut, when each part of each operation starts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mgc.ir.graph import Value
from mgc.passes.memory import Use, peak
from mgc.passes.operations import Work
from mgc.passes.plan import Operation, SchedulePlan
from mgc.passes.schedule import Scheduled
from mgc.passes.scheduling.bounds import barrier_bound, lower_bound
from mgc.passes.scheduling.cyclic import repeating
from mgc.passes.scheduling.problem import Edge, Problem
from mgc.passes.scheduling.search import Found, best_list, improve
from mgc.passes.scheduling.solver import SolverOptions
from mgc.passes.scheduling.spread import spread
from mgc.passes.streaming.analysis import Streaming
from mgc.passes.streaming.dataflow import Dataflow, arranged, sections_of
from mgc.passes.streaming.iterations import moves_of, packed_round, told, unrolled, waits_of
from mgc.passes.streaming.memory import Lives, lives_of, packed, relieved, slots_of, uses_of, with_parts

MOST_TASKS = 40_000
"""Tasks of the finest cut of a batch that is tried."""

_MARGIN = 32
"""The part of the memory that is left over, at least, while cuts are compared: where buffers lie is found out later."""

ENOUGH = 1.01
"""A finer cut must shorten the schedule by more than this to be tried on: its makespan then falls ever more slowly."""


@dataclass(frozen=True)
class Iteration:
    """What is scheduled: `work` makes its operations for a cut into parts and a choice of values that are off-chip.

    `streaming` is the finest cut, `roots` tells in which value's memory each value lies, `phases` numbers the updates
    among the operations by phase.
    """

    work: Callable[[int, frozenset[Value]], Work]
    streaming: Streaming
    roots: Mapping[Value, Value]
    phases: Callable[[Work], Mapping[int, int]]
    flow: Dataflow


@dataclass(frozen=True)
class SplitSchedule:
    """A schedule with the cut that it is for."""

    split: int
    done: Scheduled


def schedule_iteration(
    iteration: Iteration, splits: Sequence[int], capacity: int, options: SolverOptions
) -> SplitSchedule:
    """The shortest schedule over cuts of the batch into parts, `splits` from few to many (1, whole, is among them).

    Cuts are compared by list schedules; CP-SAT works on the one chosen.
    """
    best: _Cut | None = None
    for split in splits if iteration.flow.split else (1,):
        cut = _Cut(iteration, split, capacity)
        if split > 1 and len(cut.problem.tasks) > MOST_TASKS:
            break
        if best is not None and cut.makespan >= best.makespan:
            if cut.makespan > best.makespan * ENOUGH:
                break
            continue
        best = cut
    if best is None:
        raise ValueError("a cut into one part must be among the splits")
    return SplitSchedule(best.split, best.finished(options))


class _Cut:
    """One cut of the batch: the memory that it needs, and the best list schedule within it."""

    def __init__(self, iteration: Iteration, split: int, capacity: int) -> None:
        self.iteration, self.split, self.capacity = iteration, split, capacity
        self.offchip: frozenset[Value] = frozenset()
        self._plan()
        self._fit(pack=False)

    def _plan(self) -> None:
        """The best list schedule with the values that are off-chip by now."""
        self.work = self._arranged(self.iteration.work(self.split, self.offchip))
        self.operations = self.work.operations
        problem = problem_of(self.operations[self.work.setup :], self.work.setup, self.split)
        self.problem = spread(problem, {k: c for k, c in enumerate(self._choices()) if c})
        self.bound = lower_bound(self.problem.tasks)
        self.starts = best_list(self.problem, self.bound)
        self.makespan = self.problem.tasks.makespan(self.starts)

    def _fit(self, *, pack: bool) -> None:
        """Puts values off-chip until the others fit; without `pack` until it looks so, which is quick to see."""
        spare = 0 if pack else self.capacity // _MARGIN  # bytes that first fit loses between buffers
        while True:
            lives, slots, uses = self._uses(self.starts)
            most = peak(uses)[0]
            if most <= self.capacity - (0 if pack else spare):
                if not pack:
                    return
                memory = packed(self.work, slots, self.offchip, uses, self.capacity)
                if memory.edram <= self.capacity:
                    self.memory = with_parts(memory, lives, self.split)
                    return
                spare = max(2 * spare, memory.edram - most)
            more = relieved(uses, max(0, self.capacity - spare))
            self.offchip |= more or {max(uses, key=lambda u: u.size).value}
            self._plan()

    def _choices(self) -> list[tuple[int, ...]]:
        """The units that each operation may run on, if there are several."""
        return [op.choices for op in self.operations[self.work.setup :]]

    def _arranged(self, work: Work) -> Work:
        flow = self.iteration.flow
        sections: Sequence[int] = ()
        if not flow.phases:
            sections = sections_of(work, self.iteration.phases(work), self.iteration.streaming, flow)
        return arranged(work, flow, sections)

    def _uses(self, starts: Sequence[int]) -> tuple[Lives, dict[Value, int], list[Use]]:
        """When values live, in how many slots, and the uses of the chip's memory."""
        tasks, axes = self.problem.tasks, self.iteration.streaming.axes if self.split > 1 else ()
        lives = lives_of(self.work, self.operations, axes, self.iteration.roots, tasks, starts)
        slots = slots_of(self.work, lives)
        return lives, slots, uses_of(self.work, lives, slots, self.offchip, tasks.makespan(starts))

    def finished(self, options: SolverOptions) -> Scheduled:
        """The schedule after CP-SAT, if its memory fits, else the list's; of iterations that overlap, if they may."""
        if self.iteration.flow.iterations:
            return self._repeating()
        self._fit(pack=True)
        return self._alone(options)

    def _repeating(self) -> Scheduled:
        """Iterations overlap: what of the chip's memory they need then may send more values off it."""
        iteration = self.iteration
        while True:
            waits = waits_of(self.work)
            moves = moves_of(self.work, self.problem, iteration.phases(self.work), iteration.streaming)
            found = repeating(self.problem, waits, moves, self.starts)
            lives, slots, _ = self._uses(found.starts)
            uses, memory = packed_round(self.work, lives, slots, self.offchip, found.interval, self.capacity)
            if memory.edram <= self.capacity:
                break
            once = unrolled(uses, found.interval)
            more = relieved(once, max(0, self.capacity - max(0, memory.edram - peak(once)[0])))
            self.offchip |= more or {max(uses, key=lambda u: u.size).value}
            self._plan()
        memory = with_parts(memory, lives, self.split)
        makespan = self.problem.tasks.makespan(found.starts)
        plan = SchedulePlan(
            self._table(found.starts), found.status, makespan, found.lower_bound, self.makespan, found.interval
        )
        operations = told(self._placed(), self.work.setup, waits)
        return Scheduled(operations, self.work.units, memory.buffers, plan)

    def _alone(self, options: SolverOptions) -> Scheduled:
        if self.makespan > self.bound:
            self.bound = max(self.bound, barrier_bound(self.problem.tasks))
        found = improve(self.problem, self.starts, self.bound, options)
        memory = self.memory
        if found.starts != self.starts:
            lives, slots, uses = self._uses(found.starts)
            fits = packed(self.work, slots, self.offchip, uses, self.capacity)
            if fits.edram <= self.capacity:
                memory = with_parts(fits, lives, self.split)
            else:
                found = Found(self.starts, self.makespan, found.lower_bound, self.makespan)
        plan = SchedulePlan(self._table(found.starts), found.status, found.makespan, found.lower_bound, found.hint)
        return Scheduled(self._placed(), self.work.units, memory.buffers, plan)

    def _table(self, starts: Sequence[int]) -> np.ndarray:
        table = np.full((len(self.operations), self.split), -1, np.int64)
        table[self.work.setup :] = self.problem.tasks.matrix(starts)
        return table

    def _placed(self) -> tuple[Operation, ...]:
        """The operations on the units that they were given."""
        units = (*(op.unit for op in self.operations[: self.work.setup]), *self.problem.units)
        return tuple(replace(op, unit=unit) for op, unit in zip(self.operations, units, strict=True))


def problem_of(operations: Sequence[Operation], base: int, split: int) -> Problem:
    """The scheduling problem of operations that are numbered from `base` on in their waits."""
    edges: list[Edge] = []
    for i, op in enumerate(operations):
        edges += (Edge(j - base, i) for j in op.after if j >= base)
        edges += (Edge(j - base, i, whole=True) for j in op.after_all)
    return Problem(
        tuple(op.duration for op in operations),
        tuple(op.unit for op in operations),
        tuple(edges),
        split,
        tuple(_name(op, i) for i, op in enumerate(operations)),
        tuple(op.streamed for op in operations) if split > 1 else (),
    )


def _name(op: Operation, index: int) -> str:
    what = op.node.outputs[0].name if op.node is not None and op.node.outputs else f"port{op.port}"
    return f"{index}.{op.kind}.{what}" + (f".{op.part}" if op.part >= 0 else "")


def finer(split: int) -> list[int]:
    """The cuts into fewer parts that a cut goes into, from one part up to itself."""
    return [n for n in range(1, split + 1) if split % n == 0]
