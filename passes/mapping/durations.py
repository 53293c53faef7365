"""Cycles of every kind of operation: the cost model applied to level-2 ops."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import TypedDict, cast

import numpy as np

from mgc.functions.binary import BINARY
from mgc.functions.unary import UNARY
from mgc.ir import ops
from mgc.ir.graph import Graph, Node, Value
from mgc.ir.mapped import Copy, Dequant, DequantBy, Lookup, Mvm, MvmPart, MvmT, Outer, Quant, QuantBy, RunMax, Vec, View
from mgc.ir.op import IRError, Op
from mgc.ir.ops.update import Rule
from mgc.ir.types import DType, TensorType
from mgc.passes.mapping.plan import GroupMap
from mgc.targets.cost import CostModel, update_work
from mgc.targets.description import CostClass, Target

Work = dict[CostClass, int]
"""Operations of each cost class."""

_COMPOSED: dict[str, Work] = {
    "leaky_relu": {"simple": 1, "multiply": 1},
    "prelu": {"simple": 1, "multiply": 1},
    "hard_sigmoid": {"multiply": 1, "simple": 3},
    "hard_swish": {"multiply": 2, "simple": 3},
    "softsign": {"simple": 2, "divide": 1},
}
"""What functions take that are several operations; of others the table of functions says it."""


def sizes_of(graph: Graph, target: Target) -> dict[Value, int]:
    """Bytes of every value of a level-2 graph in memory; 0 for an opaque one, whose size nobody knows.

    A crossbar sum, as products of codes leave it and moves pass it on, weighs what the target says. Sums that drain
    take no memory, but those of a transposed read the lines that are not complete yet.
    """
    sums: set[Value] = set()
    sizes: dict[Value, int] = {}
    for value in (*graph.inputs, *graph.constants):
        sizes[value] = bytes_held(value.type) if isinstance(value.type, TensorType) else 0
    for node in graph.nodes:
        passed = isinstance(node.op, Copy | View) and node.inputs[0] in sums
        for value in node.outputs:
            tensor = value.type if isinstance(value.type, TensorType) else None
            sizes[value] = bytes_held(tensor) if tensor else 0
            made = isinstance(node.op, Mvm | MvmT | Outer) and tensor and tensor.dtype == DType.I64
            if tensor and (passed or made):
                sums.add(value)
                sizes[value] = tensor.size * target.periphery.accumulator_bytes
    for product, (_, views) in drains_of(graph).items():
        (value,) = product.outputs
        op = product.op
        open_sums = prod(op.parts[0].windows.open_lines(op.result.shape)) if isinstance(op, MvmT) else 0
        sizes.update(dict.fromkeys((value, *views), open_sums * target.periphery.accumulator_bytes))
    return sizes


def bytes_held(tensor: TensorType, elements: int | None = None) -> int:
    """Bytes in memory of a value that is no crossbar sum, or of some of its elements: a bool takes a bit."""
    count = tensor.size if elements is None else elements
    return -(-count // 8) if tensor.dtype == DType.BOOL else count * tensor.dtype.numpy.itemsize


def drains_of(graph: Graph) -> dict[Node, tuple[Node, list[Value]]]:
    """The products whose sums drain: each with the kernel that takes them, and the views of them."""
    found: dict[Node, tuple[Node, list[Value]]] = {}
    for node in graph.nodes:
        if isinstance(node.op, Vec) and node.op.drains:
            maker, views = graph.producer(node.inputs[0]), list[Value]()
            while maker is not None and isinstance(maker.op, View):
                views += maker.outputs
                maker = graph.producer(maker.inputs[0])
            if maker is None or not isinstance(maker.op, Mvm | MvmT):
                raise IRError(f"%{node.inputs[0].name} drains and is no crossbar sum")
            found[maker] = node, views
    return found


@dataclass(frozen=True)
class Place:
    """Where work is done: the tiles whose units share it evenly, the first of them standing for all on routes."""

    tiles: tuple[int, ...]


@dataclass(frozen=True)
class Source:
    """Bytes that an operation reads or writes: how many, from what place (None: off-chip memory)."""

    size: int
    place: Place | None


class Durations:
    """Cycles on one target, for one micro-batch. Data streams past the work, so the slower of the two counts."""

    def __init__(self, target: Target, parts: int = 1) -> None:
        """With `parts`, of an operation on one of that many equal parts of a batch."""
        self.target = target
        self.cost = CostModel(target)
        self.parts = parts

    # -- crossbars -------------------------------------------------------------------------------------------------

    def window(self, row_blocks: int, codes: Streamed) -> tuple[int, int]:
        """(cycles a window, cycles once) of a part: windows follow each other, the pipeline fills once."""
        one, two = (self.cost.mvm_cycles(n, row_blocks=row_blocks, **codes) for n in (1, 2))
        return two - one, one - (two - one)

    def windows(self, op: Mvm | MvmT | Outer, part: MvmPart) -> int:
        """Windows of a part of a product in what is done at once: a micro-batch, or one of its parts."""
        return windows_of(op, part) // self.parts

    def mvm(self, windows: int, replicas: int, row_blocks: int, codes: Streamed) -> int:
        """Cycles of a part's products with its input at hand."""
        return max(1, self.cost.mvm_cycles(windows, replicas=replicas, row_blocks=row_blocks, **codes))

    def mvm_t(self, windows: int, part: MvmPart, group: GroupMap, codes: Streamed) -> int:
        """Cycles of a part's transposed products: the planes of a crossbar are read one after the other."""
        crossbar, packing = self.target.crossbar, group.plane_columns
        turns = crossbar.transposed_turns(plane_columns=packing)
        blocks = crossbar.column_blocks(part.cols, plane_columns=packing)
        return self.mvm(windows * turns, group.replicas, blocks, codes)

    def outer(self, windows: int, part: MvmPart, tiles: int) -> int:
        """Cycles of a part's weight gradients in the gradient units of `tiles` tiles."""
        return self.cost.outer_cycles(windows, part.matrices, part.rows, part.cols, tiles)

    def program(self, rows: int, crossbars: Sequence[int]) -> int:
        """Cycles to write a group: crossbars of a macro take turns on its drivers, macros write side by side."""
        macros = Counter(c // self.target.structure.crossbars_per_macro for c in crossbars)
        return max(1, self.cost.write_cycles(rows, crossbars_per_macro=max(macros.values(), default=0)))

    # -- vector units and movement ---------------------------------------------------------------------------------

    def vec(self, graph: Graph, node: Node, op: Vec, tiles: int) -> int:
        """Cycles of a kernel's arithmetic on the vector units of `tiles` tiles: loops over each shape in turn."""
        loops: dict[int, Work] = {}
        values: list[Value | TensorType] = list(node.inputs)
        for step in op.steps:
            args = [values[a] for a in step.args]
            types = [a.tensor if isinstance(a, Value) else a for a in args]
            (result,) = step.op.infer(*types)
            assert isinstance(result, TensorType)
            for elements, work in _work(step.op, args, types, result, graph):
                total = loops.setdefault(elements, {})
                for cost_class, count in work.items():
                    total[cost_class] = total.get(cost_class, 0) + count
            values.append(result)
        lanes = tiles * self.target.vector.kernel_lanes
        return max(1, sum(self.cost.vector_cycles(-(-n // self.parts), work, lanes=lanes) for n, work in loops.items()))

    def drain(self, graph: Graph, kernel: Vec, operands: Sequence[Value], elements: int, crossbars: int) -> int:
        """Cycles of a kernel that drains on `elements` sums, in the shares that some crossbars have of their tiles'
        lanes.
        """
        values: list[Value | TensorType] = list(operands)
        busy_ns = 0.0
        for step in kernel.steps:
            args = [values[a] for a in step.args]
            (result,) = step.op.infer(*(a.tensor if isinstance(a, Value) else a for a in args))
            assert isinstance(result, TensorType)
            types = [a.tensor if isinstance(a, Value) else a for a in args]
            for _, work in _work(step.op, args, types, result, graph):
                busy_ns += sum(count * self.target.vector.op_ns.of(kind) for kind, count in work.items())
            values.append(result)
        lanes = crossbars * self.target.vector.drain_lanes_per_tile / self.target.structure.crossbars_per_tile
        return self.target.cycles(self.target.vector.latency_ns + elements * busy_ns / lanes)

    def update(self, elements: int, rule: Rule, clips: bool, tiles: int) -> int:
        """Cycles of an optimizer's arithmetic on the vector units of `tiles` tiles; writing cells is not in it."""
        lanes = tiles * self.target.vector.kernel_lanes
        work = update_work(rule.optimizer, clips=clips, decays=rule.weight_decay > 0, averages=rule.average > 0)
        return max(1, self.cost.vector_cycles(elements, work, lanes=lanes))

    def diff(self, node: Node, op: ops.DiffBlock) -> int:
        """Cycles of a diff-block on its scores."""
        averaged = node.inputs[1].tensor.size if op.pairing == "average" else 0
        return self.cost.diff_cycles(-(-node.inputs[0].tensor.size // self.parts), averaged)

    def stream(self, work: int, moved: Sequence[Source], here: Place) -> int:
        """Cycles of `work` while data streams between `here` and other places.

        Memory of the tiles here is read or written at its bandwidth; what comes from elsewhere crosses the network,
        what is off-chip that channel and the ports of the tiles here. All go on side by side; each has its own latency.
        """
        local = sum(s.size for s in moved if s.place is not None)
        slowest = max(work, self.cost.transfer_cycles(-(-local // len(here.tiles)), "edram"))
        dram = sum(s.size for s in moved if s.place is None)
        if dram:
            ports = self.cost.move_cycles(-(-dram // len(here.tiles)), self.cost.gate)
            slowest = max(slowest, self.cost.transfer_cycles(dram, "dram"), ports)
        for source in moved:
            if source.place is not None and source.place != here:
                slowest = max(slowest, self.cross(source.size, source.place, here), work + self.head(source, here))
        return max(1, slowest)

    def cross(self, size: int, source: Place, here: Place) -> int:
        """Cycles for bytes to cross the network; tiles of both places work in parallel, as many as the smaller has."""
        route = self.cost.route(source.tiles[0], here.tiles[0])
        return self.cost.move_cycles(-(-size // min(len(source.tiles), len(here.tiles))), route)

    def head(self, source: Source, here: Place) -> int:
        """Cycles until the first byte arrives."""
        return self.cross(1, source.place, here) if source.place is not None and source.size else 0

    # -- the way out -----------------------------------------------------------------------------------------------

    def link(self, size: int) -> int:
        """Cycles to move bytes to or from the host: what is loaded or stored, or operands and results of a segment that
        the host runs; what it computes is not known.
        """
        return max(1, self.cost.transfer_cycles(-(-size // self.parts), "host"))


class Streamed(TypedDict):
    """What codes a crossbar reads: whether they are two's complement, and how many bits they have (None: as many as the
    target's `input_bits`).
    """

    signed: bool
    input_bits: int | None


def signed_input(node: Node) -> bool:
    """Whether the codes that an `Mvm` reads are two's complement (reals, before quantisation, count as signed)."""
    return node.inputs[0].tensor.dtype not in (DType.U8, DType.U16)


def streamed_input(node: Node) -> Streamed:
    """The codes that an `Mvm` or `MvmT` reads."""
    bits = node.op.input_bits if isinstance(node.op, Mvm) else 0
    return {"signed": signed_input(node), "input_bits": bits or None}


def windows_of(op: Mvm | MvmT | Outer, part: MvmPart) -> int:
    """Windows of one micro-batch."""
    return op.source.shape[0] * part.windows.total


def _work(
    op: Op, args: Sequence[Value | TensorType], types: Sequence[TensorType], result: TensorType, graph: Graph
) -> list[tuple[int, Work]]:
    """What a step does: operations an element, for each number of elements."""
    size = result.size
    match op:
        case ops.Unary(fn) | ops.Binary(fn):
            cost = UNARY[fn].cost if isinstance(op, ops.Unary) else BINARY[fn].cost
            return [(size, _COMPOSED.get(fn, {cast(CostClass, cost): 1}))]
        case Lookup():
            return [(size, {"table": 1})]
        case Quant():
            return [(size, {"multiply": 1, "simple": 2})]
        case Dequant():
            return [(size, {"multiply": 1, "simple": 1})]
        case QuantBy():
            return [(size, {"divide": 1, "simple": 2 + op.dithered})]
        case DequantBy():
            return [(size, {"multiply": 1})]
        case ops.AveragePoolGrad() | ops.MaxPoolGrad() | ops.MaxPoolPick():
            windows = min(size, types[-1].size) if isinstance(op, ops.AveragePoolGrad) else types[-1].size
            return [(windows * prod(op.kernel), {"reduction": 1, "simple": 1})]
        case ops.ScatterAdd():
            return [(types[0].size, {"reduction": 1})]
        case ops.Reduce("mean"):
            return [(types[0].size, {"reduction": 1}), (size, {"multiply": 1})]
        case ops.Reduce("variance"):
            return [(types[0].size, {"reduction": 2, "multiply": 1, "simple": 1}), (size, {"multiply": 3, "simple": 1})]
        case ops.Reduce() | RunMax():
            return [(types[0].size, {"reduction": 1})]
        case ops.Pool(kind, kernel):
            return [(size * prod(kernel), {"reduction": 1}), *([(size, {"multiply": 1})] if kind == "average" else [])]
        case ops.AxisMap(axis):
            products = size // max(1, result.shape[axis]) * _nonzeros(args[1], types[1], graph)
            return [(products, {"multiply": 1, "reduction": 1})]
        case ops.MatMul():
            return [(size * types[0].shape[-1], {"multiply": 1, "reduction": 1})]
    return [(size, {"simple": 1})]


def _nonzeros(matrix: Value | TensorType, type_: TensorType, graph: Graph) -> int:
    """Entries of a resampling matrix that take part: its zeros are known when the program is made."""
    data = graph.data(matrix) if isinstance(matrix, Value) else None
    return type_.size if data is None else int(np.count_nonzero(data))


def elements_read(op: Copy, operands: int) -> list[int]:
    """Elements that a copy's pieces read of each of its operands, repeats counted; a copy of nothing reads nothing."""
    read = [0] * operands
    for p in op.pieces:
        read[p.operand] += prod(p.extents)
    return read
