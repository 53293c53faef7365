"""The passes from the graphs of a training iteration to a plan, in order."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mgc.ir.graph import Graph
from mgc.ir.op import IRError
from mgc.ir.training import State
from mgc.ir.verifier import verify
from mgc.passes.lower_moves import lower_moves
from mgc.passes.lower_training.copies import lower_with_copies
from mgc.passes.lower_training.prepare import prepare
from mgc.passes.lower_training.quantize import quantize_training
from mgc.passes.lower_training.residents import Residents
from mgc.passes.lower_training.trace import inherit_sources
from mgc.passes.lower_vec import lower_vec
from mgc.passes.manager import PassError, PassRecord, dump
from mgc.passes.scheduling.solver import SolverOptions
from mgc.passes.streaming.analysis import best_split, data_of
from mgc.passes.streaming.dataflow import DATAFLOWS, DEFAULT_DATAFLOW
from mgc.passes.training_mapping import EntryGraph, plan_training, training_target
from mgc.passes.training_plan import EntryKind, TrainingPlan
from mgc.passes.versions import homes_of, order, settle
from mgc.targets.description import Target


@dataclass(frozen=True, eq=False)
class TrainingEntry:
    """A level-1 graph that becomes an entry: its inputs are data, then states; new values of states are outputs."""

    name: str
    kind: EntryKind
    repeats: int
    graph: Graph
    micro_batch: int
    batched: bool = False


@dataclass
class TrainingPasses:
    """Runs the passes on all entries; verifies after each, times each, and writes each stage to `dump_dir`."""

    target: Target
    dump_dir: Path | None = None
    options: SolverOptions | None = None
    dataflow: str = DEFAULT_DATAFLOW
    progress: Callable[[str, float], None] = lambda name, done: None
    records: list[PassRecord] = field(default_factory=list)

    def run(self, entries: Sequence[TrainingEntry], states: Sequence[State], batch: int) -> TrainingPlan:
        """The plan. UnsupportedError or CapacityError for what has no place on the target."""
        target = training_target(self.target)
        self.entries = entries
        graphs = self._pass("prepare", (1,), lambda: [prepare(e.graph) for e in entries])
        lowered: list[Residents] = []

        def lower() -> list[Graph]:
            times = [e.repeats if e.kind == "train" else 0 for e in entries]
            found = lower_with_copies(graphs, times, states, self.target)
            lowered.append(found.residents)
            return list(found.graphs)

        graphs = self._pass("lower-training", (1, 2), lower)
        (residents,) = lowered
        names = [r.name for r in residents.all]
        graphs = self._pass("quantize", (1, 2), lambda: _quantized(graphs, residents, target, entries))
        graphs = self._pass("lower-moves", (1, 2), lambda: [_moved(g, names) for g in graphs])
        flow = DATAFLOWS[self.dataflow]
        batches = [e.micro_batch if e.kind == "train" and flow.split else 1 for e in entries]
        graphs = self._pass(
            "lower-vec", (1, 2), lambda: [_fused(g, names, b) for g, b in zip(graphs, batches, strict=True)]
        )
        placed = [
            EntryGraph(e.name, e.kind, e.repeats, g, e.micro_batch, e.batched)
            for e, g in zip(entries, graphs, strict=True)
        ]
        self.progress("schedule", 0.6)
        begin = time.perf_counter()
        plan = plan_training(placed, residents, target, batch, flow, self.options)
        self.records.append(PassRecord("schedule", time.perf_counter() - begin))
        return plan

    def _pass(self, name: str, levels: tuple[int, ...], run: Callable[[], list[Graph]]) -> list[Graph]:
        self.progress(name, 0.3 + 0.05 * len(self.records))
        begin = time.perf_counter()
        graphs = run()
        self.records.append(PassRecord(name, time.perf_counter() - begin))
        for entry, graph in zip(self.entries, graphs, strict=True):
            try:
                verify(graph, levels=levels)
            except IRError as error:
                raise PassError(f"pass {name} left a graph that does not verify ({entry.name}): {error}") from error
            if self.dump_dir is not None:
                dump(graph, self.dump_dir, len(self.records), f"{name}.{entry.name}", None)
        return graphs


def _quantized(
    graphs: Sequence[Graph], residents: Residents, target: Target, entries: Sequence[TrainingEntry]
) -> list[Graph]:
    return [quantize_training(g, residents, target, e.micro_batch) for g, e in zip(graphs, entries, strict=True)]


def _moved(graph: Graph, residents: Sequence[str]) -> Graph:
    graph = lower_moves(graph)
    settle(graph, residents)
    order(graph, homes_of(graph, residents))
    inherit_sources(graph)
    return graph


def _fused(graph: Graph, residents: Sequence[str], batch: int) -> Graph:
    homes = homes_of(graph, residents)
    graph = lower_vec(graph, homes, best_split(graph, data_of(graph, residents), homes, batch))
    order(graph, homes_of(graph, residents))
    return graph
