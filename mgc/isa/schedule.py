"""Units, tasks and the schedule that a program carries."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from mgc.isa.schema import APART

UnitKind = Literal["crossbar", "vector", "dma", "link", "host", "writer", "gradient", "diff"]


@dataclass(frozen=True)
class Unit:
    """A resource that runs one task at a time; its stream is the instructions that name it."""

    id: int
    name: str
    kind: UnitKind
    tile: int = -1


@dataclass(frozen=True, eq=False)
class Schedule:
    """Planned starts of an entry's own instructions for every micro-batch.

    `starts` int64 [instructions, tasks] in cycles from the entry's own start (-1 where there is no task). A task of
    instruction i takes its `duration`. Units run their tasks in order of start. status is CP-SAT's word ("OPTIMAL",
    "FEASIBLE"); `lower_bound` is proven.

    Without a split (1) there is a task for every micro-batch. With one, the entry has one micro-batch (a training
    iteration), which streamed instructions take in `split` parts of equal size, cut along the batch. What they add up
    over the batch is complete after the last.

    `makespan` is when the last task of one pass ends. With an `interval` above 0 passes overlap: pass n starts
    n * interval cycles after the first, and status and bound are those of the interval. With 0 they follow one another.
    """

    starts: np.ndarray = field(metadata={APART: np.zeros((0, 0), np.int64)})
    status: str
    makespan: int
    lower_bound: int
    split: int = 1
    interval: int = 0

    def __eq__(self, other: object) -> bool:
        """Whether all of it is equal, starts included."""
        if not isinstance(other, Schedule):
            return NotImplemented
        own, others = ({k: v for k, v in vars(s).items() if k != "starts"} for s in (self, other))
        return own == others and np.array_equal(self.starts, other.starts)

    @property
    def period(self) -> int:
        """Cycles from one pass to the next: what is minimised, and bounded by `lower_bound`."""
        return self.interval or self.makespan

    @property
    def gap(self) -> float:
        """period / lower_bound - 1."""
        return self.period / self.lower_bound - 1 if self.lower_bound else 0.0
