"""The tables of a program, by the names of their rows: what its manifest and its text hold beside instructions."""

from __future__ import annotations

from mgc.isa.crossbar import CrossbarGroup
from mgc.isa.entry import Entry
from mgc.isa.memory import Buffer, Constant, HostSegment, Port
from mgc.isa.schedule import Unit
from mgc.isa.schema import Record, record_of
from mgc.isa.state import State

TABLES: dict[str, tuple[str, type]] = {
    "buffer": ("buffers", Buffer),
    "constant": ("constants", Constant),
    "group": ("groups", CrossbarGroup),
    "unit": ("units", Unit),
    "input": ("inputs", Port),
    "output": ("outputs", Port),
    "host": ("host_segments", HostSegment),
    "state": ("states", State),
    "entry": ("entries", Entry),
}
"""Name of a row -> (field of the program, class of the row). A row has its fields in order, but the id: its place."""


def row_of(cls: type) -> Record:
    """The fields of a row."""
    return record_of(cls).without("id")


def numbered(record: Record, number: int) -> dict[str, int]:
    """What a row's place says of it."""
    return {"id": number} if "id" in dict(record_of(record.cls).fields) else {}
