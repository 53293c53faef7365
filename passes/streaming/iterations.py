"""Iterations that overlap: what the next one waits for, what of it can come early, and where values lie meanwhile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from mgc.ir.graph import Value
from mgc.passes.memory import Packed, Use, footprint, side_by_side
from mgc.passes.operations import Work
from mgc.passes.plan import Operation
from mgc.passes.scheduling.cyclic import Waits, closed
from mgc.passes.scheduling.problem import Problem
from mgc.passes.streaming.analysis import Streaming
from mgc.passes.streaming.dataflow import DATAFLOWS, sections_of
from mgc.passes.streaming.memory import Lives


def waits_of(work: Work) -> list[tuple[int, int]]:
    """(before, after): `after` comes after `before` of the iteration before it.

    Versions: who reads what lives from run to run before this run writes it comes after its last writer; its first
    writer after that one, and after all who read what that one wrote. Values: who writes one comes after all who use
    it, as it has bytes for one iteration.
    """
    found: dict[tuple[int, int], None] = {}
    uses: dict[str, list[tuple[int, bool]]] = {}
    for home, k, writes in work.versions:
        uses.setdefault(home, []).append((k, writes))
    for own in uses.values():
        writers = [k for k, writes in own if writes]
        if not writers:
            continue
        early = [k for k, writes in own if not writes and k <= writers[0]]
        late = [k for k, writes in own if not writes and k > writers[-1]]
        found.update(((writers[-1], k), None) for k in dict.fromkeys([*early, writers[0]]) if k != writers[-1])
        found.update(((k, writers[0]), None) for k in late)
    for value, writers in work.writers.items():
        for writer in writers:
            found.update(((k, writer), None) for k in work.readers[value] or writers if k != writer)
    base = work.setup
    return [(b - base, a - base) for b, a in found]


def told(operations: Sequence[Operation], base: int, waits: Waits) -> tuple[Operation, ...]:
    """The operations with their waits for the iteration before."""
    previous: dict[int, list[tuple[int, int]]] = {}
    for before, after in waits:
        previous.setdefault(after + base, []).append((before + base, 1))
    return tuple(
        replace(op, after_previous=tuple(sorted(previous[k]))) if k in previous else op
        for k, op in enumerate(operations)
    )


def moves_of(work: Work, problem: Problem, phases: Mapping[int, int], streaming: Streaming) -> list[frozenset[int]]:
    """Sets of operations that an iteration can begin with while the one before it ends: of each section of the first
    phase the way to its scores, that and the way back, and all of it.
    """
    base, count = work.setup, len(work.operations)
    sections = sections_of(work, phases, streaming, DATAFLOWS["pipelined"])
    found: dict[frozenset[int], None] = {}
    for section in sorted({s for s in sections if s < count}):
        own = [k for k in range(base, count) if sections[k] == section and k not in phases]
        losses = [k for k in own if work.operations[k].kind == "diff"]
        back = [k for k in own if work.operations[k].kind in ("diff", "mvm_t", "outer")]
        for some in (back, losses, own):
            moved = closed(problem, [k - base for k in some])
            if moved and not any(k - base in moved for k in phases):
                found[moved] = None
    return list(found)


def packed_round(
    work: Work, lives: Lives, slots: dict[Value, int], offchip: frozenset[Value], interval: int, capacity: int
) -> tuple[list[Use], Packed]:
    """The uses of values on the chip, in a time that goes round every `interval` cycles, and buffers that share bytes
    only where these do not meet.
    """
    uses: list[Use] = []
    for value, size in work.sizes.items():
        taken = footprint(size, slots[value])
        if value in offchip or not taken:
            continue
        begins, ends = lives[value]
        begin = min(begins) % interval
        long = min(max(ends) - min(begins), interval) if value not in work.holey else interval
        uses.append(Use(value, begin, begin + long, taken))
    apart = side_by_side(work, slots, offchip)
    if apart.edram <= capacity:
        return uses, apart
    buffers = dict(apart.buffers)
    placed: list[tuple[int, int, Use]] = []  # first byte, last byte + 1, use; in order of bytes
    for use in sorted(uses, key=lambda u: -u.size):
        offset = 0
        for low, high, other in placed:
            if _meet(use, other, interval):
                if low - offset >= use.size:
                    break
                offset = max(offset, high)
        placed.append((offset, offset + use.size, use))
        placed.sort(key=lambda p: p[:2])
        buffers[use.value] = replace(buffers[use.value], offset=offset)
    return uses, Packed(buffers, max((high for _, high, _ in placed), default=0), apart.dram)


def _meet(a: Use, b: Use, interval: int) -> bool:
    return any(a.begin < b.end + shift and b.begin + shift < a.end for shift in (-interval, 0, interval))


def unrolled(uses: Sequence[Use], interval: int) -> list[Use]:
    """The uses within one round, those that go past its end in two pieces."""
    found: list[Use] = []
    for use in uses:
        found.append(replace(use, end=min(use.end, interval)))
        if use.end > interval:
            found.append(replace(use, begin=0, end=use.end - interval))
    return found
