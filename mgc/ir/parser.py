"""Text form -> module or graph. The grammar is described in `mgc.ir.text`."""

from __future__ import annotations

import base64
import binascii
import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import takewhile
from typing import Any

import numpy as np

# importing them makes their ops and attribute classes known
import mgc.ir.mapped
import mgc.ir.ops  # noqa: F401
from mgc.ir.graph import Constant, Graph, Node, Value
from mgc.ir.module import Entry, Module
from mgc.ir.op import ATTRIBUTES, REGISTRY, IRError, Op
from mgc.ir.training import State
from mgc.ir.types import DType, OpaqueType, TensorType, ValueType
from mgc.lexer import STRING, Lexer, Token, grammar

_GRAMMAR = grammar(
    "//",
    value=rf"%(?:[\w./-]+|{STRING})",
    node=rf"\^(?:[\w./-]+|{STRING})",
    blob=r"\#\d+",
    punctuation=r"->|[(){}\[\],:=+]",
)

_DTYPES = {d.value: d for d in DType}
_NAMED = {"true": True, "false": False, "none": None, "inf": float("inf"), "nan": float("nan")}


def parse_graph(text: str, *, file: str = "") -> Graph:
    """The graph that a text describes. IRError with [file:]line:column says what was expected.

    Types are taken as written; `mgc.ir.verifier.verify` checks them. Ops and attribute classes of levels 1 and 2 are
    known; others once the modules that define them are imported.
    """
    with _depth(file):
        return _Parser(text, file, {}).only_graph()


def parse_module(text: str, blobs: Mapping[str, np.ndarray] | None = None, *, file: str = "") -> Module:
    """The module that a text and the data of its side file (see `print_module`) describe; errors as `parse_graph`'s.

    A text that is a graph alone gives a module with this graph as its entry "testing".
    """
    with _depth(file):
        return _Parser(text, file, blobs or {}).module()


@contextmanager
def _depth(file: str) -> Iterator[None]:
    """IRError for a text that nests deeper than Python calls."""
    try:
        yield
    except RecursionError as error:
        raise IRError(f"{file or 'the text'}: it nests too deep") from error


