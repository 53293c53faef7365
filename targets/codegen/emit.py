"""A module of scheduled entries -> program: a walk, with no decisions left.

Every value gets its buffer, every operation its instruction, every array its tensor.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np

from mgc.functions.codes import in_steps
from mgc.functions.optimizers import OPTIMIZERS
from mgc.ir import mapped, ops
from mgc.ir.graph import Graph, Node, Value
from mgc.ir.module import Entry as SourceEntry
from mgc.ir.op import register_attr
from mgc.ir.types import DType, OpaqueType, TensorType
from mgc.isa.claim import Slope, StoredClaim
from mgc.isa.crossbar import Arithmetic, CrossbarGroup
from mgc.isa.entry import Entry
from mgc.isa.functions import function_code
from mgc.isa.instruction import Instruction
from mgc.isa.instructions import (
    BUFFER,
    CONSTANT,
    REGISTER,
    Host,
    Load,
    Move,
    Mvm,
    MvmT,
    Outer,
    Piece,
    Ref,
    Result,
    Rewrite,
    Step,
    Store,
    Update,
    Vec,
    WriteCells,
)
from mgc.isa.memory import Buffer, BufferKind, Constant, HostSegment, Port
from mgc.isa.program import Program
from mgc.isa.schedule import Schedule, Unit
from mgc.isa.state import StatePiece, StoredState
from mgc.isa.verify_schedule import check_schedule
from mgc.passes.manager import Pass
from mgc.passes.mapping.durations import Durations, drains_of
from mgc.passes.mapping.groups import homes_in
from mgc.passes.mapping.multiplex import STAYS
from mgc.passes.mapping.plan import (
    BufferPlan,
    EntryPlan,
    GroupMap,
    HomePiece,
    Operation,
    PersistentPlan,
    Resident,
    UnitKind,
)
from mgc.passes.mapping.residents import residents_in
from mgc.passes.state import CompileState
from mgc.targets.codegen.diff import diff_instruction
from mgc.targets.codegen.meta import meta_of


@register_attr
@dataclass(frozen=True)
class PortInfo:
    """What the model says of one of its inputs or outputs; see `mgc.isa.memory.Port`."""

    dtype: str
    dims: tuple[str, ...]


@dataclass
class Walk:
    """Tables that grow as the walk meets values. `graph` is the one that is walked, `places` says where values live.

    `cells` gives for each version of weights the arithmetic of its group, `factors` for each accumulator what its sums
    are to be multiplied by, as the arithmetic states it. `parted` are the values that are there part by part, where the
    schedule cuts a batch.
    """

    graph: Graph
    places: Mapping[Value, BufferPlan]
    arithmetic: Arithmetic
    cells: Mapping[Value, Arithmetic] = field(default_factory=dict)
    factors: dict[Value, float] = field(default_factory=dict)
    buffers: list[Buffer] = field(default_factory=list)
    buffer_of: dict[Value, int] = field(default_factory=dict)
    constants: list[Constant] = field(default_factory=list)
    constant_of: dict[tuple[Value, bool], Ref] = field(default_factory=dict)
    tensors: dict[str, np.ndarray] = field(default_factory=dict)
    segments: list[HostSegment] = field(default_factory=list)
    sources: dict[tuple[str, ...], int] = field(default_factory=dict)
    parted: Collection[Value] = ()

    def source(self, *nodes: Node | None) -> int:
        """Index of the nodes' ONNX names in the source table."""
        names = tuple(dict.fromkeys(name for n in nodes if n is not None for name in n.sources))
        return self.sources.setdefault(names, len(self.sources))

    def constant(self, value: Value, *, accumulator_scale: bool = False) -> Ref:
        """The constant operand for a value; `accumulator_scale` folds the ADC's factor in (mode "scale")."""
        key = (value, accumulator_scale)
        if key not in self.constant_of:
            data = self.graph.constants[value].data
            self.constant_of[key] = self._add_constant(
                value.name, np.asarray(data * self.arithmetic.factor) if accumulator_scale else data
            )
        return self.constant_of[key]

    def table(self, name: str, data: np.ndarray) -> Ref:
        """A constant with a table; equal tables are one."""
        data = np.ascontiguousarray(data)
        for constant in self.constants:
            known = self.tensors[constant.tensor]
            same = constant.name == name and known.dtype == data.dtype and known.shape == data.shape
            if same and known.tobytes() == data.tobytes():
                return Ref(CONSTANT, constant.id)
        return self._add_constant(name, data)

    def _add_constant(self, name: str, data: np.ndarray) -> Ref:
        index = len(self.constants)
        self.tensors[f"const.{index}"] = np.asarray(data, order="C")
        self.constants.append(Constant(index, name, f"const.{index}"))
        return Ref(CONSTANT, index)

    def ref(self, value: Value) -> Ref:
        """The operand for a value: its constant or its buffer."""
        if value in self.graph.constants:
            return self.constant(value)
        return Ref(BUFFER, self.buffer_of[value])


