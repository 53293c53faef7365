"""Level 3 of a training program: its entries, each with a schedule of its own, over common groups and residents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mgc.ir.graph import Graph, Value
from mgc.ir.mapped import MvmPart
from mgc.passes.chips import Split
from mgc.passes.lower_training.residents import Residents
from mgc.passes.plan import BufferPlan, Operation, SchedulePlan, UnitPlan

EntryKind = Literal["train", "test"]


@dataclass(frozen=True)
class EntryPlan:
    """One entry: a level-2 graph with its operations (no PROGRAMs), memory and schedule.

    An iteration runs the entries of kind "train" in order, each `repeats` times. `units` are those that its operations
    name by number. `homes` says which values are versions of which resident; `data` and `results` are the names of
    its inputs and outputs that cross the host link. `micro_batch` and `batched` are as in a program; the schedule
    cuts a run into `parts` of the batch, by which the values in `parted` come and go.
    """

    name: str
    kind: EntryKind
    repeats: int
    graph: Graph
    homes: dict[Value, str]
    operations: tuple[Operation, ...]
    units: tuple[UnitPlan, ...]
    buffers: dict[Value, BufferPlan]
    schedule: SchedulePlan
    data: tuple[str, ...]
    results: tuple[str, ...]
    micro_batch: int
    batched: bool
    parts: int = 1
    parted: frozenset[Value] = frozenset()


@dataclass(frozen=True)
class TrainedGroup:
    """A crossbar group: its resident, where it lies, how long it takes to write it before the first run."""

    resident: str
    part: MvmPart
    replicas: int
    crossbars: tuple[int, ...]
    tiles: tuple[int, ...]
    program_cycles: int
    sources: tuple[str, ...]


@dataclass(frozen=True)
class PersistentPlan:
    """Where a persistent buffer lies: space and byte offset."""

    resident: str
    space: Literal["edram", "dram"]
    offset: int


@dataclass(frozen=True)
class TrainingPlan:
    """All that codegen needs. The first units of every entry are the groups', in order."""

    residents: Residents
    groups: tuple[TrainedGroup, ...]
    persistent: tuple[PersistentPlan, ...]
    entries: tuple[EntryPlan, ...]
    batch: int
    split: Split | None = None
