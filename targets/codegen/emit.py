"""Plan -> program: every value gets its buffer, every operation its instruction, every array its tensor."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mgc.ir import mapped, mapped_training, ops
from mgc.ir.graph import Graph, Node, Value
from mgc.ir.types import DType, OpaqueType, TensorType
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
    Piece,
    Ref,
    Step,
    Store,
    Vec,
    VecStore,
)
from mgc.isa.instructions import (
    Program as WriteCells,
)
from mgc.isa.memory import Buffer, BufferKind, Constant, HostSegment, Port
from mgc.isa.program import Program
from mgc.isa.schedule import Schedule, Unit
from mgc.passes.plan import BufferPlan, Operation, Plan
from mgc.targets.description import Target


@dataclass(frozen=True)
class PortInfo:
    """What the model says of one of its inputs or outputs; see `mgc.isa.memory.Port`."""

    name: str
    dtype: str
    batched: bool
    dims: tuple[str, ...]


@dataclass
class Walk:
    """Tables that grow as the walk meets values. `graph` is the one that is walked, `places` says where values live.

    `factors` gives for each accumulator what its sums are to be multiplied by, as the arithmetic states it. `parted`
    are the values that are there part by part, where the schedule cuts a batch.
    """

    graph: Graph
    places: Mapping[Value, BufferPlan]
    arithmetic: Arithmetic
    factors: dict[Value, float] = field(default_factory=dict)
    buffers: list[Buffer] = field(default_factory=list)
    buffer_of: dict[Value, int] = field(default_factory=dict)
    constants: list[Constant] = field(default_factory=list)
    constant_of: dict[tuple[Value, bool], int] = field(default_factory=dict)
    tensors: dict[str, np.ndarray] = field(default_factory=dict)
    segments: list[HostSegment] = field(default_factory=list)
    sources: dict[tuple[str, ...], int] = field(default_factory=dict)
    parted: Collection[Value] = ()

    def source(self, node: Node | None) -> int:
        """Index of the node's ONNX names in the source table."""
        return self.sources.setdefault(node.sources if node else (), len(self.sources))

    def constant(self, value: Value, *, accumulator_scale: bool = False) -> Ref:
        """The constant operand for a value; `accumulator_scale` folds the ADC's factor in (mode "scale")."""
        key = (value, accumulator_scale)
        if key not in self.constant_of:
            index = len(self.constants)
            data = self.graph.constants[value].data
            if accumulator_scale:
                data = np.asarray(data * self.arithmetic.factor)
            tensor = f"const.{index}"
            self.tensors[tensor] = np.asarray(data, order="C")
            self.constants.append(Constant(index, value.name, tensor))
            self.constant_of[key] = index
        return Ref(CONSTANT, self.constant_of[key])

    def ref(self, value: Value) -> Ref:
        """The operand for a value: its constant or its buffer."""
        if value in self.graph.constants:
            return self.constant(value)
        return Ref(BUFFER, self.buffer_of[value])


