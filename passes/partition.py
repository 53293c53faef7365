"""partition: weight matrices onto crossbars: row order, geometry, capacity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from mgc.ir.graph import Graph, Node, Value
from mgc.ir.mapped import CHANNEL_MAJOR, TAP_MAJOR, Mvm, MvmPart
from mgc.passes.crossbar_rows import exact_columns
from mgc.passes.durations import signed_input
from mgc.passes.manager import CompileState, Pass, UnsupportedError
from mgc.targets.description import Crossbar, Target


class CapacityError(UnsupportedError):
    """The weights need more crossbars than the target has. `needed` and `available` count crossbars."""

    def __init__(self, message: str, needed: int, available: int) -> None:
        super().__init__(message)
        self.needed = needed
        self.available = available


@dataclass(frozen=True)
class Geometry:
    """How the matrices of one part lie on the crossbars of one replica.

    Row k is in row block k // rows; column c, slice s, sign g is physical column q = (c * slices + s) * signs + g, in
    column block q // cols. Crossbars are numbered matrix-major, then row block, then column block.
    """

    matrices: int
    matrix_rows: int
    matrix_cols: int
    rows: int
    cols: int
    slices: int
    signs: int

    @staticmethod
    def of(part: MvmPart, crossbar: Crossbar) -> Geometry:
        """The geometry of a part on crossbars as described."""
        return Geometry(
            part.matrices, part.rows, part.cols, crossbar.rows, crossbar.cols, crossbar.slices(), crossbar.signs
        )

    @property
    def row_blocks(self) -> int:
        """Crossbars one above the other, for one matrix."""
        return -(-self.matrix_rows // self.rows)

    @property
    def physical_columns(self) -> int:
        """Bit lines of one matrix."""
        return self.matrix_cols * self.slices * self.signs

    @property
    def column_blocks(self) -> int:
        """Crossbars side by side, for one matrix."""
        return -(-self.physical_columns // self.cols)

    @property
    def crossbars(self) -> int:
        """Crossbars of one replica."""
        return self.matrices * self.row_blocks * self.column_blocks

    def cell(
        self, matrix: np.ndarray, row: np.ndarray, column: np.ndarray, slice_: np.ndarray, sign: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(crossbar in the replica, word line, bit line) of a cell; operands broadcast."""
        q = (column * self.slices + slice_) * self.signs + sign
        block = (matrix * self.row_blocks + row // self.rows) * self.column_blocks + q // self.cols
        return block, row % self.rows, q % self.cols


@dataclass(frozen=True)
class Partition(Pass):
    """Each part of each `Mvm` gets the row order in which most of its columns are proven exact, and must fit.

    Rows go channel-major or tap-major, whichever leaves fewer columns that an ADC could clip (on a tie as they are);
    weights are permuted to match, integer and real. CapacityError if one copy of everything needs more crossbars than
    the target has. Results are equal bit for bit.
    """

    name: ClassVar[str] = "partition"
    levels: ClassVar[tuple[int, ...]] = (1, 2)

    def run(self, state: CompileState) -> CompileState:
        return replace(state, graph=partition(state.graph.copy(), state.target))


def partition(graph: Graph, target: Target) -> Graph:
    """Chooses row orders in place and returns the graph; see `Partition`."""
    check_capacity(graph, target)
    done: dict[tuple[Value, str, int], Value] = {}
    for node in graph.nodes:
        # an ADC that scales is exact or not by each cell alone: the order of rows changes nothing
        if isinstance(node.op, Mvm) and target.crossbar.adc_mode == "clip":
            _order_rows(graph, node, node.op, target.crossbar, done)
    graph.prune()
    return graph


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
        signed = signed_input(node)
        exact = int(exact_columns(weights, crossbar, signed=signed).sum())
        if exact == part.matrices * part.cols:
            continue
        other = TAP_MAJOR if part.row_order == CHANNEL_MAJOR else CHANNEL_MAJOR
        if int(exact_columns(_reordered(weights, part, other), crossbar, signed=signed).sum()) <= exact:
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


def check_capacity(graph: Graph, target: Target) -> int:
    """Crossbars that one copy of all weights needs. CapacityError if the target has fewer."""
    need: dict[str, int] = {}
    for node in graph.nodes:
        if isinstance(node.op, Mvm):
            for part in node.op.parts:
                name = ", ".join(node.sources) or part.name
                need[name] = need.get(name, 0) + Geometry.of(part, target.crossbar).crossbars
    needed, available = sum(need.values()), target.structure.crossbars
    if needed > available:
        raise CapacityError(capacity_message(need, target), needed, available)
    return needed


def capacity_message(need: Mapping[str, int], target: Target, width: str = "crossbar.weight_bits") -> str:
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
