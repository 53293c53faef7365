"""Program -> text."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

import numpy as np

from mgc.functions.printable import printable
from mgc.isa.functions import FUNCTIONS
from mgc.isa.instruction import HEADER, Instruction, operands_of
from mgc.isa.instructions import Ref, Step
from mgc.isa.manifest import canonical, runs
from mgc.isa.program import Program
from mgc.isa.schema import Kind, ListOf, Pair, Record, Runs, Scalar, Word
from mgc.isa.tables import FORMAT_VERSION, TABLES, row_of

SPACES = "bcr"
"""Letters of the operand spaces: buffer, constant, register."""


def disassemble(program: Program, tensors: str | None = None) -> str:
    """The program as text that `assemble` takes back.

    `tensors` is the name of the `.mgc` file that holds its tensors: by default the one it was loaded from, as it was
    named then, else the program's name with `.mgc`.
    """
    file = tensors or program.origin or f"{program.name}.mgc"
    lines = [
        f"; {_summary(program)}",
        f".mgc {FORMAT_VERSION}",
        f".name {_text(program.name)}",
        f".tensors {_text(file)}",
        f".target {canonical(program.target)}",
        f".meta {canonical(program.meta)}",
        f".clock_ns {real(program.clock_ns)}",
        "",
        "; tensors: name, element type, shape, hash of the bytes",
        *(_tensor(name, program.tensors[name]) for name in sorted(program.tensors)),
    ]
    for row, (table, cls) in TABLES.items():
        lines += ["", f"; {table.replace('_', ' ')}"]
        for k, value in enumerate(getattr(program, table)):
            lines.append(f".{row} {k} {' '.join(_named(row_of(cls), value))}")
    lines += ["", "; sources of instructions: nodes of the model"]
    lines += [f".source {k} {_texts(names)}" for k, names in enumerate(program.sources)]
    lines += ["", "; nodes without an instruction, and why"]
    lines += [f".absorbed {_text(n)} {_text(program.absorbed[n])}" for n in sorted(program.absorbed)]
    starts = {e.first + k: row for e in program.entries for k, row in enumerate(e.schedule.starts.tolist())}
    for unit in program.units:
        stream = [i for i in program.instructions if i.unit == unit.id]
        comment = f"{unit.name}: {len(stream)} instructions".replace("\n", " ")
        lines += ["", f".stream {unit.id} ; {comment}"]
        for i in stream:
            lines += _instruction(program, i, starts.get(i.id, []))
    return printable("\n".join(lines) + "\n")


def _summary(program: Program) -> str:
    target = program.target.get("name", "a chip")
    return (
        f"{program.name}: {len(program.instructions)} instructions on {len(program.units)} units of {target}, "
        f"{len(program.groups)} crossbar groups, entries {', '.join(e.name for e in program.entries)}"
    ).replace("\n", " ")


def _tensor(name: str, array: np.ndarray) -> str:
    shape = ", ".join(map(str, array.shape))
    return f".tensor {_text(name)} {array.dtype.name} [{shape}] sha256={_text(fingerprint(array))}"


def fingerprint(array: np.ndarray) -> str:
    """SHA-256 of an array's bytes."""
    return hashlib.sha256(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data).hexdigest()


def _instruction(program: Program, i: Instruction, starts: list[int]) -> list[str]:
    nodes = program.sources[i.source] if i.source >= 0 else ()
    comment = f" ; {', '.join(nodes)}".replace("\n", " ") if nodes else ""
    fields = [*_named(operands_of(type(i)), i), *_named(HEADER, i), f"starts={starts}"]
    return [f"{i.id} {i.mnemonic}{comment}", *_filled(fields)]


def _filled(fields: Iterable[str]) -> list[str]:
    """Fields in lines of at most about 110 characters; one that spans lines stands alone."""
    lines: list[str] = []
    open_line = False
    for field in fields:
        single = "\n" not in field
        if single and open_line and len(lines[-1]) + len(field) < 110:
            lines[-1] += f" {field}"
        else:
            lines.append(f"    {field}")
        open_line = single
    return lines


def _named(record: Record, value: Any) -> list[str]:
    return [f"{name}={_value(kind, getattr(value, name))}" for name, kind in record.fields]


def _value(kind: Kind, value: Any) -> str:
    match kind:
        case Scalar(type_):
            return {float: real, bool: _bool, str: _text, int: lambda v: str(int(v))}[type_](value)
        case Word():
            return value if value.isidentifier() else _text(value)
        case Runs():
            return "[" + ", ".join(f"({first}, {count})" for first, count in runs(value)) + "]"
        case ListOf(Record(cls=cls) as item) if cls is not Ref and value:
            rows = (f"{_value(item, v)}{f' ; r{k}' if cls is Step else ''}" for k, v in enumerate(value))
            return "[\n" + "".join(f"        {row}\n" for row in rows) + "    ]"
        case ListOf(item):
            return "[" + ", ".join(_value(item, v) for v in value) + "]"
        case Pair(items):
            return "(" + ", ".join(_value(k, v) for k, v in zip(items, value, strict=True)) + ")"
        case Record(cls=cls):
            if cls is Ref:
                return _ref(value)
            return _step(value) if cls is Step else "{" + ", ".join(_named(kind, value)) + "}"


def _ref(ref: Ref) -> str:
    return f"{SPACES[ref.space]}{ref.index}"


def _step(step: Step) -> str:
    function = FUNCTIONS[step.function]
    values = [real(a) for a in step.attributes]
    if len(values) == len(function.attributes) and not any(a.endswith("...") for a in function.attributes):
        values = [f"{n}={v}" for n, v in zip(function.attributes, values, strict=True)]
    attributes = "{" + ", ".join(values) + "}" if values else ""
    return f"{function.name}({', '.join(map(_ref, step.args))}){attributes}"


def real(value: float) -> str:
    """The shortest text that reads back as the same float64; whole numbers without a point."""
    value = float(value)
    if value.is_integer() and abs(value) < 1e15 and str(value) != "-0.0":
        return str(int(value))
    return repr(value)


def _bool(value: bool) -> str:
    return "true" if value else "false"


def _text(value: str) -> str:
    return json.dumps(value)


def _texts(values: Iterable[str]) -> str:
    return "[" + ", ".join(map(_text, values)) + "]"
