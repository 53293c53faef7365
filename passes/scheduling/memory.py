"""Memory of a run: how long every value is alive, in how many slots, in which bytes, and what is spilled off-chip."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from heapq import heappop, heappush

import numpy as np

from mgc.ir.graph import Value
from mgc.passes.mapping.plan import LINE_BYTES, BufferPlan
from mgc.passes.scheduling.modulo import SteadyState
from mgc.passes.scheduling.operations import Work
from mgc.passes.scheduling.problem import Edge, Tasks

Slots = Mapping[Value, int]
"""How many parts, or micro-batches, of each value there is room for at once."""

_TIME_CELLS = 64
"""Pieces of a schedule's time by which its buffers are looked up."""


@dataclass(frozen=True)
class LiveRange:
    """When the bytes of a value are taken, those of all its slots together (`size`); `parts` says how many go round.
    `traffic` is what would be written and read off-chip in a run if it were spilled, in bytes.

    Each of `spans` is the first cycle and the last one + 1: one span; two where runs overlap and the value is alive at
    the turn from one to the next.
    """

    value: Value
    size: int
    slots: int
    parts: int
    spans: tuple[tuple[int, int], ...]
    traffic: int = 0

    @property
    def worth(self) -> float:
        """Traffic that it saves to keep it on the chip, for each byte and cycle that this takes."""
        return self.traffic / max(1, self.size * sum(end - begin for begin, end in self.spans))


@dataclass(frozen=True)
class MemoryPlan:
    """Buffers with their offsets, the bytes of the tiles' memories that they take, and when they do."""

    buffers: dict[Value, BufferPlan]
    edram: int
    ranges: list[LiveRange]