@dataclass(frozen=True)
class Emit(Pass):
    """The module gets its `program`: the same one for the same module, with what it costs."""

    name: ClassVar[str] = "emit"
    levels: ClassVar[tuple[int, ...]] = (1, 2)

    def run(self, state: CompileState) -> CompileState:
        program = emit(state)
        return state.with_entries(state.module.entries, program=replace(program, meta=meta_of(state, program)))


@dataclass(frozen=True)
class VerifySchedule(Pass):
    """The program's schedule keeps its own rules, see `mgc.isa.verify_schedule`. ProgramError if not."""

    name: ClassVar[str] = "verify-schedule"
    levels: ClassVar[tuple[int, ...]] = (1, 2)

    def run(self, state: CompileState) -> CompileState:
        check_schedule(state.module.attributes["program"])
        return state


def emit(state: CompileState) -> Program:
    """The program of a module whose entries have plans. Deterministic: the same module gives the same program."""
    return _Emitter(state).run()


class _Emitter:
    """Walks the entries one after the other; tables are common."""

    def __init__(self, state: CompileState) -> None:
        self.state = state
        self.module, self.chip = state.module, state.chip
        attributes = self.module.attributes
        self.residents = residents_in(self.module)
        self.placed: tuple[GroupMap, ...] = attributes["groups"]
        self.persistent: tuple[PersistentPlan, ...] = attributes["persistent"]
        keys = set(Arithmetic.__dataclass_fields__) - {"plane_columns"}
        arithmetic = Arithmetic(**{key: getattr(self.chip.crossbar, key) for key in keys})
        self.walk = Walk(self.module.entries[0].graph, {}, arithmetic)
        self.group_number = {g.resident: k for k, g in enumerate(self.placed)}
        self.held = {g.resident: self._arithmetic(arithmetic, g) for g in self.placed}
        self.home_buffer: dict[str, int] = {}
        self.units: dict[tuple[UnitKind, str], Unit] = {}
        self.inputs: dict[str, Port] = {}
        self.outputs: dict[str, Port] = {}

    def run(self) -> Program:
        walk, entries = self.walk, self.module.entries
        plans: list[EntryPlan] = [entry.attributes["plan"] for entry in entries]
        self._persistent_buffers()
        groups = tuple(map(self._group, self.placed))
        for plan in plans:
            for unit in plan.units:
                self._unit(unit.name, unit.kind, unit.tile)
        instructions: list[Instruction] = []
        for k, placed in enumerate(self.placed):
            if placed.turn == STAYS:
                instructions.append(self._program(k, len(instructions)))
        made: list[Entry] = []
        for entry, plan in zip(entries, plans, strict=True):
            first, own = len(instructions), plan.schedule
            instructions += self._entry(entry, plan, first)
            made.append(
                Entry(
                    len(made),
                    entry.name,
                    entry.kind,
                    first,
                    len(instructions),
                    entry.repeats,
                    entry.micro_batch,
                    entry.micro_batches,
                    entry.batched,
                    Schedule(own.starts, own.status, own.makespan, own.lower_bound, plan.parts, own.interval),
                    entry.since,
                    entry.until,
                )
            )
        states = self._states()
        return Program(
            name=self.module.name,
            target=self.state.target.to_json_dict(),
            instructions=tuple(instructions),
            buffers=tuple(walk.buffers),
            constants=tuple(walk.constants),
            groups=groups,
            units=tuple(self.units.values()),
            inputs=tuple(self.inputs.values()),
            outputs=tuple(self.outputs.values()),
            host_segments=tuple(walk.segments),
            entries=tuple(made),
            clock_ns=self.chip.clock_ns,
            sources=tuple(walk.sources),
            absorbed=absorbed_nodes(walk, [e.graph for e in entries]),
            tensors={**walk.tensors, **self.module.attributes.get("templates", {})},
            meta={},
            states=states,
            claims=tuple(self._claims()),
        )

    # -- tables ----------------------------------------------------------------------------------------------------

    def _unit(self, name: str, kind: UnitKind, tile: int) -> int:
        if (kind, name) not in self.units:
            self.units[kind, name] = Unit(len(self.units), name, kind, tile)
        return self.units[kind, name].id

    def _persistent_buffers(self) -> None:
        for place in self.persistent:
            held = self.residents.by_name[place.resident].initial
            index = len(self.walk.buffers)
            self.walk.buffers.append(
                Buffer(
                    index,
                    place.resident,
                    "real",
                    held.dtype.name,
                    held.shape,
                    place.space,
                    place.offset,
                    persistent=True,
                )
            )
            self.home_buffer[place.resident] = index

    def _arithmetic(self, chip: Arithmetic, placed: GroupMap) -> Arithmetic:
        """The chip's arithmetic as a group has it."""
        bits = self.residents.by_name[placed.resident].input_bits or chip.input_bits
        return replace(chip, plane_columns=placed.plane_columns, input_bits=bits)

    def _group(self, placed: GroupMap) -> CrossbarGroup:
        walk, index = self.walk, self.group_number[placed.resident]
        resident = self.residents.by_name[placed.resident]
        if resident.part is None:
            raise ValueError(f"group {placed.name} is of {resident.name}, which is no weight")
        weights, real = f"group.{index}.weights", f"group.{index}.real"
        walk.tensors[real] = held = np.ascontiguousarray(resident.initial, np.float32)
        walk.tensors[weights] = (
            in_steps(held, resident.weight_scale, walk.arithmetic.weight_bits).astype(np.int16)
            if resident.cells is None
            else resident.cells
        )
        part = resident.part
        return CrossbarGroup(
            id=index,
            name=placed.name,
            matrices=part.matrices,
            rows=part.rows,
            cols=part.cols,
            arithmetic=self.held[placed.resident],
            weights=weights,
            real_weights=real,
            replicas=placed.replicas,
            tiles=placed.tiles,
            crossbars=placed.crossbars,
            sources=resident.sources,
            weight_scale=resident.weight_scale,
            off_chip=placed.turn != STAYS,
        )

    def _states(self) -> tuple[StoredState, ...]:
        held: dict[str, list[Resident]] = {}
        for resident in self.residents.all:
            held.setdefault(resident.state, []).append(resident)
        states: list[StoredState] = []
        for state in self.module.states:
            homes = held.get(state.name, [])
            dtype = homes[0].initial.dtype if homes else state.initial.dtype
            tensor = f"state.{len(states)}"
            self.walk.tensors[tensor] = np.asarray(state.initial.astype(dtype), order="C")
            pieces = tuple(self._piece(r, r.piece) for r in homes if r.piece is not None)
            states.append(StoredState(len(states), state.name, state.kind, state.group, tensor, pieces))
        return tuple(states)

    def _claims(self) -> Iterator[StoredClaim]:
        """What phases claim, with the numbers of states."""
        number = {state.name: k for k, state in enumerate(self.module.states)}
        for k, entry in enumerate(self.module.entries):
            for claim in entry.attributes.get("claims", ()):
                yield StoredClaim(
                    k,
                    claim.phase,
                    tuple(number[s] for s in claim.changes if s in number),
                    tuple((number[s], version) for s, version in claim.reads if s in number),
                    claim.draws,
                    tuple(
                        Slope(number[s], tuple(number[m] for m in made if m in number))
                        for s, made in claim.slopes
                        if s in number
                    ),
                )

    def _piece(self, resident: Resident, piece: HomePiece) -> StatePiece:
        group, buffer = self.group_number.get(resident.name, -1), self.home_buffer.get(resident.name, -1)
        return StatePiece(group, buffer, piece.extents, piece.base, piece.strides, piece.home_base, piece.home_strides)

    def _port(self, entry: SourceEntry, name: str, value: Value) -> Port:
        """The port of an input or output: as the model describes it, else as the value is."""
        info: PortInfo | None = entry.attributes.get("ports", {}).get(name)
        shape = value.type.shape if isinstance(value.type, TensorType) else ()
        if info is None:
            info = PortInfo(value.tensor.dtype.numpy.name, tuple(map(str, shape)))
        batched = entry.batched and name not in entry.attributes.get("whole_ports", ())
        return Port(name, self.walk.buffer_of.get(value, -1), info.dtype, shape, batched, info.dims)

    # -- instructions ----------------------------------------------------------------------------------------------

    def _program(self, index: int, number: int) -> WriteCells:
        """A group's PROGRAM: crossbars of a macro take turns on its drivers."""
        resident, placed = self.residents.by_name[self.placed[index].resident], self.placed[index]
        rows = min(resident.initial.shape[1], self.chip.crossbar.rows)
        cycles = Durations(self.chip).program(rows, placed.crossbars)
        source = self.walk.sources.setdefault(resident.sources, len(self.walk.sources))
        return WriteCells(number, self._unit("writer", "writer", -1), cycles, (), (), source, group=index)

    def _entry(self, entry: SourceEntry, plan: EntryPlan, first: int) -> list[Instruction]:
        walk, graph = self.walk, entry.graph
        walk.graph, walk.places, walk.parted = graph, plan.buffers, plan.parted
        homes = homes_in(graph, self.residents)
        walk.cells = {v: self.held[home] for v, home in homes.items() if home in self.held}
        walk.buffer_of.update({v: self.home_buffer[h] for v, h in homes.items() if h in self.home_buffer})
        lay_out_buffers(walk)
        inputs, outputs = {v.name: v for v in graph.inputs}, dict(graph.outputs)
        for name in plan.data:
            self.inputs.setdefault(name, self._port(entry, name, inputs[name]))
        for name in plan.results:
            self.outputs.setdefault(name, self._port(entry, name, outputs[name]))
        unit_of = [self._unit(u.name, u.kind, u.tile) for u in plan.units]
        ports_in = [list(self.inputs).index(name) for name in plan.data]
        ports_out = [list(self.outputs).index(name) for name in plan.results]
        made: list[Instruction] = []
        for op in plan.operations:
            common = {
                "id": first + len(made),
                "unit": unit_of[op.unit],
                "duration": op.duration,
                "after": tuple(a + first for a in op.after),
                "after_previous": tuple((a + first, lag) for a, lag in op.after_previous),
                "after_all": tuple(a + first for a in op.after_all),
                "streamed": op.streamed,
                "source": walk.source(op.node, op.drain),
            }
            if op.kind == "load":
                value = inputs[plan.data[op.port]]
                made.append(Load(**common, port=ports_in[op.port], dst=walk.buffer_of[value]))
            elif op.kind == "store":
                value = outputs[plan.results[op.port]]
                made.append(Store(**common, src=walk.ref(value), port=ports_out[op.port]))
            elif op.kind == "rewrite":
                made.append(Rewrite(**common, group=op.group))
            elif op.node is not None:
                made.append(self._instruction(common, op, op.node))
        return made

    def _instruction(self, common: dict[str, Any], op: Operation, node: Node) -> Instruction:
        walk, buffer = self.walk, self.walk.buffer_of
        match node.op:
            case mapped.Mvm():
                return _mvm(walk, common, node, node.op, op)
            case mapped.MvmT(parts, source, result):
                return MvmT(
                    **common,
                    **_drain(walk, op),
                    group=op.group,
                    src=buffer[node.inputs[0]],
                    dst=buffer[node.outputs[0]],
                    signed=node.inputs[0].tensor.dtype.numpy.kind == "i",
                    accumulate=op.part > 0,
                    input=result,
                    output=source,
                    windows=parts[op.part].windows,
                    tap_fastest=parts[op.part].tap_fastest,
                )
            case mapped.Outer(parts, source, errors, runs=runs):
                x, dy, *scales = node.inputs
                return Outer(
                    **common,
                    x=buffer[x],
                    dy=buffer[dy],
                    x_scale=buffer[scales[0]] if runs else -1,
                    dy_scale=buffer[scales[1]] if runs else -1,
                    runs=runs,
                    dst=buffer[node.outputs[op.part]],
                    input=source,
                    output=errors,
                    windows=parts[op.part].windows,
                    tap_fastest=parts[op.part].tap_fastest,
                )
            case mapped.UpdateCells() | ops.Update():
                return _update(walk, common, node, node.op, op.group)
            case ops.DiffBlock():
                operands = [walk.ref(v) for v in node.inputs]
                results = [walk.buffer_of.get(v, -1) for v in node.outputs]
                segments = self.chip.diff_block.table_segments
                return diff_instruction(common, node, segments, operands, results, walk.table)
            case mapped.Vec():
                return _vec(walk, common, node, node.op)
            case mapped.Copy():
                pieces = tuple(
                    Piece(
                        walk.ref(node.inputs[p.operand]),
                        p.extents,
                        p.src_base,
                        p.src_strides,
                        p.dst_base,
                        p.dst_strides,
                    )
                    for p in node.op.pieces
                )
                return Move(**common, pieces=pieces, dst=buffer[node.outputs[0]])
            case ops.Host():
                return _host(walk, common, node, node.op)
        raise TypeError(f"operation {common['id']}: no instruction for {node.op.name}")


