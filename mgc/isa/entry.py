"""Entries: the parts of a program that run on their own, over common crossbars, buffers and states."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mgc.isa.schedule import Schedule

EntryKind = Literal["train", "test"]


@dataclass(frozen=True)
class Entry:
    """Instructions `first` .. `stop` - 1, which run on their own after the PROGRAMs, by a schedule of their own.

    An iteration of training runs the entries of kind "train" in order, each `repeats` times on fresh inputs; one of
    kind "test" is run by itself, and changes nothing. A port that several load or store is in a buffer of its own in
    each of them, the table of ports has it as the first of them has it. `micro_batch` is the number of samples in one
    micro-batch, `micro_batches` how many one run takes; `batched` is False where samples mix, so that a run takes
    exactly what the ports' shapes say. An entry of kind "train" is part of the iterations `since` .. `until` - 1,
    counted from 0 by the state "iterations" (until 0: of all from `since` on).
    """

    id: int
    name: str
    kind: EntryKind
    first: int
    stop: int
    repeats: int
    micro_batch: int
    micro_batches: int
    batched: bool
    schedule: Schedule
    since: int = 0
    until: int = 0

    def trains(self, iteration: int) -> bool:
        """Whether it is part of an iteration."""
        return self.kind == "train" and self.since <= iteration and (not self.until or iteration < self.until)

    @property
    def batch(self) -> int:
        """Samples of one run."""
        return self.micro_batch * self.micro_batches

    def start(self, instruction: int, task: int = 0) -> int:
        """The planned start of a task of one of its instructions, by the instruction's number in the program."""
        return int(self.schedule.starts[instruction - self.first, task])
