"""Where the values of a run in parts lie, and when their bytes are in use."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from heapq import heappop, heappush

from mgc.ir.graph import Value
from mgc.passes.memory import Packed, Use, footprint, shared, side_by_side
from mgc.passes.operations import Work
from mgc.passes.plan import Operation
from mgc.passes.scheduling.problem import Tasks

Lives = dict[Value, tuple[list[int], list[int]]]
"""For each value the cycles at which each of its parts is first written, and at which it is last used."""


def lives_of(
    work: Work,
    operations: Sequence[Operation],
    axes: Collection[Value],
    roots: Mapping[Value, Value],
    tasks: Tasks,
    starts: Sequence[int],
) -> Lives:
    """When each part of each value is in use; a value that is whole has one part.

    `operations` are `work`'s, `axes` the values that are there part by part, `roots` tells in which value's memory each
    value lies.
    """
    base = work.setup
    table: list[list[int]] = [[] for _ in range(tasks.operations)]
    for t, start in enumerate(starts):
        table[tasks.operation[t]].append(start)
    lives: Lives = {}
    for value, writers in work.writers.items():
        readers = work.readers[value]
        by_parts = value in axes and all(operations[w].streamed for w in writers)
        if not by_parts:
            begin = min(table[w - base][0] for w in writers)
            end = max(table[i - base][-1] + operations[i].duration for i in (*writers, *readers))
            lives[value] = [begin], [end]
            continue
        parts = tasks.repeats
        begins = [min(table[w - base][k] for w in writers) for k in range(parts)]
        ends = [0] * parts
        for i in (*writers, *readers):
            own, op = table[i - base], operations[i]
            seen = op.node.inputs if op.node is not None else ()
            every = not op.streamed or any(roots[v] is value and v not in axes for v in seen)
            for k in range(parts):
                ends[k] = max(ends[k], (own[-1] if every else own[k]) + op.duration)
        lives[value] = begins, ends
    return lives


def slots_for(begins: Sequence[int], ends: Sequence[int]) -> int:
    """The fewest slots that parts can go round in without one being written while the one before it is in use."""
    count = len(begins)
    return next((s for s in range(1, count) if all(begins[k + s] >= ends[k] for k in range(count - s))), count)


def slots_of(work: Work, lives: Lives) -> dict[Value, int]:
    """Slots of every value; what has places that nothing writes keeps all its parts apart."""
    return {v: len(b) if v in work.holey else slots_for(b, e) for v, (b, e) in lives.items()}


def uses_of(work: Work, lives: Lives, slots: Mapping[Value, int], offchip: Collection[Value], end: int) -> list[Use]:
    """The bytes on the chip that each value takes, and from when to when."""
    uses: list[Use] = []
    for value, size in work.sizes.items():
        taken = footprint(size, slots[value])
        if value in offchip or not taken:
            continue
        begins, ends = lives[value]
        holey = value in work.holey
        uses.append(Use(value, 0 if holey else min(begins), end if holey else max(ends), taken))
    return uses


def relieved(uses: Sequence[Use], capacity: int) -> frozenset[Value]:
    """Values to put off-chip so that the others never take more than `capacity` bytes: going through time, the largest
    that are in use where there are too many.
    """
    events = sorted((time, kind, n) for n, u in enumerate(uses) for time, kind in ((u.begin, 1), (u.end, 0)))
    level = 0
    gone: set[int] = set()
    live: list[tuple[int, int]] = []  # (-bytes, use); those that have ended are passed over
    ended: set[int] = set()
    for _, begins, n in events:  # at one time frees come before takes
        if n in gone:
            continue
        level += uses[n].size if begins else -uses[n].size
        if not begins:
            ended.add(n)
            continue
        heappush(live, (-uses[n].size, n))
        while level > capacity and live:
            size, largest = heappop(live)
            if largest not in ended:
                gone.add(largest)
                level += size
    return frozenset(uses[n].value for n in gone)


def packed(
    work: Work, slots: dict[Value, int], offchip: frozenset[Value], uses: Sequence[Use], capacity: int
) -> Packed:
    """Every buffer with bytes of its own if there is room, else shared over time."""
    apart = side_by_side(work, slots, offchip)
    return apart if apart.edram <= capacity else shared(work, slots, offchip, uses)


def with_parts(found: Packed, lives: Lives, split: int) -> Packed:
    """The buffers of values that are there part by part, told so."""
    buffers = {
        v: replace(b, parts=split) if split > 1 and len(lives[v][0]) == split else b for v, b in found.buffers.items()
    }
    return replace(found, buffers=buffers)
