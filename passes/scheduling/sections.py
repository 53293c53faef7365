"""Data flows as waits between operations: what follows what, and the sections of phases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

from mgc.passes.mapping.plan import Operation
from mgc.passes.scheduling.operations import Work
from mgc.passes.streaming.analysis import Streaming
from mgc.passes.streaming.dataflow import Dataflow


def arrange(work: Work, phases: Mapping[int, int], streaming: Streaming, flow: Dataflow) -> Work:
    """The work with the waits that a flow adds; where sections run in turn, in their order (see `sections_of`)."""
    if not flow.beside:
        chain = (replace(op, after=(k - 1,)) if k else op for k, op in enumerate(work.operations))
        return replace(work, operations=tuple(chain))
    if flow.phases:
        return work
    sections = sections_of(work, phases, streaming, flow)
    order = sorted(range(len(sections)), key=lambda k: (sections[k], k))
    work = _reorder(work, order)
    return replace(work, operations=_in_turn(work.operations, [sections[k] for k in order]))


def _reorder(work: Work, order: Sequence[int]) -> Work:
    """The work with its operations in another order, in which none comes before one that it waits for."""
    at = {k: n for n, k in enumerate(order)}

    def renumber(numbers: Sequence[int]) -> tuple[int, ...]:
        return tuple(sorted(at[k] for k in numbers))

    operations = (work.operations[k] for k in order)
    return replace(
        work,
        operations=tuple(replace(op, after=renumber(op.after), after_all=renumber(op.after_all)) for op in operations),
        writers={v: renumber(users) for v, users in work.writers.items()},
        readers={v: renumber(users) for v, users in work.readers.items()},
        versions=tuple(sorted(((home, at[k], writes) for home, k, writes in work.versions), key=lambda v: v[1])),
    )


def _in_turn(operations: Sequence[Operation], section: Sequence[int]) -> tuple[Operation, ...]:
    """The first operations of a section wait for the last ones of the section before it."""
    needs = [[j for j in (*op.after, *op.after_all) if section[j] == section[k]] for k, op in enumerate(operations)]
    followed = {j for own in needs for j in own}
    lasts: dict[int, list[int]] = {}
    for k, number in enumerate(section):
        if k not in followed:
            lasts.setdefault(number, []).append(k)
    before = {later: lasts[earlier] for earlier, later in pairwise(sorted(lasts))}
    result: list[Operation] = []
    for k, op in enumerate(operations):
        if not needs[k] and section[k] in before:
            every = {j for j in before[section[k]] if op.streamed and operations[j].streamed}
            after = {*op.after, *before[section[k]]} - every
            op = replace(op, after=tuple(sorted(after)), after_all=tuple(sorted({*op.after_all, *every})))
        result.append(op)
    return tuple(result)


def sections_of(work: Work, phases: Mapping[int, int], streaming: Streaming, flow: Dataflow) -> list[int]:
    """The section of each operation: numbers that rise with the order in which sections may run.

    `phases` has the phase of the operations that update weights. Everything else is of the first phase whose updates
    need it. What can go part by part falls into sections within its phase: the sets that hand nothing of a part to one
    another, as the discriminator on real and on fake samples. What is of the whole batch is in the last section of what
    it needs. Where the flow lets sections overlap, all of a phase is one.
    """
    import networkx as nx

    count = len(work.operations)
    flowing = [op.node in streaming.nodes for op in work.operations]
    for value in streaming.axes:
        for k in (*work.writers.get(value, ()), *work.readers.get(value, ())):
            flowing[k] |= work.operations[k].node is None
    before: list[list[int]] = [[] for _ in range(count)]
    for value, writers in work.writers.items():
        for reader in work.readers[value]:
            before[reader] += writers
    phase = _phases(before, phases)
    parts = nx.Graph()
    parts.add_nodes_from(range(count))
    for value, writers in work.writers.items():
        if value in streaming.axes and not flow.sections:
            handed = ((w, r) for w in writers for r in work.readers[value] if flowing[r] and phase[w] == phase[r])
            parts.add_edges_from(handed)
    first = {k: 0 if flow.sections else min(part) for part in nx.connected_components(parts) for k in part}
    section = [phase[k] * count + first[k] for k in range(count)]
    for k in range(count):
        if not flowing[k]:
            section[k] = max((section[j] for j in before[k] if phase[j] == phase[k]), default=phase[k] * count)
    return _in_order(work.operations, section, flowing)


def _phases(before: Sequence[Sequence[int]], phases: Mapping[int, int]) -> list[int]:
    """The first phase whose updates need an operation; what none needs, a loss, is of that of its operands."""
    late = 1 + max(phases.values(), default=0)
    phase = [phases.get(k, late) for k in range(len(before))]
    for k in reversed(range(len(before))):
        for j in before[k]:
            if j not in phases:
                phase[j] = min(phase[j], phase[k])
    for k, own in enumerate(before):
        if phase[k] == late:
            phase[k] = max((phase[j] for j in own), default=0)
    return phase


def _in_order(operations: Sequence[Operation], section: Sequence[int], flowing: Sequence[bool]) -> list[int]:
    """Sections such that nobody waits for a later one: who does moves there, with all that flows with it."""
    together = [s if flows else ~k for k, (s, flows) in enumerate(zip(section, flowing, strict=True))]
    place = dict(zip(together, section, strict=True))
    changed = True
    while changed:
        changed = False
        for k, op in enumerate(operations):
            latest = max((place[together[j]] for j in (*op.after, *op.after_all)), default=0)
            if latest > place[together[k]]:
                place[together[k]] = latest
                changed = True
    return [place[one] for one in together]
