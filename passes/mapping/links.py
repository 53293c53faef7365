"""links: values that layers share across chips, and the sends that bring them there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import prod

from mgc.ir import ops
from mgc.ir.graph import Graph, Node, Value
from mgc.ir.mapped import Piece, Send, UpdateCells, View
from mgc.ir.types import TensorType
from mgc.passes.mapping.chips import Net
from mgc.passes.mapping.durations import sizes_of
from mgc.passes.mapping.place import Placement
from mgc.passes.scheduling.operations import stored
from mgc.targets.description import Target


def nets_of(
    graph: Graph,
    near: Mapping[Node, str | None],
    number: Mapping[str, int],
    target: Target,
    cells: Iterable[Value] = (),
) -> list[Net]:
    """The values that nodes of several layers make or read, with the `number` of each layer; `near` as in `Placement`.

    `cells` are weights, which stand in crossbars and go nowhere. A graph input comes to where it is read first.
    """
    skipped = {*cells, *graph.constants}
    layers: dict[Value, set[int]] = {}
    root = stored(graph)
    for node in graph.nodes:
        layer = near.get(node)
        if layer is None or isinstance(node.op, View | ops.Host):
            continue
        for value in (*_carried(node), *node.outputs):
            if root[value] not in skipped:
                layers.setdefault(root[value], set()).add(number[layer])
    sizes = sizes_of(graph, target)
    return [Net(sizes[v], frozenset(on)) for v, on in layers.items() if len(on) > 1]


def send_between_chips(graph: Graph, placement: Placement, target: Target, cells: Iterable[Value] = ()) -> None:
    """Puts a `Send` before the first reader of a value on each chip that does not have it, chip after chip on the way.

    Changes `graph` in place; results stay equal bit for bit. What the host reads or writes goes over its own link,
    and what an update writes in place stays where it is.
    """
    if target.structure.chips == 1:
        return
    per_chip = target.structure.tiles_per_chip
    skipped = {*cells, *graph.constants}
    root = stored(graph)
    made_on: dict[Value, int] = {}  # by root
    at_hand: dict[tuple[Value, int], Value] = {}
    done: list[Node] = []
    old, graph.nodes = graph.nodes, []
    for node in old:
        here = placement.place_of(node).tiles[0] // per_chip
        if not isinstance(node.op, View | ops.Host):
            carried = _carried(node)
            swaps: dict[Value, Value] = {}
            for value in dict.fromkeys(carried):
                if root[value] in skipped or not isinstance(value.type, TensorType):
                    continue
                there = made_on.setdefault(root[value], here)  # an input is loaded to where it is read first
                if there != here:
                    swaps[value] = _brought(graph, value, there, here, at_hand)
            if swaps:
                kept = _in_place(node)
                node.inputs = tuple(v if k in kept else swaps.get(v, v) for k, v in enumerate(node.inputs))
        done += graph.nodes
        graph.nodes = []
        done.append(node)
        made_on.update(dict.fromkeys((v for v in node.outputs if root[v] is v), here))
    graph.nodes = done


def _brought(graph: Graph, value: Value, there: int, here: int, at_hand: dict[tuple[Value, int], Value]) -> Value:
    """The value on chip `here`, sent from the nearest chip on the way from `there` that has it."""
    step = 1 if here > there else -1
    way = range(there + step, here + step, step)
    last = value
    for chip in way:
        if (value, chip) not in at_hand:
            size = prod(value.shape)
            piece = Piece(0, (size,), 0, (1,), 0, (1,))
            at_hand[value, chip] = graph.add(
                Send((piece,), value.tensor, chip - step, chip), last, name=f"{value.name}.chip{chip}"
            )
        last = at_hand[value, chip]
    return last


def _in_place(node: Node) -> frozenset[int]:
    """The operands that a node reads where they live from run to run, since it writes them there: a parameter, its
    moments; and the counter of steps, which lies with them.
    """
    if isinstance(node.op, ops.Update | UpdateCells):
        return frozenset(range(len(node.inputs))) - {1}
    return frozenset()


def _carried(node: Node) -> tuple[Value, ...]:
    """The operands that have to come to a node."""
    kept = _in_place(node)
    return tuple(v for k, v in enumerate(node.inputs) if k not in kept)
