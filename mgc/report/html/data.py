"""What the scripts of the page draw: plain values, in columns where there are many."""

from __future__ import annotations

from typing import Any

from mgc.isa.crossbar import CrossbarGroup
from mgc.isa.program import Program
from mgc.report.occupancy import buffer_bytes, busy_crossbars
from mgc.report.palette import CATEGORIES, OPCODE_COLOURS, STAGE_COLOURS, STOPS
from mgc.report.timeline import KIND_NAMES, Timeline
from mgc.report.views.mapping import utilisation


def page_data(program: Program, entries: tuple[Timeline, ...]) -> dict[str, Any]:
    """Instructions, schedules (one for each entry), the floor plan and the palette."""
    nodes: dict[str, int] = {}
    timeline = entries[0]
    instructions = []
    for i in program.instructions:
        stage = timeline.stages[i.id]
        instructions.append(
            {
                "label": timeline.labels[i.id],
                "op": i.mnemonic,
                "unit": i.unit,
                "phase": stage.phase,
                "kind": stage.kind,
                "nodes": [nodes.setdefault(n, len(nodes)) for n in timeline.nodes[i.id]],
            }
        )
    return {
        "clock_ns": program.clock_ns,
        "instructions": instructions,
        "nodes": list(nodes),
        "units": [{"name": u.name, "kind": u.kind} for u in program.units],
        "kinds": KIND_NAMES,
        "phases": list(dict.fromkeys(p for t in entries for p in t.phases)),
        "schedules": [_schedule(t) for t in entries],
        "floor": floor_plan(program),
        "palette": {
            "ops": OPCODE_COLOURS,
            "ordered": ["#" + "".join(f"{c:02x}" for c in stop) for stop in STOPS],
            "stages": STAGE_COLOURS,
            "categories": CATEGORIES,
        },
    }


def _schedule(timeline: Timeline) -> dict[str, Any]:
    offsets, deps = [0], []
    for task in timeline.tasks:
        deps += task.deps
        offsets.append(len(deps))
    return {
        "name": timeline.name,
        "makespan": timeline.span,
        "micro_batches": timeline.micro_batches,
        "rows": [{"unit": u, "busy": timeline.busy(u) / timeline.span} for u in timeline.by_unit],
        "instruction": [t.instruction for t in timeline.tasks],
        "micro_batch": [t.micro_batch for t in timeline.tasks],
        "start": [t.start for t in timeline.tasks],
        "end": [t.end for t in timeline.tasks],
        "offsets": offsets,
        "deps": deps,
        "critical": [t.id for t in timeline.critical],
        "counters": [
            {"name": "crossbars at work", "unit": "", "steps": busy_crossbars(timeline)},
            *(
                {"name": f"{space} in use", "unit": "B", "steps": steps}
                for space, steps in buffer_bytes(timeline).items()
            ),
        ],
    }


def floor_plan(program: Program) -> dict[str, Any] | None:
    """Chips of tiles of crossbars, and which group lies where; None for a target that does not state its structure."""
    structure, noc = program.target.get("structure"), program.target.get("noc", {})
    if not structure or not program.groups:
        return None
    layers: dict[str, int] = {}
    phase_of = {p.group: s.phase for s in program.states for p in s.pieces if p.group >= 0}
    groups = []
    for group in program.groups:
        phase = phase_of.get(group.id, "")
        layer = ", ".join(group.sources) or group.name
        key = f"{phase}: {layer}" if phase else layer
        groups.append({**_group(group), "layer": layers.setdefault(key, len(layers))})
    return {
        "chips": structure["chips"],
        "tiles_per_chip": structure["tiles_per_chip"],
        "macros_per_tile": structure["macros_per_tile"],
        "crossbars_per_macro": structure["crossbars_per_macro"],
        "mesh_columns": noc.get("mesh_columns", 1),
        "tiles_per_router": noc.get("tiles_per_router", 1),
        "layers": list(layers),
        "groups": groups,
    }


def _group(group: CrossbarGroup) -> dict[str, Any]:
    """`runs` are [first crossbar, how many] in the order of replicas."""
    runs: list[list[int]] = []
    for crossbar in group.crossbars:
        if runs and crossbar == runs[-1][0] + runs[-1][1]:
            runs[-1][1] += 1
        else:
            runs.append([crossbar, 1])
    return {
        "name": group.name,
        "replicas": group.replicas,
        "per_replica": group.crossbars_per_replica,
        "weights": [group.matrices, group.rows, group.cols],
        "used": utilisation(group),
        "runs": runs,
    }
