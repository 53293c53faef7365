"""From the level-2 graphs of a training program to a plan: capacity, replicas, places, memory, schedules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from mgc.ir.graph import Graph, Node, Value
from mgc.ir.mapped import Layout, Mvm, MvmPart
from mgc.ir.training import NEXT
from mgc.passes.allocate import Demand
from mgc.passes.chips import Net, Split, split
from mgc.passes.durations import Durations, Place
from mgc.passes.links import nets_of, send_between_chips
from mgc.passes.lower_training.residents import Residents, sizes
from mgc.passes.operations import Work, stored
from mgc.passes.partition import CapacityError, Geometry, capacity_message
from mgc.passes.place import Placement, Wanted, homes_of, lay_out, service
from mgc.passes.plan import BufferPlan, GroupMap
from mgc.passes.reads import Reads, reads_of
from mgc.passes.scheduling.entry import EntryRun, EntrySchedule, finer, schedule_entry
from mgc.passes.scheduling.memory import footprint
from mgc.passes.scheduling.solver import SolverOptions
from mgc.passes.streaming.analysis import Streaming, best_split
from mgc.passes.streaming.dataflow import DATAFLOWS, DEFAULT_DATAFLOW, Dataflow
from mgc.passes.streaming.operations import StreamedBuilder
from mgc.passes.training_operations import anchors_of
from mgc.passes.training_plan import EntryKind, EntryPlan, PersistentPlan, TrainedGroup, TrainingPlan
from mgc.passes.versions import homes_of as versions_of
from mgc.passes.versions import is_update
from mgc.targets.cost import CostModel
from mgc.targets.description import Target

_NOWHERE = Layout((), ())
_RESIDENT_SHARE = 0.5
"""The part of the tiles' memory that persistent buffers may take; what is left over goes off-chip."""


@dataclass(frozen=True, eq=False)
class EntryGraph:
    """What an entry is made of: a level-2 graph after lower-vec, in the order of its versions."""

    name: str
    kind: EntryKind
    repeats: int
    graph: Graph
    micro_batch: int
    batched: bool = False


def training_target(target: Target) -> Target:
    """The target with the weights as wide as training has them."""
    crossbar = target.crossbar.model_copy(update={"weight_bits": target.training.master_bits})
    return target.model_copy(update={"crossbar": crossbar})


def plan_training(
    entries: Sequence[EntryGraph],
    residents: Residents,
    target: Target,
    batch: int,
    flow: Dataflow | None = None,
    options: SolverOptions | None = None,
) -> TrainingPlan:
    """The plan of a training program; `target` is as `training_target` gives it. CapacityError if it does not fit."""
    names = [r.name for r in residents.all]
    versions = [versions_of(e.graph, names) for e in entries]
    layer_of = {r.name: r.layer for r in residents.all if r.layer}
    _check_capacity(residents, layer_of, target)
    anchors = [anchors_of(e.graph.nodes, v, layer_of) for e, v in zip(entries, versions, strict=True)]
    split = _split(entries, versions, anchors, residents, layer_of, target)
    groups, served = _place(residents, layer_of, split, target)
    durations = Durations(target)
    trained = tuple(
        _trained_group(r.name, g, r.part, durations, target, entries, versions)
        for r, g in zip(residents.groups, groups, strict=True)
        if r.part is not None
    )
    persistent, used = _persistent(residents, target)
    dram = frozenset(p.resident for p in persistent if p.space == "dram")
    wanted, options = flow or DATAFLOWS[DEFAULT_DATAFLOW], options or SolverOptions()
    room = target.edram.bytes_per_tile * target.structure.tiles
    plans: list[EntryPlan] = []
    for entry, homes, anchor in zip(entries, versions, anchors, strict=True):
        placement = _placement(entry.graph, groups, anchor, served, target)
        send_between_chips(entry.graph, placement, target, _cells(homes, residents))
        data = tuple(v.name for v in entry.graph.inputs if v.name not in residents.by_name)
        results = tuple(name for name, _ in entry.graph.outputs if name.removesuffix(NEXT) not in residents.by_name)
        cut = Streaming()
        own = wanted
        if wanted.iterations and (entry.kind != "train" or sum(e.repeats for e in entries if e.kind == "train") > 1):
            own = replace(wanted, iterations=False)  # what overlaps is whole iterations of one entry
        if entry.kind == "train" and wanted.split:
            cut = best_split(entry.graph, data, homes, entry.micro_batch)
        make = _Maker(entry, homes, placement, residents, target, dram, data, results, cut)
        found = schedule_entry(make.iteration(own), finer(cut.split), room - used["edram"], options)
        plans.append(_entry_plan(entry, homes, found, frozenset(cut.axes), used, data, results))
    return TrainingPlan(residents, trained, persistent, tuple(plans), batch, split)


