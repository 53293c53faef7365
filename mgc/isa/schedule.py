"""Units, tasks and the schedule that a program carries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

UnitKind = Literal["crossbar", "vector", "dma", "link", "host", "writer", "gradient", "diff"]


@dataclass(frozen=True)
class Unit:
    """A resource that runs one task at a time; its stream is the instructions that name it."""

    id: int
    name: str
    kind: UnitKind
    tile: int = -1


@dataclass(frozen=True)
class Schedule:
    """Planned starts of every instruction for every micro-batch (setup instructions, PROGRAM, are not tasks).

    `starts` int64 [instructions, micro_batches] in cycles (-1 for a PROGRAM). A task of
    instruction i takes its `duration`. Units run
    their tasks in order of start. status is CP-SAT's word ("OPTIMAL", "FEASIBLE"); `lower_bound` is proven.
    """

    starts: np.ndarray
    status: str
    makespan: int
    lower_bound: int
    clock_ns: float

    @property
    def gap(self) -> float:
        """makespan / lower_bound - 1."""
        return self.makespan / self.lower_bound - 1 if self.lower_bound else 0.0
