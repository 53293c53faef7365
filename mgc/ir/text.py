"""The text form of graphs: `print_graph` and `parse_graph` (see `mgc.ir.parser`) are each other's inverse.

    graph "dcgan" (%z: f32[1,100,1,1]) -> ("image": %y) {
      %w = const f32[100,512,4,4] {group="generator", onnx="main.0.weight"} #0
      %h = conv_transpose(%z, %w) {strides=(1, 1), pads=(0, 0, 0, 0), ...} : f32[1,512,4,4] from "main.0"
      %y = unary(%h) {fn="tanh"} : f32[1,512,4,4] from "main.1"
    }
    absorbed {
      "main.2": "identity"
    }
    data {
      #0 "base64 of the little-endian bytes"
    }

Attributes that have their default value are left out. `//` starts a comment. Data of up to 16 elements stands inline.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import re
from typing import Any

import numpy as np

from mgc.ir.graph import Constant, Graph, Node, Value
from mgc.ir.op import ATTRIBUTES, IRError, Op
from mgc.ir.parser import parse_graph
from mgc.ir.types import DType, OpaqueType, TensorType

__all__ = ["parse_graph", "print_graph", "print_op"]

INLINE_ELEMENTS = 16
_PLAIN_NAME = re.compile(r"[\w./-]+", re.ASCII)


def print_graph(graph: Graph, *, elide: bool = False) -> str:
    """The graph as text. With `elide`, data that would stand at the end is left out (it does not parse back)."""
    return _Printer(elide).graph(graph)


def print_op(op: Op) -> str:
    """One op with its attributes, as in the text form; long data elided."""
    return _Printer(elide=True).op(op)


class _Printer:
    def __init__(self, elide: bool) -> None:
        self.elide = elide
        self.blobs: dict[bytes, int] = {}

    def graph(self, graph: Graph) -> str:
        inputs = ", ".join(f"{_ref(v)}: {v.type}" for v in graph.inputs)
        outputs = ", ".join(f"{_quoted(name)}: {_ref(v)}" for name, v in graph.outputs)
        lines = [f"graph {_quoted(graph.name)} ({inputs}) -> ({outputs}) {{"]
        lines += [f"  {self.constant(c)}" for c in graph.constants.values()]
        lines += [f"  {self.node(n)}" for n in graph.nodes]
        lines.append("}")
        if graph.absorbed:
            lines.append("absorbed {")
            lines += [f"  {_quoted(k)}: {_quoted(v)}" for k, v in graph.absorbed.items()]
            lines.append("}")
        if self.blobs and not self.elide:
            lines.append("data {")
            lines += [f'  #{k} "{base64.b64encode(blob).decode()}"' for blob, k in self.blobs.items()]
            lines.append("}")
        return "\n".join(lines) + "\n"

    def constant(self, constant: Constant) -> str:
        labels = {"group": constant.group, "onnx": constant.onnx_name}
        stated = ", ".join(f"{k}={_quoted(v)}" for k, v in labels.items() if v)
        stated = f" {{{stated}}}" if stated else ""
        return f"{_ref(constant.value)} = const {constant.value.type}{stated} {self.data(constant.data)}"

    def node(self, node: Node) -> str:
        results = f"{', '.join(map(_ref, node.outputs))} = " if node.outputs else ""
        operands = ", ".join(map(_ref, node.inputs))
        types = f" : {', '.join(str(v.type) for v in node.outputs)}" if node.outputs else ""
        sources = f" from {', '.join(map(_quoted, node.sources))}" if node.sources else ""
        fields = self.fields(node.op)
        return f"{results}{node.op.name}({operands}){' ' if fields else ''}{fields}{types}{sources}"

    def op(self, op: Op) -> str:
        return f"{op.name}{self.fields(op)}"

    def fields(self, thing: Any) -> str:
        """{name=value, ...} of the fields that differ from their defaults; "" if none does."""
        stated = [
            f"{f.name}={self.literal(getattr(thing, f.name))}"
            for f in dataclasses.fields(thing)
            if not _is_default(f, getattr(thing, f.name))
        ]
        return f"{{{', '.join(stated)}}}" if stated else ""

    def literal(self, value: Any) -> str:
        if value is None:
            return "none"
        if isinstance(value, (bool, np.bool_)):
            return "true" if value else "false"
        if isinstance(value, (int, np.integer)):
            return str(int(value))
        if isinstance(value, (float, np.floating)):
            return repr(float(value))
        if isinstance(value, str):
            return _quoted(value)
        if isinstance(value, bytes):
            return self.blob(value)
        if isinstance(value, tuple):
            inner = ", ".join(map(self.literal, value))
            return f"({inner},)" if len(value) == 1 else f"({inner})"
        if isinstance(value, DType):
            return value.value
        if isinstance(value, (TensorType, OpaqueType)):
            return str(value)
        if isinstance(value, Op):
            return self.op(value)
        name = type(value).__name__
        if ATTRIBUTES.get(name) is type(value):
            return f"{name}{self.fields(value) or '{}'}"
        raise IRError(f"an attribute of type {name} has no text form: register its class with register_attr")

    def data(self, data: np.ndarray) -> str:
        if data.size > INLINE_ELEMENTS:
            return self.blob(little_endian(data))
        kind = DType.of(data.dtype)
        numbers = [_number(x, kind) for x in data.reshape(-1)]
        return f"[{', '.join(numbers)}]" if data.ndim else numbers[0]

    def blob(self, data: bytes) -> str:
        if self.elide:
            return "elided"
        return f"#{self.blobs.setdefault(data, len(self.blobs))}"


def little_endian(data: np.ndarray) -> bytes:
    """The array's bytes, row-major, little-endian whatever the machine."""
    return data.astype(data.dtype.newbyteorder("<"), copy=False).tobytes()


def _is_default(field: dataclasses.Field[Any], value: Any) -> bool:
    if field.default is dataclasses.MISSING:
        return False
    # 0.0 and -0.0, 1 and True are equal but not the same text
    return type(value) is type(field.default) and repr(value) == repr(field.default)


def _number(x: Any, kind: DType) -> str:
    if kind is DType.BOOL:
        return "true" if x else "false"
    if not kind.is_float:
        return str(int(x))
    # the shortest decimal, if it reads back to the same number by way of a double
    short = repr(float(str(x)))
    return short if kind.numpy.type(float(short)) == x or np.isnan(x) else repr(float(x))


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=True)


def _ref(value: Value) -> str:
    return f"%{value.name}" if _PLAIN_NAME.fullmatch(value.name) else f"%{_quoted(value.name)}"
