"""Networks inside a step model: each as an ONNX model of its own, in inference form.

A step model applies its networks, several times some of them, and makes losses of the results. The network of a group
of parameters is found from the graph: the first application that depends on no other network's parameters (the
discriminator's to real samples), from the graph's inputs to the last node with a parameter, then what follows it in the
same module. Without the exporter's notes on modules only activations and changes of shape are taken to follow.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property

import onnx
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto

from mgc.frontend.inference_form import to_inference_form
from mgc.frontend.modules import Modules
from mgc.frontend.onnx_graph import NodeGraph, names_read
from mgc.functions.unary import UNARY

_ACTIVATIONS = {f.onnx for f in UNARY.values() if f.activation} | {"HardSwish", "Clip", "PRelu", "Softmax"}
_SHAPES = {"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Identity"}
_MAY_FOLLOW = _ACTIVATIONS | _SHAPES | {"Dropout", "BatchNormalization"}
_ELEMENTWISE = {"Add", "Sub", "Mul", "Div", "Neg", "Softplus", "ThresholdedRelu"}
_OF_SHAPE = frozenset(("Shape", "Size"))
_FLOATS = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16)


@dataclass(frozen=True)
class ExtractedNetwork:
    """One network of a step model. `name` is its group's, or its module's where a group holds several networks.

    `generates`: another network is applied to what it makes.
    """

    name: str
    group: str
    model: ModelProto
    generates: bool


def extract_networks(
    model: ModelProto, groups: Mapping[str, str], qualified: Mapping[str, str]
) -> tuple[list[ExtractedNetwork], list[str]]:
    """The networks of a step model, and a warning for each that cannot be told from its surroundings.

    `groups` maps initializers to the group that trains them, `qualified` to their names in PyTorch.
    """
    step = _Step(model, groups, qualified)
    found: list[ExtractedNetwork] = []
    warnings: list[str] = []
    for group in dict.fromkeys(groups.values()):
        parts = step.parts(group)
        for part in parts:
            name = group if len(parts) == 1 else step.top(part)
            try:
                alone = to_inference_form(_extract(step, part, name))
                found.append(ExtractedNetwork(name, group, alone, step.feeds_another(part)))
            except _Unclear as reason:
                warnings.append(f"network {name} cannot be taken out of the model: {reason}")
    return found, warnings


class _Unclear(Exception):  # noqa: N818 - becomes a warning
    """Why a network cannot be extracted."""


@dataclass
class _Step:
    """The graph of a step model, by node number. A node is dynamic if it depends on an input of the graph."""

    model: ModelProto
    groups: Mapping[str, str]
    qualified: Mapping[str, str]
    graph: NodeGraph = field(init=False)
    uses: list[frozenset[str]] = field(init=False)  # parameters that a node reads, through static nodes as well
    reaches: list[frozenset[str]] = field(init=False)  # parameters that a node depends on
    dynamic: list[bool] = field(init=False)

    def __post_init__(self) -> None:
        self.graph = graph = NodeGraph(self.model.graph.node)
        self.uses, self.reaches, self.dynamic = [], [], []
        static_uses: dict[str, frozenset[str]] = {}
        for k, (node, reads) in enumerate(zip(graph.nodes, graph.reads, strict=True)):
            before = [graph.producer[n] for n in reads if graph.producer.get(n, k) < k]
            self.dynamic.append(any(n in self._inputs for n in reads) or any(self.dynamic[j] for j in before))
            valued = [n for n in reads if n not in _of_type_only(node)]
            uses = {n for n in valued if n in self.groups}
            uses |= {p for n in valued for p in static_uses.get(n, ())}
            self.uses.append(frozenset(uses))
            self.reaches.append(frozenset(uses).union(*(self.reaches[j] for j in before)))
            if not self.dynamic[k]:
                static_uses |= {name: self.uses[k] for name in node.output if name}

    @property
    def nodes(self) -> list[NodeProto]:
        return self.graph.nodes

    @property
    def producer(self) -> Mapping[str, int]:
        return self.graph.producer

    @cached_property
    def modules(self) -> Modules:
        return Modules(self.qualified.values(), self.nodes)

    @cached_property
    def scoped(self) -> bool:
        """Whether nodes say which module they belong to."""
        return any(self.modules.of(node) for k, node in enumerate(self.nodes) if self.uses[k])

    def top(self, part: frozenset[str]) -> str:
        """The outermost module of a part's parameters."""
        return min(self.qualified.get(p, p).partition(".")[0] for p in part)

    def anchors(self, part: frozenset[str]) -> list[int]:
        """Dynamic nodes that read a part's parameters."""
        return [k for k in range(len(self.nodes)) if self.dynamic[k] and self.uses[k] & part]

    def parts(self, group: str) -> list[frozenset[str]]:
        """A group's parameters, apart where they are of several networks: modules that are each applied alone."""
        by_module: dict[str, set[str]] = {}
        for parameter, of in self.groups.items():
            if of == group:
                by_module.setdefault(self.qualified.get(parameter, parameter).partition(".")[0], set()).add(parameter)
        parts: list[set[str]] = []
        for piece in by_module.values():
            joined = [p for p in parts if not (self._alone(p, piece) and self._alone(piece, p))]
            parts = [p for p in parts if p not in joined] + [set().union(piece, *joined)]
        return [frozenset(p) for p in parts]

    def _alone(self, piece: set[str], other: set[str]) -> bool:
        """Whether a piece is applied to something that does not depend on the other."""
        return any(not self.reaches[k] & other for k in self.anchors(frozenset(piece)))

    def feeds_another(self, part: frozenset[str]) -> bool:
        """Whether a node reads parameters of another network and depends on this one's."""
        return any(self.uses[k] - part and self.reaches[k] & part for k in range(len(self.nodes)))

    def ancestors(self, numbers: Iterable[int], stop: frozenset[int] = frozenset()) -> set[int]:
        """The nodes that some nodes depend on, these included; not beyond `stop`."""
        import networkx as nx

        flow = nx.restricted_view(self.graph.flow, stop, ())
        return set().union(*({k} | nx.ancestors(flow, k) for k in numbers if k not in stop))

    def dynamic_inputs(self, k: int) -> list[str]:
        """A node's operands that depend on the graph's inputs."""
        return [
            n
            for n in self.graph.reads[k]
            if (self.dynamic[self.producer[n]] if n in self.producer else n in self._inputs)
        ]

    @cached_property
    def types(self) -> dict[str, ValueInfoProto]:
        """The types of all values, as far as they can be inferred."""
        model = self.model
        with suppress(RuntimeError, ValueError):  # inference refuses what it does not know
            model = onnx.shape_inference.infer_shapes(model, data_prop=True)
        return {info.name: info for info in (*model.graph.value_info, *model.graph.output, *model.graph.input)}

    @cached_property
    def _inputs(self) -> set[str]:
        return {i.name for i in self.model.graph.input} - {t.name for t in self.model.graph.initializer}


