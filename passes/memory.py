"""memory: where every value lives, how many micro-batches of it, and what must not be overwritten too early."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from mgc.ir.graph import Value
from passes.operations import Work
from passes.plan import LINE_BYTES, BufferPlan, Operation
from passes.scheduling.modulo import SteadyState


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


def shared(
    work: Work, slots: dict[Value, int], offchip: frozenset[Value], starts: Sequence[int], micro_batches: int
) -> Packed:
    """Buffers share bytes where their times of use do not meet; `starts` are those of the tasks, micro-batch-major.

    First fit, the largest first: each buffer goes to the lowest offset that is free as long as it is in use (from its
    first write of the first micro-batch to its last use of the last one; a holey one is in use all the time).
    """
    alone = side_by_side(work, slots, offchip)
    tasks = len(work.operations) - work.setup
    last = (micro_batches - 1) * tasks
    makespan = max(s + op.duration for s, op in zip(starts[last:], work.operations[work.setup :], strict=True))
    placed: list[tuple[int, int, int, int]] = []  # from, to (cycles); first and last byte + 1
    buffers = dict(alone.buffers)
    order = list(work.sizes)
    size_of = {v: footprint(work.sizes[v], slots[v]) for v in order}
    for value in sorted(order, key=lambda v: -size_of[v]):
        if value in offchip or not size_of[value]:
            continue
        writers, readers = work.writers[value], work.readers[value]
        begin = min(starts[w - work.setup] for w in writers)
        end = max(starts[last + i - work.setup] + work.operations[i].duration for i in (*writers, *readers))
        if value in work.holey:
            begin, end = 0, makespan
        offset = 0
        for _, _, first, stop in sorted((p for p in placed if p[0] < end and begin < p[1]), key=lambda p: p[2]):
            if first - offset >= size_of[value]:
                break
            offset = max(offset, stop)
        placed.append((begin, end, offset, offset + size_of[value]))
        buffers[value] = replace(buffers[value], offset=offset)
    return Packed(buffers, max((p[3] for p in placed), default=0), alone.dram)


def demoted(work: Work, slots: dict[Value, int], offchip: frozenset[Value], excess: int) -> frozenset[Value]:
    """`offchip` and the largest other buffers, as many as take at least `excess` bytes together."""
    rest = [v for v in work.sizes if v not in offchip]
    chosen: list[Value] = []
    for value in sorted(rest, key=lambda v: -footprint(work.sizes[v], slots[v])):
        if excess <= 0:
            break
        chosen.append(value)
        excess -= footprint(work.sizes[value], slots[value])
    return offchip | frozenset(chosen)
