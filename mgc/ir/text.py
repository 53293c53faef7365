"""The text form of modules and graphs; `mgc.ir.parser` reads it back.

    // a header: lines of comment, kept as they are
    module "dcgan" {
      seed=0,
    }
    state {name="G.w", kind="parameter", initial=array f32[100,512,4,4] #0}
    entry "testing" {kind="test", micro_batch=16}
    graph "dcgan" (%z: f32[1,100,1,1]) -> ("image": %y) {
      %w = const f32[100,512,4,4] {group="generator", onnx="main.0.weight"} #0
      %h = conv_transpose(%z, %w) {strides=(1, 1), pads=(0, 0, 0, 0), ...} : f32[1,512,4,4] from "main.0"
      %y = unary(%h) {fn="tanh"} : f32[1,512,4,4] from "main.1"
    }
    absorbed {
      "main.2": "identity"
    }
    attributes {
      ranges={%h: (0.0, 1.0)},
    }

Attributes that have their default value are left out. Literals: none, true, numbers, "strings" (long ones cut, with +
between the pieces), (tuples,), {key: value}, set(..), types, `array TYPE data`, ops and attribute classes with their
fields in braces, %value and ^node (by its first result) of the entry's graph. An attribute may be a graph. Data of up
to 16 elements stands inline, more elements that are all alike as `splat NUMBER`, other data under a number: #0. In a
module it lies in a side file; in a graph alone, at its end, in base64:

    data {
      #0 "base64 of the little-endian bytes"
    }
"""

from __future__ import annotations

import base64
import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

import numpy as np

from mgc.functions.printable import printable
from mgc.ir.graph import Constant, Graph, Node, Value
from mgc.ir.module import Entry, Module
from mgc.ir.op import ATTRIBUTES, IRError, Op
from mgc.ir.parser import parse_graph, parse_module
from mgc.ir.types import DType, OpaqueType, TensorType

__all__ = ["header_of", "parse_graph", "parse_module", "print_graph", "print_module", "print_op"]

INLINE_ELEMENTS = 16
WIDTH = 120
_STRING_PIECE = 80
_WORD = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_PLAIN_NAME = re.compile(r"[\w./-]+", re.ASCII)
_STRING_OR_BREAK = re.compile(r'"(?:[^"\\]|\\.)*"|, | (?=\+ )')


def print_graph(graph: Graph, *, elide: bool = False) -> str:
    """The graph as text. With `elide`, data that would stand at the end is left out (it does not parse back)."""
    printer = _Printer(elide)
    lines = printer.graph(graph)
    if printer.blobs:
        lines.append("data {")
        for number, blob in printer.blobs.items():
            text = base64.b64encode(blob.tobytes()).decode()
            pieces = [f'"{text[k : k + WIDTH]}"' for k in range(0, len(text), WIDTH)] or ['""']
            lines.append(f"  #{number} " + "\n    ".join(pieces))
        lines.append("}")
    return printable("\n".join(lines) + "\n")


def print_module(
    module: Module, *, header: Sequence[str] = (), elide: bool = False
) -> tuple[str, dict[str, np.ndarray]]:
    """The module as text, and the data of its side file by number (with `elide`, none: it does not parse back).

    `header`: lines of comment at the top, without the slashes.
    """
    printer = _Printer(elide)
    lines = [f"// {line}".replace("\n", " ") for line in header]
    lines.append(f"module {_quoted(module.name)}{printer.block(module.attributes)}")
    lines += [_wrapped(f"state {printer.fields(s)}") for s in module.states]
    for entry in module.entries:
        lines += printer.entry(entry)
    return printable("\n".join(lines) + "\n"), printer.blobs


def header_of(text: str) -> tuple[str, ...]:
    """The lines of comment at the top of a text, without the slashes."""
    lines: list[str] = []
    for line in text.splitlines():
        if not line.startswith("//"):
            break
        lines.append(line.removeprefix("//").removeprefix(" "))
    return tuple(lines)


def print_op(op: Op) -> str:
    """One op with its attributes, as in the text form; long data elided."""
    return _Printer(elide=True).op(op)


