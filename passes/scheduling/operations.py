"""operations: the instructions to be, each with its unit, its duration and what it waits for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

from mgc.functions.channel import bytes_of_task
from mgc.functions.codes import weight_bytes
from mgc.ir import ops
from mgc.ir.graph import Graph, Node, Value
from mgc.ir.mapped import Copy, Mvm, MvmPart, MvmT, Outer, Send, UpdateCells, Vec, View
from mgc.passes.mapping.durations import (
    Durations,
    Place,
    Source,
    bytes_held,
    drains_of,
    elements_read,
    sizes_of,
    streamed_input,
    windows_of,
)
from mgc.passes.mapping.multiplex import STAYS
from mgc.passes.mapping.place import Placement
from mgc.passes.mapping.plan import GroupMap, Operation, OperationKind, UnitKind, UnitPlan
from mgc.passes.streaming.analysis import Streaming
from mgc.targets.description import Target


@dataclass(frozen=True)
class Work:
    """All operations in topological order, and the units that run them.

    `writers` and `readers` give for each stored value the operations that write and read it; `sizes` its bytes for one
    micro-batch, or for one part of what is there part by part; `holey` are those with parts that nothing writes.
    `versions` are the uses of what lives from run to run, in order: its name, the operation, whether it writes it.
    `bytes_per_cycle` is the rate of the off-chip channel.
    """

    operations: tuple[Operation, ...]
    units: tuple[UnitPlan, ...]
    writers: dict[Value, tuple[int, ...]]
    readers: dict[Value, tuple[int, ...]]
    sizes: dict[Value, int]
    holey: frozenset[Value]
    versions: tuple[tuple[str, int, bool], ...] = ()
    bytes_per_cycle: float = 1.0


def covers(op: Mvm) -> bool:
    """Whether the parts together write every position of the result."""
    return sum(windows_of(op, p) * p.matrices * p.cols for p in op.parts) == prod(op.out_shape)


def stored(graph: Graph) -> dict[Value, Value]:
    """The value in whose memory each value lies: itself, or for a view what it is a view of."""
    root: dict[Value, Value] = {v: v for v in (*graph.inputs, *graph.constants)}
    for node in graph.nodes:
        for value in node.outputs:
            root[value] = root[node.inputs[0]] if isinstance(node.op, View) else value
    return root


@dataclass
class Builder:
    """Makes the operations of one entry, node by node.

    `homes` gives the resident that a value is a version of (`mgc.passes.lowering.versions`), weights that nothing
    writes included; `group_number` the crossbar group of a resident. Inputs named in `data` and outputs named in
    `results` cross the host link. `offchip` are the values in off-chip memory, residents included: their traffic goes
    there. `streaming` is the cut of a run into parts. Of what an operation adds up over the batch each part takes its
    share of the traffic: it is kept where it is added. Of crossbars whose contents take turns `contents` has the group
    that was written last, `in_cells` the groups whose weights their cells hold, `uses` the operations that wrote and
    read each since it was written. Groups that share a macro are written one after the other, in the order of nodes, as
    if its write drivers were something that lives on: `shared` are the macros in which there are several.

    What an operation moves off-chip stands with it (as `mgc.isa.traffic` finds it in the program): every operand once.
    """

    graph: Graph
    target: Target
    placement: Placement
    homes: Mapping[Value, str]
    group_number: Mapping[str, int]
    data: Sequence[str]
    results: Sequence[str]
    offchip: frozenset[Value] = frozenset()
    streaming: Streaming = field(default_factory=Streaming)
    operations: list[Operation] = field(default_factory=list)
    units: dict[tuple[str, object], int] = field(default_factory=dict)
    unit_plans: list[UnitPlan] = field(default_factory=list)
    writers: dict[Value, list[int]] = field(default_factory=dict)
    readers: dict[Value, list[int]] = field(default_factory=dict)
    place: dict[Value, Place] = field(default_factory=dict)
    ancestors: list[int] = field(default_factory=list)
    complete: list[int] = field(default_factory=list)
    versions: list[tuple[str, int, bool]] = field(default_factory=list)
    last_write: dict[str, int] = field(default_factory=dict)
    reads_since: dict[str, list[int]] = field(default_factory=dict)
    contents: dict[int, int] = field(default_factory=dict)
    in_cells: set[int] = field(default_factory=set)
    uses: dict[int, list[int]] = field(default_factory=dict)
    node: Node | None = None

    def build(self) -> Work:
        """All operations of the graph."""
        graph, axes = self.graph, self.streaming.axes
        self.root, self.sizes = stored(graph), sizes_of(graph, self.target)
        held = Counter(m for g in self.placement.groups for m in self._macros(g))
        self.shared = frozenset(m for m, groups in held.items() if groups > 1)
        self._find_places()
        for k, group in enumerate(self.placement.groups):
            self._unit("crossbar", k, UnitPlan(group.name, "crossbar", group.tiles[0], group.tiles))
        inputs, outputs = {v.name: v for v in graph.inputs}, dict(graph.outputs)
        for port, name in enumerate(self.data):
            self._take(inputs[name] in axes)
            self._over_link("load", UnitPlan("link in", "link"), (), (inputs[name],), port=port)
        self.drains = drains_of(graph)
        products = {kernel: product for product, (kernel, _) in self.drains.items()}
        for node in graph.nodes:
            if node not in self.drains:  # whose work is done where its kernel is met
                node = products.get(node, node)
                self._take(node in self.streaming.nodes, node)
                self._operations_of(node)
        for port, name in enumerate(self.results):
            self._take(outputs[name] in axes)
            self._over_link("store", UnitPlan("link out", "link"), (outputs[name],), (), port=port)
        split = self.streaming.split
        return Work(
            tuple(self.operations),
            tuple(self.unit_plans),
            {v: tuple(w) for v, w in self.writers.items()},
            {v: tuple(self.readers.get(v, ())) for v in self.writers},
            {v: -(-self.sizes[v] // split) if self._by_parts(v) else self.sizes[v] for v in self.writers},
            frozenset(n.outputs[0] for n in graph.nodes if isinstance(n.op, Mvm) and not covers(n.op)),
            tuple(self.versions),
            self.target.dram.bytes_per_ns * self.target.clock_ns,
        )

    def _by_parts(self, value: Value) -> bool:
        """Whether a value is written part by part: a product of something whole may drain into what has parts."""
        return value in self.streaming.axes and all(self.operations[w].streamed for w in self.writers[value])

    # -- tables ----------------------------------------------------------------------------------------------------

    def _macros(self, group: GroupMap) -> list[int]:
        """The macros that a group has crossbars in."""
        return list(dict.fromkeys(c // self.target.structure.crossbars_per_macro for c in group.crossbars))

    def _find_places(self) -> None:
        """Where each stored value is made; a graph input is loaded to where it is read first."""
        inputs = set(self.graph.inputs)
        for node in reversed(self.graph.nodes):
            for value in node.inputs:
                if self.root[value] in inputs:
                    self.place[self.root[value]] = self.placement.place_of(node)
        for value in self.graph.inputs:
            self.place.setdefault(value, Place((0,)))
        for node in self.graph.nodes:
            self.place.update(dict.fromkeys(node.outputs, self.placement.place_of(node)))

    def _take(self, streamed: bool, node: Node | None = None) -> None:
        """The next operations take the batch part by part, or all of it."""
        self.durations = Durations(self.target, self.streaming.split if streamed else 1)
        self.node = node

    def _unit(self, kind: UnitKind, key: object, plan: UnitPlan) -> int:
        if (kind, key) not in self.units:
            self.units[kind, key] = len(self.unit_plans)
            self.unit_plans.append(plan)
        return self.units[kind, key]

    def _unit_at(self, kind: UnitKind, place: Place) -> int:
        """The vector unit, port, gradient unit or write drivers of a place."""
        what = "port" if kind == "dma" else kind
        return self._unit(kind, place, UnitPlan(f"{self._where(place)} {what}", kind, place.tiles[0], place.tiles))

    def _where(self, place: Place) -> str:
        """A place in words, with its chip where there are several (an id counts tiles chip after chip)."""
        first, last = place.tiles[0], place.tiles[-1]
        tiles = f"tile {first}" if first == last else f"tiles {first}-{last}"
        structure = self.target.structure
        return tiles if structure.chips == 1 else f"chip {first // structure.tiles_per_chip} {tiles}"

    def _source(self, value: Value, elements: int | None = None) -> Source:
        """The traffic of a stored value, once or of so many `elements`; of what is shared out, a part's share."""
        root, size = self.root[value], self.sizes[value]
        if elements is not None:
            item = size // max(1, value.tensor.size)  # 0 for what takes bits
            size = min(size, elements * item if item else bytes_held(value.tensor, elements))
        by_parts = value in self.streaming.axes or (self.node is not None and value in self.node.outputs)
        moved = bytes_of_task(size, self.durations.parts, by_parts)
        return Source(moved, None if root in self.offchip else self.place[root])

    def _traffic(self, read: Iterable[Value], written: Iterable[Value]) -> list[Source]:
        """What is read, each once by whatever views, and written; constants cost nothing: tables and scales sit in the
        unit.
        """
        values = {self.root[v]: v for v in reversed(list(read)) if v not in self.graph.constants}
        return [self._source(v) for v in (*reversed(values.values()), *written)]

    def _over_link(
        self, kind: OperationKind, unit: UnitPlan, read: Sequence[Value], written: Sequence[Value], **fields: Any
    ) -> None:
        """What goes between memory and the host."""
        sizes = [self.sizes[v] for v in (*read, *written)]
        offchip = sum(s.size for s in self._traffic(read, written) if s.place is None)
        duration = max(self.durations.link(sum(sizes)), self.durations.cost.transfer_cycles(offchip, "dram"))
        number = self._unit(unit.kind, unit.name, unit)
        self._add(kind, number, duration, read, written, (), offchip=offchip, **fields)

    # -- what waits for what ---------------------------------------------------------------------------------------

    def _add(
        self,
        kind: OperationKind,
        unit: int,
        duration: int,
        read: Sequence[Value],
        written: Sequence[Value],
        also: Sequence[int] = (),
        cells: int = -1,
        **fields: Any,
    ) -> int:
        """Adds an operation after the writers of all that it reads, after who reads what it overwrites, and after
        `also`; gives its number. `cells` is the group whose cells it writes.
        """
        index, streamed = len(self.operations), self.durations.parts > 1
        part: dict[int, None] = dict.fromkeys(also)  # the same part of these must have ended
        every: dict[int, None] = {}  # all of these
        for value in read:
            root = self.root[value]
            if root in self.graph.constants:
                continue
            if root in self.homes:
                self._read_version(self.homes[root], index, every)
                continue
            (part if value in self.streaming.axes else every).update(dict.fromkeys(self.writers[root]))
            readers = self.readers.setdefault(root, [])
            if not readers or readers[-1] != index:
                readers.append(index)
        for value in written:
            if value in self.homes:
                self._write_version(self.homes[value], index, every)
            else:
                self.writers.setdefault(value, []).append(index)
        for macro in self._macros(self.placement.groups[cells]) if cells >= 0 else ():
            if macro in self.shared:
                self._write_version(f"write drivers of macro {macro}", index, every)
        after, after_all = self._reduced(part, every, streamed)
        made = Operation(kind, unit, duration, after, after_all=after_all, streamed=streamed, node=self.node)
        self.operations.append(replace(made, **fields))
        return index

    def _read_version(self, home: str, index: int, wait: dict[int, None]) -> None:
        """Takes down that an operation reads what lives from run to run, after who wrote it last in this run."""
        self.versions.append((home, index, False))
        if home in self.last_write:
            wait[self.last_write[home]] = None
        readers = self.reads_since.setdefault(home, [])
        if not readers or readers[-1] != index:
            readers.append(index)

    def _write_version(self, home: str, index: int, wait: dict[int, None]) -> None:
        """Takes down that an operation overwrites it, after who read it since it was written last."""
        self.versions.append((home, index, True))
        if home in self.last_write:
            wait[self.last_write[home]] = None
        wait.update(dict.fromkeys(i for i in self.reads_since.get(home, []) if i != index))
        self.last_write[home] = index
        self.reads_since[home] = []

    def _reduced(
        self, part: Iterable[int], every: Iterable[int], streamed: bool
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Those to wait for that no other one implies, part by part and whole; takes down all that comes before.

        Bits of `ancestors` are the operations whose same part has ended, of `complete` those all of whose parts have.
        """
        operations = self.operations
        strong = dict.fromkeys(every)
        weak: dict[int, None] = {}
        for i in part:
            # what is not streamed has one task, which is all of it; and so waits who is not
            (weak if streamed and operations[i].streamed else strong)[i] = None
        after: list[int] = []
        after_all: list[int] = []
        before = complete = 0
        for i in sorted({**weak, **strong}, reverse=True):
            if complete >> i & 1 or (i not in strong and before >> i & 1):
                continue
            if i in strong:
                complete |= self.ancestors[i] | 1 << i
                before |= complete
                (after_all if streamed and operations[i].streamed else after).append(i)
            else:
                before |= self.ancestors[i] | 1 << i
                complete |= self.complete[i]
                after.append(i)
        self.ancestors.append(before)
        self.complete.append(complete)
        return tuple(sorted(after)), tuple(sorted(after_all))

    def _stream(
        self,
        kind: OperationKind,
        unit: int,
        work: int,
        moved: Sequence[Source],
        here: Place,
        read: Sequence[Value],
        written: Sequence[Value],
        also: Sequence[int] = (),
        cells: int = -1,
        **fields: object,
    ) -> int:
        """Adds an operation that takes so many cycles of `work` while data streams past."""
        offchip = sum(s.size for s in moved if s.place is None)
        duration = self.durations.stream(work, moved, here)
        return self._add(kind, unit, duration, read, written, also, cells, offchip=offchip, **fields)

    # -- operations ------------------------------------------------------------------------------------------------

    def _operations_of(self, node: Node) -> None:
        here, durations = self.placement.place_of(node), self.durations
        match node.op:
            case View():
                return
            case Mvm():
                self._mvm(node, node.op)
            case MvmT():
                self._mvm_t(node, node.op)
            case Outer():
                self._outer(node, node.op)
            case UpdateCells():
                self._update_cells(node, node.op)
            case Send():
                self._send(node, node.op)
            case Vec():
                self._whole(
                    "vec",
                    node,
                    self._unit_at("vector", here),
                    durations.vec(self.graph, node, node.op, len(here.tiles)),
                )
            case ops.Update(rule, clip):
                cycles = durations.update(node.outputs[0].tensor.size, rule, clip is not None, len(here.tiles))
                self._whole("update", node, self._unit_at("vector", here), cycles)
            case ops.DiffBlock():
                self._whole("diff", node, self._diff_block(here), durations.diff(node, node.op))
            case Copy():
                read = zip(node.inputs, elements_read(node.op, len(node.inputs)), strict=True)
                constants = self.graph.constants
                moved = [self._source(v, count) for v, count in read if v not in constants]
                moved.append(self._source(node.outputs[0]))
                self._stream("move", self._unit_at("dma", here), 0, moved, here, node.inputs, node.outputs)
            case ops.Host():
                self._over_link("host", UnitPlan("host", "host"), node.inputs, node.outputs)
            case _:
                raise TypeError(f"{node.op.name} is no operation: lower it first")

    def _whole(self, kind: OperationKind, node: Node, unit: int, work: int) -> None:
        """A node that is one operation, which its operands and results stream past."""
        moved, here = self._traffic(node.inputs, node.outputs), self.placement.place_of(node)
        self._stream(kind, unit, work, moved, here, node.inputs, node.outputs)

    def _diff_block(self, here: Place) -> int:
        """The diff-block of the chip that a place is on."""
        structure = self.target.structure
        chip = here.tiles[0] // structure.tiles_per_chip
        name = "diff-block" if structure.chips == 1 else f"chip {chip} diff-block"
        return self._unit("diff", chip, UnitPlan(name, "diff"))

    def _send(self, node: Node, op: Send) -> None:
        """A value to the neighbouring chip; each direction of a link is a unit."""
        here = self.placement.place_of(node)
        moved = [self._source(node.inputs[0]), self._source(node.outputs[0])]
        # whatever memory the value comes from, it leaves by the port of the sender
        gate = Place((op.sender * self.target.structure.tiles_per_chip,))
        link = self.durations.cross(self.sizes[node.outputs[0]], gate, here)
        name = f"chip {op.sender} to chip {op.chip}"
        unit = self._unit("link", (op.sender, op.chip), UnitPlan(name, "link", here.tiles[0], here.tiles))
        self._stream("move", unit, link, moved, here, node.inputs, node.outputs)

    def _group_of(self, node: Node, part: int) -> int:
        """The crossbar group that a part of a product reads."""
        return self.group_number[self.homes[node.inputs[1 + part]]]

    def _mvm(self, node: Node, op: Mvm) -> None:
        """The reads of a product's groups; what versions of cells they read is among the node's operands."""
        x, drain = node.inputs[0], self._drain_of(node)
        results = drain.outputs if drain is not None else node.outputs
        for k, part in enumerate(op.parts):
            index = self._group_of(node, k)
            group = self.placement.groups[index]
            blocks = self.target.crossbar.row_blocks(part.rows)
            work = self.durations.mvm(self.durations.windows(op, part), group.replicas, blocks, streamed_input(node))
            here = Place(group.tiles)
            # a part's sums, or what is made of them, are its own, collected in its own tiles
            elements = windows_of(op, part) * part.matrices * part.cols
            made = [self._source(v, elements) for v in results]
            moved = self._traffic((x,), ()) + [s if s.place is None else replace(s, place=here) for s in made]
            work = max(work, self._drained(drain, elements, group, moved))
            read = (x, node.inputs[1 + k], *(drain.inputs[1:] if drain is not None else ()))
            unit, written = self.units["crossbar", index], self._written(index, part, node.inputs[1 + k])
            number = self._stream(
                "mvm", unit, work, moved, here, read, results, written, part=k, group=index, drain=drain
            )
            self._used(index, number)

    def _written(self, index: int, part: MvmPart, weights: Value) -> tuple[int, ...]:
        """What a read of a group that takes turns waits for: its cells are written from off-chip memory, unless they
        hold this version of its weights, once all that its crossbars held has been read.
        """
        group, crossbar = self.placement.groups[index], self.target.crossbar
        if group.turn == STAYS:
            return ()
        if index in self.in_cells:
            return (self.uses[index][0],)
        before = dict.fromkeys(self.contents[c] for c in group.crossbars if c in self.contents)
        wait = sorted({i for k in before for i in self.uses[k]})
        self.in_cells.difference_update(before)
        self.contents.update(dict.fromkeys(group.crossbars, index))
        self.in_cells.add(index)
        # the cells are written at once, whatever takes a batch part by part
        durations, self.durations = self.durations, Durations(self.target)
        here = Place(group.tiles)
        cycles = self.durations.program(min(part.rows, crossbar.rows), group.crossbars)
        writer = self._unit_at("writer", here)
        held = Source(weight_bytes(part.matrices * part.rows * part.cols, crossbar.weight_bits), None)
        number = self._stream("rewrite", writer, cycles, (held,), here, (weights,), (), wait, index, group=index)
        self.durations, self.uses[index] = durations, [number]
        return (number,)

    def _used(self, index: int, number: int) -> None:
        """Takes down that an operation reads a group."""
        if self.placement.groups[index].turn != STAYS:
            self.uses[index].append(number)

    def _drain_of(self, node: Node) -> Node | None:
        """The kernel that takes the sums of a product as they come."""
        return self.drains[node][0] if node in self.drains else None

    def _drained(self, drain: Node | None, elements: int, group: GroupMap, moved: list[Source]) -> int:
        """Cycles of what drains so many sums of a group; what it reads is added to `moved`."""
        if drain is None:
            return 0
        assert isinstance(drain.op, Vec)
        whole = drain.inputs[0].tensor.size
        for value in dict.fromkeys(drain.inputs[1:]):
            if value not in self.graph.constants:
                moved.append(self._source(value, elements if value.tensor.size == whole else None))
        sums = -(-elements // self.durations.parts)
        return self.durations.drain(self.graph, drain.op, drain.inputs, sums, len(group.crossbars))

    def _mvm_t(self, node: Node, op: MvmT) -> None:
        """Parts add into one result, the first of them begins it."""
        dy, result, drain = node.inputs[0], node.outputs[0], self._drain_of(node)
        results = (result, *(drain.outputs if drain is not None else ()))
        first: list[int] = []
        for k, part in enumerate(op.parts):
            index = self._group_of(node, k)
            group = self.placement.groups[index]
            here = Place(group.tiles)
            windows = self.durations.windows(op, part)
            work = self.durations.mvm_t(windows, part, group, streamed_input(node))
            # errors are taken where its windows are; sums that are there come and go
            errors = self._source(dy, windows_of(op, part) * part.matrices * part.cols)
            if drain is None:
                moved = [errors, *self._traffic((), (result, result) if k else (result,))]
            else:  # all sums go through the lines that are held
                size = -(-prod(op.out_shape) * self.target.periphery.accumulator_bytes // self.durations.parts)
                sums = Source(size, None if result in self.offchip else self.place[result])
                moved = [errors, sums, sums, *self._traffic((), drain.outputs)]
            work = max(work, self._drained(drain, prod(op.out_shape), group, moved))
            read = (dy, node.inputs[1 + k], *(drain.inputs[1:] if drain is not None else ()))
            written = self._written(index, part, node.inputs[1 + k])
            number = self._stream(
                "mvm_t",
                self.units["crossbar", index],
                work,
                moved,
                here,
                read,
                results,
                (*first, *written),
                part=k,
                group=index,
                drain=drain,
            )
            self._used(index, number)
            first = first or [number]

    def _outer(self, node: Node, op: Outer) -> None:
        here = self.placement.place_of(node)
        unit = self._unit_at("gradient", here)
        for k, part in enumerate(op.parts):
            work = self.durations.outer(self.durations.windows(op, part), part, len(here.tiles))
            result = node.outputs[k]
            x, dy, *scales = node.inputs
            errors, sums = self._source(dy, windows_of(op, part) * part.matrices * part.cols), self._source(result)
            moved = [
                *self._traffic((x, *scales), ()),
                errors,
                sums if sums.place is None else replace(sums, place=here),
            ]
            self._stream("outer", unit, work, moved, here, node.inputs, (result,), part=k)

    def _update_cells(self, node: Node, op: UpdateCells) -> None:
        """Arithmetic, then row after row is written; all replicas at once. Weights that take turns are read and written
        where they lie off-chip; cells are left as they are, and stale.
        """
        index = self.group_number[self.homes[node.inputs[0]]]
        group = self.placement.groups[index]
        here = Place(group.tiles)
        cycles = self.durations.update(node.outputs[0].tensor.size, op.rule, op.clip is not None, len(here.tiles))
        moved, cells = self._traffic(node.inputs[1:], node.outputs[1:]), -1
        if group.turn == STAYS:
            cells = index
            cycles += self.durations.program(min(node.inputs[0].shape[1], self.target.crossbar.rows), group.crossbars)
        else:
            held = weight_bytes(node.outputs[0].tensor.size, self.target.crossbar.weight_bits)
            moved = [*moved, Source(2 * held, None)]
            self.in_cells.discard(index)
        writer = self._unit_at("writer", here)
        self._stream("update", writer, cycles, moved, here, node.inputs, node.outputs, (), cells, group=index)
