"""The lower-linear pass: convolutions and matrix products become reads of crossbars."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mgc.ir.build import Build
from mgc.ir.graph import Graph, Node, Value
from mgc.ir.module import Entry
from mgc.ir.ops import Conv, ConvTranspose, Host, MatMul
from mgc.ir.rewriter import apply_patterns
from mgc.ir.types import DType
from mgc.passes.lowering.conv import lower_conv
from mgc.passes.lowering.matmul import lower_matmul
from mgc.passes.manager import Pass
from mgc.passes.mapping.allocate import Objective
from mgc.passes.mapping.work import useful_macs
from mgc.passes.state import CompileState, Exporter, with_graph
from mgc.passes.tensor.simplify import fold_constants

_MAX_SPATIAL = 3


@dataclass(frozen=True)
class LowerLinear(Pass):
    """Where nothing is trained, every conv, conv_transpose and matmul with one constant operand becomes an `mvm` on
    real values, zero-free: no stuffed zero is stored or streamed, a residue class that no tap reaches has no part, taps
    that meet only padding are dropped. Rows are channel-major. A matmul of two computed operands stays, for the vector
    unit; a convolution with computed weights, or over more than three axes, becomes a `host` op that says so.

    Where weights are trained, all entries share the groups that their weights lie in: see `lower_training`; second
    copies of them are made for the `objective` (`lower_with_copies`). The module then has `residents`, and every entry
    has all of them among its inputs.
    """

    name: ClassVar[str] = "lower-linear"
    levels: ClassVar[tuple[int, ...]] = (1, 2)
    objective: Objective = "edp"

    def run(self, state: CompileState) -> CompileState:
        if not state.trains:
            return super().run(state)
        from mgc.passes.lowering.trained.copies import lower_with_copies

        entries = state.module.entries
        times = [e.repeats if e.kind == "train" else 0 for e in entries]
        graphs, phases = [e.graph for e in entries], state.module.attributes["training"].phases
        found = lower_with_copies(graphs, times, state.module.states, state.target, self.objective, phases)
        lowered = [with_graph(e, g) for e, g in zip(entries, found.graphs, strict=True)]
        return state.with_entries(lowered, residents=found.residents)

    def run_entry(self, entry: Entry, state: CompileState) -> Entry:
        return with_graph(entry, lower_frozen(entry.graph.copy(), state.tools.export))


def lower_frozen(graph: Graph, export: Exporter) -> Graph:
    """Lowers the products by constants of `graph` in place and returns it; see `LowerLinear`."""
    for node in list(graph.nodes):
        if not graph.holds(node):
            continue  # of zeros only
        if isinstance(node.op, Conv | ConvTranspose | MatMul) and not all(v.tensor.size for v in node.inputs):
            _make_zero(graph, node, "it multiplies no elements: the result is empty, or zero")
        elif isinstance(node.op, Conv | ConvTranspose):
            reason = _reason_against(graph, node, node.op)
            if reason:
                _to_host(node, reason, export)
            else:
                _lower_conv_node(graph, node, node.op)
        elif isinstance(node.op, MatMul) and node.inputs[0].tensor.dtype.is_float:
            _lower_matmul_node(graph, node)
    graph.prune()
    return graph


def group_name(node: Node, weights: Value) -> str:
    """What the crossbar group of a weighted op is called: the module that holds its weights, else the ONNX node."""
    module = re.fullmatch(r"(.+)[._]weight(\.\d+)?", weights.name)
    if module:
        return module[1]
    if not node.sources:
        return weights.name
    # torch's exporters name nodes /path/to/module/OpType
    path = [p for p in node.sources[0].split("/") if p]
    return path[-2] if node.sources[0].startswith("/") and len(path) > 1 else node.sources[0]


def _reason_against(graph: Graph, node: Node, op: Conv | ConvTranspose) -> str:
    """Why a convolution cannot go to crossbars; empty if it can."""
    if node.inputs[1] not in graph.constants:
        return f"{op.name} with computed weights: crossbars hold constants"
    if len(op.strides) > _MAX_SPATIAL:
        return f"{op.name} over {len(op.strides)} spatial axes: address generators have {_MAX_SPATIAL}"
    return ""


def _to_host(node: Node, reason: str, export: Exporter) -> None:
    alone = Graph(node.op.name)
    operands = [alone.add_input(f"x{k}", v.type) for k, v in enumerate(node.inputs)]
    results = alone.add_multi(node.op, *operands)
    alone.outputs = [(f"y{k}", v) for k, v in enumerate(results)]
    form = node.op.onnx(*(v.tensor for v in node.inputs))
    node.op = Host(export(alone), reason, (form.op_type,), tuple(v.type for v in node.outputs))


def _lower_conv_node(graph: Graph, node: Node, op: Conv | ConvTranspose) -> None:
    x, w = node.inputs
    y = node.outputs[0]
    mvm, data = lower_conv(op, x.tensor, graph.constants[w].data, y.tensor, group_name(node, w), useful_macs(node))
    if not mvm.parts:
        _make_zero(graph, node, "every kernel tap reads padding: the result is zero")
        return
    weights = [_weights(graph, part.name, own) for part, own in zip(mvm.parts, data, strict=True)]
    build = Build(graph, sources=node.sources, at=node)
    _finish(graph, node, build.cast(build.emit(mvm, build.cast(x, DType.F32), *weights), x.tensor.dtype))


def _make_zero(graph: Graph, node: Node, why: str) -> None:
    """Lets the node's result be zeros, and what is computed of nothing else be constants."""
    y = node.outputs[0]
    graph.bypass(node, [graph.add_constant(np.zeros(y.shape, y.tensor.dtype.numpy), y.name)], why)
    apply_patterns(graph, (fold_constants,))


def _lower_matmul_node(graph: Graph, node: Node) -> None:
    left, right = node.inputs
    if (left in graph.constants) == (right in graph.constants):
        return
    constant_left = left in graph.constants
    x, w = (right, left) if constant_left else (left, right)
    plan = lower_matmul(x.shape, graph.constants[w].data, constant_left, group_name(node, w))
    weights = _weights(graph, plan.op.parts[0].name, plan.weights)
    build = Build(graph, sources=node.sources, at=node)
    operand = build.expand(build.reshape(build.cast(x, DType.F32), plan.operand), plan.expand)
    product = build.emit(plan.op, build.transpose(operand, plan.perm), weights)
    result = build.reshape(build.transpose(product, plan.result_perm), node.outputs[0].shape)
    _finish(graph, node, build.cast(result, x.tensor.dtype))


def _weights(graph: Graph, name: str, data: np.ndarray) -> Value:
    return graph.add_constant(np.asarray(data, np.float32), f"{name}.w")


def _finish(graph: Graph, node: Node, value: Value) -> None:
    """Lets what makes `value`, right before the node, make the node's result in place of it: names stay."""
    last = graph.nodes[graph.nodes.index(node) - 1]
    assert last.outputs == (value,)
    assert value.type == node.outputs[0].type
    graph.remove(node)
    last.outputs = node.outputs
