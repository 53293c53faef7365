"""place: crossbar groups onto tiles, so that little travels far; and where all other work is done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mgc.ir.graph import Graph, Node, Value
from mgc.ir.mapped import Mvm, Send
from mgc.passes.durations import Place, nbytes
from mgc.passes.partition import Geometry
from mgc.passes.plan import GroupMap
from mgc.targets.cost import CostModel
from mgc.targets.description import Target

_ROUNDS = 8
"""Sweeps of the local improvement; it stops as soon as one changes nothing."""


@dataclass(frozen=True)
class Placement:
    """The groups with their crossbars, and for each `Mvm` node the tiles whose vector units and ports serve it.

    Every used tile serves one node: the one with the most crossbars in it (on a tie the first). A node without a tile
    of its own is served by that of its first crossbar. `homes` gives every node the `Mvm` at whose tiles it runs.
    `cost` is what was minimised: bytes x nanoseconds of way, summed over the dataflow within each chip.
    """

    groups: tuple[GroupMap, ...]
    served_by: dict[Node, Place]
    homes: dict[Node, Node | None]
    cost: float
    tiles_per_chip: int

    @staticmethod
    def of(graph: Graph, target: Target, groups: tuple[GroupMap, ...]) -> Placement:
        """The placement of groups that have their crossbars already."""
        homes = homes_of(graph)
        return Placement(groups, service(groups, target), homes, 0.0, target.structure.tiles_per_chip)

    def place_of(self, node: Node) -> Place:
        """Where a node's work is done; tile 0 if nothing on the chip is near it. What is sent to a chip arrives at its
        first tile, where its links end.
        """
        if isinstance(node.op, Send):
            return Place((node.op.chip * self.tiles_per_chip,))
        home = self.homes.get(node)
        return self.served_by[home] if home is not None else Place((0,))


def place(
    graph: Graph, target: Target, replicas: Sequence[int], chip_of: Mapping[Node, int] | None = None
) -> Placement:
    """Places every part of every `Mvm`, `replicas` in the graph's order, on neighbouring crossbars.

    Layers lie one after the other along a snake through the mesh of their chip (without `chip_of`: of all chips):
    first in dataflow order, then neighbours change places as long as that lowers the traffic's way. Deterministic.
    """
    layers = [node for node in graph.nodes if isinstance(node.op, Mvm)]
    homes = homes_of(graph)
    counts = iter(replicas)
    parts: dict[Node, list[tuple[int, Geometry, int]]] = {}
    for node in layers:
        assert isinstance(node.op, Mvm)
        parts[node] = [(k, Geometry.of(p, target.crossbar), next(counts)) for k, p in enumerate(node.op.parts)]
    sizes = {n: sum(g.crossbars * r for _, g, r in parts[n]) for n in layers}
    traffic = traffic_of(graph, homes)
    order: list[Node] = []
    cost = 0.0
    for chip in sorted({chip_of[n] for n in layers}) if chip_of is not None else (None,):
        own = [n for n in layers if chip_of is None or chip_of[n] == chip]
        inside = {ends: size for ends, size in traffic.items() if ends[0] in own and ends[1] in own}
        improved, way = _improved(own, sizes, inside, snake_of_tiles(target), target)
        order, cost = order + improved, cost + way
    names: dict[str, int] = {}
    named: dict[Node, list[Wanted]] = {}
    for node in layers:
        assert isinstance(node.op, Mvm)
        unique = [_unique(part.name, names) for part in node.op.parts]
        named[node] = [Wanted(unique[k], geometry.crossbars, count) for k, geometry, count in parts[node]]
    groups = lay_out(order, named, target, chip_of)
    return Placement(groups, service(groups, target), homes, cost, target.structure.tiles_per_chip)


@dataclass(frozen=True)
class Wanted:
    """A group that wants crossbars: how many a replica, how many replicas."""

    name: str
    crossbars: int
    replicas: int


def lay_out(
    order: Sequence[Node],
    wanted: Mapping[Node, Sequence[Wanted]],
    target: Target,
    chip_of: Mapping[Node, int] | None = None,
) -> tuple[GroupMap, ...]:
    """The groups of each layer on crossbars of their own, layers one after the other in `order` along the snake, each
    on its chip if `chip_of` says which.

    The groups come in the order of `wanted`.
    """
    snake = snake_of_tiles(target)
    per_tile, per_chip = target.structure.crossbars_per_tile, target.structure.crossbars_per_chip
    first: dict[Node, int] = {}
    free = [chip * per_chip for chip in range(target.structure.chips)]
    for node in order:
        chip = 0 if chip_of is None else chip_of[node]
        first[node] = free[chip]
        free[chip] += sum(w.crossbars * w.replicas for w in wanted[node])
    groups: list[GroupMap] = []
    for node, each in wanted.items():
        at = first[node]
        for k, w in enumerate(each):
            crossbars = _crossbars(at, w.crossbars * w.replicas, snake, target)
            at += len(crossbars)
            tiles = tuple(dict.fromkeys(c // per_tile for c in crossbars))
            own = -1 if chip_of is None else chip_of[node]
            groups.append(GroupMap(node, k, w.name, w.replicas, w.crossbars, crossbars, tiles, own))
    return tuple(groups)


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


def homes_of(graph: Graph, anchors: Mapping[Node, Node] | None = None) -> dict[Node, Node | None]:
    """The `Mvm` near which each node runs: the one where most bytes of its operands were made (of several the last),
    else the first one that depends on it.

    `anchors` gives the nodes that have a place of their own and the one that stands for that place (each `Mvm` itself).
    """
    if anchors is None:
        anchors = {node: node for node in graph.nodes if isinstance(node.op, Mvm)}
    position = {node: i for i, node in enumerate(graph.nodes)}
    made_near: dict[Value, Node | None] = {}
    homes: dict[Node, Node | None] = {}
    for node in graph.nodes:
        near: dict[Node, int] = {}
        for value in dict.fromkeys(node.inputs):
            made = made_near.get(value)
            if made is not None:
                near[made] = near.get(made, 0) + nbytes(value)
        last = max(near, key=lambda h: (near[h], position[h]), default=None)
        homes[node] = anchors.get(node) or last
        made_near.update(dict.fromkeys(node.outputs, homes[node]))
    read_near: dict[Value, Node] = {}
    for node in reversed(graph.nodes):
        if homes[node] is None:
            ahead = [read_near[v] for v in node.outputs if v in read_near]
            homes[node] = min(ahead, key=position.__getitem__, default=None)
        home = homes[node]
        if home is not None:
            for value in node.inputs:
                known = read_near.get(value)
                if known is None or position[home] < position[known]:
                    read_near[value] = home
    return homes


def traffic_of(graph: Graph, homes: dict[Node, Node | None]) -> dict[tuple[Node, Node], int]:
    """Bytes that go from the home of one `Mvm` to that of another in one micro-batch."""
    made_near: dict[Value, Node | None] = {}
    traffic: dict[tuple[Node, Node], int] = {}
    for node in graph.nodes:
        here = homes[node]
        for value in dict.fromkeys(node.inputs):
            there = made_near.get(value)
            if here is not None and there is not None and here is not there:
                traffic[there, here] = traffic.get((there, here), 0) + nbytes(value)
        made_near.update(dict.fromkeys(node.outputs, here))
    return traffic


def _improved(
    layers: Sequence[Node],
    sizes: dict[Node, int],
    traffic: dict[tuple[Node, Node], int],
    snake: Sequence[int],
    target: Target,
) -> tuple[list[Node], float]:
    """Layers in the order in which they lie along the snake, and the cost of that."""
    cost_model = CostModel(target)
    per_tile = target.structure.crossbars_per_tile
    edges: dict[Node, list[tuple[Node, int]]] = {n: [] for n in layers}
    for (a, b), size in traffic.items():
        edges[a].append((b, size))
        edges[b].append((a, size))
    order = list(layers)
    first: dict[Node, int] = {}
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

    def middle(node: Node) -> int:
        return first[node] + sizes[node] // 2

    def cost_of(*nodes: Node) -> float:
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
    return order, cost_of(*order) / 2


def _crossbars(at: int, count: int, snake: Sequence[int], target: Target) -> tuple[int, ...]:
    """Chip-wide ids of `count` crossbars from position `at` of the snake on."""
    per_tile = target.structure.crossbars_per_tile
    ids: list[int] = []
    while count:
        tile, slot = divmod(at, per_tile)
        here = min(count, per_tile - slot)
        base = snake[tile] * per_tile + slot
        ids += range(base, base + here)
        at, count = at + here, count - here
    return tuple(ids)


def service(groups: Sequence[GroupMap], target: Target) -> dict[Node, Place]:
    """The tiles that serve each node; see `Placement`."""
    layers = list(dict.fromkeys(group.node for group in groups))
    per_tile = target.structure.crossbars_per_tile
    share: dict[int, dict[Node, int]] = {}
    first_tile: dict[Node, int] = {}
    for group in groups:
        for crossbar in group.crossbars:
            count = share.setdefault(crossbar // per_tile, {})
            count[group.node] = count.get(group.node, 0) + 1
        if group.tiles:
            first_tile.setdefault(group.node, group.tiles[0])
    rank = {node: i for i, node in enumerate(layers)}
    owner = {tile: min(count, key=lambda n: (-count[n], rank[n])) for tile, count in share.items()}
    owned: dict[Node, list[int]] = {}
    for tile in sorted(owner):
        owned.setdefault(owner[tile], []).append(tile)
    places = {node: Place(tuple(tiles)) for node, tiles in owned.items()}
    for node in layers:
        if node not in places:
            tile = first_tile.get(node)
            places[node] = places[owner[tile]] if tile is not None else Place((0,))
    return places


def _unique(name: str, taken: dict[str, int]) -> str:
    """`name`, with a number where a group of that name is there already."""
    count = taken[name] = taken.get(name, 0) + 1
    return name if count == 1 else f"{name}#{count}"