def absorbed_nodes(walk: Walk, graphs: Sequence[Graph]) -> dict[str, str]:
    """Why each ONNX node without an instruction has none; views have none, their results alias their operands."""
    held = {name for names in walk.sources for name in names}
    absorbed: dict[str, str] = {}
    for graph in graphs:
        absorbed |= graph.absorbed
        for node in graph.nodes:
            if isinstance(node.op, mapped.View):
                seen = f"its result is a view of {node.inputs[0].name}: no data moves"
                absorbed |= {name: seen for name in node.sources if name not in held}
    return dict(sorted(absorbed.items()))


def lay_out_buffers(walk: Walk) -> None:
    """Numbers every value that is not a constant, in the order the graph defines them; views alias their operand.

    Values that have a buffer already keep it; versions of weights in crossbars have none.
    """
    graph = walk.graph
    kinds: dict[Value, BufferKind] = dict.fromkeys(graph.constants, "real")
    view_of: dict[Value, Value] = {}
    order = list(graph.inputs)
    kinds.update((v, "opaque" if isinstance(v.type, OpaqueType) else "real") for v in graph.inputs)
    for node in graph.nodes:
        for k, value in enumerate(node.outputs):
            kinds[value] = _kind(node, k, value, kinds)
            _note_factor(walk, node, value)
            order.append(value)
            if isinstance(node.op, mapped.View):
                view_of[value] = node.inputs[0]
    drains = drains_of(graph)
    unheld = {v for product, (_, views) in drains.items() for v in views}
    unheld |= {product.outputs[0] for product in drains if isinstance(product.op, mapped.Mvm)}
    open_lines = {
        p.outputs[0]: p.op.parts[0].windows.open_lines(p.op.result.shape)
        for p in drains
        if isinstance(p.op, mapped.MvmT)
    }
    for value in order:
        if value in walk.buffer_of or value in walk.cells or value in unheld:
            continue
        home = value
        while home in view_of:
            home = view_of[home]
        index = len(walk.buffers)
        tensor = value.type if isinstance(value.type, TensorType) else TensorType(DType.BOOL, ())
        place = walk.places.get(home)
        walk.buffer_of[value] = index
        walk.buffers.append(
            Buffer(
                id=index,
                name=value.name,
                kind=kinds[value],
                dtype=tensor.dtype.numpy.name,
                shape=open_lines.get(value, tensor.shape),
                space=place.space if place else "edram",
                offset=place.offset if place else 0,
                slots=place.slots if place else 1,
                alias_of=-1 if home is value else walk.buffer_of[home],
                persistent=home is not value and walk.buffers[walk.buffer_of[home]].persistent,
                parts=place.parts if place and (home is value or value in walk.parted) else 1,
            )
        )


