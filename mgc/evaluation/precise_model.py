"""A model as ONNX Runtime computes it right: functions that it has no good float32 kernel of in float64, integer
products without saturation.

Its Sigmoid is off by 2e-4 relative at -10 and 0 from -18 on, Elu, Selu and Celu subtract 1 from e^x, Gelu adds 1 to erf
or tanh. What comes after (a logarithm, a division) can make much of that. Products of uint8 and int8 are added in pairs
of 16 bits on processors without instructions for them: 255 (127 + 127) is 32,767 there. Those of two uint8 are exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import (
    AttributeProto,
    GraphProto,
    ModelProto,
    NodeProto,
    TensorProto,
    helper,
    inliner,
    numpy_helper,
    shape_inference,
)

_LARGEST = 1 << 30  # bytes of a model: protobuf holds 2 GiB
_INTEGER_WEIGHTS = {
    "QLinearConv": (3, 5), "QLinearMatMul": (3, 5), "QGemm": (3, 5), "ConvInteger": (1, 3), "MatMulInteger": (1, 3)
}  # fmt: skip
"""Op of an integer product whose operand 2 is the zero point of the first -> numbers of the weights and their zero."""
_DYNAMIC = "DynamicQuantizeLinear"


def parsed(model: Path | bytes) -> ModelProto:
    """A model from its file or its bytes. Raises whatever is raised for what is no model."""
    return onnx.load_model_from_string(model) if isinstance(model, bytes) else onnx.load(model)


def loaded(model: Path | bytes) -> ModelProto | None:
    """The model with its functions inlined; None if it is no model, or too large to be handed on."""
    try:
        proto = parsed(model)
    except Exception:  # whatever is wrong with the file, ONNX Runtime says so when it loads it
        return None
    if proto.functions:
        proto = inliner.inline_local_functions(proto)
    return proto if proto.ByteSize() <= _LARGEST else None


def precise(model: ModelProto) -> ModelProto:
    """The model with such nodes in float64 and with weights of 0 to 255, where it has any."""
    model = unsigned(model)
    if not any(n.op_type in _DOUBLE for g in _graphs(model.graph) for n in g.node):
        return model
    return rewritten(shape_inference.infer_shapes(model))


def unsigned(model: ModelProto) -> ModelProto:
    """The model with int8 weights of uint8 products stored plus 128, and their zero points too: the same products."""
    graph = model.graph
    known = {t.name: t for t in graph.initializer}
    made = {o: n.op_type for n in graph.node for o in n.output}
    added: dict[str, np.ndarray] = {}

    def plus_128(name: str) -> str:
        added[f"{name}/unsigned"] = numpy_helper.to_array(known[name]).astype(np.int16) + 128
        return f"{name}/unsigned"

    changed: list[NodeProto] = []
    for node in graph.node:
        changed.append(node)
        operands = dict(enumerate(node.input))
        weight, point = _INTEGER_WEIGHTS.get(node.op_type, (0, 0))
        zero, by = operands.get(2, ""), operands.get(point, "")
        bytes_in = known[zero].data_type == TensorProto.UINT8 if zero in known else made.get(zero) == _DYNAMIC
        names = [operands[weight], *([by] if by else [])] if weight and bytes_in else []
        if not names or any(n not in known or known[n].data_type != TensorProto.INT8 for n in names):
            continue
        new = NodeProto()
        new.CopyFrom(node)
        new.input.extend([""] * (point + 1 - len(new.input)))
        new.input[weight] = plus_128(names[0])
        new.input[point] = plus_128(by) if by else "128/unsigned"
        added.setdefault("128/unsigned", np.array(128))
        changed[-1] = new
    if not added:
        return model
    result = ModelProto()
    result.CopyFrom(model)
    del result.graph.node[:]
    result.graph.node.extend(changed)
    result.graph.initializer.extend(numpy_helper.from_array(a.astype(np.uint8), n) for n, a in added.items())
    return result


def rewritten(model: ModelProto) -> ModelProto:
    """The model with every float32 node of these functions in float64; types as its value infos say."""
    _rewrite(model.graph, {})
    return model


def _rewrite(graph: GraphProto, outer: Mapping[str, int]) -> None:
    """A graph inside of one whose tensors have the types `outer`."""
    types = {
        **outer,
        **{t.name: t.data_type for t in graph.initializer},
        **{v.name: v.type.tensor_type.elem_type for v in (*graph.input, *graph.value_info, *graph.output)},
    }
    nodes: list[NodeProto] = []
    for node in graph.node:
        for inner in _inner(node):
            _rewrite(inner, types)
        known = node.op_type in _DOUBLE and node.domain in ("", "ai.onnx")
        nodes += _in_double(node) if known and types.get(node.input[0]) == TensorProto.FLOAT else [node]
    del graph.node[:]
    graph.node.extend(nodes)


def _inner(node: NodeProto) -> Iterator[GraphProto]:
    """The graphs in a node's attributes."""
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.g
        yield from attribute.graphs


