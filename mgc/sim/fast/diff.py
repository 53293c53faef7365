"""DIFF in a plan: the diff-block's own arithmetic over slots."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mgc.isa.instructions import Diff
from mgc.sim.fast.builder import LoweredStep, PlanBuilder
from mgc.sim.fast.graph import NotLoweredError
from mgc.sim.fast.items import Arrays, RunContext, Slot
from mgc.sim.fast.steps import FLOAT


@dataclass(frozen=True)
class DiffItem:
    """One DIFF: operands (scores, then a target) with their shapes, and the slots of its results where wanted."""

    instruction: Diff
    operands: tuple[tuple[Slot | np.ndarray, tuple[int, ...]], ...]
    results: tuple[Slot | None, ...]

    @property
    def reads(self) -> tuple[Slot, ...]:
        return tuple(o for o, _ in self.operands if isinstance(o, Slot))

    @property
    def writes(self) -> tuple[Slot, ...]:
        return tuple(s for s in self.results if s is not None)

    def run(self, context: RunContext, arrays: Arrays, k: int, threads: int) -> None:
        held = [(arrays[o.id] if isinstance(o, Slot) else o).reshape(shape) for o, shape in self.operands]
        count = len(self.instruction.scores)
        target = held[count] if len(held) > count else self.instruction.target
        with np.errstate(all="ignore"):
            found = self.instruction.block(context.program).run(
                held[0], held[1] if count > 1 else None, target, context.ideal
            )
        for slot, value in zip(self.results, found, strict=False):
            if slot is not None:
                arrays[slot.id] = np.asarray(value, slot.dtype).reshape(slot.shape)


def lower_diff(builder: PlanBuilder, d: Diff) -> None:
    """An item for it."""
    program = builder.program
    operands = tuple((builder.content_of(r), program.operand(r.space, r.index).shape) for r in (*d.scores, *d.targets))
    if any(isinstance(s, Slot) and s.batched for s, _ in operands):
        raise NotLoweredError("diff of several micro-batches")
    results = {b: builder.slot(program.buffers[b].shape, FLOAT, False) for b in (d.loss, *d.deltas) if b != -1}
    builder.add(DiffItem(d, operands, tuple(results.get(b) for b in (d.loss, *d.deltas))))
    for buffer, slot in results.items():
        builder.hold(buffer, slot.id)
    builder.placements.append(LoweredStep(d.id, "diff", "numpy"))
