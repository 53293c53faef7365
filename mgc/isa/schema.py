"""The shape of dataclass fields: what file, assembler and document walk along, for instructions and tables alike.

A field is an int, a float, a bool, a text, one of a few words, a tuple of any length or of a fixed one, or a frozen
dataclass of such fields. A field whose metadata has `APART` is stored elsewhere; its value there is what stands in
for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

APART = "apart"


@dataclass(frozen=True)
class Scalar:
    """A field that is an int, a float, a bool or a text."""

    type: type

    def __str__(self) -> str:
        return self.type.__name__


@dataclass(frozen=True)
class Word:
    """A field that is one of a few words."""

    words: tuple[str, ...]

    def __str__(self) -> str:
        return " or ".join(self.words)


@dataclass(frozen=True)
class Runs:
    """A field that is a tuple of ints, stored as [first, count] runs of consecutive ones."""

    def __str__(self) -> str:
        return "int[]"


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


@dataclass(frozen=True, eq=False)
class Record:
    """A field that is a frozen dataclass; `apart` are its fields that are stored elsewhere, with what stands in."""

    cls: type
    fields: tuple[tuple[str, Kind], ...]
    apart: Mapping[str, Any]

    def make(self, values: Mapping[str, Any]) -> Any:
        """The object with these values of its fields."""
        return self.cls(**self.apart, **values)

    def without(self, *names: str) -> Record:
        """Without some fields, which are given otherwise."""
        return Record(self.cls, tuple(f for f in self.fields if f[0] not in names), self.apart)

    def __str__(self) -> str:
        return self.cls.__name__


Kind = Scalar | Word | Runs | ListOf | Pair | Record

RunsOf = Annotated[tuple[int, ...], Runs()]
"""The type of a field that is stored as runs."""


@cache
def record_of(cls: type) -> Record:
    """The fields of a dataclass, in order."""
    hints = get_type_hints(cls, include_extras=True)
    own = tuple((f.name, kind_of(hints[f.name])) for f in fields(cls) if APART not in f.metadata)
    return Record(cls, own, {f.name: f.metadata[APART] for f in fields(cls) if APART in f.metadata})


def kind_of(hint: Any) -> Kind:
    """The kind of a type. TypeError for one that no field can have."""
    if hint in (int, float, bool, str):
        return Scalar(hint)
    if get_origin(hint) is Annotated:
        return hint.__metadata__[0]
    if get_origin(hint) is Literal:
        return Word(get_args(hint))
    if get_origin(hint) is tuple:
        args = get_args(hint)
        if len(args) == 2 and args[1] is Ellipsis:
            return ListOf(kind_of(args[0]))
        return Pair(tuple(map(kind_of, args)))
    if is_dataclass(hint) and isinstance(hint, type):
        return record_of(hint)
    raise TypeError(f"no field can be of type {hint}")
