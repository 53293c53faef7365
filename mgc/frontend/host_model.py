"""ONNX models of host nodes: writing them, renaming in them, and asking for the types of their results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, TypeProto, ValueInfoProto
from onnx.helper import make_model, make_node, make_opsetid, make_tensor_type_proto

from mgc.frontend.errors import ModelError
from mgc.frontend.onnx_graph import own_names, subgraphs
from mgc.functions.onnx_model import session
from mgc.ir.graph import Value


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


def _info(name: str, type_: TypeProto) -> ValueInfoProto:
    info = ValueInfoProto(name=name)
    info.type.CopyFrom(type_)
    return info


def build_model(
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
        rename_captured(node, short)
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


def rename_captured(node: NodeProto, mapping: Mapping[str, str]) -> None:
    """Renames captured values in the node's subgraphs, in place; inner definitions of a name shadow it."""

    def walk(graph: GraphProto, names: Mapping[str, str]) -> None:
        names = {k: v for k, v in names.items() if k not in own_names(graph)}
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


def probe_model(piece: Piece, wanted: Sequence[str], ir_version: int) -> ModelProto:
    """A model of a piece's node alone, its outputs (those with a name in `wanted`) untyped."""
    probe = Piece(NodeProto(), "", piece.opsets, piece.constants)
    probe.node.CopyFrom(piece.node)
    del probe.node.output[:]
    probe.node.output.extend(f"out{i}" if name else "" for i, name in enumerate(wanted))
    model = build_model([probe], dict(zip(piece.inputs, piece.input_types, strict=True)), {}, ir_version)
    model.graph.output.extend(ValueInfoProto(name=name) for name in probe.node.output if name)
    return model


def inferred_types(model: ModelProto) -> list[TypeProto]:
    """Types of the outputs by ONNX's shape inference (an empty TypeProto where it knows nothing)."""
    # where inference fails nothing is known
    with suppress(onnx.shape_inference.InferenceError, RuntimeError, ValueError):
        model = onnx.shape_inference.infer_shapes(model, strict_mode=False, data_prop=True)
    return [o.type for o in model.graph.output]


def implemented_types(model: ModelProto) -> list[TypeProto] | None:
    """Types of the outputs as ONNX Runtime sees them, empty ones if only the reference evaluator has the op; None if
    neither has.
    """
    from onnx.reference import ReferenceEvaluator

    try:
        found = session(model.SerializeToString())
    except Exception:  # onnxruntime's own C++ errors have no common base class but this
        try:
            ReferenceEvaluator(model)
        except (RuntimeError, TypeError, ValueError, KeyError):
            return None
        return [TypeProto() for _ in model.graph.output]
    return [_runtime_type(o.type, o.shape) for o in found.get_outputs()]


def _runtime_type(name: str, shape: Sequence[int | str | None]) -> TypeProto:
    """ONNX Runtime's "tensor(float)" and a shape as a TypeProto; empty for anything that is no plain tensor."""
    aliases = {"float": "FLOAT", "double": "DOUBLE", "bool": "BOOL", "string": "STRING"}
    inner = name.removeprefix("tensor(").removesuffix(")")
    elem = aliases.get(inner, inner.upper())
    if not name.startswith("tensor(") or elem not in dict(TensorProto.DataType.items()):
        return TypeProto()
    return make_tensor_type_proto(TensorProto.DataType.Value(elem), list(shape))
