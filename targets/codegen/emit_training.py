"""A training plan -> program: groups and persistent buffers as homes of states, entry after entry of instructions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from mgc.ir import mapped_training, ops
from mgc.ir.graph import Node
from mgc.isa.crossbar import Arithmetic, CrossbarGroup
from mgc.isa.entry import Entry
from mgc.isa.instruction import Instruction
from mgc.isa.instructions import Load, MvmT, Outer, Store, Update
from mgc.isa.instructions import Program as WriteCells
from mgc.isa.memory import Buffer, Port
from mgc.isa.optimizers import OPTIMIZER_CODES, in_steps
from mgc.isa.program import Program
from mgc.isa.schedule import Schedule, Unit
from mgc.isa.state import State, StatePiece
from mgc.passes.lower_training.residents import HomePiece, Resident
from mgc.passes.plan import Operation
from mgc.passes.training_plan import EntryPlan, TrainingPlan
from mgc.targets.codegen.diff import diff_instruction
from mgc.targets.codegen.emit import PortInfo, Walk, absorbed_nodes, instruction_of, lay_out_buffers, port_of
from mgc.targets.codegen.windows import window_fields
from mgc.targets.description import Target


def emit_training(plan: TrainingPlan, target: Target, *, name: str, meta: Mapping[str, Any]) -> Program:
    """The program of a training plan; `target` is the chip as described, `plan` has the weights of training.

    Deterministic: the same plan gives the same program.
    """
    return _Emitter(plan, target).run(name, meta)


class _Emitter:
    """Walks the entries one after the other; tables are common."""

    def __init__(self, plan: TrainingPlan, target: Target) -> None:
        self.plan = plan
        self.target = target
        keys = Arithmetic.__dataclass_fields__
        arithmetic = Arithmetic(**{key: getattr(target.crossbar, key) for key in keys})
        arithmetic = replace(arithmetic, weight_bits=target.training.master_bits)
        self.walk = Walk(plan.entries[0].graph, {}, arithmetic)
        self.group_number = {g.resident: k for k, g in enumerate(plan.groups)}
        self.units: dict[tuple[str, str], Unit] = {}
        self.inputs: dict[str, Port] = {}
        self.outputs: dict[str, Port] = {}

    def run(self, name: str, meta: Mapping[str, Any]) -> Program:
        plan, walk = self.plan, self.walk
        self._persistent_buffers()
        groups = tuple(self._group(k) for k in range(len(plan.groups)))
        instructions: list[Instruction] = []
        for entry in plan.entries:
            for unit in entry.units:
                self._unit(unit.name, unit.kind, unit.tile)
        instructions += self._programs()
        entries: list[Entry] = []
        for entry in plan.entries:
            first, own = len(instructions), entry.schedule
            instructions += self._entry(entry, first)
            entries.append(
                Entry(
                    len(entries),
                    entry.name,
                    entry.kind,
                    first,
                    len(instructions),
                    entry.repeats,
                    entry.micro_batch,
                    1,
                    entry.batched,
                    Schedule(own.starts, own.status, own.makespan, own.lower_bound, entry.parts, own.interval),
                )
            )
        return Program(
            name=name,
            target=self.target.to_json_dict(),
            instructions=tuple(instructions),
            buffers=tuple(walk.buffers),
            constants=tuple(walk.constants),
            groups=groups,
            units=tuple(self.units.values()),
            inputs=tuple(self.inputs.values()),
            outputs=tuple(self.outputs.values()),
            host_segments=tuple(walk.segments),
            entries=tuple(entries),
            clock_ns=self.target.clock_ns,
            sources=tuple(walk.sources),
            absorbed=absorbed_nodes(walk, [e.graph for e in plan.entries]),
            tensors=walk.tensors,
            meta=meta,
            states=self._states(),
        )

    # -- tables ----------------------------------------------------------------------------------------------------

    def _unit(self, name: str, kind: str, tile: int) -> int:
        key = (kind, name)
        if key not in self.units:
            self.units[key] = Unit(len(self.units), name, kind, tile)  # type: ignore[arg-type]
        return self.units[key].id

    def _persistent_buffers(self) -> None:
        residents = self.plan.residents.by_name
        self.home_buffer: dict[str, int] = {}
        for place in self.plan.persistent:
            held = residents[place.resident].initial
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

    def _group(self, index: int) -> CrossbarGroup:
        planned, walk = self.plan.groups[index], self.walk
        resident = self.plan.residents.by_name[planned.resident]
        weights, real = f"group.{index}.weights", f"group.{index}.real"
        held = np.ascontiguousarray(resident.initial, np.float32)
        walk.tensors[real] = held
        walk.tensors[weights] = in_steps(held, resident.weight_scale, walk.arithmetic.weight_bits).astype(np.int16)
        part = planned.part
        return CrossbarGroup(
            id=index,
            name=part.name,
            matrices=part.matrices,
            rows=part.rows,
            cols=part.cols,
            arithmetic=walk.arithmetic,
            weights=weights,
            real_weights=real,
            replicas=planned.replicas,
            tiles=planned.tiles,
            crossbars=planned.crossbars,
            sources=planned.sources,
            weight_scale=resident.weight_scale,
        )

    def _states(self) -> tuple[State, ...]:
        residents = self.plan.residents
        held: dict[str, list[Resident]] = {}
        for resident in residents.all:
            held.setdefault(resident.state, []).append(resident)
        states: list[State] = []
        for state in residents.states:
            homes = held.get(state.name, [])
            dtype = homes[0].initial.dtype if homes else state.initial.dtype
            tensor = f"state.{len(states)}"
            self.walk.tensors[tensor] = np.asarray(state.initial.astype(dtype), order="C")
            pieces = tuple(self._piece(r, r.piece) for r in homes if r.piece is not None)
            states.append(State(len(states), state.name, state.kind, state.group, tensor, pieces))
        return tuple(states)

    def _piece(self, resident: Resident, piece: HomePiece) -> StatePiece:
        group, buffer = self.group_number.get(resident.name, -1), self.home_buffer.get(resident.name, -1)
        return StatePiece(group, buffer, piece.extents, piece.base, piece.strides, piece.home_base, piece.home_strides)

    # -- instructions ----------------------------------------------------------------------------------------------

    def _programs(self) -> list[Instruction]:
        unit = self._unit("writer", "writer", -1)
        return [
            WriteCells(k, unit, group.program_cycles, (), (), self._sources(group.sources), group=k)
            for k, group in enumerate(self.plan.groups)
        ]

    def _sources(self, names: tuple[str, ...]) -> int:
        return self.walk.sources.setdefault(names, len(self.walk.sources))

    def _entry(self, entry: EntryPlan, first: int) -> list[Instruction]:
        walk = self.walk
        walk.graph, walk.places, walk.parted = entry.graph, entry.buffers, entry.parted
        cells = {v for v, home in entry.homes.items() if home in self.group_number}
        walk.buffer_of.update({v: self.home_buffer[h] for v, h in entry.homes.items() if h in self.home_buffer})
        lay_out_buffers(walk, cells)
        inputs = {v.name: v for v in entry.graph.inputs}
        outputs = dict(entry.graph.outputs)
        for name in entry.data:
            value = inputs[name]
            info = PortInfo(name, value.tensor.dtype.numpy.name, entry.batched, tuple(map(str, value.shape)))
            self.inputs.setdefault(name, port_of(info, walk.buffer_of[value], value))
        for name in entry.results:
            value = outputs[name]
            info = PortInfo(name, value.tensor.dtype.numpy.name, entry.batched, tuple(map(str, value.shape)))
            self.outputs.setdefault(name, port_of(info, walk.buffer_of.get(value, -1), value))
        unit_of = [self._unit(u.name, u.kind, u.tile) for u in entry.units]
        ports_in = [list(self.inputs).index(name) for name in entry.data]
        ports_out = [list(self.outputs).index(name) for name in entry.results]
        begun: set[Node] = set()
        made: list[Instruction] = []
        for k, operation in enumerate(entry.operations):
            moved = replace(
                operation,
                unit=unit_of[operation.unit],
                after=tuple(a + first for a in operation.after),
                after_all=tuple(a + first for a in operation.after_all),
                after_previous=tuple((a + first, lag) for a, lag in operation.after_previous),
            )
            common = self._common(first + k, moved)
            if operation.kind == "load":
                value = inputs[entry.data[operation.port]]
                made.append(Load(**common, port=ports_in[operation.port], dst=walk.buffer_of[value]))
            elif operation.kind == "store":
                value = outputs[entry.results[operation.port]]
                made.append(Store(**common, src=walk.ref(value), port=ports_out[operation.port]))
            else:
                made.append(self._instruction(first + k, moved, begun))
        return made

    def _common(self, index: int, op: Operation) -> dict[str, Any]:
        """The fields that every instruction has."""
        return {
            "id": index,
            "unit": op.unit,
            "duration": op.duration,
            "after": op.after,
            "after_previous": op.after_previous,
            "after_all": op.after_all,
            "streamed": op.streamed,
            "source": self.walk.source(op.node),
        }

    def _instruction(self, index: int, op: Operation, begun: set[Node]) -> Instruction:
        node = op.node
        if node is None:
            raise ValueError(f"operation {index} ({op.kind}) has no node")
        common = self._common(index, op)
        buffer = self.walk.buffer_of
        match node.op:
            case mapped_training.MvmT(parts, source, result):
                accumulate = node in begun
                begun.add(node)
                return MvmT(
                    **common,
                    group=op.group,
                    src=buffer[node.inputs[0]],
                    dst=buffer[node.outputs[0]],
                    signed=node.inputs[0].tensor.dtype.numpy.kind == "i",
                    accumulate=accumulate,
                    src_shape=source.shape,
                    src_strides=source.strides,
                    dst_shape=result.shape,
                    dst_strides=result.strides,
                    **window_fields(parts[op.part]),
                )
            case mapped_training.Outer(parts, source, errors, runs=runs):
                x, dy, *scales = node.inputs
                return Outer(
                    **common,
                    x=buffer[x],
                    dy=buffer[dy],
                    x_scale=buffer[scales[0]] if runs else -1,
                    dy_scale=buffer[scales[1]] if runs else -1,
                    runs=runs,
                    dst=buffer[node.outputs[op.part]],
                    x_shape=source.shape,
                    x_strides=source.strides,
                    dy_shape=errors.shape,
                    dy_strides=errors.strides,
                    **window_fields(parts[op.part]),
                )
            case ops.DiffBlock():
                return diff_instruction(self.walk, common, node, self.target.diff_block.table_segments)
            case mapped_training.UpdateCells() | ops.Update():
                return self._update(common, node, node.op, op.group)
        return instruction_of(self.walk, index, op)

    def _update(
        self, common: dict[str, Any], node: Node, op: mapped_training.UpdateCells | ops.Update, group: int
    ) -> Update:
        buffer = self.walk.buffer_of
        count = len(op.rule.moments)
        limit = math.inf if op.clip is None else op.clip
        return Update(
            **common,
            optimizer=OPTIMIZER_CODES[op.rule.optimizer],
            hyper=op.rule.hyper,
            group=group,
            parameter=-1 if group >= 0 else buffer[node.inputs[0]],
            gradient=buffer[node.inputs[1]],
            moments=tuple(buffer[v] for v in node.inputs[2 : 2 + count]),
            step=buffer[node.inputs[2 + count]] if op.rule.counts else -1,
            lo=-limit,
            hi=limit,
        )
