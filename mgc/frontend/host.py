"""Host nodes: what the chip cannot do, kept as ONNX; adjacent ones become one segment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TypeProto, ValueInfoProto
from onnx.helper import make_model, make_node, make_opsetid

from mgc.frontend.context import Context, NodeView, Operand
from mgc.frontend.errors import ModelError
from mgc.frontend.operand import Known, Sym, ir_type, onnx_type, type_of_known
from mgc.ir.graph import Graph, Node, Value
from mgc.ir.ops import Host
from mgc.ir.types import OpaqueType, TensorType


@dataclass
class Piece:
    """One ONNX node for the host, its names already those of the IR values ("%" + name) and of data ("#" + number):
    no ONNX name of a subgraph can clash with them.
    """

    node: NodeProto
    reason: str
    opsets: dict[str, int]
    constants: dict[str, Any] = field(default_factory=dict)  # names of embedded data
    inputs: list[Value] = field(default_factory=list)
    input_types: list[TypeProto] = field(default_factory=list)
    outputs: list[Value] = field(default_factory=list)
    output_types: list[TypeProto] = field(default_factory=list)


@dataclass
class HostBuilder:
    """Collects host nodes during import; `finish` makes the segments."""

    ctx: Context
    ir_version: int
    pieces: dict[Node, Piece] = field(default_factory=dict)
    _constant_names: dict[Known, str] = field(default_factory=dict)

    def add(
        self, n: NodeView, reason: str, outer: Mapping[str, Operand], opsets: dict[str, int], wanted: list[str]
    ) -> list[Operand | None]:
        """Adds a host node; `outer` are the values that its subgraphs may capture. Gives its results."""
        piece = self._piece(n, reason, outer, opsets)
        node = piece.node
        piece.output_types = infer_types(piece, wanted, self.ir_version)
        kept = [i for i, name in enumerate(wanted) if name]
        types = [ir_type(piece.output_types[i]) for i in kept]
        op = Host(b"", reason, (n.op_type,), tuple(types))
        hints = [wanted[i] for i in kept]
        sources = (self.ctx.source,) if self.ctx.source else ()
        piece.outputs = list(self.ctx.graph.add_multi(op, *piece.inputs, names=hints, sources=sources))
        self.pieces[self.ctx.graph.nodes[-1]] = piece
        by_index = dict(zip(kept, piece.outputs, strict=True))
        del node.output[:]
        node.output.extend(f"%{by_index[i].name}" if i in by_index else "" for i in range(len(wanted)))
        piece.output_types = [piece.output_types[i] for i in kept]
        return [
            Sym(by_index[i], piece.output_types[kept.index(i)]) if i in by_index else None for i in range(len(wanted))
        ]

    def runs(self, n: NodeView, outer: Mapping[str, Operand], opsets: dict[str, int]) -> bool:
        """Whether ONNX Runtime or the reference evaluator has an implementation of an op that ONNX does not define."""
        piece = self._piece(n, "", outer, opsets)
        probe = Piece(NodeProto(), "", opsets, piece.constants)
        probe.node.CopyFrom(piece.node)
        inputs = dict(zip(piece.inputs, piece.input_types, strict=True))
        model = _model([probe], inputs, {}, self.ir_version)
        model.graph.output.extend(ValueInfoProto(name=name) for name in probe.node.output if name)
        return _loads(model)

    def _piece(self, n: NodeView, reason: str, outer: Mapping[str, Operand], opsets: dict[str, int]) -> Piece:
        """The node with its inputs, and what its subgraphs capture, renamed to IR values."""
        node = NodeProto()
        node.CopyFrom(n.proto)
        piece = Piece(node, reason, opsets)
        names = [self._feed(piece, operand) for operand in n.inputs]
        del node.input[:]
        node.input.extend(names)
        captured = {name: self._feed(piece, outer[name]) for name in free_names(n.proto) if name in outer}
        if captured:
            _rename_captured(node, captured)
        return piece

    def _feed(self, piece: Piece, operand: Operand | None) -> str:
        """The name under which a piece's node reads an operand."""
        if operand is None:
            return ""
        if isinstance(operand, Known):
            name = self._constant_names.setdefault(operand, f"#{len(self._constant_names)}")
            piece.constants[name] = operand.array
            return name
        value = self.ctx.exact_value(operand)
        if value not in piece.inputs:
            piece.inputs.append(value)
            piece.input_types.append(operand.type if isinstance(value.type, OpaqueType) else onnx_type(value.tensor))
        return f"%{value.name}"

    def finish(self, graph: Graph) -> None:
        """Merges adjacent host nodes and writes each segment's model."""
        present = set(graph.nodes)
        pieces = {n: p for n, p in self.pieces.items() if n in present}
        users = graph.users()
        leaving = graph.output_values()
        for group in _segments(graph, pieces):
            merged = [pieces[n] for n in group]
            inside = set(group)
            outputs = [
                v
                for n in group
                for v in n.outputs
                if v in leaving or any(u not in inside for u in users.get(v, ())) or len(group) == 1
            ]
            types = {v: t for p in merged for v, t in zip(p.outputs, p.output_types, strict=True)}
            made = set(types)
            inputs = {v: t for p in merged for v, t in zip(p.inputs, p.input_types, strict=True) if v not in made}
            model = _model(merged, inputs, {v: types[v] for v in outputs}, self.ir_version)
            reason = "; ".join(dict.fromkeys(p.reason for p in merged))
            op_types = tuple(o for n in group if isinstance(n.op, Host) for o in n.op.op_types)
            op = Host(model.SerializeToString(deterministic=True), reason, op_types, tuple(v.type for v in outputs))
            sources = tuple(dict.fromkeys(s for n in group for s in n.sources))
            graph.nodes[graph.nodes.index(group[-1])] = Node(op, tuple(inputs), tuple(outputs), sources)
            gone = set(group[:-1])
            graph.nodes = [n for n in graph.nodes if n not in gone]
        graph.sort()


