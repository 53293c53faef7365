"""schedule: every operation gets a unit, a duration, what it waits for and its starts; every value its bytes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from mgc.ir.graph import Value
from mgc.ir.module import Entry
from mgc.ir.training import NEXT
from mgc.passes.lowering.versions import is_update
from mgc.passes.manager import Pass
from mgc.passes.mapping.groups import homes_in, placement_of
from mgc.passes.mapping.multiplex import STAYS
from mgc.passes.mapping.plan import EntryPlan, PersistentPlan
from mgc.passes.mapping.residents import residents_in
from mgc.passes.scheduling.entry import EntryRun, finer, schedule_entry
from mgc.passes.scheduling.memory import footprint
from mgc.passes.scheduling.operations import Builder, Work, stored
from mgc.passes.scheduling.solver import SolverOptions
from mgc.passes.state import CompileState, with_graph
from mgc.passes.streaming.analysis import Streaming, best_split
from mgc.passes.streaming.dataflow import DATAFLOWS


@dataclass(frozen=True)
class Schedule(Pass):
    """Every entry gets a `plan`: its operations with units, durations, waits and starts, and the bytes of its values;
    after send.

    A schedule is never worse than the best list schedule, its bound is proven; `effort` and `workers` are CP-SAT's
    (deterministic time; equal options give equal schedules), see `mgc.passes.scheduling`.
    """

    name: ClassVar[str] = "schedule"
    levels: ClassVar[tuple[int, ...]] = (1, 2)
    effort: float = SolverOptions.effort
    workers: int = SolverOptions.workers

    def run_entry(self, entry: Entry, state: CompileState) -> Entry:
        plan = _Planner(entry, state).plan(SolverOptions(self.effort, self.workers))
        return with_graph(entry, entry.graph, plan=plan)


class _Planner:
    """Makes an entry's operations for a cut of the batch into parts and a choice of what is off-chip."""

    def __init__(self, entry: Entry, state: CompileState) -> None:
        graph, names = entry.graph, residents_in(state.module).by_name
        self.entry, self.state, self.target = entry, state, state.chip
        self.residents, self.streaming = residents_in(state.module), Streaming()
        self.homes, self.placement = homes_in(graph, self.residents), placement_of(entry, state)
        self.data = tuple(v.name for v in graph.inputs if v.name not in names)
        self.results = tuple(n for n, _ in graph.outputs if n.removesuffix(NEXT) not in names)
        persistent: tuple[PersistentPlan, ...] = state.module.attributes["persistent"]
        self.kept = {p.resident for p in persistent if p.space == "dram"}
        self.used = {"edram": 0, "dram": 0}
        for p in persistent:
            self.used[p.space] += footprint(names[p.resident].nbytes, 1)

    def plan(self, options: SolverOptions) -> EntryPlan:
        """The entry's schedule: of a run of micro-batches, or of a batch that is cut into parts. Its buffers come after
        the persistent ones.
        """
        entry, graph = self.entry, self.entry.graph
        room = self.target.edram.bytes_per_tile * self.target.structure.tiles - self.used["edram"]
        flow = DATAFLOWS[self.state.dataflow]
        runs = sum(e.repeats for e in self.state.module.entries if e.kind == "train")
        taking_turns = any(g.turn != STAYS for g in self.placement.groups)
        if flow.iterations and (entry.kind != "train" or runs > 1 or taking_turns):
            # what overlaps is whole iterations of one entry, whose weights stay where they are
            flow = replace(flow, iterations=False)
        if entry.kind == "train" and flow.split:
            self.streaming = best_split(graph, self.data, self.homes, entry.micro_batch)
        run = EntryRun(self.work, self.streaming, stored(graph), self.phases, flow, entry.micro_batches)
        found = schedule_entry(run, finer(self.streaming.split), room, options)
        buffers = {v: replace(b, offset=b.offset + self.used[b.space]) for v, b in found.buffers.items()}
        return replace(found, buffers=buffers, data=self.data, results=self.results)

    def work(self, split: int, offchip: frozenset[Value]) -> Work:
        """The operations with the batch in parts and some values off-chip."""
        kept = {v for v, home in self.homes.items() if home in self.kept}
        return Builder(
            self.entry.graph,
            self.target,
            self.placement,
            self.homes,
            {r.name: k for k, r in enumerate(self.residents.groups)},
            self.data,
            self.results,
            offchip | kept,
            self.streaming.coarser(split),
        ).build()

    def phases(self, work: Work) -> dict[int, int]:
        """The phase of each operation that updates weights, phases numbered in the order of their updates."""
        state = {s.name: s.group for s in self.state.module.states}
        group = {r.name: state.get(r.state, "") for r in self.residents.all}
        numbers: dict[str, int] = {}
        found: dict[int, int] = {}
        for k, op in enumerate(work.operations):
            if op.node is not None and is_update(op.node):
                name = group[self.homes[op.node.inputs[0]]]
                found[k] = numbers.setdefault(name, len(numbers))
        return found
