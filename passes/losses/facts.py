"""What the loss passes ask of a graph: producers, constants, and what depends on parameters or feeds a network."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from functools import cached_property

import numpy as np

from mgc.ir.graph import Graph, Node, Value
from mgc.ir.ops import (
    AxisMap,
    BatchNorm,
    Binary,
    Cast,
    Conv,
    ConvTranspose,
    Expand,
    Host,
    MatMul,
    Pool,
    Reduce,
    Reshape,
    Unary,
)
from mgc.ir.ops import Where as Choice
from mgc.ir.types import TensorType

ELEMENTWISE = (Unary, Binary, Choice, Cast, Reshape, Expand)
"""Ops of which each element of the result depends on one element of each operand, in row-major order."""

_PRODUCTS = (MatMul, Conv, ConvTranspose)
_NETWORK = (*_PRODUCTS, BatchNorm, Pool, AxisMap, Host)
_LARGEST_CONSTANT = 1 << 22


class GraphFacts:
    """Facts about one graph, which must not change while they are asked for.

    `parameters` are the values that training changes (inputs or constants); constants with a group count as such.
    """

    def __init__(self, graph: Graph, parameters: Collection[Value]) -> None:
        self.graph = graph
        self.parameters = frozenset(parameters) | {v for v, c in graph.constants.items() if c.group}
        self.producers = graph.producers()
        self.users = graph.users()
        self._known: dict[Value, np.ndarray | None] = {}
        self._slopes: dict[Value, Value | None] = {}

    def constant(self, value: Value) -> np.ndarray | None:
        """The data of a value that is known at compile time: a constant, or computed from constants alone."""
        stack = [value]
        while stack:
            v = stack[-1]
            node = self.producers.get(v)
            if v in self._known:
                stack.pop()
            elif node is None:
                fixed = v not in self.parameters
                self._known[v] = self.graph.data(v) if fixed else None
            elif isinstance(node.op, Host) or not _small(node):
                self._known[v] = None
            elif waiting := [x for x in node.inputs if x not in self._known]:
                stack.extend(waiting)
            else:
                data = [self._known[x] for x in node.inputs]
                known = [d for d in data if d is not None]
                results = node.op.evaluate(*known) if data and len(known) == len(data) else [None] * len(node.outputs)
                self._known.update(zip(node.outputs, results, strict=True))
        return self._known[value]

    def number(self, value: Value) -> float | None:
        """The one number that all elements of a known value have; None if they differ or it is not known."""
        data = self.constant(value)
        if data is None or data.size == 0:
            return None
        first = data.reshape(-1)[0]
        return float(first) if data.size == 1 or bool((data == first).all()) else None

    @cached_property
    def trained(self) -> frozenset[Value]:
        """The values that some parameter has an effect on."""
        return self._made_from(self.parameters)

    @cached_property
    def _fed(self) -> frozenset[Value]:
        """The values that some data input has an effect on."""
        return self._made_from(v for v in self.graph.inputs if v not in self.parameters)

    def _made_from(self, values: Iterable[Value]) -> frozenset[Value]:
        """Values and all that they have an effect on."""
        found = set(values)
        for node in self.graph.nodes:
            if any(v in found for v in node.inputs):
                found.update(node.outputs)
        return frozenset(found)

    def is_parameter(self, value: Value) -> bool:
        """Whether it is a parameter, or computed from parameters and constants without any data."""
        return value in self.trained and value not in self._fed

    def slope_weight(self, value: Value) -> Value | None:
        """The weight that shows a value to be the derivative of a network: the last product on the way to it reads a
        parameter that was read on the way before, as back-propagation reads the weights of the forward half. None for
        what is no derivative, and for one that no forward half has an effect on.
        """
        if value not in self._slopes:
            self._slopes[value] = self._slope_weight(value)
        return self._slopes[value]

    def _slope_weight(self, value: Value) -> Value | None:
        for product in self._last_products(value):
            weights = {w for v in product.inputs if self.is_parameter(v) for w in self._parameters_of(v)}
            found = weights & self._parameters_of(*(v for v in product.inputs if not self.is_parameter(v)))
            if found:
                return min(found, key=lambda v: v.name)
        return None

    def _last_products(self, value: Value) -> list[Node]:
        """The nearest products with a parameter on every way back from a value."""
        found: dict[Node, None] = {}
        for node in self._above([value], beyond=lambda n: not self._is_layer(n)):
            if self._is_layer(node):
                found[node] = None
        return list(found)

    def _is_layer(self, node: Node) -> bool:
        return isinstance(node.op, _PRODUCTS) and any(self.is_parameter(v) for v in node.inputs)

    def _parameters_of(self, *values: Value) -> set[Value]:
        """The parameters that values are computed from."""
        read = {v for node in self._above(values) for v in node.inputs} | set(values)
        return read & self.parameters

    def _above(self, values: Iterable[Value], beyond: Callable[[Node], bool] = lambda node: True) -> list[Node]:
        """The nodes that values are computed by; those behind a node only where `beyond` says so."""
        found: dict[Node, None] = {}
        stack = list(values)
        while stack:
            node = self.producers.get(stack.pop())
            if node is not None and node not in found:
                found[node] = None
                stack.extend(node.inputs if beyond(node) else ())
        return list(found)

    @cached_property
    def of_batch(self) -> frozenset[Value]:
        """Sums and means over the samples, and single numbers that are computed from such ones."""
        found: set[Value] = set()
        for node in self.graph.nodes:
            x = node.inputs[0] if node.inputs else None
            if isinstance(node.op, Reduce) and x is not None:
                mixes = over_batch(node.op, x) and x.tensor.size > node.outputs[0].tensor.size
                found.update(node.outputs if mixes or x in found else ())
            elif isinstance(node.op, ELEMENTWISE) and any(v in found for v in node.inputs):
                found.update(v for v in node.outputs if v.tensor.size == 1 or isinstance(node.op, Reshape | Expand))
        return frozenset(found)

    @cached_property
    def into_networks(self) -> frozenset[Value]:
        """The values that some layer of a network (a product, a convolution, ...) is computed from."""
        found: set[Value] = set()
        for node in reversed(self.graph.nodes):
            if isinstance(node.op, _NETWORK) or any(v in found for v in node.outputs):
                found.update(node.inputs)
        return frozenset(found)


def over_batch(op: Reduce, operand: Value) -> bool:
    """Whether a reduction mixes samples."""
    return 0 in op.axes or operand.tensor.rank == 0


def _small(node: Node) -> bool:
    return all(isinstance(v.type, TensorType) and v.type.size <= _LARGEST_CONSTANT for v in node.outputs)
