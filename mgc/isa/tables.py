"""A program as data: instructions, entries and tables, as file and text hold them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mgc.isa.claim import StoredClaim
from mgc.isa.crossbar import CrossbarGroup
from mgc.isa.entry import Entry
from mgc.isa.error import ProgramError
from mgc.isa.instruction import Instruction
from mgc.isa.memory import Buffer, Constant, HostSegment, Port
from mgc.isa.resources import Resources
from mgc.isa.schedule import Unit
from mgc.isa.schema import Record, record_of
from mgc.isa.state import StoredState

FORMAT_VERSION = 4


@dataclass(frozen=True, kw_only=True)
class Tables(Resources):
    """Instructions in id order, entries with their schedules, and what they work on; see `mgc.isa.program.Program`.

    The PROGRAMs come first, then entry after entry; there is at least one. A cycle takes `clock_ns`. `sources` maps an
    instruction's source index to ONNX node names; `absorbed` says for every other node of the model why it has no
    instruction. `claims` say what the phases of training entries read, change and draw. `meta` is what reports show
    (source hashes, costs; pass times are NOT here: a program's bytes depend on input and options only). `origin` is
    the file it was loaded from, if any; it is not part of the program.
    """

    name: str
    instructions: tuple[Instruction, ...]
    units: tuple[Unit, ...]
    entries: tuple[Entry, ...]
    clock_ns: float
    sources: tuple[tuple[str, ...], ...]
    absorbed: Mapping[str, str]
    claims: tuple[StoredClaim, ...] = ()
    meta: Mapping[str, Any] = field(default_factory=dict)
    origin: str = field(default="", compare=False)

    @property
    def mode(self) -> str:
        """ "training" if it has an entry for it, else "inference"."""
        return "training" if any(e.kind == "train" for e in self.entries) else "inference"

    @property
    def entry(self) -> Entry:
        """The only entry. ProgramError where there are several: take the `part` of one."""
        if len(self.entries) != 1:
            names = ", ".join(e.name for e in self.entries)
            raise ProgramError(
                f"program {self.name} has entries that run on their own ({names}); take program.part(name)"
            )
        return self.entries[0]

    @property
    def iteration(self) -> tuple[Entry, ...]:
        """The entries that one run of the whole takes in turn: those for training that go on without end, or else the
        first.
        """
        return tuple(e for e in self.entries if e.kind == "train" and not e.until) or self.entries[:1]

    @property
    def iteration_cycles(self) -> int:
        """Cycles of an iteration in a steady state: its entries as often as they run, each in its period."""
        return sum(e.repeats * e.schedule.period for e in self.iteration)

    @property
    def iteration_bound(self) -> int:
        """The proven lower bound of `iteration_cycles`."""
        return sum(e.repeats * e.schedule.lower_bound for e in self.iteration)


TABLES: dict[str, tuple[str, type]] = {
    "buffer": ("buffers", Buffer),
    "constant": ("constants", Constant),
    "group": ("groups", CrossbarGroup),
    "unit": ("units", Unit),
    "input": ("inputs", Port),
    "output": ("outputs", Port),
    "host": ("host_segments", HostSegment),
    "state": ("states", StoredState),
    "entry": ("entries", Entry),
    "claim": ("claims", StoredClaim),
}
"""Name of a row -> (field of the program, class of the row). A row has its fields in order, but the id: its place."""


def row_of(cls: type) -> Record:
    """The fields of a row."""
    return record_of(cls).without("id")


def numbered(record: Record, number: int) -> dict[str, int]:
    """What a row's place says of it."""
    return {"id": number} if "id" in dict(record_of(record.cls).fields) else {}
