"""Ops that ONNX defines as functions of other ops."""

from __future__ import annotations

from typing import Any

import onnx
from onnx import NodeProto, TypeProto
from onnx.defs import SchemaError

from mgc.frontend.context import NodeView
from mgc.frontend.onnx_graph import subgraphs

# nodes, names of inputs and outputs, opset of each domain
Body = tuple[list[NodeProto], list[str], list[str], dict[str, int]]


def schema_of(view: NodeView) -> Any:
    """ONNX's schema (OpSchema, whose stub lacks functions) of the node's op at its opset; None if there is none."""
    try:
        return onnx.defs.get_schema(view.op_type, view.opset, view.domain)
    except SchemaError:
        return None


def function_body(view: NodeView, opsets: dict[str, int]) -> Body | None:
    """The op's definition, attributes filled in; None if it is not defined as a function."""
    schema = schema_of(view)
    if schema is None:
        return None
    function = None
    if schema.has_context_dependent_function:
        kinds = [view.type_of(i) if i is not None else None for i in view.inputs]
        types = [(k or TypeProto()).SerializeToString() for k in kinds]
        version = max((v for v in schema.context_dependent_function_opset_versions if v <= view.opset), default=None)
        if version is not None:
            try:
                data = schema.get_context_dependent_function_with_opset_version(
                    version, view.proto.SerializeToString(), types
                )
            except (RuntimeError, ValueError):
                data = b""
            function = onnx.FunctionProto.FromString(data) if data else None
    elif schema.has_function:
        version = max((v for v in schema.function_opset_versions if v <= view.opset), default=None)
        if version is not None:
            data = schema.get_function_with_opset_version(version)
            function = onnx.FunctionProto.FromString(data) if data else None
    if function is None or not function.node:
        return None
    values = {a.name: a for a in function.attribute_proto}
    for name, attribute in schema.attributes.items():
        if attribute.default_value.name:
            values[name] = attribute.default_value
    values.update({a.name: a for a in view.proto.attribute})
    inner = dict(opsets)
    inner.update({("" if o.domain == "ai.onnx" else o.domain): int(o.version) for o in function.opset_import})
    return [_fill(node, values) for node in function.node], list(function.input), list(function.output), inner


def _fill(node: NodeProto, values: dict[str, onnx.AttributeProto]) -> NodeProto:
    """The node with references to the function's attributes replaced by their values, in subgraphs too."""
    filled = NodeProto()
    filled.CopyFrom(node)
    del filled.attribute[:]
    for attribute in node.attribute:
        if attribute.ref_attr_name:
            if attribute.ref_attr_name in values:
                given = filled.attribute.add()
                given.CopyFrom(values[attribute.ref_attr_name])
                given.name = attribute.name
            continue
        filled.attribute.add().CopyFrom(attribute)
    for graph in subgraphs(filled):
        inner = [_fill(n, values) for n in graph.node]
        del graph.node[:]
        graph.node.extend(inner)
    return filled
