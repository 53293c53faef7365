"""The planned tasks of a program as one table: what every picture of the schedule is drawn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise

from mgc.isa.entry import Entry
from mgc.isa.phases import Stage, stages
from mgc.isa.program import Program
from mgc.isa.schedule import Unit
from mgc.isa.tasks import Needs, count_of
from mgc.report import trace


@dataclass(frozen=True)
class Task:
    """One run of an instruction: micro-batch `micro_batch`, cycles `start` to `end` on unit `unit` (its number).

    `entry` is the number of its entry.
    """

    id: int
    entry: int
    instruction: int
    micro_batch: int
    unit: int
    start: int
    end: int
    deps: tuple[int, ...]

    @property
    def duration(self) -> int:
        """Cycles."""
        return self.end - self.start


@dataclass(frozen=True, eq=False)
class Timeline:
    """All tasks of some entries in turn, by id: entry by entry, micro-batch by micro-batch, in instruction order.

    Each entry is shown once, from `origin` of it on. Where a schedule splits a run, the parts of the batch count as
    micro-batches. Dependencies are those within a run. What it says of instructions is by their id.
    """

    program: Program
    entries: tuple[Entry, ...]
    tasks: tuple[Task, ...]

    @staticmethod
    def of(program: Program, *entries: Entry) -> Timeline:
        """The tasks of some entries; of all of them where none is named."""
        tasks: list[Task] = []
        origin = 0
        for each in entries or program.entries:
            tasks += _tasks(program, each, len(tasks), origin)
            origin += each.schedule.makespan
        return Timeline(program, entries or program.entries, tuple(tasks))

    @cached_property
    def origins(self) -> dict[int, int]:
        """The cycle at which each entry begins, by its number."""
        ends = accumulate((e.schedule.makespan for e in self.entries), initial=0)
        return {e.id: at for e, at in zip(self.entries, ends, strict=False)}

    @property
    def name(self) -> str:
        """Names of the entries."""
        return ", ".join(e.name for e in self.entries)

    @property
    def makespan(self) -> int:
        """Cycles of the entries, each once."""
        return sum(e.schedule.makespan for e in self.entries)

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """What each instruction does: "mvm conv1"."""
        return tuple(trace.label(self.program, i) for i in self.program.instructions)

    @cached_property
    def nodes(self) -> tuple[tuple[str, ...], ...]:
        """The ONNX nodes of each instruction."""
        return tuple(trace.onnx_nodes(self.program, i) for i in self.program.instructions)

    @cached_property
    def stages(self) -> tuple[Stage, ...]:
        """Phase and kind of each instruction."""
        return stages(self.program)

    @cached_property
    def phases(self) -> tuple[str, ...]:
        """The phases of the tasks, in order."""
        return tuple(dict.fromkeys(self.stages[t.instruction].phase for t in self.tasks))

    @cached_property
    def micro_batches(self) -> int:
        """The most tasks that an instruction has."""
        return 1 + max((t.micro_batch for t in self.tasks), default=0)

    @cached_property
    def span(self) -> int:
        """Cycles of the plan, at least 1."""
        return max(self.makespan, max((t.end for t in self.tasks), default=0), 1)

    @cached_property
    def by_unit(self) -> dict[int, tuple[Task, ...]]:
        """The tasks of each unit that has any, in order of start; units as `unit_order` has them."""
        found: dict[int, list[Task]] = {}
        for task in self.tasks:
            found.setdefault(task.unit, []).append(task)
        return {
            u.id: tuple(sorted(found[u.id], key=lambda t: (t.start, t.end, t.id)))
            for u in unit_order(self.program.units)
            if u.id in found
        }

    def busy(self, unit: int) -> int:
        """Cycles in which a unit works."""
        return sum(t.duration for t in self.by_unit.get(unit, ()))

    @cached_property
    def critical(self) -> tuple[Task, ...]:
        """A chain of tasks from the end back to the start, each of which starts as its predecessor ends.

        The predecessor is a dependency or the task before on the same unit (a dependency where both end as it starts).
        It ends where a task waits for neither: at cycle 0, or where the plan leaves room.
        """
        before: dict[int, Task] = {}
        for tasks in self.by_unit.values():
            for earlier, later in pairwise(tasks):
                before[later.id] = earlier
        at = max(self.tasks, key=lambda t: (t.end, -t.id), default=None)
        chain: list[Task] = []
        while at is not None:
            chain.append(at)
            candidates = [self.tasks[d] for d in at.deps] + ([before[at.id]] if at.id in before else [])
            reached = [c for c in candidates if c.end == at.start and c.duration > 0]
            at = reached[0] if reached else None
        return tuple(reversed(chain))


def timelines(program: Program) -> tuple[Timeline, ...]:
    """One for each entry."""
    return tuple(Timeline.of(program, e) for e in program.entries)


def _tasks(program: Program, entry: Entry, first: int, origin: int) -> list[Task]:
    """The tasks of an entry, numbered from `first` on, `origin` cycles later."""
    part = program.part(entry.name)
    shift = entry.first - part.entry.first
    counted = sorted((k, i.id) for i in part.instructions for k in range(count_of(part, i)))
    number = {(i, k): first + place for place, (k, i) in enumerate(counted)}
    tasks, needs = [], Needs(part)
    for k, i in counted:
        instruction = part.instructions[i]
        own = {(i, lag) for j, lag in instruction.after_previous if j == i}
        deps = {
            number[need.task]
            for need in needs.of(instruction, k)
            if need.lag == 0 and (need.task[0] != i or (i, k - need.task[1]) in own)
        }
        start = origin + part.entry.start(i, k)
        end = start + instruction.duration
        tasks.append(Task(number[i, k], entry.id, i + shift, k, instruction.unit, start, end, tuple(sorted(deps))))
    return tasks


KINDS = ("link", "dma", "crossbar", "vector", "diff", "gradient", "writer", "host")
"""Kinds of units in the order in which data meets them."""

KIND_NAMES = {
    "link": "host links",
    "dma": "ports",
    "crossbar": "crossbars",
    "vector": "vector units",
    "diff": "diff-blocks",
    "gradient": "gradient units",
    "writer": "write drivers",
    "host": "host",
}


def unit_order(units: Sequence[Unit]) -> list[Unit]:
    """Units by kind, then by number."""
    return sorted(units, key=lambda u: (KINDS.index(u.kind) if u.kind in KINDS else len(KINDS), u.id))
