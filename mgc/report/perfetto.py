"""The schedule as a Chrome trace in JSON, for ui.perfetto.dev and chrome://tracing.

Format: "Trace Event Format" (Google, the JSON Object Format). A process is a kind of unit, a thread a unit, a complete
event ("X") a task, a flow ("s" to "f") a dependency; counters ("C") show crossbars at work and bytes in use.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from mgc.isa.program import Program
from mgc.report.occupancy import Steps, buffer_bytes, busy_crossbars
from mgc.report.timeline import KIND_NAMES, KINDS, Timeline, unit_order

Event = dict[str, Any]

_PLAN = len(KINDS) + 2
"""The process of what belongs to no unit: entries and counters."""


def draw(program: Program, title: str) -> str:
    """The trace, an event a line. The same program gives the same text."""
    timeline = Timeline.of(program)
    other = {
        "program": title,
        "target": str(program.target.get("name", "")),
        "clock_ns": program.clock_ns,
        "makespan_cycles": program.iteration_cycles,
    }
    lines = ",\n".join(json.dumps(event, allow_nan=False) for event in _events(timeline))
    return f'{{"displayTimeUnit": "ns", "otherData": {json.dumps(other)}, "traceEvents": [\n{lines}\n]}}\n'


def _events(timeline: Timeline) -> Iterator[Event]:
    yield from _names(timeline)
    yield from _entries(timeline)
    for tasks in timeline.by_unit.values():
        for task in tasks:
            yield _task(timeline, task.id)
    yield from _flows(timeline)
    yield from _counter(timeline, "busy crossbars", "crossbars", busy_crossbars(timeline))
    for space, steps in buffer_bytes(timeline).items():
        yield from _counter(timeline, f"bytes in {space}", "bytes", steps)


def _pid(kind: str) -> int:
    """The process of a kind of unit."""
    return 1 + (KINDS.index(kind) if kind in KINDS else len(KINDS))


def _us(timeline: Timeline, cycles: int) -> float:
    """The trace's time: microseconds."""
    return round(cycles * timeline.program.clock_ns / 1000, 6)


def _names(timeline: Timeline) -> Iterator[Event]:
    """Names and order of processes and threads."""

    def named(what: str, pid: int, tid: int, **args: Any) -> Event:
        return {"ph": "M", "name": what, "pid": pid, "tid": tid, "args": args}

    yield named("process_name", _PLAN, 0, name="plan")
    yield named("process_sort_index", _PLAN, 0, sort_index=0)
    units = [u for u in unit_order(timeline.program.units) if u.id in timeline.by_unit]
    for kind in dict.fromkeys(u.kind for u in units):
        yield named("process_name", _pid(kind), 0, name=KIND_NAMES.get(kind, kind))
        yield named("process_sort_index", _pid(kind), 0, sort_index=_pid(kind))
    for place, unit in enumerate(units):
        yield named("thread_name", _pid(unit.kind), unit.id + 1, name=unit.name)
        yield named("thread_sort_index", _pid(unit.kind), unit.id + 1, sort_index=place)


def _entries(timeline: Timeline) -> Iterator[Event]:
    """The entries, one after the other, on a track of their own."""
    for entry in timeline.entries:
        plan, origin = entry.schedule, timeline.origins[entry.id]
        start = _us(timeline, origin)
        yield {
            "ph": "X",
            "name": entry.name,
            "cat": entry.kind,
            "pid": _PLAN,
            "tid": 0,
            "ts": start,
            "dur": round(_us(timeline, origin + plan.makespan) - start, 6),
            "args": {"status": plan.status, "lower_bound_cycles": plan.lower_bound, "repeats": entry.repeats},
        }


def _task(timeline: Timeline, number: int) -> Event:
    task = timeline.tasks[number]
    instruction = timeline.program.instructions[task.instruction]
    stage = timeline.stages[task.instruction]
    start = _us(timeline, task.start)
    return {
        "ph": "X",
        "name": timeline.labels[task.instruction],
        "cat": f"{instruction.mnemonic},{stage.kind}",
        "pid": _pid(timeline.program.units[task.unit].kind),
        "tid": task.unit + 1,
        "ts": start,
        "dur": round(_us(timeline, task.end) - start, 6),
        "args": {
            "task": task.id,
            "instruction": task.instruction,
            "micro_batch": task.micro_batch,
            "phase": stage.phase,
            "stage": stage.kind,
            "start_cycle": task.start,
            "cycles": task.duration,
            "onnx_nodes": list(timeline.nodes[task.instruction]),
        },
    }


def _flows(timeline: Timeline) -> Iterator[Event]:
    """An arrow for each dependency. Its ends bind to the slices around them, so it leaves in the last nanosecond (which
    is what viewers count in) of the one and arrives at the start of the other.
    """
    number = 0
    for task in timeline.tasks:
        for d in task.deps:
            source = timeline.tasks[d]
            common: Event = {"name": "dependency", "cat": "dependency", "id": number}
            begin, end = (round(1000 * _us(timeline, cycle)) for cycle in (source.start, source.end))
            yield {"ph": "s", **common, **_place(timeline, source.unit), "ts": max(begin, end - 1) / 1000}
            yield {"ph": "f", "bp": "e", **common, **_place(timeline, task.unit), "ts": _us(timeline, task.start)}
            number += 1


def _place(timeline: Timeline, unit: int) -> Event:
    return {"pid": _pid(timeline.program.units[unit].kind), "tid": unit + 1}


def _counter(timeline: Timeline, name: str, series: str, steps: Steps) -> Iterator[Event]:
    for cycle, value in steps:
        yield {"ph": "C", "name": name, "pid": _PLAN, "tid": 0, "ts": _us(timeline, cycle), "args": {series: value}}
