"""Level-1 graph -> plain ONNX, to be opened in any viewer and run in any runtime."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import AttributeProto, GraphProto, ModelProto, TensorProto, TypeProto, ValueInfoProto
from onnx.helper import make_attribute, make_model, make_node, make_opsetid
from onnx.numpy_helper import from_array

from mgc.frontend.onnx_graph import fresh_name, rename_values
from mgc.frontend.operand import onnx_type
from mgc.ir.build import Build
from mgc.ir.gradients import decompose, decomposes
from mgc.ir.graph import Constant, Graph, Node, Value
from mgc.ir.op import IRError, OnnxForm
from mgc.ir.ops import Host
from mgc.ir.types import OpaqueType

OPSET = 21
IR_VERSION = 10


def export_graph(graph: Graph, *, extra_outputs: Sequence[Value] = ()) -> ModelProto:
    """The graph as an ONNX model with static shapes; input and output names are kept.

    The opset is OPSET, newer only where a host op needs it.
    `extra_outputs` become further outputs under their IR names. Parameters keep their initializer names. Host ops are
    inlined. IRError if an op has no ONNX form (level 2 has none).
    """
    return _Exporter(graph).run(extra_outputs)


class _Exporter:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.proto = GraphProto(name=graph.name)
        self.opsets: dict[str, int] = {"": _export_opset(graph)}
        self.ir_version = IR_VERSION
        self.names: dict[Value, str] = {}
        self.taken: set[str] = {v.name for v in graph.inputs} | {name for name, _ in graph.outputs}
        self.opaque: dict[Value, TypeProto] = {}

    def run(self, extra_outputs: Sequence[Value]) -> ModelProto:
        for value in self.graph.inputs:
            self.names[value] = value.name
        # a value that leaves the graph takes its output's name at once, unless it is an input or leaves twice
        for name, value in self.graph.outputs:
            if value not in self.names and value not in self.graph.constants:
                self.names[value] = name
        for value, constant in self.graph.constants.items():
            self.proto.initializer.append(self._initializer(value, constant))
        for node in self.graph.nodes:
            self._node(node)
        for value in self.graph.inputs:
            self.proto.input.append(self._info(value.name, value))
        for name, value in self.graph.outputs:
            if self._name(value) != name:
                self.proto.node.append(make_node("Identity", [self._name(value)], [name]))
            self.proto.output.append(self._info(name, value))
        present = {o.name for o in self.proto.output}
        for value in extra_outputs:
            name = self._name(value)
            if name in {i.name for i in self.proto.input} or value in self.graph.constants:
                name = self._fresh(name)
                self.proto.node.append(make_node("Identity", [self._name(value)], [name]))
            if name not in present:
                self.proto.output.append(self._info(name, value))
                present.add(name)
        opsets = [make_opsetid(d, v) for d, v in sorted(self.opsets.items())]
        return make_model(self.proto, opset_imports=opsets, ir_version=self.ir_version, producer_name="mgc")

    # -- names and types -------------------------------------------------------------------------------------------

    def _fresh(self, hint: str) -> str:
        name = fresh_name(hint, self.taken)
        self.taken.add(name)
        return name

    def _name(self, value: Value) -> str:
        if value not in self.names:
            self.names[value] = self._fresh(value.name)
        return self.names[value]

    def _info(self, name: str, value: Value) -> ValueInfoProto:
        info = ValueInfoProto(name=name)
        if isinstance(value.type, OpaqueType):
            if value in self.opaque:
                info.type.CopyFrom(self.opaque[value])
        else:
            info.type.CopyFrom(onnx_type(value.type))
        return info

    # -- pieces ----------------------------------------------------------------------------------------------------

    def _initializer(self, value: Value, constant: Constant) -> TensorProto:
        if constant.onnx_name and constant.onnx_name not in self.taken:
            self.names[value] = self._fresh(constant.onnx_name)
        return from_array(np.ascontiguousarray(constant.data).reshape(constant.data.shape), self._name(value))

    def _constant(self, array: np.ndarray | None, hint: str) -> str:
        if array is None:
            return ""
        name = self._fresh(f"{hint}.c")
        self.proto.initializer.append(from_array(array, name))
        return name

    def _node(self, node: Node) -> None:
        if isinstance(node.op, Host):
            self._host(node, node.op)
            return
        if self._decompose(node):
            return
        types = [v.tensor for v in node.inputs]
        form = node.op.onnx(*types)
        if len(node.outputs) != 1:
            raise IRError(f"{node.op.name}: {len(node.outputs)} results have no ONNX form")
        self._form(form, [self._name(v) for v in node.inputs], self._name(node.outputs[0]), _label(node))

    def _decompose(self, node: Node) -> bool:
        """Writes an op without an ONNX form as the ops that it is made of; False if it has a form."""
        if not decomposes(node.op):
            return False
        scratch = Graph(_names={v.name for v in self.graph.values()})
        inputs = [Value(scratch.fresh_name(v.name), v.type) for v in node.inputs]
        results = decompose(Build(scratch, sources=node.sources, hint=node.outputs[0].name), node.op, inputs)
        if results is None:
            return False
        self.names.update((inner, self._name(outer)) for inner, outer in zip(inputs, node.inputs, strict=True))
        made = {v for n in scratch.nodes for v in n.outputs}
        for inner, outer in zip(results, node.outputs, strict=True):
            if inner in made and inner not in self.names:
                self.names[inner] = self._name(outer)
        for value, constant in scratch.constants.items():
            self.proto.initializer.append(self._initializer(value, constant))
        for part in scratch.nodes:
            self._node(part)
        for inner, outer in zip(results, node.outputs, strict=True):
            if self._name(inner) != self._name(outer):
                self.proto.node.append(make_node("Identity", [self._name(inner)], [self._name(outer)]))
        return True

    def _form(self, form: OnnxForm, operands: list[str], result: str, label: str) -> None:
        """Writes a form's nodes, innermost first."""
        inputs: list[str] = []
        for part in range(len(operands)) if form.operands is None else form.operands:
            if isinstance(part, int):
                inputs.append(operands[part])
            else:
                inputs.append(self._fresh(f"{result}.{part.op_type}"))
                self._form(part, operands, inputs[-1], label)
        inputs += [self._constant(c, result) for c in form.constants]
        unused = [self._fresh(f"{result}.unused") for _ in range(form.result)]
        made = make_node(form.op_type, inputs, [*unused, result], name=self._fresh(f"/{label}")[1:])
        made.attribute.extend(_attribute(k, v) for k, v in form.attributes.items())
        self.proto.node.append(made)

    def _host(self, node: Node, op: Host) -> None:
        """Inlines a host op's model, renamed so that nothing clashes."""
        model = _at_opset(onnx.load_model_from_string(op.model), self.opsets[""], node)
        inner = model.graph
        prefix = self._fresh("host/")
        rename_values(inner, lambda name: prefix + name, lambda name: prefix + name)
        self.ir_version = max(self.ir_version, int(model.ir_version))
        for entry in model.opset_import:
            self.opsets.setdefault(entry.domain, int(entry.version))
        for outer, info in zip(node.inputs, inner.input, strict=True):
            self.opaque.setdefault(outer, info.type)
            self.proto.node.append(make_node("Identity", [self._name(outer)], [info.name]))
        self.proto.initializer.extend(inner.initializer)
        self.proto.node.extend(inner.node)
        for outer, info in zip(node.outputs, inner.output, strict=True):
            self.proto.node.append(make_node("Identity", [info.name], [self._name(outer)]))
            self.opaque[outer] = info.type


