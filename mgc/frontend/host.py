"""Host nodes: what the chip cannot do, kept as ONNX; adjacent ones become one segment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from onnx import NodeProto, TypeProto

from mgc.frontend.context import Context, NodeView, Operand
from mgc.frontend.host_model import (
    Piece,
    build_model,
    implemented_types,
    inferred_types,
    probe_model,
    rename_captured,
)
from mgc.frontend.onnx_graph import free_names
from mgc.frontend.operand import Known, Sym, ir_type, onnx_type, type_of_known
from mgc.ir.graph import Graph, Node
from mgc.ir.ops import Host
from mgc.ir.types import OpaqueType, TensorType


@dataclass
class HostBuilder:
    """Collects host nodes during import; `finish` makes the segments."""

    ctx: Context
    ir_version: int
    pieces: dict[Node, Piece] = field(default_factory=dict)
    _constant_names: dict[Known, str] = field(default_factory=dict)

    def add(
        self,
        n: NodeView,
        reason: str,
        outer: Mapping[str, Operand],
        opsets: dict[str, int],
        wanted: list[str],
        foreign: bool = False,
    ) -> list[Operand | None] | None:
        """Adds a host node; `outer` are the values that its subgraphs may capture. Gives its results.

        For a `foreign` op, which ONNX does not define or nobody need implement, None if nothing here can run it.
        """
        piece = self._piece(n, reason, outer, opsets)
        node = piece.node
        probe = probe_model(piece, wanted, self.ir_version)
        types = inferred_types(probe)
        if foreign:
            found = implemented_types(probe)
            if found is None:
                return None
            types = [t if t.WhichOneof("value") else f for t, f in zip(types, found, strict=True)]
        kept = [i for i, name in enumerate(wanted) if name]
        piece.output_types = types
        op = Host(b"", reason, (n.op_type,), tuple(map(ir_type, types)))
        hints = [wanted[i] for i in kept]
        sources = (self.ctx.source,) if self.ctx.source else ()
        piece.outputs = list(self.ctx.graph.add_multi(op, *piece.inputs, names=hints, sources=sources))
        self.pieces[self.ctx.graph.nodes[-1]] = piece
        by_index = dict(zip(kept, piece.outputs, strict=True))
        del node.output[:]
        node.output.extend(f"%{by_index[i].name}" if i in by_index else "" for i in range(len(wanted)))
        made: dict[int, Operand] = {i: Sym(v, t) for i, v, t in zip(kept, piece.outputs, types, strict=True)}
        return [made.get(i) for i in range(len(wanted))]

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
            rename_captured(node, captured)
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
            model = build_model(merged, inputs, {v: types[v] for v in outputs}, self.ir_version)
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
    if not pieces:
        return []
    import networkx as nx  # takes longer than a small network

    producer = graph.producers()
    phase: dict[Node, int] = {}
    joined = nx.Graph()
    for node in graph.nodes:
        before = [producer[v] for v in node.inputs if v in producer]
        least = max((phase[b] for b in before), default=0)
        phase[node] = least if least % 2 == (node in pieces) else least + 1
        if node in pieces:
            joined.add_node(node)
            same = [b for b in before if b in pieces and phase[b] == phase[node]]
            joined.add_edges_from((b, node) for b in same if _compatible(pieces[b], pieces[node]))
    order = {node: k for k, node in enumerate(graph.nodes)}
    return [sorted(group, key=order.__getitem__) for group in nx.connected_components(joined)]


def _compatible(a: Piece, b: Piece) -> bool:
    return all(b.opsets.get(domain, version) == version for domain, version in a.opsets.items())


def known_type(operand: Operand) -> TypeProto | None:
    """The ONNX type of any operand."""
    return type_of_known(operand.array) if isinstance(operand, Known) else operand.type


def is_tensor(operand: Operand) -> bool:
    """Whether the chip may take the operand."""
    return operand.is_tensor if isinstance(operand, Known) else isinstance(operand.value.type, TensorType)
