"""The schedule: a chart of it, its critical path, units and how busy they are, tasks."""

from __future__ import annotations

from typing import Any

from rich.console import RenderableType

from mgc.isa.entry import Entry
from mgc.isa.program import Program
from mgc.isa.traffic import channel_rate, offchip_bytes
from mgc.report.gantt import Gantt
from mgc.report.text import pairs, section, stack, table
from mgc.report.timeline import Task, Timeline, timelines
from mgc.report.units import count, percent, si

_BAR = 20
_LONGEST_LIST = 24
_LONGEST_ORDER = 48
_MOST_UNITS = 48


def facts(program: Program) -> dict[str, Any]:
    """The schedule as JSON, which scripts rely on (docs/inspection.md).

    Task ids count micro-batch by micro-batch, in instruction order.

    A task's `start` counts from its entry's; `phase` is the trained group whose step it is part of, outside training
    the entry's name. It moves its `offchip_bytes` at an even rate while it runs, over a channel that all tasks share.
    `makespan_cycles` is that of an iteration: of the entries for training as often as they run, in a program without
    them that of its entry; those of each entry are of one run, `period_cycles` from one to the next.
    """
    timeline = Timeline.of(program)
    names = {e.id: e.name for e in program.entries}
    moved = {
        i.id: offchip_bytes(program, e, i) for e in program.entries for i in program.instructions[e.first : e.stop]
    }
    return {
        "clock_ns": program.clock_ns,
        "makespan_cycles": program.iteration_cycles,
        "units": [{"name": u.name, "kind": u.kind, "capacity": 1} for u in program.units],
        "tasks": [
            {
                "id": task.id,
                "name": timeline.labels[task.instruction],
                "op": program.instructions[task.instruction].mnemonic,
                "unit": program.units[task.unit].name,
                "phase": timeline.stages[task.instruction].phase,
                "micro_batch": task.micro_batch,
                "start": task.start - timeline.origins[task.entry],
                "duration": task.duration,
                "offchip_bytes": moved[task.instruction],
                "onnx_nodes": list(timeline.nodes[task.instruction]),
                "deps": list(task.deps),
                "entry": names[task.entry],
            }
            for task in timeline.tasks
        ],
        "offchip_bytes_per_cycle": channel_rate(program),
        "entries": [
            {
                "name": e.name,
                "kind": e.kind,
                "repeats": e.repeats,
                "makespan_cycles": e.schedule.makespan,
                "period_cycles": e.schedule.period,
            }
            for e in program.entries
        ],
    }


def status_of(program: Program) -> str:
    """CP-SAT's word for the schedules of an iteration: that of the first that is not proven best."""
    found = [e.schedule.status for e in program.iteration]
    return next((s for s in found if s != "OPTIMAL"), "OPTIMAL")


def status_line(program: Program) -> str:
    """How good the schedule is: "OPTIMAL: 12,000 cycles (12.0 µs), proven bound 12,000, gap 0.0 %".

    Of an iteration; where runs overlap, the distance from one to the next counts.
    """
    first, *others = program.iteration
    each = " from one run to the next" if not others and first.schedule.interval else ""
    return _line(status_of(program), program.iteration_cycles, program.iteration_bound, program.clock_ns, each)


def plan_line(program: Program, entry: Entry) -> str:
    """The same of one run of an entry."""
    plan = entry.schedule
    each = " from one run to the next" if plan.interval else ""
    return _line(plan.status, plan.period, plan.lower_bound, program.clock_ns, each)


def _line(status: str, cycles: int, bound: int, clock_ns: float, each: str) -> str:
    time, gap = si(cycles * clock_ns * 1e-9, "s"), percent(cycles / bound - 1 if bound else 0.0)
    return f"{status}: {count(cycles)} cycles ({time}){each}, proven bound {count(bound)}, gap {gap}"


def render(program: Program) -> RenderableType:
    """For each entry a chart, the critical path, units with their load, and the first micro-batch in order of start."""
    whole = Timeline.of(program)
    micro = f"{count(whole.micro_batches)} micro-batch{'es' * (whole.micro_batches != 1)}"
    head = [
        ("schedule", status_line(program)),
        ("clock", f"{program.clock_ns:g} ns"),
        ("tasks", f"{count(len(whole.tasks))} in {micro}"),
    ]
    parts = [pairs(head)]
    for timeline in timelines(program):
        title = f"Entry {timeline.name}: {plan_line(program, timeline.entries[0])}"
        parts.append(section(title, Gantt(timeline), indent=0))
        beginning = Gantt.of_beginning(timeline)
        if beginning is not None:
            parts.append(section(f"The beginning: cycles 0 to {count(beginning.until)}", beginning, indent=0))
        parts += [_critical(timeline), _units(timeline), _order(timeline)]
    return stack(*parts)


def _critical(timeline: Timeline) -> RenderableType:
    """The chain that the end waits for; repetitions of an instruction on a unit are one line."""
    runs: list[list[Task]] = []
    for task in timeline.critical:
        if runs and (runs[-1][-1].instruction, runs[-1][-1].unit) == (task.instruction, task.unit):
            runs[-1].append(task)
        else:
            runs.append([task])
    shown = runs
    if len(runs) > _LONGEST_LIST:
        longest = sorted(range(len(runs)), key=lambda k: (runs[k][0].start - runs[k][-1].end, k))[:_LONGEST_LIST]
        shown = [runs[k] for k in sorted(longest)]
    rows = [
        (
            count(run[0].start),
            count(run[-1].end - run[0].start),
            percent((run[-1].end - run[0].start) / timeline.span),
            timeline.program.units[run[0].unit].name,
            timeline.labels[run[0].instruction] + (f" ×{len(run)}" if len(run) > 1 else ""),
        )
        for run in shown
    ]
    few = f", its {len(shown)} longest of {count(len(runs))} steps" if len(shown) < len(runs) else ""
    columns = [">start", ">cycles", ">share", "~unit", "~task"]
    return section(f"Critical path{few}", table(columns, rows))


def _units(timeline: Timeline) -> RenderableType:
    """Every unit with its load; of very many the busiest."""
    busy = {u: timeline.busy(u) / timeline.span for u in timeline.by_unit}
    kept = set(sorted(busy, key=lambda u: (-busy[u], u))[:_MOST_UNITS])
    rows = [
        (
            timeline.program.units[u].name,
            timeline.program.units[u].kind,
            count(len(tasks)),
            count(timeline.busy(u)),
            percent(busy[u]),
            _bar(busy[u]),
        )
        for u, tasks in timeline.by_unit.items()
        if u in kept
    ]
    columns = ["~unit", "kind", ">tasks", ">busy", ">share", ""]
    few = f", the {len(kept)} busiest of {count(len(busy))}" if len(kept) < len(busy) else ""
    return section(f"Units (busy, in cycles){few}", table(columns, rows))


def _order(timeline: Timeline) -> RenderableType:
    """The first micro-batch, or the first tasks of it."""
    first = sorted((t for t in timeline.tasks if t.micro_batch == 0), key=lambda t: (t.start, t.instruction))
    rows = [
        (count(t.start), count(t.end), timeline.program.units[t.unit].name, timeline.labels[t.instruction])
        for t in first[:_LONGEST_ORDER]
    ]
    columns = [">start", ">end", "~unit", "~task"]
    few = f": the first {len(rows)} of {count(len(first))} tasks (all: --format json)" if len(rows) < len(first) else ""
    return section(f"Micro-batch 0, in order of start{few}", table(columns, rows))


def _bar(share: float) -> str:
    return "█" * round(_BAR * min(share, 1.0))
