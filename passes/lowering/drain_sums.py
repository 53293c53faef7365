"""drain-sums: what begins a kernel on crossbar sums is done as they come, so that they are never stored."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from mgc.ir import ops
from mgc.ir.graph import Graph, Node, Value
from mgc.ir.mapped import Dequant, DequantBy, Lookup, Mvm, MvmT, Quant, QuantBy, Step, Vec, View
from mgc.ir.module import Entry
from mgc.ir.op import Op
from mgc.ir.types import DType, TensorType
from mgc.passes.manager import Pass
from mgc.passes.mapping.durations import bytes_held, sizes_of
from mgc.passes.mapping.groups import homes_in
from mgc.passes.mapping.residents import residents_in
from mgc.passes.scheduling.operations import covers
from mgc.passes.state import CompileState, with_graph
from mgc.passes.streaming.analysis import Streaming, best_split, data_of
from mgc.passes.streaming.dataflow import DATAFLOWS

_POINTWISE = (ops.Unary, ops.Binary, ops.Where, ops.Cast, Dequant, DequantBy, Lookup, Quant, QuantBy)
"""What lanes at the crossbars do, element by element."""


@dataclass(frozen=True)
class DrainSums(Pass):
    """The first steps of a kernel that alone reads the sums of a product become one that drains: as many as let least
    be written and read. Where the target has no lanes for that, nothing changes; after place.

    They are element-wise, on operands that are there before the product begins. A product must write every position of
    its result; a transposed one must have one part, as others add to what earlier ones left. Results are equal bit for
    bit.
    """

    name: ClassVar[str] = "drain-sums"
    levels: ClassVar[tuple[int, ...]] = (1, 2)

    def run_entry(self, entry: Entry, state: CompileState) -> Entry:
        if not state.chip.vector.drain_lanes_per_tile:
            return entry
        graph, residents = entry.graph.copy(), residents_in(state.module)
        homes = homes_in(graph, residents)
        parts = entry.micro_batch if entry.kind == "train" and DATAFLOWS[state.dataflow].split else 1
        streaming = best_split(graph, data_of(graph, residents.names), homes, parts)
        drain_sums(graph, streaming, sizes_of(graph, state.chip))
        return with_graph(entry, graph)


def drain_sums(graph: Graph, streaming: Streaming, sizes: Mapping[Value, int]) -> None:
    """Splits kernels of `graph` in place; see `DrainSums`. `sizes` are the bytes of its values."""
    known, sizes = {*graph.inputs, *graph.constants}, dict(sizes)
    for node in list(graph.nodes):
        found = _kernel_of(graph, node)
        if found is not None:
            kernel, sums, views = found
            split = _Split(graph, kernel, _pooled_late(kernel, sums), sums, sizes)
            chosen = split.best(_there(graph, kernel, known, streaming)) if _alike(streaming, node, kernel) else []
            if chosen:
                first, rest = split.cut(chosen)
                at = graph.nodes.index(kernel)
                graph.remove(kernel)
                if rest is not None:
                    graph.insert(rest, at)
                graph.remove(*views)
                at = graph.nodes.index(node) + 1
                for moved in (first, *reversed(views)):
                    graph.insert(moved, at)
                known.update(v for n in (*views, first) for v in n.outputs)
                # what one kernel hands to the other may be an operand of the next product's
                sizes.update((v, bytes_held(v.tensor)) for v in first.outputs if v not in sizes)
        known.update(node.outputs)


def _kernel_of(graph: Graph, node: Node) -> tuple[Node, Value, list[Node]] | None:
    """The only kernel that reads the sums of a product, these as it sees them, and the views on the way."""
    whole = isinstance(node.op, Mvm) and bool(node.op.parts) and covers(node.op)
    if not whole and not (isinstance(node.op, MvmT) and len(node.op.parts) == 1):
        return None
    (sums,), views, outputs = node.outputs, list[Node](), graph.output_values()
    while sums not in outputs and sums.tensor.dtype == DType.I64:
        readers = set(graph.uses(sums))
        if len(readers) != 1:
            return None
        (reader,) = readers
        if isinstance(reader.op, Vec):
            return (reader, sums, views) if reader.inputs.count(sums) == 1 else None
        if not isinstance(reader.op, View):
            return None
        views.append(reader)
        (sums,) = reader.outputs
    return None


def _alike(streaming: Streaming, product: Node, kernel: Node) -> bool:
    """Whether both take a batch part by part, or neither."""
    return (product in streaming.nodes) == (kernel in streaming.nodes)


def _there(graph: Graph, kernel: Node, known: Collection[Value], streaming: Streaming) -> set[int]:
    """The operands of a kernel that are there before a product which knows `known`, and for which it waits no longer
    than for a part of the batch.
    """
    early = {*graph.inputs, *graph.constants, *streaming.axes}
    parted = kernel in streaming.nodes
    return {k for k, v in enumerate(kernel.inputs) if v in known and (v in early or not parted)}


def _pooled_late(kernel: Node, sums: Value) -> Vec:
    """A kernel whose maxima over windows come after the steps that they commute with, which may then drain: codes of
    what a maximum is taken of, or numbers cut off at 0. The maximum is of sums times a scale, which are never NaN.
    """
    op = kernel.op
    assert isinstance(op, Vec)
    steps, operands = list(op.steps), len(kernel.inputs)
    finite = {kernel.inputs.index(sums)}
    for n, step in enumerate(steps):
        dequantised = isinstance(step.op, Dequant | DequantBy) and step.args[0] in finite
        if dequantised or (_rises(step.op) and step.args[0] in finite):
            finite.add(operands + n)
        if not isinstance(step.op, ops.Pool) or step.args[0] not in finite or not _meets_input(step.op):
            continue
        at = operands + n
        readers = [k for k, s in enumerate(steps) if at in s.args]
        while len(readers) == 1 and at not in op.results and _rises(steps[readers[0]].op):
            (k,) = readers
            steps[at - operands], steps[k] = Step(steps[k].op, steps[at - operands].args), Step(step.op, (at,))
            at = operands + k
            readers = [k for k, s in enumerate(steps) if at in s.args]
    return Vec(tuple(steps), op.results)


def _rises(op: Op) -> bool:
    """Whether a function of one element never falls as that rises."""
    return isinstance(op, Quant) or (isinstance(op, ops.Unary) and op.fn == "relu")


def _meets_input(pool: ops.Pool) -> bool:
    """Whether a pool takes maxima, each of one element at least that is no padding."""
    whole = all(p < k for p, k in zip(pool.pads, pool.kernel * 2, strict=True))
    return pool.kind == "max" and whole and all(d == 1 for d in pool.dilations)


class _Split:
    """A kernel, to be cut in two. Its values are numbered as its steps have them."""

    def __init__(self, graph: Graph, kernel: Node, op: Vec, sums: Value, sizes: Mapping[Value, int]) -> None:
        self.graph, self.kernel, self.op, self.sums, self.sizes = graph, kernel, op, sums, sizes
        self.operands = len(kernel.inputs)
        self.types: list[TensorType] = [v.tensor for v in kernel.inputs]
        for step in self.op.steps:
            self.types += (
                t for t in step.op.infer(*map(self.types.__getitem__, step.args)) if isinstance(t, TensorType)
            )
        self.at = kernel.inputs.index(sums)

    def _args(self, values: Iterable[int]) -> list[int]:
        """What the steps that make some values read, each once."""
        return list(dict.fromkeys(a for k in values for a in self.op.steps[k - self.operands].args))

    def _rest(self, chosen: Collection[int]) -> list[int]:
        return [k for k in range(self.operands, len(self.types)) if k not in chosen]

    def best(self, there: Collection[int]) -> list[int]:
        """The values that are made as sums come, from these and operands that are `there`; none if nothing is saved."""
        closed = [self.at]
        for k in self._rest(()):
            step = self.op.steps[k - self.operands]
            fits = isinstance(step.op, _POINTWISE) and self.types[k].shape == self.sums.shape
            made_of_sums = any(a in closed for a in step.args)
            if fits and made_of_sums and all(a in closed or a in there for a in step.args):
                closed.append(k)
        best, least = list[int](), self._moved([])
        for count in range(2, len(closed) + 1):
            chosen = closed[1:count]
            if self.at in self._args(self._rest(chosen)) or self.at in self.op.results:
                continue
            moved = self._moved(chosen)
            if moved < least:
                best, least = chosen, moved
        return best

    def _moved(self, chosen: Collection[int]) -> int:
        """Bytes that the product and what is left of the kernel write and read, if `chosen` drain."""
        late = {*self._args(self._rest(chosen)), *(r for r in self.op.results if r < self.operands)}
        crossing = [k for k in chosen if k in late]
        written = {*crossing, *(r for r in self.op.results if r >= self.operands)}
        read = [k for k in (*self._args(chosen), *late) if k < self.operands and k != self.at]
        read = [k for k in read if self.kernel.inputs[k] not in self.graph.constants]
        sums = 0 if chosen else 2 * self.sizes[self.sums]
        return (
            sums
            + sum(self.sizes[self.kernel.inputs[k]] for k in read)
            + sum(bytes_held(self.types[k]) for k in (*crossing, *written))
        )

    def cut(self, chosen: Collection[int]) -> tuple[Node, Node | None]:
        """The kernel that drains, and what is left, if anything is."""
        others = self._rest(chosen)
        late = self._args(others)
        values = dict(zip(self.op.results, self.kernel.outputs, strict=True))
        for k in chosen:
            if k in late and k not in values:
                values[k] = Value(self.graph.fresh_name(self.sums.name), self.types[k])
        first = self._kernel([self.at], chosen, [k for k in chosen if k in values], values, drains=True)
        results = [r for r in self.op.results if r not in chosen]
        return first, self._kernel([], others, results, values) if others or results else None

    def _kernel(
        self,
        lead: list[int],
        steps: Collection[int],
        results: list[int],
        values: Mapping[int, Value],
        *,
        drains: bool = False,
    ) -> Node:
        """Some steps as a kernel with these results; operands, `lead` first, are the kernel's or among `values`."""
        read = [a for a in (*lead, *self._args(steps), *results) if a < self.operands or a not in (*steps, *results)]
        inputs = list(dict.fromkeys(read))
        number = {k: n for n, k in enumerate((*inputs, *steps))}
        made = [self.op.steps[k - self.operands] for k in steps]
        op = Vec(
            tuple(Step(s.op, tuple(number[a] for a in s.args)) for s in made),
            tuple(number[r] for r in results),
            drains,
        )
        operands = tuple(self.kernel.inputs[k] if k < self.operands else values[k] for k in inputs)
        return Node(op, operands, tuple(values[r] for r in results), self.kernel.sources)
