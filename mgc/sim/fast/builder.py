"""A plan while it grows: slots, the graph that takes instructions now, what buffers and crossbars hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from mgc.isa.dataflow import changing
from mgc.isa.dtypes import numpy_dtype
from mgc.isa.instruction import Instruction
from mgc.isa.instructions import CONSTANT, Ref
from mgc.isa.machine import IDEAL_DTYPE
from mgc.isa.program import Program
from mgc.sim.engine import last_uses
from mgc.sim.fast import layout
from mgc.sim.fast.elementwise import Operand
from mgc.sim.fast.graph import GraphBuilder, NotLoweredError
from mgc.sim.fast.items import GraphItem, Item, LoadItem, MachineItem, Slot, StoreItem
from mgc.sim.fast.lossless import GroupRead
from mgc.sim.fast.values import Element, GraphValue, Part
from mgc.sim.fast.versions import StateSlots, Version
from mgc.sim.fast.weights import plane_dtype, planes_of
from mgc.sim.states import state_groups


@dataclass(frozen=True)
class LoweredStep:
    """Where an instruction, or a step of one, went: a kernel's name, or why it runs as the reference runs it."""

    instruction: int
    what: str
    kernel: str
    reason: str = ""

    @property
    def lowered(self) -> bool:
        """Whether it is part of a graph."""
        return not self.reason


@dataclass(frozen=True)
class Plan:
    """loads, then items in order, then stores; `states`: where what lives from run to run is, if anything changes it.

    placements: where every instruction (for VEC: every step) went, in program order.
    bytes_per_micro_batch: the largest intermediate that is known of. nanoseconds_per_micro_batch: a rough estimate.
    """

    loads: tuple[LoadItem, ...]
    items: tuple[Item, ...]
    stores: tuple[StoreItem, ...]
    placements: tuple[LoweredStep, ...]
    bytes_per_micro_batch: int
    nanoseconds_per_micro_batch: float
    states: StateSlots

    def last_uses(self) -> dict[int, list[int]]:
        """Item number -> slots that nothing reads after it."""
        kept = {s.id for s in (*(s for store in self.stores for s in store.reads), *self.states.ends)}
        touched = (({s.id for s in (*item.reads, *item.writes)} - kept) for item in self.items)
        return last_uses(enumerate(touched))


@dataclass
class _OpenGraph:
    """A graph that still grows, and the values and weights it was fed, by slot number."""

    item: GraphItem
    fed: dict[int, GraphValue] = field(default_factory=dict)
    weights: dict[int, str] = field(default_factory=dict)


Held = int | np.ndarray
"""A slot's number, or a constant."""


class Deferred(Protocol):
    """Instructions that write a buffer together, once something reads it."""

    def finish(self) -> None:
        """Lowers them: the builder then holds the buffer."""
        ...


