"""allocate, place, send: from groups that fit to groups that lie on crossbars, near what they talk to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from mgc.ir.graph import Graph, Node, Value
from mgc.ir.mapped import Mvm
from mgc.ir.module import Entry
from mgc.passes.lowering.versions import homes_of
from mgc.passes.manager import Pass
from mgc.passes.mapping.allocate import Demand, Objective
from mgc.passes.mapping.chips import Net, Split, split
from mgc.passes.mapping.demands import iteration_demands, iteration_rest
from mgc.passes.mapping.durations import Durations, sizes_of, streamed_input, windows_of
from mgc.passes.mapping.links import nets_of, send_between_chips
from mgc.passes.mapping.multiplex import STAYS, rewrites, turns_with_replicas
from mgc.passes.mapping.packing import crossbars_of
from mgc.passes.mapping.partition import sizes_of_groups, turns_of_groups, uses_of_groups
from mgc.passes.mapping.place import Placement, anchors_of, in_order_of_traffic, lay_out, near_layers, traffic_of
from mgc.passes.mapping.plan import GroupMap, PersistentPlan
from mgc.passes.mapping.residents import Residents, residents_in
from mgc.passes.scheduling.memory import footprint
from mgc.passes.scheduling.operations import stored
from mgc.passes.state import CompileState, with_graph
from mgc.targets.cost import CostModel
from mgc.targets.description import Target

RESIDENT_SHARE = 0.5, 1 / 32
"""The part of the tiles' memory that persistent buffers may take at most, and may take whatever else needs memory; what
is left over goes off-chip. Most are moments, read and written once in a run: nothing else saves less traffic there.
"""


def homes_in(graph: Graph, residents: Residents) -> dict[Value, str]:
    """The resident that each value is a version of; a constant is one under the resident's name."""
    names = {r.name for r in residents.groups if r.cells is not None}
    return {v: v.name for v in graph.constants if v.name in names} | homes_of(graph, residents.names)


def _anchors(entry: Entry, residents: Residents) -> dict[Node, str]:
    layer_of = {r.name: r.layer for r in residents.all if r.layer}
    return anchors_of(entry.graph, homes_in(entry.graph, residents), layer_of)


def placement_of(entry: Entry, state: CompileState) -> Placement:
    """Where an entry's nodes run, after `place`."""
    anchors = _anchors(entry, residents_in(state.module))
    return Placement.of(entry.graph, anchors, state.module.attributes["groups"], state.chip)


def cells_in(homes: Mapping[Value, str], residents: Residents) -> list[Value]:
    """The versions of weights in crossbars."""
    groups = {r.name for r in residents.groups}
    return [value for value, home in homes.items() if home in groups]


@dataclass(frozen=True)
class Allocate(Pass):
    """Every crossbar group gets its chip and its replicas: the least bottleneck (proven) or latency, or where cells are
    written in a run the least `objective`, see `mgc.passes.mapping.chips` and `mgc.passes.mapping.allocate`; the module
    then has `groups` without crossbars, and the `split` that they are of. Groups that take turns have no split.
    `crossbars` caps the budget (0: all that the target has).
    """

    name: ClassVar[str] = "allocate"
    levels: ClassVar[tuple[int, ...]] = (1, 2)
    crossbars: int = 0
    objective: Objective = "edp"

    def run(self, state: CompileState) -> CompileState:
        residents = residents_in(state.module)
        turns = turns_of_groups(residents.groups, state.module.entries, state)
        if turns is not None and max(turns, default=STAYS) != STAYS:
            return state.with_entries(state.module.entries, groups=_in_turns(residents, turns, state, self.objective))
        found = split_of(state, self.crossbars or None, self.objective)
        layers = list(dict.fromkeys(r.layer for r in residents.groups))
        chip_of = dict(zip(layers, found.chip_of or [-1] * len(layers), strict=True))
        groups: list[GroupMap] = []
        for r, replicas in zip(residents.groups, found.allocation.replicas, strict=True):
            if r.part is not None:
                size = crossbars_of(r.part, state.chip.crossbar, r.plane_columns)
                made = GroupMap(r.name, r.part.name, r.layer, replicas, size, chip=chip_of[r.layer])
                groups.append(replace(made, plane_columns=r.plane_columns))
        return state.with_entries(state.module.entries, groups=tuple(groups), split=found)


