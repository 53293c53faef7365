"""From a level-2 graph to a plan: partition, allocate, place, schedule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from mgc.ir.graph import Graph, Node
from mgc.ir.mapped import Mvm
from mgc.passes.allocate import Demand
from mgc.passes.chips import Split, split
from mgc.passes.durations import Durations, nbytes, signed_input, windows_of
from mgc.passes.links import nets_of, send_between_chips
from mgc.passes.manager import CompileState, Pass
from mgc.passes.partition import Geometry, Partition, partition
from mgc.passes.place import Placement, homes_of, place
from mgc.passes.plan import GroupMap, Plan
from mgc.passes.schedule import schedule
from mgc.passes.scheduling.solver import SolverOptions
from mgc.targets.cost import CostModel
from mgc.targets.description import Target


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
    split = split_of(graph, target, micro_batches, options.crossbars)
    placement = place(graph, target, split.allocation.replicas, _chip_of_node(graph, split.chip_of))
    send_between_chips(graph, placement, target)
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
        split=split,
    )


def split_of(graph: Graph, target: Target, micro_batches: int, crossbars: int | None = None) -> Split:
    """The chip of every `Mvm` and the replicas of each of its parts, in the graph's order."""
    durations, cost = Durations(target), CostModel(target)
    demands: list[Demand] = []
    layer_of: dict[Node, int] = {}
    for node in graph.nodes:
        if not isinstance(node.op, Mvm):
            continue
        layer_of[node] = len(layer_of)
        for part in node.op.parts:
            geometry = Geometry.of(part, target.crossbar)
            cycles, once = durations.window(part, geometry.row_blocks, signed=signed_input(node))
            demands.append(Demand(layer_of[node], geometry.crossbars, windows_of(node.op, part), cycles, once))
    # what crosses the host link takes its time whatever the crossbars do
    floor = max(
        sum(cost.host_cycles(nbytes(v)) for v in graph.inputs),
        sum(cost.host_cycles(nbytes(v)) for _, v in graph.outputs),
    )
    nets = nets_of(graph, homes_of(graph), layer_of) if target.structure.chips > 1 else []
    return split(demands, nets, target, micro_batches=micro_batches, floor=floor, crossbars=crossbars)


def _chip_of_node(graph: Graph, chip_of: Sequence[int] | None) -> dict[Node, int] | None:
    if chip_of is None:
        return None
    layers = [node for node in graph.nodes if isinstance(node.op, Mvm)]
    return dict(zip(layers, chip_of, strict=True))


@dataclass(frozen=True)
class Allocate(Pass):
    """Every crossbar group gets its chip and its replicas: the least bottleneck (proven) or latency, see
    `mgc.passes.chips` and `mgc.passes.allocate`.

    The plan so far has groups without crossbars. `crossbars` caps the budget (0: all that the target has).
    """

    name: ClassVar[str] = "allocate"
    levels: ClassVar[tuple[int, ...]] = (1, 2)
    crossbars: int = 0

    def run(self, state: CompileState) -> CompileState:
        graph = state.graph
        split = split_of(graph, state.target, state.micro_batches, self.crossbars or None)
        replicas = iter(split.allocation.replicas)
        chip_of = _chip_of_node(graph, split.chip_of) or {}
        groups: list[GroupMap] = []
        for node in graph.nodes:
            if isinstance(node.op, Mvm):
                for k, part in enumerate(node.op.parts):
                    crossbars = Geometry.of(part, state.target.crossbar).crossbars
                    chip = chip_of.get(node, -1)
                    groups.append(GroupMap(node, k, part.name, next(replicas), crossbars, (), (), chip))
        started = Plan(graph, state.micro_batch, state.micro_batches, state.batched, tuple(groups), (), (), split=split)
        return replace(state, plan=started)


@dataclass(frozen=True)
class PlaceGroups(Pass):
    """Every replica gets crossbars of its own, close to what it talks to, see `mgc.passes.place`;
    values that are needed on another chip are sent there, see `mgc.passes.links`; after allocate.
    """

    name: ClassVar[str] = "place"
    levels: ClassVar[tuple[int, ...]] = (1, 2)

    def run(self, state: CompileState) -> CompileState:
        plan = _plan_of(state, self.name)
        graph = state.graph.copy()
        image = dict(zip(state.graph.nodes, graph.nodes, strict=True))
        apart = any(group.chip < 0 for group in plan.groups)
        chip_of = None if apart else {image[group.node]: group.chip for group in plan.groups}
        placement = place(graph, state.target, [group.replicas for group in plan.groups], chip_of)
        send_between_chips(graph, placement, state.target)
        return replace(state, graph=graph, plan=replace(plan, graph=graph, groups=placement.groups))


@dataclass(frozen=True)
class Schedule(Pass):
    """Every operation gets a unit, a duration, what it waits for and its starts; every value its bytes; after place.

    The schedule is never worse than the best list schedule, its bound is proven; `effort` and `workers` are CP-SAT's
    (deterministic time; equal options give equal schedules), see `mgc.passes.scheduling`.
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
