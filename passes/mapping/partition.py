"""partition: weight matrices onto crossbars: row order, geometry, capacity."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from mgc.ir.graph import Graph, Node, Value
from mgc.ir.mapped import CHANNEL_MAJOR, TAP_MAJOR, Mvm, MvmPart, MvmT, UpdateCells
from mgc.ir.module import Entry
from mgc.passes.lowering.versions import homes_of
from mgc.passes.manager import Pass
from mgc.passes.mapping.crossbar_rows import exact_columns
from mgc.passes.mapping.durations import streamed_input
from mgc.passes.mapping.multiplex import Uses, turns_of
from mgc.passes.mapping.packing import GroupUse, crossbars_of, plane_columns_of
from mgc.passes.mapping.plan import Resident
from mgc.passes.mapping.reads import Reads, reads_of
from mgc.passes.mapping.residents import Residents, residents_in
from mgc.passes.state import CompileState, UnsupportedError, with_graph
from mgc.targets.description import Crossbar, Target


class CapacityError(UnsupportedError):
    """The weights need more crossbars than the target has. `needed` and `available` count crossbars."""

    def __init__(self, message: str, needed: int, available: int) -> None:
        super().__init__(message)
        self.needed = needed
        self.available = available


@dataclass(frozen=True)
class Partition(Pass):
    """Every part of every product has a crossbar group of its own, a resident of the module; they must fit.

    For weights that nothing writes, rows go channel-major or tap-major, whichever leaves fewer columns that an ADC
    could clip (on a tie as they are); weights are permuted to match, integer and real. Weights that are read transposed
    are packed in planes where that saves time, or as few crossbars as can be where those would not do. Where one
    copy of everything needs more crossbars than the target has, groups are left to take turns on them (see
    `mgc.passes.mapping.multiplex`); CapacityError if even that is impossible, or where weights are trained. Results are
    equal bit for bit.
    """

    name: ClassVar[str] = "partition"
    levels: ClassVar[tuple[int, ...]] = (1, 2)

    def run(self, state: CompileState) -> CompileState:
        residents = residents_in(state.module)
        entries: list[Entry] = []
        frozen: list[Resident] = []
        for entry in state.module.entries:
            graph = order_rows(entry.graph.copy(), state.chip)
            frozen += frozen_residents(graph, {*residents.names, *(r.name for r in frozen)})
            entries.append(with_graph(entry, graph))
        sources = _sources(entries, residents.names)
        groups = [replace(r, sources=sources.get(r.name, ())) for r in residents.groups]
        every = replace(residents, all=(*groups, *frozen, *residents.buffers))
        reads = reads_of_iteration(entries, every, state)
        for least in (False, True):
            packed = pack(every.groups, reads, state.chip, least=least)
            if sum(needs(packed, state.chip).values()) <= state.target.structure.crossbars:
                break
        check_capacity(packed, entries, state)
        return state.with_entries(entries, residents=replace(every, all=(*packed, *residents.buffers)))


def reads_of_iteration(entries: Sequence[Entry], residents: Residents, state: CompileState) -> dict[str, Reads]:
    """How often an iteration reads each group that training writes."""
    running = [e for e in entries if e.kind == "train"]
    homes = [homes_of(e.graph, residents.names) for e in running]
    return reads_of([e.graph for e in running], homes, [e.repeats for e in running], state.chip)


def pack(
    groups: Sequence[Resident], reads: Mapping[str, Reads], target: Target, *, least: bool = False
) -> list[Resident]:
    """The same groups, those of a layer in planes of as many columns as `plane_columns_of` says."""
    layers: dict[str, list[GroupUse]] = {}
    for group in groups:
        use = GroupUse.of(group, reads.get(group.name, Reads()), target.crossbar)
        layers.setdefault(group.layer, []).append(use)
    columns = {layer: plane_columns_of(uses, target, least=least) for layer, uses in layers.items()}
    return [replace(group, plane_columns=columns[group.layer]) for group in groups]


def _sources(entries: Sequence[Entry], names: Collection[str]) -> dict[str, tuple[str, ...]]:
    """For each group that training writes: the ONNX nodes whose products read it."""
    found: dict[str, dict[str, None]] = {}
    for entry in entries:
        homes = homes_of(entry.graph, names)
        for node in entry.graph.nodes:
            if isinstance(node.op, Mvm):
                for home in (homes[v] for v in node.inputs[1:] if v in homes):
                    found.setdefault(home, {}).update(dict.fromkeys(node.sources))
    return {name: tuple(sources) for name, sources in found.items()}


def order_rows(graph: Graph, target: Target) -> Graph:
    """Chooses the order of rows of constant weights in place and returns the graph; see `Partition`."""
    done: dict[tuple[Value, str, int], Value] = {}
    for node in graph.nodes:
        # an ADC that scales is exact or not by each cell alone: the order of rows changes nothing
        if isinstance(node.op, Mvm) and target.crossbar.adc_mode == "clip" and node.inputs[1] in graph.constants:
            _order_rows(graph, node, node.op, target.crossbar, done)
    graph.prune()
    return graph


def frozen_residents(graph: Graph, taken: Collection[str]) -> list[Resident]:
    """The groups of the constant weights of a graph: each part's integers become a constant of its own, in place, which
    has the group's name.
    """
    taken = set(taken)
    names: dict[str, int] = {}
    found: list[Resident] = []
    for node in graph.nodes:
        if not isinstance(node.op, Mvm) or node.inputs[1] not in graph.constants:
            continue
        inputs = list(node.inputs)
        for k, part in enumerate(node.op.parts):
            held = graph.constants[inputs[1 + k]]
            while inputs[1 + k].name in taken:
                inputs[1 + k] = graph.add_constant(held.data, f"{part.name}.cells")
            taken.add(inputs[1 + k].name)
            real = graph.constants[inputs[1 + len(node.op.parts) + k]].data
            count = names[part.name] = names.get(part.name, 0) + 1
            unique = replace(part, name=part.name if count == 1 else f"{part.name}#{count}")
            layer, sources = node.outputs[0].name, node.sources
            cells = np.ascontiguousarray(held.data)
            resident = Resident(inputs[1 + k].name, np.ascontiguousarray(real), part=unique, layer=layer)
            found.append(replace(resident, cells=cells, sources=sources, input_bits=node.op.input_bits))
        node.inputs = tuple(inputs)
    return found


def _order_rows(
    graph: Graph, node: Node, op: Mvm, crossbar: Crossbar, done: dict[tuple[Value, str, int], Value]
) -> None:
    """Chooses the row order of every part of one node. `done` remembers what was permuted already."""
    parts = list(op.parts)
    inputs = list(node.inputs)
    for k, part in enumerate(op.parts):
        weights = graph.constants[inputs[1 + k]].data
        taps = part.windows.tap_total
        if taps == 1 or part.channels == 1 or not np.issubdtype(weights.dtype, np.integer):
            continue
        codes = streamed_input(node)
        exact = int(exact_columns(weights, crossbar, **codes).sum())
        if exact == part.matrices * part.cols:
            continue
        other = TAP_MAJOR if part.row_order == CHANNEL_MAJOR else CHANNEL_MAJOR
        if int(exact_columns(_reordered(weights, part, other), crossbar, **codes).sum()) <= exact:
            continue
        parts[k] = replace(part, row_order=other)
        for at in range(1 + k, len(inputs), len(op.parts)):
            old = graph.constants[inputs[at]]
            key = old.value, other, taps
            if key not in done:
                data = np.ascontiguousarray(_reordered(old.data, part, other))
                done[key] = graph.add_constant(
                    data, f"{old.value.name}.{other}", group=old.group, onnx_name=old.onnx_name
                )
            inputs[at] = done[key]
    node.op = replace(op, parts=tuple(parts))
    node.inputs = tuple(inputs)


def _reordered(weights: np.ndarray, part: MvmPart, order: str) -> np.ndarray:
    """Rows of [matrices, rows, cols] taken from the part's order to the other one."""
    matrices, rows, cols = weights.shape
    channels, taps = part.channels, part.windows.tap_total
    outer, inner = (channels, taps) if order == TAP_MAJOR else (taps, channels)
    return weights.reshape(matrices, outer, inner, cols).swapaxes(1, 2).reshape(matrices, rows, cols)


