"""The schedule's own verifier: what the planned starts of a program mean for units, memory and weights.

It knows the program alone, nothing of who planned it, and uses the waits between instructions only to see that they are
kept: what a task may read, and when, follows from the order of instructions and from what they read and write.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import pairwise
from math import prod

from mgc.functions.channel import WHOLE, Channel
from mgc.isa.dataflow import ancestors, ancestors_before, check_dataflow, lasting_uses
from mgc.isa.error import ProgramError
from mgc.isa.instruction import Instruction
from mgc.isa.instructions import Mvm
from mgc.isa.memory import Buffer
from mgc.isa.parts import part_of
from mgc.isa.tables import Tables
from mgc.isa.tasks import Needs, Task, count_of
from mgc.isa.traffic import channel_shares
from mgc.isa.verify_claims import broken_claims
from mgc.isa.verify_memory import Span, clashes, line_of
from mgc.isa.verify_writes import overdriven

MOST_FAULTS = 20
"""Faults of each kind that are told."""


def check_schedule(program: Tables) -> None:
    """Raises ProgramError with the first faults that `faults_of` finds."""
    found = faults_of(program)
    if found:
        more = f" (and {len(found) - 3} more)" if len(found) > 3 else ""
        raise ProgramError(f"the schedule breaks its own rules: {'; '.join(found[:3])}{more}")


def faults_of(program: Tables) -> list[str]:
    """Everything that is wrong with the schedule of a verified program, in words, entry by entry.

    - precedence: a task starts when all that its instruction waits for has ended, in this run or one before
    - time: it starts no later than that, its unit, the off-chip channel and the run's beginning ask for (units work
      through their streams, the channel serves tasks in order of start)
    - exclusivity: a unit runs one task at a time
    - write drivers: no macro writes more crossbars at once than it has drivers for, by planned times and by waits
    - channel: at no moment do tasks ask for more of the off-chip channel than it has
    - data: a task that reads a buffer starts after what writes what it reads has ended, and by its waits
    - memory: no two values are in the same bytes at once, none lies outside the memory or off its lines
    - slots: who writes a slot anew waits for all who read what was there
    - versions: who reads or changes what lives from run to run does so between the change before it and the one after
      it, in the order of instructions, and from run to run
    - claims: what a phase changes depends on what it says and on nothing else, see `mgc.isa.verify_claims`

    Where runs overlap, all of this holds for run after run.
    """
    if len(program.entries) > 1:
        return [f"entry {e.name}: {f}" for e in program.entries for f in faults_of(part_of(program, e))]
    facts = _Facts.of(program)
    checks = (_precedence, _time, _exclusivity, _writes, _channel, _data, _memory, _slots, _versions)
    found = [fault for check in checks for fault in list(check(facts))[:MOST_FAULTS]]
    return found + broken_claims(program)[:MOST_FAULTS]


@dataclass(frozen=True, eq=False)
class _Facts:
    """A program with the start and end of every task."""

    program: Tables
    start: dict[Task, int]
    end: dict[Task, int]
    interval: int
    shares: dict[int, int]
    """What a task of each instruction takes of the off-chip channel."""
    needs: Needs

    @staticmethod
    def of(program: Tables) -> _Facts:
        start: dict[Task, int] = {}
        end: dict[Task, int] = {}
        for i in program.instructions:
            for k in range(count_of(program, i)):
                start[i.id, k] = program.entry.start(i.id, k)
                end[i.id, k] = start[i.id, k] + i.duration
        shares = channel_shares(program, program.entry)
        return _Facts(program, start, end, program.entry.schedule.interval, shares, Needs(program))

    def tasks(self, instruction: Instruction) -> range:
        return range(count_of(self.program, instruction))

    def first(self, i: int) -> int:
        """When the first task of an instruction starts."""
        return min(self.start[i, k] for k in self.tasks(self.program.instructions[i]))

    def last(self, i: int) -> int:
        """When the last task of an instruction ends."""
        return max(self.end[i, k] for k in self.tasks(self.program.instructions[i]))

    @property
    def timed(self) -> list[Instruction]:
        return [i for i in self.program.instructions if i.timed]


# -- tasks ------------------------------------------------------------------------------------------------------------


def _precedence(f: _Facts) -> Iterator[str]:
    for i in f.timed:
        for k in f.tasks(i):
            for need in f.needs.of(i, k):
                if f.start[i.id, k] + need.lag * f.interval < f.end[need.task] and (not need.lag or f.interval):
                    run = f" of the run {need.lag} before" if need.lag else ""
                    other = f"task {need.task[1]} of {need.task[0]}{run}"
                    yield f"task {k} of instruction {i.id} starts before {other} has ended"


def _streams(f: _Facts) -> dict[int, list[Task]]:
    """The tasks of each unit in order of start, those of overlapping runs by where they fall in one interval."""
    units: dict[int, list[Task]] = {}
    for i in f.timed:
        units.setdefault(i.unit, []).extend((i.id, k) for k in f.tasks(i))
    durations = {i.id: i.duration for i in f.timed}
    for tasks in units.values():
        tasks.sort(
            key=lambda t: (f.start[t] % f.interval if f.interval else f.start[t], durations[t[0]] > 0, t[1], t[0])
        )
    return units


def _time(f: _Facts) -> Iterator[str]:
    free: dict[Task, int] = {}
    for tasks in _streams(f).values():
        for s, t in pairwise(tasks):
            free[t] = _run_before(f, s, t)
        if f.interval:
            free[tasks[0]] = _run_before(f, tasks[-1], tasks[0])
    served = {t: at for t, at, _ in _served(f)}
    for i in f.timed:
        for k in f.tasks(i):
            wanted = max(0, free.get((i.id, k), 0), served.get((i.id, k), 0))
            for need in f.needs.of(i, k):
                if not need.lag or f.interval:
                    wanted = max(wanted, f.end[need.task] - need.lag * f.interval)
            if f.start[i.id, k] > wanted:
                yield f"task {k} of instruction {i.id} is planned at {f.start[i.id, k]}, but can start at {wanted}"


def _run_before(f: _Facts, s: Task, t: Task) -> int:
    """The end of the last run of task s that is not after task t."""
    if not f.interval:
        return f.end[s]
    runs = (f.start[t] - f.start[s] - (1 if s == t else 0)) // f.interval
    return f.end[s] + runs * f.interval


def _exclusivity(f: _Facts) -> Iterator[str]:
    for unit, tasks in _streams(f).items():
        name = f.program.units[unit].name
        for s, t in pairwise(tasks):
            if _run_before(f, s, t) > f.start[t]:
                yield f"{name} runs task {s[1]} of instruction {s[0]} and task {t[1]} of {t[0]} at once"
        if f.interval and tasks and _run_before(f, tasks[-1], tasks[0]) > f.start[tasks[0]]:
            s, t = tasks[-1], tasks[0]
            yield f"{name} runs task {s[1]} of instruction {s[0]} and task {t[1]} of {t[0]} of another run at once"


def _writes(f: _Facts) -> Iterator[str]:
    yield from overdriven(f.program, f.start, f.end)


def _served(f: _Facts) -> Iterator[tuple[Task, int, int]]:
    """The tasks that take a part of the off-chip channel, in its order: when each gets it at the earliest, as the
    others are planned, and the shares that are taken at its start, its own included.
    """
    interval = f.interval
    tasks = [(i.id, k) for i in f.timed if i.id in f.shares for k in f.tasks(i)]
    tasks.sort(key=lambda t: (f.start[t] % interval if interval else f.start[t], t))
    channel = Channel()
    running: list[tuple[int, int]] = []
    for turn in range(2 if interval else 1):  # the first time round finds what is at work at the turn
        for t in tasks:
            shift = turn * interval - f.start[t] // interval * interval if interval else 0
            begin, end, share = f.start[t] + shift, f.end[t] + shift, min(f.shares[t[0]], WHOLE)
            earliest = channel.earliest(-interval, share)
            channel.take(begin, end - begin, share)
            while running and running[0][0] <= begin:
                heappop(running)
            heappush(running, (end, f.shares[t[0]]))
            if turn or not interval:
                yield t, earliest - shift, sum(s for _, s in running)


def _channel(f: _Facts) -> Iterator[str]:
    for t, _, taken in _served(f):
        if f.shares[t[0]] > WHOLE:
            yield f"task {t[1]} of instruction {t[0]} moves more off-chip than the channel can in its duration"
        elif taken > WHOLE:
            yield (
                f"with task {t[1]} of instruction {t[0]}, at cycle {f.start[t]}, "
                f"{100 * taken / WHOLE:.4g} % of the off-chip channel are asked for"
            )


# -- data -------------------------------------------------------------------------------------------------------------


def _users(f: _Facts) -> tuple[dict[int, list[int]], dict[int, list[tuple[int, int]]]]:
    """For each buffer that does not persist, by root: who writes it; who reads it, by which buffer."""
    program = f.program
    writers: dict[int, list[int]] = {}
    readers: dict[int, list[tuple[int, int]]] = {}
    for i in f.timed:
        for b in dict.fromkeys(i.writes()):
            if not program.buffers[program.root(b)].persistent:
                writers.setdefault(program.root(b), []).append(i.id)
        for b in dict.fromkeys(i.reads()):
            if not program.buffers[program.root(b)].persistent:
                readers.setdefault(program.root(b), []).append((i.id, b))
    return writers, readers


def _by_parts(f: _Facts, instruction: int, buffer: int) -> bool:
    """Whether each task of an instruction takes its own part of a buffer, or its micro-batch of it."""
    program = f.program
    if program.entry.schedule.split == 1:
        return True
    return program.instructions[instruction].streamed and program.buffers[buffer].parts == program.entry.schedule.split


def _data(f: _Facts) -> Iterator[str]:
    try:
        check_dataflow(f.program)
    except ProgramError as error:
        yield str(error)
    writers, readers = _users(f)
    for root, reads in readers.items():
        name = f.program.buffers[root].name
        for i, buffer in reads:
            for w in dict.fromkeys(writers.get(root, [])):
                parted = _by_parts(f, i, buffer) and _by_parts(f, w, root)
                for k in f.tasks(f.program.instructions[i]):
                    if f.start[i, k] < (f.end[w, k] if parted else f.last(w)):
                        yield f"task {k} of instruction {i} reads buffer {name} before instruction {w} has written it"


def _memory(f: _Facts) -> Iterator[str]:
    program = f.program
    capacity = _capacity(program.target)
    writers, readers = _users(f)
    makespan = program.entry.schedule.makespan
    holey = _holey(program)
    spans: list[Span] = []
    for b in program.buffers:
        if b.alias_of >= 0 or b.kind == "opaque" or not (b.persistent or b.id in writers):
            continue
        line = line_of(b, program.target)
        top = b.offset + line * b.slots
        if b.offset % 32 or top > capacity.get(b.space, top):
            yield f"buffer {b.name} lies at {b.offset}..{top} of {b.space}, which has {capacity.get(b.space)} bytes"
        if b.persistent or b.id in holey:
            spans.append(Span(b.space, b.offset, top, 0, max(makespan, f.interval) + 1, b.name, always=True))
            continue
        for k, (begin, end) in enumerate(_lives(f, b, writers[b.id], readers.get(b.id, []))):
            at = b.offset + k % b.slots * line
            spans.append(Span(b.space, at, at + line, begin, end, f"{b.name} (part {k})"))
    for a, b in clashes(spans, f.interval):
        yield f"{a} and {b} share bytes while both are in use"


def _lives(f: _Facts, b: Buffer, writers: list[int], readers: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """From when to when each micro-batch or part of a buffer is in use."""
    program = f.program
    whole = program.entry.schedule.split > 1 and not (b.parts > 1 and all(_by_parts(f, w, b.id) for w in writers))
    if whole:
        used = (*writers, *(i for i, _ in readers))
        yield min(f.first(w) for w in writers), max(f.last(i) for i in used)
        return
    for k in range(program.entry.schedule.split if program.entry.schedule.split > 1 else program.entry.micro_batches):
        ends = [f.end[w, k] for w in writers]
        ends += [f.end[i, k] if _by_parts(f, i, buffer) else f.last(i) for i, buffer in readers]
        yield min(f.start[w, k] for w in writers), max(ends)


def _holey(program: Tables) -> set[int]:
    """Buffers with places that no MVM writes: these must stay zero, whenever."""
    covered: dict[int, int] = {}
    for i in program.instructions:
        if isinstance(i, Mvm):
            for root in map(program.root, i.writes()):
                covered[root] = covered.get(root, 0) + i.results(program)
    return {root for root, written in covered.items() if written < prod(program.buffers[root].shape)}


def _capacity(target: Mapping[str, object]) -> dict[str, int]:
    """Bytes of the tiles' memories, if the target says; off-chip memory is not bounded."""
    edram, structure = target.get("edram"), target.get("structure")
    if not isinstance(edram, Mapping) or not isinstance(structure, Mapping):
        return {}
    tiles = int(structure.get("chips", 1)) * int(structure.get("tiles_per_chip", 0))
    return {"edram": int(edram.get("bytes_per_tile", 0)) * tiles} if tiles else {}


