"""What a model that is quantised already states of its codes: steps of 8-bit values and grids of weights, kept as they
are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mgc.ir.graph import Graph, Node, Value
from mgc.ir.ops import Binary, Cast, Concat, Expand, Gather, Pad, Pool, Reshape, Slice, Transpose, Unary
from mgc.ir.types import DType, TensorType
from mgc.passes.quantizing.codes import SMALLEST, Codes, Reach

# How far from whole numbers, in steps, what float32 made of whole numbers may lie.
_NEAR = 1e-4
# The largest weights are looked at first, in no more rows: columns of weights that were never whole numbers fail here.
_FIRST_ROWS = 16


@dataclass(frozen=True)
class _Steps:
    """A value that is `step` times a whole number from `low` to `high`."""

    step: float
    low: int
    high: int


class StatedCodes:
    """Codes of the values of a graph that are whole numbers of at most 8 bits, less a zero point, times a scale."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._producers = graph.producers()
        self._known: dict[Value, _Steps | None] = {}

    def codes(self, value: Value, bits: int, seen: Reach, *, unsigned: bool, shifts: bool) -> Codes | None:
        """Codes of `bits` bits with the step that the model states; None if it states none, or more than they hold.

        unsigned: the value cannot be negative. shifts: its readers take codes whose 0 is not 0. Where they do not, the
        range `seen` decides whether signed codes hold it.
        """
        found = self._steps(value)
        if found is None or not np.float32(found.step) >= SMALLEST:
            return None
        low, whole = 0 if unsigned else found.low, (1 << bits) - 1
        most = whole >> 1
        if low >= 0 and found.high <= whole:
            return Codes(found.step, 0, whole)
        if not -most - 1 <= low <= found.high <= most:
            if shifts and found.high - low <= whole:
                return Codes(found.step, 0, whole, -low)
            if not -most - 1 <= round(seen[0] / found.step) <= round(seen[1] / found.step) <= most:
                return None
        return Codes(found.step, -most - 1, most)

    def step(self, value: Value) -> float | None:
        """The size of a value's steps; None if the model states none."""
        found = self._steps(value)
        return None if found is None else found.step

    def _steps(self, value: Value) -> _Steps | None:
        """Through what only moves numbers, or drops some: values are looked at from the first maker on."""
        waiting, asked = [value], {value}
        while waiting:
            needs = [v for v in self._before(waiting[-1]) if v not in self._known and v not in asked]
            asked.update(needs)
            waiting += needs
            if not needs:
                at = waiting.pop()
                self._known[at] = self._rule(at)
        return self._known[value]

    def _before(self, value: Value) -> tuple[Value, ...]:
        node = self._producers.get(value)
        return () if node is None or not _keeps_steps(node) else node.inputs

    def _rule(self, value: Value) -> _Steps | None:
        if not isinstance(value.type, TensorType):
            return None
        if value in self._graph.constants or not value.type.dtype.is_float:
            return _of_integers(value.type.dtype)
        node = self._producers.get(value)
        if node is None or not _keeps_steps(node):
            return None
        if isinstance(node.op, Concat):
            found = {self._known.get(v) for v in node.inputs}
            return found.pop() if len(found) == 1 else None
        x = self._known.get(node.inputs[0])
        return self._shifted(node, x) if isinstance(node.op, Binary) and x is not None else x

    def _shifted(self, node: Node, x: _Steps) -> _Steps | None:
        """x less a zero point, or times a scale: one number each."""
        assert isinstance(node.op, Binary)
        data = self._graph.data(node.inputs[1])
        if data is None or data.size == 0 or not np.all(data == data.reshape(-1)[0]):
            return None
        number = float(data.reshape(-1)[0])
        if node.op.fn != "sub":
            factor = number if node.op.fn == "mul" or number == 0 else 1 / number
            return _Steps(factor, x.low, x.high) if x.step == 1 and factor > 0 else None
        return _Steps(1.0, x.low - int(number), x.high - int(number)) if x.step == 1 and number % 1 == 0 else None


