"""The graph: SSA values, nodes in topological order, constants and parameters with their data.

A `Graph` is mutable through a handful of methods; passes build a new graph or edit one in place and the verifier
(`mgc.ir.verifier`) checks the result.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mgc.ir.op import IRError, Op
from mgc.ir.types import TensorType, ValueType, tensor_type_of

_NOT_IN_NAMES = re.compile(r"[^\w./-]")


@dataclass(eq=False)
class Value:
    """An SSA value. Identity is the object; `name` is unique in its graph (the text form prints `%name`)."""

    name: str
    type: ValueType

    @property
    def shape(self) -> tuple[int, ...]:
        """Static shape; IRError for an opaque value."""
        return self.tensor.shape

    @property
    def tensor(self) -> TensorType:
        """The tensor type; IRError for an opaque value."""
        if not isinstance(self.type, TensorType):
            raise IRError(f"%{self.name} is opaque: it has no static shape")
        return self.type

    def __repr__(self) -> str:
        return f"%{self.name}: {self.type}"


@dataclass(eq=False)
class Node:
    """One application of an op. `sources` names the ONNX nodes it came from, for diagnostics and tracing.

    `location` is the line of the text it was parsed from ("file.ir:12"), "" for a node that a pass made.
    """

    op: Op
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    sources: tuple[str, ...] = ()
    location: str = ""
    _index: _Uses | None = field(default=None, init=False, repr=False)

    def __setattr__(self, name: str, value: Any) -> None:
        index = self._index
        if index is None or name not in ("op", "inputs", "outputs"):
            object.__setattr__(self, name, value)
            return
        index.remove(self)
        object.__setattr__(self, name, value)
        index.add(self)

    def take_sources(self, *others: Node) -> None:
        """Lets this node stand for the ONNX nodes of others too."""
        self.sources = tuple(dict.fromkeys([*self.sources, *(s for n in others for s in n.sources)]))

    def error(self, message: str) -> IRError:
        """An IRError about this node, with all that helps to find it.

        Such as `file.ir:12: unary: no function 'tanhh' (%y, from "/net/act/Tanh")`.
        """
        results = ", ".join(f"%{v.name}" for v in self.outputs) or "no result"
        origin = f", from {', '.join(map(json.dumps, self.sources))}" if self.sources else ""
        name = "" if message.startswith(f"{self.op.name}:") else f"{self.op.name}: "
        return IRError(f"{self.location}{': ' if self.location else ''}{name}{message} ({results}{origin})")


class _Uses:
    """Who makes and who reads each value of a graph, as long as the graph has just these nodes.

    Nodes tell it when their op, operands or results are changed. `edited` are the nodes for which something changed.
    """

    def __init__(self, nodes: Sequence[Node]) -> None:
        self.nodes: list[Node] = []
        self.producer: dict[Value, Node] = {}
        self.readers: dict[Value, list[Node]] = {}
        self.edited: dict[Node, None] = {}
        for node in nodes:
            self.nodes.append(node)
            self.add(node)
        self.edited.clear()

    def add(self, node: Node) -> None:
        node._index = self
        self.producer.update(dict.fromkeys(node.outputs, node))
        for value in node.inputs:
            self.readers.setdefault(value, []).append(node)
        self.edited[node] = None

    def remove(self, node: Node) -> None:
        node._index = None
        for value in node.outputs:
            if self.producer.get(value) is node:
                del self.producer[value]
        for value in node.inputs:
            self.readers[value].remove(node)
            if value in self.producer:
                self.edited[self.producer[value]] = None


@dataclass(eq=False)
class Constant:
    """A value with data known at compile time. `group` is the parameter group ("" for a plain constant).

    `onnx_name` is the initializer it came from ("" if it was computed).
    """

    value: Value
    data: np.ndarray
    group: str = ""
    onnx_name: str = ""


@dataclass(eq=False)
class Graph:
    """A level-1 or level-2 graph. `outputs` pairs each ONNX output name with its value."""

    name: str = "graph"
    inputs: list[Value] = field(default_factory=list)
    outputs: list[tuple[str, Value]] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    constants: dict[Value, Constant] = field(default_factory=dict)
    # ONNX nodes with no op of their own left, each with the reason ("folded into a constant", "identity", ...):
    # together with the `sources` of the nodes they account for every node of the input model.
    absorbed: dict[str, str] = field(default_factory=dict)
    _names: set[str] = field(default_factory=set, repr=False)
    _numbers: dict[str, int] = field(default_factory=dict, repr=False)
    _uses: _Uses = field(default_factory=lambda: _Uses(()), repr=False)

    # -- building ------------------------------------------------------------------------------------------------

    def fresh_name(self, hint: str = "v") -> str:
        """A name not yet used in this graph, made from `hint` (reduced to the grammar's characters).

        A copied or parsed graph remembers only the names of the values it has: what a pass that begins with a copy
        calls its values follows from the graph alone, not from what passes before it dropped.
        """
        base = _NOT_IN_NAMES.sub("_", hint) or "v"
        name, k = base, self._numbers.get(base, 1)
        while name in self._names:
            name, k = f"{base}.{k}", k + 1
        self._numbers[base] = k  # all below are taken, and names are never given back
        self._names.add(name)
        return name

    def add_input(self, name: str, type: ValueType) -> Value:
        """Adds a graph input; the ONNX input name is kept exactly."""
        if name in self._names:
            raise IRError(f"graph input {name!r} is declared twice")
        self._names.add(name)
        value = Value(name, type)
        self.inputs.append(value)
        return value

    def add_constant(self, data: np.ndarray, name: str = "c", *, group: str = "", onnx_name: str = "") -> Value:
        """Adds a constant and returns its value; `data` is not copied (unless it is strided) and must not change."""
        data = np.asarray(data, order="C")
        value = Value(self.fresh_name(name), tensor_type_of(data))
        self.constants[value] = Constant(value, data, group, onnx_name)
        return value

    def add(
        self, op: Op, *inputs: Value, name: str = "", sources: Sequence[str] = (), at: int | Node | None = None
    ) -> Value:
        """Adds an op with one result (type-checked by its rule) and returns it."""
        (value,) = self.add_multi(op, *inputs, names=(name,), sources=sources, at=at)
        return value

    def add_multi(
        self,
        op: Op,
        *inputs: Value,
        names: Sequence[str] = (),
        sources: Sequence[str] = (),
        at: int | Node | None = None,
    ) -> tuple[Value, ...]:
        """Adds an op with any number of results. `at`: see `insert`."""
        types = op.infer(*(v.type for v in inputs))
        hints = [*names, *[""] * (len(types) - len(names))]
        outputs = tuple(Value(self.fresh_name(h or op.name), t) for h, t in zip(hints, types, strict=True))
        self.insert(Node(op, tuple(inputs), outputs, tuple(dict.fromkeys(sources))), at)
        return outputs

    def insert(self, node: Node, at: int | Node | None = None) -> None:
        """Puts a node before the one at an index, before another node, or at the end."""
        place = len(self.nodes) if at is None else at if isinstance(at, int) else self.nodes.index(at)
        if self._uses.nodes == self.nodes:
            self._uses.nodes.insert(place, node)
            self._uses.add(node)
        self.nodes.insert(place, node)

    def remove(self, *nodes: Node) -> None:
        """Takes nodes out. Their results must be read no more when the pass ends."""
        uses = self._index()
        for node in nodes:
            uses.remove(node)
            uses.nodes.remove(node)
            self.nodes.remove(node)

    # -- asking --------------------------------------------------------------------------------------------------

    def data(self, value: Value) -> np.ndarray | None:
        """The data of a constant; None for any other value."""
        constant = self.constants.get(value)
        return None if constant is None else constant.data

    def values(self) -> list[Value]:
        """Every value: inputs, constants, then results in the nodes' order."""
        return [*self.inputs, *self.constants, *(v for n in self.nodes for v in n.outputs)]

    def _index(self) -> _Uses:
        """Who makes and reads what; made anew if nodes came or went by other ways than this class's methods."""
        if self._uses.nodes != self.nodes:
            self._uses = _Uses(self.nodes)
        return self._uses

    def producer(self, value: Value) -> Node | None:
        """The node that makes a value; None for an input or constant."""
        return self._index().producer.get(value)

    def uses(self, value: Value) -> list[Node]:
        """The nodes that read a value, once per operand position: in order, those edited of late at the end."""
        return list(self._index().readers.get(value, ()))

    def holds(self, node: Node) -> bool:
        """Whether a node is in the graph."""
        index = self._index()  # first: making it anew is what tells nodes which one they are in
        return node._index is index

    def edited(self) -> list[Node]:
        """The nodes that changed since this was asked last, and those that read their results or whose results they
        read no more.
        """
        index = self._index()
        edited, index.edited = index.edited, {}
        return [n for e in edited for n in (e, *(r for v in e.outputs for r in index.readers.get(v, ())))]

    def producers(self) -> dict[Value, Node]:
        """Which node makes each value (inputs and constants are absent)."""
        return {v: n for n in self.nodes for v in n.outputs}

    def users(self) -> dict[Value, list[Node]]:
        """The nodes that read each value, in order, once per operand position."""
        users: dict[Value, list[Node]] = {}
        for node in self.nodes:
            for value in node.inputs:
                users.setdefault(value, []).append(node)
        return users

    def output_values(self) -> set[Value]:
        """The values that leave the graph."""
        return {v for _, v in self.outputs}

    # -- editing -------------------------------------------------------------------------------------------------

    def bypass(self, node: Node, images: Sequence[Value], why: str) -> None:
        """Takes a node out and lets its readers read `images`; `why` accounts for its ONNX sources."""
        self.remove(node)
        self.replace(dict(zip(node.outputs, images, strict=True)))
        for source in node.sources:
            self.absorbed.setdefault(source, why)

    def replace(self, mapping: Mapping[Value, Value], *, keep: Collection[Node] = ()) -> None:
        """Redirects every use of each key (operands and graph outputs) to its image; chains are followed.

        The operands of the nodes in `keep` stay.
        """

        def image(v: Value) -> Value:
            while v in mapping:
                v = mapping[v]
            return v

        readers = self._index().readers
        for node in dict.fromkeys(n for v in mapping for n in readers.get(v, ())):
            if node not in keep:
                node.inputs = tuple(image(v) for v in node.inputs)
        self.outputs = [(name, image(v)) for name, v in self.outputs]

    def prune(self) -> None:
        """Drops nodes and constants that reach no output; ONNX sources that nothing else has go to `absorbed`."""
        live = self.output_values()
        kept: list[Node] = []
        dropped: list[Node] = []
        for node in reversed(self.nodes):
            if any(v in live for v in node.outputs):
                live.update(node.inputs)
                kept.append(node)
            else:
                dropped.append(node)
        self.nodes = kept[::-1]
        self.constants = {v: c for v, c in self.constants.items() if v in live}
        held = {s for n in self.nodes for s in n.sources}
        for node in dropped:
            for source in node.sources:
                if source not in held:
                    self.absorbed.setdefault(source, "its result is not used")

    def drop_stale_reasons(self) -> None:
        """Forgets why a source was absorbed where some node still stands for it."""
        held = {s for n in self.nodes for s in n.sources}
        self.absorbed = {s: why for s, why in self.absorbed.items() if s not in held}

    def sort(self) -> None:
        """Puts the nodes in topological order, stable with respect to the present one. IRError on a cycle."""
        producer = self._index().producer
        order = depth_first(self.nodes, lambda n: (producer[v] for v in n.inputs if v in producer))
        made: set[Value] = set()
        for node in order:
            for value in node.inputs:
                if value in producer and value not in made:
                    raise node.error(f"cycle through %{value.name}")
            made.update(node.outputs)
        self.nodes = order

    def copy(self) -> Graph:
        """A copy that shares only the constants' data."""
        return self.rewrite(lambda op: op)

    def rewrite(self, change: Callable[[Op], Op]) -> Graph:
        """A copy with every op replaced by `change(op)`; the result types are kept as they are."""
        new = Graph(self.name, absorbed=dict(self.absorbed))
        image: dict[Value, Value] = {}

        def copied(v: Value) -> Value:
            image[v] = Value(v.name, v.type)
            return image[v]

        new.inputs = [copied(v) for v in self.inputs]
        for v, c in self.constants.items():
            value = copied(v)
            new.constants[value] = Constant(value, c.data, c.group, c.onnx_name)
        for n in self.nodes:
            inputs = tuple(image[v] for v in n.inputs)
            new.nodes.append(Node(change(n.op), inputs, tuple(copied(v) for v in n.outputs), n.sources, n.location))
        new.outputs = [(name, image[v]) for name, v in self.outputs]
        new._names = {v.name for v in image}
        return new


def depth_first(nodes: Iterable[Node], needs: Callable[[Node], Iterable[Node]]) -> list[Node]:
    """Every node after all that it needs, unless that goes round in a circle; else in the order given.

    networkx has it too, but its import alone takes longer than compiling a small network.
    """
    order: dict[Node, None] = {}
    entered: set[Node] = set()
    for root in nodes:
        stack = [(root, iter(needs(root)))] if root not in entered else []
        entered.add(root)
        while stack:
            node, rest = stack[-1]
            following = next((n for n in rest if n not in entered), None)
            if following is None:
                order[node] = None
                stack.pop()
            else:
                entered.add(following)
                stack.append((following, iter(needs(following))))
    return list(order)


def evaluate(graph: Graph, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Runs a level-1 graph by its ops' NumPy meanings; feeds and results under the ONNX names."""
    env: dict[Value, np.ndarray] = {
        v: np.asarray(feeds[v.name]) if isinstance(v.type, TensorType) else feeds[v.name] for v in graph.inputs
    }
    env.update({v: c.data for v, c in graph.constants.items()})
    for node in graph.nodes:
        env.update(zip(node.outputs, node.op.evaluate(*(env[v] for v in node.inputs)), strict=True))
    return {name: env[v] for name, v in graph.outputs}
