"""The part of the page for programs that train: entries, losses, phases, and the versions of weights."""

from __future__ import annotations

from collections.abc import Sequence

from mgc.isa.instructions import Diff, Update
from mgc.isa.program import Program
from mgc.report.html.markup import bar, note, swatch, table
from mgc.report.palette import stage_colour
from mgc.report.timeline import Timeline
from mgc.report.units import count, percent, shape, si


def body(program: Program, entries: Sequence[Timeline]) -> str:
    """Empty for a program that trains nothing."""
    updates = [i for i in program.instructions if isinstance(i, Update)]
    if not updates:
        return ""
    parts = [_entries(program, entries), _phases(entries), _losses(program), _versions(program, entries)]
    return "\n".join(p for p in parts if p)


def _entries(program: Program, entries: Sequence[Timeline]) -> str:
    kinds = {e.name: e for e in program.entries}
    rows = []
    for t in entries:
        entry = kinds.get(t.name)
        repeats = f"{count(entry.repeats)}×" if entry and entry.kind == "train" else "on request"
        micro = f"{count(entry.micro_batch)}" if entry else count(program.micro_batch)
        seconds = si(t.makespan * program.schedule.clock_ns * 1e-9, "s")
        rows.append(
            (
                t.name or program.mode,
                repeats,
                micro,
                count(len(t.tasks)),
                count(t.makespan),
                seconds,
                t.status,
                percent(t.gap),
            )
        )
    columns = ["entry", "an iteration", ">samples at once", ">tasks", ">cycles", ">time", "schedule", ">gap"]
    words = "An iteration runs the entries for training in order. Weights live in the crossbars from one to the next."
    return f"{note(words)}\n{table(columns, rows)}"


def _phases(entries: Sequence[Timeline]) -> str:
    """Cycles that units work in each stage, and when it runs."""
    rows = []
    for t in entries:
        stages: dict[tuple[str, str], list[int]] = {}
        for task in t.tasks:
            stage = t.stages[task.instruction]
            found = stages.setdefault((stage.phase, stage.kind), [0, 0, task.start, task.end])
            found[0] += 1
            found[1] += task.duration
            found[2], found[3] = min(found[2], task.start), max(found[3], task.end)
        total = sum(work for _, work, _, _ in stages.values()) or 1
        phases = list(dict.fromkeys(t.stages[i].phase for i in range(len(t.stages)) if t.stages[i].kind == "update"))
        if not phases or all(p not in phases for p, _ in stages):
            continue
        for (phase, kind), (tasks, work, first, last) in stages.items():
            at = phases.index(phase) if phase in phases else 0
            name = swatch(stage_colour(at, kind, trains=phase in phases), f"{phase}, {kind}")
            rows.append(
                (
                    name,
                    count(tasks),
                    count(work),
                    f"{count(first)} to {count(last)}",
                    percent(work / total),
                    bar(work / total),
                )
            )
    columns = ["phase and stage", ">tasks", ">unit cycles", ">from first to last cycle", ">share", "|"]
    return f"<h3>Phases</h3>\n{table(columns, rows)}"


def _losses(program: Program) -> str:
    diffs = [i for i in program.instructions if isinstance(i, Diff)]
    kinds = {loss["name"]: loss for loss in program.meta.get("losses", ())}
    rows = []
    for loss in kinds.values():
        rows.append((loss["name"], loss["kind"], count(loss["branches"])))
    parts = ["<h3>Losses</h3>", table(["loss", "recognised as", ">diff-block branches"], rows)] if rows else []
    if diffs:
        described = [
            (
                program.buffers[i.loss].name if i.loss >= 0 else "",
                ", ".join(program.buffers[d].name for d in i.deltas if d >= 0),
                shape(program.buffers[next((d for d in i.deltas if d >= 0), i.loss)].shape),
                program.units[i.unit].name,
                count(i.duration),
                count(i.id),
            )
            for i in diffs
        ]
        columns = ["~loss value", "~error delta", ">scores", "unit", ">cycles", ">instruction"]
        parts += [
            note("Each branch of a loss is one run of the diff-block: it yields the loss and the error delta at once."),
            table(columns, described),
        ]
    return "\n".join(parts)


def _versions(program: Program, entries: Sequence[Timeline]) -> str:
    """For every trained weight: who reads the version it had, when it is written, who reads the new one."""
    rows = []
    for state in program.states:
        if state.kind != "parameter":
            continue
        groups = {p.group for p in state.pieces if p.group >= 0}
        buffers = {program.root(p.buffer) for p in state.pieces if p.buffer >= 0}
        for t in entries:
            written = [
                task
                for task in t.tasks
                if isinstance(i := program.instructions[task.instruction], Update)
                and (i.group in groups or (i.parameter >= 0 and program.root(i.parameter) in buffers))
            ]
            if not written:
                continue
            first, last = min(w.start for w in written), max(w.end for w in written)
            old, new = 0, 0
            for task in t.tasks:
                i = program.instructions[task.instruction]
                reads = not groups.isdisjoint(i.reads_groups()) or not buffers.isdisjoint(map(program.root, i.reads()))
                if reads and not isinstance(i, Update):
                    old += task.start < last
                    new += task.start >= last
            home = ", ".join(program.groups[g].name for g in sorted(groups)[:3])
            home += f" and {len(groups) - 3} more" if len(groups) > 3 else ""
            rows.append(
                (state.name, state.phase, home or "buffer", count(old), f"{count(first)} to {count(last)}", count(new))
            )
    if not rows:
        return ""
    columns = ["~parameter", "phase", "~lives in", ">reads of the old version", ">written, cycles", ">reads of the new"]
    words = (
        "Every read names the version it needs: those before the update see the old weights, those after it the new."
    )
    return f"<h3>Versions of weights</h3>\n{note(words)}\n{table(columns, rows)}"
