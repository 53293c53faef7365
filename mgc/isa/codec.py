"""Instructions as fixed-width records, one stream a unit, with a pool of words for what has no fixed width.

A record (`RECORD`, 40 bytes) holds an instruction's header and the places of four lists in the pool. A list at place p
is its length n at words[p] and n words after it. The operand list has one word a field: an integer itself, a bool
as 0 or 1, a float as its place in the table of reals, a tuple or record as the place of its own list. Equal lists are
stored once. Words are int64; the file keeps them in the narrowest integer type that holds all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mgc.isa import instructions as _families  # noqa: F401  (registers the opcodes)
from mgc.isa.error import ProgramError
from mgc.isa.instruction import OPCODES, Instruction, operands_of
from mgc.isa.schema import Kind, ListOf, Pair, Record, Scalar

RECORD = np.dtype(
    [
        ("opcode", "<u2"),
        ("streamed", "<u2"),
        ("id", "<u4"),
        ("unit", "<u4"),
        ("source", "<i4"),
        ("duration", "<i8"),
        ("after", "<u4"),
        ("after_previous", "<u4"),
        ("after_all", "<u4"),
        ("operands", "<u4"),
    ]
)
"""One instruction: header, then the places of its lists in the pool."""

MOST_WORDS = 1 << 24
"""Words that decoding may visit: far above any program, below what would exhaust memory."""

_INTEGER = Scalar(int)
_AFTER = ListOf(_INTEGER)
_AFTER_PREVIOUS = ListOf(Pair((_INTEGER, _INTEGER)))


@dataclass(frozen=True)
class Streams:
    """Encoded instructions: records of all units, unit after unit, how many each has; the pools."""

    records: np.ndarray
    counts: tuple[int, ...]
    words: np.ndarray
    reals: np.ndarray


class _Encoder:
    """Interns lists and reals."""

    def __init__(self) -> None:
        self.words: list[int] = []
        self.reals: list[float] = []
        self._lists: dict[tuple[int, ...], int] = {}
        self._reals: dict[bytes, int] = {}

    def word(self, kind: Kind, value: Any) -> int:
        """The word that stands for a field's value."""
        match kind:
            case Scalar(type_) if type_ is float:
                return self._real(float(value))
            case Scalar():
                return int(value)
            case ListOf(item):
                return self.list([self.word(item, v) for v in value])
            case Pair(items):
                return self.list([self.word(i, v) for i, v in zip(items, value, strict=True)])
            case Record():
                return self.list([self.word(k, getattr(value, name)) for name, k in kind.fields])
        raise TypeError(f"an instruction cannot have a field of kind {kind}")

    def list(self, items: Sequence[int]) -> int:
        """The place of a list."""
        key = tuple(items)
        if key not in self._lists:
            self._lists[key] = len(self.words)
            self.words += [len(key), *key]
        return self._lists[key]

    def _real(self, value: float) -> int:
        key = np.float64(value).tobytes()  # keeps -0.0 and NaN apart
        if key not in self._reals:
            self._reals[key] = len(self.reals)
            self.reals.append(value)
        return self._reals[key]


def encode(instructions: Sequence[Instruction], units: int) -> Streams:
    """Instructions as streams, each unit's in order of id."""
    encoder = _Encoder()
    order = sorted(instructions, key=lambda i: (i.unit, i.id))
    records = np.zeros(len(order), RECORD)
    for row, i in zip(records, order, strict=True):
        row["opcode"], row["id"], row["unit"], row["source"] = i.opcode, i.id, i.unit, i.source
        row["duration"], row["streamed"] = i.duration, i.streamed
        row["after"] = encoder.word(_AFTER, i.after)
        row["after_previous"] = encoder.word(_AFTER_PREVIOUS, i.after_previous)
        row["after_all"] = encoder.word(_AFTER, i.after_all)
        row["operands"] = encoder.word(operands_of(type(i)), i)
    counts = tuple(int(n) for n in np.bincount([i.unit for i in order], minlength=units))
    return Streams(records, counts, narrow(np.array(encoder.words, np.int64)), np.array(encoder.reals, np.float64))


def narrow(values: np.ndarray) -> np.ndarray:
    """The same integers in the narrowest signed type that holds them."""
    for dtype in (np.int8, np.int16, np.int32):
        info = np.iinfo(dtype)
        if values.size == 0 or info.min <= int(values.min()) <= int(values.max()) <= info.max:
            return values.astype(dtype)
    return values.astype(np.int64)


