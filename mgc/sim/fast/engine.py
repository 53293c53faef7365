"""The fast engine: runs a plan over many micro-batches at once."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from mgc.isa.program import Program
from mgc.sim.engine import Numerics, SimulationError
from mgc.sim.fast.items import Arrays, Context
from mgc.sim.fast.plan import Entry, Plan, build

_BUDGET = 5 << 19
"""Bytes of the largest intermediate of one run: what follows it should still find it in a cache of a few MB."""
_MOST = 64
"""Micro-batches of one run at most."""
_ROUNDS = 4
"""Runs in a row for each thread in what is handed to the engine at once."""
_WORTHWHILE = 200_000.0
"""Estimated nanoseconds from which on work is shared out to threads."""


class FastEngine:
    """Runs micro-batches through a plan of large operations; see `mgc.sim.engine.Engine`.

    In `quantized` numerics results equal the reference engine's bit for bit. The plan is made when first needed.
    Raises SimulationError for a program that is not for inference.
    Several micro-batches are shared out to `threads` workers; a single one has its operations split instead.
    """

    def __init__(self, program: Program, numerics: Numerics, threads: int | None = None) -> None:
        if program.mode != "inference":
            raise SimulationError(
                f"the fast engine runs inference programs, this one is for {program.mode}; use engine reference"
            )
        self._program = program
        self._ideal = numerics == "float"
        self._threads = threads or len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else threads or 1
        self._context = Context(program, self._ideal, threads)

    @cached_property
    def plan(self) -> Plan:
        """The plan."""
        return build(self._program, self._ideal)

    @cached_property
    def _slice(self) -> int:
        """Micro-batches of one run."""
        if not self._program.batched:
            return 1
        return max(1, min(_MOST, _BUDGET // max(1, self.plan.bytes_per_micro_batch)))

    @cached_property
    def chunk(self) -> int:
        """See `mgc.sim.engine.Engine.chunk`."""
        return self._slice * self._threads * _ROUNDS if self._program.batched else 1

    @cached_property
    def _dead(self) -> dict[int, list[int]]:
        """Item number -> slots that nothing reads after it."""
        last: dict[int, int] = {}
        for n, item in enumerate(self.plan.items):
            for slot in (*item.reads, *item.writes):
                last[slot.id] = n
        for store in self.plan.stores:
            for slot in store.reads:
                last.pop(slot.id, None)
        dead: dict[int, list[int]] = {}
        for slot, n in last.items():
            dead.setdefault(n, []).append(slot)
        return dead

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(max(1, self._threads - 1), thread_name_prefix="mgc-fast")

    def plan_summary(self) -> tuple[Entry, ...]:
        """Where every instruction (for VEC: every step) went, in program order."""
        return self.plan.entries

    def run(self, batch: Mapping[str, Any], micro_batches: int) -> dict[str, Any]:
        """See `mgc.sim.engine.Engine.run`."""
        runs = -(-micro_batches // self._slice)
        if micro_batches * self.plan.nanoseconds_per_micro_batch > _WORTHWHILE:
            runs = max(runs, min(self._threads, micro_batches))
        if runs == 1:
            return self._run(batch, micro_batches, self._threads)
        cuts = [micro_batches * r // runs for r in range(runs + 1)]
        parts = [(self._part(batch, a, b), b - a) for a, b in pairwise(cuts)]
        results: list[dict[str, Any]] = [{}] * runs
        queue = iter(range(runs))

        def work() -> None:
            for n in queue:
                results[n] = self._run(*parts[n], 1)

        # the calling thread works too: waking another one costs more than a small run
        others = [self._pool.submit(work) for _ in range(min(self._threads, runs) - 1)]
        try:
            work()
        finally:
            for other in others:
                other.result()
        return self._joined(results)

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

    def _run(self, batch: Mapping[str, Any], k: int, threads: int) -> dict[str, Any]:
        """Runs k micro-batches in the calling thread, each operation in `threads`."""
        arrays: Arrays = {}
        for load in self.plan.loads:
            arrays[load.result.id] = load.load(batch[load.port], k)
        for n, item in enumerate(self.plan.items):
            item.run(self._context, arrays, k, threads)
            for slot in self._dead.get(n, ()):
                arrays.pop(slot, None)
        outputs: dict[str, Any] = {}
        for store in self.plan.stores:
            outputs[self._program.outputs[store.port].name] = store.store(self._program, arrays, k)
        return outputs
