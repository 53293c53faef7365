"""chips: which chip each layer lies on, so that little goes over the links between chips."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from operator import itemgetter
from typing import Any

from mgc.ir.op import register_attr
from mgc.passes.mapping.allocate import (
    NOTHING,
    OBJECTIVES,
    Allocation,
    Demand,
    Objective,
    Rest,
    allocate,
    allocate_cheaply,
    least_run_cycles,
    run_cycles,
)
from mgc.passes.mapping.whole_macros import in_whole_macros
from mgc.targets.cost import CostModel, Route
from mgc.targets.description import Target

_EFFORT = 2.0
"""CP-SAT's deterministic time for one partition (about seconds of one core)."""
_BALANCED = 8
"""Balanced partitions that are tried at most."""
_SLACK = (1.05, 1.3)
"""How many even shares a chip may get in balanced partitions."""


@dataclass(frozen=True)
class Net:
    """A value that layers share: its bytes in one micro-batch, and the layers that make or read it.

    Chips stand in a line, so the value crosses every border between the first and the last chip of its layers.
    """

    size: int
    layers: frozenset[int]


@dataclass(frozen=True)
class ChipPartition:
    """Layers on chips: `chip_of` each layer; the bytes that cross links in one micro-batch; the proven least."""

    chip_of: tuple[int, ...]
    traffic: int
    least_traffic: int
    status: str


@register_attr
@dataclass(frozen=True)
class Split:
    """How the crossbars of all chips are shared out, and what of the best possible is proven.

    `chip_of` gives the chip of each layer; None: whole layers do not fit the chips, so they lie across borders.
    `traffic` is what crosses links in one micro-batch, in bytes x links, `least_traffic` the proven least of any
    partition that holds one copy of each weight; `status` is OPTIMAL where the two are equal. `cycles` is the estimate
    of a run; no split of the crossbars into replicas and over chips has an estimate below `least_cycles`: there all
    chips are one and links take no time. `joules` is the estimate of its energy. The `objective` has the estimated
    `value`, which none brings below `least`. `others` are the splits that other objectives would choose.
    """

    chip_of: tuple[int, ...] | None
    allocation: Allocation
    traffic: int
    least_traffic: int
    status: str
    cycles: int
    least_cycles: int
    objective: Objective = "time"
    joules: float = 0.0
    value: float = 0.0
    least: float = 0.0
    others: tuple[Split, ...] = ()

    @property
    def gap(self) -> float:
        """How far the estimate of what was minimised is above the least possible: value / least - 1."""
        return self.value / self.least - 1 if self.least else 0.0

    @property
    def choices(self) -> dict[str, dict[str, float]]:
        """What each objective would give, by the same estimate; empty where nothing is written in a run."""
        each = sorted((self, *self.others), key=lambda s: OBJECTIVES.index(s.objective)) if self.others else []
        return {
            s.objective: {"cycles": s.cycles, "joules": s.joules, "crossbars": s.allocation.crossbars} for s in each
        }

    def to_json_dict(self) -> dict[str, Any]:
        """The figures under their names, with the number of chips that hold weights (None: across borders)."""
        return {
            "chips": None if self.chip_of is None else len(set(self.chip_of)),
            "traffic_bytes": self.traffic,
            "least_traffic_bytes": self.least_traffic,
            "status": self.status,
            "cycles": self.cycles,
            "least_cycles": self.least_cycles,
            "gap": self.gap,
            "objective": self.objective,
            "choices": self.choices,
        }


