"""Text form -> graph. The grammar is described in `mgc.ir.text`."""

from __future__ import annotations

import base64
import binascii
import dataclasses
from itertools import pairwise
from typing import Any

import numpy as np

from mgc.ir.graph import Constant, Graph, Node, Value
from mgc.ir.lexer import Lexer, Token
from mgc.ir.op import ATTRIBUTES, REGISTRY, Op
from mgc.ir.types import DType, OpaqueType, TensorType, ValueType

_DTYPES = {d.value: d for d in DType}


def parse_graph(text: str) -> Graph:
    """The graph that a text describes. IRError with line:column says what was expected.

    Types are taken as written; `mgc.ir.verifier.verify` checks them. Ops and attribute classes must be registered:
    import the modules that define them first (level 1 always is).
    """
    import mgc.ir.ops  # noqa: F401 - registers the level-1 ops

    return _Parser(text).parse()


@dataclasses.dataclass(frozen=True)
class _Blob:
    """Data that stands at the end of the text."""

    key: int
    token: Token


class _Parser:
    def __init__(self, text: str) -> None:
        self.lex = Lexer(text)
        self.graph = Graph()
        self.values: dict[str, Value] = {}
        self.blobs = self._read_blobs()

    def parse(self) -> Graph:
        lex, graph = self.lex, self.graph
        lex.word("graph")
        graph.name = lex.string("the graph's name")
        lex.punctuation("(")
        while not lex.skip(")"):
            name = self._new_name()
            lex.punctuation(":")
            value = Value(name, self._type())
            self.values[name] = value
            graph.inputs.append(value)
            self._comma(")")
        lex.punctuation("->")
        lex.punctuation("(")
        outputs: list[tuple[str, str, Token]] = []
        while not lex.skip(")"):
            name = lex.string("an output's name")
            lex.punctuation(":")
            outputs.append((name, lex.value_name(), lex.tokens[lex.index - 1]))
            self._comma(")")
        lex.punctuation("{")
        while not lex.skip("}"):
            self._statement()
        for name, ref, token in outputs:
            if ref not in self.values:
                raise lex.error(f"output %{ref} is not defined", token)
            graph.outputs.append((name, self.values[ref]))
        if lex.skip("absorbed"):
            lex.punctuation("{")
            while not lex.skip("}"):
                key = lex.string("a node's name or '}'")
                lex.punctuation(":")
                graph.absorbed[key] = lex.string("a reason")
        if lex.skip("data"):
            self._skip_blobs()
        if lex.token.kind != "end":
            raise lex.expected("the end")
        graph._names.update(self.values)
        return graph

    # -- data at the end -------------------------------------------------------------------------------------------

    def _read_blobs(self) -> dict[int, bytes]:
        """Data by number. Read first: the graph refers forward to it."""
        tokens = self.lex.tokens
        blobs: dict[int, bytes] = {}
        for key, data in pairwise(tokens):
            if key.kind == "blob" and data.kind == "string":
                try:
                    blobs[int(key.text[1:])] = base64.b64decode(data.text[1:-1], validate=True)
                except binascii.Error as error:
                    raise self.lex.error(f"bad base64: {error}", data) from error
        return blobs

    def _skip_blobs(self) -> None:
        self.lex.punctuation("{")
        while not self.lex.skip("}"):
            self.lex.take("blob", "'#number' or '}'")
            self.lex.take("string", "base64 data")

    def _blob(self) -> bytes:
        if self.lex.token.text == "elided":
            raise self.lex.error("the data was elided when this was printed")
        token = self.lex.take("blob", "'#number'")
        key = int(token.text[1:])
        if key not in self.blobs:
            raise self.lex.error(f"no data #{key} at the end", token)
        return self.blobs[key]

    # -- statements ------------------------------------------------------------------------------------------------

    def _comma(self, closing: str) -> None:
        """A comma between entries; none is needed before the closing mark."""
        if not self.lex.skip(",") and self.lex.token.text != closing:
            raise self.lex.expected(f"',' or '{closing}'")

    def _new_name(self) -> str:
        token = self.lex.token
        name = self.lex.value_name()
        if name in self.values:
            raise self.lex.error(f"%{name} is defined twice", token)
        return name

    def _statement(self) -> None:
        lex = self.lex
        names: list[str] = []
        if lex.token.kind == "value":
            names.append(self._new_name())
            while lex.skip(","):
                names.append(self._new_name())
            lex.punctuation("=")
        if lex.token.kind != "word":
            raise lex.expected("an op, 'const', %name or '}'")
        if lex.token.text == "const" and len(names) == 1:
            self._constant(names[0])
        else:
            self._node(names)

    def _constant(self, name: str) -> None:
        lex = self.lex
        lex.word("const")
        where = lex.token
        type_ = self._type()
        if not isinstance(type_, TensorType):
            raise lex.error("a constant has a tensor type", where)
        labels = self._fields() if lex.token.text == "{" else {}
        if not labels.keys() <= {"group", "onnx"} or not all(isinstance(v, str) for v in labels.values()):
            raise lex.error("a constant has the labels group and onnx, both strings", where)
        value = Value(name, type_)
        self.values[name] = value
        data = self._data(type_)
        self.graph.constants[value] = Constant(value, data, labels.get("group", ""), labels.get("onnx", ""))

    def _data(self, type_: TensorType) -> np.ndarray:
        lex, where, dtype = self.lex, self.lex.token, type_.dtype.numpy
        if where.kind == "blob" or where.text == "elided":
            blob = self._blob()
            if len(blob) != type_.nbytes:
                raise lex.error(f"{len(blob)} bytes of data where {type_} needs {type_.nbytes}", where)
            return np.frombuffer(blob, dtype.newbyteorder("<")).astype(dtype, copy=False).reshape(type_.shape)
        numbers = [self._literal()] if type_.rank == 0 else self._list()
        if len(numbers) != type_.size:
            raise lex.error(f"{len(numbers)} numbers where {type_} needs {type_.size}", where)
        if not all(isinstance(n, (bool, int, float)) for n in numbers):
            raise lex.error("data are numbers, true or false", where)
        try:
            data = np.array(numbers, np.float64).astype(dtype) if type_.dtype.is_float else np.array(numbers, dtype)
            return data.reshape(type_.shape)
        except (OverflowError, ValueError, TypeError) as error:
            raise lex.error(f"data does not fit {type_}: {error}", where) from error

    def _list(self) -> list[Any]:
        self.lex.punctuation("[")
        numbers: list[Any] = []
        while not self.lex.skip("]"):
            numbers.append(self._literal())
            self._comma("]")
        return numbers

    def _node(self, names: list[str]) -> None:
        lex = self.lex
        where = lex.token
        op_name = lex.take("word", "an op").text
        lex.punctuation("(")
        operands: list[Value] = []
        while not lex.skip(")"):
            at = lex.token
            name = lex.value_name()
            if name not in self.values:
                raise lex.error(f"%{name} is not defined before", at)
            operands.append(self.values[name])
            self._comma(")")
        fields = self._fields() if lex.token.text == "{" else {}
        types: list[ValueType] = []
        if names:
            lex.punctuation(":")
            types.append(self._type())
            while lex.skip(","):
                types.append(self._type())
        if len(types) != len(names):
            raise lex.error(f"{len(names)} results but {len(types)} types", where)
        sources: list[str] = []
        if lex.skip("from"):
            sources.append(lex.string("a node's name"))
            while lex.skip(","):
                sources.append(lex.string("a node's name"))
        op = self._make(op_name, fields, where)
        if not isinstance(op, Op):
            raise lex.error(f"{op_name!r} is an attribute, not an op", where)
        outputs = tuple(Value(n, t) for n, t in zip(names, types, strict=True))
        self.values.update({v.name: v for v in outputs})
        self.graph.nodes.append(Node(op, tuple(operands), outputs, tuple(sources)))

    # -- attributes ------------------------------------------------------------------------------------------------

    def _fields(self) -> dict[str, Any]:
        lex = self.lex
        fields: dict[str, Any] = {}
        lex.punctuation("{")
        while not lex.skip("}"):
            name = lex.take("word", "an attribute's name or '}'")
            if name.text in fields:
                raise lex.error(f"attribute {name.text!r} is given twice", name)
            lex.punctuation("=")
            fields[name.text] = self._literal()
            self._comma("}")
        return fields

    def _make(self, name: str, fields: dict[str, Any], where: Token) -> Any:
        """An op or attribute class by its name, made from its fields."""
        cls = REGISTRY.get(name) or ATTRIBUTES.get(name)
        if cls is None:
            raise self.lex.error(f"no op or attribute class {name!r} is known", where)
        known = {f.name: f for f in dataclasses.fields(cls)}
        for field in fields:
            if field not in known:
                raise self.lex.error(f"{name} has no attribute {field!r}; it has {', '.join(known) or 'none'}", where)
        missing = [
            f.name
            for f in known.values()
            if f.name not in fields and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        ]
        if missing:
            raise self.lex.error(f"{name} needs {', '.join(missing)}", where)
        return cls(**fields)

    def _literal(self) -> Any:
        lex = self.lex
        token = lex.token
        if token.kind == "number":
            lex.index += 1
            return _number(token.text)
        if token.kind == "string":
            return lex.string("a string")
        if token.kind == "blob" or token.text == "elided":
            return self._blob()
        if lex.skip("("):
            entries: list[Any] = []
            while not lex.skip(")"):
                entries.append(self._literal())
                self._comma(")")
            return tuple(entries)
        if token.kind != "word":
            raise lex.expected("a number, string, (tuple), type, attribute or #data")
        if token.text in ("inf", "nan"):
            lex.index += 1
            return float(token.text)
        if token.text in ("true", "false", "none"):
            lex.index += 1
            return {"true": True, "false": False, "none": None}[token.text]
        if token.text == "opaque" or token.text in _DTYPES:
            after = lex.tokens[lex.index + 1]
            if token.text == "opaque" or after.text == "[":
                return self._type()
            lex.index += 1
            return _DTYPES[token.text]
        lex.index += 1
        return self._make(token.text, self._fields() if lex.token.text == "{" else {}, token)

    def _type(self) -> ValueType:
        lex = self.lex
        if lex.skip("opaque"):
            return OpaqueType()
        if lex.token.text not in _DTYPES:
            raise lex.expected("a type (f32[1,2], opaque)")
        dtype = _DTYPES[lex.take("word", "an element type").text]
        where = lex.token
        dims = self._list()
        if not all(type(d) is int and d >= 0 for d in dims):
            raise lex.error("dimensions are whole numbers", where)
        return TensorType(dtype, tuple(dims))


def _number(text: str) -> int | float:
    try:
        return int(text)
    except ValueError:
        return float(text)