def _slots(f: _Facts) -> Iterator[str]:
    """From run to run the waits themselves keep slots apart (the parts of a split run wait for them, see `Needs`)."""
    program = f.program
    repeats = program.entry.micro_batches
    writers, readers = _users(f)
    if f.interval:
        earlier = ancestors_before(program, ancestors(program))
        for root, own in writers.items():
            for w in dict.fromkeys(own):
                for r in dict.fromkeys(i for i, _ in readers.get(root, [])):
                    if not earlier[w] >> r & 1:
                        name = program.buffers[root].name
                        yield f"instruction {w} writes buffer {name} anew without waiting for {r} of the run before"
    tight = {root for root in writers if program.buffers[root].slots < repeats}
    if program.entry.schedule.split > 1 or not tight:
        return
    count = len(program.instructions)
    deepest = max(program.buffers[root].slots for root in tight)
    before: list[list[int]] = []  # of each micro-batch, the tasks that come before each instruction, as bits
    for k in range(deepest + 1):
        row: list[int] = []
        before.append(row)
        for i in program.instructions:
            bits = 0
            if i.timed:
                for need in f.needs.of(i, k):
                    j, m = need.task
                    bits |= before[m][j] | 1 << (m * count + j)
            row.append(bits)
    for root in sorted(tight):
        slots = program.buffers[root].slots
        for w in dict.fromkeys(writers[root]):
            for r in dict.fromkeys(i for i, _ in readers.get(root, [])):
                if not before[slots][w] >> r & 1:
                    name = program.buffers[root].name
                    yield f"instruction {w} writes buffer {name} anew without waiting for {r}, {slots} runs before"


# -- versions ---------------------------------------------------------------------------------------------------------


def _versions(f: _Facts) -> Iterator[str]:
    program = f.program
    before = ancestors(program)
    for (kind, index), own in lasting_uses(program).items():
        changes = [i for i, writes in own if writes]
        if not changes:
            continue
        name = (program.groups if kind == "group" else program.buffers)[index].name
        for i, _ in own:
            earlier = [c for c in changes if c.id < i.id]
            later = [c for c in changes if c.id > i.id]
            runs = f.interval if not earlier else 0
            last = earlier[-1] if earlier else changes[-1]
            if last is not i and (earlier or f.interval) and f.last(last.id) > f.first(i.id) + runs:
                yield f"instruction {i.id} uses {kind} {name} before {last.id} has made the version that it needs"
            after, runs = (later[0], 0) if later else (changes[0], f.interval)
            if after is not i and (later or f.interval) and f.first(after.id) + runs < f.last(i.id):
                yield f"instruction {after.id} changes {kind} {name} while {i.id} uses the version before"
            if earlier and not before[i.id] >> last.id & 1:
                yield f"instruction {i.id} uses {kind} {name} without waiting for {last.id}, which changes it"
