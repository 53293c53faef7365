"""Time-multiplexing of weights too large for the chip: which groups stay, and which take turns on crossbars."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

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
            found = prod(rewriting(sizes, turns, uses)), turns
            best = found if best is None else min(best, found)
    return None if best is None else best[1]


def rewriting(sizes: Sequence[int], turns: Sequence[int], uses: Uses) -> tuple[int, int]:
    """(crossbars that a run writes, how often another turn begins). Cells are written before a read that finds another
    turn there, or weights that have changed since.
    """
    written = begun = 0
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
            written += sizes[group]
    return written, begun


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
