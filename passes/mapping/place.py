"""place: crossbar groups onto tiles, so that little travels far; and where all other work is done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from mgc.ir.graph import Graph, Node, Value
from mgc.ir.mapped import Mvm, MvmT, Outer, Send, UpdateCells
from mgc.passes.mapping.durations import Place, drains_of, sizes_of
from mgc.passes.mapping.multiplex import STAYS
from mgc.passes.mapping.plan import GroupMap
from mgc.targets.cost import CostModel
from mgc.targets.description import Target

_ROUNDS = 8
"""Sweeps of the local improvement; it stops as soon as one changes nothing."""

Traffic = Mapping[tuple[str, str], int]
"""Bytes that go from the tiles of one layer to those of another in one micro-batch."""


@dataclass(frozen=True)
class Placement:
    """The groups with their crossbars, and for each layer the tiles whose vector units and ports serve it.

    Every used tile serves one layer: the one with the most crossbars in it (on a tie the first). A layer without a tile
    of its own is served by that of its first crossbar. `near` gives every node the layer at whose tiles it runs.
    """

    groups: tuple[GroupMap, ...]
    served_by: Mapping[str, Place]
    near: Mapping[Node, str | None]
    tiles_per_chip: int

    @staticmethod
    def of(graph: Graph, anchors: Mapping[Node, str], groups: tuple[GroupMap, ...], target: Target) -> Placement:
        """The placement of a graph's nodes near groups that have their crossbars; `anchors` as in `near_layers`."""
        return Placement(
            groups, service(groups, target), near_layers(graph, anchors, target), target.structure.tiles_per_chip
        )

    def place_of(self, node: Node) -> Place:
        """Where a node's work is done; tile 0 if nothing on the chip is near it. What is sent to a chip arrives at its
        first tile, where its links end.
        """
        if isinstance(node.op, Send):
            return Place((node.op.chip * self.tiles_per_chip,))
        layer = self.near.get(node)
        return self.served_by[layer] if layer is not None else Place((0,))


def anchors_of(graph: Graph, homes: Mapping[Value, str], layer_of: Mapping[str, str]) -> dict[Node, str]:
    """The layer near which each node that touches crossbars works, or a weight gradient is added up; `homes` gives the
    group in which a version of weights lies, `layer_of` the layer of a group.
    """
    anchors: dict[Node, str] = {}
    for product, (kernel, _) in drains_of(graph).items():
        anchors[kernel] = layer_of[homes[product.inputs[1]]]
    for node in graph.nodes:
        match node.op:
            case Mvm() | MvmT():
                if len(node.inputs) > 1:
                    anchors[node] = layer_of[homes[node.inputs[1]]]
            case UpdateCells():
                anchors[node] = layer_of[homes[node.inputs[0]]]
            case Outer():
                cells = f"{node.op.parts[0].name}.cells"
                if cells in layer_of:
                    anchors[node] = layer_of[cells]
    return anchors


def in_order_of_traffic(groups: Sequence[GroupMap], traffic: Traffic, target: Target) -> list[str]:
    """The layers, chip by chip, in the order in which they are to lie along the snake: first in the groups' order, then
    neighbours change places as long as that lowers bytes x nanoseconds of way.
    """
    chip_of = {g.layer: g.chip for g in groups}
    sizes: dict[str, int] = {}
    for group in groups:
        sizes[group.layer] = sizes.get(group.layer, 0) + group.crossbars_per_replica * group.replicas
    order: list[str] = []
    for chip in sorted(set(chip_of.values())):
        own = [layer for layer in sizes if chip_of[layer] == chip]
        inside = {ends: size for ends, size in traffic.items() if ends[0] in own and ends[1] in own}
        order += _improved(own, sizes, inside, snake_of_tiles(target), target)
    return order


