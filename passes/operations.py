"""operations: the instructions to be, each with its unit, its duration and what it waits for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod

from mgc.ir import ops
from mgc.ir.graph import Graph, Node, Value
from mgc.ir.mapped import Copy, Mvm, Send, Vec, View
from mgc.ir.types import TensorType
from mgc.passes.durations import Durations, Place, Source, bytes_read, nbytes, signed_input, windows_of
from mgc.passes.partition import Geometry
from mgc.passes.place import Placement
from mgc.passes.plan import Operation, OperationKind, UnitKind, UnitPlan
from mgc.targets.description import Target


@dataclass(frozen=True)
class Work:
    """All operations in topological order, PROGRAMs first, and the units that run them.

    `setup` counts the PROGRAMs, which are no tasks. `writers` and `readers` give for each stored value the operations
    that write and read it; `sizes` its bytes for one micro-batch; `holey` are those with parts that nothing writes.
    `versions` are the uses of what lives from run to run, in order: its name, the operation, whether it writes it.
    """

    operations: tuple[Operation, ...]
    units: tuple[UnitPlan, ...]
    setup: int
    writers: dict[Value, tuple[int, ...]]
    readers: dict[Value, tuple[int, ...]]
    sizes: dict[Value, int]
    holey: frozenset[Value]
    versions: tuple[tuple[str, int, bool], ...] = ()


def operations_of(
    graph: Graph,
    target: Target,
    placement: Placement,
    offchip: frozenset[Value] = frozenset(),
    *,
    pipelined: bool = False,
) -> Work:
    """The operations of a mapped graph. Values in `offchip` are kept in off-chip memory: their traffic goes there.

    Operations of one node share the off-chip channel. Where micro-batches are `pipelined` and the channel would be
    the busiest unit of all, the operation that moves most over it is made longer, so that no steady state asks more of
    the channel than it has. What two nodes of one micro-batch move at the same moment is not held against each other.
    """
    builder = Builder(graph, target, placement, offchip)
    work = builder.build()
    return _throttled(work, builder.channel) if pipelined and builder.channel else work


def _throttled(work: Work, channel: dict[int, int]) -> Work:
    """The work with one operation so long that its unit is as busy as the off-chip channel; `channel` has each one's
    cycles on it.
    """
    load: dict[int, int] = {}
    for op in work.operations[work.setup :]:
        load[op.unit] = load.get(op.unit, 0) + op.duration
    index = max(channel, key=lambda i: (channel[i], -i))
    short = sum(channel.values()) - max(load.values())
    if short <= 0:
        return work
    operations = list(work.operations)
    op = operations[index]
    operations[index] = replace(op, duration=op.duration + sum(channel.values()) - load[op.unit])
    return replace(work, operations=tuple(operations))


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
    """Makes the operations of one graph, node by node. `homes` are the versions of what lives from run to run."""

    graph: Graph
    target: Target
    placement: Placement
    offchip: frozenset[Value]
    operations: list[Operation] = field(default_factory=list)
    units: dict[tuple[str, object], int] = field(default_factory=dict)
    unit_plans: list[UnitPlan] = field(default_factory=list)
    writers: dict[Value, list[int]] = field(default_factory=dict)
    readers: dict[Value, list[int]] = field(default_factory=dict)
    place: dict[Value, Place] = field(default_factory=dict)
    ancestors: list[int] = field(default_factory=list)
    channel: dict[int, int] = field(default_factory=dict)
    homes: Mapping[Value, str] = field(default_factory=dict)
    last_write: dict[str, int] = field(default_factory=dict)
    reads_since: dict[str, list[int]] = field(default_factory=dict)

    def build(self) -> Work:
        """All operations of the graph."""
        graph = self.graph
        self.durations = Durations(self.target)
        self.root = stored(graph)
        self._find_places()
        groups = self.placement.groups
        self.group_index = {(g.node, g.part): k for k, g in enumerate(groups)}
        for k, group in enumerate(groups):
            self._unit("crossbar", k, UnitPlan(group.name, "crossbar", group.tiles[0], group.tiles))
        self._setup()
        setup = len(self.operations)
        for port, value in self._loaded():
            unit = self._unit("link", "in", UnitPlan("link in", "link"))
            self._add("load", unit, self.durations.link(value), (), (value,), port=port)
        for node in graph.nodes:
            self._node(node)
        for port, value in self._stored():
            unit = self._unit("link", "out", UnitPlan("link out", "link"))
            self._add("store", unit, self.durations.link(value), (value,), (), port=port)
        sizes = {v: nbytes(v) for v in self.writers}
        return Work(
            tuple(self.operations),
            tuple(self.unit_plans),
            setup,
            {v: tuple(w) for v, w in self.writers.items()},
            {v: tuple(self.readers.get(v, ())) for v in self.writers},
            sizes,
            frozenset(n.outputs[0] for n in graph.nodes if isinstance(n.op, Mvm) and not covers(n.op)),
        )

    # -- what training does otherwise ------------------------------------------------------------------------------

    def _setup(self) -> None:
        """What is done once, before the first run."""
        for k in range(len(self.placement.groups)):
            self._program(k)

    def _loaded(self) -> Iterable[tuple[int, Value]]:
        """Ports and the inputs that they bring."""
        return enumerate(self.graph.inputs)

    def _stored(self) -> Iterable[tuple[int, Value]]:
        """Ports and the outputs that they hand out."""
        return ((port, value) for port, (_, value) in enumerate(self.graph.outputs))

    def _group_of(self, node: Node, part: int) -> int:
        """The crossbar group that a part of a product reads."""
        return self.group_index[node, part]

    # -- tables ----------------------------------------------------------------------------------------------------

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

    def _source(self, value: Value, size: int | None = None) -> Source:
        """The traffic of a stored value, all of it unless `size` says how much."""
        root = self.root[value]
        where = None if root in self.offchip else self.place[root]
        return Source(nbytes(value) if size is None else size, where)

    def _streamed(self, work: int, moved: list[Source], here: Place) -> int:
        """`Durations.streamed` of the next operation; takes down what it moves off-chip."""
        size = sum(s.size for s in moved if s.place is None)
        if size:
            self.channel[len(self.operations)] = self.durations.cost.dram_cycles(size)
        return self.durations.streamed(work, moved, here)

    def _traffic(self, read: Iterable[Value], written: Iterable[Value]) -> list[Source]:
        """Constants cost nothing: tables and scales sit in the unit."""
        values = [v for v in dict.fromkeys(read) if v not in self.graph.constants]
        return [self._source(v) for v in (*values, *written)]

    # -- operations ------------------------------------------------------------------------------------------------

    def _add(
        self,
        kind: OperationKind,
        unit: int,
        duration: int,
        read: Sequence[Value],
        written: Sequence[Value],
        also: Sequence[int] = (),
        **fields: object,
    ) -> int:
        """Adds an operation after the writers of all that it reads, after who reads what it overwrites, and after
        `also`; gives its number.
        """
        index = len(self.operations)
        wait: dict[int, None] = dict.fromkeys(also)
        for value in read:
            root = self.root[value]
            if root in self.homes:
                self._read_version(self.homes[root], index, wait)
            elif root not in self.graph.constants:
                wait.update(dict.fromkeys(self.writers[root]))
                readers = self.readers.setdefault(root, [])
                if not readers or readers[-1] != index:
                    readers.append(index)
        for value in written:
            if value in self.homes:
                self._write_version(self.homes[value], index, wait)
            else:
                self.writers.setdefault(value, []).append(index)
        after, mask = self._needed(wait)
        self.ancestors.append(mask)
        self.operations.append(replace(Operation(kind, unit, duration, after), **fields))
        return index

    def _read_version(self, home: str, index: int, wait: dict[int, None]) -> None:
        """Takes down that an operation reads what lives from run to run, after who wrote it last in this run."""
        if home in self.last_write:
            wait[self.last_write[home]] = None
        readers = self.reads_since.setdefault(home, [])
        if not readers or readers[-1] != index:
            readers.append(index)

    def _write_version(self, home: str, index: int, wait: dict[int, None]) -> None:
        """Takes down that an operation overwrites it, after who read it since it was written last."""
        if home in self.last_write:
            wait[self.last_write[home]] = None
        wait.update(dict.fromkeys(i for i in self.reads_since.get(home, []) if i != index))
        self.last_write[home] = index
        self.reads_since[home] = []

    def _needed(self, wait: Iterable[int]) -> tuple[tuple[int, ...], int]:
        """Those of some operations that do not come before another of them anyway; and all that comes before (bits)."""
        needed: list[int] = []
        before = 0
        for i in sorted(wait, reverse=True):
            if not before >> i & 1:
                needed.append(i)
                before |= self.ancestors[i] | 1 << i
        return tuple(sorted(needed)), before

    def _program(self, index: int) -> None:
        group = self.placement.groups[index]
        assert isinstance(group.node.op, Mvm)
        geometry = Geometry.of(group.node.op.parts[group.part], self.target.crossbar)
        rows = min(geometry.matrix_rows, geometry.rows)
        unit = self._unit("writer", 0, UnitPlan("writer", "writer"))
        duration = self.durations.program(rows, len(group.crossbars))
        self._add("program", unit, duration, (), (), node=group.node, part=group.part, group=index)

    def _node(self, node: Node) -> None:
        here = self.placement.place_of(node)
        match node.op:
            case View():
                return
            case Mvm():
                self._mvm(node, node.op)
            case Vec():
                cycles = self.durations.vec(self.graph, node, node.op, len(here.tiles))
                duration = self._streamed(cycles, self._traffic(node.inputs, node.outputs), here)
                self._add("vec", self._unit_at("vector", here), duration, node.inputs, node.outputs, node=node)
            case Send():
                self._send(node, node.op)
            case Copy():
                read = zip(node.inputs, bytes_read(node.op, len(node.inputs)), strict=True)
                moved = [self._source(v, min(size, nbytes(v))) for v, size in read if v not in self.graph.constants]
                moved.append(self._source(node.outputs[0]))
                duration = self._streamed(0, moved, here)
                self._add("move", self._unit_at("dma", here), duration, node.inputs, node.outputs, node=node)
            case ops.Host():
                unit = self._unit("host", 0, UnitPlan("host", "host"))
                self._add("host", unit, self.durations.host(node), node.inputs, node.outputs, node=node)
            case _:
                raise TypeError(f"{node.op.name} is no operation: lower it first")

    def _send(self, node: Node, op: Send) -> None:
        """A value to the neighbouring chip; each direction of a link is a unit."""
        here = self.placement.place_of(node)
        moved = [self._source(node.inputs[0]), self._source(node.outputs[0])]
        # whatever memory the value comes from, it leaves by the port of the sender
        gate = Place((op.sender * self.target.structure.tiles_per_chip,))
        link = self.durations.crossing(nbytes(node.outputs[0]), gate, here)
        name = f"chip {op.sender} to chip {op.chip}"
        unit = self._unit("link", (op.sender, op.chip), UnitPlan(name, "link", here.tiles[0], here.tiles))
        self._add("move", unit, self._streamed(link, moved, here), node.inputs, node.outputs, node=node)

    def _mvm(self, node: Node, op: Mvm) -> None:
        """The reads of a product's groups; what versions of cells they read is among the node's operands."""
        x, result = node.inputs[0], node.outputs[0]
        assert isinstance(result.type, TensorType)
        item = result.type.dtype.numpy.itemsize
        whole = [s for s in self._traffic((x,), (result,)) if s.place is None]
        for k, part in enumerate(op.parts):
            index = self._group_of(node, k)
            group = self.placement.groups[index]
            blocks = Geometry.of(part, self.target.crossbar).row_blocks
            windows = self.durations.windows(op, part)
            work = self.durations.mvm(windows, group.replicas, blocks, signed=signed_input(node))
            here = Place(group.tiles)
            # a part's sums are collected in its own tiles; off-chip, all parts share the channel
            moved = [s for s in self._traffic((x,), ()) if s.place is not None]
            if result not in self.offchip:
                moved.append(Source(windows * part.matrices * part.cols * item, here))
            stream = self._streamed if k == 0 else self.durations.streamed
            duration = stream(work, [*moved, *whole], here)
            unit = self.units["crossbar", index]
            read = (x, node.inputs[1 + k]) if node.inputs[1 + k] in self.homes else (x,)
            self._add("mvm", unit, duration, read, (result,), node=node, part=k, group=index)
