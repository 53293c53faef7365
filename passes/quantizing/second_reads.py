"""Values that crossbars read twice: their codes, and then what these left over, in codes of a finer step.

A value of 8-bit codes has an error of a third of a step, whatever its layer does. What is left over is known on the
chip: the same crossbars read it, enlarged by `2^n` so that its codes have steps of 1/2^n of the first ones, and the two
results are added, the second divided by 2^n. It costs one more read of each window. Where a layer is small and its
operand matters (a generator's noise, the last convolution before the image), that is cheap.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import log2

from mgc.ir.build import Build
from mgc.ir.graph import Graph, Node, Value
from mgc.ir.op import register_attr
from mgc.ir.ops import Binary, Concat, Conv, ConvTranspose, MatMul, Slice
from mgc.passes.mapping.work import useful_macs
from mgc.passes.quantizing.codes import Codes
from mgc.passes.quantizing.observed import activation_operand, graph_macs
from mgc.passes.quantizing.signs import NonNegative

# A value is read twice if its codes have at least this share of the error of all codes, and this many times the share
# that its layers have of the multiply-accumulates.
_LEAST, _WORTH = 0.01, 1.0
# By less a second read makes too little finer.
_LEAST_FACTOR = 4.0
# Steps below 0 that are enough for halves of a step on both sides.
_ROOM = 16


@dataclass(frozen=True)
class Coded:
    """How a value will be coded, and what its rounding costs the network's outputs, in any unit."""

    codes: Codes
    error: float


@register_attr
@dataclass(frozen=True)
class Pair:
    """A value that holds both, codes first, one after the other along an axis; `of` is the value that is coded."""

    of: str
    axis: int


def read_twice(graph: Graph, coded: Mapping[str, Coded], share: float) -> dict[str, Pair]:
    """Lets weighted ops read twice, in place, those values where it takes most error away for what it costs, up to a
    `share` of the graph's multiply-accumulates. Returns the values that they read instead, by name.
    """
    operands = {n: v for n in graph.nodes if (v := activation_operand(graph, n)) is not None and v.name in coded}
    readers: dict[Value, list[Node]] = {}
    for node, value in operands.items():
        readers.setdefault(value, []).append(node)
    total = sum(c.error for c in coded.values())
    costs = {v: sum(map(useful_macs, nodes)) for v, nodes in readers.items()}
    nonnegative = NonNegative(graph)
    worthy: list[Value] = []
    for value, nodes in readers.items():
        codes = coded[value.name].codes
        axes = {_axis(graph, n, codes) for n in nodes}
        held = (codes.signed or codes.zero or nonnegative(value)) and _factor(codes) >= _LEAST_FACTOR
        if coded[value.name].error >= _LEAST * total > 0 and held and len(axes) == 1 and None not in axes:
            worthy.append(value)
    whole = graph_macs(graph)
    left = share * whole
    pairs: dict[str, Pair] = {}
    for value in sorted(worthy, key=lambda v: -coded[v.name].error / max(costs[v], 1)):
        pays = coded[value.name].error * whole >= _WORTH * costs[value] * total
        if pays and costs[value] <= left:
            left -= costs[value]
            pair, axis, factor = _paired(graph, value, readers[value], coded[value.name].codes)
            pairs[pair.name] = Pair(value.name, axis)
            for node in readers[value]:
                _add_results(graph, node, value, pair, factor)
    return pairs


def _axis(graph: Graph, node: Node, codes: Codes) -> int | None:
    """Where a second operand can follow the first; None if the op cannot take it in."""
    op, weights = node.op, next(v for v in node.inputs if v in graph.constants)
    if isinstance(op, Conv | ConvTranspose):
        if codes.zero and not (isinstance(op, Conv) and _reaches_inside(op, weights.shape[2:])):
            return None
        return 0
    x = next(v for v in node.inputs if v is not weights)
    if not isinstance(op, MatMul) or x.tensor.rank < 2 or weights.tensor.rank != 2:
        return None
    return 1 if x.tensor.rank == 2 and node.inputs[1] is x else 0


def _reaches_inside(op: Conv, kernel: tuple[int, ...]) -> bool:
    """Whether no window can lie in the padding alone: such have no codes whose 0 is not 0."""
    extents = [d * (k - 1) + 1 for d, k in zip(op.dilations, kernel, strict=True)]
    return all(p < e for p, e in zip(op.pads, (*extents, *extents), strict=True))


def _paired(graph: Graph, value: Value, readers: list[Node], codes: Codes) -> tuple[Value, int, float]:
    """The value in whole steps, followed by what is left of it times a factor: (both, axis, factor)."""
    first = min(readers, key=graph.nodes.index)
    axis = _axis(graph, first, codes)
    assert axis is not None
    build = Build(graph, sources=first.sources, hint=value.name, at=first)
    steps = build.unary("floor" if _is_below(codes) else "round", build.mul(value, 1 / codes.scale))
    if codes.zero and _is_below(codes):
        steps = build.binary("max", steps, float(-codes.zero))
    whole = build.mul(steps, codes.scale)
    rest = build.binary("sub", value, whole)
    if not codes.signed and not codes.zero:
        rest = build.unary("relu", rest)  # it is not negative, as these codes need it
    factor = _factor(codes)
    return build.emit(Concat(axis), whole, build.mul(rest, factor)), axis, factor


def _is_below(codes: Codes) -> bool:
    """Whether what is left over is that over the whole number below, else over the nearest: where codes have little
    room below 0.
    """
    return not codes.signed and codes.zero < _ROOM


def _factor(codes: Codes) -> float:
    """The power of two by which what is left over fills the codes; 0 if they hold none."""
    above = codes.hi - codes.zero
    room = above + 1 if _is_below(codes) else 2 * min(codes.zero - codes.lo, above)
    return 2.0 ** int(log2(room)) if room > 0 else 0.0


def _add_results(graph: Graph, node: Node, value: Value, pair: Value, factor: float) -> None:
    """Lets the op read both, and adds what it makes of them."""
    build = Build(graph, sources=node.sources, hint=node.outputs[0].name, at=node)
    both = build.emit(node.op, *(pair if v is value else v for v in node.inputs))
    y = node.outputs[0]
    axis = next(a for a, (n, m) in enumerate(zip(y.shape, both.shape, strict=True)) if n != m)
    halves: list[Value] = []
    for k in (0, 1):
        starts = tuple(k * n if a == axis else 0 for a, n in enumerate(y.shape))
        stops = tuple(s + n for s, n in zip(starts, y.shape, strict=True))
        halves.append(build.emit(Slice(starts, stops, (1,) * len(starts)), both))
    rest = build.mul(halves[1], 1 / factor)
    graph.insert(Node(Binary("add"), (halves[0], rest), (y,), node.sources), at=node)
    graph.remove(node)