def _note_factor(walk: Walk, node: Node, value: Value) -> None:
    """What the sums of an accumulator are to be multiplied by."""
    match node.op:
        case mapped.Mvm():
            walk.factors[value] = walk.arithmetic.factor
        case mapped.MvmT():
            walk.factors[value] = walk.cells[node.inputs[1]].transposed_factor
        case mapped.View() | mapped.Copy() if node.inputs[0] in walk.factors:
            walk.factors[value] = walk.factors[node.inputs[0]]


def _kind(node: Node, k: int, value: Value, kinds: Mapping[Value, BufferKind]) -> BufferKind:
    """Whether a result holds reals, codes or accumulator sums."""
    if isinstance(value.type, OpaqueType):
        return "opaque"
    match node.op:
        case mapped.Mvm() | mapped.MvmT():
            return "acc"
        case mapped.Outer(runs=runs):
            return "real" if runs else "acc"
        case mapped.Copy() | mapped.View():
            return kinds[node.inputs[0]]
        case mapped.Vec():
            values: list[BufferKind] = [kinds[v] for v in node.inputs]
            for step in node.op.steps:
                is_code = isinstance(step.op, mapped.Quant | mapped.QuantBy)
                is_code |= isinstance(step.op, ops.Pool) and values[step.args[0]] == "code"
                values.append("code" if is_code else "real")
            return values[node.op.results[k]]
    return "real"


