"""lower-vec: element-wise work, reductions, gathers, pooling... become fused kernels of the vector unit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from mgc.ir import ops
from mgc.ir.graph import Graph, Node, Value
from mgc.ir.mapped import Copy, Mvm, MvmT, Outer, Step, UpdateCells, Vec, View
from mgc.ir.module import Entry
from mgc.passes.lowering.versions import Homes, homes_of, order
from mgc.passes.manager import Pass
from mgc.passes.mapping.residents import residents_in
from mgc.passes.state import CompileState, UnsupportedError, with_graph
from mgc.passes.streaming.analysis import Streaming, best_split, data_of
from mgc.passes.streaming.dataflow import DATAFLOWS

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
    kernels = _kernels(graph, homes or {}, streaming or Streaming())
    users, outputs = graph.users(), graph.output_values()
    fused: dict[Node, Node] = {}
    for members in kernels:
        fused[members[-1]] = _fuse(members, users, outputs)
    inside = {node for members in kernels for node in members}
    graph.nodes = [fused.get(node, node) for node in graph.nodes if node in fused or node not in inside]
    graph.sort()
    return graph


def _kernels(graph: Graph, homes: Homes, streaming: Streaming) -> list[list[Node]]:
    """The ops of each kernel, in the graph's order."""
    whole: set[Value] = set()  # results of vector ops that take a batch at once
    vector: set[Value] = set()  # results of vector ops
    stage: dict[Value, int] = {}
    read_at: dict[str, int] = {}  # the latest stage in which a resident was read so far
    home_of = dict(homes)
    kernel_of: dict[Value, list[Node]] = {}
    kernels: list[list[Node]] = []
    for node in graph.nodes:
        here = max((stage.get(v, 0) for v in node.inputs), default=0)
        if not node.op.is_vector_work:
            if not isinstance(node.op, OTHER_OPS):
                where = f" (of {', '.join(node.sources)})" if node.sources else ""
                raise UnsupportedError(f"lower-vec: no unit of the chip runs {node.op.name}{where}; lower it before")
            here = max([here, *(read_at.get(homes[v], 0) for v in node.outputs if v in homes)])
            stage.update(dict.fromkeys(node.outputs, here + 1))
            for value in node.inputs:
                if value in home_of and isinstance(node.op, View):
                    home_of[node.outputs[0]] = home_of[value]
                elif value in home_of:
                    read_at[home_of[value]] = max(read_at.get(home_of[value], 0), here)
            continue
        parted = node in streaming.nodes
        for value in node.inputs:
            # together only: two that take the batch at once, or one part after another that is handed on part by part
            if value in vector and (parted if value in whole else not (parted and value in streaming.axes)):
                here = max(here, stage[value] + 1)
        vector.update(node.outputs)
        whole.update(() if parted else node.outputs)
        for value in node.inputs:
            if value in home_of:
                read_at[home_of[value]] = max(read_at.get(home_of[value], 0), here)
        stage.update(dict.fromkeys(node.outputs, here))
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
    position = {node: i for i, node in enumerate(graph.nodes)}
    for members in {id(m): m for m in kernel_of.values()}.values():
        kernels.append(sorted(members, key=position.__getitem__))
    return kernels


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
