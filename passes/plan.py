"""Level 3: the level-2 graph with its mapping onto crossbars and its schedule. Codegen walks it, deciding nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from mgc.ir.graph import Graph, Node, Value

OperationKind = Literal["program", "mvm", "vec", "move", "load", "store", "host"]


@dataclass(frozen=True)
class GroupMap:
    """Where one part of one `mvm` node lives.

    `crossbars` lists chip-wide crossbar ids, replica after replica, each matrix-major, then row block, then column
    block (the order that `mgc.isa.crossbar.CrossbarGroup` states). `tiles` are the tiles they are in.
    """

    node: Node
    part: int
    name: str
    replicas: int
    crossbars_per_replica: int
    crossbars: tuple[int, ...]
    tiles: tuple[int, ...]


@dataclass(frozen=True)
class UnitPlan:
    """A resource that runs one task at a time."""

    name: str
    kind: Literal["crossbar", "vector", "dma", "link", "host", "writer"]
    tile: int = -1


@dataclass(frozen=True)
class Operation:
    """One instruction to be: what it does, where, how long (cycles for one micro-batch), after what.

    `node` is the level-2 node (None for load and store), `part` the mvm part, `port` the index of the graph input or
    output. `after` indexes operations of the same micro-batch, `after_previous` pairs (operation, lag): that operation
    of micro-batch k - lag must have ended.
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


@dataclass(frozen=True)
class BufferPlan:
    """Where a value lives: byte offset in its space, how many micro-batches of it at once."""

    value: Value
    space: Literal["edram", "dram"]
    offset: int
    slots: int


@dataclass(frozen=True)
class SchedulePlan:
    """starts [operations, micro_batches] in cycles (-1 for program); lower_bound is proven."""

    starts: np.ndarray
    status: str
    makespan: int
    lower_bound: int


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
