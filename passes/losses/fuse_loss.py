"""Loss subgraphs become diff-blocks, which give the loss and its error delta at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from mgc.ir.build import Build
from mgc.ir.graph import Graph, Node, Value
from mgc.ir.ops import Binary, DiffBlock, Reshape
from mgc.passes.losses.branch import Branch, RuntimeTarget, merge
from mgc.passes.losses.facts import GraphFacts
from mgc.passes.losses.forms import snap
from mgc.passes.losses.report import NONE, LossReport
from mgc.passes.losses.resolve import Resolution, Rest, resolve
from mgc.passes.tensor.simplify import share


@dataclass(frozen=True)
class FusedLosses:
    """A graph with diff-blocks, what they are, and what the user should know."""

    graph: Graph
    reports: tuple[LossReport, ...]
    warnings: tuple[str, ...]


def fuse_losses(
    graph: Graph, losses: Sequence[str], parameters: Collection[str] = (), once: Collection[str] = ()
) -> FusedLosses:
    """Turns each loss output named in `losses` into a sum of diff-blocks and of what is no function of single scores.

    `parameters` names the graph inputs that training changes; constants with a group count as such. The given graph
    stays as it is. Nothing else in the graph changes, but that equal subexpressions are computed once; what the outputs
    `once` are made of stays apart from the same computed again, which a later phase does with newer weights.

    A loss is taken apart as a sum of terms; each term whose elements are f(score) becomes a branch:

    - f is recognised by its values against the forms of `mgc.functions.losses`, with fitted target and weight, whatever
      the ops that compute it. Limits and offsets of a probability that only keep a logarithm finite (PyTorch's
      BCELoss, log(p + 1e-8)) are left out, with a warning: the stable form wins.
    - scores are the values nearest to the network that f can be written in: before a final sigmoid for cross-entropy,
      after it for least squares of a probability.
    - differences of scores (relativistic losses) and differences from a mean score (relativistic average) are paired.
    - a target may differ from element to element, be it constant or an input.
    - another f is tabulated with a proven error (`mgc.passes.losses.tabulate`).

    What stays in the graph, with the reason in the report: what compares tensors that are no scores (L1 or L2 of
    images: a tensor that a network reads is no score, nor is what is computed from parameters alone), and what is not
    separable (norms of gradients, functions of batch statistics).
    """
    graph = graph.copy()
    wanted = dict(graph.outputs)
    share(graph, _makers(graph, {wanted[name] for name in once}))
    wanted = dict(graph.outputs)
    names = set(parameters)
    facts = GraphFacts(graph, [v for v in graph.inputs if v.name in names])
    outcomes = {name: _simplest(resolve(facts, wanted[name])) for name in losses}
    before = list(graph.nodes)
    emitter = _Emitter(graph)
    images = {name: emitter.loss(name, wanted[name], outcome) for name, outcome in outcomes.items()}
    graph.outputs = [(name, images.get(name, value)) for name, value in graph.outputs]
    _inherit_sources(graph, before, wanted, images)
    graph.prune()
    reports = tuple(_report(name, outcome) for name, outcome in outcomes.items())
    return FusedLosses(graph, reports, tuple(w for name, o in outcomes.items() for w in _warnings(name, o)))


def _makers(graph: Graph, values: set[Value]) -> set[Node]:
    """The nodes that values are made by."""
    found: set[Node] = set()
    for node in reversed(graph.nodes):
        if any(v in values for v in node.outputs):
            found.add(node)
            values.update(node.inputs)
    return found


def _simplest(outcome: Resolution) -> Resolution:
    branches, left = merge(outcome.branches)
    return Resolution(branches, outcome.rest, outcome.constant + left)


def _report(name: str, outcome: Resolution) -> LossReport:
    kinds = Counter(b.kind for b in outcome.branches)
    kind = kinds.most_common(1)[0][0] if kinds else NONE
    reasons = dict.fromkeys(rest.reason for rest in outcome.rest)
    return LossReport(name, kind, len(outcome.branches), "; ".join(reasons))


def _warnings(name: str, outcome: Resolution) -> list[str]:
    if not any(b.guarded for b in outcome.branches):
        return []
    return [
        f"loss {name!r} limits a logarithm of the sigmoid, as PyTorch's BCELoss does at -100, where its gradient dies: "
        "the diff-block computes it from the scores, without the limit"
    ]


class _Emitter:
    """Adds blocks and remaining terms to the graph; equal blocks on the same operands once."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.build = Build(graph)
        self.made: dict[tuple[DiffBlock, tuple[Value, ...]], Value] = {}

    def loss(self, name: str, value: Value, outcome: Resolution) -> Value:
        """The loss as a sum; the value itself where nothing was found."""
        if not outcome.branches:
            return value
        build = self.build
        build.hint, build.sources = name, ()
        total: Value | None = None
        parts = [self.block(name, b) for b in outcome.branches] + [self.rest(r) for r in outcome.rest]
        for part in parts:
            total = part if total is None else build.add(total, part)
        assert total is not None
        if outcome.constant:
            total = build.add(total, outcome.constant)
        return build.reshape(total, value.shape)

    def rest(self, rest: Rest) -> Value:
        """scale * sum of a term that stays."""
        build, term = self.build, rest.term
        x, size = term.value, term.value.tensor.size
        if term.mean and size > 1:
            mean = build.reduce("mean", x, range(x.tensor.rank), keepdims=False)
            return build.mul(mean, snap(term.scale * size))
        return build.mul(build.total(x) if size > 1 else build.reshape(x, ()), snap(term.scale))

    def block(self, name: str, branch: Branch) -> Value:
        """The loss that a branch's diff-block gives."""
        build, a = self.build, branch.a
        if branch.pairing == "pair" and branch.b is not None and branch.b.tensor.size > a.tensor.size:
            a = build.expand(a, branch.b.shape)
        operands = [a]
        if branch.b is not None:
            operands.append(self._like(branch.b, a) if branch.pairing == "pair" else branch.b)
        if branch.target is not None:
            operands.append(self._target(branch.target, a))
        size = a.tensor.size
        assert isinstance(branch.form.target, float)
        block = DiffBlock(
            branch.form.function,
            branch.pairing,
            target=branch.form.target,
            sign=branch.form.sign,
            weight=snap(branch.scale * size if branch.mean else branch.scale),
            count=0 if branch.mean else 1,
            targets=branch.target is not None,
            table=branch.table,
        )
        key = (block, tuple(operands))
        if key not in self.made:
            hints = (f"{name}.{branch.kind}", *(f"{name}.delta" for _ in range(block.scores)))
            self.made[key] = self.graph.add_multi(block, *operands, names=hints)[0]
        return self.made[key]

    def _like(self, x: Value, a: Value) -> Value:
        return self.build.reshape(x, a.shape) if x.tensor.size == a.tensor.size else self.build.expand(x, a.shape)

    def _target(self, target: np.ndarray | RuntimeTarget, a: Value) -> Value:
        build = self.build
        if isinstance(target, np.ndarray):
            return self.graph.add_constant(target.reshape(a.shape).astype(a.tensor.dtype.numpy), "target")
        value = build.cast(target.value, a.tensor.dtype)
        scaled = build.mul(value, target.alpha)
        return self._like(build.add(scaled, target.beta) if target.beta else scaled, a)


