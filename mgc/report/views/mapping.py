"""The mapping: which ONNX node's weights sit in which crossbars."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from rich.console import RenderableType

from mgc.isa.crossbar import CrossbarGroup
from mgc.isa.instructions import MvmT
from mgc.isa.program import Program
from mgc.report.text import Heading, Row, pairs, section, stack, table
from mgc.report.units import count, names, percent, ranges, shape


def facts(program: Program) -> dict[str, Any]:
    """Crossbars used and available, on each chip, and every group. Ids count crossbars and tiles chip after chip."""
    turns = turns_of(program)
    return {
        "crossbars": used_and_available(program),
        "chips": chips(program),
        "arithmetic": _arithmetic(program.groups[0]) if program.groups else None,
        "groups": [_group(program, g, turns) for g in program.groups],
    }


def _arithmetic(group: CrossbarGroup) -> dict[str, Any]:
    """What all groups of a program have in common."""
    own = ("plane_columns", "input_bits")
    return {key: value for key, value in asdict(group.arithmetic).items() if key not in own}


def turns_of(program: Program) -> dict[int, int]:
    """For each group that is read transposed: the turns that such a read takes, one for each plane of a crossbar."""
    read = {i.group for i in program.instructions if isinstance(i, MvmT)}
    return {g: program.groups[g].arithmetic.planes_per_crossbar for g in sorted(read)}


def used_and_available(program: Program) -> dict[str, int]:
    """{"used", "available"}: distinct crossbars that hold weights, and those of the chip."""
    used = len({c for g in program.groups for c in g.crossbars})
    return {"used": used, "available": int(program.meta.get("crossbars", {}).get("available", 0))}


def chips(program: Program) -> list[dict[str, int]]:
    """{"chip", "used", "available"} of each chip; none for a target that does not say what a chip is."""
    structure = program.target.get("structure")
    if not structure:
        return []
    size = structure["tiles_per_chip"] * structure["macros_per_tile"] * structure["crossbars_per_macro"]
    used = [0] * structure["chips"]
    for crossbar in {c for g in program.groups for c in g.crossbars}:
        used[crossbar // size] += 1
    return [{"chip": chip, "used": count, "available": size} for chip, count in enumerate(used)]


def utilisation(group: CrossbarGroup) -> float:
    """The share of its crossbars' cells that hold a weight."""
    a = group.arithmetic
    cells = group.matrices * group.rows * group.cols * a.slices * a.signs
    return cells / (group.crossbars_per_replica * a.rows * a.cols)


def _chips_of(program: Program, group: CrossbarGroup) -> list[int]:
    structure = program.target.get("structure")
    return sorted({tile // structure["tiles_per_chip"] for tile in group.tiles}) if structure else []


_SIZES = ("matrices", "rows", "cols", "row_blocks", "column_blocks", "crossbars_per_replica", "replicas")


def _group(program: Program, group: CrossbarGroup, turns: Mapping[int, int]) -> dict[str, Any]:
    return {
        "id": group.id,
        "name": group.name,
        "onnx_nodes": list(group.sources),
        **{name: getattr(group, name) for name in _SIZES},
        "plane_columns": group.arithmetic.plane_columns,
        "input_bits": group.arithmetic.input_bits,
        "transposed_turns": turns.get(group.id),
        "crossbars": len(group.crossbars),
        "crossbar_ids": list(group.crossbars),
        "tiles": list(group.tiles),
        "chips": _chips_of(program, group),
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
    if turns := Counter(turns_of(program).values()):
        words = ", ".join(f"{t} turn{'s' * (t > 1)} ({count(n)} groups)" for t, n in sorted(turns.items()))
        head.append(("transposed reads", words))
    apart = chips(program)
    if len(apart) > 1:
        head.append(("chips", "; ".join(f"chip {c['chip']}: {count(c['used'])}" for c in apart)))
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
            *([ranges(_chips_of(program, g))] if len(apart) > 1 else []),
            ranges(g.tiles),
        )
        rows.append(row)
    columns = [
        "~group",
        ">weights",
        ">blocks",
        ">copies",
        ">xbars",
        ">cells",
        *(["~chip"] if len(apart) > 1 else []),
        "~tiles",
    ]
    legend = "weights: matrices × rows × columns; blocks: crossbars down × across, a matrix; cells: share in use"
    return stack(pairs(head), section("Crossbar groups", stack(table(columns, rows), "", legend)))
