"""What a model may take, known from its shapes before anything is made.

A file of a hundred bytes can ask for a value of 2^62 elements, for a loop without end, or for as many nodes as there
are atoms. Each limit is far above what a GAN needs, and an option raises it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING

from mgc.frontend.errors import ModelError

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

MAX_ELEMENTS = 1 << 25
"""Elements of the largest value, for one sample: 32 channels of 1,024 x 1,024 pixels."""
MAX_NODES = 1 << 14
"""Nodes, with functions inlined and loops unrolled."""
MAX_RANK = 32
MAX_SIZE = 1 << 31
"""The largest dimension or integer attribute."""
_MOST_WORK = 1 << 33
"""Multiply-adds of the products of constants."""


class BudgetError(ModelError):
    """A model that takes more than it may."""


@dataclass
class Budget:
    """What is left. `elements`: of the largest value of one sample; `nodes`: to be read; `made`: bytes of constants
    that may still be computed; `seconds`: for nodes that only running them tells the cost of (loops, host functions).
    """

    elements: int = MAX_ELEMENTS
    nodes: int = MAX_NODES
    samples: int = 1
    weights: int = 0
    seconds: float = 2.0
    _nodes_left: int = field(init=False)
    _made_left: int = field(init=False)
    _work_left: int = field(init=False)

    def __post_init__(self) -> None:
        self._nodes_left = self.nodes
        self._made_left = 8 * self.elements + 64 * self.weights  # weights may become other constants 16 times over
        self._work_left = _MOST_WORK

    @property
    def constant(self) -> int:
        """Elements of the largest constant: as large as a value may be, or as all the weights together."""
        return max(self.elements, self.weights)

    def read(self, count: int, where: str) -> None:
        """Takes nodes out of the budget. BudgetError if there are not so many left."""
        self._nodes_left -= count
        if self._nodes_left < 0:
            raise BudgetError(
                f"the model has more than {self.nodes:,} nodes once functions are inlined and loops unrolled",
                where=where,
                todo="raise --max-nodes if it is meant so",
            )

    def room_for(self, count: int, where: str) -> None:
        """BudgetError if so many more nodes are not left; takes none."""
        left = self._nodes_left
        self.read(count, where)
        self._nodes_left = left

    def multiply(self, count: int, where: str) -> None:
        """Takes multiply-adds of constants out of the budget, before they are done."""
        self._work_left -= count
        if self._work_left < 0:
            raise BudgetError(f"products of constants would take more than {_MOST_WORK:,} multiply-adds", where=where)

    def make(self, shapes: Iterable[tuple[tuple[int, ...], int]], where: str) -> None:
        """Takes constants of these shapes and element sizes in bytes out of the budget, before they are made."""
        for shape, itemsize in shapes:
            if prod(shape) > self.constant or max(shape, default=0) > MAX_SIZE:
                raise BudgetError(f"it would make a constant of {_text(shape)} elements", where=where, todo=_raise_it)
            self._made_left -= prod(shape) * itemsize
        if self._made_left < 0:
            raise BudgetError("with it the model computes too many constants", where=where, todo=_raise_it)

    def hold(self, shape: tuple[int, ...], where: str) -> None:
        """BudgetError for a value of a graph that is larger than may be."""
        if len(shape) > MAX_RANK:
            raise BudgetError(f"a value has {len(shape)} dimensions, {MAX_RANK} at most are supported", where=where)
        if max(shape, default=0) > MAX_SIZE or prod(shape) > self.elements * self.samples:
            many = f" for {self.samples} samples" if self.samples > 1 else ""
            raise BudgetError(f"a value would have {_text(shape)} elements{many}", where=where, todo=_raise_it)


_raise_it = "raise --max-elements if it is meant so"


def _text(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "1"


def check_functions(model: ModelProto, budget: Budget) -> None:
    """BudgetError where inlining the model's own functions takes too many nodes; ModelError where they go round.

    Counted without inlining: the nodes of each function once, in an order in which callees come first.
    """
    functions = {(f.domain, f.name, f.overload): f for f in model.functions}
    counts: dict[tuple[str, str, str], int] = {}

    def calls(nodes: Iterable[NodeProto]) -> list[tuple[tuple[str, str, str], NodeProto]]:
        return [((n.domain, n.op_type, n.overload), n) for n in _all_nodes(nodes)]

    for root in functions:
        stack = [(root, iter(calls(functions[root].node)))] if root not in counts else []
        path = {root}
        while stack:
            key, rest = stack[-1]
            callee = next((k for k, _ in rest if k in functions and k not in counts), None)
            if callee is None:
                stack.pop()
                path.discard(key)
                counts[key] = sum(counts.get(k, 1) for k, _ in calls(functions[key].node))
                continue
            if callee in path:
                raise ModelError(
                    "it calls itself", where=f"function {callee[0]}.{callee[1]}", todo="write it without recursion"
                )
            path.add(callee)
            stack.append((callee, iter(calls(functions[callee].node))))
    total = 0
    for key, node in calls(model.graph.node):
        total += counts.get(key, 1)
        budget.room_for(total, f"node {node.name or node.op_type!r} ({node.domain}.{node.op_type})")


def _all_nodes(nodes: Iterable[NodeProto]) -> Iterable[NodeProto]:
    """Nodes, and those of their subgraphs."""
    from mgc.frontend.onnx_graph import subgraphs

    for node in nodes:
        yield node
        for graph in subgraphs(node):
            yield from _all_nodes(graph.node)
