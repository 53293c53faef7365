"""The operations of a training graph: reads of both kinds, gradients, updates, and the order of weight versions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from mgc.ir import ops
from mgc.ir.graph import Node, Value
from mgc.ir.mapped import Mvm, MvmPart
from mgc.ir.mapped_training import MvmT, Outer, UpdateCells
from mgc.ir.training import NEXT
from mgc.passes.durations import Place, Source, nbytes, signed_input
from mgc.passes.operations import Builder, Work
from mgc.passes.partition import Geometry
from mgc.passes.plan import UnitPlan


@dataclass
class TrainingBuilder(Builder):
    """Makes the operations of one entry of a training program.

    Graph inputs that are in `ports_in` come over the host link, the others are residents; outputs in `ports_out` are
    handed out. `group_number` gives the group in which a resident's cells are, `dram` the residents that are off-chip.
    """

    ports_in: Mapping[str, int] = field(default_factory=dict)
    ports_out: Mapping[str, int] = field(default_factory=dict)
    group_number: Mapping[str, int] = field(default_factory=dict)
    dram: frozenset[str] = frozenset()
    parts: tuple[MvmPart, ...] = ()

    def build(self) -> Work:
        self.offchip |= {v for v, home in self.homes.items() if home in self.dram}
        return super().build()

    def _setup(self) -> None:
        """Weights are written once for all entries."""

    def _loaded(self) -> Iterable[tuple[int, Value]]:
        return ((self.ports_in[v.name], v) for v in self.graph.inputs if v.name in self.ports_in)

    def _stored(self) -> Iterable[tuple[int, Value]]:
        return ((self.ports_out[n], v) for n, v in self.graph.outputs if n in self.ports_out and not n.endswith(NEXT))

    def _group_of(self, node: Node, part: int) -> int:
        return self.group_number[self.homes[node.inputs[1 + part]]]

    # -- operations ------------------------------------------------------------------------------------------------

    def _node(self, node: Node) -> None:
        match node.op:
            case MvmT():
                self._mvm_t(node, node.op)
            case Outer():
                self._outer(node, node.op)
            case UpdateCells():
                self._update_cells(node, node.op)
            case ops.DiffBlock():
                here = self.placement.place_of(node)
                duration = self._streamed(
                    self.durations.diff(node, node.op), self._traffic(node.inputs, node.outputs), here
                )
                unit = self._diff_block(here)
                self._add("diff", unit, duration, node.inputs, node.outputs, node=node)
            case ops.Update(rule, clip):
                here = self.placement.place_of(node)
                cycles = self.durations.update(node.outputs[0].tensor.size, rule, clip is not None, len(here.tiles))
                duration = self._streamed(cycles, self._traffic(node.inputs, node.outputs), here)
                self._add("update", self._unit_at("vector", here), duration, node.inputs, node.outputs, node=node)
            case _:
                super()._node(node)

    def _diff_block(self, here: Place) -> int:
        """The diff-block of the chip that a place is on."""
        structure = self.target.structure
        chip = here.tiles[0] // structure.tiles_per_chip
        name = "diff-block" if structure.chips == 1 else f"chip {chip} diff-block"
        return self._unit("diff", chip, UnitPlan(name, "diff"))

    def _mvm_t(self, node: Node, op: MvmT) -> None:
        """Parts add into one result, the first of them begins it."""
        dy, result = node.inputs[0], node.outputs[0]
        first: list[int] = []
        for k, part in enumerate(op.parts):
            index = self._group_of(node, k)
            group = self.placement.groups[index]
            here = Place(group.tiles)
            windows = self.durations.windows(op, part)
            blocks = Geometry.of(part, self.target.crossbar).column_blocks
            work = self.durations.mvm_t(windows, group.replicas, blocks, signed=signed_input(node))
            moved = self._traffic((dy,), (result,))
            stream = self._streamed if k == 0 else self.durations.streamed
            number = self._add(
                "mvm_t",
                self.units["crossbar", index],
                stream(work, moved, here),
                (dy, node.inputs[1 + k]),
                (result,),
                first,
                node=node,
                part=k,
                group=index,
            )
            first = first or [number]

    def _outer(self, node: Node, op: Outer) -> None:
        here = self.placement.place_of(node)
        unit = self._unit_at("gradient", here)
        for k, part in enumerate(op.parts):
            work = self.durations.outer(self.durations.windows(op, part), part, len(here.tiles))
            result = node.outputs[k]
            moved = [*self._traffic(node.inputs, ()), Source(-(-nbytes(result) // self.durations.parts), here)]
            duration = self._streamed(work, moved, here)
            self._add("outer", unit, duration, node.inputs, (result,), node=node, part=k)

    def _update_cells(self, node: Node, op: UpdateCells) -> None:
        """Arithmetic, then row after row is written; all replicas at once."""
        index = self.group_number[self.homes[node.inputs[0]]]
        group = self.placement.groups[index]
        here = Place(group.tiles)
        cycles = self.durations.update(node.outputs[0].tensor.size, op.rule, op.clip is not None, len(here.tiles))
        geometry = self.geometry_of(index)
        cycles += self.durations.program(min(geometry.matrix_rows, geometry.rows), len(group.crossbars))
        duration = self._streamed(cycles, self._traffic(node.inputs[1:], node.outputs[1:]), here)
        unit = self._unit_at("writer", here)
        self._add("update", unit, duration, node.inputs, node.outputs, node=node, group=index)

    def geometry_of(self, index: int) -> Geometry:
        """How a group lies on its crossbars."""
        return Geometry.of(self.parts[index], self.target.crossbar)


def anchors_of(graph_nodes: Iterable[Node], homes: Mapping[Value, str], layer_of: Mapping[str, str]) -> dict[Node, str]:
    """The layer near which each node that touches crossbars works, or a weight gradient is added up."""
    anchors: dict[Node, str] = {}
    for node in graph_nodes:
        match node.op:
            case Mvm() | MvmT():
                if len(node.inputs) > 1:
                    anchors[node] = layer_of[homes[node.inputs[1]]]
            case UpdateCells():
                anchors[node] = layer_of[homes[node.inputs[0]]]
            case Outer():
                cells = f"{node.op.parts[0].name}.cells"
                if cells in layer_of:
                    anchors[node] = layer_of[cells]
    return anchors