def _mvm(walk: Walk, common: dict[str, Any], node: Node, op: mapped.Mvm, operation: Operation) -> Mvm:
    source = node.inputs[0]
    return Mvm(
        **common,
        **_drain(walk, operation),
        group=operation.group,
        src=walk.buffer_of[source],
        dst=walk.buffer_of.get(node.outputs[0], -1),
        signed=source.tensor.dtype in (DType.I8, DType.I16),
        input=op.source,
        output=op.result,
        windows=op.parts[operation.part].windows,
        tap_fastest=op.parts[operation.part].tap_fastest,
        outside=op.outside,
    )


def _drain(walk: Walk, operation: Operation) -> dict[str, Any]:
    """The fields of a read that say what drains its sums."""
    node = operation.drain
    if node is None or not isinstance(node.op, mapped.Vec):
        return {}
    steps, stores = _kernel(walk, node, node.op)
    return {"steps": steps, "stores": stores}


def _update(walk: Walk, common: dict[str, Any], node: Node, op: mapped.UpdateCells | ops.Update, group: int) -> Update:
    buffer, count = walk.buffer_of, len(op.rule.moments)
    limit = math.inf if op.clip is None else op.clip
    return Update(
        **common,
        optimizer=OPTIMIZERS[op.rule.optimizer].code,
        hyper=op.rule.hyper,
        group=group,
        parameter=-1 if group >= 0 else buffer[node.inputs[0]],
        gradient=buffer[node.inputs[1]],
        moments=tuple(buffer[v] for v in node.inputs[2 : 2 + count]),
        step=buffer[node.inputs[2 + count]] if op.rule.counts else -1,
        lo=-limit,
        hi=limit,
    )