def _segments(graph: Graph, pieces: dict[Node, Piece]) -> list[list[Node]]:
    """Groups of host nodes that may run as one: connected, and no path between them leaves the host.

    Every node gets a phase, odd for host nodes, no smaller than its producers'; within one odd phase no path can
    pass through a chip node.
    """
    producer = graph.producers()
    phase: dict[Node, int] = {}
    parent: dict[Node, Node] = {n: n for n in pieces}

    def root(n: Node) -> Node:
        while parent[n] is not n:
            n = parent[n]
        return n

    for node in graph.nodes:
        before = [producer[v] for v in node.inputs if v in producer]
        least = max((phase[b] for b in before), default=0)
        phase[node] = least if least % 2 == (node in pieces) else least + 1
        if node not in pieces:
            continue
        for b in before:
            if b in pieces and phase[b] == phase[node] and _compatible(pieces[b], pieces[node]):
                parent[root(b)] = root(node)
    groups: dict[Node, list[Node]] = {}
    for node in graph.nodes:
        if node in pieces:
            groups.setdefault(root(node), []).append(node)
    return list(groups.values())


def _compatible(a: Piece, b: Piece) -> bool:
    return all(b.opsets.get(domain, version) == version for domain, version in a.opsets.items())


def _info(name: str, type_: TypeProto) -> ValueInfoProto:
    info = ValueInfoProto(name=name)
    info.type.CopyFrom(type_)
    return info


def _model(
    pieces: list[Piece], inputs: Mapping[Value, TypeProto], outputs: Mapping[Value, TypeProto], ir_version: int
) -> ModelProto:
    """One model of some pieces; data is embedded under short names in order of use."""
    constants = {name: array for p in pieces for name, array in p.constants.items()}
    short = {name: f"#{i}" for i, name in enumerate(constants)}
    nodes: list[NodeProto] = []
    initializers = []
    for name, array in constants.items():
        if isinstance(array, np.ndarray):
            initializers.append(onnx.numpy_helper.from_array(array, short[name]))
        else:
            nodes.append(_constant_node(array, short[name]))
    for piece in pieces:
        node = NodeProto()
        node.CopyFrom(piece.node)
        for i, name in enumerate(node.input):
            node.input[i] = short.get(name, name)
        _rename_captured(node, short)
        nodes.append(node)
    graph = GraphProto(name="host", node=nodes, initializer=initializers)
    graph.input.extend(_info(f"%{v.name}", t) for v, t in inputs.items())
    graph.output.extend(_info(f"%{v.name}", t) for v, t in outputs.items())
    opsets = {domain: version for p in pieces for domain, version in p.opsets.items()}
    return make_model(
        graph,
        opset_imports=[make_opsetid(d, v) for d, v in sorted(opsets.items())],
        ir_version=ir_version,
        producer_name="mgc",
    )


