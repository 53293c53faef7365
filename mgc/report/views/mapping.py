"""The mapping: which ONNX node's weights sit in which crossbars."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rich.console import RenderableType

from mgc.isa.crossbar import CrossbarGroup
from mgc.isa.program import Program
from mgc.report.text import Column, Heading, Row, pairs, section, stack, table
from mgc.report.units import count, names, percent, ranges, shape


def facts(program: Program) -> dict[str, Any]:
    """Crossbars used and available, and every group."""
    return {
        "crossbars": used_and_available(program),
        "arithmetic": asdict(program.groups[0].arithmetic) if program.groups else None,
        "groups": [_group(g) for g in program.groups],
    }


def used_and_available(program: Program) -> dict[str, int]:
    """{"used", "available"}: distinct crossbars that hold weights, and those of the chip."""
    used = len({c for g in program.groups for c in g.crossbars})
    return {"used": used, "available": int(program.meta.get("crossbars", {}).get("available", 0))}


def utilisation(group: CrossbarGroup) -> float:
    """The share of its crossbars' cells that hold a weight."""
    a = group.arithmetic
    cells = group.matrices * group.rows * group.cols * a.slices * a.signs
    return cells / (group.crossbars_per_replica * a.rows * a.cols)


def _group(group: CrossbarGroup) -> dict[str, Any]:
    return {
        "id": group.id,
        "name": group.name,
        "onnx_nodes": list(group.sources),
        "matrices": group.matrices,
        "rows": group.rows,
        "cols": group.cols,
        "row_blocks": group.row_blocks,
        "column_blocks": group.column_blocks,
        "crossbars_per_replica": group.crossbars_per_replica,
        "replicas": group.replicas,
        "crossbars": len(group.crossbars),
        "crossbar_ids": list(group.crossbars),
        "tiles": list(group.tiles),
        "utilisation": utilisation(group),
    }


def render(program: Program) -> RenderableType:
    """One line a group."""
    crossbars = used_and_available(program)
    head = [("crossbars", f"{count(crossbars['used'])} used of {count(crossbars['available'])}")]
    if program.groups:
        a = program.groups[0].arithmetic
        head.append(("one crossbar", f"{a.rows}×{a.cols} cells of {a.cell_bits} bit, {a.encoding} encoding"))
        head.append(("weights", f"{a.weight_bits} bit: {a.slices} slices × {a.signs} signs, so many cells a weight"))
    rows: list[Row] = []
    last: tuple[str, ...] | None = None
    for g in program.groups:
        if g.sources != last:
            rows.append(Heading(names(g.sources)))
            last = g.sources
        row = (
            f"  {g.name}",
            shape((g.matrices, g.rows, g.cols)),
            shape((g.row_blocks, g.column_blocks)),
            count(g.replicas),
            count(len(g.crossbars)),
            percent(utilisation(g)),
            ranges(g.tiles),
        )
        rows.append(row)
    columns = [
        Column("group", fold=True),
        Column("weights", number=True),
        Column("blocks", number=True),
        Column("copies", number=True),
        Column("xbars", number=True),
        Column("cells", number=True),
        Column("tiles", fold=True),
    ]
    legend = "weights: matrices × rows × columns; blocks: crossbars down × across, a matrix; cells: share in use"
    return stack(pairs(head), section("Crossbar groups", stack(table(columns, rows), "", legend)))