def emit(
    plan: Plan,
    target: Target,
    *,
    name: str,
    inputs: tuple[PortInfo, ...],
    outputs: tuple[PortInfo, ...],
    meta: Mapping[str, Any],
) -> Program:
    """The program of a scheduled plan. Deterministic: the same plan gives the same program."""
    if plan.schedule is None:
        raise ValueError("the plan has no schedule: run the schedule pass before codegen")
    crossbar = target.crossbar
    arithmetic = Arithmetic(**{key: getattr(crossbar, key) for key in Arithmetic.__dataclass_fields__})
    walk = Walk(plan.graph, plan.buffers, arithmetic)
    lay_out_buffers(walk)
    groups = _groups(walk, plan)
    instructions = tuple(instruction_of(walk, i, op) for i, op in enumerate(plan.operations))
    graph = plan.graph
    setup = sum(isinstance(i, WriteCells) for i in instructions)
    planned = plan.schedule
    schedule = Schedule(planned.starts[setup:], planned.status, planned.makespan, planned.lower_bound)
    return Program(
        name=name,
        target=target.to_json_dict(),
        instructions=instructions,
        buffers=tuple(walk.buffers),
        constants=tuple(walk.constants),
        groups=groups,
        units=tuple(Unit(k, u.name, u.kind, u.tile) for k, u in enumerate(plan.units)),
        inputs=tuple(port_of(p, walk.buffer_of[v], v) for p, v in zip(inputs, graph.inputs, strict=True)),
        outputs=tuple(
            port_of(p, walk.buffer_of.get(v, -1), v) for p, (_, v) in zip(outputs, graph.outputs, strict=True)
        ),
        host_segments=tuple(walk.segments),
        entries=(
            Entry(
                id=0,
                name="testing",
                kind="test",
                first=setup,
                stop=len(instructions),
                repeats=1,
                micro_batch=plan.micro_batch,
                micro_batches=plan.micro_batches,
                batched=plan.batched,
                schedule=schedule,
            ),
        ),
        clock_ns=target.clock_ns,
        sources=tuple(walk.sources),
        absorbed=absorbed_nodes(walk, [plan.graph]),
        tensors=walk.tensors,
        meta=meta,
    )


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


def port_of(info: PortInfo, buffer: int, value: Value) -> Port:
    """The port of a value that the model describes."""
    shape = value.type.shape if isinstance(value.type, TensorType) else ()
    return Port(info.name, buffer, info.dtype, shape, info.batched, info.dims)