@dataclass(frozen=True, eq=False)
class _Maker:
    """Makes an entry's operations for a cut of the batch into parts and a choice of what is off-chip."""

    entry: EntryGraph
    homes: Mapping[Value, str]
    placement: Placement
    residents: Residents
    target: Target
    dram: frozenset[str]
    data: tuple[str, ...]
    results: tuple[str, ...]
    streaming: Streaming

    def iteration(self, flow: Dataflow) -> EntryRun:
        """What the scheduler has to know of the entry."""
        return EntryRun(self, self.streaming, stored(self.entry.graph), self.phases, flow)

    def phases(self, work: Work) -> dict[int, int]:
        """The phase of each operation that updates weights, phases numbered in the order of their updates."""
        state = {s.name: s.group for s in self.residents.states}
        group = {r.name: state.get(r.state, "") for r in self.residents.all}
        numbers: dict[str, int] = {}
        found: dict[int, int] = {}
        for k, op in enumerate(work.operations):
            if op.node is not None and is_update(op.node):
                name = group[self.homes[op.node.inputs[0]]]
                found[k] = numbers.setdefault(name, len(numbers))
        return found

    def __call__(self, split: int, offchip: frozenset[Value]) -> Work:
        groups = self.residents.groups
        return StreamedBuilder(
            self.entry.graph,
            self.target,
            self.placement,
            offchip,
            homes=self.homes,
            ports_in={name: k for k, name in enumerate(self.data)},
            ports_out={name: k for k, name in enumerate(self.results)},
            group_number={r.name: k for k, r in enumerate(groups)},
            dram=self.dram,
            parts=tuple(r.part for r in groups if r.part is not None),
            streaming=self.streaming.coarser(split),
        ).build()


def _entry_plan(
    entry: EntryGraph,
    homes: dict[Value, str],
    found: EntrySchedule,
    parted: frozenset[Value],
    used: Mapping[str, int],
    data: tuple[str, ...],
    results: tuple[str, ...],
) -> EntryPlan:
    buffers: dict[Value, BufferPlan] = {
        v: replace(b, offset=b.offset + used[b.space]) for v, b in found.buffers.items()
    }
    return EntryPlan(
        entry.name,
        entry.kind,
        entry.repeats,
        entry.graph,
        homes,
        found.operations,
        found.units,
        buffers,
        found.schedule,
        data,
        results,
        entry.micro_batch,
        entry.batched,
        found.split,
        parted if found.split > 1 else frozenset(),
    )


def _geometry(residents: Residents, target: Target) -> dict[str, Geometry]:
    return {r.name: Geometry.of(r.part, target.crossbar) for r in residents.groups if r.part is not None}


def _check_capacity(residents: Residents, layer_of: Mapping[str, str], target: Target) -> None:
    """CapacityError if one copy of all weights needs more crossbars than there are."""
    need: dict[str, int] = {}
    for name, geometry in _geometry(residents, target).items():
        need[layer_of[name]] = need.get(layer_of[name], 0) + geometry.crossbars
    needed, available = sum(need.values()), target.structure.crossbars
    if needed > available:
        raise CapacityError(capacity_message(need, target, "training.master_bits"), needed, available)


def _split(
    entries: Sequence[EntryGraph],
    versions: Sequence[Mapping[Value, str]],
    anchors: Sequence[Mapping[Node, str]],
    residents: Residents,
    layer_of: Mapping[str, str],
    target: Target,
) -> Split:
    """Chips of the layers and replicas of the groups, in the order of `residents.groups`: what lowers an iteration's
    time most, all reads of both kinds together, and what an iteration moves between layers.
    """
    cost = CostModel(target)
    times = [e.repeats if e.kind == "train" else 0 for e in entries]
    found = reads_of([e.graph for e in entries], versions, times, target)
    each = {r.name: found.get(r.name, Reads()) for r in residents.groups}
    reads = {name: r.turns(cost.transposed_turns()) for name, r in each.items()}
    geometry = _geometry(residents, target)
    layers = {key: i for i, key in enumerate(dict.fromkeys(layer_of[n] for n in reads))}
    interval = cost.read_interval_cycles()
    demands = [Demand(layers[layer_of[n]], geometry[n].crossbars, max(1, r), interval) for n, r in reads.items()]
    nets: list[Net] = []
    for entry, homes, anchor in zip(entries, versions, anchors, strict=True):
        if entry.kind == "train" and target.structure.chips > 1:
            first = _first_nodes(entry.graph, anchor)
            near = homes_of(entry.graph, {node: first[layer] for node, layer in anchor.items()})
            index = {node: layers[layer] for layer, node in first.items()}
            own = nets_of(entry.graph, near, index, _cells(homes, residents))
            nets += (replace(net, size=net.size * entry.repeats) for net in own)
    return split(demands, nets, target)


