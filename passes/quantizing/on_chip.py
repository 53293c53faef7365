"""Codes for the operands of products in training: one scale a tensor and step, computed on the chip."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import prod

import numpy as np

from mgc.ir.flow import by_samples, part_size
from mgc.ir.graph import Graph, Node, Value
from mgc.ir.mapped import DequantBy, Mvm, MvmT, Outer, QuantBy, RunMax, UpdateCells
from mgc.ir.op import Op
from mgc.ir.ops import Binary, Reduce, Reshape, Transpose, Unary, Where
from mgc.ir.types import DType, TensorType
from mgc.passes.lowering.versions import homes_of
from mgc.passes.manager import UnsupportedError
from mgc.passes.mapping.residents import Residents
from mgc.passes.quantizing.signs import NonNegative
from mgc.passes.streaming.analysis import Streaming, data_of, streaming_of
from mgc.targets.description import Target

RUNS = 16
"""Runs of samples with a scale of their own, at most: for each of them an OUTER turns its sums into reals."""
MOST_RUNS = 64
"""The same where the sums of a run are large against the tiles' memory."""
SUMS_SHARE = 8
"""The part of that memory which the sums of a run of one product may take."""
_GOLDEN = (5**0.5 - 1) / 2


def quantize_training(graph: Graph, residents: Residents, target: Target, batch: int) -> Graph:
    """A copy of a lowered graph in which products are of codes and of whole numbers in the cells.

    Before every product a `quant_by` makes codes with the scale max |x| / (2^(B-1) - 1), or max x / (2^B - 1) for what
    cannot be negative, 1 where all is zero; products that read one tensor share its codes. After it a `dequant_by`
    takes back the scales: that of the operand and of the cells. An OUTER takes both operands' scales itself.

    What holds the samples of a `batch` along axis 0 has a scale for each run of them (`runs_of`): no sample waits for
    the whole batch to be coded.

    Most errors of a layer can be less than half a step; rounded to 0 they would bias its weight gradient. So the codes
    of errors are dithered: every sample of the batch has an offset of its own, and the offsets of a batch are spread
    evenly over a step. As a sample's place in a batch means nothing, no error is always rounded the same way.
    """
    graph, names = graph.copy(), [r.name for r in residents.all]
    samples = streaming_of(graph, data_of(graph, names), homes_of(graph, names), batch)
    return _Quantizer(graph, residents, target, runs_of(graph, target, batch), samples).run()


def runs_of(graph: Graph, target: Target, batch: int) -> int:
    """Into how many equal runs of one scale a batch is cut: at most `RUNS`; more if the sums of a run of some product
    would take more than their share of the tiles' memory, as runs are the least parts that schedules cut a batch into.
    """
    products = [prod(n.op.out_shape) for n in graph.nodes if isinstance(n.op, Mvm | MvmT)]
    sums = max(products, default=0) * target.periphery.accumulator_bytes
    room = target.edram.bytes_per_tile * target.structure.tiles // SUMS_SHARE
    cuts = [n for n in range(1, min(batch, MOST_RUNS) + 1) if batch % n == 0]
    few = max(n for n in cuts if n <= RUNS)
    return next((n for n in cuts if n >= few and sums <= room * n), cuts[-1])


@dataclass(frozen=True)
class _Coded:
    """Codes of a value, and the scale they have."""

    codes: Value
    scale: Value


