"""Level 3: what stands beside level-2 graphs when they are mapped and scheduled. Codegen walks it, deciding nothing.

A module's `residents` say what lives on the chip from run to run, its `groups` where weights lie, its `persistent`
where everything else does; an entry's `plan` says which operation runs where and when.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import Literal

import numpy as np

from mgc.ir.graph import Node, Value
from mgc.ir.mapped import MvmPart
from mgc.ir.op import register_attr
from mgc.passes.mapping.multiplex import STAYS

OperationKind = Literal["mvm", "mvm_t", "outer", "update", "rewrite", "diff", "vec", "move", "load", "store", "host"]
UnitKind = Literal["crossbar", "vector", "dma", "link", "host", "writer", "gradient", "diff"]

LINE_BYTES = 32
"""Buffers start at multiples of this; slot s of a buffer lies s * (its bytes rounded up to this) after slot 0."""


@register_attr
@dataclass(frozen=True)
class HomePiece:
    """A strided box of a flat array in the model's shape, and where its entries are in the flat resident."""

    extents: tuple[int, ...]
    base: int
    strides: tuple[int, ...]
    home_base: int
    home_strides: tuple[int, ...]


@register_attr
@dataclass(frozen=True, eq=False)
class Resident:
    """A crossbar group or a persistent buffer; in level-2 graphs the input `name`, whose new value is "NAME.next", or,
    for weights that nothing writes, a constant.

    `initial` is what it holds at first, in its own layout: real weights for a group. `state` is the name of the state
    that lives there ("" for weights that nothing trains), by `piece`. `weight_scale` is what one step of a group's
    cells stands for, 0 for a buffer and for weights whose scales stand with their sums; `part` the windowed product
    that a group was made for, `layer` what its crossbars lie together with. `cells` are the whole numbers of weights
    that nothing writes. `sources` are the ONNX nodes that read it. A group is packed in planes of `plane_columns`
    columns (0: slices and signs side by side, see `mgc.isa.crossbar.CrossbarGroup`). What reads it has codes of
    `input_bits` bits (0: as many as the target's).
    """

    name: str
    initial: np.ndarray
    state: str = ""
    piece: HomePiece | None = None
    weight_scale: float = 0.0
    part: MvmPart | None = None
    layer: str = ""
    cells: np.ndarray | None = None
    sources: tuple[str, ...] = ()
    plane_columns: int = 0
    input_bits: int = 0

    @property
    def is_group(self) -> bool:
        """Whether it is a crossbar group."""
        return self.part is not None

    @property
    def nbytes(self) -> int:
        """Bytes that it takes as a buffer."""
        return prod(self.initial.shape) * self.initial.itemsize


@register_attr
@dataclass(frozen=True)
class GroupMap:
    """Where a crossbar group lives, `name` in reports.

    `crossbars` lists crossbar ids (chip after chip), replica after replica, each matrix-major, then row block, then
    column block (the order that `mgc.isa.crossbar.CrossbarGroup` states). `tiles` are the tiles they are in. `chip` is
    where they are to lie, -1 if that may be across borders between chips. `layer` and `plane_columns` are the
    resident's. Groups that take turns on the same crossbars have a `turn` (else -1), in which a run writes them.
    """

    resident: str
    name: str
    layer: str
    replicas: int
    crossbars_per_replica: int
    crossbars: tuple[int, ...] = ()
    tiles: tuple[int, ...] = ()
    chip: int = -1
    plane_columns: int = 0
    turn: int = STAYS


@register_attr
@dataclass(frozen=True)
class PersistentPlan:
    """Where a persistent buffer lies: space and byte offset."""

    resident: str
    space: Literal["edram", "dram"]
    offset: int


@register_attr
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


@register_attr
@dataclass(frozen=True)
class Operation:
    """One instruction to be: what it does, where, how long (cycles for one micro-batch), after what.

    `node` is the level-2 node (None for load and store), `part` the mvm part, `port` the index among the entry's ports,
    `group` the number of the crossbar group. `after` indexes operations of the same micro-batch, `after_previous` pairs
    (operation, lag): that operation of micro-batch k - lag must have ended. A `streamed` operation of a run that is
    split takes the batch part by part (`duration` is for one), and waits for all parts of those in `after_all`.
    `offchip` are the bytes that one task moves over the off-chip channel. `drain` is the kernel that takes its sums as
    they come, if one does.
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
    offchip: int = 0
    drain: Node | None = None


@register_attr
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


@register_attr
@dataclass(frozen=True, eq=False)
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


@register_attr
@dataclass(frozen=True, eq=False)
class EntryPlan:
    """One entry: the operations of its level-2 graph, memory and schedule.

    `units` are those that its operations name by number, the first of them the crossbar groups', in order. `data` and
    `results` are the names of its inputs and outputs that cross the host link. The schedule cuts a run into `parts` of
    the batch, by which the values in `parted` come and go.
    """

    operations: tuple[Operation, ...]
    units: tuple[UnitPlan, ...]
    buffers: dict[Value, BufferPlan]
    schedule: SchedulePlan
    data: tuple[str, ...] = ()
    results: tuple[str, ...] = ()
    parts: int = 1
    parted: frozenset[Value] = field(default_factory=frozenset)