@dataclass(frozen=True)
class MemoryPlanner:
    """Plans the memory of some operations for any schedule of them.

    `roots` tells in which value's memory each value lies, `offchip` are the values that are spilled, `capacity` is what
    the tiles' memories have for the others, in bytes. `axes` are the values that are there part by part; None if a run
    goes through independent micro-batches, so that all are, and each operation uses those of its own.
    """

    work: Work
    roots: Mapping[Value, Value]
    axes: Collection[Value] | None
    offchip: frozenset[Value]
    capacity: int

    def plan(self, tasks: Tasks, starts: Sequence[int], interval: int = 0) -> MemoryPlan:
        """Where all values lie in a schedule; `interval` is that of runs that overlap.

        If there is room every buffer has bytes of its own, which is valid whatever the schedule. Else those that are
        not alive at the same time share bytes.
        """
        ranges = self.live_ranges(tasks, starts, interval)
        used = {"edram": 0, "dram": 0}
        buffers: dict[Value, BufferPlan] = {}
        for r in ranges:
            space = "dram" if r.value in self.offchip else "edram"
            buffers[r.value] = BufferPlan(r.value, space, used[space], r.slots, r.parts)
            used[space] += r.size
        on_chip = self.on_chip(ranges)
        if used["edram"] > self.capacity:
            offsets, used["edram"] = share_bytes(on_chip)
            buffers |= {v: replace(buffers[v], offset=offset) for v, offset in offsets.items()}
        return MemoryPlan(buffers, used["edram"], on_chip)

    def on_chip(self, ranges: Sequence[LiveRange]) -> list[LiveRange]:
        """Those that take bytes of the tiles' memories."""
        return [r for r in ranges if r.size and r.value not in self.offchip]

    def live_ranges(self, tasks: Tasks, starts: Sequence[int], interval: int = 0) -> list[LiveRange]:
        """When the bytes of each value are taken, in the fewest slots with which nothing is overwritten that is alive.

        Places that nothing writes must stay zero: a value that has some is alive all the time, and its parts, each of
        which has its own, stay apart (micro-batches all have the same).
        """
        table = tasks.matrix(starts)
        durations = np.array([op.duration for op in self.work.operations], np.int64)
        ends = np.where(table < 0, table, table + durations[:, None])
        found: list[LiveRange] = []
        for value, size in self.work.sizes.items():
            begin, end = self._lifetimes(value, table, ends)
            holey = value in self.work.holey
            slots = len(begin) if holey and self.axes is not None else _slots_for(begin, end)
            first, last = (0, interval or int(ends.max())) if holey else (int(begin.min()), int(end.max()))
            parts = len(begin) if self.axes is not None else 1
            traffic = size * len(begin) * (self._writes(value) + len(self.work.readers[value]))
            spans = _spans(first, last, interval)
            found.append(LiveRange(value, footprint(size, slots), slots, parts, spans, traffic))
        return found

    def _writes(self, value: Value) -> int:
        """How often its bytes are moved where it is made: parts of a product write each their own, those of a
        transposed one add to what is there.
        """
        writers = self.work.writers[value]
        kind = self.work.operations[writers[0]].kind
        return 1 if kind == "mvm" else 2 * len(writers) - 1

    def _lifetimes(self, value: Value, table: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """When each part of a value is first written, and last used; one that is whole has one part.

        `table` and `ends` are the begins and ends of tasks [operations, repeats], -1 for those that there are not.
        """
        operations, writers = self.work.operations, list(self.work.writers[value])
        users = [*writers, *self.work.readers[value]]
        if self.axes is None:
            return table[writers].min(axis=0), ends[users].max(axis=0)
        if value not in self.axes or not all(operations[w].streamed for w in writers):
            return table[writers, 0].min(keepdims=True), ends[users].max(keepdims=True)
        used = ends[users]
        for row, index in enumerate(users):
            op = operations[index]
            seen = [v for n in (op.node, op.drain) if n is not None for v in n.inputs]
            if not op.streamed or any(self.roots[v] is value and v not in self.axes for v in seen):
                used[row] = ends[index].max()  # it needs all parts at once
        return table[writers].min(axis=0), used.max(axis=0)


def footprint(size: int, slots: int) -> int:
    """Bytes that all slots of a value take."""
    return -(-size // LINE_BYTES) * LINE_BYTES * slots


def _slots_for(begins: np.ndarray, ends: np.ndarray) -> int:
    """The fewest slots that parts can go round in without one being written while the one before it is alive."""
    count = len(begins)
    return next((s for s in range(1, count) if (begins[s:] >= ends[:-s]).all()), count)


def _spans(begin: int, end: int, interval: int) -> tuple[tuple[int, int], ...]:
    """The time from `begin` to `end`, round an interval if there is one."""
    if not interval:
        return ((begin, end),)
    begin, end = begin % interval, begin % interval + min(end - begin, interval)
    return ((begin, end),) if end <= interval else ((0, end - interval), (begin, interval))


def steady_slots(work: Work, steady: SteadyState, micro_batches: int) -> dict[Value, int]:
    """How many micro-batches of each value are alive at once in the steady state.

    With at least lifetime / interval slots the steady state never waits for a slot.
    """
    slots: dict[Value, int] = {}
    for value, writers in work.writers.items():
        begin = min(steady.offsets[w] for w in writers)
        end = max(steady.offsets[i] + work.operations[i].duration for i in (*writers, *work.readers[value]))
        slots[value] = max(1, min(micro_batches, -(-(end - begin) // steady.interval)))
    return slots


def slot_waits(work: Work, slots: Slots, most: int) -> list[Edge]:
    """What makes each writer wait until the slot that it will write has been read by everyone; what is not in `slots`
    has as many as there are parts or micro-batches, which is `most`.
    """
    waits: dict[Edge, None] = {}
    for value, writers in work.writers.items():
        if slots.get(value, most) < most:
            # a value that nobody reads is free once written
            users = work.readers[value] or writers
            waits.update((Edge(r, w, slots[value]), None) for w in writers for r in users if r != w)
    return list(waits)


def peak(ranges: Sequence[LiveRange]) -> int:
    """The most bytes that are taken at once."""
    changes = sorted(
        [(b, r.size) for r in ranges for b, _ in r.spans] + [(e, -r.size) for r in ranges for _, e in r.spans]
    )
    most = level = 0
    for _, change in sorted(changes):  # at one time frees come before takes
        level += change
        most = max(most, level)
    return most


def share_bytes(ranges: Sequence[LiveRange]) -> tuple[dict[Value, int], int]:
    """Offsets of values, the same bytes only for some that are not alive at the same time; and the bytes of all.

    First fit, the largest first: each goes to the lowest offset that is free as long as it is alive.
    """
    width = max((end for r in ranges for _, end in r.spans), default=0) // _TIME_CELLS + 1
    top = 0
    offsets: dict[Value, int] = {}
    # first byte, last byte + 1; from, to (cycles): in every cell of time in which it is alive
    cells: list[list[tuple[int, int, int, int]]] = [[] for _ in range(_TIME_CELLS)]
    for one in sorted(ranges, key=lambda r: -r.size):
        offset = 0
        own = [(cell, span) for span in one.spans for cell in cells[span[0] // width : -(-span[1] // width)]]
        for low, high, begin, end in sorted({entry for cell, _ in own for entry in cell}):
            if any(begin < e and b < end for b, e in one.spans):
                if low - offset >= one.size:
                    break
                offset = max(offset, high)
        for cell, (begin, end) in own:
            cell.append((offset, offset + one.size, begin, end))
        offsets[one.value] = offset
        top = max(top, offset + one.size)
    return offsets, top


def spill(ranges: Sequence[LiveRange], capacity: int) -> frozenset[Value]:
    """Values to put off-chip so that the others never take more than `capacity` bytes: going through time, where there
    are too many those that are worth least. So whatever comes later finds the room that they leave.
    """
    changes = sorted((t, takes, n) for n, r in enumerate(ranges) for b, e in r.spans for t, takes in ((b, 1), (e, 0)))
    level = 0
    spilled: set[int] = set()
    alive: set[int] = set()
    least: list[tuple[float, int]] = []  # (worth, range); those that are no longer alive are passed over
    for _, takes, n in changes:  # at one time frees come before takes
        if n in spilled:
            continue
        level += ranges[n].size if takes else -ranges[n].size
        if not takes:
            alive.remove(n)
            continue
        alive.add(n)
        heappush(least, (ranges[n].worth, n))
        while level > capacity:
            _, gone = heappop(least)
            if gone in alive:
                alive.remove(gone)
                spilled.add(gone)
                level -= ranges[gone].size
    return frozenset(ranges[n].value for n in spilled)
