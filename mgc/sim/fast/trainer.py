"""Runs the plan of a program that changes its states, one iteration at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mgc.isa.program import Program
from mgc.sim.engine import EngineState, Numerics
from mgc.sim.fast.items import Arrays, Context, DoubtError
from mgc.sim.fast.lossless import is_lossless
from mgc.sim.fast.plan import Plan, build_training
from mgc.sim.fast.updates import LossyError
from mgc.sim.reference import ReferenceEngine


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
        self._lossy: set[int] = set()
        self._plan: Plan | None = None
        self._dead: dict[int, list[int]] = {}
        self._arrays: Arrays = {}
        self.restore(self._reference.state())

    @property
    def plan(self) -> Plan:
        """The plan."""
        if self._plan is None:
            self._plan = build_training(self._program, self._ideal, self._groups, self._lossy)
            self._dead = _dead(self._plan)
            self.restore(self._state)
        return self._plan

    def state(self) -> EngineState:
        """See `mgc.sim.engine.TrainingEngine.state`."""
        kept = self.plan.kept
        assert kept is not None
        weights = {g: np.array(self._arrays[first.whole.id]) for g, (first, _) in kept.versions.items()}
        buffers = {root: np.array(self._arrays[first.id]) for root, (first, _) in kept.buffers.items()}
        return EngineState(weights, buffers)

    def restore(self, state: EngineState) -> None:
        """See `mgc.sim.engine.TrainingEngine.restore`."""
        self._state = state
        if self._plan is None:
            self._lossy |= self._found_lossy(state)
            return
        found = self._found_lossy(state)
        if found - self._lossy:
            self._lossy |= found
            self._plan = None
            return
        kept = self._plan.kept
        assert kept is not None
        self._arrays = {}
        for group, (first, _) in kept.versions.items():
            whole = np.ascontiguousarray(state.weights[group], first.whole.dtype)
            first.fill(self._arrays, whole, self._program.groups[group])
        for root, (slot, _) in kept.buffers.items():
            self._arrays[slot.id] = np.ascontiguousarray(state.buffers[root], slot.dtype).reshape(slot.shape)

    def run(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """One iteration: its outputs."""
        while True:
            try:
                return self._run(self.plan, batch)
            except LossyError as error:
                self._state = self.state()
                self._lossy.add(error.group)
                self._plan = None
            except DoubtError:
                return self._as_reference(batch)

    def _found_lossy(self, state: EngineState) -> set[int]:
        """Groups whose forward reads need not be exact."""
        if self._ideal:
            return set()
        groups = self._program.groups
        return {g for g in self._groups if not is_lossless(state.weights[g], groups[g].arithmetic)}

    def _run(self, plan: Plan, batch: Mapping[str, Any]) -> dict[str, Any]:
        kept = plan.kept
        assert kept is not None
        arrays = dict(self._arrays)
        for load in plan.loads:
            arrays[load.result.id] = load.load(batch[load.port], 1)
        for n, item in enumerate(plan.items):
            item.run(self._context, arrays, 1, self._threads)
            for slot in self._dead.get(n, ()):
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
            after[first_slot.id] = value.reshape(first_slot.shape)
        self._arrays = after
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