def _cells(homes: Mapping[Value, str], residents: Residents) -> list[Value]:
    """The versions of weights in crossbars."""
    groups = {r.name for r in residents.groups}
    return [value for value, home in homes.items() if home in groups]


def _place(
    residents: Residents, layer_of: Mapping[str, str], split: Split, target: Target
) -> tuple[tuple[GroupMap, ...], dict[str, Place]]:
    """The groups on crossbars, layer after layer along the snake of each chip, and the tiles that serve each layer."""
    geometry = _geometry(residents, target)
    stands: dict[str, Node] = {}
    wanted: dict[Node, list[Wanted]] = {}
    for resident, replicas in zip(residents.groups, split.allocation.replicas, strict=True):
        layer = layer_of[resident.name]
        node = stands.setdefault(layer, Node(Mvm((), _NOWHERE, _NOWHERE, ()), (), ()))
        name = resident.part.name if resident.part is not None else resident.name
        wanted.setdefault(node, []).append(Wanted(name, geometry[resident.name].crossbars, replicas))
    chip_of = None if split.chip_of is None else dict(zip(wanted, split.chip_of, strict=True))
    groups = lay_out(list(wanted), wanted, target, chip_of)
    places = service(groups, target)
    return groups, {layer: places[node] for layer, node in stands.items()}


def _first_nodes(graph: Graph, anchors: Mapping[Node, str]) -> dict[str, Node]:
    """The first node of each layer in a graph, which stands for it."""
    first: dict[str, Node] = {}
    for node in graph.nodes:
        if node in anchors:
            first.setdefault(anchors[node], node)
    return first


def _placement(
    graph: Graph,
    groups: tuple[GroupMap, ...],
    anchors: Mapping[Node, str],
    served: Mapping[str, Place],
    target: Target,
) -> Placement:
    """The places of one graph's nodes."""
    first = _first_nodes(graph, anchors)
    homes = homes_of(graph, {node: first[layer] for node, layer in anchors.items()})
    places = {node: served[layer] for layer, node in first.items()}
    return Placement(groups, places, homes, 0.0, target.structure.tiles_per_chip)


def _trained_group(
    name: str,
    group: GroupMap,
    part: MvmPart,
    durations: Durations,
    target: Target,
    entries: Sequence[EntryGraph],
    versions: Sequence[Mapping[Value, str]],
) -> TrainedGroup:
    geometry = Geometry.of(part, target.crossbar)
    cycles = durations.program(min(geometry.matrix_rows, geometry.rows), len(group.crossbars))
    sources: dict[str, None] = {}
    for entry, homes in zip(entries, versions, strict=True):
        for node in entry.graph.nodes:
            if isinstance(node.op, Mvm) and any(homes.get(v) == name for v in node.inputs[1:]):
                sources.update(dict.fromkeys(node.sources))
    return TrainedGroup(name, part, group.replicas, group.crossbars, group.tiles, cycles, tuple(sources))


def _persistent(residents: Residents, target: Target) -> tuple[tuple[PersistentPlan, ...], dict[str, int]]:
    """Persistent buffers, the small ones on the chip as far as their share goes; bytes used in each space."""
    room = int(target.edram.bytes_per_tile * target.structure.tiles * _RESIDENT_SHARE)
    used = {"edram": 0, "dram": 0}
    places: dict[str, PersistentPlan] = {}
    bytes_of = sizes(residents.buffers)
    for name in sorted(bytes_of, key=lambda n: bytes_of[n]):
        size = footprint(bytes_of[name], 1)
        space = "edram" if used["edram"] + size <= room else "dram"
        places[name] = PersistentPlan(name, space, used[space])
        used[space] += size
    return tuple(places[r.name] for r in residents.buffers), used
