"""lower-vec: element-wise work, reductions, gathers, pooling... become fused kernels of the vector unit."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import ClassVar

from mgc.functions.binary import BINARY
from mgc.functions.unary import UNARY
from mgc.ir import ops
from mgc.ir.graph import Graph, Node, Value
from mgc.ir.mapped import Copy, Mvm, MvmT, Outer, Step, UpdateCells, Vec, View
from mgc.ir.module import Entry
from mgc.ir.op import Op
from mgc.passes.lowering.versions import Homes, homes_of, order
from mgc.passes.manager import Pass
from mgc.passes.mapping.residents import residents_in
from mgc.passes.state import CompileState, UnsupportedError, with_graph
from mgc.passes.streaming.analysis import Streaming, best_split, data_of
from mgc.passes.streaming.dataflow import DATAFLOWS

_SMALL = 16
"""How many times smaller a value is that costs nothing to read again."""
OTHER_OPS = (Mvm, MvmT, Outer, UpdateCells, ops.Update, ops.DiffBlock, Copy, View, Vec, ops.Host)
"""What there may be beside the work of vector units: the boundaries of kernels."""


@dataclass(frozen=True)
class LowerVec(Pass):
    """Every vector op becomes a step of a `Vec` kernel; kernels are fused along producer-consumer chains.

    Each op gets a stage: how many crossbar products, moves, views and host segments lie on its longest way from the
    inputs. Ops of one stage that feed one another form one kernel. What others or the graph's outputs read leaves the
    kernel, stored once. Every way out of a kernel passes a boundary to a later stage and never comes back, so the
    dataflow stays acyclic. Where a batch will be cut into parts, no kernel holds up what goes part by part. Results are
    equal bit for bit.
    """

    name: ClassVar[str] = "lower-vec"
    levels: ClassVar[tuple[int, ...]] = (1, 2)

    def run_entry(self, entry: Entry, state: CompileState) -> Entry:
        graph, names = entry.graph.copy(), residents_in(state.module).names
        homes = homes_of(graph, names)
        parts = entry.micro_batch if entry.kind == "train" and DATAFLOWS[state.dataflow].split else 1
        lower_vec(graph, homes, best_split(graph, data_of(graph, names), homes, parts))
        order(graph, homes_of(graph, names))
        return with_graph(entry, graph)


def lower_vec(graph: Graph, homes: Homes | None = None, streaming: Streaming | None = None) -> Graph:
    """Fuses the vector ops of `graph` in place and returns it; see `LowerVec`. UnsupportedError: an op no unit runs.

    With `homes` (versions of what lives on the chip; the nodes are in `versions.order`) whoever writes a new version
    counts as later than all who read the old one, so that no kernel must run both before and after it. With `streaming`
    no kernel both takes a batch part by part and needs what is complete only after the last part.
    """
    graph.prune()
    homes, streaming = homes or {}, streaming or Streaming()
    streaming, late = _make_again(graph, homes, streaming)
    kernels = _kernels(graph, homes, streaming, late)
    users, outputs = graph.users(), graph.output_values()
    fused: dict[Node, Node] = {}
    for members in kernels:
        fused[members[-1]] = _fuse(members, users, outputs)
    inside = {node for members in kernels for node in members}
    graph.nodes = [fused.get(node, node) for node in graph.nodes if node in fused or node not in inside]
    graph.sort()
    return graph


def _make_again(graph: Graph, homes: Homes, streaming: Streaming) -> tuple[Streaming, frozenset[Node]]:
    """Lets kernels compute again, in place, what others would have to store for them: cheap element-wise results of one
    large value that is stored anyway. The nodes that belong into the kernel of their only reader, and the streaming
    that knows them.
    """
    kernels = _kernels(graph, homes, streaming)
    kernel_of = {node: k for k, members in enumerate(kernels) for node in members}
    outputs, axes, nodes = graph.output_values(), dict(streaming.axes), set(streaming.nodes)
    late: set[Node] = set()
    for node in list(graph.nodes):
        if node not in kernel_of or not isinstance(node.op, ops.Binary | ops.Unary) or node.outputs[0] in outputs:
            continue
        readers = list(dict.fromkeys(graph.uses(node.outputs[0])))
        alike = all(r in kernel_of and (r in nodes) == (node in nodes) for r in readers)
        if not alike or all(kernel_of[r] == kernel_of[node] for r in readers):
            continue
        if not _is_cheap(node.op) or not _is_made_of_stored(graph, node, kernel_of, homes):
            continue
        for reader in readers:
            value = graph.add(node.op, *node.inputs, name=node.outputs[0].name, sources=node.sources, at=reader)
            reader.inputs = tuple(value if v is node.outputs[0] else v for v in reader.inputs)
            again = graph.producer(value)
            assert again is not None
            late.add(again)
            if node in nodes:
                nodes.add(again)
            if node.outputs[0] in axes:
                axes[value] = axes[node.outputs[0]]
    graph.prune()
    return Streaming(streaming.split, axes, frozenset(nodes)), frozenset(late)


def _seen(graph: Graph, value: Value) -> Value:
    """What a value is a view of, or itself."""
    maker = graph.producer(value)
    return value if maker is None or not isinstance(maker.op, View) else _seen(graph, maker.inputs[0])


def _is_cheap(op: Op) -> bool:
    """Whether an op is one element-wise addition, product or comparison: less than a round trip through memory."""
    if isinstance(op, ops.Binary):
        return BINARY[op.fn].cost in ("simple", "multiply")
    return isinstance(op, ops.Unary) and UNARY[op.fn].cost == "simple"


def _is_made_of_stored(graph: Graph, node: Node, kernel_of: Mapping[Node, int], homes: Homes) -> bool:
    """Whether an op reads one value as large as its result, which is no wider and comes from elsewhere, and else only
    small ones; none of them a version of what lives on the chip, which may be overwritten meanwhile.
    """
    (y,) = node.outputs
    large = [v for v in node.inputs if v.tensor.size * _SMALL > y.tensor.size]
    if len(large) != 1 or large[0].tensor.size != y.tensor.size or any(_seen(graph, v) in homes for v in node.inputs):
        return False
    maker = graph.producer(large[0])
    crosses = maker is None or (not isinstance(maker.op, View) and kernel_of.get(maker) != kernel_of[node])
    return crosses and large[0].tensor.nbytes <= y.tensor.nbytes


def _kernels(graph: Graph, homes: Homes, streaming: Streaming, late: Collection[Node] = ()) -> list[list[Node]]:
    """The ops of each kernel, in the graph's order. Those of `late` belong into the kernel of their only reader."""
    whole: set[Value] = set()  # results of vector ops that take a batch at once
    vector: set[Value] = set()  # results of vector ops
    stage: dict[Value, int] = {}
    read_at: dict[str, int] = {}  # the latest stage in which a resident was read so far
    home_of = dict(homes)
    kernel_of: dict[Value, list[Node]] = {}
    waiting: dict[Value, Node] = {}
    for node in graph.nodes:
        if not node.op.is_vector_work:
            if not isinstance(node.op, OTHER_OPS):
                where = f" (of {', '.join(node.sources)})" if node.sources else ""
                raise UnsupportedError(f"lower-vec: no unit of the chip runs {node.op.name}{where}; lower it before")
            here = max((stage.get(v, 0) for v in node.inputs), default=0)
            here = max([here, *(read_at.get(homes[v], 0) for v in node.outputs if v in homes)])
            stage.update(dict.fromkeys(node.outputs, here + 1))
            for value in node.inputs:
                if value in home_of and isinstance(node.op, View):
                    home_of[node.outputs[0]] = home_of[value]
                elif value in home_of:
                    read_at[home_of[value]] = max(read_at.get(home_of[value], 0), here)
            continue
        if node in late:
            waiting[node.outputs[0]] = node
            continue
        together = _with_waiting(node, waiting)
        here = 0
        for one in together:
            parted = one in streaming.nodes
            for value in one.inputs:
                here = max(here, stage.get(value, 0))
                # together only: two that take the batch at once, or one part after another that is handed on by parts
                if value in vector and (parted if value in whole else not (parted and value in streaming.axes)):
                    here = max(here, stage[value] + 1)
        for one in together:
            vector.update(one.outputs)
            whole.update(() if one in streaming.nodes else one.outputs)
            for value in one.inputs:
                if value in home_of:
                    read_at[home_of[value]] = max(read_at.get(home_of[value], 0), here)
            stage.update(dict.fromkeys(one.outputs, here))
            _join(one, here, stage, kernel_of)
    position = {node: i for i, node in enumerate(graph.nodes)}
    kernels = {id(m): m for m in kernel_of.values()}.values()
    return [sorted(members, key=position.__getitem__) for members in kernels]


