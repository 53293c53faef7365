"""From a program to a plan: instructions in order, as large a part as possible in ONNX graphs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod

import numpy as np

from mgc.isa.dtypes import numpy_dtype
from mgc.isa.error import ExecutionError
from mgc.isa.functions import evaluate, function
from mgc.isa.functions.base import Operand as Typed
from mgc.isa.instruction import Instruction
from mgc.isa.instructions import BUFFER, CONSTANT, Diff, Host, Load, Move, Mvm, MvmT, Outer, Ref, Store, Update, Vec
from mgc.isa.instructions import Program as WriteCells
from mgc.isa.machine import IDEAL_DTYPE
from mgc.isa.program import Program
from mgc.sim.fast import layout, moves, mvm, outer, trained, vec
from mgc.sim.fast.elementwise import Operand
from mgc.sim.fast.graph import GraphBuilder
from mgc.sim.fast.items import DiffItem, GraphItem, Item, LoadItem, MachineItem, Slot, StepItem, StoreItem
from mgc.sim.fast.matmul import MatmulItem
from mgc.sim.fast.refusal import NotLoweredError
from mgc.sim.fast.scaling import check_step
from mgc.sim.fast.steps import FLOAT
from mgc.sim.fast.updates import UpdateItem, Version
from mgc.sim.fast.values import Element, Part, Value
from mgc.sim.fast.weights import Trained, plane_dtype, planes_of


@dataclass(frozen=True)
class Entry:
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
class Kept:
    """What a plan that changes states takes over from the run before, and leaves to the next.

    `buffers`: persistent root buffer -> where it is at first, and what it holds in the end. `versions`: crossbar group
    -> its version at first, and in the end.
    """

    buffers: Mapping[int, tuple[Slot, Slot | np.ndarray]]
    versions: Mapping[int, tuple[Version, Version]]


@dataclass(frozen=True)
class Plan:
    """loads, then items in order, then stores; `kept` if states change.

    bytes_per_micro_batch: the largest intermediate that is known of. nanoseconds_per_micro_batch: a rough estimate.
    """

    loads: tuple[LoadItem, ...]
    items: tuple[Item, ...]
    stores: tuple[StoreItem, ...]
    entries: tuple[Entry, ...]
    bytes_per_micro_batch: int
    nanoseconds_per_micro_batch: float
    kept: Kept | None = None


def build(program: Program, ideal: bool, persistent: Mapping[int, np.ndarray]) -> Plan:
    """The plan of a verified program for `quantized` or (`ideal`) `float` numerics.

    `persistent` says what the persistent buffers, which the program must not write, hold, by root.

    Instructions take effect in the order of their ids, which is a topological order: what timing and units add does not
    change values. A graph grows while instructions have a graph form; one that has none ends it, unless it can run
    before it.
    """
    return _Builder(program, ideal, held=dict(persistent)).build()


def build_training(program: Program, ideal: bool, groups: Sequence[int], lossy: Collection[int]) -> Plan:
    """The plan of a program that changes its states. `groups` are those that states live in.

    Forward reads of a group are taken to be exact unless it is among `lossy`.
    """
    builder = _Builder(program, ideal, lossy=frozenset(lossy), changes=True)
    builder.take_over(groups)
    return builder.build()


@dataclass
class _OpenGraph:
    """A graph that still grows, and the values and weights it was fed, by slot number."""

    item: GraphItem
    fed: dict[int, Value] = field(default_factory=dict)
    weights: dict[int, str] = field(default_factory=dict)


Held = int | np.ndarray
"""A slot's number, or a constant."""


