"""The instructions: how many of each opcode, and the list."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, fields
from typing import Any

from rich.console import RenderableType

from mgc.isa.instruction import Instruction
from mgc.isa.phases import stages
from mgc.isa.program import Program
from mgc.report import trace
from mgc.report.text import Heading, Row, pairs, section, stack, table
from mgc.report.units import count, names, ranges

_COMMON = tuple(f.name for f in fields(Instruction))


def facts(program: Program) -> dict[str, Any]:
    """Counts by opcode and every instruction with its stage, fields and ONNX nodes."""
    stage = stages(program)
    return {
        "counts": counts(program),
        "instructions": [
            {
                "id": i.id,
                "op": i.mnemonic,
                "name": trace.label(program, i),
                "unit": program.units[i.unit].name,
                "duration": i.duration,
                "after": list(i.after),
                "after_previous": [{"id": other, "lag": lag} for other, lag in i.after_previous],
                "phase": stage[i.id].phase,
                "stage": stage[i.id].kind,
                "onnx_nodes": list(trace.onnx_nodes(program, i)),
                "fields": {k: v for k, v in asdict(i).items() if k not in _COMMON},
            }
            for i in program.instructions
        ],
    }


def counts(program: Program) -> dict[str, int]:
    """Instructions by opcode, in order of opcode."""
    order = {i.mnemonic: i.opcode for i in program.instructions}
    found = Counter(i.mnemonic for i in program.instructions)
    return {name: found[name] for name in sorted(found, key=order.__getitem__)}


def render(program: Program) -> RenderableType:
    """One line an instruction; `mgc disasm` prints all fields."""
    rows: list[Row] = []
    last: tuple[str, ...] = ()
    for i in program.instructions:
        nodes = trace.onnx_nodes(program, i)
        if nodes != last:
            rows.append(Heading(names(nodes) or "(of no node)"))
            last = nodes
        after = ranges(i.after)
        rows.append((count(i.id), trace.label(program, i), program.units[i.unit].name, count(i.duration), after))
    columns = [">id", "~instruction", "~unit", ">cycles", "~after"]
    by_opcode = ", ".join(f"{n} {name}" for name, n in counts(program).items())
    head = pairs(
        [
            ("instructions", f"{count(len(program.instructions))}: {by_opcode}"),
            *(
                (f"entry {e.name}", f"{count(e.micro_batches)} micro-batches of {count(e.micro_batch)}")
                for e in program.entries
            ),
        ]
    )
    return stack(head, section("Instructions by ONNX node (all fields: mgc disasm)", table(columns, rows)))
