"""Which weights are worth a second copy where one array could be read both ways.

A transposed read takes as many turns as a crossbar has planes, a read of a copy one; but replicas could have the copy's
crossbars.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import reduce
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
    reads = _reads(least, times, chip)
    groups = least.residents.groups
    read_both_ways = frozenset(r.state for r in groups if r.state and reads.get(r.name, Reads()).transposed)
    if not read_both_ways:
        return least
    all_copied = lower_training(graphs, states, target, read_both_ways)
    copied_reads = _reads(all_copied, times, chip)
    chosen = worth_copying(least, reads, all_copied, copied_reads, chip)
    if not chosen:
        return least
    more, more_reads = all_copied, copied_reads
    if chosen != read_both_ways:
        more = lower_training(graphs, states, target, chosen)
        more_reads = _reads(more, times, chip)
    with_copies = _value(more, more_reads, times, chip, objective, phases)
    return more if with_copies < _value(least, reads, times, chip, objective, phases) else least


def worth_copying(
    least: LoweredTraining,
    reads: Mapping[str, Reads],
    all_copied: LoweredTraining,
    copied_reads: Mapping[str, Reads],
    target: Target,
) -> frozenset[str]:
    """The states of the weights that get a second copy, so that the reads of an iteration take least time in all. Both
    come with the reads of their groups.

    A weight has so many crossbars, shared out over its groups' replicas, of the arrays it has in `least` or of those in
    `all_copied`; the lower convex hull of all that gives, for each weight, the cycles that a crossbar saves next. The
    best are taken until the budget is used up.
    """
    budget, copied = target.structure.crossbars, _weights(all_copied.residents)
    curves: list[tuple[str, list[_Point]]] = []
    for weight, arrays in _weights(least.residents).items():
        points = [(*point, False) for point in _curve_of(arrays, reads, target)]
        if len(copied[weight]) > len(arrays):
            with_copy = _curve_of(copied[weight], copied_reads, target)
            points += [(cycles, held, True) for cycles, held in with_copy if held <= budget]
        curves.append((weight, _envelope(points)))
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


def _weights(residents: Residents) -> dict[str, list[list[Resident]]]:
    """The arrays of each weight, a list of groups each; what nothing trains goes by its layer."""
    layers: dict[str, list[Resident]] = {}
    for resident in residents.groups:
        layers.setdefault(resident.layer, []).append(resident)
    found: dict[str, list[list[Resident]]] = {}
    for layer, groups in layers.items():
        found.setdefault(groups[0].state or layer, []).append(groups)
    return found


def _curve_of(
    arrays: Sequence[Sequence[Resident]], reads: Mapping[str, Reads], target: Target
) -> list[tuple[int, int]]:
    """(cycles, crossbars) along the hull of the choices for arrays that are read one after the other."""
    interval, budget = CostModel(target).read_interval_cycles(), target.structure.crossbars
    return reduce(
        _joined,
        (_curve([(d.crossbars, d.windows) for d in _packed(a, reads, target)], interval, budget) for a in arrays),
    )


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
    lowered: LoweredTraining,
    reads: Mapping[str, Reads],
    times: Sequence[int],
    target: Target,
    objective: Objective,
    phases: Sequence[Phase],
) -> float:
    """What an iteration with the best replicas takes of the objective; without end if one copy of all does not fit."""
    packed = {r.name: r for r in pack(lowered.residents.groups, reads, target)}
    residents = replace(lowered.residents, all=tuple(packed.get(r.name, r) for r in lowered.residents.all))
    demands = iteration_demands(lowered.graphs, times, residents, target)
    if sum(d.crossbars for d in demands) > target.structure.crossbars:
        return float("inf")
    rest = iteration_rest(lowered.graphs, times, residents, target, phases)
    held, _ = allocate_cheaply(demands, target.structure.crossbars, objective, rest)
    return rest.value_of(objective, demands, held.replicas, held.latency)
