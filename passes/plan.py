"""Level 3: the level-2 graph with its mapping onto crossbars and its schedule. Codegen walks it, deciding nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from mgc.ir.graph import Graph, Node, Value
from mgc.passes.chips import Split

OperationKind = Literal["program", "mvm", "mvm_t", "outer", "update", "diff", "vec", "move", "load", "store", "host"]


@dataclass(frozen=True)
class GroupMap:
    """Where one part of one `mvm` node lives.

    `crossbars` lists crossbar ids (chip after chip), replica after replica, each matrix-major, then row block, then
    column block (the order that `mgc.isa.crossbar.CrossbarGroup` states). `tiles` are the tiles they are in. `chip` is
    where they are to lie, -1 if that may be across borders between chips.
    """

    node: Node
    part: int
    name: str
    replicas: int
    crossbars_per_replica: int
    crossbars: tuple[int, ...]
    tiles: tuple[int, ...]
    chip: int = -1


UnitKind = Literal["crossbar", "vector", "dma", "link", "host", "writer", "gradient", "diff"]

LINE_BYTES = 32
"""Buffers start at multiples of this; slot s of a buffer lies s * (its bytes rounded up to this) after slot 0."""


@dataclass(frozen=True)
class UnitPlan:
    """A resource that runs one task at a time.

    Vector units and ports of neighbouring tiles that serve one layer work in lockstep as one unit: `tiles` lists them,
    `tile` is the first of them (-1: not in a tile).
    """

    name: str
    kind: UnitKind
    tile: int = -1
    tiles: tuple[int, ...] = ()


@dataclass(frozen=True)
class Operation:
    """One instruction to be: what it does, where, how long (cycles for one micro-batch), after what.

    `node` is the level-2 node (None for load and store), `part` the mvm part, `port` the index of the graph input or
    output. `after` indexes operations of the same micro-batch, `after_previous` pairs (operation, lag): that operation
    of micro-batch k - lag must have ended. A `streamed` operation of a run that is split takes the batch part by part
    (`duration` is for one), and waits for all parts of those in `after_all`. `choices` are the units that it may run on
    if there are several: the schedule chooses.
    """

    kind: OperationKind
    unit: int
    duration: int
    after: tuple[int, ...]
    node: Node | None = None
    part: int = -1
    port: int = -1
    group: int = -1
    after_previous: tuple[tuple[int, int], ...] = ()
    after_all: tuple[int, ...] = ()
    streamed: bool = False
    choices: tuple[int, ...] = ()


@dataclass(frozen=True)
class BufferPlan:
    """Where a value lives: byte offset in its space, how many micro-batches of it at once (see `LINE_BYTES`).

    Of a value that is there in several `parts`, a slot holds one of them, and the slots go round.

    Every value that is neither a constant nor a view has one. Buffers whose times of use do not overlap may share
    bytes, except the result of an `Mvm` whose parts leave positions unwritten: those stay zero, so nobody else may
    write there.
    """

    value: Value
    space: Literal["edram", "dram"]
    offset: int
    slots: int
    parts: int = 1


@dataclass(frozen=True)
class SchedulePlan:
    """starts [operations, micro-batches or parts] in cycles (-1 for what is no task); lower_bound is proven.

    `status` is CP-SAT's word: "OPTIMAL" if the makespan meets the bound, else "FEASIBLE". `hint` is the makespan of the
    best list schedule, which the final one never exceeds.
    """

    starts: np.ndarray
    status: str
    makespan: int
    lower_bound: int
    hint: int = 0
    interval: int = 0

    @property
    def gap(self) -> float:
        """Of the makespan, or of the interval between runs that overlap (0: they do not): x / lower_bound - 1."""
        return (self.interval or self.makespan) / self.lower_bound - 1 if self.lower_bound else 0.0


@dataclass(frozen=True)
class Plan:
    """All that codegen needs."""

    graph: Graph
    micro_batch: int
    micro_batches: int
    batched: bool
    groups: tuple[GroupMap, ...]
    units: tuple[UnitPlan, ...]
    operations: tuple[Operation, ...]
    buffers: dict[Value, BufferPlan] = field(default_factory=dict)
    schedule: SchedulePlan | None = None
    split: Split | None = None