class _Parser:
    def __init__(self, text: str, file: str, blobs: Mapping[str, np.ndarray]) -> None:
        self.lex = Lexer(text, _GRAMMAR, IRError, file)
        self.blobs = {**blobs, **self._read_blobs()}
        self._start(Graph())

    def _start(self, graph: Graph) -> None:
        self.graph = graph
        self.values: dict[str, Value] = {}
        self.nodes: dict[str, Node] = {}  # by their first result

    def only_graph(self) -> Graph:
        graph = self._graph()
        self._end()
        return graph

    def module(self) -> Module:
        lex = self.lex
        if not lex.skip("module"):
            graph = self.only_graph()
            return Module(graph.name, (Entry("testing", "test", graph),))
        name = lex.string("the module's name")
        attributes = self._fields() if lex.token.text == "{" else {}
        states: list[State] = []
        while lex.token.text == "state":
            where = lex.take("word", "'state'")
            states.append(self._instance("state", State, self._fields(), where))
        entries: list[Entry] = []
        while lex.skip("entry"):
            entries.append(self._entry())
        self._end()
        return Module(name, tuple(entries), tuple(states), attributes)

    def _entry(self) -> Entry:
        where = self.lex.token
        name = self.lex.string("the entry's name")
        fields = self._fields()
        graph = self._graph()
        attributes = self._fields() if self.lex.skip("attributes") else {}
        return self._instance("entry", Entry, {"name": name, **fields, "graph": graph, "attributes": attributes}, where)

    def _end(self) -> None:
        if self.lex.skip("data"):
            self._skip_blobs()
        if self.lex.token.kind != "end":
            raise self.lex.expected("the end")

    def _graph(self) -> Graph:
        lex = self.lex
        self._start(graph := Graph())
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
            outputs.append((name, lex.name("value"), lex.tokens[lex.index - 1]))
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
        graph._names.update(self.values)
        return graph

    # -- data at the end -------------------------------------------------------------------------------------------

    def _read_blobs(self) -> dict[str, np.ndarray]:
        """Data by number. Read first: the graph refers forward to it."""
        tokens = self.lex.tokens
        blobs: dict[str, np.ndarray] = {}
        for k, key in enumerate(tokens):
            if key.kind == "blob" and tokens[k + 1].kind == "string":
                pieces = takewhile(lambda t: t.kind == "string", tokens[k + 1 :])
                try:
                    data = base64.b64decode("".join(t.text[1:-1] for t in pieces), validate=True)
                except binascii.Error as error:
                    raise self.lex.error(f"bad base64: {error}", tokens[k + 1]) from error
                blobs[key.text[1:]] = np.frombuffer(data, np.uint8)
        return blobs

    def _skip_blobs(self) -> None:
        lex = self.lex
        lex.punctuation("{")
        while not lex.skip("}"):
            lex.take("blob", "'#number' or '}'")
            lex.take("string", "base64 data")
            while lex.token.kind == "string":
                lex.index += 1

    def _blob(self) -> np.ndarray:
        if self.lex.token.text == "elided":
            raise self.lex.error("the data was elided when this was printed")
        token = self.lex.take("blob", "'#number'")
        if token.text[1:] not in self.blobs:
            raise self.lex.error(f"no data {token.text} at the end or in the file beside", token)
        return self.blobs[token.text[1:]]

    # -- statements ------------------------------------------------------------------------------------------------

    def _comma(self, closing: str) -> None:
        """A comma between entries; none is needed before the closing mark."""
        if not self.lex.skip(",") and self.lex.token.text != closing:
            raise self.lex.expected(f"',' or '{closing}'")

    def _new_name(self) -> str:
        token = self.lex.token
        name = self.lex.name("value")
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
            if blob.nbytes != type_.nbytes:
                raise lex.error(f"{blob.nbytes} bytes of data where {type_} needs {type_.nbytes}", where)
            stored = np.frombuffer(blob.tobytes() if blob.ctypes.data % 8 else blob, dtype.newbyteorder("<"))
            return stored.astype(dtype, copy=False).reshape(type_.shape)
        splat = lex.skip("splat")
        numbers = [self._literal()] if splat or type_.rank == 0 else self._list()
        if len(numbers) != type_.size and not splat:
            raise lex.error(f"{len(numbers)} numbers where {type_} needs {type_.size}", where)
        if not all(isinstance(n, (bool, int, float)) for n in numbers):
            raise lex.error("data are numbers, true or false", where)
        try:
            data = np.array(numbers, np.float64).astype(dtype) if type_.dtype.is_float else np.array(numbers, dtype)
            return np.full(type_.shape, data[0]) if splat else data.reshape(type_.shape)
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
            name = lex.name("value")
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
        node = Node(op, tuple(operands), outputs, tuple(sources), lex.location(where))
        self.graph.nodes.append(node)
        self.nodes.update(dict.fromkeys(names[:1], node))

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
        return self._instance(name, cls, fields, where)

    def _instance(self, name: str, cls: type[Any], fields: Mapping[str, Any], where: Token) -> Any:
        known = {f.name: f for f in dataclasses.fields(cls) if f.init}
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
        match token.kind:
            case "number":
                lex.index += 1
                return _number(token.text)
            case "string":
                text = lex.string("a string")
                while lex.skip("+"):
                    text += lex.string("a string")
                return text
            case "blob":
                return self._blob().tobytes()
            case "value":
                return self._known(lex.name("value"), token)
            case "node":
                name = lex.name("node")
                self._known(name, token)
                if name not in self.nodes:
                    raise lex.error(f"{token.text} is no node's first result", token)
                return self.nodes[name]
            case "punctuation" if lex.skip("("):
                return self._items()
            case "punctuation" if lex.skip("{"):
                return self._dict()
            case "word":
                return self._word()
        raise lex.expected("a number, string, (tuple), type, {dict}, attribute, %value, ^node or #data")

    def _known(self, name: str, at: Token) -> Value:
        if name not in self.values:
            raise self.lex.error(f"{at.text} is not in the graph", at)
        return self.values[name]

    def _items(self) -> tuple[Any, ...]:
        """The rest of (a, b, ...)."""
        items: list[Any] = []
        while not self.lex.skip(")"):
            items.append(self._literal())
            self._comma(")")
        return tuple(items)

    def _dict(self) -> dict[Any, Any]:
        """The rest of {key: value, ...}."""
        found: dict[Any, Any] = {}
        while not self.lex.skip("}"):
            key = self._literal()
            self.lex.punctuation(":")
            found[key] = self._literal()
            self._comma("}")
        return found

    def _word(self) -> Any:
        """A literal that begins with a word."""
        lex = self.lex
        token = lex.token
        if token.text == "elided":
            return self._blob()
        if token.text == "opaque" or (token.text in _DTYPES and lex.tokens[lex.index + 1].text == "["):
            return self._type()
        if token.text == "graph" and lex.tokens[lex.index + 1].kind == "string":
            outside = self.graph, self.values, self.nodes
            graph = self._graph()
            self.graph, self.values, self.nodes = outside
            return graph
        lex.index += 1
        if token.text in _NAMED:
            return _NAMED[token.text]
        if token.text in _DTYPES:
            return _DTYPES[token.text]
        if token.text == "array":
            type_ = self._type()
            if not isinstance(type_, TensorType):
                raise lex.error("an array has a tensor type", token)
            return self._data(type_)
        if token.text == "set" and lex.skip("("):
            return frozenset(self._items())
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
