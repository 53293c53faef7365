"""Which weights are worth a second copy where one array could be read both ways.

A transposed read takes as many turns as a crossbar has planes, a read of a copy one; but replicas could have the copy's
crossbars.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

from mgc.ir.graph import Graph
from mgc.ir.training import Phase, State
from mgc.passes.lowering.trained.entries import LoweredTraining, lower_training
from mgc.passes.lowering.versions import homes_of
from mgc.passes.mapping.allocate import Demand, Objective, allocate_cheaply, choices, hull_of
from mgc.passes.mapping.demands import iteration_demands, iteration_rest
from mgc.passes.mapping.packing import crossbars_of
from mgc.passes.mapping.partition import pack
from mgc.passes.mapping.plan import Resident
from mgc.passes.mapping.reads import Reads, reads_of
from mgc.passes.mapping.residents import Residents
from mgc.targets.cost import CostModel
from mgc.targets.description import Target

_Point = tuple[int, int, bool]
"""A choice for one weight: cycles of its reads, crossbars, whether it has a second copy."""


def lower_with_copies(
    graphs: Sequence[Graph],
    times: Sequence[int],
    states: Sequence[State],
    target: Target,
    objective: Objective = "time",
    phases: Sequence[Phase] = (),
) -> LoweredTraining:
    """`lower_training` with the second copies that the target needs or, if it says `copies = "fast"`, that shorten the
    reads of an iteration, where that is worth their writes by the objective. `times` says how often each graph runs in
    one; 0 for testing.
    """
    least = lower_training(graphs, states, target)
    if not target.training.transposed_read or target.training.copies == "least":
        return least
    bits = target.training.master_bits
    chip = target.model_copy(update={"crossbar": target.crossbar.model_copy(update={"weight_bits": bits})})
    chosen = worth_copying(least, times, chip)
    if not chosen:
        return least
    more = lower_training(graphs, states, target, chosen)
    with_copies, without = (_value(lowered, times, chip, objective, phases) for lowered in (more, least))
    return more if with_copies < without else least


def worth_copying(lowered: LoweredTraining, times: Sequence[int], target: Target) -> frozenset[str]:
    """The states of the weights that get a second copy, so that the reads of an iteration take least time in all.

    A weight has so many crossbars, shared out over its groups' replicas, of one array or of two; the lower convex hull
    of all that gives, for each weight, the cycles that a crossbar saves next. The best are taken until the budget is
    used up. A copy is taken to need as many crossbars as the first.
    """
    reads = _reads(lowered, times, target)
    budget, interval = target.structure.crossbars, CostModel(target).read_interval_cycles()
    curves: list[tuple[str, list[_Point]]] = []
    for groups in _weights(lowered.residents).values():
        here = [reads.get(r.name, Reads()) for r in groups]
        sizes = [crossbars_of(r.part, target.crossbar) for r in groups if r.part is not None]
        packed = _packed(groups, reads, target)
        one = _curve([(d.crossbars, d.windows) for d in packed], interval, budget)
        points = [(cycles, held, False) for cycles, held in one]
        if groups[0].state and any(r.transposed for r in here):
            ways = ([r.forward for r in here], [r.transposed for r in here])
            first, second = (_curve(list(zip(sizes, way, strict=True)), interval, budget) for way in ways)
            points += [(cycles, held, True) for cycles, held in _joined(first, second) if held <= budget]
        curves.append((groups[0].state, _envelope(points)))
    at = [0] * len(curves)
    left = budget - sum(points[0][1] for _, points in curves)
    steps = sorted(
        ((b[0] - a[0]) / (b[1] - a[1]), n, k, b[1] - a[1])
        for n, (_, points) in enumerate(curves)
        for k, (a, b) in enumerate(pairwise(points))
    )
    for _, n, k, held in steps:
        if at[n] == k and held <= left:
            at[n], left = k + 1, left - held
    return frozenset(state for (state, points), k in zip(curves, at, strict=True) if points[k][2])


def _weights(residents: Residents) -> dict[str, list[Resident]]:
    """The groups of each copy of a weight."""
    found: dict[str, list[Resident]] = {}
    for resident in residents.groups:
        found.setdefault(resident.layer, []).append(resident)
    return found


def _reads(lowered: LoweredTraining, times: Sequence[int], target: Target) -> Mapping[str, Reads]:
    names = [r.name for r in lowered.residents.all]
    return reads_of(lowered.graphs, [homes_of(g, names) for g in lowered.graphs], times, target)


def _packed(groups: Sequence[Resident], reads: Mapping[str, Reads], target: Target, layer: int = 0) -> list[Demand]:
    """What the groups of one array ask for, packed for their reads."""
    crossbar, interval = target.crossbar, CostModel(target).read_interval_cycles()
    found: list[Demand] = []
    for group in pack(groups, reads, target):
        if group.part is not None:
            turns = crossbar.transposed_turns(plane_columns=group.plane_columns)
            work = max(1, reads.get(group.name, Reads()).turns(turns))
            found.append(Demand(layer, crossbars_of(group.part, crossbar, group.plane_columns), work, interval))
    return found


def _curve(groups: Sequence[tuple[int, int]], interval: int, budget: int) -> list[tuple[int, int]]:
    """(cycles, crossbars) along the hull of the choices for groups of so many (crossbars, reads) that work together."""
    found = choices([Demand(0, size, max(1, reads), interval) for size, reads in groups], budget)
    return [found[k][:2] for k in hull_of(found, 0, len(found) - 1)]


def _joined(first: Sequence[tuple[int, int]], second: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The curve of two arrays, one read after the other: crossbars go where they save most first."""
    cycles, held = first[0][0] + second[0][0], first[0][1] + second[0][1]
    steps = [(b[0] - a[0], b[1] - a[1]) for c in (first, second) for a, b in pairwise(c)]
    points = [(cycles, held)]
    # stable: steps of one curve that save alike stay in its order
    for saved, taken in sorted(steps, key=lambda step: step[0] / step[1]):
        cycles, held = cycles + saved, held + taken
        points.append((cycles, held))
    return points


def _envelope(points: Sequence[_Point]) -> list[_Point]:
    """The lower convex hull of cycles over crossbars, cycles falling strictly."""
    falling: list[_Point] = []
    for point in sorted(points, key=lambda p: (p[1], p[0], p[2])):
        if not falling or point[0] < falling[-1][0]:
            falling.append(point)
    kept: list[_Point] = []
    for point in falling:
        while len(kept) > 1:
            (la, ca, _), (lb, cb, _) = kept[-2:]
            if (la - lb) * (point[1] - ca) > (la - point[0]) * (cb - ca):
                break
            kept.pop()
        kept.append(point)
    return kept


def _value(
    lowered: LoweredTraining, times: Sequence[int], target: Target, objective: Objective, phases: Sequence[Phase]
) -> float:
    """What an iteration with the best replicas takes of the objective; without end if one copy of all does not fit."""
    packed = {r.name: r for r in pack(lowered.residents.groups, _reads(lowered, times, target), target)}
    residents = replace(lowered.residents, all=tuple(packed.get(r.name, r) for r in lowered.residents.all))
    demands = iteration_demands(lowered.graphs, times, residents, target)
    if sum(d.crossbars for d in demands) > target.structure.crossbars:
        return float("inf")
    rest = iteration_rest(lowered.graphs, times, residents, target, phases)
    held, _ = allocate_cheaply(demands, target.structure.crossbars, objective, rest)
    return rest.value_of(objective, demands, held.replicas, held.latency)
