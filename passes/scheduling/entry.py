"""The schedule of an entry: when every part of every operation starts, and in which bytes values lie meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from mgc.functions.channel import shares_of
from mgc.ir.graph import Value
from mgc.passes.mapping.plan import EntryPlan, Operation, SchedulePlan
from mgc.passes.scheduling.bounds import barrier_bound, lower_bound
from mgc.passes.scheduling.cyclic import least_interval, overlap_runs, repeat_run
from mgc.passes.scheduling.iterations import moves_of, waits_of
from mgc.passes.scheduling.memory import (
    LiveRange,
    MemoryPlan,
    MemoryPlanner,
    Slots,
    peak,
    slot_waits,
    spill,
    steady_slots,
)
from mgc.passes.scheduling.modulo import steady_state
from mgc.passes.scheduling.operations import Work
from mgc.passes.scheduling.paces import BEGINNINGS, PACES, STREAM_PACES, Paced, own_paces
from mgc.passes.scheduling.problem import Edge, Problem
from mgc.passes.scheduling.search import TaskSchedule, best_list, improve
from mgc.passes.scheduling.sections import arrange
from mgc.passes.scheduling.solver import SolverOptions
from mgc.passes.scheduling.stages import passing
from mgc.passes.streaming.analysis import Streaming
from mgc.passes.streaming.dataflow import Dataflow

MOST_TASKS = 40_000
"""Tasks of the finest cut of a batch that is tried."""

MARGIN = 32
"""The part of the memory that is left over, at least, while cuts are compared: where buffers lie is found out later."""

AHEAD = 16
"""The part of the memory that a value may take which goes round in slots within a stage, where memory is short; but it
has two slots at least, so that who makes it and who uses it work side by side.
"""

ENOUGH = 1.01
"""A finer cut must shorten the schedule by more than this to be tried on: its makespan then falls ever more slowly."""


@dataclass(frozen=True)
class EntryRun:
    """One run of an entry, to be scheduled.

    `work` makes its operations for a cut of the batch into parts and a choice of values that are off-chip. `streaming`
    is the finest cut, `roots` tells in which value's memory each value lies, `phases` numbers the updates among the
    operations by phase, `flow` says what may overlap. Or a run goes through independent `micro_batches`, each through
    all operations; then it is not cut.
    """

    work: Callable[[int, frozenset[Value]], Work]
    streaming: Streaming
    roots: Mapping[Value, Value]
    phases: Callable[[Work], Mapping[int, int]] = lambda work: {}
    flow: Dataflow = field(default_factory=Dataflow)
    micro_batches: int = 1


def schedule_entry(run: EntryRun, splits: Sequence[int], capacity: int, options: SolverOptions) -> EntryPlan:
    """The shortest schedule over cuts of the batch into parts, `splits` from few to many (1, whole, is among them); the
    plan knows nothing of the entry's inputs and outputs yet.

    Cuts are compared by list schedules; CP-SAT works on the one chosen. `capacity` is what the tiles' memories have for
    the entry's values, in bytes: what does not fit is spilled off-chip, where it moves at that channel's pace. The
    lower bound knows nothing of slots, except where CP-SAT proved it for a memory that leaves no room for more.
    """
    best: _Cut | None = None
    splits = splits if run.flow.split else (1,)
    for split in splits:
        cut = _Cut(run, split, capacity)
        if split > 1 and len(cut.problem.tasks) > MOST_TASKS:
            break
        if len(splits) > 1:
            cut.fit_roughly()
        if best is not None and cut.plain.makespan >= best.plain.makespan:
            if cut.plain.makespan > best.plain.makespan * ENOUGH:
                break
            continue
        best = cut
    if best is None:
        raise ValueError("a cut into one part must be among the splits")
    return best.finish(options)


def finer(split: int) -> list[int]:
    """The cuts into fewer parts that a cut goes into, from one part up to itself."""
    return [n for n in range(1, split + 1) if split % n == 0]


class _Cut:
    """One cut of a run: its operations, the best list schedule, and the memory that it needs."""

    def __init__(self, run: EntryRun, split: int, capacity: int) -> None:
        self.run, self.split, self.capacity = run, split, capacity
        self.offchip: frozenset[Value] = frozenset()
        self.tight = False  # whether memory is too short for operations to run ahead as far as they like
        self._plan()

    def _plan(self) -> None:
        """The best list schedule with the values that are spilled by now.

        Micro-batches wait for slots, of which the steady state needs few; parts have as many as their schedule needs,
        but where memory is short what comes and goes within a stage has few.
        """
        run = self.run
        work = run.work(self.split, self.offchip)
        work = arrange(work, run.phases(work), run.streaming, run.flow)
        operations = work.operations
        self.arranged, self.swift = work, self._problem_of(work)
        self.barrier_bound = self.least_interval = 0  # bounds of a run, and of the interval, once they are known
        self.few: dict[Value, int] = {}  # the slots that writers of parts wait for, once they are known
        paced = Paced(self.swift, [op.offchip for op in operations], self.swift.durations, work.bytes_per_cycle)
        bound = lower_bound(self.swift.tasks)
        self._take(paced.at_most(PACES[0]))
        self.plain = self._list(self.problem, bound)
        if run.micro_batches > 1 and any(self.swift.shares):
            self._pace_stream(paced, bound)

    def _pace_stream(self, paced: Paced, bound: int) -> None:
        """Lets all of a stream go at the pace that makes it shortest: what takes its time beside the slowest stage
        leaves the channel to others, and needs no gap of theirs.
        """
        best, least = PACES[0], self.plain.makespan
        for pace in STREAM_PACES:
            self._take(paced.at_most(pace))
            found = self._list(self.problem, bound)
            if found.makespan < least:
                best, least = pace, found.makespan
        self._take(paced.at_most(best))
        self.plain = self._list(self.problem, bound)

    def _problem_of(self, work: Work) -> Problem:
        repeats, channel = self.split * self.run.micro_batches, work.bytes_per_cycle
        return problem_of(work.operations, repeats, cut=self.split > 1, channel=channel)

    def _take(self, paced: Paced) -> None:
        """Takes over durations, with the slots that values are given."""
        run, work = self.run, self.arranged
        each = zip(work.operations, paced.problem.durations, strict=True)
        self.work = replace(work, operations=tuple(replace(op, duration=d) for op, d in each))
        axes = None if run.micro_batches > 1 else run.streaming.axes if self.split > 1 else ()
        self.planner = MemoryPlanner(self.work, run.roots, axes, self.offchip, self.capacity)
        self.free = replace(paced.problem, edges=self.swift.edges)
        self.slots = self._few_slots()
        self.problem = replace(self.free, edges=(*self.free.edges, *self._slot_waits(self.slots)))
        self.paced = replace(paced, problem=self.problem)

    def _few_slots(self) -> dict[Value, int]:
        """The slots that writers wait for, of the values of which there are fewer than parts or micro-batches."""
        run = self.run
        if run.micro_batches > 1:
            return steady_slots(self.work, steady_state(self.free), run.micro_batches)
        if self.split == 1 or not self.tight:
            return {}
        if not self.few:  # the same at any pace
            some = passing(self.work, run.streaming.axes, run.roots, self._moves() if run.flow.iterations else ())
            room = self.capacity // AHEAD
            self.few = {v: max(2, room // max(1, self.work.sizes[v])) for v in some if v not in self.offchip}
        return self.few

    def _settle_paces(self, found: TaskSchedule, memory: MemoryPlan) -> tuple[TaskSchedule, MemoryPlan]:
        """Gives operations paces of their own, if that shortens the schedule and what is on the chip still fits;
        iterations that overlap are taken apart, if only so it does.

        Runs through micro-batches keep the common pace: their slots are made for its steady state.
        """
        if self.run.micro_batches > 1 or not any(self.swift.shares) or self.plain.makespan == self.plain.lower_bound:
            return found, memory
        before, plain = self.paced, self.plain
        begun = [(before, plain.starts)]
        for pace in PACES[1:]:
            self._take(before.at_most(pace))
            begun.append((self.paced, self._list(self.problem, plain.lower_bound).starts))
        begun.sort(key=lambda some: some[0].problem.tasks.makespan(some[1]))
        fitting = [some for some in begun if self._fits(*some)] or begun
        self._fits(*own_paces(fitting[:BEGINNINGS], self._bound(), self._fits))
        for apart in (False, True)[: 1 + self.run.flow.iterations]:
            settled, placed = self._placed(apart)
            if placed.edram <= self.capacity and settled.period < found.period:
                return settled, placed
        self._take(before)
        self.plain = plain
        return found, memory

    def _fits(self, paced: Paced, starts: list[int]) -> bool:
        """Takes over durations and a schedule of a run on its own; says whether what is on the chip fits."""
        self._take(paced)
        makespan = self.problem.tasks.makespan(starts)
        self.plain = replace(self.plain, starts=starts, makespan=makespan, hint=makespan)
        return self.planner.plan(self.problem.tasks, starts).edram <= self.capacity

    def _bound(self) -> int:
        """A bound of a run at any pace, whatever slots it has."""
        self.barrier_bound = self.barrier_bound or max(self.plain.lower_bound, barrier_bound(self.swift.tasks))
        return self.barrier_bound

    def _placed(self, apart: bool = False) -> tuple[TaskSchedule, MemoryPlan]:
        """The list schedule, or of iterations that may overlap, unless they are `apart`, the repeating one, and where
        it puts values.
        """
        found = self._overlap(apart) if self.run.flow.iterations else self.plain
        return found, self.planner.plan(self.problem.tasks, found.starts, found.interval)

    def _moves(self) -> list[frozenset[int]]:
        """What an iteration can begin with while the one before it ends."""
        return moves_of(self.work, self.free, self.run.phases(self.work), self.run.streaming)

    def _list(self, problem: Problem, bound: int) -> TaskSchedule:
        """The best list schedule."""
        starts = best_list(problem, bound)
        makespan = problem.tasks.makespan(starts)
        return TaskSchedule(starts, makespan, bound, makespan)

    def _slot_waits(self, slots: Slots) -> list[Edge]:
        """What waits for slots."""
        return slot_waits(self.work, slots, self.split * self.run.micro_batches)

    def fit_roughly(self) -> None:
        """Spills values until the others look as if they fit, which is quick to see."""
        room = self.capacity - self.capacity // MARGIN
        while True:
            ranges = self.planner.on_chip(self.planner.live_ranges(self.problem.tasks, self.plain.starts))
            if peak(ranges) <= room:
                return
            self._save(ranges, room)

    def _save(self, ranges: Sequence[LiveRange], room: int) -> None:
        """Saves memory: first nobody runs far ahead, then values are spilled until others take so much room at most."""
        if self.tight or self.split == 1:
            self.offchip |= spill(ranges, room)
        self.tight = self.split > 1
        self._plan()

    def _fit(self) -> tuple[TaskSchedule, MemoryPlan]:
        """Spills values until the others fit."""
        lost = 0  # bytes that first fit leaves between buffers
        while True:
            found, memory = self._placed()
            if memory.edram <= self.capacity:
                return found, memory
            most = peak(memory.ranges)
            if most <= self.capacity:
                lost = max(2 * lost, memory.edram - most)
            self._save(memory.ranges, max(0, self.capacity - lost))

    def finish(self, options: SolverOptions) -> EntryPlan:
        """The schedule after CP-SAT, if its memory fits, else the list's; of iterations that overlap, if they may."""
        found, memory = self._settle_paces(*self._fit())
        if self.run.flow.iterations:
            found, memory = self._at_most_alone(found, memory, options)
            waits = [Edge(before, after, 1) for before, after in waits_of(self.work)]
            return self._result(found, memory, waits)
        found, memory = self._give_slots(memory)
        found, memory = self._improve(found, memory, options)
        waits = self._slot_waits({v: b.slots for v, b in memory.buffers.items()}) if self.run.micro_batches > 1 else []
        return self._result(found, memory, waits)

    def _overlap(self, apart: bool) -> TaskSchedule:
        """The schedule of iterations that overlap, or follow one another."""
        waits, starts = waits_of(self.work), self.plain.starts
        bound = self.least_interval = self.least_interval or least_interval(self.swift, waits)
        if apart:
            return repeat_run(self.problem, waits, starts, self.plain.makespan, bound)
        return overlap_runs(self.problem, waits, self._moves(), starts, bound)

    def _at_most_alone(
        self, found: TaskSchedule, memory: MemoryPlan, options: SolverOptions
    ) -> tuple[TaskSchedule, MemoryPlan]:
        """The schedule of iterations that overlap, unless one after another is shorter, as CP-SAT schedules each."""
        if found.period <= self.plain.lower_bound:
            return found, memory
        tasks, plain = self.problem.tasks, self.plain
        alone, _ = self._improve(plain, memory, options)
        if alone.makespan >= found.period:
            return found, memory
        repeated = repeat_run(self.problem, waits_of(self.work), alone.starts, alone.makespan, found.lower_bound)
        placed = self.planner.plan(tasks, repeated.starts, repeated.interval)
        return (repeated, placed) if placed.edram <= self.capacity else (found, memory)

    def _give_slots(self, memory: MemoryPlan) -> tuple[TaskSchedule, MemoryPlan]:
        """The shortest list schedule whose slots still fit, and the problem it is of: the freer, the better."""
        found, extra = self.plain, self.run.micro_batches if self.run.micro_batches > 1 else 0
        while extra and found.makespan > found.lower_bound and self.problem.edges != self.free.edges:
            slots = {v: s + extra for v, s in self.slots.items()}
            freer = replace(self.free, edges=(*self.free.edges, *self._slot_waits(slots)))
            plain = self._list(freer, found.lower_bound)
            wider = self.planner.plan(freer.tasks, plain.starts)
            if wider.edram <= self.capacity:
                if plain.makespan <= found.makespan:
                    self.problem, found, memory = freer, plain, wider
                break
            extra //= 2
        return found, memory

    def _improve(
        self, plain: TaskSchedule, memory: MemoryPlan, options: SolverOptions
    ) -> tuple[TaskSchedule, MemoryPlan]:
        """What CP-SAT makes of a list schedule, unless it goes ahead farther than memory reaches."""
        bound = plain.lower_bound if plain.makespan == plain.lower_bound else self._bound()
        found = improve(self.problem, plain.starts, bound, options)
        if self.free != self.swift or self.tight:  # the solver's bound holds at this pace and for these slots only
            found = replace(found, lower_bound=bound)
        if found.starts != plain.starts:
            moved = self.planner.plan(self.problem.tasks, found.starts)
            if moved.edram > self.capacity:
                return replace(plain, lower_bound=found.lower_bound), memory
            memory = moved
        return found, memory

    def _result(self, found: TaskSchedule, memory: MemoryPlan, waits: Sequence[Edge]) -> EntryPlan:
        """The schedule with what operations wait for from one micro-batch, or iteration, to another."""
        previous: dict[int, list[tuple[int, int]]] = {}
        for edge in waits:
            previous.setdefault(edge.after, []).append((edge.before, edge.lag))
        operations = tuple(
            replace(op, after_previous=tuple(sorted(previous.get(k, ())))) for k, op in enumerate(self.work.operations)
        )
        table = self.problem.tasks.matrix(found.starts)
        plan = SchedulePlan(table, found.status, found.makespan, found.lower_bound, found.hint, found.interval)
        axes = frozenset(self.run.streaming.axes) if self.split > 1 else frozenset()
        return EntryPlan(operations, self.work.units, memory.buffers, plan, parts=self.split, parted=axes)


def problem_of(
    operations: Sequence[Operation], repeats: int, *, cut: bool, channel: float = 1.0, waits: Sequence[Edge] = ()
) -> Problem:
    """The scheduling problem of some operations; of a run that is `cut` not all go part by part. `channel` is the rate
    of the off-chip channel, bytes a cycle; `waits` are those for slots.
    """
    edges = list(waits)
    for i, op in enumerate(operations):
        edges += (Edge(j, i) for j in op.after)
        edges += (Edge(j, i, whole=True) for j in op.after_all)
    return Problem(
        tuple(op.duration for op in operations),
        tuple(op.unit for op in operations),
        tuple(edges),
        repeats,
        tuple(_name(op, i) for i, op in enumerate(operations)),
        tuple(op.streamed for op in operations) if cut else (),
        tuple(shares_of(op.offchip, op.duration, channel) for op in operations),
    )


def _name(op: Operation, index: int) -> str:
    what = op.node.outputs[0].name if op.node is not None and op.node.outputs else f"port{op.port}"
    return f"{index}.{op.kind}.{what}" + (f".{op.part}" if op.part >= 0 else "")