@dataclass
class _Quantizer:
    graph: Graph
    residents: Residents
    target: Target
    runs: int
    samples: Streaming
    coded: dict[Value, _Coded] = field(default_factory=dict)
    codes: dict[Value, Value] = field(default_factory=dict)
    dithers: dict[tuple[int, ...], Value] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)

    def run(self) -> Graph:
        graph = self.graph
        self.bits = self.target.crossbar.input_bits
        if self.bits < 2:
            raise UnsupportedError(
                f"target {self.target.name} has input_bits = {self.bits}: errors are signed, so training needs at "
                "least 2"
            )
        self.producers = graph.producers()
        self.nonnegative = NonNegative(graph)
        self.one = graph.add_constant(np.ones((), np.float32), "one")
        self.zero = graph.add_constant(np.zeros((), np.float32), "zero")
        self.limits = {
            unsigned: graph.add_constant(np.array(self._most(unsigned), np.float32), "most")
            for unsigned in (False, True)
        }
        self.weights = self._integer_weights()
        self.whole = self._whole()
        self.errors = self._errors()
        for node in graph.nodes:
            self._node(node)
        graph.nodes = self.nodes
        graph.prune()
        return graph

    def _most(self, unsigned: bool) -> int:
        return (1 << (self.bits if unsigned else self.bits - 1)) - 1

    def _integer_weights(self) -> dict[Value, float]:
        """Makes the cells of groups hold whole numbers; the weight scale of every version of them."""
        scales = {r.name: r.weight_scale for r in self.residents.groups}
        found: dict[Value, float] = {}
        for value in self.graph.inputs:
            if value.name in scales:
                found[value] = scales[value.name]
        for node in self.graph.nodes:
            if isinstance(node.op, UpdateCells):
                found[node.outputs[0]] = found[node.inputs[0]]
        for value in found:
            value.type = TensorType(DType.I16, value.shape)
        return found

    def _errors(self) -> set[Value]:
        """What only back-propagation reads: errors of weight gradients, operands of transposed reads."""
        forward: set[Value] = set()
        backward: set[Value] = set()
        for node in self.graph.nodes:
            match node.op:
                case Mvm():
                    forward.add(self._origin(node.inputs[0]))
                case Outer():
                    forward.add(self._origin(node.inputs[0]))
                    backward.add(self._origin(node.inputs[1]))
                case MvmT():
                    backward.add(self._origin(node.inputs[0]))
        return backward - forward

    def _whole(self) -> set[Value]:
        """Values that must have one scale: some product does not see their samples one after the other."""
        axes, split = self.samples.axes, self.samples.split
        found: set[Value] = set()
        for node in self.graph.nodes:
            match node.op:
                case Mvm() | MvmT():
                    if axes.get(node.inputs[0]) != 0 or axes.get(node.outputs[0]) != 0:
                        found.add(self._origin(node.inputs[0]))
                case Outer(_, source, errors):
                    for value, layout in zip(node.inputs, (source, errors), strict=True):
                        part = part_size(axes.get(value), value.shape, split)
                        if not part or layout.shape[0] != split or not by_samples(layout, part, split):
                            found.add(self._origin(value))
        return found

    def _origin(self, value: Value) -> Value:
        """The value before reshapes and transposes."""
        while value in self.producers and isinstance(self.producers[value].op, Reshape | Transpose):
            value = self.producers[value].inputs[0]
        return value

    # -- nodes -----------------------------------------------------------------------------------------------------

    def _node(self, node: Node) -> None:
        match node.op:
            case Mvm() | MvmT():
                x = self._code(node.inputs[0], node)
                factor = self.weights[node.inputs[1]]
                scale = self._by_sample(x.scale, node, node.outputs[0])
                self._dequantized(node, (x.codes, *node.inputs[1:]), scale, factor)
            case Outer():
                x, dy = (self._code(v, node) for v in node.inputs)
                scaled = {size for size in (x.scale.tensor.size, dy.scale.tensor.size) if size > 1}
                op = replace(node.op, runs=self.runs if scaled else 1)
                self.nodes.append(Node(op, (x.codes, dy.codes, x.scale, dy.scale), node.outputs, node.sources))
            case _:
                self.nodes.append(node)

    def _by_sample(self, scale: Value, node: Node, result: Value) -> Value:
        """A scale as it goes with a result: one number, or one for each sample along axis 0."""
        shape = (scale.shape[0], *(1 for _ in result.shape[1:])) if scale.tensor.size > 1 else scale.shape
        return scale if shape == scale.shape else self._emit(Reshape(shape), node, scale)

    def _dequantized(self, node: Node, inputs: tuple[Value, ...], scale: Value, factor: float) -> None:
        """The product of codes, and its results as they were before, in reals."""
        types = node.op.infer(*(v.type for v in inputs))
        sums = tuple(Value(self.graph.fresh_name(f"{v.name}.acc"), t) for v, t in zip(node.outputs, types, strict=True))
        self.nodes.append(Node(node.op, inputs, sums, node.sources))
        for acc, real in zip(sums, node.outputs, strict=True):
            self.nodes.append(Node(DequantBy(factor), (acc, scale, self.one), (real,), node.sources))

    def _code(self, value: Value, node: Node) -> _Coded:
        """Codes of a value, made before it was reshaped or transposed: what several products read is coded once."""
        chain: list[Node] = []
        origin = self._origin(value)
        while value is not origin:
            chain.append(self.producers[value])
            value = chain[-1].inputs[0]
        if origin not in self.coded:
            self.coded[origin] = self._quantized(origin, node)
        found = self.coded[origin]
        codes = found.codes
        for step in reversed(chain):
            to = step.outputs[0]
            if to not in self.codes:
                self.codes[to] = self._emit(replace(step.op), step, codes, name=f"{to.name}.codes")
            codes = self.codes[to]
        return _Coded(codes, found.scale)

    def _quantized(self, x: Value, node: Node) -> _Coded:
        unsigned = self.nonnegative(x)
        axes = tuple(range(x.tensor.rank))
        size = x if unsigned else self._emit(Unary("abs"), node, x)
        if self.samples.axes.get(x) == 0 and x not in self.whole:
            most = self._emit(RunMax(self.runs), node, size)
        else:
            most = self._emit(Reduce("max", axes, False), node, size) if axes else size
        scale = self._emit(Binary("div"), node, most, self.limits[unsigned])
        empty = self._emit(Binary("equal"), node, scale, self.zero)
        scale = self._emit(Where(), node, empty, self.one, scale, name=f"{x.name}.scale")
        hi = self._most(unsigned)
        lo = 0 if unsigned else -hi
        dither = self._dither(x) if x in self.errors else ()
        op = QuantBy(lo, hi, self._dtype(unsigned), bool(dither))
        codes = self._emit(op, node, x, scale, *dither, name=f"{x.name}.codes")
        return _Coded(codes, scale)

    def _dither(self, x: Value) -> tuple[Value, ...]:
        """A constant [samples, 1, ...], evenly spread over -0.5 .. 0.5; none for a single sample."""
        if not x.shape or x.shape[0] < 2:
            return ()
        samples, *rest = x.shape
        shape = (samples, *[1] * len(rest))
        if shape not in self.dithers:
            # in an order without trend, should the samples of a batch have one
            order = np.argsort(np.argsort(np.arange(samples) * _GOLDEN % 1.0))
            offsets = ((order + 0.5) / samples - 0.5).astype(np.float32)
            self.dithers[shape] = self.graph.add_constant(offsets.reshape(shape), "dither")
        return (self.dithers[shape],)

    def _dtype(self, unsigned: bool) -> DType:
        if self.bits <= 8:
            return DType.U8 if unsigned else DType.I8
        return DType.U16 if unsigned else DType.I16

    def _emit(self, op: Op, node: Node, *inputs: Value, name: str = "") -> Value:
        (type_,) = op.infer(*(v.type for v in inputs))
        value = Value(self.graph.fresh_name(name or op.name), type_)
        self.nodes.append(Node(op, inputs, (value,), node.sources))
        return value
