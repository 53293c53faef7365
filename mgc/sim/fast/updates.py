"""UPDATE over a plan's slots: the optimizer's own arithmetic, in pieces that stay in a cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from mgc.functions.codes import in_reals, in_steps
from mgc.functions.optimizers import optimize
from mgc.isa.crossbar import Arithmetic, CrossbarGroup
from mgc.isa.error import ExecutionError, NotFiniteError
from mgc.isa.instructions import Mvm, MvmT, Update
from mgc.isa.optimizers import BY_CODE
from mgc.sim.engine import failure
from mgc.sim.fast import weights
from mgc.sim.fast.builder import LoweredStep, PlanBuilder
from mgc.sim.fast.items import Arrays, RunContext, Slot
from mgc.sim.fast.lossless import GroupRead, is_lossless
from mgc.sim.fast.versions import Version

_PIECE = 1 << 16
"""Weights updated at once."""
_WORTHWHILE = 2 * _PIECE
"""Weights from which on pieces are shared out to threads."""


class LossyError(Exception):
    """The ADCs may lose something in reads of a group's new weights."""

    def __init__(self, read: GroupRead) -> None:
        super().__init__(f"group {read[0]}")
        self.read = read


@dataclass(frozen=True)
class UpdateItem:
    """One UPDATE: from the old version of a group (or the old buffer) to the new one, with new moments.

    gradient, step and moments are slots or constants; `kept` are the slots of the new moments. `checked`: the reads of
    the group in which ADCs must lose nothing; new weights for which they may raise LossyError.
    """

    instruction: Update
    group: CrossbarGroup | None
    gradient: Slot | np.ndarray
    step: Slot | np.ndarray | None
    old: Version | Slot | np.ndarray
    new: Version | Slot
    moments: tuple[Slot | np.ndarray, ...]
    kept: tuple[Slot, ...]
    checked: tuple[GroupRead, ...]

    @property
    def reads(self) -> tuple[Slot, ...]:
        old = (self.old.whole,) if isinstance(self.old, Version) else (self.old,)
        return tuple(s for s in (self.gradient, self.step, *old, *self.moments) if isinstance(s, Slot))

    @property
    def writes(self) -> tuple[Slot, ...]:
        return (*(self.new.slots if isinstance(self.new, Version) else (self.new,)), *self.kept)

    def run(self, context: RunContext, arrays: Arrays, k: int, threads: int) -> None:
        try:
            self._run(arrays, context, threads)
        except ExecutionError as error:
            raise failure(context.program, self.instruction, error) from error

    def _run(self, arrays: Arrays, context: RunContext, threads: int) -> None:
        def array(slot: Slot | np.ndarray) -> np.ndarray:
            found: np.ndarray = arrays[slot.id] if isinstance(slot, Slot) else slot
            return found

        u, group = self.instruction, self.group
        step = int(array(self.step).reshape(())) if self.step is not None else 0
        if self.step is not None and step < 1:
            raise ExecutionError(f"the number of the step is {step}; it counts from 1")
        whole = array(self.old.whole if isinstance(self.old, Version) else self.old)
        shape, integers = whole.shape, group is not None and not context.ideal
        gradient = array(self.gradient).reshape(-1)
        old, moments = whole.reshape(-1), [array(m).reshape(-1) for m in self.moments]
        new = np.empty(old.shape, old.dtype)
        planes: np.ndarray | None = None
        if integers and group is not None:
            count = len(weights.planes_of(group.arithmetic.weight_bits))
            planes = np.empty((count, *old.shape), weights.plane_dtype())
        kept = [np.empty(m.shape, m.dtype) for m in moments]

        def piece(start: int) -> str:
            """Updates one piece; what is not finite in it."""
            part = slice(start, start + _PIECE)
            g = gradient[part]
            if not np.isfinite(g).all():
                return "gradient"
            w: np.ndarray = old[part]
            if integers and group is not None:
                w = in_reals(w, group.weight_scale)
            made, after = optimize(BY_CODE[u.optimizer], u.hyper, w, g, [m[part] for m in moments], step, (u.lo, u.hi))
            if not all(np.isfinite(v).all() for v in (made, *after)):
                return "weight"
            if planes is not None and group is not None:
                made = in_steps(made, group.weight_scale, group.arithmetic.weight_bits)
                planes[:, part] = weights.split(made, group.arithmetic.weight_bits)
            new[part] = made
            for whole_moment, value in zip(kept, after, strict=True):
                whole_moment[part] = value
            return ""

        found = _each(piece, range(0, len(old), _PIECE), threads if len(old) >= _WORTHWHILE else 1)
        if "gradient" in found:
            raise NotFiniteError(f"the gradient of {u.target(context.program)} is not finite")
        if "weight" in found:
            raise NotFiniteError(f"a new weight or moment of {u.target(context.program)} is not finite")
        for slot, value in zip(self.kept, kept, strict=True):
            arrays[slot.id] = value.reshape(slot.shape)
        if isinstance(self.new, Version) and group is not None:
            for read in self.checked:
                if not _is_lossless(new.reshape(shape), group.arithmetic, read[1], threads):
                    raise LossyError(read)
            self.new.fill(arrays, new.reshape(shape), group, planes)
            if context.updates is not None:
                context.updates[u.id] = new.reshape(shape)
        elif isinstance(self.new, Slot):
            arrays[self.new.id] = new.reshape(self.new.shape)