def _constant_node(value: Any, name: str) -> NodeProto:
    """A node that makes a value that is no tensor: an empty or full sequence, an optional without a value."""
    if isinstance(value, list) and not value:
        return make_node("SequenceEmpty", [], [name])
    if value is None:
        return make_node("Optional", [], [name])
    raise ModelError("a constant sequence cannot be passed to the host", where=f"value {name!r}")


def free_names(node: NodeProto) -> list[str]:
    """Names that the node's subgraphs take from outside."""
    found: dict[str, None] = {}

    def walk(graph: GraphProto, inherited: frozenset[str]) -> None:
        local = set(inherited) | {i.name for i in graph.input} | {t.name for t in graph.initializer}
        for inner in graph.node:
            found.update({name: None for name in inner.input if name and name not in local})
            for sub in subgraphs(inner):
                walk(sub, frozenset(local))
            local.update(inner.output)
        found.update({o.name: None for o in graph.output if o.name not in local})

    for graph in subgraphs(node):
        walk(graph, frozenset())
    return list(found)


def subgraphs(node: NodeProto) -> Iterator[GraphProto]:
    """The node's graph attributes."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _rename_captured(node: NodeProto, mapping: Mapping[str, str]) -> None:
    """Renames captured values in the node's subgraphs, in place; inner definitions of a name shadow it."""

    def walk(graph: GraphProto, names: Mapping[str, str]) -> None:
        local = {i.name for i in graph.input} | {t.name for t in graph.initializer}
        names = {k: v for k, v in names.items() if k not in local}
        for inner in graph.node:
            for i, name in enumerate(inner.input):
                inner.input[i] = names.get(name, name)
            for sub in subgraphs(inner):
                walk(sub, names)
            names = {k: v for k, v in names.items() if k not in inner.output}
        for output in graph.output:
            if output.name in names:
                # a graph output must be made inside: pass the captured value through
                inside = f"{output.name}.out"
                graph.node.append(make_node("Identity", [names[output.name]], [inside]))
                output.name = inside

    for graph in subgraphs(node):
        walk(graph, mapping)


def infer_types(piece: Piece, wanted: list[str], ir_version: int) -> list[TypeProto]:
    """ONNX types of all outputs of a piece's node (empty TypeProto where nothing is known)."""
    probe = Piece(NodeProto(), "", piece.opsets, piece.constants)
    probe.node.CopyFrom(piece.node)
    del probe.node.output[:]
    names = [f"out{i}" if name else "" for i, name in enumerate(wanted)]
    probe.node.output.extend(names)
    model = _model([probe], dict(zip(piece.inputs, piece.input_types, strict=True)), {}, ir_version)
    for name in names:
        if name:
            model.graph.output.append(ValueInfoProto(name=name))
    try:
        inferred = onnx.shape_inference.infer_shapes(model, strict_mode=False, data_prop=True)
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError):
        inferred = model
    found = {o.name: o.type for o in inferred.graph.output}
    return [found.get(name, TypeProto()) for name in names]


def known_type(operand: Operand) -> TypeProto | None:
    """The ONNX type of any operand."""
    return type_of_known(operand.array) if isinstance(operand, Known) else operand.type


def is_tensor(operand: Operand) -> bool:
    """Whether the chip may take the operand."""
    return operand.is_tensor if isinstance(operand, Known) else isinstance(operand.value.type, TensorType)


def _loads(model: ModelProto) -> bool:
    import onnxruntime
    from onnx.reference import ReferenceEvaluator

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return True
    except Exception:  # onnxruntime's own C++ errors have no common base class but this
        pass
    try:
        ReferenceEvaluator(model)
        return True
    except (NotImplementedError, RuntimeError, TypeError, ValueError, KeyError):
        return False
