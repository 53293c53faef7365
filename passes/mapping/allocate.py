"""allocate: how many replicas each crossbar group gets, under the crossbar budget."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from math import ceil, inf, isqrt
from operator import itemgetter
from typing import Literal, get_args

from mgc.ir.op import register_attr

Objective = Literal["time", "energy", "edp"]
_TRIFLE = 1e-18
"""Joules that a crossbar counts for where nothing else tells choices apart."""
OBJECTIVES: tuple[Objective, ...] = get_args(Objective)
"""What a run is to take least of: time, energy, or energy times delay."""

Level = tuple[int, int, tuple[int, ...]]
"""A choice for one layer: its latency in cycles, the crossbars it takes, the replicas of each of its groups."""


@dataclass(frozen=True)
class Demand:
    """What one crossbar group asks for.

    `windows` is the work of one micro-batch; with r replicas it takes overhead + ceil(windows / r) * cycles cycles, and
    r * `written` joules go into writing cells, in each run. Groups of one `layer` run side by side on the same input;
    layers run one after the other.
    """

    layer: int
    crossbars: int
    windows: int
    cycles: int
    overhead: int = 0
    written: float = 0.0

    def duration(self, replicas: int) -> int:
        """Cycles for one micro-batch."""
        return self.overhead + -(-self.windows // replicas) * self.cycles

    def replicas_for(self, duration: int) -> int | None:
        """The fewest replicas that take at most `duration` cycles; None if none can."""
        share = (duration - self.overhead) // self.cycles if self.cycles else self.windows
        return None if share < 1 else max(1, -(-self.windows // share))


@dataclass(frozen=True)
class Rest:
    """What a run takes beside its reads: `cycles` of writes for each turn that the crossbars of a macro take, of which
    there are `macros`; `joules` whatever the replicas, and joules of leakage for each cycle that it lasts.
    """

    cycles: int = 0
    joules: float = 0.0
    leakage: float = 0.0
    macros: int = 1 << 30

    def run_cycles(self, cycles: int, crossbars: int) -> int:
        """Cycles of a run whose reads take so many."""
        return cycles + self.cycles * max(1, -(-crossbars // self.macros))

    def run_joules(self, demands: Sequence[Demand], replicas: Sequence[int], cycles: int) -> float:
        """Joules of a run of so many cycles."""
        written = sum(d.written * r for d, r in zip(demands, replicas, strict=True))
        return self.joules + written + self.leakage * cycles

    def value(self, objective: Objective, cycles: float, joules: float) -> float:
        """What is to be least, of a run of so many cycles and joules."""
        return {"time": cycles, "energy": joules, "edp": cycles * joules}[objective]

    def value_of(self, objective: Objective, demands: Sequence[Demand], replicas: Sequence[int], latency: int) -> float:
        """The same of a run with some replicas, whose reads take so many cycles."""
        cycles = self.run_cycles(latency, sum(d.crossbars * r for d, r in zip(demands, replicas, strict=True)))
        return self.value(objective, cycles, self.run_joules(demands, replicas, cycles))


NOTHING = Rest()


@register_attr
@dataclass(frozen=True)
class Allocation:
    """Replicas of every group, with what they achieve and what no choice could better.

    `bottleneck` is the longest duration of a group and `least_bottleneck` the proven minimum under the budget;
    `latency` sums over layers the longest of each, and `least_latency` is a lower bound of it for this bottleneck (a
    linear relaxation). All in cycles for one micro-batch.
    """

    replicas: tuple[int, ...]
    crossbars: int
    bottleneck: int
    least_bottleneck: int
    latency: int
    least_latency: float


def allocate(
    demands: Sequence[Demand],
    budget: int,
    *,
    micro_batches: int = 1,
    floor: int = 0,
    chips: Sequence[int] | None = None,
) -> Allocation:
    """Replicas under a budget of crossbars (which holds one replica of each).

    The least possible bottleneck is found by bisection: whether a bottleneck D can be had is decided exactly, since
    each group then needs the fewest replicas that reach D, and it is monotone in D. A run of `micro_batches` takes
    about latency + (micro_batches - 1) * max(bottleneck, floor), where `floor` is what other units take in any case.
    Of bottlenecks from the least one up (a geometric grid), the one is chosen for which that is least, what remains
    of the budget going where a crossbar saves most latency; so a long stream gets the least bottleneck, a single
    sample the least latency. `chips` names the chip of each demand (all of one layer on one): then each chip has the
    budget for its own.
    """
    if not demands:
        return Allocation((), 0, 0, 0, 0, 0.0)
    shares = [
        _Layers([demands[i] for i in own], own, budget)
        for chip in sorted(set(chips or (0,)))
        if (own := [i for i in range(len(demands)) if chips is None or chips[i] == chip])
    ]
    least = max(least_bottleneck(share.demands, budget) for share in shares)
    worst = max(d.duration(1) for d in demands)
    caps = [max(least, min(floor, worst))]
    while caps[-1] < worst:
        caps.append(min(worst, max(caps[-1] + 1, caps[-1] * 5 // 4)))
    best: tuple[int, Allocation] | None = None
    for cap in reversed(caps):
        replicas, bound, latency = [0] * len(demands), 0.0, 0
        for share in shares:
            own, own_bound = share.least_latency(cap, budget)
            for at, count in zip(share.places, own, strict=True):
                replicas[at] = count
            bound, latency = bound + own_bound, latency + share.latency(own)
        if best is not None and run_cycles(ceil(bound - 1e-6), least, micro_batches, floor) > best[0]:
            break  # the bound grows as caps fall
        bottleneck = max(d.duration(r) for d, r in zip(demands, replicas, strict=True))
        cost = run_cycles(latency, bottleneck, micro_batches, floor)
        if best is None or cost <= best[0]:
            crossbars = sum(d.crossbars * r for d, r in zip(demands, replicas, strict=True))
            best = cost, Allocation(tuple(replicas), crossbars, bottleneck, least, latency, bound)
    assert best is not None
    return best[1]


def allocate_cheaply(
    demands: Sequence[Demand], budget: int, objective: Objective, rest: Rest, chips: Sequence[int] | None = None
) -> tuple[Allocation, float]:
    """Replicas for one run whose groups' cells are written in it, and a value of `objective` that none is below.

    A run's cycles are the sum over layers of the longest group of each, and the writes; its joules `rest` and the
    writes. With one turn of writes both are sums over layers, and energy and energy x delay are least at a corner of
    the lower convex hull of (joules, cycles): energy is linear, and a product falls off from anywhere on an edge
    towards one of its ends. The hull of the sums is walked from one replica each on, the step that saves most cycles
    for a joule first. Its best corner is the optimum, and the bound, unless the budget ends the walk or writes take
    more turns. Then replicas of least time are tried, too: those of least reads for each number of turns.
    """
    fastest, bound = _fastest(tuple(demands), budget, rest.cycles, rest.macros, None if chips is None else tuple(chips))
    if objective == "time":
        return fastest, bound
    once = replace(rest, macros=NOTHING.macros)
    layers = _Layers(demands, range(len(demands)), budget)
    chip_of = [0 if chips is None else chips[group[0]] for group in layers.members.values()]
    left = dict.fromkeys(chip_of, budget)
    for n, chip in enumerate(chip_of):
        left[chip] -= layers.levels[n][0][1]

    def value(choice: Sequence[int], rest: Rest) -> float:
        latency = sum(levels[k][0] for levels, k in zip(layers.levels, choice, strict=True))
        return rest.value_of(objective, demands, layers.replicas(choice), latency)

    at, free = [0] * len(chip_of), [0] * len(chip_of)
    best, bound = (value(at, rest), tuple(at)), value(free, once)
    for n, a, b in layers.steps_by_joules():
        free[n] = b
        bound = min(bound, value(free, once))
        more = layers.levels[n][b][1] - layers.levels[n][a][1]
        if at[n] == a and more <= left[chip_of[n]]:
            at[n], left[chip_of[n]] = b, left[chip_of[n]] - more
            best = min(best, (value(at, rest), tuple(at)))
    if rest.value_of(objective, demands, fastest.replicas, fastest.latency) <= best[0]:
        return fastest, bound
    replicas = layers.replicas(best[1])
    found = Allocation(
        replicas,
        sum(d.crossbars * r for d, r in zip(demands, replicas, strict=True)),
        max(d.duration(r) for d, r in zip(demands, replicas, strict=True)),
        fastest.least_bottleneck,
        layers.latency(replicas),
        fastest.least_latency,
    )
    return found, bound


@lru_cache(maxsize=16)  # each objective asks for it again
def _fastest(
    demands: tuple[Demand, ...], budget: int, write_cycles: int, macros: int, chips: tuple[int, ...] | None
) -> tuple[Allocation, float]:
    """The allocation of least time, reads and writes, and a bound of that: the best over the turns of writes, of which
    each takes `write_cycles` and so many macros write in it.
    """
    on = [0] * len(demands) if chips is None else chips
    single = {chip: sum(d.crossbars for d, c in zip(demands, on, strict=True) if c == chip) for chip in set(on)}
    rest = Rest(cycles=write_cycles, macros=macros)
    each = macros // len(single)
    found: list[tuple[int, Allocation]] = []
    bound = inf
    for turns in range(1, -(-budget // each) + 1):
        room = min(budget, turns * each)
        if max(single.values()) <= room:
            held = allocate(demands, room, chips=chips)
            found.append((rest.run_cycles(held.latency, held.crossbars), held))
            bound = min(bound, held.least_latency + turns * rest.cycles)
    return min(found, key=itemgetter(0))[1], bound


def run_cycles(latency: int, bottleneck: int, micro_batches: int, floor: int = 0) -> int:
    """About the cycles of a run: the first micro-batch, then one more each time the busiest unit is free."""
    return latency + (micro_batches - 1) * max(bottleneck, floor)


def least_run_cycles(demands: Sequence[Demand], budget: int, *, micro_batches: int = 1, floor: int = 0) -> int:
    """What `run_cycles` is at least, whatever the replicas: the linear relaxation of the latency under no other limit
    than the budget, and the least bottleneck.
    """
    if not demands:
        return 0
    worst = max(d.duration(1) for d in demands)
    _, latency = _Layers(demands, range(len(demands)), budget).least_latency(worst, budget)
    return run_cycles(ceil(latency - 1e-6), least_bottleneck(demands, budget), micro_batches, floor)


def least_bottleneck(demands: Sequence[Demand], budget: int) -> int:
    """The least D such that replicas within the budget bring every group to at most D cycles."""

    def fits(duration: int) -> bool:
        total = 0
        for demand in demands:
            replicas = demand.replicas_for(duration)
            if replicas is None:
                return False
            total += demand.crossbars * replicas
        return total <= budget

    low = max(d.overhead + d.cycles for d in demands) - 1  # one window at a time cannot be split
    high = max(d.duration(1) for d in demands)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high


def choices(group: Sequence[Demand], budget: int) -> list[Level]:
    """All choices for a layer worth making, latency falling and crossbars rising strictly, as far as `budget` reaches;
    at least one replica of each group.
    """
    single = sum(d.crossbars for d in group)
    most = [max(1, (budget - single) // d.crossbars + 1) for d in group]  # replicas if the others have one each
    durations = {
        d.duration(r) for d, limit in zip(group, most, strict=True) for r in _worthwhile(d.windows) if r <= limit
    }
    least = max(d.duration(limit) for d, limit in zip(group, most, strict=True))
    found: list[Level] = []
    for duration in sorted((x for x in durations if x >= least), reverse=True):
        replicas = tuple(d.replicas_for(duration) or 0 for d in group)
        crossbars = sum(d.crossbars * r for d, r in zip(group, replicas, strict=True))
        if found and crossbars > budget:
            break
        latency = max(d.duration(r) for d, r in zip(group, replicas, strict=True))
        if found and found[-1][1] == crossbars:
            found.pop()
        found.append((latency, crossbars, replicas))
    return found


class _Layers:
    """The choices of each layer: latency against crossbars, from one replica each to one for each window, as far as
    `budget` reaches.

    `places` are the demands' places among those of all chips.
    """

    def __init__(self, demands: Sequence[Demand], places: Sequence[int], budget: int) -> None:
        self.demands = demands
        self.places = places
        self.members: dict[int, list[int]] = {}
        for index, demand in enumerate(demands):
            self.members.setdefault(demand.layer, []).append(index)
        self.levels = [choices([demands[i] for i in group], budget) for group in self.members.values()]
        self.hulls = [hull_of(levels, 0, len(levels) - 1) for levels in self.levels]
        self._steps: dict[tuple[int, int], list[tuple[float, int, int, int, int]]] = {}

    def replicas(self, at: Sequence[int]) -> tuple[int, ...]:
        """The replicas of every demand for a choice of each layer."""
        found = [0] * len(self.demands)
        for group, levels, k in zip(self.members.values(), self.levels, at, strict=True):
            for index, count in zip(group, levels[k][2], strict=True):
                found[index] = count
        return tuple(found)

    def steps_by_joules(self) -> list[tuple[int, int, int]]:
        """(layer, choice, next choice) along the hull of cycles over joules written, the most saved for a joule first;
        of what costs none, what takes few crossbars.
        """
        steps: list[tuple[float, int, int, int]] = []
        for n, (group, levels) in enumerate(zip(self.members.values(), self.levels, strict=True)):
            points = [
                (latency, size * _TRIFLE + sum(self.demands[i].written * r for i, r in zip(group, counts, strict=True)))
                for latency, size, counts in levels
            ]
            for a, b in pairwise(hull_of(points, 0, len(points) - 1)):
                steps.append(((points[b][0] - points[a][0]) / (points[b][1] - points[a][1]), n, a, b))
        return [step[1:] for step in sorted(steps)]

    def latency(self, replicas: Sequence[int]) -> int:
        """Sum over layers of their longest group."""
        return sum(max(self.demands[i].duration(replicas[i]) for i in group) for group in self.members.values())

    def least_latency(self, cap: int, budget: int) -> tuple[tuple[int, ...], float]:
        """Replicas that bring every layer to at most `cap` cycles and the sum of latencies near its least.

        Steps along the lower convex hull of each layer's choices, the most cycles saved for a crossbar first, are
        optimal up to the last step; single steps then use what is left. The bound is the fractional last step's.
        """
        at = [_first_at_most(levels, cap) for levels in self.levels]
        left = budget - sum(levels[k][1] for levels, k in zip(self.levels, at, strict=True))
        bound = float(sum(levels[k][0] for levels, k in zip(self.levels, at, strict=True)))
        fraction = float(left)
        steps = sorted(step for n, start in enumerate(at) for step in self._steps_from(n, start))
        for slope, n, a, b, cost in steps:
            if left <= 0:
                break
            bound += slope * min(cost, max(0.0, fraction))
            fraction -= cost
            if at[n] == a and cost <= left:
                at[n], left = b, left - cost
        self._fill(at, left)
        return self.replicas(at), bound

    def _steps_from(self, n: int, start: int) -> list[tuple[float, int, int, int, int]]:
        """(cycles that a crossbar adds, layer n, choice, next choice, crossbars) along its hull from a choice on."""
        if (n, start) not in self._steps:
            levels = self.levels[n]
            costs = [(a, b, levels[b][1] - levels[a][1]) for a, b in pairwise(_hull_from(levels, self.hulls[n], start))]
            self._steps[n, start] = [((levels[b][0] - levels[a][0]) / cost, n, a, b, cost) for a, b, cost in costs]
        return self._steps[n, start]

    def _fill(self, at: list[int], left: int) -> None:
        """Spends what is left on the best single improvement that fits, again and again."""
        while True:
            best: tuple[float, int, int] | None = None
            for n, levels in enumerate(self.levels):
                latency, crossbars, _ = levels[at[n]]
                last = bisect_right(levels, left + crossbars, lo=at[n], key=lambda level: level[1]) - 1
                if last > at[n]:
                    score = (levels[last][0] - latency) / (levels[last][1] - crossbars)
                    if best is None or score < best[0]:
                        best = score, n, last
            if best is None:
                return
            _, n, k = best
            left -= self.levels[n][k][1] - self.levels[n][at[n]][1]
            at[n] = k


def _worthwhile(windows: int) -> list[int]:
    """Replica counts that lower ceil(windows / replicas): for each value of it, the fewest."""
    if windows <= 1:
        return [1]
    root = isqrt(windows)
    shares = set(range(1, root + 1)) | {-(-windows // r) for r in range(1, root + 2)}
    return sorted({-(-windows // s) for s in shares})


def _first_at_most(levels: Sequence[Level], cap: int) -> int:
    """The cheapest choice of at most `cap` cycles (latencies fall along the list)."""
    return min(bisect_left(levels, -cap, key=lambda level: -level[0]), len(levels) - 1)


def _hull_from(levels: Sequence[Level], hull: Sequence[int], start: int) -> list[int]:
    """The lower convex hull from `start` on, given the whole one: its vertices stay, the way there is new."""
    after = bisect_left(hull, start)
    return [*hull_of(levels, start, hull[after])[:-1], *hull[after:]]


def hull_of(levels: Sequence[tuple[float, float, *tuple[object, ...]]], start: int, stop: int) -> list[int]:
    """Indices of the lower convex hull of latency over crossbars (or another price), from `start` to `stop`."""
    hull: list[int] = []
    for k in range(start, stop + 1):
        latency, crossbars = levels[k][:2]
        while len(hull) > 1:
            (la, ca), (lb, cb) = levels[hull[-2]][:2], levels[hull[-1]][:2]
            # b lies on or above the line from a to k: it is never a best choice
            if (la - lb) * (crossbars - ca) <= (la - latency) * (cb - ca):
                hull.pop()
            else:
                break
        hull.append(k)
    return hull
