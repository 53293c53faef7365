"""The fast engine: runs a plan over many micro-batches at once."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from mgc.isa.dataflow import changing
from mgc.isa.machine import Machine
from mgc.isa.program import Program
from mgc.sim.engine import EngineState, Numerics
from mgc.sim.fast.items import Arrays, Context
from mgc.sim.fast.plan import Entry, Plan, build
from mgc.sim.fast.trainer import Trainer

_BUDGET = 5 << 19
"""Bytes of the largest intermediate of one run: what follows it should still find it in a cache of a few MB."""
_MOST = 64
"""Micro-batches of one run at most."""
_ROUNDS = 4
"""Runs in a row for each thread in what is handed to the engine at once."""
_WORTHWHILE = 200_000.0
"""Estimated nanoseconds from which on work is shared out to threads."""


@dataclass(frozen=True)
class _Built:
    """A plan with what follows from it.

    slice: micro-batches of one run. dead: item number -> slots that nothing reads after it.
    """

    plan: Plan
    context: Context
    slice: int
    dead: dict[int, list[int]]


class FastEngine:
    """Runs micro-batches through a plan of large operations; see `mgc.sim.engine.Engine`.

    In `quantized` numerics results equal the reference engine's bit for bit. The plan is made when first needed.
    Several micro-batches are shared out to `threads` workers; a single one has its operations split instead.
    In a program that changes its states weights are operands of the plan (`mgc.sim.fast.trainer`), else constants.
    """

    def __init__(self, program: Program, numerics: Numerics, threads: int | None = None) -> None:
        self._ideal = numerics == "float"
        self._threads = threads or _available()
        self._host_threads = threads
        self._program = program
        self._persistent = self._machine(program).persistent
        self._built: _Built | None = None
        self._trainer: Trainer | None = None
        if changing(program):
            self._trainer = Trainer(program, numerics, self._threads, threads)

    @property
    def plan(self) -> Plan:
        """The plan."""
        return self._trainer.plan if self._trainer else self._build().plan

    @property
    def chunk(self) -> int:
        """See `mgc.sim.engine.Engine.chunk`."""
        if self._trainer:
            return 1
        return self._build().slice * self._threads * _ROUNDS if self._program.batched else 1

    def plan_summary(self) -> tuple[Entry, ...]:
        """Where every instruction (for VEC: every step) went, in program order."""
        return self.plan.entries

    def run(self, batch: Mapping[str, Any], micro_batches: int) -> dict[str, Any]:
        """See `mgc.sim.engine.Engine.run`."""
        if self._trainer:
            return self._trainer.run(batch)
        built = self._build()
        runs = -(-micro_batches // built.slice)
        if micro_batches * built.plan.nanoseconds_per_micro_batch > _WORTHWHILE:
            runs = max(runs, min(self._threads, micro_batches))
        if runs == 1:
            return self._run(built, batch, micro_batches, self._threads)
        cuts = [micro_batches * r // runs for r in range(runs + 1)]
        parts = [(self._part(batch, a, b), b - a) for a, b in pairwise(cuts)]
        results: list[dict[str, Any]] = [{}] * runs
        queue = iter(range(runs))

        def work() -> None:
            for n in queue:
                results[n] = self._run(built, *parts[n], 1)

        # the calling thread works too: waking another one costs more than a small run
        others = [self._pool.submit(work) for _ in range(min(self._threads, runs) - 1)]
        try:
            work()
        finally:
            for other in others:
                other.result()
        return self._joined(results)

    def state(self) -> EngineState:
        """See `mgc.sim.engine.TrainingEngine.state`."""
        if self._trainer:
            return self._trainer.state()
        tensors, weights = self._program.tensors, {}
        for index in _groups_of_states(self._program):
            group = self._program.groups[index]
            name, dtype = (group.real_weights, np.float32) if self._ideal else (group.weights, np.int32)
            weights[index] = np.array(tensors[name], dtype)
        shapes = {root: self._program.buffers[root].shape for root in self._persistent}
        return EngineState(weights, {root: self._persistent[root].reshape(s).copy() for root, s in shapes.items()})

    def restore(self, state: EngineState) -> None:
        """See `mgc.sim.engine.TrainingEngine.restore`."""
        if self._trainer:
            self._trainer.restore(state)
            return
        tensors = dict(self._program.tensors)
        for index, weights in state.weights.items():
            group = self._program.groups[index]
            name = group.real_weights if self._ideal else group.weights
            tensors[name] = np.array(weights, tensors[name].dtype)
        self._program = replace(self._program, tensors=tensors)
        self._persistent = self._persistent | {root: np.array(array) for root, array in state.buffers.items()}
        self._built = None

    def _machine(self, program: Program) -> Machine:
        def no_host(segment: int, args: Sequence[Any]) -> Sequence[Any]:
            raise AssertionError(f"host segment {segment} while nothing runs")

        return Machine(program, self._ideal, no_host)

    def _build(self) -> _Built:
        if self._built is None:
            plan = build(self._program, self._ideal, self._persistent)
            fit = _BUDGET // max(1, plan.bytes_per_micro_batch)
            slice_ = max(1, min(_MOST, fit)) if self._program.batched else 1
            context = Context(self._program, self._ideal, self._host_threads)
            self._built = _Built(plan, context, slice_, _dead(plan))
        return self._built

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(max(1, self._threads - 1), thread_name_prefix="mgc-fast")

    def _part(self, batch: Mapping[str, Any], start: int, stop: int) -> dict[str, Any]:
        """Micro-batches start .. stop - 1 of a batch."""
        part = dict(batch)
        for port in self._program.inputs:
            if port.batched:
                part[port.name] = batch[port.name][start * port.shape[0] : stop * port.shape[0]]
        return part

    def _joined(self, parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
        return {
            port.name: np.concatenate([p[port.name] for p in parts]) if port.batched else parts[0][port.name]
            for port in self._program.outputs
        }

    def _run(self, built: _Built, batch: Mapping[str, Any], k: int, threads: int) -> dict[str, Any]:
        """Runs k micro-batches in the calling thread, each operation in `threads`."""
        arrays: Arrays = {}
        for load in built.plan.loads:
            arrays[load.result.id] = load.load(batch[load.port], k)
        for n, item in enumerate(built.plan.items):
            item.run(built.context, arrays, k, threads)
            for slot in built.dead.get(n, ()):
                arrays.pop(slot, None)
        outputs: dict[str, Any] = {}
        for store in built.plan.stores:
            outputs[self._program.outputs[store.port].name] = store.store(self._program, arrays, k)
        return outputs


def _available() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _groups_of_states(program: Program) -> list[int]:
    return list(dict.fromkeys(p.group for s in program.states for p in s.pieces if p.group >= 0))


def _dead(plan: Plan) -> dict[int, list[int]]:
    """Item number -> slots that nothing reads after it."""
    last: dict[int, int] = {}
    for n, item in enumerate(plan.items):
        for slot in (*item.reads, *item.writes):
            last[slot.id] = n
    for store in plan.stores:
        for slot in store.reads:
            last.pop(slot.id, None)
    dead: dict[int, list[int]] = {}
    for slot, n in last.items():
        dead.setdefault(n, []).append(slot)
    return dead
