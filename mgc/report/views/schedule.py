"""The schedule: units, tasks, how busy each unit is."""

from __future__ import annotations

from typing import Any

from rich.console import RenderableType

from mgc.isa.program import Program
from mgc.report import trace
from mgc.report.text import Column, pairs, section, stack, table
from mgc.report.timeline import Timeline
from mgc.report.units import count, percent, si

_BAR = 20


def facts(program: Program) -> dict[str, Any]:
    """The JSON of design section 10. Task ids count micro-batch by micro-batch, in instruction order.

    `phase` is the trained group whose step a task is part of; outside training the mode, or the entry's name.
    """
    timeline = Timeline.of(program)
    schedule = program.schedule
    return {
        "clock_ns": schedule.clock_ns,
        "makespan_cycles": schedule.makespan,
        "units": [{"name": u.name, "kind": u.kind, "capacity": 1} for u in program.units],
        "tasks": [
            {
                "id": task.id,
                "name": timeline.labels[task.instruction],
                "op": program.instructions[task.instruction].mnemonic,
                "unit": program.units[task.unit].name,
                "phase": timeline.stages[task.instruction].phase,
                "micro_batch": task.micro_batch,
                "start": task.start,
                "duration": task.duration,
                "onnx_nodes": list(timeline.nodes[task.instruction]),
                "deps": list(task.deps),
            }
            for task in timeline.tasks
        ],
    }


def status_line(program: Program) -> str:
    """How good the schedule is: "OPTIMAL: 12,000 cycles (12.0 µs), proven bound 12,000, gap 0.0 %"."""
    s = program.schedule
    time = si(s.makespan * s.clock_ns * 1e-9, "s")
    return f"{s.status}: {count(s.makespan)} cycles ({time}), proven bound {count(s.lower_bound)}, gap {percent(s.gap)}"


def render(program: Program) -> RenderableType:
    """Units with their load, then the tasks of the first micro-batch in order of start."""
    schedule = program.schedule
    busy = dict.fromkeys(range(len(program.units)), 0)
    tasks = dict.fromkeys(busy, 0)
    timed = [i for i in program.instructions if trace.is_task(program, i)]
    for instruction in timed:
        busy[instruction.unit] += instruction.duration * program.micro_batches
        tasks[instruction.unit] += program.micro_batches
    span = max(schedule.makespan, 1)
    units = [
        (u.name, u.kind, count(tasks[u.id]), count(busy[u.id]), percent(busy[u.id] / span), _bar(busy[u.id] / span))
        for u in program.units
        if tasks[u.id]
    ]
    first = sorted(timed, key=lambda i: (int(schedule.starts[i.id, 0]), i.id))
    rows = [
        (
            count(int(schedule.starts[i.id, 0])),
            count(int(schedule.starts[i.id, 0]) + i.duration),
            program.units[i.unit].name,
            trace.label(program, i),
        )
        for i in first
    ]
    head = pairs(
        [
            ("schedule", status_line(program)),
            ("clock", f"{schedule.clock_ns:g} ns"),
            ("tasks", f"{count(len(timed) * program.micro_batches)} in {count(program.micro_batches)} micro-batches"),
        ]
    )
    load = table(
        [
            Column("unit", fold=True),
            Column("kind"),
            Column("tasks", number=True),
            Column("busy", number=True),
            Column("share", number=True),
            Column(""),
        ],
        units,
    )
    order = table(
        [
            Column("start", number=True),
            Column("end", number=True),
            Column("unit", fold=True),
            Column("task", fold=True),
        ],
        rows,
    )
    return stack(head, section("Units (busy, in cycles)", load), section("Micro-batch 0, in order of start", order))


def _bar(share: float) -> str:
    return "█" * round(_BAR * min(share, 1.0))
