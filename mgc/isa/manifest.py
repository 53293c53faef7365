"""The program's tables as JSON: everything but instructions and tensors."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from mgc.isa.error import ProgramError
from mgc.isa.schema import Kind, ListOf, Pair, Record, Runs, Scalar, Word
from mgc.isa.tables import TABLES, Tables, numbered, row_of

Json = Any
MOST_NUMBERS = 1 << 20
"""Numbers in the longest list that is stored as runs: crossbars of one group."""
_T = TypeVar("_T")


def canonical(value: Json) -> str:
    """JSON with sorted keys and no blanks. ProgramError for what JSON cannot hold: NaN, keys that are no text."""
    try:
        return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)
    except (TypeError, ValueError, RecursionError) as error:
        raise ProgramError(f"target or meta cannot be written as JSON: {error}") from error


def _plain(value: Json) -> Json:
    if isinstance(value, Mapping):
        wrong = [k for k in value if not isinstance(k, str)]
        if wrong:
            raise TypeError(f"key {wrong[0]!r} is no text")
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, np.generic):
        return value.item()
    return value


def runs(numbers: Iterable[int]) -> list[list[int]]:
    """Integers as [first, count] runs of consecutive ones."""
    result: list[list[int]] = []
    for n in numbers:
        if result and n == result[-1][0] + result[-1][1]:
            result[-1][1] += 1
        else:
            result.append([int(n), 1])
    return result


def unrun(pairs: Iterable[Sequence[int]]) -> tuple[int, ...]:
    """The inverse of `runs`. ProgramError for what `runs` does not give, and for more than `MOST_NUMBERS`."""
    pairs = list(pairs)
    if any(count < 1 for _, count in pairs):
        raise ProgramError("a run of numbers has a count below 1")
    if sum(count for _, count in pairs) > MOST_NUMBERS:
        raise ProgramError(f"a list of more than {MOST_NUMBERS:,} numbers")
    for (first, count), (following, _) in itertools.pairwise(pairs):
        if first + count == following:
            raise ProgramError(f"two runs of numbers meet at {following}: they are one")
    return tuple(itertools.chain.from_iterable(range(first, first + count) for first, count in pairs))


def to_manifest(program: Tables) -> Json:
    """The tables of a program. Rows hold a dataclass's fields in order, without the id, which is the row's place."""
    tables = {name: [_json(row_of(cls), row) for row in getattr(program, name)] for name, cls in TABLES.values()}
    return {
        "name": program.name,
        "clock_ns": float(program.clock_ns),
        "target": program.target,
        "sources": program.sources,
        "absorbed": program.absorbed,
        "meta": program.meta,
        **tables,
    }


def from_manifest(manifest: Json) -> dict[str, Any]:
    """The fields of a `Program` but instructions, tensors and planned starts: schedules have none.

    Raises ProgramError for a missing table, a row that does not fit, a value of the wrong type.
    """
    try:
        tables = {name: _table(row_of(cls), manifest[name]) for name, cls in TABLES.values()}
        return {
            "name": _is(str, manifest["name"]),
            "clock_ns": _is(float, manifest["clock_ns"]),
            "target": _is(dict, manifest["target"]),
            "sources": _value(ListOf(ListOf(Scalar(str))), manifest["sources"]),
            "absorbed": {k: _is(str, v) for k, v in _is(dict, manifest["absorbed"]).items()},
            "meta": _notes(_is(dict, manifest["meta"])),
            **tables,
        }
    except (KeyError, TypeError, ValueError, IndexError) as error:
        if isinstance(error, ProgramError):
            raise
        raise ProgramError(f"a table of the program does not fit: {type(error).__name__}: {error}") from error


_TABLES_OF_META = ("training", "export", "calibration", "options", "allocation", "crossbars")
_MOST_DEPTH = 64


def _notes(meta: dict[str, Any]) -> dict[str, Any]:
    """Meta as it is. ProgramError where what simulators and reports look into is no table, or nests too deep."""
    wrong = [key for key in _TABLES_OF_META if not isinstance(meta.get(key) or {}, dict)]
    if wrong:
        raise ProgramError(f"meta: {wrong[0]} is no table")
    level: list[Json] = [meta]
    for _ in range(_MOST_DEPTH):
        level = [v for inner in level for v in (inner.values() if isinstance(inner, dict) else inner)
                 if isinstance(v, dict | list)]  # fmt: skip
    if level:
        raise ProgramError(f"meta nests deeper than {_MOST_DEPTH}")
    return meta


def _table(record: Record, rows: Sequence[Json]) -> tuple[Any, ...]:
    return tuple(record.make(_fields(record, row) | numbered(record, k)) for k, row in enumerate(rows))


def _json(kind: Kind, value: Any) -> Json:
    match kind:
        case Scalar(type_):
            return type_(value)
        case Word():
            return value
        case Runs():
            return runs(value)
        case ListOf(item):
            return [_json(item, v) for v in value]
        case Pair(items):
            return [_json(k, v) for k, v in zip(items, value, strict=True)]
        case Record():
            return [_json(k, getattr(value, name)) for name, k in kind.fields]


def _value(kind: Kind, value: Json) -> Any:
    match kind:
        case Scalar(type_):
            return _is(type_, value)
        case Word():  # the verifier says which there are
            return _is(str, value)
        case Runs():
            return unrun([_value(_RUN, pair) for pair in value])
        case ListOf(item):
            return tuple([_value(item, v) for v in value])
        case Pair(items):
            return tuple([_value(k, v) for k, v in zip(items, value, strict=True)])
        case Record():
            return kind.make(_fields(kind, value))


_RUN = Pair((Scalar(int), Scalar(int)))


def _fields(record: Record, values: Sequence[Json]) -> dict[str, Any]:
    if len(record.fields) != len(values):
        raise ProgramError(f"{record} has {len(record.fields)} fields, not {len(values)}")
    return {name: _value(kind, value) for (name, kind), value in zip(record.fields, values, strict=True)}


def _is(type_: type[_T], value: Json) -> _T:
    if not isinstance(value, type_) or (type_ is int and isinstance(value, bool)):
        raise ProgramError(f"{_short(value)} stands where a value of type {type_.__name__} is expected")
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
        raise ProgramError(f"{_short(value)} does not fit into 64 bits")
    if isinstance(value, str) and not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:  # half of a pair of surrogates
            raise ProgramError(f"{_short(value)} is no text") from error
    return value


def _short(value: Json) -> str:
    """A value as an error shows it."""
    text = ascii(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
