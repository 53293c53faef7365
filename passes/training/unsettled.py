"""What phases make anew though a script may have made it once: values of one network that another one reads."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from mgc.ir.graph import Graph, Node, Value
from mgc.ir.ops import Cast, Detach, Reshape, Transpose
from mgc.ir.training import Phase


@dataclass(frozen=True)
class Unsettled:
    """Phase `later` computes values anew, with the group of phase `earlier` as that phase left it: the values, and what
    the model calls them.
    """

    later: str
    earlier: str
    values: tuple[Value, ...]
    names: tuple[str, ...]


def unsettled_warning(later: str, earlier: str, names: Sequence[str]) -> str:
    """What the user is told."""
    given = " ".join(f"--once {name}" for name in names)
    return (
        f"phase {later} computes {', '.join(names)} anew, with the parameters that phase {earlier} has updated; a "
        f"script that makes it once in an iteration and uses it in both wants {given} (docs/training.md)"
    )


def shared_warning(later: str, earlier: str) -> str:
    """What the user is told of `--dataflow shared`, where it makes a difference."""
    return (
        f"dataflow shared: every phase reads the parameters as they were before the iteration, so phase {later} sees "
        f"{earlier} before its update; a script that steps {earlier} first sees it after that"
    )


def unsettled(
    graph: Graph,
    phases: Sequence[Phase],
    groups: Mapping[str, Sequence[str]],
    once: Collection[str],
    names: Mapping[str, str],
) -> list[Unsettled]:
    """What is unsettled in a step model whose initializers are constants. `groups` are the phases that train each,
    `names` what the model calls the graph's values.

    A phase reads an earlier phase's network in one of two ways. Its own parameters' effect goes through that network
    (the generator's step through the discriminator): then it must be as the earlier phase left it. Or the network makes
    what its own parameters are applied to (the discriminator's step on samples): a script may have made that before the
    update, if it was made then, and nothing but `once` says so.
    """
    found: list[Unsettled] = []
    outputs = dict(graph.outputs)
    fixed = {outputs[name] for name in once if name in outputs}
    for k, later in enumerate(phases):
        before = _above(graph, [outputs[p.loss] for p in phases[:k]], frozenset())
        for earlier in phases[:k]:
            theirs, own = _parameters(graph, groups, earlier.name), _parameters(graph, groups, later.name)
            made = _Made(graph, outputs[later.loss], theirs - own, own, fixed)
            chains = [_as_it_was(graph, v) for v in made.values()]
            again = [chain for chain in chains if any(v in before for v in chain)]
            if again:
                called = dict.fromkeys(_name(graph, chain, names) for chain in again)
                first = dict.fromkeys(chain[0] for chain in again)
                found.append(Unsettled(later.name, earlier.name, tuple(first), tuple(called)))
                fixed |= set(first)
    return found


def updated_before(
    graph: Graph, phases: Sequence[Phase], groups: Mapping[str, Sequence[str]], fixed: Collection[Value]
) -> list[tuple[str, str]]:
    """(later phase, earlier one) where the later one's loss depends on the group of the earlier one, not by way of the
    values `fixed`.
    """
    outputs = dict(graph.outputs)
    found: list[tuple[str, str]] = []
    for k, later in enumerate(phases):
        read = _above(graph, [outputs[later.loss]], fixed)
        found += [(later.name, p.name) for p in phases[:k] if _parameters(graph, groups, p.name) & read]
    return found


def _parameters(graph: Graph, groups: Mapping[str, Sequence[str]], phase: str) -> set[Value]:
    return {v for v, c in graph.constants.items() if phase in groups.get(c.onnx_name, ())}


def _above(graph: Graph, values: Collection[Value], stop: Collection[Value]) -> set[Value]:
    """Values and all that they are computed from, not beyond `stop`."""
    found = set(values)
    for node in reversed(graph.nodes):
        if any(v in found and v not in stop for v in node.outputs):
            found.update(node.inputs)
    return found


class _Made:
    """What `theirs` make that `own` parameters are applied to, in the computation of a loss."""

    def __init__(
        self, graph: Graph, loss: Value, theirs: set[Value], own: set[Value], fixed: Collection[Value]
    ) -> None:
        above = _above(graph, [loss], fixed)
        self.nodes = [n for n in graph.nodes if any(v in above and v not in fixed for v in n.outputs)]
        self.of_theirs = self._from(theirs) - set(fixed)
        self.of_own = self._from(own)
        self.fed = self._from(set(graph.inputs))
        self.theirs_alone = {v for v in self.of_theirs if v not in self.fed}  # parameters, and what is made of them

    def _from(self, values: set[Value]) -> set[Value]:
        found = set(values)
        for node in self.nodes:
            if any(v in found for v in node.inputs):
                found.update(node.outputs)
        return found

    def values(self) -> list[Value]:
        """Those that meet what depends on `own` alone, and after which `theirs` are not applied again."""
        found: dict[Value, None] = {}
        for node in self.nodes:
            meets = any(v in self.of_own and v not in self.of_theirs for v in node.inputs)
            for v in node.inputs if meets else ():
                made = v in self.of_theirs and v in self.fed and v not in self.of_own
                if made and not self._applied_after(v):
                    found[v] = None
        return list(found)

    def _applied_after(self, value: Value) -> bool:
        after = self._from({value})
        return any(
            any(v in after for v in node.inputs) and any(v in self.theirs_alone for v in node.inputs)
            for node in self.nodes
        )


def _as_it_was(graph: Graph, value: Value) -> list[Value]:
    """A value and what it is but for changes of shape, those come last."""
    chain = [value]
    node: Node | None = graph.producer(value)
    while node is not None and isinstance(node.op, Reshape | Transpose | Cast | Detach):
        chain.insert(0, node.inputs[0])
        node = graph.producer(node.inputs[0])
    return chain


def _name(graph: Graph, chain: Sequence[Value], names: Mapping[str, str]) -> str:
    """What the model calls a value: by the output that it is, else before changes of shape."""
    outputs = {v: name for name, v in graph.outputs}
    called = [outputs[v] for v in chain if v in outputs] + [names[v.name] for v in chain if v.name in names]
    return called[0] if called else chain[0].name
