"""schedule: when every operation of every micro-batch starts, and in which bytes its values lie."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mgc.ir.graph import Graph, Value
from passes.memory import Packed, demoted, shared, side_by_side, slots_of, with_slots
from passes.operations import Work, operations_of
from passes.place import Placement
from passes.plan import BufferPlan, Operation, SchedulePlan, UnitPlan
from passes.scheduling.modulo import steady_state
from passes.scheduling.problem import Edge, Problem
from passes.scheduling.search import best_list, search
from passes.scheduling.solver import SolverOptions
from targets.description import Target


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

    Every value gets as many slots as the steady state keeps alive. If they do not all fit into the tiles' memory,
    buffers share bytes over time; if that is not enough, the largest go off-chip, whose bandwidth then counts.
    """
    offchip: frozenset[Value] = frozenset()
    capacity = target.edram.bytes_per_tile * target.structure.tiles
    while True:
        work = operations_of(graph, target, placement, offchip)
        slots = slots_of(work, steady_state(problem_of(work, work.operations, micro_batches)), micro_batches)
        problem = problem_of(work, with_slots(work, slots, micro_batches), micro_batches)
        packed = side_by_side(work, slots, offchip)
        if packed.edram <= capacity:
            return _searched(work, slots, offchip, problem, packed, None, options)
        starts = best_list(problem, 0)
        packed = shared(work, slots, offchip, starts, micro_batches)
        if packed.edram <= capacity:
            return _searched(work, slots, offchip, problem, packed, capacity, options, starts)
        offchip = demoted(work, slots, offchip, packed.edram - capacity)


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


def _searched(
    work: Work,
    slots: dict[Value, int],
    offchip: frozenset[Value],
    problem: Problem,
    packed: Packed,
    capacity: int | None,
    options: SolverOptions | None,
    fallback: list[int] | None = None,
) -> Scheduled:
    """The schedule searched for; where buffers share bytes, only if they still fit, else the fallback they fit."""
    found = search(problem, options)
    starts, status, makespan = found.starts, found.status, found.makespan
    if capacity is not None and fallback is not None:
        again = shared(work, slots, offchip, starts, problem.repeats)
        if again.edram <= capacity:
            packed = again
        else:
            starts, makespan = fallback, problem.tasks.makespan(fallback)
            status = "OPTIMAL" if makespan == found.lower_bound else "FEASIBLE"
    table = np.full((len(work.operations), problem.repeats), -1, np.int64)
    table[work.setup :] = problem.tasks.matrix(starts)
    return Scheduled(
        with_slots(work, slots, problem.repeats),
        work.units,
        packed.buffers,
        SchedulePlan(table, status, makespan, found.lower_bound, found.hint),
    )
