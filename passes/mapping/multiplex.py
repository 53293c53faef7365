"""Time-multiplexing of weights too large for the chip: which groups stay, and which take turns on crossbars."""

from __future__ import annotations

from collections.abc import Sequence

STAYS = -1
"""The turn of a group that is on its crossbars for good."""


def turns_of(sizes: Sequence[int], capacity: int) -> tuple[int, ...] | None:
    """For groups of so many crossbars, in the order in which a run reads them: `STAYS`, or the turn in which each is
    written. None where one is larger than what is left for turns, whatever stays.

    A run writes what does not stay, which takes energy for each crossbar and time for each turn, in which crossbars are
    written side by side: the product of the two is to be least. Of the largest or the smallest groups some stay; turns
    are runs of consecutive groups that fit in what is left over.
    """
    if sum(sizes) <= capacity:
        return (STAYS,) * len(sizes)
    best: tuple[int, tuple[int, ...]] | None = None
    by_size = sorted(range(len(sizes)), key=lambda k: (-sizes[k], k))
    for order in (by_size, by_size[::-1]):
        room = capacity
        for count in range(len(order)):
            staying = frozenset(order[:count])
            if count:
                room -= sizes[order[count - 1]]
            others = [s for k, s in enumerate(sizes) if k not in staying]
            if max(others) > room:
                continue
            turns = _in_turns(sizes, staying, room)
            found = sum(others) * (1 + max(turns)), turns
            best = found if best is None else min(best, found)
    return None if best is None else best[1]


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
