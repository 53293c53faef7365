"""The fast engine: runs a plan of large operations, over many micro-batches at once where none changes a state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from mgc.isa.dataflow import changing
from mgc.isa.instructions import Mvm, MvmT
from mgc.isa.machine import Machine, Updates
from mgc.isa.program import Program
from mgc.sim.engine import EngineState, Numerics, available_threads
from mgc.sim.fast.builder import Plan
from mgc.sim.fast.drains import take_apart
from mgc.sim.fast.items import Arrays, DoubtError, RunContext
from mgc.sim.fast.lossless import GroupRead, is_lossless
from mgc.sim.fast.plan import build
from mgc.sim.fast.updates import LossyError
from mgc.sim.reference import ReferenceEngine
from mgc.sim.states import state_groups

_BUDGET = 5 << 19
"""Bytes of the largest intermediate of one run: what follows it should still find it in a cache of a few MB."""
_MOST = 64
"""Micro-batches of one run at most."""
_ROUNDS = 4
"""Runs in a row for each thread in what is handed to the engine at once."""
_WORTHWHILE = 200_000.0
"""Estimated nanoseconds from which on work is shared out to threads."""


@dataclass(frozen=True)
class _Executable:
    """A plan with what follows from it.

    slice: micro-batches of one run. last_uses: item number -> slots that nothing reads after it.
    """

    plan: Plan
    context: RunContext
    slice: int
    last_uses: Mapping[int, Sequence[int]]


class FastEngine:
    """Runs micro-batches through a plan of large operations; see `mgc.sim.engine.Engine`.

    In `quantized` numerics results equal the reference engine's bit for bit. The plan is made when first needed.
    Several micro-batches are shared out to `threads` workers; a single one has its operations split instead.

    In a program that changes its states these lie in slots of the plan, else they are its constants. A plan that
    changes states holds for finite numbers, and for weights that the ADCs read without loss. Where a guard finds a
    number that is not finite, the micro-batch is run by the reference engine instead. Where weights move across the
    line, the plan is made anew with reads of their group, in that direction, as the reference has them. Either way
    nothing is lost: states change at the end of a run only. `updates`, if given, is told what UPDATEs write. `numbers`:
    who runs it sees to it that no NaN comes in, so that nothing need be done for one.
    """

    def __init__(
        self,
        program: Program,
        numerics: Numerics,
        threads: int | None = None,
        updates: Updates | None = None,
        numbers: bool = False,
    ) -> None:
        self._numbers = numbers
        self._updates = updates
        self._given, self._program = program, take_apart(program)
        self._numerics: Numerics = numerics
        self._ideal = numerics == "float"
        self._threads = threads or available_threads()
        self._host_threads = threads
        self._changes = bool(changing(program))
        self._lossy: frozenset[GroupRead] = frozenset()
        self._state = self._initial()
        """The states that no slot of a plan holds."""
        self._made: _Executable | None = None
        self._slots: Arrays = {}
        """What slots hold between runs."""

    @property
    def plan(self) -> Plan:
        """The plan."""
        return self._executable().plan

    @property
    def chunk(self) -> int:
        """See `mgc.sim.engine.Engine.chunk`."""
        if self._changes or not self._program.entry.batched:
            return 1
        return self._executable().slice * self._threads * _ROUNDS

    def run(self, batch: Mapping[str, Any], micro_batches: int, first: int = 0) -> dict[str, Any]:
        """See `mgc.sim.engine.Engine.run`."""
        while True:
            try:
                return self._shared_out(self._executable(), batch, micro_batches)
            except LossyError as error:
                self._lossy |= {error.read}
                self._state, self._made = self.state(), None
            except DoubtError:
                return self._as_reference(batch, micro_batches)

    def _shared_out(self, made: _Executable, batch: Mapping[str, Any], micro_batches: int) -> dict[str, Any]:
        """Runs micro-batches, in slices on several threads where that pays."""
        runs = -(-micro_batches // made.slice)
        if micro_batches * made.plan.nanoseconds_per_micro_batch > _WORTHWHILE:
            runs = max(runs, min(self._threads, micro_batches))
        if runs == 1:
            outputs, self._slots = self._run(made, batch, micro_batches, self._threads)
            return outputs
        cuts = [micro_batches * r // runs for r in range(runs + 1)]
        parts = [(self._part(batch, a, b), b - a) for a, b in pairwise(cuts)]
        results: list[dict[str, Any]] = [{}] * runs
        queue = iter(range(runs))

        def work() -> None:
            for n in queue:
                results[n], _ = self._run(made, *parts[n], 1)

        # the calling thread works too: waking another one costs more than a small run
        others = [self._pool.submit(work) for _ in range(min(self._threads, runs) - 1)]
        try:
            work()
        finally:
            for other in others:
                other.result()
        return {
            port.name: np.concatenate([r[port.name] for r in results]) if port.batched else results[0][port.name]
            for port in self._program.outputs
        }

    def _run(self, made: _Executable, batch: Mapping[str, Any], k: int, threads: int) -> tuple[dict[str, Any], Arrays]:
        """Runs k micro-batches in the calling thread, each operation in `threads`: outputs, and slots afterwards."""
        arrays = dict(self._slots)
        for load in made.plan.loads:
            arrays[load.result.id] = load.load(batch[load.port], k)
        for n, item in enumerate(made.plan.items):
            item.run(made.context, arrays, k, threads)
            for slot in made.last_uses.get(n, ()):
                arrays.pop(slot, None)
        outputs: dict[str, Any] = {}
        for store in made.plan.stores:
            outputs[self._program.outputs[store.port].name] = store.store(self._program, arrays, k)
        if not self._changes:
            return outputs, {}
        # what comes in, and what goes out, is the caller's
        foreign = [a for a in (*batch.values(), *outputs.values()) if isinstance(a, np.ndarray)]
        return outputs, made.plan.states.hand_on(arrays, foreign)

    def _as_reference(self, batch: Mapping[str, Any], micro_batches: int) -> dict[str, Any]:
        reference = self._reference
        reference.restore(self.state())
        outputs = reference.run(batch, micro_batches)
        self.restore(reference.state())
        return outputs

    def state(self) -> EngineState:
        """See `mgc.sim.engine.Engine.state`."""
        slots = self._made.plan.states.give(self._slots) if self._made is not None else EngineState({}, {})
        dtype = np.float32 if self._ideal else np.int32
        weights = {group: np.array(array, dtype) for group, array in self._state.weights.items()}
        buffers = {root: np.array(array) for root, array in self._state.buffers.items()}
        return EngineState(weights | slots.weights, buffers | slots.buffers)

    def conductances(self) -> dict[int, np.ndarray]:
        """See `mgc.sim.engine.Engine.conductances`."""
        return {}

    def restore(self, state: EngineState) -> None:
        """See `mgc.sim.engine.Engine.restore`."""
        if self._made is not None and self._changes and not self._found_lossy(state) - self._lossy:
            self._slots = self._made.plan.states.take(state, self._program)
        else:
            self._state, self._made, self._slots = state, None, {}

    def _executable(self) -> _Executable:
        """The plan and what it works on; made where there is none, for the state that is to be held."""
        if self._made is None:
            self._lossy |= self._found_lossy(self._state)
            program = self._program if self._changes else self._with_weights()
            plan = build(program, self._ideal, self._state.buffers, self._lossy, self._numbers)
            fit = _BUDGET // max(1, plan.bytes_per_micro_batch)
            slice_ = max(1, min(_MOST, fit)) if program.entry.batched else 1
            context = RunContext(program, self._ideal, self._host_threads, self._updates)
            self._made = _Executable(plan, context, slice_, plan.last_uses())
            if self._changes:
                self._slots = plan.states.take(self._state, program)
                self._state = EngineState({}, {})
        return self._made

    def _initial(self) -> EngineState:
        """What the program says at first."""

        def no_host(segment: int, args: Sequence[Any]) -> Sequence[Any]:
            raise AssertionError(f"host segment {segment} while nothing runs")

        program = self._program
        weights = {g: program.tensors[self._tensor(g)] for g in state_groups(program)}
        kept = Machine(program, self._ideal, no_host).persistent
        return EngineState(weights, {root: a.reshape(program.buffers[root].shape) for root, a in kept.items()})

    def _tensor(self, group: int) -> str:
        """The name of a group's weights in this numerics."""
        entry = self._program.groups[group]
        return entry.real_weights if self._ideal else entry.weights

    def _with_weights(self) -> Program:
        """The program with the weights of the state, in its tensors' types."""
        tensors = dict(self._program.tensors)
        for group, weights in self._state.weights.items():
            name = self._tensor(group)
            tensors[name] = np.asarray(weights, tensors[name].dtype)
        return replace(self._program, tensors=tensors)

    def _found_lossy(self, state: EngineState) -> set[GroupRead]:
        """How groups whose weights change are read, where that need not be exact."""
        if self._ideal or not self._changes:
            return set()
        groups = self._program.groups
        return {
            (g, transposed)
            for g, transposed in self._reads
            if not is_lossless(state.weights[g], groups[g].arithmetic, transposed=transposed)
        }

    @cached_property
    def _reads(self) -> frozenset[GroupRead]:
        """How the groups of states are read."""
        reads = [i for i in self._program.instructions if isinstance(i, Mvm | MvmT)]
        trained = set(state_groups(self._program))
        return frozenset((i.group, i.transposed) for i in reads if i.group in trained)

    @cached_property
    def _reference(self) -> ReferenceEngine:
        return ReferenceEngine(self._given, self._numerics, self._host_threads, None, self._updates)

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
