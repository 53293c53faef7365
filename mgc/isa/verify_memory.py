"""Bytes in time: which of many uses of memory share bytes while both are in use."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mgc.isa.memory import Buffer, slot_bytes

LINE_BYTES = 32
"""Slots begin at multiples of this."""


@dataclass(frozen=True)
class Span:
    """Bytes `low` .. `high` - 1 of a space, in use from cycle `begin` to `end`; `always`: in all runs, unbroken."""

    space: str
    low: int
    high: int
    begin: int
    end: int
    name: str
    always: bool = False


def line_of(buffer: Buffer, target: Mapping[str, Any]) -> int:
    """Bytes from slot to slot."""
    return -(-slot_bytes(buffer, target) // LINE_BYTES) * LINE_BYTES


def clashes(spans: Sequence[Span], interval: int = 0) -> Iterator[tuple[str, str]]:
    """Names of two spans that meet in bytes and in time; with an `interval` each span comes again every so many cycles.

    Time is swept once: what is in use at a moment lies apart, so a new use can only meet its neighbours.
    """
    runs = [0]
    if interval:
        longest = max((s.end for s in spans if not s.always), default=0)
        runs = [n * interval for n in range(longest // interval + 2)]
    until = runs[-1] + max((s.end for s in spans), default=0)
    events: list[tuple[int, int, int, int]] = []  # cycle, 0: end or 1: begin, span, run
    for n, s in enumerate(spans):
        if s.low >= s.high or s.begin >= s.end:
            continue
        for run, shift in enumerate(runs if not s.always else runs[:1]):
            events.append((s.begin + shift, 1, n, run))
            events.append((until if s.always else s.end + shift, 0, n, run))
    events.sort()
    used: dict[str, list[tuple[int, int, int, int]]] = {}  # space -> (low, high, span, run) in use, in order of bytes
    for _, begins, n, run in events:
        s = spans[n]
        live = used.setdefault(s.space, [])
        entry = (s.low, s.high, n, run)
        at = bisect_left(live, entry)
        if not begins:
            if at < len(live) and live[at] == entry:
                del live[at]
            continue
        # after a clash spans in use may overlap one another, so look back until bytes are apart
        for low, high, other, _ in (*live[max(0, at - 2) : at], *live[at : at + 2]):
            if low < s.high and s.low < high:
                yield spans[other].name, s.name
        insort(live, entry)
