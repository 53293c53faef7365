"""Runs the plan of a program that changes its states, one iteration at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mgc.isa.instructions import Mvm
from mgc.isa.program import Program
from mgc.sim.engine import EngineState, Numerics
from mgc.sim.fast.items import Arrays, Context, DoubtError
from mgc.sim.fast.lossless import is_lossless
from mgc.sim.fast.plan import Kept, Plan, build_training
from mgc.sim.fast.updates import LossyError
from mgc.sim.reference import ReferenceEngine


@dataclass(frozen=True)
class _Laid:
    """A plan, item number -> slots that nothing reads after it, and what slots hold between iterations."""

    plan: Plan
    dead: dict[int, list[int]]
    arrays: Arrays

    @property
    def kept(self) -> Kept:
        assert self.plan.kept is not None
        return self.plan.kept

    def holding(self, state: EngineState, program: Program) -> _Laid:
        """The same with a state."""
        arrays: Arrays = {}
        for group, (first, _) in self.kept.versions.items():
            whole = np.ascontiguousarray(state.weights[group], first.whole.dtype)
            first.fill(arrays, whole, program.groups[group])
        for root, (slot, _) in self.kept.buffers.items():
            arrays[slot.id] = np.ascontiguousarray(state.buffers[root], slot.dtype).reshape(slot.shape)
        return replace(self, arrays=arrays)


class Trainer:
    """A training program's plan with the states it works on.

    A plan holds for finite numbers, and for weights that the ADCs read without loss. Where a guard finds a number that
    is not finite, the iteration is run by the reference engine instead. Where weights move across the line, the plan
    is made anew with forward reads of their group as the reference has them. Either way nothing is lost: states change
    at the end of an iteration only.
    """

    def __init__(self, program: Program, numerics: Numerics, threads: int, host_threads: int | None) -> None:
        self._program = program
        self._numerics: Numerics = numerics
        self._ideal = numerics == "float"
        self._threads = threads
        self._context = Context(program, self._ideal, host_threads)
        self._reference = ReferenceEngine(program, numerics, host_threads)
        self._groups = list(dict.fromkeys(p.group for s in program.states for p in s.pieces if p.group >= 0))
        self._forward = {i.group for i in program.instructions if isinstance(i, Mvm)} & set(self._groups)
        self._lossy: frozenset[int] = frozenset()
        self._laid: _Laid | None = None
        self._state = self._reference.state()

    @property
    def plan(self) -> Plan:
        """The plan."""
        return self._lay().plan

    def state(self) -> EngineState:
        """See `mgc.sim.engine.TrainingEngine.state`."""
        kept, arrays = self._lay().kept, self._lay().arrays
        weights = {g: np.array(arrays[first.whole.id]) for g, (first, _) in kept.versions.items()}
        buffers = {root: np.array(arrays[first.id]) for root, (first, _) in kept.buffers.items()}
        return EngineState(weights, buffers)

    def restore(self, state: EngineState) -> None:
        """See `mgc.sim.engine.TrainingEngine.restore`."""
        if self._laid is not None and not self._found_lossy(state) - self._lossy:
            self._laid = self._laid.holding(state, self._program)
        else:
            self._state, self._laid = state, None

    def run(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """One iteration: its outputs."""
        while True:
            try:
                return self._run(self._lay(), batch)
            except LossyError as error:
                self._lossy |= {error.group}
                self._state, self._laid = self.state(), None
            except DoubtError:
                return self._as_reference(batch)

    def _lay(self) -> _Laid:
        """The plan and what it works on; made where there is none, for the state that is to be held."""
        if self._laid is None:
            self._lossy |= self._found_lossy(self._state)
            plan = build_training(self._program, self._ideal, self._groups, self._lossy)
            self._laid = _Laid(plan, _dead(plan), {}).holding(self._state, self._program)
        return self._laid

    def _found_lossy(self, state: EngineState) -> set[int]:
        """Groups whose forward reads need not be exact."""
        if self._ideal:
            return set()
        groups = self._program.groups
        return {g for g in self._forward if not is_lossless(state.weights[g], groups[g].arithmetic)}

    def _run(self, laid: _Laid, batch: Mapping[str, Any]) -> dict[str, Any]:
        plan, kept = laid.plan, laid.kept
        arrays = dict(laid.arrays)
        for load in plan.loads:
            arrays[load.result.id] = load.load(batch[load.port], 1)
        for n, item in enumerate(plan.items):
            item.run(self._context, arrays, 1, self._threads)
            for slot in laid.dead.get(n, ()):
                arrays.pop(slot, None)
        outputs: dict[str, Any] = {}
        for store in plan.stores:
            outputs[self._program.outputs[store.port].name] = store.store(self._program, arrays, 1)
        after: Arrays = {}
        for first, last in kept.versions.values():
            for before, now in zip(first.slots, last.slots, strict=True):
                after[before.id] = arrays[now.id]
        for first_slot, end in kept.buffers.values():
            value = arrays[end.id] if not isinstance(end, np.ndarray) else end
            value = value.reshape(first_slot.shape)
            # what comes in, and what goes out, is the caller's
            theirs = [a for a in (*batch.values(), *outputs.values()) if isinstance(a, np.ndarray)]
            shared = any(np.may_share_memory(value, a) for a in theirs)
            after[first_slot.id] = value.copy() if shared else value
        self._laid = replace(laid, arrays=after)
        return outputs

    def _as_reference(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        self._reference.restore(self.state())
        outputs = self._reference.run(batch, 1)
        self.restore(self._reference.state())
        return outputs


def _dead(plan: Plan) -> dict[int, list[int]]:
    """Item number -> slots that nothing reads after it."""
    last: dict[int, int] = {}
    for n, item in enumerate(plan.items):
        for slot in (*item.reads, *item.writes):
            last[slot.id] = n
    for store in plan.stores:
        for slot in store.reads:
            last.pop(slot.id, None)
    if plan.kept is not None:
        for _, version in plan.kept.versions.values():
            for slot in version.slots:
                last.pop(slot.id, None)
        for _, end in plan.kept.buffers.values():
            if not isinstance(end, np.ndarray):
                last.pop(end.id, None)
    dead: dict[int, list[int]] = {}
    for slot_id, n in last.items():
        dead.setdefault(n, []).append(slot_id)
    return dead
