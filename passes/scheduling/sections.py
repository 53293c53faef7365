"""Data flows as waits between operations: what follows what, and the sections of phases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

from mgc.passes.operations import Work
from mgc.passes.plan import Operation
from mgc.passes.streaming.analysis import Streaming
from mgc.passes.streaming.dataflow import Dataflow


def arrange(work: Work, flow: Dataflow, sections: Sequence[int]) -> Work:
    """The work with the waits that a flow adds; `sections` has the section of each operation (`sections_of`), by which
    they are put in order.
    """
    if not flow.beside:
        return replace(work, operations=_one_after_the_other(work.operations))
    if flow.phases:
        return work
    order = sorted(range(len(work.operations)), key=lambda k: (sections[k], k))
    work = reorder(work, order)
    return replace(work, operations=_in_turn(work.operations, [sections[k] for k in order]))


def reorder(work: Work, order: Sequence[int]) -> Work:
    """The work with its operations in another order, in which none comes before one that it waits for."""
    at = {k: n for n, k in enumerate(order)}
    operations: list[Operation] = []
    for k in order:
        op = work.operations[k]
        after, every = (tuple(sorted(at[j] for j in some)) for some in (op.after, op.after_all))
        previous = tuple(sorted((at[j], lag) for j, lag in op.after_previous))
        operations.append(replace(op, after=after, after_all=every, after_previous=previous))
    return replace(
        work,
        operations=tuple(operations),
        writers={v: tuple(sorted(at[k] for k in users)) for v, users in work.writers.items()},
        readers={v: tuple(sorted(at[k] for k in users)) for v, users in work.readers.items()},
        versions=tuple(sorted(((home, at[k], writes) for home, k, writes in work.versions), key=lambda v: v[1])),
    )


def _one_after_the_other(operations: Sequence[Operation]) -> tuple[Operation, ...]:
    """Each operation waits for the one before it."""
    return tuple(replace(op, after=(k - 1,)) if k else op for k, op in enumerate(operations))


def _in_turn(operations: Sequence[Operation], order: Sequence[int]) -> tuple[Operation, ...]:
    """The first operations of a section wait for the last ones of the section before it."""
    led = [False] * len(operations)  # is there one of the same section before it, or after it?
    followed = [False] * len(operations)
    for k, op in enumerate(operations):
        for j in (*op.after, *op.after_all):
            if order[j] == order[k]:
                led[k] = followed[j] = True
    lasts: dict[int, list[int]] = {}
    for k, section in enumerate(order):
        if not followed[k]:
            lasts.setdefault(section, []).append(k)
    numbers = sorted(lasts)
    before = {section: lasts[earlier] for earlier, section in pairwise(numbers)}
    result: list[Operation] = []
    for k, op in enumerate(operations):
        if led[k] or order[k] not in before:
            result.append(op)
            continue
        waits = before[order[k]]
        every = [j for j in waits if op.streamed and operations[j].streamed]
        part = [j for j in waits if j not in every]
        after = (j for j in (*op.after, *part) if j not in every)
        after_all = tuple(sorted({*op.after_all, *every}))
        result.append(replace(op, after=tuple(sorted(set(after))), after_all=after_all))
    return tuple(result)


def sections_of(work: Work, phases: Mapping[int, int], streaming: Streaming, flow: Dataflow) -> list[int]:
    """The section of each operation: numbers that rise with the order in which sections may run.

    `phases` has the phase of the operations that update weights. Everything else is of the first phase whose updates
    need it. What can go part by part falls into sections within its phase: the sets that hand nothing of a part to one
    another, as the discriminator on real and on fake samples. What is of the whole batch is in the last section of what
    it needs. Where the flow lets sections overlap, all of a phase is one.
    """
    count, parted = len(work.operations), streaming.axes
    flowing = [op.node in streaming.nodes for op in work.operations]
    for value, writers in work.writers.items():
        for k in (*writers, *work.readers[value]):
            flowing[k] |= work.operations[k].node is None and value in parted
    before: list[list[int]] = [[] for _ in range(count)]
    joined: list[list[int]] = [[] for _ in range(count)]
    for value, writers in work.writers.items():
        for reader in work.readers[value]:
            before[reader] += writers
            if value in parted and flowing[reader]:
                joined[reader] += writers
    late = 1 + max(phases.values(), default=0)
    phase = [phases.get(k, late) for k in range(count)]
    for k in range(count - 1, -1, -1):
        for j in before[k]:
            if j not in phases:
                phase[j] = min(phase[j], phase[k])
    for k in range(count):  # what no update needs, a loss, is of the phase of what it is made of
        if phase[k] == late:
            phase[k] = max((phase[j] for j in before[k]), default=0)
    root = list(range(count))

    def find(k: int) -> int:
        while root[k] != k:
            root[k] = root[root[k]]
            k = root[k]
        return k

    for k in range(count):
        for j in joined[k]:
            if phase[j] == phase[k] and not flow.sections:
                a, b = sorted((find(j), find(k)))
                root[b] = a
    section = [phase[k] * count + (0 if flow.sections else find(k)) for k in range(count)]
    for k in range(count):
        if not flowing[k]:
            section[k] = max((section[j] for j in before[k] if phase[j] == phase[k]), default=phase[k] * count)
    return _legal(work.operations, section, flowing)


def _legal(operations: Sequence[Operation], section: list[int], flowing: Sequence[bool]) -> list[int]:
    """Sections such that nobody waits for a later one: who does moves there, with all that flows with it."""
    moved_to = {s: s for s in section}
    alone = list(section)

    def place(k: int) -> int:
        return moved_to[section[k]] if flowing[k] else alone[k]

    changed = True
    while changed:
        changed = False
        for k, op in enumerate(operations):
            latest = max((place(j) for j in (*op.after, *op.after_all)), default=0)
            if latest > place(k):
                changed = True
                if flowing[k]:
                    moved_to[section[k]] = latest
                else:
                    alone[k] = latest
    return [place(k) for k in range(len(operations))]