def _in_turns(
    residents: Residents, turns: Sequence[int], state: CompileState, objective: Objective
) -> tuple[GroupMap, ...]:
    """The groups of a network that is larger than the chip, with one replica each or, in training, what pays; warns of
    what a run writes.
    """
    target, uses = state.chip, uses_of_groups(residents.groups, state.module.entries, state)
    sizes = sizes_of_groups(residents.groups, target)
    replicas: Sequence[int] = [1] * len(sizes)
    if state.trains:
        running = [e for e in state.module.entries if e.kind == "train"]
        graphs, times = [e.graph for e in running], [e.repeats for e in running]
        demands = iteration_demands(graphs, times, residents, target)
        rest = iteration_rest(graphs, times, residents, target, state.module.attributes["training"].phases)
        cost, crossbar = CostModel(target), target.crossbar
        write = (
            cost.write_cycles(crossbar.rows, crossbars_per_macro=target.structure.crossbars_per_macro),
            cost.write_energy(crossbar.rows * crossbar.cols).total,
        )
        turns, replicas = turns_with_replicas(demands, target.structure.crossbars, uses, objective, rest, write)
    times_written, begun = rewrites(turns, uses)
    written = sum(n * s * r for n, s, r in zip(times_written, sizes, replicas, strict=True))
    turning = sum(s for s, turn in zip(sizes, turns, strict=True) if turn != STAYS)
    state.warnings.append(
        f"the weights need {sum(sizes):,} crossbars, target {target.name} has {target.structure.crossbars:,}: "
        f"{turning:,} of them take turns, and up to {written:,} crossbars are written anew in every run, some {begun} "
        "times, which takes time and energy and wears cells; a larger --batch shares a run, [structure] chips = "
        f"{-(-sum(sizes) // target.structure.crossbars_per_chip)} would hold them all"
    )
    return tuple(
        GroupMap(r.name, r.part.name, r.layer, count, size, plane_columns=r.plane_columns, turn=turn)
        for r, size, count, turn in zip(residents.groups, sizes, replicas, turns, strict=True)
        if r.part is not None
    )


def split_of(state: CompileState, crossbars: int | None = None, objective: Objective = "edp") -> Split:
    """The chip of every layer and the replicas of every group, in the order of the residents."""
    residents, target = residents_in(state.module), state.chip
    number = {layer: i for i, layer in enumerate(dict.fromkeys(r.layer for r in residents.groups))}
    running = [e for e in state.module.entries if e.kind == "train" or not state.trains]
    nets: list[Net] = []
    if target.structure.chips > 1:
        for entry in running:
            near = near_layers(entry.graph, _anchors(entry, residents), target)
            homes = homes_in(entry.graph, residents)
            nets += (
                replace(n, size=n.size * entry.repeats)
                for n in nets_of(entry.graph, near, number, target, cells_in(homes, residents))
            )
    if state.trains:
        graphs, times = [e.graph for e in running], [e.repeats for e in running]
        demands = iteration_demands(graphs, times, residents, target)
        rest = iteration_rest(graphs, times, residents, target, state.module.attributes["training"].phases)
        return split(demands, nets, target, crossbars=crossbars, objective=objective, rest=rest)
    (entry,) = running
    demands = _of_a_stream(entry, residents, number, target)
    cost, sizes = CostModel(target), sizes_of(entry.graph, target)
    # what crosses the host link takes its time whatever the crossbars do
    floor = max(
        sum(cost.transfer_cycles(sizes[v], "host") for v in entry.graph.inputs),
        sum(cost.transfer_cycles(sizes[v], "host") for _, v in entry.graph.outputs),
    )
    return split(
        demands, nets, target, micro_batches=entry.micro_batches, floor=floor, crossbars=crossbars, objective=objective
    )