def lay_out_buffers(walk: Walk, elsewhere: Collection[Value] = ()) -> None:
    """Numbers every value that is not a constant, in the order the graph defines them; views alias their operand.

    Values that have a buffer already keep it; those in `elsewhere` have none.
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
    for value in order:
        if value in walk.buffer_of or value in elsewhere:
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
                shape=tensor.shape,
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
        case mapped_training.MvmT():
            walk.factors[value] = walk.arithmetic.transposed_factor
        case mapped.View() | mapped.Copy() if node.inputs[0] in walk.factors:
            walk.factors[value] = walk.factors[node.inputs[0]]


def _kind(node: Node, k: int, value: Value, kinds: Mapping[Value, BufferKind]) -> BufferKind:
    """Whether a result holds reals, codes or accumulator sums."""
    if isinstance(value.type, OpaqueType):
        return "opaque"
    match node.op:
        case mapped.Mvm() | mapped_training.MvmT():
            return "acc"
        case mapped_training.Outer(runs=runs):
            return "real" if runs else "acc"
        case mapped.Copy() | mapped.View():
            return kinds[node.inputs[0]]
        case mapped.Vec():
            values: list[BufferKind] = [kinds[v] for v in node.inputs]
            for step in node.op.steps:
                is_code = isinstance(step.op, mapped.Quant | mapped_training.QuantBy)
                values.append("code" if is_code else "real")
            return values[node.op.results[k]]
    return "real"


def _groups(walk: Walk, plan: Plan) -> tuple[CrossbarGroup, ...]:
    groups: list[CrossbarGroup] = []
    for index, group in enumerate(plan.groups):
        op = group.node.op
        if not isinstance(op, mapped.Mvm):
            raise TypeError(f"group {group.name} is of a {op.name}, not of an mvm")
        part = op.parts[group.part]
        data = walk.graph.constants
        weights, real = (f"group.{index}.weights", f"group.{index}.real")
        walk.tensors[weights] = np.ascontiguousarray(data[group.node.inputs[1 + group.part]].data)
        walk.tensors[real] = np.ascontiguousarray(data[group.node.inputs[1 + len(op.parts) + group.part]].data)
        groups.append(
            CrossbarGroup(
                id=index,
                name=group.name,
                matrices=part.matrices,
                rows=part.rows,
                cols=part.cols,
                arithmetic=walk.arithmetic,
                weights=weights,
                real_weights=real,
                replicas=group.replicas,
                tiles=group.tiles,
                crossbars=group.crossbars,
                sources=group.node.sources,
            )
        )
    return tuple(groups)


def instruction_of(walk: Walk, index: int, op: Operation) -> Instruction:
    """The instruction of an operation of inference."""
    common: dict[str, Any] = {
        "id": index,
        "unit": op.unit,
        "duration": op.duration,
        "after": op.after,
        "after_previous": op.after_previous,
        "after_all": op.after_all,
        "streamed": op.streamed,
        "source": walk.source(op.node),
    }
    graph = walk.graph
    match op.kind:
        case "load":
            return Load(**common, port=op.port, dst=walk.buffer_of[graph.inputs[op.port]])
        case "store":
            return Store(**common, src=walk.ref(graph.outputs[op.port][1]), port=op.port)
        case "program":
            return WriteCells(**common, group=op.group)
    node = op.node
    if node is None:
        raise ValueError(f"operation {index} ({op.kind}) has no node")
    match node.op:
        case mapped.Mvm():
            return _mvm(walk, common, node, node.op, op)
        case mapped.Vec():
            return _vec(walk, common, node, node.op)
        case mapped.Copy():
            pieces = tuple(
                Piece(walk.ref(node.inputs[p.operand]), p.extents, p.src_base, p.src_strides, p.dst_base, p.dst_strides)
                for p in node.op.pieces
            )
            return Move(**common, pieces=pieces, dst=walk.buffer_of[node.outputs[0]])
        case ops.Host():
            return _host(walk, common, node, node.op)
    raise TypeError(f"operation {index}: no instruction for {node.op.name}")


def _mvm(walk: Walk, common: dict[str, Any], node: Node, op: mapped.Mvm, operation: Operation) -> Mvm:
    part = op.parts[operation.part]
    w = part.windows
    source = node.inputs[0]
    return Mvm(
        **common,
        group=operation.group,
        src=walk.buffer_of[source],
        dst=walk.buffer_of[node.outputs[0]],
        signed=source.tensor.dtype in (DType.I8, DType.I16),
        tap_fastest=part.row_order == mapped.CHANNEL_MAJOR,
        src_shape=op.source.shape,
        src_strides=op.source.strides,
        dst_shape=op.result.shape,
        dst_strides=op.result.strides,
        count=w.count,
        taps=w.taps,
        in_base=w.in_base,
        in_stride=w.in_stride,
        in_dilation=w.in_dilation,
        out_base=w.out_base,
        out_stride=w.out_stride,
        outside=op.outside,
    )


def _vec(walk: Walk, common: dict[str, Any], node: Node, op: mapped.Vec) -> Vec:
    operands = len(node.inputs)

    def ref(k: int, *, accumulator_scale: bool = False) -> Ref:
        if k >= operands:
            return Ref(REGISTER, k - operands)
        value = node.inputs[k]
        if accumulator_scale and value in walk.graph.constants:
            return walk.constant(value, accumulator_scale=True)
        return walk.ref(value)

    steps: list[Step] = []
    for step in op.steps:
        function, attributes = step.op.vec()
        dequant = isinstance(step.op, mapped.Dequant)
        if isinstance(step.op, mapped_training.DequantBy) and step.args[0] < operands:
            attributes = (attributes[0] * walk.factors.get(node.inputs[step.args[0]], 1.0),)
        args = tuple(ref(a, accumulator_scale=dequant and position == 1) for position, a in enumerate(step.args))
        steps.append(Step(function_code(function), args, attributes))
    stores = tuple(VecStore(ref(r), walk.buffer_of[v]) for r, v in zip(op.results, node.outputs, strict=True))
    return Vec(**common, steps=tuple(steps), stores=stores)


def _host(walk: Walk, common: dict[str, Any], node: Node, op: ops.Host) -> Host:
    index = len(walk.segments)
    tensor = f"host.{index}"
    walk.tensors[tensor] = np.frombuffer(op.model, np.uint8)
    walk.segments.append(HostSegment(index, tensor, op.reason, op.op_types))
    args = tuple(walk.ref(v) for v in node.inputs)
    return Host(**common, segment=index, args=args, results=tuple(walk.buffer_of[v] for v in node.outputs))