def _export_opset(graph: Graph) -> int:
    """OPSET, or the newest opset of a host op if that is newer: there is no way to convert down."""
    newest = OPSET
    for node in graph.nodes:
        if isinstance(node.op, Host):
            model = onnx.load_model_from_string(node.op.model)
            newest = max([newest, *(int(o.version) for o in model.opset_import if o.domain in ("", "ai.onnx"))])
    return newest


def _at_opset(model: ModelProto, opset: int, node: Node) -> ModelProto:
    """A host op's model at the opset of the export."""
    from onnx import version_converter

    versions = {o.domain: int(o.version) for o in model.opset_import}
    if versions.get("", opset) == opset:
        return model
    try:
        return version_converter.convert_version(model, opset)
    except (RuntimeError, ValueError, version_converter.ConvertError) as error:
        raise IRError(f"host op of {node.sources} cannot be brought to opset {opset}: {error}") from error


def _label(node: Node) -> str:
    return node.sources[0] if node.sources else f"{node.op.name}_{node.outputs[0].name}"


def _attribute(name: str, value: object) -> AttributeProto:
    if isinstance(value, np.ndarray):
        return make_attribute(name, from_array(value))
    if isinstance(value, list) and not value:
        return make_attribute(name, value, attr_type=AttributeProto.INTS)
    return make_attribute(name, value)


__all__ = ["OPSET", "export_graph"]