def _is_lossless(whole: np.ndarray, a: Arithmetic, transposed: bool, threads: int) -> bool:
    """`is_lossless` of weights [matrices, rows, cols], some row blocks at once."""
    matrices, rows, cols = whole.shape
    step = a.rows * max(1, _WORTHWHILE // (matrices * a.rows * cols))

    def blocks(start: int) -> str:
        return "" if is_lossless(whole[:, start : start + step], a, transposed=transposed) else "lossy"

    return "lossy" not in _each(blocks, range(0, rows, step), threads if rows > step else 1)


def _each(work: Callable[[int], str], starts: Sequence[int], threads: int) -> set[str]:
    """The results of `work` for all starts."""

    def quiet(start: int) -> str:
        with np.errstate(all="ignore"):
            return work(start)

    if threads <= 1:
        return {quiet(s) for s in starts}
    with ThreadPoolExecutor(threads) as pool:
        return set(pool.map(quiet, starts))


def lower_update(builder: PlanBuilder, u: Update) -> None:
    """A new version of a group or of a persistent buffer, and of the moments."""
    program = builder.program

    def content(buffer: int) -> Slot | np.ndarray:
        return builder.content(builder.holds(buffer))

    kept = {b: builder.slot(program.buffers[b].shape, np.dtype(np.float32), False) for b in u.moments}
    group = program.groups[u.group] if u.group >= 0 else None
    new: Version | Slot
    if group is not None:
        old, new = builder.versions[u.group], builder.version(u.group)
    else:
        old = content(u.parameter)
        new = builder.slot(program.buffers[u.parameter].shape, np.dtype(np.float32), False)
    reads = [i for i in program.instructions if isinstance(i, Mvm | MvmT) and i.group == u.group]
    checked = () if builder.ideal else tuple(sorted({(i.group, i.transposed) for i in reads} - builder.lossy))
    step = content(u.step) if u.step >= 0 else None
    moments = tuple(content(b) for b in u.moments)
    builder.add(UpdateItem(u, group, content(u.gradient), step, old, new, moments, tuple(kept.values()), checked))
    if isinstance(new, Version):
        builder.versions[u.group] = new
    else:
        builder.hold(u.parameter, new.id)
    for buffer, slot in kept.items():
        builder.hold(buffer, slot.id)
    builder.placements.append(LoweredStep(u.id, "update", "numpy"))
