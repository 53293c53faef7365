"""An independent checker of schedules: knows units, durations, waits, buffers and starts, nothing of the scheduler.

`facts_of_program` reads them from a compiled program (`mgc.isa.Program`), so that what is checked is what runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, pairwise
from math import prod
from typing import Any

import numpy as np

LINE = 32  # bytes: a slot's size is rounded up to this


@dataclass(frozen=True)
class Instruction:
    """What one instruction does to units and memory; `setup` ones are no tasks."""

    unit: int
    duration: int
    after: tuple[int, ...]
    after_previous: tuple[tuple[int, int], ...]
    reads: tuple[int, ...]
    writes: tuple[int, ...]
    setup: bool = False


@dataclass(frozen=True)
class Buffer:
    """Bytes of one micro-batch, where slot 0 begins, how many slots.

    `holey`: some byte is never written; `persistent`: it keeps what it holds from run to run.
    """

    space: str
    offset: int
    nbytes: int
    slots: int
    holey: bool = False
    persistent: bool = False

    @property
    def line(self) -> int:
        return -(-self.nbytes // LINE) * LINE


@dataclass(frozen=True)
class Facts:
    """All that is checked. `starts` is [instructions, micro_batches]."""

    instructions: tuple[Instruction, ...]
    buffers: dict[int, Buffer]
    starts: np.ndarray
    makespan: int
    lower_bound: int
    capacity: dict[str, int]


def check(facts: Facts) -> list[str]:
    """Everything that is wrong, in words; empty if nothing is."""
    return [
        *_shape(facts),
        *_precedence(facts),
        *_exclusive(facts),
        *_dataflow(facts),
        *_slots(facts),
        *_memory(facts),
        *_self_timed(facts),
    ]


def _tasks(facts: Facts) -> list[int]:
    return [i for i, ins in enumerate(facts.instructions) if not ins.setup]


def _end(facts: Facts, i: int, k: int) -> int:
    return int(facts.starts[i, k]) + facts.instructions[i].duration


def _shape(facts: Facts) -> list[str]:
    wrong = []
    repeats = facts.starts.shape[1]
    for i, ins in enumerate(facts.instructions):
        if ins.setup != bool((facts.starts[i] < 0).all()) or (not ins.setup and (facts.starts[i] < 0).any()):
            wrong.append(f"instruction {i} starts at {facts.starts[i].min()}")
    end = max((_end(facts, i, k) for i in _tasks(facts) for k in range(repeats)), default=0)
    if end != facts.makespan:
        wrong.append(f"the last task ends at {end}, not at {facts.makespan}")
    if facts.lower_bound > facts.makespan:
        wrong.append(f"lower bound {facts.lower_bound} above makespan {facts.makespan}")
    return wrong


def _needs(facts: Facts, i: int, k: int) -> list[tuple[int, int]]:
    ins = facts.instructions[i]
    needs = [(j, k) for j in ins.after] + [(j, k - lag) for j, lag in ins.after_previous if lag <= k]
    return [(j, m) for j, m in needs if not facts.instructions[j].setup]


def _precedence(facts: Facts) -> list[str]:
    return [
        f"task ({i},{k}) starts before ({j},{m}) has ended"
        for i in _tasks(facts)
        for k in range(facts.starts.shape[1])
        for j, m in _needs(facts, i, k)
        if facts.starts[i, k] < _end(facts, j, m)
    ]


def _exclusive(facts: Facts) -> list[str]:
    wrong = []
    busy: dict[int, list[tuple[int, int, int, int]]] = {}
    for i in _tasks(facts):
        for k in range(facts.starts.shape[1]):
            busy.setdefault(facts.instructions[i].unit, []).append((int(facts.starts[i, k]), _end(facts, i, k), i, k))
    for unit, tasks in busy.items():
        tasks.sort()
        for (_, end, i, k), (start, _, j, m) in pairwise(tasks):
            if start < end:
                wrong.append(f"unit {unit} runs ({i},{k}) and ({j},{m}) at once")
    return wrong


def _dataflow(facts: Facts) -> list[str]:
    """Readers wait, directly or not, for all writers."""
    wrong = []
    before: list[int] = []
    writers: dict[int, list[int]] = {}
    for i, ins in enumerate(facts.instructions):
        bits = 0
        for j in ins.after:
            if j >= i:
                return [f"instruction {i} waits for {j}, which comes later"]
            bits |= before[j] | 1 << j
        before.append(bits)
        for b in ins.writes:
            writers.setdefault(b, []).append(i)
    for i, ins in enumerate(facts.instructions):
        for b in ins.reads:
            if facts.buffers[b].persistent:
                continue  # its writers and readers are a matter of versions
            wrong += [
                f"{i} reads buffer {b} without waiting for {w}" for w in writers.get(b, []) if not before[i] >> w & 1
            ]
            if b not in writers:
                wrong.append(f"{i} reads buffer {b}, which nobody writes")
    return wrong


def _slots(facts: Facts) -> list[str]:
    """Whoever writes a slot anew waits, directly or not, for all who read what was there: by waits, not by time."""
    repeats = facts.starts.shape[1]
    n = len(facts.instructions)
    used = {b: ([], []) for b in facts.buffers}
    for i, ins in enumerate(facts.instructions):
        for b in ins.writes:
            used[b][0].append(i)
        for b in ins.reads:
            used[b][1].append(i)
    lags = {buffer.slots for buffer in facts.buffers.values() if buffer.slots < repeats}
    if not lags:
        return []
    before: list[int] = []  # of task k * n + i, for as many micro-batches as the longest lag needs
    for k in range(max(lags) + 1):
        for i in range(n):
            bits = 0
            for j, m in [*_needs(facts, i, k), *([(i, k - 1)] if k else [])]:
                bits |= before[m * n + j] | 1 << (m * n + j)
            before.append(bits)
    return [
        f"({w},{buffer.slots}) writes buffer {b} without waiting for ({r},0)"
        for b, buffer in facts.buffers.items()
        if buffer.slots < repeats
        for w in used[b][0]
        for r in used[b][1]
        if not before[buffer.slots * n + w] >> r & 1
    ]


def _memory(facts: Facts) -> list[str]:
    """No two values lie in the same bytes at the same time; nothing lies outside the memory."""
    wrong = []
    repeats = facts.starts.shape[1]
    used: dict[int, list[int]] = {}
    written: dict[int, list[int]] = {}
    for i, ins in enumerate(facts.instructions):
        for b in dict.fromkeys((*ins.reads, *ins.writes)):
            used.setdefault(b, []).append(i)
        for b in ins.writes:
            written.setdefault(b, []).append(i)
    spans = []
    for b, buffer in facts.buffers.items():
        top = buffer.offset + buffer.line * buffer.slots
        if buffer.offset % LINE or top > facts.capacity.get(buffer.space, 1 << 62):
            wrong.append(f"buffer {b} lies at {buffer.offset}..{top} of {buffer.space}")
        for k in range(repeats):
            if not buffer.nbytes or (b not in written and not buffer.persistent):
                continue
            base = buffer.offset + k % buffer.slots * buffer.line
            if buffer.holey or buffer.persistent:
                begin, end = 0, facts.makespan + 1
            else:
                begin = min(int(facts.starts[i, k]) for i in written[b])
                end = max(_end(facts, i, k) for i in used[b])
            spans.append((buffer.space, base, base + buffer.nbytes, begin, end, b, k))
    for a, c in combinations(spans, 2):
        same_bytes = a[0] == c[0] and a[1] < c[2] and c[1] < a[2]
        if same_bytes and a[3] < c[4] and c[3] < a[4] and not (a[5] == c[5] and facts.buffers[a[5]].holey):
            wrong.append(f"buffers {a[5]} (micro-batch {a[6]}) and {c[5]} ({c[6]}) share bytes while both are in use")
    return wrong


def _self_timed(facts: Facts) -> list[str]:
    """Units that keep their order and start each task as soon as they may arrive at the planned starts."""
    tasks = [(int(facts.starts[i, k]), k, i) for i in _tasks(facts) for k in range(facts.starts.shape[1])]
    free: dict[int, int] = {}
    end: dict[tuple[int, int], int] = {}
    for start, k, i in sorted(tasks):
        ins = facts.instructions[i]
        at = max([free.get(ins.unit, 0), *(end.get(need, 1 << 62) for need in _needs(facts, i, k))])
        if at != start:
            return [f"task ({i},{k}) is planned at {start} but can start at {at}"]
        end[i, k] = free[ins.unit] = at + ins.duration
    return []


def facts_of_program(program: Any, capacity: dict[str, int]) -> Facts:
    """The facts of a `mgc.isa.program.Program`; `capacity` in bytes by space."""

    def root(b: int) -> int:
        return root(program.buffers[b].alias_of) if program.buffers[b].alias_of >= 0 else b

    instructions = tuple(
        Instruction(
            i.unit,
            i.duration,
            i.after,
            i.after_previous,
            tuple(dict.fromkeys(map(root, i.reads()))),
            tuple(dict.fromkeys(map(root, i.writes()))),
            i.mnemonic == "program",
        )
        for i in program.instructions
    )
    covered: dict[int, int] = {}
    for i in program.instructions:
        if i.mnemonic == "mvm":
            group = program.groups[i.group]
            for b in map(root, i.writes()):
                covered[b] = covered.get(b, 0) + i.output.shape[0] * prod(i.windows.count) * group.matrices * group.cols
    buffers = {}
    for b in program.buffers:
        if b.alias_of < 0:
            size = int(np.prod(b.shape, dtype=np.int64))
            sums = program.target.get("periphery", {}).get("accumulator_bytes", 8)
            bits = 8 * sums if b.kind == "acc" else 1 if b.dtype == "bool" else 8 * np.dtype(b.dtype).itemsize
            nbytes = 0 if b.kind == "opaque" else -(-size * bits // 8)
            holey = b.id in covered and covered[b.id] < size
            buffers[b.id] = Buffer(b.space, b.offset, nbytes, b.slots, holey, b.persistent)
    s = program.entry.schedule
    setup = np.full((program.entry.first, s.starts.shape[1]), -1, np.int64)
    return Facts(instructions, buffers, np.concatenate([setup, s.starts]), s.makespan, s.lower_bound, capacity)