class _Decoder:
    """Reads lists and reals, never outside the pools."""

    def __init__(self, streams: Streams) -> None:
        self._words: list[int] = streams.words.tolist()
        self._reals: list[float] = streams.reals.tolist()
        self._left = MOST_WORDS
        self._known: dict[tuple[int, int], tuple[tuple[Any, ...], int]] = {}

    def value(self, kind: Kind, word: int) -> Any:
        """A field's value from its word."""
        match kind:
            case Scalar(type_) if type_ is float:
                if not 0 <= word < len(self._reals):
                    raise ProgramError(f"real {word} is outside the {len(self._reals)} there are")
                return self._reals[word]
            case Scalar(type_) if type_ is bool:
                if word not in (0, 1):
                    raise ProgramError(f"{word} is no bool")
                return bool(word)
            case Scalar():
                return word
            case ListOf() | Pair():
                return self._shared(kind, word)
            case Record():
                return kind.make(self.operands(kind, word))
        raise TypeError(f"an instruction cannot have a field of kind {kind}")

    def _shared(self, kind: ListOf | Pair, place: int) -> tuple[Any, ...]:
        """A list or pair, read once however often a program names it; each time its words count."""
        if (known := self._known.get((id(kind), place))) is not None:
            value, words = known
            self._spend(words)
            return value
        before = self._left
        if isinstance(kind, Pair):
            value = tuple(self._fields(kind.items, place))
        elif kind.item == _INTEGER:
            value = tuple(self._list(place))
        else:
            value = tuple([self.value(kind.item, w) for w in self._list(place)])
        self._known[id(kind), place] = value, before - self._left
        return value

    def operands(self, record: Record, word: int) -> dict[str, Any]:
        """An instruction's own fields by name."""
        values = self._fields([k for _, k in record.fields], word)
        return {name: value for (name, _), value in zip(record.fields, values, strict=True)}

    def _fields(self, kinds: Sequence[Kind], place: int) -> list[Any]:
        words = self._list(place)
        if len(words) != len(kinds):
            raise ProgramError(f"a record of {len(kinds)} fields has {len(words)} words")
        return [self.value(k, w) for k, w in zip(kinds, words, strict=True)]

    def _list(self, place: int) -> list[int]:
        if not 0 <= place < len(self._words):
            raise ProgramError(f"word {place} is outside the pool of {len(self._words)}")
        count = self._words[place]
        if count < 0 or place + 1 + count > len(self._words):
            raise ProgramError(f"a list of {count} words at {place} leaves the pool of {len(self._words)}")
        self._spend(count + 1)
        return self._words[place + 1 : place + 1 + count]

    def _spend(self, words: int) -> None:
        self._left -= words
        if self._left < 0:
            raise ProgramError(f"the instructions unfold to more than {MOST_WORDS} words")


def decode(streams: Streams) -> tuple[Instruction, ...]:
    """Instructions in order of id. Raises ProgramError: an unknown opcode, a place outside the pools, a missing id."""
    if sum(streams.counts) != len(streams.records) or min(streams.counts, default=0) < 0:
        raise ProgramError(f"the streams have {sum(streams.counts)} records, but {len(streams.records)} are there")
    decoder = _Decoder(streams)
    found: dict[int, Instruction] = {}
    row = 0
    for unit, count in enumerate(streams.counts):
        for k in range(count):
            try:
                instruction = _instruction(decoder, streams.records[row])
            except ProgramError as error:
                raise ProgramError(f"record {k} of unit {unit}: {error}") from error
            if instruction.unit != unit or instruction.id in found:
                raise ProgramError(f"record {k} of unit {unit}: instruction {instruction.id} is there twice or astray")
            found[instruction.id] = instruction
            row += 1
    if sorted(found) != list(range(len(found))):
        raise ProgramError("the instructions' ids do not count from 0")
    return tuple(found[k] for k in range(len(found)))


def _instruction(decoder: _Decoder, record: np.void) -> Instruction:
    code, streamed, index, unit, source, duration, after, previous, after_all, operands = record.tolist()
    if code not in OPCODES or streamed > 1:
        raise ProgramError(f"opcode {code} is unknown; there are {', '.join(map(str, sorted(OPCODES)))}")
    cls = OPCODES[code]
    return cls(
        index,
        unit,
        duration,
        decoder.value(_AFTER, after),
        decoder.value(_AFTER_PREVIOUS, previous),
        source,
        after_all=decoder.value(_AFTER, after_all),
        streamed=bool(streamed),
        **decoder.operands(operands_of(cls), operands),
    )
