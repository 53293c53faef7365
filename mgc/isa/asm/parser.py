"""Text -> program."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mgc.isa import container
from mgc.isa.asm.lexer import Lexer
from mgc.isa.asm.printer import ENTRY_NUMBERS, SCHEDULE_NUMBERS, SPACES, fingerprint
from mgc.isa.crossbar import Arithmetic, CrossbarGroup
from mgc.isa.entry import Entry
from mgc.isa.error import ProgramError
from mgc.isa.functions import BY_NAME
from mgc.isa.instruction import OPCODES, Instruction
from mgc.isa.instructions import Ref, Step
from mgc.isa.manifest import NO_STARTS, unrun
from mgc.isa.memory import Buffer, Constant, Port
from mgc.isa.program import FORMAT_VERSION, HostSegment, Program
from mgc.isa.schedule import Schedule, Unit
from mgc.isa.schema import HEADER, Kind, ListOf, Pair, Record, Scalar, operands_of, record_of
from mgc.isa.state import State, StatePiece

Resolver = Callable[[str], Mapping[str, np.ndarray]]
"""The tensors of the `.mgc` file of a name."""


def assemble(text: str, directory: Path | None = None, resolve: Resolver | None = None) -> Program:
    """The program of a text that `disassemble` made, or someone after its example; verified.

    The file that `.tensors` names is looked for as it is named, then in `directory` (say, where the text is). `resolve`
    replaces that search. Raises ProgramError with line and column, and what is expected there.
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
        self.lexer = Lexer(text)
        self.resolve = resolve
        self.facts: dict[str, Any] = {}
        names = (
            "buffer",
            "constant",
            "arithmetic",
            "group",
            "unit",
            "input",
            "output",
            "host",
            "state",
            "entry",
            "source",
        )
        self.tables: dict[str, list[Any]] = {name: [] for name in names}
        self.tensors: dict[str, np.ndarray] = {}
        self.absorbed: dict[str, str] = {}
        self.instructions: dict[int, Instruction] = {}
        self.starts: dict[int, list[int]] = {}

    def program(self) -> Program:
        lexer = self.lexer
        while lexer.token.kind != "end":
            if lexer.token.kind != "word" or not lexer.token.text.startswith("."):
                lexer.expected("a directive like .buffer")
            self._directive(lexer.next().text)
        missing = [d for d in (".mgc", ".name", ".target", ".meta", ".clock_ns") if d not in self.facts]
        if missing:
            lexer.fail(f"directive {missing[0]} is missing")
        count = len(self.instructions)
        if sorted(self.instructions) != list(range(count)):
            lexer.fail("the instructions' numbers do not count from 0")
        self.tables["entry"] = [self._planned(e) for e in self.tables["entry"]]
        tables = {name: tuple(rows) for name, rows in self.tables.items()}
        program = Program(
            name=self.facts[".name"],
            target=self.facts[".target"],
            instructions=tuple(self.instructions[k] for k in range(count)),
            buffers=tables["buffer"],
            constants=tables["constant"],
            groups=tables["group"],
            units=tables["unit"],
            inputs=tables["input"],
            outputs=tables["output"],
            host_segments=tables["host"],
            entries=tables["entry"],
            clock_ns=self.facts[".clock_ns"],
            sources=tables["source"],
            absorbed=self.absorbed,
            states=tables["state"],
            tensors=self.tensors,
            meta=self.facts[".meta"],
        )
        program.verify()
        return program

    def _directive(self, name: str) -> None:
        lexer = self.lexer
        at = lexer.token.at
        if name in self.facts:
            lexer.fail(f"{name} is there twice", at)
        match name:
            case ".mgc":
                version = lexer.integer("the format version")
                if version != FORMAT_VERSION:
                    lexer.fail(f"format version {version} is not known; this mgc reads {FORMAT_VERSION}", at)
                self.facts[name] = version
            case ".name":
                self.facts[name] = lexer.text("a name")
            case ".clock_ns":
                self.facts[name] = lexer.real("the length of a cycle")
            case ".tensors":
                self.facts[name] = self._located(at, lambda: self.resolve(lexer.text("a file")))
            case ".target" | ".meta":
                value = lexer.json()
                if not isinstance(value, dict):
                    lexer.fail("a JSON object is expected", at)
                self.facts[name] = value
            case ".tensor":
                self._tensor(at)
            case ".absorbed":
                node = lexer.text("a node")
                self.absorbed[node] = lexer.text("a reason")
            case ".stream":
                self._stream()
            case _ if name[1:] in self.tables:
                self._row(name[1:])
            case _:
                lexer.fail(f"directive {name} is unknown", at)

    def _row(self, table: str) -> None:
        rows = self.tables[table]
        if table not in ("input", "output"):
            at = self.lexer.token.at
            number = self.lexer.integer(f"the number of the {table}")
            if number != len(rows):
                self.lexer.fail(f"{table} {len(rows)} is expected here, not {number}", at)
        rows.append(getattr(self, f"_{table}")(len(rows)))

    def _buffer(self, number: int) -> Buffer:
        lexer = self.lexer
        name, kind, dtype = lexer.text("a name"), lexer.word("a kind"), lexer.word("an element type")
        shape, space = self._integers("a dimension"), lexer.word("a space")
        fields = [self._named(n, lexer.integer) for n in ("offset", "slots", "alias_of")]
        persistent, parts = self._named("persistent", self._bool), self._named("parts", lexer.integer)
        return Buffer(number, name, kind, dtype, shape, space, *fields, persistent, parts)  # type: ignore[arg-type]

    def _constant(self, number: int) -> Constant:
        return Constant(number, self.lexer.text("a name"), self.lexer.text("a tensor"))

    def _arithmetic(self, number: int) -> Arithmetic:
        fields = Arithmetic.__dataclass_fields__
        words = ("adc_mode", "encoding")
        return Arithmetic(*(self._named(n, self.lexer.text if n in words else self.lexer.integer) for n in fields))

    def _group(self, number: int) -> CrossbarGroup:
        lexer = self.lexer
        name = lexer.text("a name")
        matrices, rows, cols = (self._named(n, lexer.integer) for n in ("matrices", "rows", "cols"))
        at = lexer.token.at
        arithmetic = self._named("arithmetic", lexer.integer)
        if not 0 <= arithmetic < len(self.tables["arithmetic"]):
            lexer.fail(f"arithmetic {arithmetic} is not there yet", at)
        weights, real = (self._named(n, lexer.text) for n in ("weights", "real_weights"))
        replicas = self._named("replicas", lexer.integer)
        tiles, crossbars = self._named("tiles", self._runs), self._named("crossbars", self._runs)
        chosen = self.tables["arithmetic"][arithmetic]
        sources, scale = self._named("sources", self._texts), self._named("weight_scale", lexer.real)
        return CrossbarGroup(
            number, name, matrices, rows, cols, chosen, weights, real, replicas, tiles, crossbars, sources, scale
        )

    def _unit(self, number: int) -> Unit:
        lexer = self.lexer
        name, kind = lexer.text("a name"), lexer.word("a kind")
        return Unit(number, name, kind, self._named("tile", lexer.integer))  # type: ignore[arg-type]

    def _input(self, number: int) -> Port:
        lexer = self.lexer
        name, buffer = lexer.text("a name"), self._named("buffer", lexer.integer)
        dtype, shape = lexer.text("an element type"), self._integers("a dimension")
        return Port(name, buffer, dtype, shape, self._named("batched", self._bool), self._named("dims", self._texts))

    _output = _input

    def _host(self, number: int) -> HostSegment:
        return HostSegment(number, self.lexer.text("a tensor"), self.lexer.text("a reason"), self._texts("operators"))

    def _state(self, number: int) -> State:
        lexer = self.lexer
        name, kind = lexer.text("a name"), lexer.word("a kind")
        phase, initial = self._named("phase", lexer.text), self._named("initial", lexer.text)
        pieces = self._named("pieces", self._reader(ListOf(record_of(StatePiece))))
        return State(number, name, kind, phase, initial, pieces)  # type: ignore[arg-type]

    def _entry(self, number: int) -> Entry:
        lexer = self.lexer
        name, kind = lexer.text("a name"), lexer.word("a kind")
        numbers = {n: self._named(n, lexer.integer) for n in ENTRY_NUMBERS}
        batched, status = self._named("batched", self._bool), self._named("status", lexer.text)
        planned = {n: self._named(n, lexer.integer) for n in SCHEDULE_NUMBERS}
        schedule = Schedule(NO_STARTS, status, **planned)
        return Entry(number, name, kind, **numbers, batched=batched, schedule=schedule)  # type: ignore[arg-type]

    def _planned(self, entry: Entry) -> Entry:
        """The entry with the planned starts that its instructions state."""
        own = [self.starts.get(k, []) for k in range(entry.first, entry.stop)]
        tasks = entry.micro_batches * entry.schedule.split
        for k, starts in enumerate(own, entry.first):
            if len(starts) != tasks:
                self.lexer.fail(f"instruction {k} has {len(starts)} starts, {tasks} are expected")
        return replace(entry, schedule=replace(entry.schedule, starts=np.array(own, np.int64).reshape(len(own), tasks)))

    def _source(self, number: int) -> tuple[str, ...]:
        return self._texts("nodes")

    def _tensor(self, at: int) -> None:
        lexer = self.lexer
        name, dtype, shape = lexer.text("a name"), lexer.word("an element type"), self._integers("a dimension")
        expected = self._named("sha256", self._hash)
        held = self.facts.get(".tensors", {})
        if name not in held:
            lexer.fail(f"the file that .tensors names has no tensor {name}", at)
        array = held[name]
        if (array.dtype.name, array.shape) != (dtype, shape):
            lexer.fail(f"tensor {name} is {array.dtype.name}{list(array.shape)} in the file that .tensors names", at)
        if fingerprint(array) != expected:
            lexer.fail(f"tensor {name} has other data in the file that .tensors names", at)
        self.tensors[name] = array

    def _hash(self, what: str) -> str:
        # a hash may look like a word, or begin like a number
        return self.lexer.next().text

    def _stream(self) -> None:
        lexer = self.lexer
        at = lexer.token.at
        unit = lexer.integer("a unit")
        if not 0 <= unit < len(self.tables["unit"]):
            lexer.fail(f"unit {unit} is not there; there are {len(self.tables['unit'])}", at)
        while lexer.token.kind == "number":
            self._instruction(unit)

    def _instruction(self, unit: int) -> None:
        lexer = self.lexer
        at = lexer.token.at
        number = lexer.integer("an instruction's number")
        if number in self.instructions:
            lexer.fail(f"instruction {number} is there twice", at)
        at = lexer.token.at
        mnemonic = lexer.word("a mnemonic")
        cls = next((c for c in OPCODES.values() if c.mnemonic == mnemonic), None)
        if cls is None:
            known = ", ".join(OPCODES[code].mnemonic for code in sorted(OPCODES))
            lexer.fail(f"instruction {mnemonic!r} is unknown; there are {known}", at)
        fields = {name: self._named(name, self._reader(kind)) for name, kind in operands_of(cls).fields}
        header: dict[str, Any] = {"id": number, "unit": unit}
        for name in ("duration", "source"):
            header[name] = self._named(name, lexer.integer)
        header["after"] = self._named("after", self._integers)
        header["after_all"] = self._named("after_all", self._integers)
        header["after_previous"] = self._named("after_previous", self._reader(ListOf(Pair((Scalar(int),) * 2))))
        header["streamed"] = self._named("streamed", self._bool)
        self.starts[number] = list(self._named("starts", self._integers))
        self.instructions[number] = cls(**{name: header[name] for name in HEADER}, **fields)

    def _reader(self, kind: Kind) -> Callable[[str], Any]:
        return lambda what: self._value(kind, what)

    def _value(self, kind: Kind, what: str) -> Any:
        lexer = self.lexer
        match kind:
            case Scalar(type_):
                read = {int: lexer.integer, float: lexer.real, bool: self._bool}[type_]
                return read(what)
            case ListOf(item):
                return self._items("[", "]", lambda: self._value(item, what))
            case Pair(items):
                lexer.mark("(")
                values = []
                for k, item in enumerate(items):
                    if k:
                        lexer.mark(",")
                    values.append(self._value(item, what))
                lexer.mark(")")
                return tuple(values)
            case Record(cls, fields):
                if cls is Ref:
                    return self._ref()
                if cls is Step:
                    return self._step()
                lexer.mark("{")
                values = []
                for k, (name, field) in enumerate(fields):
                    if k:
                        lexer.mark(",")
                    values.append(self._named(name, self._reader(field)))
                lexer.mark("}")
                return cls(*values)

    def _ref(self) -> Ref:
        token = self.lexer.token
        if token.kind != "word" or token.text[0] not in SPACES or not token.text[1:].isdecimal():
            self.lexer.expected("an operand like b0 (buffer), c0 (constant) or r0 (register)")
        if len(token.text) > 10:
            self.lexer.fail(f"operand {token.text} is out of range")
        self.lexer.next()
        return Ref(SPACES.index(token.text[0]), int(token.text[1:]))

    def _step(self) -> Step:
        lexer = self.lexer
        at = lexer.token.at
        name = lexer.word("a function")
        if name not in BY_NAME:
            lexer.fail(f"function {name!r} is unknown", at)
        function = BY_NAME[name]
        args = self._items("(", ")", self._ref)
        values: list[float] = []
        if lexer.accept("{"):
            while not lexer.accept("}"):
                if values:
                    lexer.mark(",")
                if lexer.token.kind == "word":
                    k = len(values)
                    wanted = function.attributes[k] if k < len(function.attributes) else "'}'"
                    if lexer.token.text != wanted:
                        lexer.expected(f"attribute {wanted} of {name}")
                    lexer.next()
                    lexer.mark("=")
                values.append(lexer.real("an attribute"))
        return Step(function.code, args, tuple(values))

    def _named(self, name: str, read: Callable[[str], Any]) -> Any:
        """Reads `name = value`."""
        token = self.lexer.token
        if token.kind != "word" or token.text != name:
            self.lexer.expected(f"{name}=")
        self.lexer.next()
        self.lexer.mark("=")
        return read(name)

    def _items(self, start: str, end: str, read: Callable[[], Any]) -> tuple[Any, ...]:
        """Reads a list; the comma between items may be left out at a line's end."""
        lexer = self.lexer
        lexer.mark(start)
        values: list[Any] = []
        while not lexer.accept(end):
            values.append(read())
            lexer.accept(",")
        return tuple(values)

    def _bool(self, what: str) -> bool:
        word = self.lexer.token.text
        if word not in ("true", "false"):
            self.lexer.expected(f"{what}, true or false,")
        self.lexer.next()
        return word == "true"

    def _integers(self, what: str) -> tuple[int, ...]:
        return self._items("[", "]", lambda: self.lexer.integer(what))

    def _texts(self, what: str) -> tuple[str, ...]:
        return self._items("[", "]", lambda: self.lexer.text(what))

    def _runs(self, what: str) -> tuple[int, ...]:
        pairs = self._value(ListOf(Pair((Scalar(int),) * 2)), what)
        at = self.lexer.token.at
        return self._located(at, lambda: unrun(pairs))

    def _located(self, at: int, make: Callable[[], Any]) -> Any:
        try:
            return make()
        except ProgramError as error:
            if str(error).startswith("line "):
                raise
            self.lexer.fail(str(error), at)
