"""Which part of an iteration an instruction belongs to, read off the program's own data flow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from mgc.isa.instruction import Instruction
from mgc.isa.tables import Tables

StageKind = Literal["setup", "forward", "loss", "backward", "update"]


@dataclass(frozen=True)
class Stage:
    """The phase (a trained group; outside training the entry's name) and what is done in it."""

    phase: str
    kind: StageKind


def stages(program: Tables) -> tuple[Stage, ...]:
    """The stage of every instruction, by id.

    An instruction is of the first phase whose updates need its result (with one generator's forward for both steps,
    that is the phase that comes first); one that no update needs is of the phase of what it reads. "backward" is all
    that follows from error deltas, transposed reads or weight gradients; "update" is what changes states, or only
    serves that; "loss" the DIFFs and what only their loss values lead to.
    """
    result: list[Stage] = [Stage("", "setup")] * len(program.instructions)
    homes = _homes(program)
    for entry in program.entries:
        own = program.instructions[entry.first : entry.stop]
        if entry.kind == "test":
            for i in own:
                result[i.id] = Stage(entry.name, "forward")
            continue
        flow = _Flow(program, own, homes)
        for i in own:
            result[i.id] = Stage(flow.phases[i.id] or entry.name, flow.kinds[i.id])
    return tuple(result)


Homes = Mapping[tuple[int, int], str]
"""(group, root buffer) of every state -> its phase; -1 for the one that it is not."""


def _homes(program: Tables) -> Homes:
    homes: dict[tuple[int, int], str] = {}
    for state in program.states:
        for piece in state.pieces:
            root = program.root(piece.buffer) if piece.buffer >= 0 else -1
            homes.setdefault((piece.group, root), state.phase)
    return homes


class _Flow:
    """Phases and kinds of the instructions of one entry for training."""

    def __init__(self, program: Tables, own: Iterable[Instruction], homes: Homes) -> None:
        self._program, self._homes = program, homes
        self._own = list(own)
        self._before: dict[int, list[int]] = {i.id: [] for i in self._own}
        self._next: dict[int, list[int]] = {i.id: [] for i in self._own}
        self._connect()
        self.phases = self._find_phases()
        self.kinds = self._find_kinds()

    def _connect(self) -> None:
        """Edges from writers to readers, through buffers that hold no state: a new version is no result of this."""
        writers: dict[int, list[int]] = {}
        for i in self._own:
            for b in self._transient(i.reads()):
                for j in writers.get(b, ()):
                    self._before[i.id].append(j)
                    self._next[j].append(i.id)
            for b in self._transient(i.writes()):
                writers.setdefault(b, []).append(i.id)

    def _transient(self, buffers: Iterable[int]) -> list[int]:
        roots = dict.fromkeys(self._program.root(b) for b in buffers)
        return [r for r in roots if (-1, r) not in self._homes]

    def _changed(self, i: Instruction) -> str | None:
        """The phase of the state that an instruction changes; None: it changes none."""
        changed = [self._homes[g, -1] for g in i.writes_groups() if (g, -1) in self._homes]
        roots = (self._program.root(b) for b in i.writes())
        changed += [self._homes[-1, r] for r in roots if (-1, r) in self._homes]
        return next((p for p in changed if p), changed[0] if changed else None)

    def _find_phases(self) -> dict[int, str]:
        order = {p: k for k, p in enumerate(dict.fromkeys(self._changed(i) for i in self._own if self._changed(i)))}
        needed: dict[int, set[str]] = {i.id: set() for i in self._own}
        for i in reversed(self._own):
            phase = self._changed(i)
            if i.learns and phase:
                needed[i.id].add(phase)
            for j in self._next[i.id]:
                needed[i.id] |= needed[j]
        phases = {i.id: min(needed[i.id], key=order.__getitem__, default="") for i in self._own}
        for i in self._own:
            if not phases[i.id]:
                found = [phases[j] for j in self._before[i.id] if phases[j]]
                phases[i.id] = self._changed(i) or max(found, key=lambda p: order.get(p, -1), default="")
        for i in reversed(self._own):  # what leads only to what is now placed
            if not phases[i.id]:
                phases[i.id] = next((phases[j] for j in self._next[i.id] if phases[j]), "")
        return phases

    def _find_kinds(self) -> dict[int, StageKind]:
        deltas = {i.id: set(self._transient(i.deltas_written())) for i in self._own}
        by_id = {i.id: i for i in self._own}
        kinds: dict[int, StageKind] = {}
        for i in self._own:
            reads = set(self._transient(i.reads()))
            backward = i.stage == "backward" or any(
                kinds[j] == "backward" or reads & deltas[j] for j in self._before[i.id]
            )
            if self._changed(i) is not None:
                kinds[i.id] = "update"
            elif i.stage == "loss":
                kinds[i.id] = "loss"
            elif backward:
                kinds[i.id] = "backward"
            elif any(kinds[j] == "loss" for j in self._before[i.id]):
                kinds[i.id] = "loss"
            else:
                kinds[i.id] = "forward"
        for i in reversed(self._own):
            follow = {kinds[j] for j in self._next[i.id]}
            if kinds[i.id] == "forward" and not self._before[i.id] and follow == {"update"} and by_id[i.id].reads():
                kinds[i.id] = "update"
        return kinds