def _with_waiting(node: Node, waiting: dict[Value, Node]) -> list[Node]:
    """A node after those that wait for it."""
    before = [one for v in dict.fromkeys(node.inputs) if v in waiting for one in _with_waiting(waiting.pop(v), waiting)]
    return [*before, node]


def _join(node: Node, here: int, stage: Mapping[Value, int], kernel_of: dict[Value, list[Node]]) -> None:
    """Puts a node into one kernel with those of its stage whose results it reads."""
    members = [node]
    for value in dict.fromkeys(node.inputs):
        before = kernel_of.get(value)
        if before is None or before is members or stage[value] != here:
            continue
        small, large = sorted((before, members), key=len)
        large += small
        kernel_of.update({v: large for n in small for v in n.outputs})
        members = large
    kernel_of.update(dict.fromkeys(node.outputs, members))


def _fuse(members: list[Node], users: dict[Value, list[Node]], outputs: set[Value]) -> Node:
    """One kernel of some ops in topological order."""
    inside = set(members)
    made = {v for n in members for v in n.outputs}
    operands = list(dict.fromkeys(v for n in members for v in n.inputs if v not in made))
    index = {v: k for k, v in enumerate(operands)}
    steps: list[Step] = []
    results: list[Value] = []
    for node in members:
        steps.append(Step(node.op, tuple(index[v] for v in node.inputs)))
        for value in node.outputs:
            index[value] = len(index)
            if value in outputs or any(n not in inside for n in users.get(value, [])):
                results.append(value)
    sources = tuple(dict.fromkeys(s for n in members for s in n.sources))
    return Node(Vec(tuple(steps), tuple(index[v] for v in results)), tuple(operands), tuple(results), sources)
