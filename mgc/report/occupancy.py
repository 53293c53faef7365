"""How much of the chip is in use over the plan: crossbars at work, bytes of buffers that hold something."""

from __future__ import annotations

from collections.abc import Iterable

from mgc.isa.memory import nbytes, slot_bytes
from mgc.isa.program import Program
from mgc.report.timeline import Task, Timeline

Steps = list[tuple[int, int]]
"""(cycle, value from this cycle on), at strictly rising cycles."""


def busy_crossbars(timeline: Timeline) -> Steps:
    """Crossbars that are read or written: those of a task's groups, all replicas, while it runs."""
    program = timeline.program
    sizes = [len(g.crossbars) for g in program.groups]
    used = []
    for task in timeline.tasks:
        instruction = program.instructions[task.instruction]
        groups = {*instruction.reads_groups(), *instruction.writes_groups()}
        if groups:
            used.append((task.start, task.end, sum(sizes[g] for g in groups)))
    return _steps(used)


def buffer_bytes(timeline: Timeline) -> dict[str, Steps]:
    """Bytes in use in each memory space. A buffer is in use, for each micro-batch, from the start of the first task
    that writes it to the end of the last that touches it; one that keeps states, all the time. Where the schedule
    splits a run, a buffer that is written part by part is in use part by part.
    """
    program = timeline.program
    if len(timeline.entries) > 1:
        every = [(timeline.origins[e.id], buffer_bytes(Timeline.of(program, e))) for e in timeline.entries]
        spaces = sorted({space for _, found in every for space in found})
        return {s: _in_turn([(at, found.get(s, [])) for at, found in every]) for s in spaces}
    used: dict[str, list[tuple[int, int, int]]] = {}
    for b in program.buffers:
        if b.alias_of < 0 and b.persistent:
            used.setdefault(b.space, []).append((0, timeline.span, nbytes(b, program.target)))
    for root, spans in _spans(timeline).items():
        buffer = program.buffers[root]
        if not buffer.persistent:
            size = slot_bytes(buffer, program.target)
            used.setdefault(buffer.space, []).extend((start, end, size) for start, end in spans.values())
    return {space: _steps(used[space]) for space in sorted(used)}


def _spans(timeline: Timeline) -> dict[int, dict[int, tuple[int, int]]]:
    """Root buffer -> micro-batch (or part) -> when it is in use."""
    program, split = timeline.program, timeline.entries[0].schedule.split
    touched: dict[int, list[tuple[Task, bool]]] = {}
    for task in timeline.tasks:
        for root, writes in _touched(program, task):
            touched.setdefault(root, []).append((task, writes))
    found: dict[int, dict[int, tuple[int, int]]] = {}
    for root, uses in touched.items():
        writers = [task for task, writes in uses if writes]
        in_parts = split == 1 or program.buffers[root].parts > 1
        spans: dict[int, tuple[int, int]] = {}
        for task in writers:
            k = task.micro_batch if in_parts else 0
            start, end = spans.get(k, (task.start, task.end))
            spans[k] = min(start, task.start), max(end, task.end)
        for task, _ in uses:
            whole = not in_parts or (split > 1 and not program.instructions[task.instruction].streamed)
            for k in spans if whole else spans.keys() & {task.micro_batch}:
                spans[k] = spans[k][0], max(spans[k][1], task.end)
        if spans:
            found[root] = spans
    return found


def _in_turn(parts: list[tuple[int, Steps]]) -> Steps:
    """Steps that follow each other, each later by its offset; at a common cycle the later part counts."""
    joined: dict[int, int] = {}
    for offset, steps in parts:
        joined |= {offset + cycle: value for cycle, value in steps}
    return sorted(joined.items())


def _touched(program: Program, task: Task) -> Iterable[tuple[int, bool]]:
    """(root buffer, whether it is written) of what a task reads and writes."""
    instruction = program.instructions[task.instruction]
    yield from ((program.root(b), True) for b in instruction.writes())
    yield from ((program.root(b), False) for b in instruction.reads())


def _steps(used: Iterable[tuple[int, int, int]]) -> Steps:
    """The sum over intervals (start, end, amount) as steps."""
    changes: dict[int, int] = {}
    for start, end, amount in used:
        changes[start] = changes.get(start, 0) + amount
        changes[end] = changes.get(end, 0) - amount
    steps: Steps = []
    value = 0
    for cycle in sorted(changes):
        if changes[cycle] or not steps:
            value += changes[cycle]
            steps.append((cycle, value))
    return steps
