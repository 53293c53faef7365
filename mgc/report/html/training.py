"""The part of the page for programs that train: entries, losses, phases, and the versions of weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mgc.isa.instructions import Diff, Update
from mgc.isa.program import Program
from mgc.isa.state import StoredState
from mgc.report.curves import draw as curves
from mgc.report.html.markup import bar, note, swatch, table
from mgc.report.palette import stage_colour
from mgc.report.timeline import Task, Timeline
from mgc.report.units import count, percent, shape, si


def body(program: Program, entries: Sequence[Timeline]) -> str:
    """Empty for a program that trains nothing."""
    updates = [i for i in program.instructions if isinstance(i, Update)]
    if not updates:
        return ""
    parts = [_entries(program, entries), _phases(entries), _losses(program), _versions(program, entries)]
    return "\n".join(p for p in parts if p)


def _entries(program: Program, entries: Sequence[Timeline]) -> str:
    rows = []
    for t in entries:
        entry, plan = t.entries[0], t.entries[0].schedule
        repeats = f"{count(entry.repeats)}×" if entry.kind == "train" else "on request"
        seconds = si(t.makespan * program.clock_ns * 1e-9, "s")
        rows.append(
            (
                entry.name,
                repeats,
                count(entry.micro_batch),
                count(len(t.tasks)),
                count(t.makespan),
                seconds,
                plan.status,
                percent(plan.gap),
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
            colour = stage_colour(at, kind, trains=phase in phases)
            name = swatch(colour, f"{phase}, {kind}")
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
            note("Lines: f and its derivative. Dots: what the block's tables give, on scores from -8 to 8, unscaled."),
            f'<figure class="curves">{curves(program, program.name)}</figure>',
        ]
    return "\n".join(parts)


def _versions(program: Program, entries: Sequence[Timeline]) -> str:
    """For every trained weight: who reads the version it had, when it is written, who reads the new one."""
    rows = []
    for state in program.states:
        if state.kind != "parameter":
            continue
        homes = {(p.group, -1 if p.buffer < 0 else program.root(p.buffer)) for p in state.pieces}
        for t in entries:
            written: dict[tuple[int, int], list[Task]] = {}
            for task in t.tasks:
                i = program.instructions[task.instruction]
                if isinstance(i, Update):
                    home = (i.group, -1) if i.group >= 0 else (-1, program.root(i.parameter))
                    if home in homes:
                        written.setdefault(home, []).append(task)
            if written:
                rows.append(_version(program, t, state, written))
    if not rows:
        return ""
    columns = ["~parameter", "phase", "~lives in", ">reads of the old version", ">written, cycles", ">reads of the new"]
    words = "Reads that start before the update of their weights ends see the old version, all others the new one."
    return f"<h3>Versions of weights</h3>\n{note(words)}\n{table(columns, rows)}"


def _version(
    program: Program, timeline: Timeline, state: StoredState, written: Mapping[tuple[int, int], Sequence[Task]]
) -> tuple[str, ...]:
    """The row of a state; `written` has the updates of each of its homes: (group, -1) or (-1, buffer)."""
    ends = {home: max(task.end for task in tasks) for home, tasks in written.items()}
    old = new = 0
    for task in timeline.tasks:
        i = program.instructions[task.instruction]
        if isinstance(i, Update):
            continue
        read = [(g, -1) for g in i.reads_groups()] + [(-1, program.root(b)) for b in i.reads()]
        late = [task.start >= ends[home] for home in read if home in ends]
        if late:
            old, new = old + (not late[0]), new + late[0]
    groups = [program.groups[g].name for g, _ in sorted(written) if g >= 0]
    lives = ", ".join(groups[:3]) + (f" and {len(groups) - 3} more" if len(groups) > 3 else "")
    first = min(task.start for tasks in written.values() for task in tasks)
    when = f"{count(first)} to {count(max(ends.values()))}"
    return state.name, state.phase, lives or "buffer", count(old), when, count(new)