def split(
    demands: Sequence[Demand],
    nets: Sequence[Net],
    target: Target,
    *,
    micro_batches: int = 1,
    floor: int = 0,
    crossbars: int | None = None,
    objective: Objective = "time",
    rest: Rest = NOTHING,
) -> Split:
    """Chips and replicas of every group. `nets` name layers as the demands do; `crossbars` caps the whole budget.

    The partition of least traffic and balanced ones over every number of chips that holds the weights are proven or
    searched (CP-SAT); replicas are allotted on each; the one whose estimated run has least of the `objective` is taken,
    on a tie the one with less traffic. An estimate is the allocation's own, plus the time of the links. Where cells are
    written in a run (which `rest` tells the remaining costs of) the split says what each objective would give.
    """
    budget = target.structure.crossbars if crossbars is None else min(crossbars, target.structure.crossbars)
    least = least_run_cycles(demands, budget, micro_batches=micro_batches, floor=floor)
    found = partitions(demands, nets, target) if target.structure.chips > 1 and demands else []
    writes = any(d.written for d in demands)
    macros = target.structure.tiles_per_chip * target.structure.macros_per_tile

    def allotted(room: int, on: Sequence[int] | None, aim: Objective) -> Allocation:
        if writes:
            held = allocate_cheaply(demands, room, aim, rest, on)[0]
            return in_whole_macros(held, demands, macros if on is not None else macros * target.structure.chips, on)
        return allocate(demands, room, micro_batches=micro_batches, floor=floor, chips=on)

    def split_of(held: Allocation, chip_of: tuple[int, ...] | None, traffic: int, proven: int, aim: Objective) -> Split:
        latency, busiest = _link_cycles(nets, target, chip_of) if chip_of is not None else (0, 0)
        cycles = run_cycles(held.latency + latency, max(held.bottleneck, busiest), micro_batches, floor)
        status = "FEASIBLE" if chip_of is None or traffic > proven else "OPTIMAL"
        if not writes:
            return Split(chip_of, held, traffic, proven, status, cycles, least, aim, value=cycles, least=least)
        bound = allocate_cheaply(demands, budget, aim, rest)[1]
        whole = rest.run_cycles(cycles, held.crossbars)
        joules = rest.run_joules(demands, held.replicas, whole)
        value = rest.value(aim, whole, joules)
        return Split(chip_of, held, traffic, proven, status, cycles, least, aim, joules, value, bound)

    def best(aim: Objective) -> Split:
        on_chips: list[Split] = []
        for each in found:
            on = [each.chip_of[d.layer] for d in demands]
            room = _room(demands, on, target, budget)
            if room is not None:
                held = allotted(room, on, aim)
                on_chips.append(split_of(held, each.chip_of, each.traffic, found[0].least_traffic, aim))
        if on_chips:
            return min(on_chips, key=lambda s: (s.value, s.traffic))
        one = target.structure.chips == 1 or not demands
        return split_of(allotted(budget, None, aim), (0,) * _layers(demands) if one else None, 0, 0, aim)

    chosen = best(objective)
    return replace(chosen, others=tuple(best(o) for o in OBJECTIVES if o != objective)) if writes else chosen