def _graphs(graph: GraphProto) -> Iterator[GraphProto]:
    """The graph and all inside of it."""
    yield graph
    for node in graph.node:
        for inner in _inner(node):
            yield from _graphs(inner)


class _Nodes:
    """Nodes of float64 tensors in the place of one."""

    def __init__(self, node: NodeProto) -> None:
        self.node, self.made = node, list[NodeProto]()
        self.attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}

    def attribute(self, name: str, default: float) -> float:
        return float(self.attributes.get(name, default))

    def __call__(self, op: str, *operands: str | float, to: int | None = None) -> str:
        names = [o if isinstance(o, str) else self._constant(o) for o in operands]
        node = NodeProto(op_type=op, input=names, output=[self._name()])
        if to is not None:
            node.attribute.append(helper.make_attribute("to", to))
        self.made.append(node)
        return self.made[-1].output[0]

    def _name(self) -> str:
        return f"{self.node.output[0]}/in_double_{len(self.made)}"

    def _constant(self, number: float) -> str:
        value = helper.make_tensor("value", TensorProto.DOUBLE, (), [number])
        self.made.append(helper.make_node("Constant", [], [self._name()], value=value))
        return self.made[-1].output[0]


def _in_double(node: NodeProto) -> list[NodeProto]:
    nodes = _Nodes(node)
    y = _DOUBLE[node.op_type](nodes, nodes("Cast", node.input[0], to=TensorProto.DOUBLE))
    nodes("Cast", y, to=TensorProto.FLOAT)
    nodes.made[-1].output[0] = node.output[0]
    return nodes.made


def _sigmoid(k: _Nodes, x: str) -> str:
    return k("Div", 1.0, k("Add", k("Exp", k("Neg", x)), 1.0))


def _elu(k: _Nodes, x: str, alpha: float, rate: float = 1.0) -> str:
    """x above 0, alpha (e^u - 1) with u = x / rate below, where e^u - 1 = tanh(u/2) (e^u + 1)."""
    u = k("Mul", x, 1 / rate)
    below = k("Mul", k("Mul", k("Tanh", k("Mul", u, 0.5)), k("Add", k("Exp", u), 1.0)), alpha)
    return k("Where", k("Greater", x, 0.0), x, below)


def _selu(k: _Nodes, x: str) -> str:
    y = _elu(k, x, k.attribute("alpha", 1.67326319217681884765625))
    return k("Mul", y, k.attribute("gamma", 1.05070102214813232421875))


def _celu(k: _Nodes, x: str) -> str:
    alpha = k.attribute("alpha", 1.0)
    return _elu(k, x, alpha, alpha)


def _gelu(k: _Nodes, x: str) -> str:
    if k.attributes.get("approximate", b"none") == b"tanh":
        cubic = k("Mul", k("Mul", k("Mul", x, x), x), 0.044715)
        return k("Div", x, k("Add", k("Exp", k("Mul", k("Add", x, cubic), -2 * math.sqrt(2 / math.pi))), 1.0))
    erf = k("Cast", k("Erf", k("Cast", k("Mul", x, math.sqrt(0.5)), to=TensorProto.FLOAT)), to=TensorProto.DOUBLE)
    return k("Mul", k("Mul", x, 0.5), k("Add", erf, 1.0))


def _swish(k: _Nodes, x: str) -> str:
    return k("Mul", x, _sigmoid(k, k("Mul", x, k.attribute("alpha", 1.0))))


_DOUBLE: Mapping[str, Callable[[_Nodes, str], str]] = {
    "Sigmoid": _sigmoid,
    "Elu": lambda k, x: _elu(k, x, k.attribute("alpha", 1.0)),
    "Selu": _selu,
    "Celu": _celu,
    "Gelu": _gelu,
    "Swish": _swish,
}