def _of_a_stream(entry: Entry, residents: Residents, number: Mapping[str, int], target: Target) -> list[Demand]:
    """What groups ask for that one product each reads, micro-batch after micro-batch."""
    durations, homes = Durations(target), homes_in(entry.graph, residents)
    found: dict[str, Demand] = {}
    for node in entry.graph.nodes:
        if isinstance(node.op, Mvm):
            for k, part in enumerate(node.op.parts):
                home, blocks = homes[node.inputs[1 + k]], target.crossbar.row_blocks(part.rows)
                cycles, once = durations.window(blocks, streamed_input(node))
                layer = number[residents.by_name[home].layer]
                found[home] = Demand(
                    layer, crossbars_of(part, target.crossbar), windows_of(node.op, part), cycles, once
                )
    return [found[r.name] for r in residents.groups]


@dataclass(frozen=True)
class PlaceGroups(Pass):
    """Every replica gets crossbars of its own, close to what it talks to, see `mgc.passes.mapping.place`; what else
    lives from run to run gets bytes, the small ones on the chip as far as their share of the memory goes; after
    allocate.
    """

    name: ClassVar[str] = "place"
    levels: ClassVar[tuple[int, ...]] = (1, 2)

    def run(self, state: CompileState) -> CompileState:
        residents = residents_in(state.module)
        groups: tuple[GroupMap, ...] = state.module.attributes["groups"]
        order = list(dict.fromkeys(g.layer for g in groups))
        if not state.trains and groups and all(g.turn == STAYS for g in groups):
            graph = state.graph
            near = near_layers(graph, _anchors(state.entry, residents), state.chip)
            order = in_order_of_traffic(groups, traffic_of(graph, near, state.chip), state.chip)
        # macros write side by side, the crossbars of one in turn
        placed = lay_out(groups, order, state.chip, spread=state.trains)
        return state.with_entries(state.module.entries, groups=placed, persistent=_persistent(residents, state))


def _most_alive(entry: Entry, residents: Residents, target: Target) -> int:
    """Bytes of the values of a run that are alive at once, node after node, each for the whole batch."""
    graph, sizes, root = entry.graph, sizes_of(entry.graph, target), stored(entry.graph)
    lasting = {*homes_in(graph, residents), *graph.constants}
    last = {root[v]: n for n, node in enumerate(graph.nodes) for v in (*node.outputs, *node.inputs)}
    ends: dict[int, int] = {}
    level = most = 0
    for n, node in enumerate(graph.nodes):
        for value in node.outputs:
            if root[value] is value and value not in lasting:
                level += sizes[value]
                ends[last[value]] = ends.get(last[value], 0) + sizes[value]
        most = max(most, level)
        level -= ends.pop(n, 0)
    return most


def _persistent(residents: Residents, state: CompileState) -> tuple[PersistentPlan, ...]:
    memory = state.target.edram.bytes_per_tile * state.target.structure.tiles
    trained = [e for e in state.module.entries if e.kind == "train"]
    needed = max((_most_alive(e, residents, state.target) for e in trained), default=0)
    most, least = (int(memory * share) for share in RESIDENT_SHARE)
    room = min(most, max(least, memory - needed))
    used = {"edram": 0, "dram": 0}
    places: dict[str, PersistentPlan] = {}
    for resident in sorted(residents.buffers, key=lambda r: r.nbytes):
        size = footprint(resident.nbytes, 1)
        space = "edram" if used["edram"] + size <= room else "dram"
        places[resident.name] = PersistentPlan(resident.name, space, used[space])
        used[space] += size
    return tuple(places[r.name] for r in residents.buffers)


@dataclass(frozen=True)
class SendValues(Pass):
    """Values that are needed on another chip are sent there, see `mgc.passes.mapping.links`; after place. Results are
    equal bit for bit.
    """

    name: ClassVar[str] = "send"
    levels: ClassVar[tuple[int, ...]] = (1, 2)

    def run_entry(self, entry: Entry, state: CompileState) -> Entry:
        if state.chip.structure.chips == 1:
            return entry
        entry = with_graph(entry, entry.graph.copy())
        residents = residents_in(state.module)
        cells = cells_in(homes_in(entry.graph, residents), residents)
        send_between_chips(entry.graph, placement_of(entry, state), state.chip, cells)
        return entry
