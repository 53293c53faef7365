"""schedule: when every operation of every micro-batch starts, and in which bytes its values lie."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mgc.ir.graph import Graph, Value
from mgc.passes.memory import (
    Packed,
    Use,
    demoted,
    needed_slots,
    peak,
    shared,
    side_by_side,
    slots_of,
    uses_of,
    with_slots,
)
from mgc.passes.operations import Work, operations_of
from mgc.passes.place import Placement
from mgc.passes.plan import BufferPlan, Operation, SchedulePlan, UnitPlan
from mgc.passes.scheduling.bounds import lower_bound
from mgc.passes.scheduling.modulo import steady_state
from mgc.passes.scheduling.problem import Edge, Problem
from mgc.passes.scheduling.search import Found, best_list, improve
from mgc.passes.scheduling.solver import SolverOptions
from mgc.targets.description import Target

Slots = dict[Value, int]


@dataclass(frozen=True)
class Scheduled:
    """Operations with all they wait for, their units, the memory map and the schedule."""

    operations: tuple[Operation, ...]
    units: tuple[UnitPlan, ...]
    buffers: dict[Value, BufferPlan]
    schedule: SchedulePlan


def schedule(
    graph: Graph, target: Target, placement: Placement, micro_batches: int, options: SolverOptions | None = None
) -> Scheduled:
    """Schedules a placed graph over micro-batches.

    A value has as many slots as micro-batches of it are alive at once. The steady state needs few; where that costs
    time and the tiles' memory has room, values get more. If not even the few fit, buffers share bytes over time; and if
    that is not enough, large values go off-chip, where they move at that channel's pace. The lower bound knows nothing
    of slots, except where CP-SAT proved it for a memory that leaves no room for more.
    """
    pipelined = micro_batches > 1
    capacity = target.edram.bytes_per_tile * target.structure.tiles
    return schedule_work(
        lambda offchip: operations_of(graph, target, placement, offchip, pipelined=pipelined),
        micro_batches,
        capacity,
        options or SolverOptions(),
    )


def schedule_work(
    work_of: Callable[[frozenset[Value]], Work], micro_batches: int, capacity: int, options: SolverOptions
) -> Scheduled:
    """Schedules the operations that `work_of` gives for a choice of values that are off-chip; see `schedule`.

    `capacity` is what the tiles' memories have for them, in bytes.
    """
    offchip: frozenset[Value] = frozenset()
    while True:
        work = work_of(offchip)
        scheduler = _Scheduler(work, offchip, micro_batches, capacity)
        done = scheduler.roomy(options) or scheduler.cramped(options)
        if done is not None:
            return done
        offchip = scheduler.next_offchip()


def problem_of(work: Work, operations: tuple[Operation, ...], micro_batches: int) -> Problem:
    """The scheduling problem of some operations (`work`'s, perhaps with more waits); PROGRAMs are left out."""
    base = work.setup
    tasks = operations[base:]
    edges: list[Edge] = []
    for i, op in enumerate(tasks):
        edges += (Edge(j - base, i) for j in op.after)
        edges += (Edge(j - base, i, lag) for j, lag in op.after_previous)
    return Problem(
        tuple(op.duration for op in tasks),
        tuple(op.unit for op in tasks),
        tuple(edges),
        micro_batches,
        tuple(_name(op, i) for i, op in enumerate(tasks)),
    )


def _name(op: Operation, index: int) -> str:
    what = op.node.outputs[0].name if op.node is not None and op.node.outputs else f"port{op.port}"
    return f"{index}.{op.kind}.{what}" + (f".{op.part}" if op.part >= 0 else "")


class _Scheduler:
    """One choice of what is off-chip: its problem, with any number of slots and with the few of the steady state."""

    def __init__(self, work: Work, offchip: frozenset[Value], micro_batches: int, capacity: int) -> None:
        self.work = work
        self.offchip = offchip
        self.micro_batches = micro_batches
        self.capacity = capacity
        self.free = problem_of(work, work.operations, micro_batches)
        self.bound = lower_bound(self.free.tasks)
        self.lean = slots_of(work, steady_state(self.free), micro_batches)

    def roomy(self, options: SolverOptions) -> Scheduled | None:
        """The schedule where every buffer has bytes of its own; None where there is no room for the fewest slots."""
        if not self._fits(self.lean):
            return None
        problem, slots = self._limited(self.lean), self.lean
        starts = best_list(problem, self.bound)
        if problem.tasks.makespan(starts) > self.bound and problem.edges != self.free.edges:
            problem, starts = self._with_more_slots(problem, starts)
        found = improve(problem, starts, self.bound, options)
        slots = needed_slots(self.work, problem.tasks.matrix(found.starts))
        if not self._fits(slots):  # CP-SAT went ahead farther than memory reaches
            lost = problem.tasks.makespan(starts)
            found = Found(starts, lost, found.lower_bound, lost)
            slots = needed_slots(self.work, problem.tasks.matrix(starts))
        return self._done(found, slots, side_by_side(self.work, slots, self.offchip))

    def cramped(self, options: SolverOptions) -> Scheduled | None:
        """The schedule where buffers share bytes over time; None if they do not fit even so."""
        problem = self._limited(self.lean)
        self.quick = best_list(problem, self.bound, quick=True)
        uses = self._uses(self.quick)
        self.fragments = 0
        if peak(uses)[0] > self.capacity:
            return None
        packed = self._shared(self.quick)
        if packed.edram > self.capacity:
            self.fragments = packed.edram - peak(uses)[0]
            return None
        starts = best_list(problem, self.bound)
        if self._shared(starts).edram <= self.capacity:
            packed = self._shared(starts)
        else:
            starts = self.quick
        found = improve(problem, starts, self.bound, options)
        if found.starts != starts:
            again = self._shared(found.starts)
            if again.edram <= self.capacity:
                packed = again
            else:
                found = Found(starts, found.hint, found.lower_bound, found.hint)
        return self._done(found, self.lean, packed)

    def next_offchip(self) -> frozenset[Value]:
        """What to put off-chip next, after `cramped` found no room."""
        return self.offchip | demoted(self._uses(self.quick), self.capacity - self.fragments)

    def _with_more_slots(self, problem: Problem, starts: list[int]) -> tuple[Problem, list[int]]:
        """The shortest list schedule whose slots still fit, and the problem it is of: the freer, the better."""
        best = problem, starts
        extra = self.micro_batches
        while extra:
            slots = {v: min(self.micro_batches, s + extra) for v, s in self.lean.items()}
            wider = self._limited(slots)
            candidate = best_list(wider, self.bound)
            if self._fits(needed_slots(self.work, wider.tasks.matrix(candidate))):
                if wider.tasks.makespan(candidate) <= best[0].tasks.makespan(best[1]):
                    best = wider, candidate
                break
            extra //= 2
        return best

    def _limited(self, slots: Slots) -> Problem:
        return problem_of(self.work, with_slots(self.work, slots, self.micro_batches), self.micro_batches)

    def _fits(self, slots: Slots) -> bool:
        return side_by_side(self.work, slots, self.offchip).edram <= self.capacity

    def _uses(self, starts: list[int]) -> list[Use]:
        return uses_of(self.work, self.lean, self.offchip, starts, self.micro_batches)

    def _shared(self, starts: list[int]) -> Packed:
        return shared(self.work, self.lean, self.offchip, self._uses(starts))

    def _done(self, found: Found, slots: Slots, packed: Packed) -> Scheduled:
        table = np.full((len(self.work.operations), self.micro_batches), -1, np.int64)
        table[self.work.setup :] = self.free.tasks.matrix(found.starts)
        return Scheduled(
            with_slots(self.work, slots, self.micro_batches),
            self.work.units,
            packed.buffers,
            SchedulePlan(table, found.status, found.makespan, found.lower_bound, found.hint),
        )