class PlanBuilder:
    """Takes a program's instructions one after the other.

    A graph grows while instructions have a graph form; one that has none ends it, unless it can run before it. Where
    the program changes states, all that lives from run to run is in slots, forms that need a guard may be used, and
    reads of a group are taken to be exact unless they are among the `lossy` ones. Where it does not, the weights are
    those of its tensors, and persistent buffers hold what `persistent` says, by root. `numbers`: no NaN comes in.
    """

    def __init__(
        self,
        program: Program,
        ideal: bool,
        persistent: Mapping[int, np.ndarray],
        lossy: frozenset[GroupRead],
        numbers: bool = False,
    ) -> None:
        self.numbers = numbers
        self.program, self.ideal, self.lossy = program, ideal, lossy
        self.changes = bool(changing(program))
        self.loads: list[LoadItem] = []
        self.items: list[Item] = []
        self.stores: list[StoreItem] = []
        self.placements: list[LoweredStep] = []
        self.slots: list[Slot] = []
        self.deferred: dict[int, Deferred] = {}
        """Root buffer -> what will write it."""
        self.largest = 0
        """Bytes of the largest step outside graphs, for one micro-batch."""
        self.versions: dict[int, Version] = {}
        """Crossbar group in slots -> its version now."""
        self.versions_read: dict[int, Version] = {}
        """Instruction -> the version of its group that it reads."""
        self._made: dict[int, tuple[GraphItem, GraphValue]] = {}  # slot -> the graph that defines it
        self._held: dict[int, Held] = {}  # root buffer -> what was written to it
        self._graph: _OpenGraph | None = None
        self._tensors: dict[int, tuple[GraphItem, str]] = {}  # slot -> a graph's tensor as it lies there
        self._carriers: dict[tuple[int, str], Slot] = {}
        self._first_buffers: dict[int, Slot] = {}  # persistent root buffer -> its slot at first
        if self.changes:
            for buffer in program.buffers:
                if buffer.persistent and buffer.alias_of < 0:
                    self._first_buffers[buffer.id] = self.slot(buffer.shape, self.dtype(buffer.id), False)
            self._held = {root: slot.id for root, slot in self._first_buffers.items()}
            self.versions = {group: self.version(group) for group in state_groups(program)}
        else:
            self._held = dict(persistent)
        self._first_versions = dict(self.versions)

    def finish(self) -> Plan:
        """The plan of all instructions that were taken."""
        for deferred in list(self.deferred.values()):
            deferred.finish()
        self._fetch()
        graphs = [i.graph for i in self.items if isinstance(i, GraphItem)]
        size = max((g.bytes_per_micro_batch for g in graphs), default=0)
        return Plan(
            tuple(self.loads),
            tuple(self.items),
            tuple(self.stores),
            tuple(sorted(self.placements, key=lambda p: p.instruction)),
            max(size, self.largest),
            sum(g.nanoseconds_per_micro_batch for g in graphs),
            self._states(),
        )

    def _states(self) -> StateSlots:
        ends = {root: self.content(self._held[root]) for root in self._first_buffers}
        return StateSlots(
            {root: (slot, ends[root]) for root, slot in self._first_buffers.items()},
            {group: (version, self.versions[group]) for group, version in self._first_versions.items()},
        )

    def slot(self, shape: tuple[int, ...], dtype: np.dtype, batched: bool, opaque: bool = False) -> Slot:
        """A new slot."""
        slot = Slot(len(self.slots), shape, dtype, batched and self.program.entry.batched, opaque)
        self.slots.append(slot)
        return slot

    def dtype(self, buffer: int) -> np.dtype:
        """What a buffer's elements are in this numerics."""
        b = self.program.buffers[buffer]
        return IDEAL_DTYPE if self.ideal and b.kind in ("code", "acc") else numpy_dtype(b.dtype)

    def holds(self, buffer: int) -> Held:
        """What a buffer holds. A verified program reads nothing before all that write it."""
        root = self.program.root(buffer)
        if root in self.deferred:
            self.deferred[root].finish()
        return self._held[root]

    def hold(self, buffer: int, held: Held) -> None:
        """What a buffer holds from now on."""
        self._held[self.program.root(buffer)] = held

    def content(self, held: Held) -> Slot | np.ndarray:
        """A slot itself, or the constant."""
        return self.slots[held] if isinstance(held, int) else held

    def held(self, ref: Ref) -> Held:
        """What a buffer or constant operand holds."""
        return self.constant(ref) if ref.space == CONSTANT else self.holds(ref.index)

    def content_of(self, ref: Ref) -> Slot | np.ndarray:
        """The same, a slot itself."""
        return self.content(self.held(ref))

    def open_graph(self) -> GraphBuilder:
        """The graph that grows now."""
        if self._graph is None:
            self._graph = _OpenGraph(GraphItem(GraphBuilder(spins=not self.changes)))
            self.items.append(self._graph.item)
        return self._graph.item.graph

    def value(self, number: int) -> GraphValue:
        """A slot as a value of the open graph, fed to it if it was made elsewhere."""
        g, graph = self.open_graph(), self._graph
        assert graph is not None
        if number in self._made and self._made[number][0] is graph.item:
            return self._made[number][1]
        if number not in graph.fed and number in self._made and self.changes:
            graph.fed[number] = self._carried(number)
        if number not in graph.fed:
            slot, name = self.slots[number], f"slot{number}"
            if slot.batched and not slot.shape:
                raise NotLoweredError("a scalar of each micro-batch")
            graph.item.feeds[name] = slot
            tensor, element = g.input(name, slot.dtype), Element(slot.dtype)
            if self.numbers and any(load.result is slot for load in self.loads):
                g.numbers.add(tensor)
            if slot.dtype == np.int8:  # codes: the same eight bits plus 128
                tensor = g.node("BitwiseXor", g.cast(tensor, np.uint8), g.constant(np.uint8(128)))
                element = Element(np.dtype(np.uint8), 128)
            value = GraphValue(slot.shape, slot.dtype, element, dense=tensor, batched=slot.batched)
            if number in self._made:
                known = self._made[number][1]
                value = replace(value, limit=known.limit, span=known.span)
            graph.fed[number] = value
        return graph.fed[number]

    def _carried(self, number: int) -> GraphValue:
        """A value of an earlier graph in the open one, its tensors as they lie there."""
        item, value = self._made[number]

        def carry(tensor: str) -> str:
            assert self._graph is not None
            if (id(item), tensor) not in self._carriers:
                slot = self.slot((), value.element.dtype, value.batched)
                self._carriers[id(item), tensor] = slot
                self._tensors[slot.id] = (item, tensor)
            slot = self._carriers[id(item), tensor]
            name = f"slot{slot.id}"
            if name not in self._graph.item.feeds:
                self._graph.item.feeds[name] = slot
                self._graph.item.graph.input(name, slot.dtype)
            if tensor in item.graph.finite:
                self._graph.item.graph.finite.add(name)
            return name

        dense = carry(value.dense) if value.dense is not None else None
        rows = value.rows
        if rows is not None:
            rows = replace(rows, parts=tuple(Part(carry(p.tensor), p.rows, p.fold) for p in rows.parts))
        return replace(value, dense=dense, rows=rows)

    def weights(self, m: Instruction) -> str:
        """The tensor of the planes that an instruction reads, in the open graph."""
        g, graph, slot = self.open_graph(), self._graph, self.versions_read[m.id].planes
        assert graph is not None
        if slot.id not in graph.weights:
            name = f"weights{slot.id}"
            graph.item.feeds[name] = slot
            graph.weights[slot.id] = g.input(name, slot.dtype)
        return graph.weights[slot.id]

    def define(self, value: GraphValue) -> int:
        """A slot for a value of the open graph."""
        slot = self.slot(value.shape, value.logical, value.batched)
        assert self._graph is not None
        self._made[slot.id] = (self._graph.item, value)
        return slot.id

    def operand(self, held: Held, shape: tuple[int, ...]) -> Operand:
        """A slot or constant under a buffer's shape."""
        if isinstance(held, np.ndarray):
            return held.reshape(shape)
        value = self.value(held)
        return layout.viewed(self.open_graph(), value, shape)

    def add(self, item: Item) -> None:
        """Appends an item that is no graph: before the open graph if it does not depend on it, else ending it."""
        if self._graph is not None:
            inside = self._graph.item
            if not any(s.id in self._made and self._made[s.id][0] is inside for s in item.reads):
                self.items.insert(self.items.index(inside), item)
                return
            self._graph = None
        self.items.append(item)

    def _fetch(self) -> None:
        """Makes graph outputs of the values that later items need, last graph first; drops graphs that none needs."""
        needed = {s.id for store in self.stores for s in store.reads}
        needed |= {h for h in (self._held[root] for root in self._first_buffers) if isinstance(h, int)}
        kept: list[Item] = []
        for item in reversed(self.items):
            if isinstance(item, GraphItem):
                for number in sorted(n for n in needed if n in self._made and self._made[n][0] is item):
                    self._expose(item, layout.plain(item.graph, self._made[number][1]), number)
                for number in sorted(n for n in needed if n in self._tensors and self._tensors[n][0] is item):
                    self._expose(item, self._tensors[number][1], number)
                if not item.fetches:
                    continue
                item.guard = item.graph.close()
            needed.update(s.id for s in item.reads)
            kept.append(item)
        self.items = kept[::-1]

    def _expose(self, item: GraphItem, tensor: str, number: int) -> None:
        """Makes a tensor the output of a graph that a slot takes."""
        slot = self.slots[number]
        item.fetches[item.graph.expose(tensor, slot.dtype, f"out{number}")] = slot

    def constant(self, ref: Ref) -> np.ndarray:
        """A constant operand."""
        return self.program.tensors[self.program.constants[ref.index].tensor]

    def read(self, ref: Ref) -> Operand:
        """A buffer or constant operand."""
        return self.constant(ref) if ref.space == CONSTANT else self.buffer(ref.index)

    def buffer(self, buffer: int) -> Operand:
        """What a buffer holds, as an operand."""
        return self.operand(self.holds(buffer), self.program.buffers[buffer].shape)

    def version(self, group: int) -> Version:
        """Slots for one more version of a group."""
        held = self.program.groups[group]
        shape = (held.matrices, held.rows, held.cols)
        if self.ideal:
            whole = self.slot(shape, IDEAL_DTYPE, False)
            return Version(whole, whole)
        count = len(planes_of(held.arithmetic.weight_bits))
        return Version(self.slot(shape, np.dtype(np.int32), False), self.slot((count, *shape), plane_dtype(), False))

    def as_reference(self, instructions: Sequence[Instruction], reason: str) -> None:
        """Instructions as the reference runs them."""
        program = self.program
        before: list[tuple[int, Slot]] = []
        constants: list[tuple[int, np.ndarray]] = []
        for root in dict.fromkeys(program.root(b) for i in instructions for b in i.reads()):
            held = self.holds(root)
            if isinstance(held, int):
                before.append((root, self.slots[held]))
            else:
                constants.append((root, held))
        batched = any(s.batched for _, s in before)
        after: list[tuple[int, Slot]] = []
        for root in dict.fromkeys(program.root(b) for i in instructions for b in i.writes()):
            opaque = program.buffers[root].kind == "opaque"
            dtype = np.dtype(object) if opaque else self.dtype(root)
            after.append((root, self.slot(program.buffers[root].shape, dtype, batched, opaque)))
        versions = [self.versions_read.get(i.id) for i in instructions]
        weights = tuple(v.whole if v is not None else None for v in versions)
        self.add(MachineItem(tuple(instructions), tuple(before), tuple(constants), tuple(after), weights))
        for root, slot in after:
            self._held[root] = slot.id
        self.placements += [LoweredStep(i.id, i.mnemonic, "reference", reason) for i in instructions]
