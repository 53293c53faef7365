"""A loss term as an element-wise function of its scores: the ops between, and their values on any points."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from mgc.ir.graph import Node, Value
from mgc.ir.ops import Binary, Cast, Expand, Reshape, Unary
from mgc.ir.types import DType
from mgc.passes.losses.facts import ELEMENTWISE, GraphFacts

Columns = Mapping[tuple[Node, int], np.ndarray]
"""Constants that differ from element to element, by node and operand, each as [1, K] for K kinds of elements."""

TINY = 1e-5
"""The largest limit or offset of a probability that counts as a guard against log(0)."""
FAR = -20.0
"""The greatest lower limit of a logarithm that counts as such a guard."""


@dataclass
class Region:
    """The element-wise ops that lead to `root` from `leaves`, the values that they cannot be followed beyond.

    A leaf is neither constant nor the result of an element-wise op; results of ops that read a parameter (the bias of
    a network's last layer) are leaves as well, and so are the values of `stops`.
    """

    facts: GraphFacts
    root: Value
    nodes: list[Node]
    leaves: list[Value]
    guards: dict[Node, Value] = field(default_factory=dict)
    """Nodes that only keep a logarithm finite, each with the operand that takes its place."""

    @staticmethod
    def of(facts: GraphFacts, root: Value, stops: frozenset[Value] = frozenset()) -> Region:
        """The region that ends in `root`."""
        nodes: list[Node] = []
        leaves: list[Value] = []
        seen: set[Value] = set()
        stack: list[tuple[Value, bool]] = [(root, False)]
        while stack:
            value, done = stack.pop()
            node = facts.producers.get(value)
            if done:
                assert node is not None
                nodes.append(node)
                continue
            if value in seen or facts.constant(value) is not None:
                continue
            seen.add(value)
            if node is None or value in stops or not _enters(facts, node):
                leaves.append(value)
                continue
            stack.append((value, True))
            stack.extend((v, False) for v in reversed(node.inputs))
        return Region(facts, root, nodes, leaves)

    def aligned(self) -> bool:
        """Whether element i of every value in it is element i of the root, counting in row-major order (a value of one
        element is broadcast to all).
        """
        sizes = {v.tensor.size for v in (*self.leaves, *(n.outputs[0] for n in self.nodes))}
        return sizes <= {1, self.root.tensor.size}

    def columns(self) -> tuple[Columns, np.ndarray]:
        """(the constants that differ; for each of the root's elements the number 0..K-1 of the column with its own)."""
        size = self.root.tensor.size
        uneven: dict[tuple[Node, int], np.ndarray] = {}
        for node in self.nodes:
            for i, value in enumerate(node.inputs):
                data = self.facts.constant(value)
                if data is not None and self.facts.number(value) is None:
                    uneven[node, i] = np.broadcast_to(data, node.outputs[0].shape).reshape(-1)
        if not uneven:
            return {}, np.zeros(size, np.int64)
        kinds, which = np.unique(np.stack([d.astype(np.float64) for d in uneven.values()]), axis=1, return_inverse=True)
        return {key: row[None] for key, row in zip(uneven, kinds, strict=True)}, which.reshape(-1)

    def evaluate(self, points: Mapping[Value, np.ndarray], columns: Columns | None = None) -> dict[Value, np.ndarray]:
        """Every value of the region in float64, for leaves given as [points, 1]: each [points or 1, K or 1].

        Casts between float types are left out, so are `guards`.
        """
        env: dict[Value, np.ndarray] = {v: np.asarray(x, np.float64) for v, x in points.items()}
        for node in self.nodes:
            (result,) = node.outputs
            if node in self.guards:
                env[result] = env[self.guards[node]]
                continue
            operands = [self._operand(env, columns or {}, node, i) for i in range(len(node.inputs))]
            if isinstance(node.op, Reshape | Expand) or _keeps_float(node):
                env[result] = operands[0]
                continue
            with np.errstate(all="ignore"):
                (y,) = node.op.evaluate(*operands)
            env[result] = y.astype(np.float64) if y.dtype.kind == "f" else y
        return env

    def _operand(self, env: dict[Value, np.ndarray], columns: Columns, node: Node, i: int) -> np.ndarray:
        value = node.inputs[i]
        if value in env:
            return env[value]
        data = self.facts.constant(value)
        assert data is not None  # neither in the region nor a leaf
        if (node, i) in columns:
            column = columns[node, i]
            return column if DType.of(data.dtype).is_float else column.astype(data.dtype)
        first = data.reshape(-1)[:1].reshape(1, 1)
        return first.astype(np.float64) if DType.of(data.dtype).is_float else first

    def find_guards(self, variable: Value, extra: Mapping[Value, np.ndarray]) -> None:
        """Sets `guards`, judged on scores up to 16: limits and offsets of up to TINY on what is a probability there,
        lower limits of at most FAR on a logarithm.
        """
        u = np.linspace(-16, 16, 65).reshape(-1, 1)
        columns, _ = self.columns()
        logged = {n.inputs[0] for n in self.nodes if isinstance(n.op, Unary) and n.op.fn == "log"}
        for node in self.nodes:
            limit = self._limit(node)
            if limit is None:
                continue
            fn, c, value = limit
            data = self.evaluate({variable: u, **extra}, columns)[value]
            if fn == "max" and c <= FAR:
                producer = self.facts.producers.get(value)
                guard = producer is not None and isinstance(producer.op, Unary) and producer.op.fn == "log"
            else:
                with np.errstate(invalid="ignore"):
                    probability = bool(((data >= 0) & (data <= 1)).all()) and float(np.ptp(data)) > 0.5
                low, high = 0 < c <= TINY, 1 - TINY <= c < 1
                guard = (
                    probability
                    and {
                        "max": low,
                        "min": high,
                        "add": low and node.outputs[0] in logged,
                    }[fn]
                )
            if guard:
                self.guards[node] = value

    def _limit(self, node: Node) -> tuple[str, float, Value] | None:
        """(function, constant, other operand) of a max, min or sum with a constant."""
        if not isinstance(node.op, Binary) or node.op.fn not in ("max", "min", "add"):
            return None
        for value, other in (node.inputs, node.inputs[::-1]):
            c = self.facts.number(other)
            if c is not None and self.facts.constant(value) is None:
                return node.op.fn, c, value
        return None


def _keeps_float(node: Node) -> bool:
    return isinstance(node.op, Cast) and node.op.to.is_float and node.inputs[0].tensor.dtype.is_float


def _enters(facts: GraphFacts, node: Node) -> bool:
    if not isinstance(node.op, ELEMENTWISE):
        return False
    return not any(facts.is_parameter(v) for v in node.inputs)