def _of_integers(dtype: DType) -> _Steps | None:
    if not dtype.is_integer or dtype.numpy.itemsize > 1:
        return None
    limits = np.iinfo(dtype.numpy)
    return _Steps(1.0, int(limits.min), int(limits.max))


def _keeps_steps(node: Node) -> bool:
    """Whether the node's result has no numbers but those of its (first) operand, perhaps rescaled, and 0."""
    op = node.op
    if isinstance(op, Cast):
        return node.inputs[0].tensor.dtype.is_float or _of_integers(node.inputs[0].tensor.dtype) is not None
    if isinstance(op, Binary):
        return op.fn in ("sub", "mul", "div")
    if isinstance(op, Pad):
        return op.mode != "constant" or op.value == 0
    if isinstance(op, Pool):
        return op.kind == "max" and not any(op.pads)
    return (isinstance(op, Unary) and op.fn == "relu") or isinstance(
        op, Concat | Expand | Gather | Reshape | Slice | Transpose
    )


def grid_scales(weights: np.ndarray, weight_bits: int) -> np.ndarray:
    """float64 [matrices, cols]: a step of which all of a column's weights are whole multiples of at most `weight_bits`
    bits, the smallest such; 0 for a column that has none. weights [matrices, rows, cols] float32.
    """
    most = (1 << (weight_bits - 1)) - 1
    if weight_bits > 8:
        return np.zeros(weights.shape[::2])  # every float32 is near such a grid
    sizes = np.ascontiguousarray(np.abs(weights).swapaxes(1, 2))
    top = sizes.max(axis=2, initial=0.0).astype(np.float64)
    possible = top / np.arange(1, most + 1)[:, None, None]
    hopeful = (possible >= SMALLEST) & (top > 0)
    for head in _heads(sizes):  # the first of them leave next to none
        hopeful[hopeful] = _near(np.broadcast_to(head, hopeful.shape)[hopeful] / possible[hopeful])
    steps = np.where(top == 0, 1.0, 0.0)
    for number in np.flatnonzero(hopeful.any(axis=(1, 2))):
        hit = hopeful[number] & (steps == 0)
        if hit.any():
            hit[hit] = _on_grid(sizes[hit], possible[number][hit])
        steps[hit] = possible[number][hit] / (most // (number + 1))  # small numbers would drown in the errors of cells
    return steps


def may_be_on_grid(weights: np.ndarray, weight_bits: int) -> bool:
    """Whether the column of the largest weight has such a step, by its largest weights: a quick look."""
    if weight_bits > 8 or not weights.size:
        return False
    matrix, _, column = np.unravel_index(int(np.abs(weights).argmax()), weights.shape)
    numbers = np.abs(weights[matrix, :, column].astype(np.float64))
    head = np.sort(numbers)[::-1][:_FIRST_ROWS]
    steps = head[0] / np.arange(1, 1 << (weight_bits - 1))
    possible = steps[steps >= SMALLEST]
    return head[0] == 0 or bool(_on_grid(np.broadcast_to(head, (len(possible), len(head))), possible).any())


def _heads(sizes: np.ndarray) -> Iterator[np.ndarray]:
    """The largest few numbers along the last axis but for the first, the second largest first."""
    count = min(sizes.shape[-1], _FIRST_ROWS)
    if count > 1:
        parted = np.partition(sizes, (-count, -2))
        yield from (parted[..., -k] for k in range(2, count + 1))


def _on_grid(columns: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Whether each of the columns [count, rows] is of whole multiples of its step [count]."""
    return np.all(_near(columns / steps[:, None]), axis=1)


def _near(multiples: np.ndarray) -> np.ndarray:
    """Which numbers are whole, but for what float32 does to them."""
    return np.abs(multiples - np.rint(multiples)) < _NEAR