def _inherit_sources(graph: Graph, before: list[Node], old: dict[str, Value], new: dict[str, Value]) -> None:
    """Gives the ONNX nodes that a loss was computed by, and that nothing else needs, to its diff-blocks."""
    live = graph.output_values()
    for node in reversed(graph.nodes):
        if any(v in live for v in node.outputs):
            live.update(node.inputs)
    dead = {v: node for node in before for v in node.outputs if not any(o in live for o in node.outputs)}
    producers = graph.producers()
    for name, value in new.items():
        gone: dict[str, None] = {}
        stack = [old[name]]
        seen: set[Value] = set()
        while stack:
            v = stack.pop()
            if v in seen or v not in dead:
                continue
            seen.add(v)
            gone.update(dict.fromkeys(dead[v].sources))
            stack.extend(dead[v].inputs)
        blocks = [producers[v] for v in _above(producers, value) if isinstance(producers[v].op, DiffBlock)]
        for node in blocks:
            node.sources = tuple(dict.fromkeys((*node.sources, *gone)))


def _above(producers: dict[Value, Node], value: Value) -> list[Value]:
    """The values that a loss is added up from."""
    found: dict[Value, None] = {}
    stack = [value]
    while stack:
        v = stack.pop()
        if v not in producers or v in found:
            continue
        found[v] = None
        if isinstance(producers[v].op, Binary | Reshape):
            stack.extend(producers[v].inputs)
    return list(found)
