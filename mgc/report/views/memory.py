"""The memory map: buffers, constants, and the bytes of each space."""

from __future__ import annotations

from typing import Any

import numpy as np
from rich.console import RenderableType

from mgc.isa.memory import nbytes, slot_bytes
from mgc.isa.program import Program
from mgc.report.text import pairs, section, stack, table
from mgc.report.units import count, shape, size


def facts(program: Program) -> dict[str, Any]:
    """Every buffer and constant, and the highest address used in each space."""
    return {
        "spaces": [{"space": name, "bytes": used} for name, used in _spaces(program).items()],
        "buffers": [
            {
                **{name: getattr(b, name) for name in ("id", "name", "kind", "dtype", "shape", "space", "offset")},
                "bytes": nbytes(b, program.target),
                "slots": b.slots,
                "parts": b.parts,
                "alias_of": b.alias_of if b.alias_of >= 0 else None,
            }
            for b in program.buffers
        ],
        "constants": [
            {"id": c.id, "name": c.name, "tensor": c.tensor, "bytes": program.tensors[c.tensor].nbytes}
            for c in program.constants
        ],
    }


def _spaces(program: Program) -> dict[str, int]:
    """The end of the last buffer in each space (slots are at least `slot_bytes` apart)."""
    spaces: dict[str, int] = {}
    for b in program.buffers:
        if b.alias_of < 0:
            spaces[b.space] = max(spaces.get(b.space, 0), b.offset + b.slots * slot_bytes(b, program.target))
    return spaces


def render(program: Program) -> RenderableType:
    """One line a buffer, one a constant."""
    held = sum(program.tensors[c.tensor].nbytes for c in program.constants)
    head = [(space, f"{size(used)} in use") for space, used in _spaces(program).items()]
    head.append(("constants", f"{size(held)} in {count(len(program.constants))} tables, scales and operands"))
    buffers = [
        (
            count(b.id),
            b.name,
            b.kind,
            b.dtype,
            shape(b.shape),
            b.space if b.alias_of < 0 else f"= {b.alias_of}",
            count(b.offset),
            count(nbytes(b, program.target)),
            count(b.slots) if b.parts == 1 else f"{b.slots}/{b.parts}",
        )
        for b in program.buffers
    ]
    columns = [">id", "~buffer", "kind", "dtype", ">shape", "space", ">offset", ">bytes", ">slots"]
    constants = [(count(c.id), c.name, *_tensor(program.tensors[c.tensor])) for c in program.constants]
    constant_columns = [">id", "~constant", "dtype", ">shape", ">bytes"]
    return stack(
        pairs(head),
        section(
            "Buffers (space '= n' is a view of buffer n; slots 2/8 hold two of its 8 parts)",
            table(columns, buffers),
        ),
        section("Constants", table(constant_columns, constants)),
    )


def _tensor(array: np.ndarray) -> tuple[str, str, str]:
    return array.dtype.name, shape(array.shape), count(array.nbytes)
