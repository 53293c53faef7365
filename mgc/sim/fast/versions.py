"""Where the states of a program lie between runs: slots for persistent buffers and for versions of weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mgc.isa.crossbar import CrossbarGroup
from mgc.isa.program import Program
from mgc.sim.engine import EngineState
from mgc.sim.fast.items import Arrays, Slot
from mgc.sim.fast.weights import split


@dataclass(frozen=True)
class Version:
    """Where a version of a group's weights is: [matrices, rows, cols] in int32 and, for kernels, in planes; in `float`
    numerics float32, which is both."""

    whole: Slot
    planes: Slot

    @property
    def slots(self) -> tuple[Slot, ...]:
        """The slots, each once."""
        return (self.whole,) if self.whole is self.planes else (self.whole, self.planes)

    def fill(self, arrays: Arrays, whole: np.ndarray, group: CrossbarGroup, planes: np.ndarray | None = None) -> None:
        """Makes `whole` what the version holds; `planes` are its planes if known."""
        arrays[self.whole.id] = whole
        if self.planes is not self.whole:
            cut = split(whole, group.arithmetic.weight_bits) if planes is None else planes
            arrays[self.planes.id] = cut.reshape(len(cut), *whole.shape)


@dataclass(frozen=True)
class StateSlots:
    """What a plan takes over from the run before, and leaves to the next; empty where nothing changes states.

    `buffers`: persistent root buffer -> where it is at first, and what it holds in the end. `versions`: crossbar group
    -> its version at first, and in the end.
    """

    buffers: Mapping[int, tuple[Slot, Slot | np.ndarray]]
    versions: Mapping[int, tuple[Version, Version]]

    @property
    def ends(self) -> list[Slot]:
        """The slots that hold states in the end."""
        ends = [slot for _, version in self.versions.values() for slot in version.slots]
        return ends + [end for _, end in self.buffers.values() if isinstance(end, Slot)]

    def take(self, state: EngineState, program: Program) -> Arrays:
        """The first slots with a state in them."""
        arrays: Arrays = {}
        for group, (first, _) in self.versions.items():
            whole = np.ascontiguousarray(state.weights[group], first.whole.dtype)
            first.fill(arrays, whole, program.groups[group])
        for root, (slot, _) in self.buffers.items():
            arrays[slot.id] = np.ascontiguousarray(state.buffers[root], slot.dtype).reshape(slot.shape)
        return arrays

    def give(self, arrays: Arrays) -> EngineState:
        """The state in the first slots, copied."""
        weights = {group: np.array(arrays[first.whole.id]) for group, (first, _) in self.versions.items()}
        return EngineState(weights, {root: np.array(arrays[slot.id]) for root, (slot, _) in self.buffers.items()})

    def hand_on(self, arrays: Arrays, foreign: Sequence[np.ndarray]) -> Arrays:
        """The first slots of the next run, from what all slots hold in the end; `foreign` arrays are the caller's."""
        after: Arrays = {}
        for first, last in self.versions.values():
            for before, now in zip(first.slots, last.slots, strict=True):
                after[before.id] = arrays[now.id]
        for slot, end in self.buffers.values():
            value = (arrays[end.id] if isinstance(end, Slot) else end).reshape(slot.shape)
            shared = any(np.may_share_memory(value, a) for a in foreign)
            after[slot.id] = value.copy() if shared else value
        return after
