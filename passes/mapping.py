"""From a level-2 graph to a plan: partition, allocate, place, schedule."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

from mgc.ir.graph import Graph
from mgc.ir.mapped import Mvm
from passes.allocate import Allocation, Demand, allocate
from passes.durations import Durations, nbytes, signed_input, windows_of
from passes.manager import CompileState, Pass
from passes.partition import Geometry, Partition, partition
from passes.place import Placement, place
from passes.plan import GroupMap, Plan
from passes.schedule import schedule
from passes.scheduling.solver import SolverOptions
from targets.cost import CostModel
from targets.description import Target


@dataclass(frozen=True)
class MappingOptions:
    """How hard to search, and how many crossbars may be used (None: all that the target has)."""

    solver: SolverOptions = field(default_factory=SolverOptions)
    crossbars: int | None = None


def plan(
    graph: Graph,
    target: Target,
    micro_batch: int = 1,
    micro_batches: int = 1,
    batched: bool = False,
    options: MappingOptions | None = None,
) -> Plan:
    """The plan of a level-2 graph after lower-vec; `graph` itself stays as it is, the plan has its own copy.

    Raises CapacityError if the weights do not fit the target.
    """
    options = options or MappingOptions()
    graph = partition(graph.copy(), target)
    allocation = allocation_of(graph, target, micro_batches, options.crossbars)
    placement = place(graph, target, allocation.replicas)
    done = schedule(graph, target, placement, micro_batches, options.solver)
    return Plan(
        graph=graph,
        micro_batch=micro_batch,
        micro_batches=micro_batches,
        batched=batched,
        groups=placement.groups,
        units=done.units,
        operations=done.operations,
        buffers=done.buffers,
        schedule=done.schedule,
    )


def allocation_of(graph: Graph, target: Target, micro_batches: int, crossbars: int | None = None) -> Allocation:
    """Replicas of every part of every `Mvm`, in the graph's order."""
    durations, cost = Durations(target), CostModel(target)
    demands: list[Demand] = []
    layer = 0
    for node in graph.nodes:
        if not isinstance(node.op, Mvm):
            continue
        for part in node.op.parts:
            geometry = Geometry.of(part, target.crossbar)
            cycles, once = durations.window(part, geometry.row_blocks, signed=signed_input(node))
            demands.append(Demand(layer, geometry.crossbars, windows_of(node.op, part), cycles, once))
        layer += 1
    # what crosses the host link takes its time whatever the crossbars do
    floor = max(
        sum(cost.host_cycles(nbytes(v)) for v in graph.inputs),
        sum(cost.host_cycles(nbytes(v)) for _, v in graph.outputs),
    )
    budget = target.structure.crossbars if crossbars is None else min(crossbars, target.structure.crossbars)
    return allocate(demands, budget, micro_batches=micro_batches, floor=floor)


@dataclass(frozen=True)
class Allocate(Pass):
    """Every crossbar group gets its replicas: the least bottleneck (proven) or latency, see `passes.allocate`.

    The plan so far has groups without crossbars. `crossbars` caps the budget (0: all that the target has).
    """

    name: ClassVar[str] = "allocate"
    levels: ClassVar[tuple[int, ...]] = (1, 2)
    crossbars: int = 0

    def run(self, state: CompileState) -> CompileState:
        graph = state.graph
        replicas = iter(allocation_of(graph, state.target, state.micro_batches, self.crossbars or None).replicas)
        groups = [
            GroupMap(node, k, part.name, next(replicas), Geometry.of(part, state.target.crossbar).crossbars, (), ())
            for node in graph.nodes
            if isinstance(node.op, Mvm)
            for k, part in enumerate(node.op.parts)
        ]
        started = Plan(graph, state.micro_batch, state.micro_batches, state.batched, tuple(groups), (), ())
        return replace(state, plan=started)


@dataclass(frozen=True)
class PlaceGroups(Pass):
    """Every replica gets crossbars of its own, close to what it talks to, see `passes.place`; after allocate."""

    name: ClassVar[str] = "place"
    levels: ClassVar[tuple[int, ...]] = (1, 2)

    def run(self, state: CompileState) -> CompileState:
        plan = _plan_of(state, self.name)
        placement = place(state.graph, state.target, [group.replicas for group in plan.groups])
        return replace(state, plan=replace(plan, groups=placement.groups))


@dataclass(frozen=True)
class Schedule(Pass):
    """Every operation gets a unit, a duration, what it waits for and its starts; every value its bytes; after place.

    The schedule is never worse than the best list schedule, its bound is proven; `effort` and `workers` are CP-SAT's
    (deterministic time; equal options give equal schedules), see `passes.scheduling`.
    """

    name: ClassVar[str] = "schedule"
    levels: ClassVar[tuple[int, ...]] = (1, 2)
    effort: float = SolverOptions.effort
    workers: int = SolverOptions.workers

    def run(self, state: CompileState) -> CompileState:
        plan = _plan_of(state, self.name)
        placement = Placement.of(state.graph, state.target, plan.groups)
        options = SolverOptions(self.effort, self.workers)
        done = schedule(state.graph, state.target, placement, state.micro_batches, options)
        return replace(
            state,
            plan=replace(
                plan, units=done.units, operations=done.operations, buffers=done.buffers, schedule=done.schedule
            ),
        )


def _plan_of(state: CompileState, name: str) -> Plan:
    if state.plan is None or state.plan.graph is not state.graph:
        raise ValueError(f"pass {name} needs the plan that the pass before it made of this graph")
    return state.plan


MAPPING_PASSES: tuple[type[Pass], ...] = (Partition, Allocate, PlaceGroups, Schedule)
"""What turns the level-2 graph after lower-vec into a plan, in order."""