def _vec(walk: Walk, common: dict[str, Any], node: Node, op: mapped.Vec) -> Vec:
    steps, stores = _kernel(walk, node, op)
    return Vec(**common, steps=steps, stores=stores)


def _kernel(walk: Walk, node: Node, op: mapped.Vec) -> tuple[tuple[Step, ...], tuple[Result, ...]]:
    """Steps and stores of a kernel; where it drains, register 0 holds the sums, its first operand."""
    operands = len(node.inputs)

    def ref(k: int, *, accumulator_scale: bool = False) -> Ref:
        if k >= operands:
            return Ref(REGISTER, k - operands + op.drains)
        if op.drains and k == 0:
            return Ref(REGISTER, 0)
        value = node.inputs[k]
        if accumulator_scale and value in walk.graph.constants:
            return walk.constant(value, accumulator_scale=True)
        return walk.ref(value)

    steps: list[Step] = []
    for step in op.steps:
        function, attributes = step.op.vec()
        dequant = isinstance(step.op, mapped.Dequant)
        if isinstance(step.op, mapped.DequantBy) and step.args[0] < operands:
            attributes = (attributes[0] * walk.factors.get(node.inputs[step.args[0]], 1.0),)
        args = tuple(ref(a, accumulator_scale=dequant and position == 1) for position, a in enumerate(step.args))
        steps.append(Step(function_code(function), args, attributes))
    stores = tuple(Result(ref(r), walk.buffer_of[v]) for r, v in zip(op.results, node.outputs, strict=True))
    return tuple(steps), stores


def _host(walk: Walk, common: dict[str, Any], node: Node, op: ops.Host) -> Host:
    index = len(walk.segments)
    tensor = f"host.{index}"
    walk.tensors[tensor] = np.frombuffer(op.model, np.uint8)
    walk.segments.append(HostSegment(index, tensor, op.reason, op.op_types))
    args = tuple(walk.ref(v) for v in node.inputs)
    return Host(**common, segment=index, args=args, results=tuple(walk.buffer_of[v] for v in node.outputs))
