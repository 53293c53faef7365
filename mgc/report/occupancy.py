"""How much of the chip is in use over the plan: crossbars at work, bytes of buffers that hold something."""

from __future__ import annotations

from collections.abc import Iterable

from mgc.isa.program import Program
from mgc.report.timeline import Task, Timeline
from mgc.report.views.memory import nbytes

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
    that writes it to the end of the last that touches it; one that keeps states, all the time.
    """
    program = timeline.program
    spans: dict[tuple[int, int], list[int]] = {}
    for task in timeline.tasks:
        for root, writes in _touched(program, task):
            key = root, task.micro_batch
            if writes:
                spans.setdefault(key, [task.start, task.end])
            if key in spans:
                spans[key][0] = min(spans[key][0], task.start)
                spans[key][1] = max(spans[key][1], task.end)
    used: dict[str, list[tuple[int, int, int]]] = {}
    for b in program.buffers:
        if b.alias_of < 0 and b.persistent:
            used.setdefault(b.space, []).append((0, timeline.span, nbytes(b)))
    for (root, _), (start, end) in spans.items():
        buffer = program.buffers[root]
        if not buffer.persistent:
            used.setdefault(buffer.space, []).append((start, end, nbytes(buffer)))
    return {space: _steps(used[space]) for space in sorted(used)}


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
