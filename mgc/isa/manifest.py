"""The program's tables as JSON: everything but instructions and tensors."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import astuple, fields
from typing import Any, TypeVar

import numpy as np

from mgc.isa.crossbar import Arithmetic, CrossbarGroup
from mgc.isa.entry import Entry
from mgc.isa.error import ProgramError
from mgc.isa.memory import Buffer, Constant, Port
from mgc.isa.program import HostSegment, Program
from mgc.isa.schedule import Schedule, Unit
from mgc.isa.state import State, StatePiece

Json = Any

NO_STARTS = np.zeros((0, 0), np.int64)
_T = TypeVar("_T")


def canonical(value: Json) -> str:
    """JSON with sorted keys and no blanks. ProgramError for what JSON cannot hold: NaN, keys that are no text."""
    try:
        return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)
    except (TypeError, ValueError) as error:
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


def unrun(pairs: Json) -> tuple[int, ...]:
    """The inverse of `runs`."""
    if sum(count for _, count in pairs) > 1 << 24:
        raise ProgramError("a list of more than 2^24 numbers")
    return tuple(n for first, count in pairs for n in range(first, first + count))


def to_manifest(program: Program) -> Json:
    """The tables of a program. Rows hold a dataclass's fields in order, without the id, which is the row's place."""
    arithmetics = list(dict.fromkeys(g.arithmetic for g in program.groups))
    return {
        "name": program.name,
        "target": program.target,
        "buffers": [astuple(b)[1:] for b in program.buffers],
        "constants": [astuple(c)[1:] for c in program.constants],
        "arithmetics": [astuple(a) for a in arithmetics],
        "groups": [_group_row(g, arithmetics.index(g.arithmetic)) for g in program.groups],
        "units": [astuple(u)[1:] for u in program.units],
        "inputs": [astuple(p) for p in program.inputs],
        "outputs": [astuple(p) for p in program.outputs],
        "host_segments": [astuple(h)[1:] for h in program.host_segments],
        "clock_ns": float(program.clock_ns),
        "sources": program.sources,
        "states": [[s.name, s.kind, s.phase, s.initial, [astuple(p) for p in s.pieces]] for s in program.states],
        "entries": [[*_row(e)[1:-1], _row(e.schedule)[1:]] for e in program.entries],
        "absorbed": program.absorbed,
        "meta": program.meta,
    }


def _row(of: Any) -> list[Json]:
    return [getattr(of, f.name) for f in fields(of)]


def _group_row(group: CrossbarGroup, arithmetic: int) -> list[Json]:
    row = [getattr(group, f.name) for f in fields(group)][1:]
    row[4] = arithmetic
    row[8], row[9] = runs(group.tiles), runs(group.crossbars)
    row[11] = float(group.weight_scale)
    return row


def _group(index: int, row: Sequence[Json], arithmetics: Sequence[Arithmetic]) -> CrossbarGroup:
    values = list(row)
    if not isinstance(values[4], int) or not 0 <= values[4] < len(arithmetics):
        raise ProgramError(f"group {index}: arithmetic {values[4]} does not exist")
    values[4] = arithmetics[values[4]]
    values[8], values[9] = unrun(values[8]), unrun(values[9])
    return typed(CrossbarGroup, [index, *values])


def _state(index: int, row: Sequence[Json]) -> State:
    name, kind, phase, initial, pieces = row
    return typed(State, [index, name, kind, phase, initial, [typed(StatePiece, p) for p in pieces]])


def _entry(index: int, row: Sequence[Json]) -> Entry:
    *values, schedule = row
    return typed(Entry, [index, *values, typed(Schedule, [NO_STARTS, *schedule])])


def from_manifest(manifest: Json) -> dict[str, Any]:
    """The fields of a `Program` but instructions, tensors and planned starts: schedules have empty ones.

    Raises ProgramError for a missing table, a row that does not fit, a value of the wrong type.
    """
    try:
        arithmetics = [typed(Arithmetic, row) for row in manifest["arithmetics"]]
        result = {
            "name": _is(str, manifest["name"]),
            "target": _is(dict, manifest["target"]),
            "buffers": _numbered(Buffer, manifest["buffers"]),
            "constants": _numbered(Constant, manifest["constants"]),
            "groups": tuple(_group(k, row, arithmetics) for k, row in enumerate(manifest["groups"])),
            "units": _numbered(Unit, manifest["units"]),
            "inputs": tuple(typed(Port, row) for row in manifest["inputs"]),
            "outputs": tuple(typed(Port, row) for row in manifest["outputs"]),
            "host_segments": _numbered(HostSegment, manifest["host_segments"]),
            "clock_ns": float(_is(float, manifest["clock_ns"])),
            "sources": tuple(tuple(_is(str, s) for s in names) for names in manifest["sources"]),
            "absorbed": {k: _is(str, v) for k, v in _is(dict, manifest["absorbed"]).items()},
            "meta": _is(dict, manifest["meta"]),
            "states": tuple(_state(k, row) for k, row in enumerate(manifest["states"])),
            "entries": tuple(_entry(k, row) for k, row in enumerate(manifest["entries"])),
        }
    except (KeyError, TypeError, ValueError, IndexError) as error:
        if isinstance(error, ProgramError):
            raise
        raise ProgramError(f"a table of the program does not fit: {type(error).__name__}: {error}") from error
    return result


def _is(type_: type[_T], value: Json) -> _T:
    if not isinstance(value, type_) or (type_ is int and isinstance(value, bool)):
        raise ProgramError(f"{value!r} stands where a value of type {type_.__name__} is expected")
    return value


def _numbered(cls: Callable[..., _T], rows: Sequence[Sequence[Json]]) -> tuple[_T, ...]:
    return tuple(typed(cls, [k, *row]) for k, row in enumerate(rows))


def typed(cls: Callable[..., _T], values: Sequence[Json]) -> _T:
    """A dataclass from its fields in order, lists as tuples. Raises ProgramError for a wrong number or type."""
    names = fields(cls)  # type: ignore[arg-type]
    if len(names) != len(values):
        raise ProgramError(f"{cls.__name__} has {len(names)} fields, not {len(values)}")
    converted = []
    for f, value in zip(names, values, strict=True):
        annotation = str(f.type)
        if annotation == "tuple[StatePiece, ...]":
            converted.append(tuple(value))
        elif annotation.startswith("tuple"):
            item: type = int if "int" in annotation else str
            converted.append(tuple(_is(item, v) for v in value))
        elif annotation in ("int", "bool"):
            converted.append(_is(int if annotation == "int" else bool, value))
        elif annotation == "float":
            converted.append(float(_is(float, value)))
        elif annotation in ("Arithmetic", "Schedule", "np.ndarray"):
            converted.append(value)
        else:  # text, or one of a few words: the verifier says which
            converted.append(_is(str, value))
    return cls(*converted)
