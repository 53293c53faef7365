"""What instructions move: which elements of which buffers, and the bytes of a task that go over the off-chip channel.

Time, energy and the verifier of schedules ask here. A task moves its off-chip bytes at an even rate over its duration,
and at no moment do tasks ask for more than the channel has, which serves them in the order of their planned starts
(`mgc.functions.channel`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mgc.functions.channel import bytes_of_task, shares_of
from mgc.isa.entry import Entry
from mgc.isa.instruction import Instruction
from mgc.isa.memory import Access, bytes_of
from mgc.isa.tables import Tables


def accesses_of(program: Tables, instruction: Instruction) -> tuple[Access, ...]:
    """The accesses of an instruction, what it reads of the same bytes by several views only once."""
    reads: dict[tuple[int, bool], Access] = {}
    for access in instruction.accesses(program):
        key = program.root(access.buffer), access.writes
        if key not in reads or access.moved > reads[key].moved:
            reads[key] = access
    return tuple(reads.values())


def task_bytes(program: Tables, entry: Entry, instruction: Instruction, access: Access) -> int:
    """Bytes that each task of an instruction moves of one access.

    Where the schedule splits a run, a streamed instruction takes of what is held part by part the same part, rounded
    up; of what it makes, its share, as it keeps what it adds up; all of anything else, in each of its tasks.
    """
    buffer, split = program.buffers[access.buffer], entry.schedule.split
    size = bytes_of(buffer, access.moved, program.target)
    return bytes_of_task(size, split if instruction.streamed else 1, access.writes or buffer.parts == split)


def offchip_bytes(program: Tables, entry: Entry, instruction: Instruction) -> int:
    """Bytes that each task of an instruction of an entry moves over the off-chip channel."""
    if not instruction.timed:
        return 0
    return instruction.fetches(program) + sum(
        task_bytes(program, entry, instruction, access)
        for access in accesses_of(program, instruction)
        if program.buffers[program.root(access.buffer)].space == "dram"
    )


def channel_rate(program: Tables) -> float | None:
    """Bytes a cycle of the off-chip channel, one for the whole system; None if the target does not say."""
    dram: Mapping[str, Any] | None = program.target.get("dram")
    return None if dram is None else float(dram["bytes_per_ns"]) * program.clock_ns


def channel_shares(program: Tables, entry: Entry) -> dict[int, int]:
    """Shares of the channel that each task of the entry's instructions takes, by id; of those that take any."""
    rate = channel_rate(program)
    found: dict[int, int] = {}
    if rate is None:
        return found
    for i in program.instructions[entry.first : entry.stop]:
        size = offchip_bytes(program, entry, i)
        if size:
            found[i.id] = shares_of(size, max(1, i.duration), rate)
    return found
