"""Detached values that the dynamo exporter's optimiser left out, put back from its notes.

The exporter keeps a `detach` as an Identity. Its optimiser takes that out, and then makes one of what is computed
twice, once of the detached value and once of the value itself. The notes on the nodes still have the traced calls: a
node reads a detached value where its call lists %detach, and the other one of two such computations where its call
lists another number of the same name (%linear_7 where the graph has %linear_5).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from onnx import GraphProto, NodeProto

from mgc.frontend.errors import ModelError
from mgc.frontend.lost_parameters import KEEP_DYNAMO
from mgc.frontend.modules import DETACH, traced_call
from mgc.frontend.onnx_graph import fresh_name

TWIN = ".twin"
"""What the names of nodes and values end in that were taken apart."""

_DETACH = re.compile(r"detach(_\d+)?", re.ASCII)
_PARAMETER = re.compile(r"[pbc]_\w+", re.ASCII)


def restore_detached(graph: GraphProto) -> None:
    """Puts back, in place, an Identity with the note of a detach wherever a node's traced call reads a detached value
    that the graph does not have; and takes apart what was made one of such a value and of the value itself.

    ModelError where it cannot be told which operand was detached.
    """
    calls = [traced_call(node) for node in graph.node]
    if any(_DETACH.fullmatch(name) for _, names in calls for name in names):
        _Restorer(graph, calls).run()


def without_restored(sources: Iterable[str], known: Collection[str]) -> tuple[str, ...]:
    """Names of nodes as the file has them, which has those `known`: without those put back, twins under one name."""
    names = (s if s in known else s.removesuffix(TWIN) for s in sources)
    return tuple(dict.fromkeys(n for n in names if n in known))


class _Restorer:
    """`calls` are the name and the arguments of each node's traced call; a call may have become several nodes."""

    def __init__(self, graph: GraphProto, calls: list[tuple[str, list[str]]]) -> None:
        self.graph, self.nodes, self.calls = graph, list(graph.node), calls
        self.made: dict[str, int] = {o: k for k, node in enumerate(self.nodes) for o in node.output if o}
        self.defined = {name for name, _ in calls} | set(self.made)
        self.taken = set(self.made) | {t.name for t in graph.initializer} | {i.name for i in graph.input}
        self.before: dict[int, list[NodeProto]] = {}
        self.after: dict[int, list[NodeProto]] = {}
        self.cut: dict[str, str] = {}  # detached values, and what they are of
        self.tainted: set[str] = set()
        self.twins: dict[str, str] = {}

    def run(self) -> None:
        groups: dict[str, list[int]] = {}
        for k, (name, _) in enumerate(self.calls):
            groups.setdefault(name or f"node {k}", []).append(k)
        for group in groups.values():
            arguments = self.calls[group[0]][1]
            for lost in dict.fromkeys(a for a in arguments if _DETACH.fullmatch(a) and a not in self.defined):
                self._detach(group, arguments, lost)
        if not self.cut:
            return
        for k, node in enumerate(self.nodes):
            self._untwin(k, node)
        order: list[NodeProto] = []
        for k, node in enumerate(self.nodes):
            order += [*self.before.get(k, ()), node, *self.after.get(k, ())]
        kept = [NodeProto.FromString(n.SerializeToString()) for n in order]
        del self.graph.node[:]
        self.graph.node.extend(kept)

    def _names(self, value: str) -> set[str]:
        """What a traced call may call a value."""
        return {value, self.calls[self.made[value]][0]} if value in self.made else {value}

    def _detach(self, group: list[int], arguments: list[str], lost: str) -> None:
        """Lets a call's nodes read the argument `lost` as a detached value."""
        inside = {o for k in group for o in self.nodes[k].output}
        known = set(self.made) | {i.name for i in self.graph.input}
        read = [
            (k, i, name)
            for k in group
            for i, name in enumerate(self.nodes[k].input)
            if name in known and name not in inside and name not in self.cut
        ]
        values = list(dict.fromkeys(name for _, _, name in read))
        unknown = [v for v in values if not self._names(v) & set(arguments)]
        listed = [a for a in arguments if not _PARAMETER.fullmatch(a)]
        missing = [a for a in listed if a not in self.defined and a not in known]
        if len(unknown) == len(dict.fromkeys(missing)):
            source = unknown[list(dict.fromkeys(missing)).index(lost)]
            places = [(k, i) for k, i, name in read if name == source]
        elif len(read) == len(listed):
            places = [(k, i) for (k, i, _), a in zip(read, listed, strict=True) if a == lost]
            source = self.nodes[places[0][0]].input[places[0][1]]
        else:
            raise ModelError(
                f"it reads a detached value (%{lost}) that the exporter's optimiser left out, and nothing tells which "
                "of its operands that is",
                where=f"node {self.nodes[group[0]].name!r} ({self.nodes[group[0]].op_type})",
                todo=f"export with {KEEP_DYNAMO}",
            )
        name = fresh_name(lost, self.taken)
        self.taken.add(name)
        self.cut[name] = source
        self.tainted.add(name)
        identity = NodeProto(op_type="Identity", name=name, input=[source], output=[name])
        identity.metadata_props.add(key="namespace", value=DETACH)
        self.before.setdefault(min(k for k, _ in places), []).append(identity)
        for k, i in places:
            self.nodes[k].input[i] = name

    def _untwin(self, k: int, node: NodeProto) -> None:
        """Lets a node read what was computed of the value itself, where its call says that it did."""
        own, arguments = self.calls[k]
        for i, name in enumerate(node.input):
            if name not in self.tainted or name in self.cut or self.calls[self.made[name]][0] == own:
                continue
            if not self._names(name) & set(arguments) and self._is_twin(self.calls[self.made[name]][0], arguments):
                node.input[i] = self._twin(name)
        if any(name in self.tainted for name in node.input):
            self.tainted.update(o for o in node.output if o)

    def _is_twin(self, name: str, arguments: Iterable[str]) -> bool:
        base = re.sub(r"_\d+$", "", name)
        return any(a not in self.defined and re.sub(r"_\d+$", "", a) == base for a in arguments)

    def _twin(self, value: str) -> str:
        """The value without what was detached on the way to it."""
        if value in self.cut:
            return self.cut[value]
        if value not in self.tainted:
            return value
        if value not in self.twins:
            k = self.made[value]
            copy = NodeProto.FromString(self.nodes[k].SerializeToString())
            copy.name = copy.name and copy.name + TWIN
            for i, name in enumerate(copy.input):
                copy.input[i] = self._twin(name)
            for i, name in enumerate(copy.output):
                if name:
                    copy.output[i] = self.twins[name] = fresh_name(name + TWIN, self.taken)
                    self.taken.add(copy.output[i])
            self.after.setdefault(k, []).append(copy)
        return self.twins[value]
