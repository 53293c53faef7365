"""memory: where every value lives, how many micro-batches of it, and what must not be overwritten too early."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from mgc.ir.graph import Value
from mgc.passes.operations import Work
from mgc.passes.plan import LINE_BYTES, BufferPlan, Operation
from mgc.passes.scheduling.modulo import SteadyState


def slots_of(work: Work, steady: SteadyState, micro_batches: int) -> dict[Value, int]:
    """How many micro-batches of each stored value are alive at once in the steady state.

    A value lives from the start of its first writer to the end of its last reader; with at least lifetime / interval
    slots the steady state never waits for a slot.
    """
    slots: dict[Value, int] = {}
    for value, writers in work.writers.items():
        begin = min(steady.offsets[w - work.setup] for w in writers)
        end = max(
            steady.offsets[i - work.setup] + work.operations[i].duration for i in (*writers, *work.readers[value])
        )
        slots[value] = max(1, min(micro_batches, -(-(end - begin) // steady.interval)))
    return slots


def needed_slots(work: Work, starts: np.ndarray) -> dict[Value, int]:
    """The fewest slots with which a schedule overwrites nothing too early; `starts` is [operations, micro_batches]."""
    repeats = starts.shape[1]
    durations = np.array([op.duration for op in work.operations[work.setup :]], np.int64)
    ends = starts + durations[:, None]
    slots: dict[Value, int] = {}
    for value, writers in work.writers.items():
        write = [i - work.setup for i in writers]
        first = starts[write].min(axis=0)
        last = ends[[*write, *(i - work.setup for i in work.readers[value])]].max(axis=0)
        slots[value] = next((s for s in range(1, repeats) if (first[s:] >= last[:-s]).all()), repeats)
    return slots


def with_slots(work: Work, slots: dict[Value, int], micro_batches: int) -> tuple[Operation, ...]:
    """The operations, each writer waiting until the slot it will write has been read by everyone."""
    waits: list[dict[tuple[int, int], None]] = [{} for _ in work.operations]
    for value, writers in work.writers.items():
        lag = slots[value]
        if lag >= micro_batches:
            continue
        for writer in writers:
            # a value that nobody reads is free once written
            waits[writer].update(dict.fromkeys((r, lag) for r in work.readers[value] or writers if r != writer))
    return tuple(
        replace(op, after_previous=tuple(sorted(w))) if w else op for op, w in zip(work.operations, waits, strict=True)
    )


def footprint(size: int, slots: int) -> int:
    """Bytes that all slots of a value take."""
    return -(-size // LINE_BYTES) * LINE_BYTES * slots


@dataclass(frozen=True)
class Packed:
    """Buffers with their offsets, and the bytes that each space takes."""

    buffers: dict[Value, BufferPlan]
    edram: int
    dram: int


def side_by_side(work: Work, slots: dict[Value, int], offchip: frozenset[Value]) -> Packed:
    """Every buffer gets bytes of its own: valid whatever the schedule."""
    buffers: dict[Value, BufferPlan] = {}
    used = {"edram": 0, "dram": 0}
    for value, size in work.sizes.items():
        space = "dram" if value in offchip else "edram"
        buffers[value] = BufferPlan(value, space, used[space], slots[value])
        used[space] += footprint(size, slots[value])
    return Packed(buffers, used["edram"], used["dram"])


_TIME_CELLS = 64
"""Pieces of a schedule's time by which its buffers are looked up."""


@dataclass(frozen=True)
class Use:
    """When a value's bytes are in use, over all micro-batches: from its first write to its last use, in cycles."""

    value: Value
    begin: int
    end: int
    size: int


def uses_of(
    work: Work, slots: dict[Value, int], offchip: frozenset[Value], starts: Sequence[int], micro_batches: int
) -> list[Use]:
    """The uses of all values on the chip; `starts` are those of the tasks, micro-batch-major.

    A value with parts that nothing writes is in use all the time: they must stay zero.
    """
    tasks = work.operations[work.setup :]
    first, last = starts[: len(tasks)], starts[(micro_batches - 1) * len(tasks) :]
    ends = [s + op.duration for s, op in zip(last, tasks, strict=True)]
    uses: list[Use] = []
    for value, size in work.sizes.items():
        taken = footprint(size, slots[value])
        if value in offchip or not taken:
            continue
        if value in work.holey:
            uses.append(Use(value, 0, max(ends), taken))
            continue
        writers, readers = work.writers[value], work.readers[value]
        begin = min(first[i - work.setup] for i in writers)
        uses.append(Use(value, begin, max(ends[i - work.setup] for i in (*writers, *readers)), taken))
    return uses


def peak(uses: Sequence[Use]) -> tuple[int, int]:
    """The most bytes in use at once, and when (the first such cycle)."""
    changes = sorted([(u.begin, u.size) for u in uses] + [(u.end, -u.size) for u in uses])
    most = when = level = 0
    for time, change in changes:  # at one time frees come before takes
        level += change
        if level > most:
            most, when = level, time
    return most, when


def shared(work: Work, slots: dict[Value, int], offchip: frozenset[Value], uses: Sequence[Use]) -> Packed:
    """Buffers share bytes where their times of use do not meet.

    First fit, the largest first: each buffer goes to the lowest offset that is free as long as it is in use.
    """
    alone = side_by_side(work, slots, offchip)
    buffers = dict(alone.buffers)
    span = max((u.end for u in uses), default=0) // _TIME_CELLS + 1
    top = 0
    # first byte, last byte + 1; from, to (cycles): in every cell of time that it is in use
    cells: list[list[tuple[int, int, int, int]]] = [[] for _ in range(_TIME_CELLS)]
    for use in sorted(uses, key=lambda u: -u.size):
        offset = 0
        own = cells[use.begin // span : -(-use.end // span)]
        for low, high, begin, end in sorted({entry for cell in own for entry in cell}):
            if begin < use.end and use.begin < end:
                if low - offset >= use.size:
                    break
                offset = max(offset, high)
        for cell in own:
            cell.append((offset, offset + use.size, use.begin, use.end))
        top = max(top, offset + use.size)
        buffers[use.value] = replace(buffers[use.value], offset=offset)
    return Packed(buffers, top, alone.dram)


def demoted(uses: Sequence[Use], capacity: int) -> frozenset[Value]:
    """Values that leave at most `capacity` bytes in use at any time: the largest at the worst time, again and again."""
    left = list(uses)
    gone: list[Value] = []
    while left:
        most, when = peak(left)
        if most <= capacity:
            break
        worst = max((u for u in left if u.begin <= when < u.end), key=lambda u: u.size)
        left.remove(worst)
        gone.append(worst.value)
    return frozenset(gone)
