"""The shape of an instruction's fields, read from its dataclass: what codec, assembler and document walk along."""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from typing import Any, get_args, get_origin, get_type_hints

from mgc.isa.instruction import Instruction

HEADER = tuple(f.name for f in fields(Instruction))
"""Fields that every instruction has; they stand in its record, not among its operands."""


@dataclass(frozen=True)
class Scalar:
    """A field that is an int, a float or a bool."""

    type: type

    def __str__(self) -> str:
        return self.type.__name__


@dataclass(frozen=True)
class ListOf:
    """A field that is a tuple of any length, of one kind of item."""

    item: Kind

    def __str__(self) -> str:
        return f"{self.item}[]"


@dataclass(frozen=True)
class Pair:
    """A field that is a tuple of fixed length."""

    items: tuple[Kind, ...]

    def __str__(self) -> str:
        return f"({', '.join(map(str, self.items))})"


@dataclass(frozen=True)
class Record:
    """A field that is a frozen dataclass."""

    cls: type
    fields: tuple[tuple[str, Kind], ...]

    def __str__(self) -> str:
        return self.cls.__name__


Kind = Scalar | ListOf | Pair | Record


@cache
def record_of(cls: type) -> Record:
    """The fields of a dataclass, in order."""
    hints = get_type_hints(cls)
    return Record(cls, tuple((f.name, _kind(hints[f.name])) for f in fields(cls)))


@cache
def operands_of(cls: type[Instruction]) -> Record:
    """The fields of an instruction beyond those of every instruction."""
    return Record(cls, tuple(f for f in record_of(cls).fields if f[0] not in HEADER))


def _kind(hint: Any) -> Kind:
    if hint in (int, float, bool):
        return Scalar(hint)
    if get_origin(hint) is tuple:
        args = get_args(hint)
        if len(args) == 2 and args[1] is Ellipsis:
            return ListOf(_kind(args[0]))
        return Pair(tuple(map(_kind, args)))
    if is_dataclass(hint) and isinstance(hint, type):
        return record_of(hint)
    raise TypeError(f"an instruction cannot have a field of type {hint}")