def _of_type_only(node: NodeProto) -> list[str]:
    """The operands whose values do not matter, only their shape or type."""
    return list(node.input[1:] if node.op_type == "CastLike" else node.input if node.op_type in _OF_SHAPE else ())


def _extract(step: _Step, part: frozenset[str], name: str) -> ModelProto:
    first = _application(step, part)
    foreign = frozenset(
        k for k in range(len(step.nodes)) if step.dynamic[k] and step.reaches[k] - part and k not in first
    )
    body = step.ancestors(first, foreign)
    body |= _tail(step, part, first, body, foreign)
    outputs = _outputs(step, body)
    if not outputs:
        raise _Unclear("it has no output that is a float")
    outside = frozenset(k for k in range(len(step.nodes)) if step.dynamic[k] and k not in body)
    needed = step.ancestors([step.producer[n] for n in outputs], outside)
    return _as_model(step, sorted(needed), outputs, name)


def _application(step: _Step, part: frozenset[str]) -> set[int]:
    """The nodes of one application that read the part's parameters: one that no other network comes before."""
    readers = {p: [k for k in step.anchors(part) if p in step.uses[k]] for p in part}
    readers = {p: found for p, found in readers.items() if found}
    if not readers:
        raise _Unclear("nothing that depends on an input reads its parameters")
    return {min(found, key=lambda k: (len(step.reaches[k] - part), k)) for found in readers.values()}


def _tail(step: _Step, part: frozenset[str], first: set[int], body: set[int], foreign: frozenset[int]) -> set[int]:
    """What follows the last nodes with parameters and belongs to the network."""
    if step.scoped:
        return _tail_by_module(step, part, first, body, foreign)
    ends = [n for k in sorted(first) for n in step.nodes[k].output if n and not _read_in(step, n, body)]
    return {k for end in ends for k in _chain(step, end)}


def _read_in(step: _Step, name: str, body: set[int]) -> bool:
    return any(k in body for k in step.graph.readers.get(name, ()))