@dataclass
class _Builder:
    program: Program
    ideal: bool
    loads: list[LoadItem] = field(default_factory=list)
    items: list[Item] = field(default_factory=list)
    stores: list[StoreItem] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    slots: list[Slot] = field(default_factory=list)
    made: dict[int, tuple[GraphItem, Value]] = field(default_factory=dict)  # slot -> the graph that defines it
    held: dict[int, Held] = field(default_factory=dict)  # root buffer -> what was written to it
    pending: dict[int, list[Mvm | MvmT]] = field(default_factory=dict)  # root buffer -> MVMs that will write it
    graph: _OpenGraph | None = None
    largest: int = 0  # bytes of the largest step outside graphs, for one micro-batch
    changes: bool = False
    lossy: frozenset[int] = frozenset()
    buffers: dict[int, Slot] = field(default_factory=dict)  # persistent root buffer -> what it held at first
    first: dict[int, Version] = field(default_factory=dict)  # group -> its version at first
    versions: dict[int, Version] = field(default_factory=dict)  # group -> its version now
    seen: dict[int, Version] = field(default_factory=dict)  # MVM or MVM_T -> the version that it reads
    carried: dict[int, tuple[GraphItem, str]] = field(default_factory=dict)  # slot -> a graph's tensor as it lies there
    carriers: dict[tuple[int, str], Slot] = field(default_factory=dict)

    def take_over(self, groups: Sequence[int]) -> None:
        """Makes slots for all that is kept from run to run."""
        for buffer in self.program.buffers:
            if buffer.persistent and buffer.alias_of < 0:
                self.buffers[buffer.id] = self._slot(buffer.shape, self._dtype(buffer.id), False)
                self.held[buffer.id] = self.buffers[buffer.id].id
        for group in groups:
            self.first[group] = self.versions[group] = self._version(group)

    def _version(self, index: int) -> Version:
        """Slots for one more version of a group."""
        group = self.program.groups[index]
        shape = (group.matrices, group.rows, group.cols)
        if self.ideal:
            whole = self._slot(shape, IDEAL_DTYPE, False)
            return Version(whole, whole)
        count = len(planes_of(group.arithmetic.weight_bits))
        return Version(self._slot(shape, np.dtype(np.int32), False), self._slot((count, *shape), plane_dtype(), False))

    def build(self) -> Plan:
        for instruction in self.program.instructions:
            match instruction:
                case WriteCells():
                    pass
                case Load():
                    self._load(instruction)
                case Store():
                    self._store(instruction)
                case Mvm() | MvmT():
                    self._mvm(instruction)
                case Outer():
                    self._outer(instruction)
                case Update():
                    self._update(instruction)
                case Diff():
                    self._diff(instruction)
                case Vec():
                    self._vec(instruction)
                case Move():
                    self._move(instruction)
                case Host():
                    self._as_reference([instruction], "runs on the host")
                case _:
                    self._as_reference([instruction], f"{instruction.mnemonic} has no graph form")
        for root in list(self.pending):
            self._flush(root)
        self._fetch()
        graphs = [i.graph for i in self.items if isinstance(i, GraphItem)]
        size = max((g.bytes_per_micro_batch for g in graphs), default=0)
        size = max(size, self.largest)
        self.entries.sort(key=lambda e: e.instruction)
        time = sum(g.nanoseconds_per_micro_batch for g in graphs)
        loads, items, stores = tuple(self.loads), tuple(self.items), tuple(self.stores)
        return Plan(loads, items, stores, tuple(self.entries), size, time, self._kept() if self.changes else None)

    def _kept(self) -> Kept:
        last = {root: self.held[root] for root in self.buffers}
        ends = {root: self.slots[h] if isinstance(h, int) else h for root, h in last.items()}
        return Kept(
            {root: (slot, ends[root]) for root, slot in self.buffers.items()},
            {group: (version, self.versions[group]) for group, version in self.first.items()},
        )

    # ---- slots and graph values

    def _slot(self, shape: tuple[int, ...], dtype: np.dtype, batched: bool, opaque: bool = False) -> Slot:
        slot = Slot(len(self.slots), shape, dtype, batched and self.program.batched, opaque)
        self.slots.append(slot)
        return slot

    def _dtype(self, buffer: int) -> np.dtype:
        b = self.program.buffers[buffer]
        return IDEAL_DTYPE if self.ideal and b.kind in ("code", "acc") else numpy_dtype(b.dtype)

    def _holds(self, buffer: int) -> Held:
        """What a buffer holds. A verified program reads nothing before all that write it."""
        root = self.program.root(buffer)
        if root in self.pending:
            self._flush(root)
        return self.held[root]

    def _hold(self, buffer: int, held: Held) -> None:
        self.held[self.program.root(buffer)] = held

    def _open(self) -> GraphBuilder:
        if self.graph is None:
            self.graph = _OpenGraph(GraphItem(GraphBuilder(spins=not self.changes)))
            self.items.append(self.graph.item)
        return self.graph.item.graph

    def _value(self, number: int) -> Value:
        """A slot as a value of the open graph, fed to it if it was made elsewhere."""
        g, graph = self._open(), self.graph
        assert graph is not None
        if number in self.made and self.made[number][0] is graph.item:
            return self.made[number][1]
        if number not in graph.fed and number in self.made and self.changes:
            graph.fed[number] = self._carried(number)
        if number not in graph.fed:
            slot, name = self.slots[number], f"slot{number}"
            if slot.batched and not slot.shape:
                raise NotLoweredError("a scalar of each micro-batch")
            graph.item.feeds[name] = slot
            tensor, element = g.input(name, slot.dtype), Element(slot.dtype)
            if slot.dtype == np.int8:  # codes: the same eight bits plus 128
                tensor = g.node("BitwiseXor", g.cast(tensor, np.uint8), g.constant(np.uint8(128)))
                element = Element(np.dtype(np.uint8), 128)
            value = Value(slot.shape, slot.dtype, element, dense=tensor, batched=slot.batched)
            if number in self.made:
                known = self.made[number][1]
                value = replace(value, limit=known.limit, span=known.span)
            graph.fed[number] = value
        return graph.fed[number]

    def _carried(self, number: int) -> Value:
        """A value of an earlier graph in the open one, its tensors as they lie there."""
        item, value = self.made[number]

        def carry(tensor: str) -> str:
            assert self.graph is not None
            if (id(item), tensor) not in self.carriers:
                slot = self._slot((), value.element.dtype, value.batched)
                self.carriers[id(item), tensor] = slot
                self.carried[slot.id] = (item, tensor)
            slot = self.carriers[id(item), tensor]
            name = f"slot{slot.id}"
            if name not in self.graph.item.feeds:
                self.graph.item.feeds[name] = slot
                self.graph.item.graph.input(name, slot.dtype)
            if tensor in item.graph.finite:
                self.graph.item.graph.finite.add(name)
            return name

        dense = carry(value.dense) if value.dense is not None else None
        rows = value.rows
        if rows is not None:
            rows = replace(rows, parts=tuple(Part(carry(p.tensor), p.rows, p.fold) for p in rows.parts))
        return replace(value, dense=dense, rows=rows)

    def _weights(self, m: Mvm | MvmT) -> Trained:
        """The weights that an instruction reads, as the open graph has them."""
        g, graph, slot = self._open(), self.graph, self.seen[m.id].planes
        assert graph is not None
        if slot.id not in graph.weights:
            name = f"weights{slot.id}"
            graph.item.feeds[name] = slot
            graph.weights[slot.id] = g.input(name, slot.dtype)
        return Trained(g, self.program.groups[m.group], graph.weights[slot.id], self.ideal)

    def _define(self, value: Value) -> int:
        """A slot for a value of the open graph."""
        slot = self._slot(value.shape, value.logical, value.batched)
        assert self.graph is not None
        self.made[slot.id] = (self.graph.item, value)
        return slot.id

    def _operand(self, held: Held, shape: tuple[int, ...]) -> Operand:
        """A slot or constant under a buffer's shape."""
        if isinstance(held, np.ndarray):
            return held.reshape(shape)
        value = self._value(held)
        return layout.viewed(self._open(), value, shape)

    def _add(self, item: Item) -> None:
        """Appends an item that is no graph: before the open graph if it does not depend on it, else ending it."""
        if self.graph is not None:
            inside = self.graph.item
            if not any(s.id in self.made and self.made[s.id][0] is inside for s in item.reads):
                self.items.insert(self.items.index(inside), item)
                return
            self.graph = None
        self.items.append(item)

    def _fetch(self) -> None:
        """Makes graph outputs of the values that later items need, last graph first; drops graphs that none needs."""
        needed = {s.id for store in self.stores for s in store.reads}
        needed |= {h for h in (self.held[root] for root in self.buffers) if isinstance(h, int)}
        kept: list[Item] = []
        for item in reversed(self.items):
            if isinstance(item, GraphItem):
                for number in sorted(n for n in needed if n in self.made and self.made[n][0] is item):
                    slot, value = self.slots[number], self.made[number][1]
                    name = item.graph.output(layout.plain(item.graph, value), f"out{number}", slot.dtype)
                    item.fetches[name] = slot
                for number in sorted(n for n in needed if n in self.carried and self.carried[n][0] is item):
                    slot, tensor = self.slots[number], self.carried[number][1]
                    item.fetches[item.graph.expose(tensor, slot.dtype)] = slot
                if not item.fetches:
                    continue
                item.guard = item.graph.close()
            needed.update(s.id for s in item.reads)
            kept.append(item)
        self.items = kept[::-1]

    def _constant(self, ref: Ref) -> np.ndarray:
        return self.program.tensors[self.program.constants[ref.index].tensor]

    # ---- instructions

    def _load(self, load: Load) -> None:
        port, buffer = self.program.inputs[load.port], self.program.buffers[load.dst]
        opaque = buffer.kind == "opaque"
        dtype = np.dtype(object) if opaque else self._dtype(load.dst)
        slot = self._slot(buffer.shape, dtype, port.batched and not opaque, opaque)
        self.loads.append(LoadItem(port.name, slot))
        self._hold(load.dst, slot.id)

    def _store(self, store: Store) -> None:
        held = self._constant(store.src) if store.src.space == CONSTANT else self._holds(store.src.index)
        self.stores.append(StoreItem(store.port, held if isinstance(held, np.ndarray) else self.slots[held]))

    def _mvm(self, m: Mvm | MvmT) -> None:
        pending = self.pending.setdefault(self.program.root(m.dst), [])
        if isinstance(m, MvmT) and not m.accumulate:
            pending.clear()
        pending.append(m)
        if m.group in self.versions:
            self.seen[m.id] = self.versions[m.group]

    def _flush(self, root: int) -> None:
        """Runs the MVMs that write a buffer, together: they write disjoint places of it, or add into it."""
        pending = self.pending.pop(root)
        buffer = self.program.buffers[root]
        try:
            if len({self.program.root(m.src) for m in pending}) > 1:
                raise NotLoweredError("MVMs of several sources")
            source = self._operand(self._holds(pending[0].src), self.program.buffers[pending[0].src].shape)
            if not isinstance(source, Value):
                raise NotLoweredError("an MVM of constants")
            value, used = self._product(pending, source, buffer.shape)
        except NotLoweredError as error:
            self._as_reference(pending, str(error))
            return
        self.held[root] = self._define(value)
        self.entries += [Entry(m.id, m.mnemonic, kernel) for m, kernel in zip(pending, used, strict=True)]

    def _product(
        self, pending: Sequence[Mvm | MvmT], source: Value, shape: tuple[int, ...]
    ) -> tuple[Value, Sequence[str]]:
        """What reads of one source make of one destination, and the kernel used for each of them."""
        reads = [m for m in pending if isinstance(m, Mvm)]
        transposed = [m for m in pending if isinstance(m, MvmT)]
        if reads and transposed:
            raise NotLoweredError("reads of both kinds into one destination")
        if reads and not any(m.group in self.versions for m in reads):
            return mvm.lower(self._open(), self.program, reads, source, shape, self.ideal)
        if any(m.group not in self.versions for m in pending):
            raise NotLoweredError("reads of groups of which only some change")
        arithmetic = [self.program.groups[m.group].arithmetic for m in pending]
        if not self.ideal:
            if any(m.group in self.lossy for m in reads):
                raise NotLoweredError("columns that are not exact")
            if transposed and any(a.adc_mode != "clip" or a.transposed_full_scale > a.adc_max for a in arithmetic):
                raise NotLoweredError("transposed reads that need not be exact")
        if len({(m.group, self.seen[m.id].whole.id) for m in pending}) > len({m.group for m in pending}):
            raise NotLoweredError("reads of two versions of a group")
        groups = {m.group: self._weights(m) for m in pending}
        if reads:
            return trained.forward(self._open(), self.program, groups, reads, source, shape, self.ideal)
        value, kernel = trained.transposed(self._open(), groups, transposed, source, shape, self.ideal)
        return value, [kernel] * len(transposed)

    def _outer(self, m: Outer) -> None:
        shape = self.program.buffers[m.dst].shape
        try:
            x, dy = (self._operand(self._holds(b), self.program.buffers[b].shape) for b in (m.x, m.dy))
            if not isinstance(x, Value) or not isinstance(dy, Value):
                raise NotLoweredError("an OUTER of constants")
            scales: list[Operand] = []
            if m.runs and not self.ideal:
                buffers = (m.x_scale, m.dy_scale)
                scales = [self._operand(self._holds(b), self.program.buffers[b].shape) for b in buffers]
            value, kernel = outer.outer(self._open(), m, x, dy, scales, shape, self.ideal)
        except NotLoweredError as error:
            self._as_reference([m], str(error))
            return
        self._hold(m.dst, self._define(value))
        self.entries.append(Entry(m.id, "outer", kernel))

    def _diff(self, d: Diff) -> None:
        def held(ref: Ref) -> Slot | np.ndarray:
            found = self._constant(ref) if ref.space == CONSTANT else self._holds(ref.index)
            return self.slots[found] if isinstance(found, int) else found

        if any(s.batched for s in map(held, (*d.scores, *d.targets)) if isinstance(s, Slot)):
            self._as_reference([d], "diff of several micro-batches")
            return
        operands = tuple((held(r), self.program.operand(r.space, r.index).shape) for r in (*d.scores, *d.targets))
        results = {b: self._slot(self.program.buffers[b].shape, FLOAT, False) for b in (d.loss, *d.deltas) if b != -1}
        self._add(DiffItem(d, operands, tuple(results.get(b) for b in (d.loss, *d.deltas))))
        for buffer, slot in results.items():
            self._hold(buffer, slot.id)
        self.entries.append(Entry(d.id, "diff", "numpy"))

    def _update(self, u: Update) -> None:
        """A new version of a group or of a persistent buffer, and of the moments."""

        def held(buffer: int) -> Slot | np.ndarray:
            found = self._holds(buffer)
            return self.slots[found] if isinstance(found, int) else found

        kept = {b: self._slot(self.program.buffers[b].shape, np.dtype(np.float32), False) for b in u.moments}
        group = self.program.groups[u.group] if u.group >= 0 else None
        new: Version | Slot
        if group is not None:
            old, new = self.versions[u.group], self._version(u.group)
        else:
            old = held(u.parameter)
            new = self._slot(self.program.buffers[u.parameter].shape, np.dtype(np.float32), False)
        checked = group is not None and not self.ideal and u.group not in self.lossy and u.group in self._forward
        step = held(u.step) if u.step >= 0 else None
        moments = tuple(held(b) for b in u.moments)
        self._add(UpdateItem(u, group, held(u.gradient), step, old, new, moments, tuple(kept.values()), checked))
        if isinstance(new, Version):
            self.versions[u.group] = new
        else:
            self._hold(u.parameter, new.id)
        for buffer, slot in kept.items():
            self._hold(buffer, slot.id)
        self.entries.append(Entry(u.id, "update", "numpy"))

    @cached_property
    def _forward(self) -> frozenset[int]:
        """Groups that are read forward."""
        return frozenset(i.group for i in self.program.instructions if isinstance(i, Mvm))

    def _move(self, move: Move) -> None:
        shape = self.program.buffers[move.dst].shape
        try:
            refs = dict.fromkeys(p.src for p in move.pieces)
            sources = {r: self._read(r) for r in refs}
            value = moves.lower(self._open(), move, sources, shape, self._dtype(move.dst))
        except NotLoweredError as error:
            self._as_reference([move], str(error))
            return
        self._hold(move.dst, self._define(value))
        self.entries.append(Entry(move.id, "move", "rows" if value.rows is not None else "dense"))

    def _read(self, ref: Ref) -> Operand:
        """A buffer or constant operand."""
        if ref.space == CONSTANT:
            return self._constant(ref)
        return self._operand(self._holds(ref.index), self.program.buffers[ref.index].shape)

    def _vec(self, kernel: Vec) -> None:
        """A kernel, step by step; as a whole if a step needs each micro-batch on its own."""
        entries: list[Entry] = []
        registers: list[Held] = []
        types = kernel.registers(self.program)
        try:
            for number, step in enumerate(kernel.steps):
                held, entry = self._step(kernel, number, registers, types)
                registers.append(held)
                entries.append(Entry(kernel.id, function(step.function).name, *entry))
        except NotLoweredError as error:
            self._as_reference([kernel], str(error))
            return
        self.entries += entries
        for store in kernel.stores:
            ref = store.value
            if ref.space == BUFFER:
                held = self._holds(ref.index)
            else:
                held = self._constant(ref) if ref.space == CONSTANT else registers[ref.index]
            self._hold(store.dst, held)

    def _step(
        self, kernel: Vec, number: int, registers: Sequence[Held], types: Sequence[Typed]
    ) -> tuple[Held, tuple[str, str]]:
        """Where a step's result is; its kernel and the reason why it has none. NotLoweredError: not step by step."""
        step = kernel.steps[number]
        name = function(step.function).name
        held: list[Held] = []
        shapes: list[tuple[int, ...]] = []
        for ref in step.args:
            if ref.space == CONSTANT:
                held.append(self._constant(ref))
                shapes.append(self._constant(ref).shape)
            elif ref.space == BUFFER:
                held.append(self._holds(ref.index))
                shapes.append(self.program.buffers[ref.index].shape)
            else:
                held.append(registers[ref.index])
                shapes.append(types[ref.index].shape)
        if all(isinstance(h, np.ndarray) for h in held):
            arrays = [h.reshape(s) for h, s in zip(held, shapes, strict=True) if isinstance(h, np.ndarray)]
            try:
                return evaluate(step.function, arrays, step.attributes, self.ideal), ("constant", "")
            except ExecutionError as error:
                raise NotLoweredError(str(error)) from error
        args = [self._operand(h, s) for h, s in zip(held, shapes, strict=True)]
        batched = check_step(name, args, step.attributes, types[number].shape)
        result = self._result(name, args, types[number])
        try:
            value = vec.lower(self._open(), kernel, number, args, result, self.ideal, self.changes)
            return self._define(value), ("graph", "")
        except NotLoweredError as error:
            slot = self._slot(result.shape, result.dtype, batched)
            known = [
                (self.slots[h], s) if isinstance(h, int) else h.reshape(s) for h, s in zip(held, shapes, strict=True)
            ]
            self.largest = max(self.largest, 8 * sum(prod(s) for s in (*shapes, result.shape)))
            if name == "matmul" and _certifiable(args):
                self._add(MatmulItem(tuple(known), slot))
                return slot.id, ("certified", "")
            self._add(StepItem(step.function, tuple(known), step.attributes, slot))
            return slot.id, ("numpy", str(error))

    def _result(self, name: str, args: Sequence[Operand], typed: Typed) -> Typed:
        """Type and shape of a step's result in this numerics: what was codes and sums is float32 in `float`."""
        first = args[0].logical if isinstance(args[0], Value) else args[0].dtype
        if self.ideal and name != "cast" and typed.dtype.kind in "iu" and first == IDEAL_DTYPE:
            return Typed(IDEAL_DTYPE, typed.shape)
        return typed

    def _as_reference(self, instructions: Sequence[Instruction], reason: str) -> None:
        """Instructions as the reference runs them."""
        program = self.program
        before: list[tuple[int, Slot]] = []
        constants: list[tuple[int, np.ndarray]] = []
        for root in dict.fromkeys(program.root(b) for i in instructions for b in i.reads()):
            held = self._holds(root)
            if isinstance(held, int):
                before.append((root, self.slots[held]))
            else:
                constants.append((root, held))
        batched = any(s.batched for _, s in before)
        after: list[tuple[int, Slot]] = []
        for root in dict.fromkeys(program.root(b) for i in instructions for b in i.writes()):
            opaque = program.buffers[root].kind == "opaque"
            dtype = np.dtype(object) if opaque else self._dtype(root)
            after.append((root, self._slot(program.buffers[root].shape, dtype, batched, opaque)))
        weights = tuple(self.seen[i.id].whole if i.id in self.seen else None for i in instructions)
        self._add(MachineItem(tuple(instructions), tuple(before), tuple(constants), tuple(after), weights))
        for root, slot in after:
            self.held[root] = slot.id
        self.entries += [Entry(i.id, i.mnemonic, "reference", reason) for i in instructions]


def _certifiable(args: Sequence[Operand]) -> bool:
    """Whether a MATMUL's operands are float32 matrices or stacks of them."""
    types = [a.logical if isinstance(a, Value) else a.dtype for a in args]
    return all(t == np.float32 for t in types) and min(len(a.shape) for a in args) >= 2 and args[0].shape[-1] > 0