def _room(demands: Sequence[Demand], on: Sequence[int], target: Target, budget: int) -> int | None:
    """Crossbars that each chip may use: all it has, or its part of a smaller budget; None if one copy is more."""
    used = set(on)
    room = min(target.structure.crossbars_per_chip, budget // len(used))
    held = dict.fromkeys(used, 0)
    for demand, chip in zip(demands, on, strict=True):
        held[chip] += demand.crossbars
    return room if max(held.values()) <= room else None


def partitions(demands: Sequence[Demand], nets: Sequence[Net], target: Target) -> list[ChipPartition]:
    """The partition of least traffic, then balanced ones; none where whole layers do not fit the chips.

    Balanced: no chip gets much more than an even share of what the layers, replicas included, would take if all chips
    were one.
    """
    sizes = _per_layer(demands, [1] * len(demands))
    capacity, chips = target.structure.crossbars_per_chip, min(target.structure.chips, len(sizes))
    first = partition(sizes, nets, target.structure.chips, capacity)
    if first is None:
        return []
    found = [first]
    counts = range(max(2, -(-sum(sizes) // capacity)), chips + 1)
    for count in counts[:: max(1, -(-len(counts) // _BALANCED))]:
        shares = _per_layer(demands, allocate(demands, count * capacity).replicas)
        for slack in _SLACK:
            room = max(int(slack * sum(shares) / count), *shares)
            even = partition(sizes, nets, count, capacity, shares, room)
            if even is not None and even.chip_of not in (p.chip_of for p in found):
                found.append(even)
    return found


def _per_layer(demands: Sequence[Demand], replicas: Sequence[int]) -> list[int]:
    """Crossbars of each layer."""
    sizes = [0] * _layers(demands)
    for demand, count in zip(demands, replicas, strict=True):
        sizes[demand.layer] += demand.crossbars * count
    return sizes


def partition(
    sizes: Sequence[int],
    nets: Sequence[Net],
    chips: int,
    capacity: int,
    shares: Sequence[int] | None = None,
    room: int = 0,
) -> ChipPartition | None:
    """Layers of some sizes on chips of some capacity, with least traffic; None if whole layers cannot be packed.

    With `shares`, those of a chip's layers add up to at most `room`, too. Exact by CP-SAT with one worker, a fixed seed
    and deterministic time only; where that runs out, `least_traffic` is what it proved. It starts from the best cut of
    the layers' own order into one run of layers a chip.
    """
    if not sizes:
        return ChipPartition((), 0, 0, "OPTIMAL")
    if max(sizes) > capacity or sum(sizes) > chips * capacity:
        return None
    limits = [(tuple(sizes), capacity), *([(tuple(shares), room)] if shares is not None else [])]
    nets = _merge(nets)
    hint = _in_order(limits, nets, chips)
    if hint is not None and link_traffic(nets, hint) == 0:
        return ChipPartition(hint, 0, 0, "OPTIMAL")
    return _solve(limits, nets, chips, hint)


def link_traffic(nets: Sequence[Net], chip_of: Sequence[int]) -> int:
    """Bytes x links that a partition moves in one micro-batch."""
    spans = ([chip_of[layer] for layer in net.layers] for net in nets)
    return sum(net.size * (max(on) - min(on)) for net, on in zip(nets, spans, strict=True) if on)


def _layers(demands: Sequence[Demand]) -> int:
    return 1 + max((d.layer for d in demands), default=-1)


def _merge(nets: Sequence[Net]) -> list[Net]:
    """Nets of the same layers as one, those of a single layer left out."""
    sizes: dict[frozenset[int], int] = {}
    for net in nets:
        if len(net.layers) > 1 and net.size:
            sizes[net.layers] = sizes.get(net.layers, 0) + net.size
    return [Net(size, layers) for layers, size in sorted(sizes.items(), key=lambda item: sorted(item[0]))]


_Limits = Sequence[tuple[Sequence[int], int]]
"""What the layers on one chip may add up to: a size for each layer, and the most."""


def _in_order(limits: _Limits, nets: Sequence[Net], chips: int) -> tuple[int, ...] | None:
    """The best partition that gives each chip, in turn, a run of consecutive layers: by dynamic programming.

    A border before layer k is crossed by the nets with layers on both sides of it, whatever the other borders are.
    """
    n = len(limits[0][0])
    crossing = [sum(net.size for net in nets if min(net.layers) < k <= max(net.layers)) for k in range(n)]
    best: dict[tuple[int, int], tuple[int, tuple[int, ...]]] = {(0, 0): (0, ())}  # chips, layers: traffic, first layers
    for used in range(1, min(chips, n) + 1):
        for stop in range(used, n + 1):
            for start in range(stop - 1, -1, -1):
                if any(sum(sizes[start:stop]) > most for sizes, most in limits):
                    break
                if (used - 1, start) in best:
                    traffic, starts = best[used - 1, start]
                    found = traffic + crossing[start], (*starts, start)
                    best[used, stop] = min(best.get((used, stop), found), found, key=itemgetter(0))
    ends = [best[used, n] for used in range(1, n + 1) if (used, n) in best]
    if not ends:
        return None
    _, starts = min(ends, key=itemgetter(0))
    return tuple(bisect_right(starts, layer) - 1 for layer in range(n))


def _solve(limits: _Limits, nets: Sequence[Net], chips: int, hint: Sequence[int] | None) -> ChipPartition | None:
    """The partition that CP-SAT finds; None if it proves that there is none (or finds none in its time)."""
    from ortools.sat.python import cp_model

    model = cp_model.CpModel()
    # beyond[layer][k]: whether the layer lies beyond the border in front of chip k
    beyond = [
        [1, *(model.new_bool_var(f"beyond[{layer},{border}]") for border in range(1, chips)), 0]
        for layer in range(len(limits[0][0]))
    ]
    for row in beyond:
        for a, b in pairwise(row[1:-1]):
            model.add(b <= a)
    for chip in range(chips):
        for sizes, most in limits:
            held = (size * (row[chip] - row[chip + 1]) for size, row in zip(sizes, beyond, strict=True))
            model.add(sum(held) <= most)
    crossed: list[tuple[int, cp_model.IntVar]] = []
    for border in range(1, chips):
        for k, net in enumerate(nets):
            cross = model.new_bool_var(f"cross[{border},{k}]")
            ring = sorted(net.layers)
            for a, b in pairwise((*ring, ring[0])):
                model.add(cross >= beyond[a][border] - beyond[b][border])
            crossed.append((net.size, cross))
    if hint is not None:
        for row, chip in zip(beyond, hint, strict=True):
            for border in range(1, chips):
                model.add_hint(row[border], int(chip >= border))
    model.minimize(sum(size * cross for size, cross in crossed))
    solver = cp_model.CpSolver()
    parameters = solver.parameters
    parameters.num_workers = 1
    parameters.random_seed = 1
    parameters.catch_sigint_signal = False
    parameters.max_deterministic_time = _EFFORT
    status = solver.solve(model)
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return None if hint is None else ChipPartition(tuple(hint), link_traffic(nets, hint), 0, "FEASIBLE")
    chip_of = tuple(sum(solver.boolean_value(v) for v in row[1:-1]) for row in beyond)
    return ChipPartition(
        chip_of, link_traffic(nets, chip_of), max(0, int(solver.best_objective_bound + 0.5)), solver.status_name(status)
    )


def _link_cycles(nets: Sequence[Net], target: Target, chip_of: Sequence[int]) -> tuple[int, int]:
    """(cycles of all that crosses, one after the other; cycles of the busiest link) in one micro-batch.

    Both directions of a border count as one, so it is a little more than what the schedule will see.
    """
    cost = CostModel(target)
    load: dict[int, int] = {}
    for net in nets:
        on = [chip_of[layer] for layer in net.layers]
        for border in range(min(on, default=0), max(on, default=0)):
            load[border] = load.get(border, 0) + cost.move_cycles(net.size, Route(hops=1, links=1))
    return sum(load.values()), max(load.values(), default=0)