def needs(groups: Sequence[Resident], target: Target) -> dict[str, int]:
    """The crossbars that one replica of each layer takes, by what messages call it."""
    need: dict[str, int] = {}
    for group in groups:
        if group.part is not None:
            name = ", ".join(group.sources) if group.cells is not None and group.sources else group.layer
            need[name] = need.get(name, 0) + crossbars_of(group.part, target.crossbar, group.plane_columns)
    return need


def check_capacity(groups: Sequence[Resident], entries: Sequence[Entry], state: CompileState) -> None:
    """CapacityError if one copy of all weights needs more crossbars than the target has, even in turns."""
    need = needs(groups, state.chip)
    needed, available = sum(need.values()), state.target.structure.crossbars
    parted = any(e.micro_batches > 1 for e in entries)
    if needed > available and (parted or turns_of_groups(groups, entries, state) is None):
        width = "training.master_bits" if state.trains else "crossbar.weight_bits"
        raise CapacityError(capacity_message(need, state.chip, width), needed, available)


def turns_of_groups(
    groups: Sequence[Resident], entries: Sequence[Entry], state: CompileState
) -> tuple[int, ...] | None:
    """The turn of every group, or whether it stays; see `mgc.passes.mapping.multiplex`."""
    return turns_of(
        sizes_of_groups(groups, state.chip), state.chip.structure.crossbars, uses_of_groups(groups, entries, state)
    )


