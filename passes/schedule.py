"""schedule: when every operation of every micro-batch starts, and in which bytes its values lie."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mgc.ir.graph import Graph, Value
from mgc.passes.operations import Work, operations_of, stored
from mgc.passes.place import Placement
from mgc.passes.plan import Operation
from mgc.passes.scheduling.entry import EntryRun, EntrySchedule, schedule_entry
from mgc.passes.scheduling.solver import SolverOptions
from mgc.passes.streaming.analysis import Streaming
from mgc.targets.description import Target


def schedule(
    graph: Graph, target: Target, placement: Placement, micro_batches: int, options: SolverOptions | None = None
) -> EntrySchedule:
    """Schedules a placed graph over micro-batches."""
    programs: list[Operation] = []

    def work(split: int, offchip: frozenset[Value]) -> Work:
        found = operations_of(graph, target, placement, offchip, pipelined=micro_batches > 1)
        programs[:] = found.operations[: found.setup]
        base = found.setup
        return replace(
            found,
            operations=tuple(replace(op, after=tuple(j - base for j in op.after)) for op in found.operations[base:]),
            setup=0,
            writers={v: tuple(k - base for k in w) for v, w in found.writers.items()},
            readers={v: tuple(k - base for k in w) for v, w in found.readers.items()},
        )

    capacity = target.edram.bytes_per_tile * target.structure.tiles
    run = EntryRun(work, Streaming(), stored(graph), micro_batches=micro_batches)
    done = schedule_entry(run, (1,), capacity, options or SolverOptions())
    base = len(programs)
    operations = [
        replace(
            op,
            after=tuple(j + base for j in op.after),
            after_previous=tuple((j + base, lag) for j, lag in op.after_previous),
        )
        for op in done.operations
    ]
    starts = np.concatenate([np.full((base, micro_batches), -1, np.int64), done.schedule.starts])
    return replace(done, operations=(*programs, *operations), schedule=replace(done.schedule, starts=starts))
