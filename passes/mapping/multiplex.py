"""Time-multiplexing of weights too large for the chip: which groups stay, and which take turns on crossbars."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from mgc.passes.mapping.allocate import NOTHING, Demand, Objective, Rest, allocate_cheaply

STAYS = -1
"""The turn of a group that is on its crossbars for good."""


Uses = Sequence[tuple[int, bool]]
"""The groups that a run reads (False) and whose weights it changes (True), in order."""


def turns_of(sizes: Sequence[int], capacity: int, uses: Uses | None = None) -> tuple[int, ...] | None:
    """For groups of so many crossbars: `STAYS`, or the turn that each shares crossbars in. None where one is larger
    than what is left for turns, whatever stays. Without `uses` a run reads each group once, one after the other.

    A run writes what does not stay, which takes energy for each crossbar and time whenever another turn begins, in
    which crossbars are written side by side: the product of the two is to be least. Of the largest or the smallest
    groups some stay; turns are runs of consecutive groups that fit in what is left over.
    """
    if sum(sizes) <= capacity:
        return (STAYS,) * len(sizes)
    uses = [(k, False) for k in range(len(sizes))] if uses is None else uses
    best: tuple[int, tuple[int, ...]] | None = None
    by_size = sorted(range(len(sizes)), key=lambda k: (-sizes[k], k))
    for order in (by_size, by_size[::-1]):
        room = capacity
        for count in range(len(order)):
            staying = frozenset(order[:count])
            if count:
                room -= sizes[order[count - 1]]
            if max(s for k, s in enumerate(sizes) if k not in staying) > room:
                continue
            turns = _in_turns(sizes, staying, room)
            times, begun = rewrites(turns, uses)
            found = begun * sum(n * size for n, size in zip(times, sizes, strict=True)), turns
            best = found if best is None else min(best, found)
    return None if best is None else best[1]


def rewrites(turns: Sequence[int], uses: Uses) -> tuple[list[int], int]:
    """How often a run writes each group, and how often another turn begins. Cells are written before a read that finds
    another turn there, or weights that have changed since.
    """
    times, begun = [0] * len(turns), 0
    turn, held = STAYS, set[int]()
    for group, changes in uses:
        if turns[group] == STAYS:
            continue
        if changes:
            held.discard(group)
            continue
        if turns[group] != turn:
            turn, begun, held = turns[group], begun + 1, set()
        if group not in held:
            held.add(group)
            times[group] += 1
    return times, begun


def turns_with_replicas(
    demands: Sequence[Demand], capacity: int, uses: Uses, objective: Objective, rest: Rest, write: tuple[int, float]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The turn and the replicas of each group of an iteration: of some choices, that of least `objective` as estimated.

    `write` are the cycles of writing cells side by side, and the joules of a crossbar. Tried: the turns of `turns_of`,
    and all groups in turns of a half, a quarter, ... of the crossbars, which leaves room for replicas; each turn has
    those that `allocate_cheaply` finds worth their writes.
    """
    sizes = [d.crossbars for d in demands]
    choices = [turns_of(sizes, capacity, uses)]
    room = capacity
    while room >= max(sizes):
        choices.append(_in_turns(sizes, frozenset(), room))
        room //= 2
    found = [
        _filled(demands, c, capacity, uses, objective, rest, write) for c in dict.fromkeys(choices) if c is not None
    ]
    return min(found)[1:]


def _filled(
    demands: Sequence[Demand],
    turns: tuple[int, ...],
    capacity: int,
    uses: Uses,
    objective: Objective,
    rest: Rest,
    write: tuple[int, float],
) -> tuple[float, tuple[int, ...], tuple[int, ...]]:
    """(estimated objective, turns, replicas): turn after turn, with the others as they are, gets replicas."""
    times, begun = rewrites(turns, uses)
    cycles, joules = write
    paid = [
        d if turn == STAYS else replace(d, written=n * d.crossbars * joules)
        for d, turn, n in zip(demands, turns, times, strict=True)
    ]
    room = capacity - sum(d.crossbars for d, turn in zip(demands, turns, strict=True) if turn == STAYS)
    replicas = [1] * len(demands)

    def reads(members: Iterable[int]) -> int:
        longest: dict[int, int] = {}
        for k in members:
            layer = paid[k].layer
            longest[layer] = max(longest.get(layer, 0), paid[k].duration(replicas[k]))
        return sum(longest.values())

    everything = range(len(demands))
    for turn in sorted({t for t in turns if t != STAYS}):
        own = [k for k in everything if turns[k] == turn]
        others = [k for k in everything if turns[k] != turn]
        written = sum(paid[k].written * replicas[k] for k in others)
        aside = replace(rest, cycles=rest.cycles + begun * cycles + reads(others), joules=rest.joules + written)
        aside = replace(aside, macros=NOTHING.macros)
        chosen, _ = allocate_cheaply([paid[k] for k in own], room, objective, aside)
        for k, count in zip(own, chosen.replicas, strict=True):
            replicas[k] = count
    whole = replace(rest, cycles=rest.cycles + begun * cycles, macros=NOTHING.macros)
    return whole.value_of(objective, paid, replicas, reads(everything)), turns, tuple(replicas)


def _in_turns(sizes: Sequence[int], staying: frozenset[int], room: int) -> tuple[int, ...]:
    """Turns of groups one after the other, a new one where the next group does not fit."""
    turns: list[int] = []
    turn = used = 0
    for k, size in enumerate(sizes):
        if k in staying:
            turns.append(STAYS)
            continue
        if used + size > room:
            turn, used = turn + 1, 0
        used += size
        turns.append(turn)
    return tuple(turns)
