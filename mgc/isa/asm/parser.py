"""Text -> program."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mgc.isa import container
from mgc.isa.asm.printer import SPACES, fingerprint
from mgc.isa.entry import Entry
from mgc.isa.error import ProgramError
from mgc.isa.functions import BY_NAME
from mgc.isa.instruction import HEADER, OPCODES, Instruction, operands_of
from mgc.isa.instructions import Ref, Step
from mgc.isa.manifest import unrun
from mgc.isa.program import Program
from mgc.isa.schema import Kind, ListOf, Pair, Record, Runs, Scalar, Word
from mgc.isa.tables import FORMAT_VERSION, TABLES, numbered, row_of
from mgc.lexer import Lexer, Token, grammar

_GRAMMAR = grammar(";", directive=r"\.[A-Za-z_]\w*", punctuation=r"[\[\](){},=:]")
_INTEGERS, _TEXTS = ListOf(Scalar(int)), ListOf(Scalar(str))

Resolver = Callable[[str], Mapping[str, np.ndarray]]
"""The tensors of the `.mgc` file of a name."""


def assemble(text: str, directory: Path | None = None, resolve: Resolver | None = None) -> Program:
    """The program of a text that `disassemble` made, or someone after its example; verified.

    The file that `.tensors` names is looked for as it is named, then in `directory` (say, where the text is). `resolve`
    replaces that search. Raises ProgramError with line:column and what is expected there.
    """
    return _Parser(text, resolve or _search(directory)).program()


def _search(directory: Path | None) -> Resolver:
    def resolve(name: str) -> Mapping[str, np.ndarray]:
        places = [Path(name)]
        if directory is not None:
            places += [directory / name, directory / Path(name).name]
        for place in places:
            if place.is_file():
                try:
                    return container.read(place)[0]
                except ProgramError as error:
                    raise ProgramError(f"tensor file {place}: {error}") from error
        looked = " or ".join(dict.fromkeys(map(str, places)))
        raise ProgramError(f"tensor file {name} is not there (looked for {looked}); put it beside the text")

    return resolve


class _Parser:
    """Recursive descent over directives, then streams."""

    def __init__(self, text: str, resolve: Resolver) -> None:
        self.lexer = Lexer(text, _GRAMMAR, ProgramError)
        self.resolve = resolve
        self.facts: dict[str, Any] = {}
        self.tables: dict[str, list[Any]] = {name: [] for name in (*TABLES, "source")}
        self.tensors: dict[str, np.ndarray] = {}
        self.absorbed: dict[str, str] = {}
        self.instructions: dict[int, Instruction] = {}
        self.starts: dict[int, tuple[int, ...]] = {}

    def program(self) -> Program:
        lexer = self.lexer
        while lexer.token.kind != "end":
            where = lexer.take("directive", "a directive like .buffer")
            self._directive(where.text[1:], where)
        missing = [d for d in ("mgc", "name", "target", "meta", "clock_ns") if d not in self.facts]
        if missing:
            raise lexer.error(f"directive .{missing[0]} is missing")
        count = len(self.instructions)
        if sorted(self.instructions) != list(range(count)):
            raise lexer.error("the instructions' numbers do not count from 0")
        self.tables["entry"] = [self._planned(e) for e in self.tables["entry"]]
        tables: dict[str, Any] = {name: tuple(self.tables[row]) for row, (name, _) in TABLES.items()}
        program = Program(
            instructions=tuple(self.instructions[k] for k in range(count)),
            sources=tuple(self.tables["source"]),
            absorbed=self.absorbed,
            tensors=self.tensors,
            **{name: self.facts[name] for name in ("name", "target", "meta", "clock_ns")},
            **tables,
        )
        program.verify()
        return program

    def _planned(self, entry: Entry) -> Entry:
        """The entry with the planned starts that its instructions state."""
        own = [self.starts.get(k, ()) for k in range(entry.first, entry.stop)]
        tasks = entry.micro_batches * entry.schedule.split
        for k, starts in enumerate(own, entry.first):
            if len(starts) != tasks:
                raise self.lexer.error(f"instruction {k} has {len(starts)} starts, {tasks} are expected")
        return replace(entry, schedule=replace(entry.schedule, starts=np.array(own, np.int64).reshape(len(own), tasks)))

    def _directive(self, name: str, where: Token) -> None:
        lexer = self.lexer
        if name in self.facts:
            raise lexer.error(f".{name} is there twice", where)
        match name:
            case "mgc":
                self.facts[name] = version = lexer.integer("the format version")
                if version != FORMAT_VERSION:
                    raise lexer.error(f"format version {version} is not known; this mgc reads {FORMAT_VERSION}", where)
            case "name":
                self.facts[name] = lexer.string("a name in quotes")
            case "clock_ns":
                self.facts[name] = lexer.real("the length of a cycle")
            case "tensors":
                place = lexer.token
                self.facts[name] = self._located(place, lambda: self.resolve(lexer.string("a file in quotes")))
            case "target" | "meta":
                self.facts[name] = value = lexer.json()
                if not isinstance(value, dict):
                    raise lexer.error("a JSON object is expected", where)
            case "tensor":
                self._tensor()
            case "absorbed":
                node = lexer.string("a node in quotes")
                self.absorbed[node] = lexer.string("a reason in quotes")
            case "stream":
                self._stream()
            case _ if name in self.tables:
                self._row(name)
            case _:
                raise lexer.error(f"directive .{name} is unknown", where)

    def _row(self, name: str) -> None:
        rows, where = self.tables[name], self.lexer.token
        number = self.lexer.integer(f"the number of the {name}")
        if number != len(rows):
            raise self.lexer.error(f"{name} {len(rows)} is expected here, not {number}", where)
        if name == "source":
            rows.append(self._value(_TEXTS, "nodes"))
            return
        record = row_of(TABLES[name][1])
        rows.append(record.make(self._fields(record) | numbered(record, number)))

    def _tensor(self) -> None:
        lexer, where = self.lexer, self.lexer.token
        name, dtype = lexer.string("a name in quotes"), lexer.take("word", "an element type").text
        shape, expected = self._value(_INTEGERS, "a dimension"), self._named("sha256", Scalar(str))
        held = self.facts.get("tensors", {})
        if name not in held:
            raise lexer.error(f"the file that .tensors names has no tensor {name}", where)
        array = held[name]
        if (array.dtype.name, array.shape) != (dtype, shape):
            found = f"{array.dtype.name}{list(array.shape)}"
            raise lexer.error(f"tensor {name} is {found} in the file that .tensors names", where)
        if fingerprint(array) != expected:
            raise lexer.error(f"tensor {name} has other data in the file that .tensors names", where)
        self.tensors[name] = array

    def _stream(self) -> None:
        lexer, where = self.lexer, self.lexer.token
        unit = lexer.integer("a unit")
        if not 0 <= unit < len(self.tables["unit"]):
            raise lexer.error(f"unit {unit} is not there; there are {len(self.tables['unit'])}", where)
        while lexer.token.kind == "number":
            self._instruction(unit)

    def _instruction(self, unit: int) -> None:
        lexer, where = self.lexer, self.lexer.token
        number = lexer.integer("an instruction's number")
        if number in self.instructions:
            raise lexer.error(f"instruction {number} is there twice", where)
        where = lexer.take("word", "a mnemonic")
        cls = next((c for c in OPCODES.values() if c.mnemonic == where.text), None)
        if cls is None:
            known = ", ".join(OPCODES[code].mnemonic for code in sorted(OPCODES))
            raise lexer.error(f"instruction {where.text!r} is unknown; there are {known}", where)
        fields = self._fields(operands_of(cls)) | self._fields(HEADER)
        self.starts[number] = self._named("starts", _INTEGERS)
        self.instructions[number] = cls(id=number, unit=unit, **fields)

    def _fields(self, record: Record) -> dict[str, Any]:
        return {name: self._named(name, kind) for name, kind in record.fields}

    def _named(self, name: str, kind: Kind) -> Any:
        """Reads `name=value`."""
        if self.lexer.token.text != name:
            raise self.lexer.expected(f"{name}=")
        self.lexer.word(name)
        self.lexer.punctuation("=")
        return self._value(kind, name)

    def _value(self, kind: Kind, what: str) -> Any:
        lexer = self.lexer
        match kind:
            case Scalar(type_):
                read = {int: lexer.integer, float: lexer.real, bool: self._bool, str: self._text}[type_]
                return read(what)
            case Word():
                return (
                    lexer.string(what) if lexer.token.kind == "string" else lexer.take("word", f"{what}, {kind}").text
                )
            case Runs():
                where = lexer.token
                pairs = self._value(ListOf(Pair((Scalar(int),) * 2)), what)
                return self._located(where, lambda: unrun(pairs))
            case ListOf(item):
                return self._items("[", "]", lambda: self._value(item, what))
            case Pair(items):
                kinds = iter(items)
                values = self._items("(", ")", lambda: self._value(next(kinds, items[-1]), what))
                if len(values) != len(items):
                    raise lexer.error(f"{what}: {len(items)} values are expected in (), not {len(values)}")
                return values
            case Record(cls=cls):
                if cls is Ref:
                    return self._ref()
                if cls is Step:
                    return self._step()
                lexer.punctuation("{")
                values = {}
                for name, field in kind.fields:
                    values[name] = self._named(name, field)
                    lexer.skip(",")
                lexer.punctuation("}")
                return kind.make(values)

    def _ref(self) -> Ref:
        token = self.lexer.token
        if token.kind != "word" or token.text[0] not in SPACES or not token.text[1:].isdecimal():
            raise self.lexer.expected("an operand like b0 (buffer), c0 (constant) or r0 (register)")
        if len(token.text) > 10:
            raise self.lexer.error(f"operand {token.text} is out of range")
        self.lexer.word(token.text)
        return Ref(SPACES.index(token.text[0]), int(token.text[1:]))

    def _step(self) -> Step:
        lexer = self.lexer
        where = lexer.take("word", "a function")
        if where.text not in BY_NAME:
            raise lexer.error(f"function {where.text!r} is unknown", where)
        function = BY_NAME[where.text]
        args = self._items("(", ")", self._ref)
        attributes: list[float] = []

        def read() -> None:
            if lexer.token.kind == "word":
                k = len(attributes)
                wanted = function.attributes[k] if k < len(function.attributes) else "}"
                if lexer.token.text != wanted:
                    raise lexer.expected(f"attribute {wanted} of {function.name}")
                lexer.word(wanted)
                lexer.punctuation("=")
            attributes.append(lexer.real("an attribute"))

        if lexer.token.text == "{":
            self._items("{", "}", read)
        return Step(function.code, args, tuple(attributes))

    def _items(self, start: str, end: str, read: Callable[[], Any]) -> tuple[Any, ...]:
        """Reads a list; the comma between items may be left out at a line's end."""
        self.lexer.punctuation(start)
        values: list[Any] = []
        while not self.lexer.skip(end):
            values.append(read())
            self.lexer.skip(",")
        return tuple(values)

    def _text(self, what: str) -> str:
        return self.lexer.string(f"{what} in quotes")

    def _bool(self, what: str) -> bool:
        word = self.lexer.token.text
        if word not in ("true", "false"):
            raise self.lexer.expected(f"{what}, true or false")
        self.lexer.word(word)
        return word == "true"

    def _located(self, where: Token, make: Callable[[], Any]) -> Any:
        try:
            return make()
        except ProgramError as error:
            if self.lexer.token is where:  # the lexer's own
                raise
            raise self.lexer.error(str(error), where) from error