def lay_out(
    groups: Sequence[GroupMap], order: Sequence[str], target: Target, *, spread: bool = False
) -> tuple[GroupMap, ...]:
    """The groups on crossbars of their own: layer after layer, in `order`, along the snake of their chip (of all chips
    where they have none). If `spread`, as few crossbars of each macro are used as hold them so, and each group (where
    there is no room for that, each layer; else none) begins a macro, so that write drivers are its own. Groups that
    take turns have those that are left over by the others, from the first on in each turn.
    """
    structure, snake = target.structure, snake_of_tiles(target)
    macros = structure.tiles_per_chip * structure.macros_per_tile
    held = [0] * structure.chips
    for g in groups:
        held[max(0, g.chip)] += g.crossbars_per_replica * g.replicas
    most = structure.crossbars_per_macro
    least = min(most, max(1, -(-max(held) // macros))) if spread else most
    if any(g.turn != STAYS for g in groups):
        each = least
        taken = sum(g.crossbars_per_replica * g.replicas for g in groups if g.turn == STAYS)
        starts: dict[int, int] = {STAYS: 0}
        in_turn: list[GroupMap] = []
        for group in groups:
            first, size = starts.setdefault(group.turn, taken), group.crossbars_per_replica * group.replicas
            starts[group.turn] += size
            in_turn.append(_placed(group, _crossbars(first, size, each, snake, target), target))
        return tuple(in_turn)
    whole = macros * (structure.chips if any(g.chip < 0 for g in groups) else 1)
    fitting = (e for e in range(least, most + 1) if _fits_in_macros(groups, whole, e))
    each = next(fitting, least) if spread else most
    first = _firsts(groups, order, whole * each, each if spread else 1)
    return tuple(
        _placed(g, _crossbars(at, g.crossbars_per_replica * g.replicas, each, snake, target), target)
        for g, at in zip(groups, first, strict=True)
    )


def _fits_in_macros(groups: Sequence[GroupMap], macros: int, each: int) -> bool:
    """Whether each group can begin a macro of which so many crossbars are used, with so many macros on a chip (on all
    of them for groups of no chip).
    """
    taken: dict[int, int] = {}
    for g in groups:
        chip = max(0, g.chip)
        taken[chip] = taken.get(chip, 0) - (-g.crossbars_per_replica * g.replicas // each)
    return max(taken.values(), default=0) <= macros


def _firsts(groups: Sequence[GroupMap], order: Sequence[str], room: int, each: int) -> list[int]:
    """The position of each group's first crossbar, with `room` on a chip (on all of them for groups of no chip): at
    multiples of `each`, groups if all fit then, else layers, else none.
    """
    members: dict[str, list[int]] = {layer: [] for layer in order}
    for n, g in enumerate(groups):
        members[g.layer].append(n)
    first = [0] * len(groups)
    for own, layers in ((each, each), (1, each), (1, 1)):
        free: dict[int, int] = {}
        for layer in order:
            chip = max(0, groups[members[layer][0]].chip)
            at = -(-free.get(chip, chip * room) // layers) * layers
            for n in members[layer]:
                first[n] = -(-at // own) * own
                at = first[n] + groups[n].crossbars_per_replica * groups[n].replicas
            free[chip] = at
        if all(end <= (chip + 1) * room for chip, end in free.items()):
            break
    return first


def _placed(group: GroupMap, crossbars: tuple[int, ...], target: Target) -> GroupMap:
    tiles = tuple(dict.fromkeys(c // target.structure.crossbars_per_tile for c in crossbars))
    return replace(group, crossbars=crossbars, tiles=tiles)


def snake_of_tiles(target: Target) -> list[int]:
    """All tiles, chip by chip, router row by router row, every other row backwards: neighbours are one hop apart."""
    noc, per_chip = target.noc, target.structure.tiles_per_chip
    routers = -(-per_chip // noc.tiles_per_router)
    order: list[int] = []
    for row in range(-(-routers // noc.mesh_columns)):
        line = list(range(row * noc.mesh_columns, min(routers, (row + 1) * noc.mesh_columns)))
        for router in line if row % 2 == 0 else line[::-1]:
            order += range(router * noc.tiles_per_router, min(per_chip, (router + 1) * noc.tiles_per_router))
    return [chip * per_chip + tile for chip in range(target.structure.chips) for tile in order]


def near_layers(graph: Graph, anchors: Mapping[Node, str], target: Target) -> dict[Node, str | None]:
    """The layer near which each node runs: the one where most bytes of its operands were made (of several the last),
    else the first one that depends on it. `anchors` gives the nodes that have a layer of their own.
    """
    sizes, position = sizes_of(graph, target), dict[str, int]()
    for i, node in enumerate(graph.nodes):
        if node in anchors:
            position.setdefault(anchors[node], i)
    made_near: dict[Value, str | None] = {}
    near: dict[Node, str | None] = {}
    for node in graph.nodes:
        size: dict[str, int] = {}
        for value in dict.fromkeys(node.inputs):
            made = made_near.get(value)
            if made is not None:
                size[made] = size.get(made, 0) + sizes[value]
        last = max(size, key=lambda layer: (size[layer], position[layer]), default=None)
        near[node] = anchors.get(node, last)
        made_near.update(dict.fromkeys(node.outputs, near[node]))
    read_near: dict[Value, str] = {}
    for node in reversed(graph.nodes):
        if near[node] is None:
            ahead = [read_near[v] for v in node.outputs if v in read_near]
            near[node] = min(ahead, key=position.__getitem__, default=None)
        layer = near[node]
        if layer is not None:
            for value in node.inputs:
                known = read_near.get(value)
                if known is None or position[layer] < position[known]:
                    read_near[value] = layer
    return near


def traffic_of(graph: Graph, near: Mapping[Node, str | None], target: Target) -> dict[tuple[str, str], int]:
    """What goes from layer to layer in one micro-batch."""
    sizes = sizes_of(graph, target)
    made_near: dict[Value, str | None] = {}
    traffic: dict[tuple[str, str], int] = {}
    for node in graph.nodes:
        here = near[node]
        for value in dict.fromkeys(node.inputs):
            there = made_near.get(value)
            if here is not None and there is not None and here != there:
                traffic[there, here] = traffic.get((there, here), 0) + sizes[value]
        made_near.update(dict.fromkeys(node.outputs, here))
    return traffic


def _improved(
    layers: Sequence[str], sizes: Mapping[str, int], traffic: Traffic, snake: Sequence[int], target: Target
) -> list[str]:
    """Layers in the order in which they lie along the snake."""
    cost_model = CostModel(target)
    per_tile = target.structure.crossbars_per_tile
    edges: dict[str, list[tuple[str, int]]] = {n: [] for n in layers}
    for (a, b), size in traffic.items():
        edges[a].append((b, size))
        edges[b].append((a, size))
    order = list(layers)
    first: dict[str, int] = {}
    at = 0
    for node in order:
        first[node] = at
        at += sizes[node]
    way_cache: dict[tuple[int, int], float] = {}

    def way(a: int, b: int) -> float:
        """Nanoseconds from crossbar position to crossbar position along the snake."""
        ends = snake[a // per_tile], snake[b // per_tile]
        if ends not in way_cache:
            route = cost_model.route(*ends)
            way_cache[ends] = route.hops * target.noc.hop_ns + route.links * target.link.latency_ns
        return way_cache[ends]

    def middle(node: str) -> int:
        return first[node] + sizes[node] // 2

    def cost_of(*nodes: str) -> float:
        """Cost of all edges at some nodes, those between them counted for each end."""
        return sum(size * way(middle(n), middle(other)) for n in nodes for other, size in edges[n])

    for _ in range(_ROUNDS):
        changed = False
        for i in range(len(order) - 1):
            a, b = order[i], order[i + 1]
            before = cost_of(a, b)
            start = first[a]
            first[b], first[a] = start, start + sizes[b]
            if cost_of(a, b) < before * (1 - 1e-9):
                order[i], order[i + 1] = b, a
                changed = True
            else:
                first[a], first[b] = start, start + sizes[a]
        if not changed:
            break
    return order


def _crossbars(at: int, count: int, each: int, snake: Sequence[int], target: Target) -> tuple[int, ...]:
    """Chip-wide ids of `count` crossbars from position `at` of the snake on, `each` of every macro."""
    per_macro, macros = target.structure.crossbars_per_macro, target.structure.macros_per_tile
    ids: list[int] = []
    for position in range(at, at + count):
        macro, slot = divmod(position, each)
        tile, inside = divmod(macro, macros)
        ids.append((snake[tile] * macros + inside) * per_macro + slot)
    return tuple(ids)


def service(groups: Sequence[GroupMap], target: Target) -> dict[str, Place]:
    """The tiles that serve each layer; see `Placement`."""
    layers = list(dict.fromkeys(group.layer for group in groups))
    per_tile = target.structure.crossbars_per_tile
    share: dict[int, dict[str, int]] = {}
    first_tile: dict[str, int] = {}
    for group in groups:
        for crossbar in group.crossbars:
            count = share.setdefault(crossbar // per_tile, {})
            count[group.layer] = count.get(group.layer, 0) + 1
        if group.tiles:
            first_tile.setdefault(group.layer, group.tiles[0])
    rank = {layer: i for i, layer in enumerate(layers)}
    owner = {tile: min(count, key=lambda n: (-count[n], rank[n])) for tile, count in share.items()}
    owned: dict[str, list[int]] = {}
    for tile in sorted(owner):
        owned.setdefault(owner[tile], []).append(tile)
    places = {layer: Place(tuple(tiles)) for layer, tiles in owned.items()}
    for layer in layers:
        if layer not in places:
            tile = first_tile.get(layer)
            places[layer] = places[owner[tile]] if tile is not None else Place((0,))
    return places