def sizes_of_groups(groups: Sequence[Resident], target: Target) -> list[int]:
    """The crossbars of one replica of each group."""
    return [crossbars_of(g.part, target.crossbar, g.plane_columns) for g in groups if g.part is not None]


def uses_of_groups(groups: Sequence[Resident], entries: Sequence[Entry], state: CompileState) -> Uses:
    """What a run does with groups, by their numbers: in training an iteration, else the only entry."""
    number = {g.name: k for k, g in enumerate(g for g in groups if g.part is not None)}
    found: list[tuple[int, bool]] = []
    for entry in entries:
        if entry.kind != "train" and state.trains:
            continue
        homes = homes_of(entry.graph, residents_in(state.module).names)
        own: list[tuple[int, bool]] = []
        for node in entry.graph.nodes:
            match node.op:
                case Mvm() | MvmT():
                    held = (homes.get(v, v.name) for v in node.inputs[1:])
                    own += ((number[h], False) for h in held if h in number)
                case UpdateCells():
                    own.append((number[homes[node.inputs[0]]], True))
        found += own * entry.repeats
    return found


def capacity_message(need: Mapping[str, int], target: Target, width: str) -> str:
    """What does not fit, and what to change; `need` has the crossbars of each layer, `width` names the weight bits."""
    needed = sum(need.values())
    structure, crossbar = target.structure, target.crossbar
    largest = sorted(need.items(), key=lambda item: (-item[1], item[0]))[:5]
    chips = -(-needed // structure.crossbars_per_chip)
    cells = crossbar.slices() * crossbar.signs
    return "\n  ".join(
        (
            f"the weights need {needed:,} crossbars; target {target.name} has {structure.crossbars:,} "
            f"({structure.chips} chip{'s' if structure.chips > 1 else ''} of {structure.crossbars_per_chip:,})",
            f"largest layers: {'; '.join(f'{name}: {count:,}' for name, count in largest)}",
            f"what to change in the target file: [structure] chips = {chips} would hold them; each weight now takes "
            f"{cells} cells ({width} = {crossbar.weight_bits}, crossbar.cell_bits = {crossbar.cell_bits}, "
            f"encoding {crossbar.encoding}): fewer of those or more cell_bits take fewer; or use a smaller model",
        )
    )