def _tail_by_module(
    step: _Step, part: frozenset[str], first: set[int], body: set[int], foreign: frozenset[int]
) -> set[int]:
    prefixes = _prefixes(step, part, first)
    tail: set[int] = set()
    made = {n for k in body if step.dynamic[k] and step.reaches[k] & part for n in step.nodes[k].output}
    for k in range(min(first), len(step.nodes)):
        node, inputs = step.nodes[k], step.dynamic_inputs(k)
        if k in body or k in foreign or not any(n in made for n in inputs):
            continue
        beside = [n for n in inputs if n not in made and n in step.producer]
        if any(step.reaches[step.producer[n]] for n in beside):  # of another application
            continue
        module = step.modules.of(node)
        if any(module == p or module.startswith(p + ".") for p in prefixes):
            tail |= {k} | step.ancestors([step.producer[n] for n in beside])
            made |= set(node.output)
    return tail


def _prefixes(step: _Step, part: frozenset[str], first: set[int]) -> set[str]:
    """The outermost modules of the nodes that hold no other network."""
    others = {step.modules.of(node) for k, node in enumerate(step.nodes) if step.uses[k] - part}
    prefixes: set[str] = set()
    for k in first:
        parts = step.modules.of(step.nodes[k]).split(".")
        for length in range(1, len(parts) + 1):
            prefix = ".".join(parts[:length])
            if prefix and not any(o == prefix or o.startswith(prefix + ".") for o in others):
                prefixes.add(prefix)
                break
    return prefixes


def _chain(step: _Step, end: str) -> list[int]:
    """Without notes on modules: nodes of one dynamic operand, one after the other, as long as nothing else reads it."""
    outputs = {o.name for o in step.model.graph.output}
    followed = _is_followed(step, end)
    allowed = _MAY_FOLLOW | _ELEMENTWISE if followed else _MAY_FOLLOW  # before a loss, what is not an activation is it
    chain: list[int] = []
    while True:
        readers = step.graph.readers.get(end, [])
        if end in outputs or len(readers) != 1:
            break
        (k,) = readers
        node = step.nodes[k]
        if step.uses[k] or step.dynamic_inputs(k) != [end] or node.op_type not in allowed:
            break
        chain.append(k)
        end = node.output[0]
    readers = step.graph.readers.get(end, [])
    if followed and readers and step.uses[readers[0]]:  # without what the network that follows begins with
        begin = _begins_with(step, readers[0])
        kinds = [step.nodes[k].op_type for k in chain]
        return chain[: len(chain) - len(begin)] if begin and kinds[-len(begin) :] == begin else chain
    return chain


def _is_followed(step: _Step, name: str) -> bool:
    """Whether a node with parameters depends on a value: another network, and not just a loss."""
    import networkx as nx

    followers = {j for k in step.graph.readers.get(name, ()) for j in (k, *nx.descendants(step.graph.flow, k))}
    return any(step.uses[k] for k in followers)


def _begins_with(step: _Step, anchor: int) -> list[str]:
    """The kinds of nodes between an input of the graph and another application of the network that a node is of."""
    for k in step.anchors(step.uses[anchor]):
        kinds: list[str] = []
        while True:
            inputs = step.dynamic_inputs(k)
            if len(inputs) != 1:
                break
            if inputs[0] not in step.producer:
                return kinds[::-1]
            k = step.producer[inputs[0]]
            if step.uses[k]:
                break
            kinds.append(step.nodes[k].op_type)
    return []


def _outputs(step: _Step, body: set[int]) -> list[str]:
    """What no node of the body reads, in the order in which it is made."""
    found: list[str] = []
    for k in sorted(body):
        for name in step.nodes[k].output[:1]:
            info = step.types.get(name)
            is_float = info is None or info.type.tensor_type.elem_type in _FLOATS
            if step.dynamic[k] and is_float and not _read_in(step, name, body):
                found.append(name)
    return found


def _as_model(step: _Step, numbers: Sequence[int], outputs: Sequence[str], name: str) -> ModelProto:
    source, types = step.model, step.types
    result = ModelProto()
    result.CopyFrom(source)
    graph = result.graph
    nodes = [step.nodes[k] for k in numbers]
    made = {n for node in nodes for n in node.output}
    read = dict.fromkeys(n for node in nodes for n in names_read(node))
    initializers = {t.name: t for t in source.graph.initializer}
    inputs = [n for n in read if n not in made and n not in initializers]
    missing = [n for n in (*inputs, *outputs) if n not in types]
    if missing:
        raise _Unclear(f"the type of {missing[0]} is not known")
    for part in (graph.node, graph.initializer, graph.input, graph.output, graph.value_info):
        del part[:]
    graph.name = name
    graph.node.extend(nodes)
    graph.initializer.extend(t for n, t in initializers.items() if n in read)
    ordered = [i.name for i in source.graph.input if i.name in inputs]
    graph.input.extend(types[n] for n in [*ordered, *(n for n in inputs if n not in ordered)])
    graph.output.extend(types[n] for n in outputs)
    return result
