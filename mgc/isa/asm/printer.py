"""Program -> text."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

import numpy as np

from mgc.isa.functions import FUNCTIONS
from mgc.isa.instruction import Instruction
from mgc.isa.instructions import Ref, Step
from mgc.isa.manifest import canonical, runs
from mgc.isa.program import FORMAT_VERSION, Program
from mgc.isa.schema import Kind, ListOf, Pair, Record, Scalar, operands_of, record_of
from mgc.isa.state import StatePiece

ENTRY_NUMBERS = ("first", "stop", "repeats", "micro_batch", "micro_batches")
SCHEDULE_NUMBERS = ("makespan", "lower_bound", "split", "interval")
"""Fields of an entry, and of its schedule, that are whole numbers."""

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
        *_tables(program),
    ]
    for unit in program.units:
        stream = [i for i in program.instructions if i.unit == unit.id]
        lines += ["", f".stream {unit.id} ; {unit.name}: {len(stream)} instructions"]
        for i in stream:
            lines += _instruction(program, i)
    return "\n".join(lines) + "\n"


def _summary(program: Program) -> str:
    target = program.target.get("name", "a chip")
    return (
        f"{program.name}: {len(program.instructions)} instructions on {len(program.units)} units of {target}, "
        f"{len(program.groups)} crossbar groups, entries {', '.join(e.name for e in program.entries)}"
    ).replace("\n", " ")


def _tables(program: Program) -> list[str]:
    arithmetics = list(dict.fromkeys(g.arithmetic for g in program.groups))
    lines = ["", "; buffers: kind, element type, shape of one micro-batch"]
    for b in program.buffers:
        place = f"{b.space} offset={b.offset} slots={b.slots} alias_of={b.alias_of} persistent={_bool(b.persistent)} "
        place += f"parts={b.parts}"
        lines.append(f".buffer {b.id} {_text(b.name)} {b.kind} {b.dtype} {_list(b.shape)} {place}")
    lines += ["", "; constants: name, tensor"]
    lines += [f".constant {c.id} {_text(c.name)} {_text(c.tensor)}" for c in program.constants]
    lines += ["", "; crossbars"]
    for k, a in enumerate(arithmetics):
        fields = (f"{n}={v if isinstance(v, int) else _text(v)}" for n, v in a.__dict__.items())
        lines.append(f".arithmetic {k} {' '.join(fields)}")
    for g in program.groups:
        lines.append(
            f".group {g.id} {_text(g.name)} matrices={g.matrices} rows={g.rows} cols={g.cols} "
            f"arithmetic={arithmetics.index(g.arithmetic)} weights={_text(g.weights)} "
            f"real_weights={_text(g.real_weights)} replicas={g.replicas} tiles={_runs(g.tiles)} "
            f"crossbars={_runs(g.crossbars)} sources={_texts(g.sources)} "
            f"weight_scale={real(g.weight_scale)}"
        )
    lines += ["", "; units"]
    lines += [f".unit {u.id} {_text(u.name)} {u.kind} tile={u.tile}" for u in program.units]
    for what, ports in (("input", program.inputs), ("output", program.outputs)):
        lines += ["", f"; {what}s"]
        for p in ports:
            lines.append(
                f".{what} {_text(p.name)} buffer={p.buffer} {_text(p.dtype)} {_list(p.shape)} "
                f"batched={_bool(p.batched)} dims={_texts(p.dims)}"
            )
    lines += ["", "; host segments: tensor with the model, reason, operators"]
    lines += [f".host {h.id} {_text(h.tensor)} {_text(h.reason)} {_texts(h.op_types)}" for h in program.host_segments]
    if program.states:
        lines += ["", "; states: name, kind, phase, tensor with the first value, where its entries live"]
    for s in program.states:
        pieces = _value(ListOf(record_of(StatePiece)), s.pieces)
        lines.append(
            f".state {s.id} {_text(s.name)} {s.kind} phase={_text(s.phase)} initial={_text(s.initial)} pieces={pieces}"
        )
    lines += ["", "; entries: name, kind, instructions, how often in an iteration, batch, schedule"]
    for e in program.entries:
        numbers = " ".join(f"{n}={getattr(e, n)}" for n in ENTRY_NUMBERS)
        planned = " ".join(f"{n}={getattr(e.schedule, n)}" for n in SCHEDULE_NUMBERS)
        rest = f"batched={_bool(e.batched)} status={_text(e.schedule.status)} {planned}"
        lines.append(f".entry {e.id} {_text(e.name)} {e.kind} {numbers} {rest}")
    lines += ["", "; sources of instructions: nodes of the model"]
    lines += [f".source {k} {_texts(names)}" for k, names in enumerate(program.sources)]
    lines += ["", "; nodes without an instruction, and why"]
    lines += [f".absorbed {_text(n)} {_text(program.absorbed[n])}" for n in sorted(program.absorbed)]
    return lines


def _tensor(name: str, array: np.ndarray) -> str:
    return f".tensor {_text(name)} {array.dtype.name} {_list(array.shape)} sha256={fingerprint(array)}"


def fingerprint(array: np.ndarray) -> str:
    """SHA-256 of an array's bytes."""
    return hashlib.sha256(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data).hexdigest()


def _starts(program: Program, i: Instruction) -> list[int]:
    for e in program.entries:
        if e.first <= i.id < e.stop:
            return e.schedule.starts[i.id - e.first].tolist()
    return []


def _instruction(program: Program, i: Instruction) -> list[str]:
    starts = _starts(program, i)
    nodes = program.sources[i.source] if i.source >= 0 else ()
    comment = f" ; {', '.join(nodes)}".replace("\n", " ") if nodes else ""
    previous = "[" + ", ".join(f"({j}, {lag})" for j, lag in i.after_previous) + "]"
    fields = [f"{name}={_value(kind, getattr(i, name))}" for name, kind in operands_of(type(i)).fields]
    fields += [f"duration={i.duration}", f"source={i.source}", f"after={_list(i.after)}"]
    fields += [f"after_all={_list(i.after_all)}", f"after_previous={previous}", f"streamed={_bool(i.streamed)}"]
    fields += [f"starts={_list(starts)}"]
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


def _value(kind: Kind, value: Any) -> str:
    match kind:
        case Scalar(type_) if type_ is float:
            return real(value)
        case Scalar(type_):
            return _bool(value) if type_ is bool else str(int(value))
        case ListOf(Scalar() as item):
            return "[" + ", ".join(_value(item, v) for v in value) + "]"
        case ListOf(Record(cls) as item) if cls is not Ref:
            if not value:
                return "[]"
            rows = (f"{_value(item, v)}{_register(cls, k)}" for k, v in enumerate(value))
            return "[\n" + "".join(f"        {row}\n" for row in rows) + "    ]"
        case ListOf(item):
            return "[" + ", ".join(_value(item, v) for v in value) + "]"
        case Pair(items):
            return "(" + ", ".join(_value(k, v) for k, v in zip(items, value, strict=True)) + ")"
        case Record(cls, fields):
            if cls is Ref:
                return _ref(value)
            if cls is Step:
                return _step(value)
            return "{" + ", ".join(f"{n}={_value(k, getattr(value, n))}" for n, k in fields) + "}"


def _register(cls: type, k: int) -> str:
    return f" ; r{k}" if cls is Step else ""


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


def _list(values: Iterable[int]) -> str:
    return "[" + ", ".join(str(int(v)) for v in values) + "]"


def _runs(values: Iterable[int]) -> str:
    """Numbers as (first, count) runs."""
    return "[" + ", ".join(f"({first}, {count})" for first, count in runs(values)) + "]"