class _Printer:
    """Makes the text. `blobs`: the bytes that stand elsewhere, by number; `known`: the graph's values and nodes."""

    def __init__(self, elide: bool = False) -> None:
        self.elide = elide
        self.blobs: dict[str, np.ndarray] = {}
        self.known: set[Value | Node] = set()
        self._numbers: dict[bytes, str] = {}

    def entry(self, entry: Entry) -> list[str]:
        labels = {f.name: f for f in dataclasses.fields(Entry) if f.name not in ("name", "graph", "attributes")}
        lines = [f"entry {_quoted(entry.name)} {self.fields(entry, labels)}", *self.graph(entry.graph)]
        self.known = {*entry.graph.values(), *entry.graph.nodes}
        if entry.attributes:
            lines.append(f"attributes{self.block(entry.attributes)}")
        self.known = set()
        return lines

    def block(self, attributes: Mapping[str, Any]) -> str:
        """The attributes in braces, a line each."""
        if not attributes:
            return ""
        for name in attributes:
            if not _WORD.fullmatch(name):
                raise IRError(f"an attribute's name is a word, not {name!r}")
        try:
            lines = [self.attribute(name, value) for name, value in attributes.items()]
        except IRError as error:
            raise IRError(f"the attributes {', '.join(attributes)} have no text form: {error}") from error
        return "\n".join([" {", *lines, "}"])

    def attribute(self, name: str, value: Any) -> str:
        if isinstance(value, Graph):  # one of its own, which refers to nothing outside
            return "\n".join([f"  {name}=", *(f"  {line}" for line in self.graph(value)), "  ,"])
        return _wrapped(f"  {name}={self.literal(value)},")

    def graph(self, graph: Graph) -> list[str]:
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
        return [_wrapped(line) for line in lines]

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

    def fields(self, thing: Any, which: Mapping[str, dataclasses.Field[Any]] | None = None) -> str:
        """{name=value, ...} of the fields that differ from their defaults; "" if none does."""
        stated = [
            f"{f.name}={self.literal(getattr(thing, f.name))}"
            for f in (dataclasses.fields(thing) if which is None else which.values())
            if f.init and not _is_default(f, getattr(thing, f.name))
        ]
        return f"{{{', '.join(stated)}}}" if stated else ""

    def literal(self, value: Any) -> str:
        match value:
            case None:
                return "none"
            case bool() | np.bool_():
                return "true" if bool(value) else "false"
            case int() | np.integer():
                return str(int(value))
            case float() | np.floating():
                return repr(float(value))
            case str():
                pieces = range(0, len(value), _STRING_PIECE) if len(value) > 2 * WIDTH else ()
                return " + ".join(_quoted(value[k : k + _STRING_PIECE]) for k in pieces) or _quoted(value)
            case bytes():
                return self.blob(np.frombuffer(value, np.uint8))
            case tuple():
                inner = ", ".join(map(self.literal, value))
                return f"({inner},)" if len(value) == 1 else f"({inner})"
            case dict():
                return f"{{{', '.join(f'{self.literal(k)}: {self.literal(v)}' for k, v in value.items())}}}"
            case frozenset():
                return f"set({', '.join(sorted(map(self.literal, value)))})"
            case np.ndarray():
                shape = ",".join(map(str, value.shape))
                return f"array {DType.of(value.dtype).value}[{shape}] {self.data(value)}"
            case DType():
                return value.value
            case TensorType() | OpaqueType():
                return str(value)
            case Op():
                return self.op(value)
            case Value():
                return self.reference(value, _ref(value))
            case Node(outputs=(first, *_)):
                return self.reference(value, f"^{_ref(first)[1:]}")
        name = type(value).__name__
        if ATTRIBUTES.get(name) is type(value):
            return f"{name}{self.fields(value) or '{}'}"
        raise IRError(f"an attribute of type {name} has no text form: register its class with register_attr")

    def reference(self, thing: Value | Node, text: str) -> str:
        if thing not in self.known:
            raise IRError(f"{text} is none of the graph's: only an entry may refer to values and nodes, to its own")
        return text

    def data(self, data: np.ndarray) -> str:
        if data.size > INLINE_ELEMENTS:
            flat = data.reshape(-1)
            if flat[0] == flat[-1] and flat.tobytes() == flat[:1].tobytes() * flat.size:
                return f"splat {self.data(flat[0])}"
            return self.blob(data)
        kind = DType.of(data.dtype)
        numbers = [_number(x, kind) for x in data.reshape(-1)]
        return f"[{', '.join(numbers)}]" if data.ndim else numbers[0]

    def blob(self, data: np.ndarray) -> str:
        if self.elide:
            return "elided"
        flat = np.ascontiguousarray(data, data.dtype.newbyteorder("<")).reshape(-1).view(np.uint8)
        number = self._numbers.setdefault(blake2b(flat.data).digest(), str(len(self.blobs)))
        self.blobs.setdefault(number, flat)
        return f"#{number}"


def _wrapped(line: str) -> str:
    """The line cut where ", " or " +" stands outside of strings, so that lines have about `WIDTH` characters."""
    if len(line) <= WIDTH:
        return line
    indent = " " * (len(line) - len(line.lstrip()) + 4)
    lines: list[str] = []
    start, fits, room = 0, 0, WIDTH
    for found in _STRING_OR_BREAK.finditer(line):
        if found.group()[0] == '"':
            continue
        if found.end() - start > room and fits > start:
            lines.append(line[start:fits].rstrip())
            start, room = fits, WIDTH - len(indent)
        fits = found.end()
    if len(line) - start > room and fits > start:
        lines.append(line[start:fits].rstrip())
        start = fits
    lines.append(line[start:])
    return f"\n{indent}".join(lines)


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
