"""The schedule as a Gantt chart in SVG: units as rows by kind, colours for micro-batches or stages, cycles and time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from xml.sax.saxutils import escape

from mgc.isa.program import Program
from mgc.report.palette import OPCODE_COLOURS, ink_on, ordered, stage_colour
from mgc.report.timeline import KIND_NAMES, Task, Timeline
from mgc.report.units import count, percent, si
from mgc.report.views.schedule import status_line

_WIDTH = 1400
_LEFT, _RIGHT, _TOP, _BOTTOM = 230, 64, 118, 58
_CHARACTER = 0.56  # width of a character of the sans font, in font sizes
_SLIVER = 0.6  # bars below this many pixels are joined with their neighbours of the same colour


@dataclass(frozen=True)
class _Bar:
    start: int
    end: int
    colour: str
    label: str
    hover: str
    tasks: int = 1


@dataclass(frozen=True)
class _Row:
    kind: str
    name: str
    load: float
    bars: tuple[_Bar, ...]


def draw(program: Program, title: str) -> str:
    """The whole picture. The same program gives the same text."""
    timeline = Timeline.of(program)
    colours = _Colours(timeline)
    rows = _rows(timeline, colours)
    kinds = [kind for kind, _ in groupby(rows, lambda r: r.kind)]
    height = 22 if len(rows) <= 40 else 16 if len(rows) <= 120 else 12
    band = 20
    plot = len(rows) * height + len(kinds) * band
    total = _TOP + plot + _BOTTOM
    scale = (_WIDTH - _LEFT - _RIGHT) / timeline.span
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{total}" '
        f'viewBox="0 0 {_WIDTH} {total}" font-family="Helvetica, Arial, DejaVu Sans, sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{total}" fill="#ffffff"/>',
        *_heading(program, title),
        *_legend(colours),
    ]
    bars: list[str] = []
    y = float(_TOP)
    for kind, of_kind in groupby(rows, lambda r: r.kind):
        parts.append(f'<rect x="0" y="{y:g}" width="{_WIDTH}" height="{band}" fill="#f1f3f5"/>')
        parts.append(_text(16, y + 14, KIND_NAMES.get(kind, kind), size=11, weight="bold", fill="#495057"))
        y += band
        for row in of_kind:
            bars.extend(_row(row, y, height, scale))
            y += height
    parts += [*_axis(timeline, scale, plot), *bars, *_entries(timeline, scale, plot), "</svg>"]
    return "\n".join(parts) + "\n"


@dataclass(frozen=True)
class _Colours:
    """What bars are coloured by: stages in training, else micro-batches, else (with one of them) instructions."""

    timeline: Timeline

    @cached_property
    def trained(self) -> tuple[str, ...]:
        found = (self.timeline.stages[t.instruction] for t in self.timeline.tasks)
        return tuple(dict.fromkeys(s.phase for s in found if s.kind == "update"))

    @property
    def by(self) -> str:
        return "stage" if self.trained else "micro-batch" if self.timeline.micro_batches > 1 else "instruction"

    def of(self, task: Task) -> str:
        if self.by == "stage":
            stage = self.timeline.stages[task.instruction]
            trains = stage.phase in self.trained
            return stage_colour(self.trained.index(stage.phase) if trains else 0, stage.kind, trains=trains)
        if self.by == "micro-batch":
            return self.micro_batch(task.micro_batch)
        return OPCODE_COLOURS.get(self.timeline.program.instructions[task.instruction].mnemonic, "#868e96")

    def micro_batch(self, k: int) -> str:
        return ordered(k / max(self.timeline.micro_batches - 1, 1))

    def name(self, task: Task) -> str:
        if self.by == "stage":
            stage = self.timeline.stages[task.instruction]
            return f"{stage.phase} {stage.kind}" if stage.phase in self.trained else stage.phase
        return self.timeline.program.instructions[task.instruction].mnemonic


def _rows(timeline: Timeline, colours: _Colours) -> list[_Row]:
    rows = []
    for unit, tasks in timeline.by_unit.items():
        bars = tuple(_bar(timeline, colours, task) for task in tasks)
        load = timeline.busy(unit) / timeline.span
        rows.append(_Row(timeline.program.units[unit].kind, timeline.program.units[unit].name, load, bars))
    return rows


def _bar(timeline: Timeline, colours: _Colours, task: Task) -> _Bar:
    stage = timeline.stages[task.instruction]
    nodes = ", ".join(timeline.nodes[task.instruction])
    lines = [
        timeline.labels[task.instruction],
        *([f"{stage.phase}, {stage.kind}"] if colours.trained else []),
        f"micro-batch {task.micro_batch}",
        f"cycles {count(task.start)} to {count(task.end)} ({count(task.duration)})",
        *([nodes] if nodes else []),
    ]
    inside = _inside(timeline, task)
    return _Bar(task.start, task.end, colours.of(task), inside, "\n".join(lines))


def _inside(timeline: Timeline, task: Task) -> str:
    """What a bar says: not again what its row is called, but the ONNX node."""
    instruction = timeline.program.instructions[task.instruction]
    subject = timeline.labels[task.instruction].removeprefix(f"{instruction.mnemonic} ")
    if subject != timeline.program.units[task.unit].name:
        return subject
    return ", ".join(timeline.nodes[task.instruction])


def _entries(timeline: Timeline, scale: float, plot: int) -> Iterator[str]:
    """Lines between the entries."""
    for entry in timeline.entries[1:]:
        x = _LEFT + timeline.origins[entry.id] * scale
        yield (
            f'<g><title>{escape(f"here begins {entry.name}")}</title><line x1="{x:.2f}" y1="{_TOP}" x2="{x:.2f}" '
            f'y2="{_TOP + plot}" stroke="#495057" stroke-dasharray="2 3"/></g>'
        )


def _heading(program: Program, title: str) -> list[str]:
    batch = program.iteration[0].batch
    line = f"{title} on {program.target.get('name', 'unnamed target')}, batch {batch}"
    return [_text(16, 32, line, size=19, weight="bold"), _text(16, 56, status_line(program), size=13, fill="#495057")]


def _legend(colours: _Colours) -> list[str]:
    tasks, micro_batches = colours.timeline.tasks, colours.timeline.micro_batches
    if colours.by != "micro-batch":
        named = {colours.name(task): colours.of(task) for task in tasks}
        return _swatches([(colour, name) for name, colour in named.items()], colours.by)
    if micro_batches <= 16:
        return _swatches([(colours.micro_batch(k), str(k)) for k in range(micro_batches)], "micro-batch")
    parts = [_text(16, 84, "micro-batch", size=11, fill="#495057"), _text(96, 84, "0", size=11)]
    for step in range(64):
        parts.append(f'<rect x="{108 + 4 * step}" y="74" width="4.5" height="13" fill="{ordered(step / 63)}"/>')
    return [*parts, _text(372, 84, str(micro_batches - 1), size=11)]


def _swatches(items: Sequence[tuple[str, str]], title: str) -> list[str]:
    parts = [_text(16, 84, title, size=11, fill="#495057")]
    x = 96.0
    for colour, name in items:
        parts.append(f'<rect x="{x:g}" y="74" width="13" height="13" rx="2" fill="{colour}"/>')
        parts.append(_text(x + 17, 84, name, size=11))
        x += 17 + 11 * _CHARACTER * len(name) + 14
    return parts


def _axis(timeline: Timeline, scale: float, plot: int) -> list[str]:
    """Cycles above the rows, time below them, with lines through."""
    program, span = timeline.program, max(timeline.makespan, 1)
    bottom = _TOP + plot
    parts = [
        _text(_LEFT - 34, _TOP - 8, "cycles", size=11, anchor="end", fill="#495057"),
        _text(_LEFT - 34, bottom + 20, "time", size=11, anchor="end", fill="#495057"),
        _text(_WIDTH - 8, _TOP - 8, "busy", size=11, anchor="end", fill="#495057"),
    ]
    step = _nice(span / 9)
    for cycle in range(0, span + 1, step):
        x = _LEFT + cycle * scale
        parts.append(f'<line x1="{x:.2f}" y1="{_TOP}" x2="{x:.2f}" y2="{bottom + 5}" stroke="#dee2e6"/>')
        parts.append(_text(x, _TOP - 8, count(cycle), size=11, anchor="middle", fill="#495057"))
        parts.append(_text(x, bottom + 20, _time(cycle, program), size=11, anchor="middle", fill="#495057"))
    end = _LEFT + span * scale
    parts.append(
        f'<line x1="{end:.2f}" y1="{_TOP}" x2="{end:.2f}" y2="{bottom + 30}" stroke="#e03131" stroke-dasharray="4 3"/>'
    )
    label = f"end: {count(timeline.makespan)} cycles, {_time(timeline.makespan, program)}"
    parts.append(_text(end, bottom + 46, label, size=11, anchor="end", fill="#e03131"))
    return parts


def _time(cycles: int, program: Program) -> str:
    return si(cycles * program.clock_ns * 1e-9, "s")


def _nice(value: float) -> int:
    """The least of 1, 2, 5, 10, 20 ... that is not below the value."""
    power = 10 ** max(0, math.floor(math.log10(max(value, 1))))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= value)


def _row(row: _Row, y: float, height: int, scale: float) -> Iterator[str]:
    middle = y + height / 2
    size = min(11, height - 1)
    name = _shortened(row.name, int((_LEFT - 28) / (size * _CHARACTER)))
    yield f'<line x1="0" y1="{y + height:g}" x2="{_WIDTH}" y2="{y + height:g}" stroke="#f1f3f5"/>'
    yield (
        f"<g><title>{escape(row.name)}</title>{_text(_LEFT - 10, middle + size * 0.36, name, size=size, anchor='end')}"
        "</g>"
    )
    yield _text(_WIDTH - 8, middle + size * 0.36, percent(row.load), size=size, anchor="end", fill="#868e96")
    inset = 2 if height >= 16 else 1
    for bar in _joined(row.bars, scale):
        x, width = _LEFT + bar.start * scale, max((bar.end - bar.start) * scale, 0.75)
        outline = ' stroke="#ffffff" stroke-width="0.6"' if width >= 3 else ""
        yield (
            f'<g><title>{escape(bar.hover)}</title><rect x="{x:.2f}" y="{y + inset:g}" width="{width:.2f}" '
            f'height="{height - 2 * inset}" rx="{2 if width > 6 else 0}" fill="{bar.colour}"{outline}/>'
            + (_bar_label(bar, x, width, middle) if height >= 16 else "")
            + "</g>"
        )


def _bar_label(bar: _Bar, x: float, width: float, middle: float) -> str:
    room = int((width - 8) / (10 * _CHARACTER))
    if room < min(len(bar.label), 12):
        return ""
    return _text(x + 4, middle + 3.6, _shortened(bar.label, room), size=10, fill=ink_on(bar.colour))


def _joined(bars: Sequence[_Bar], scale: float) -> Iterator[_Bar]:
    """Slivers that could not be told apart become one bar that says how many tasks it stands for."""
    last: _Bar | None = None
    for bar in bars:
        small = (bar.end - bar.start) * scale < _SLIVER
        if last and small and bar.colour == last.colour and (bar.start - last.end) * scale < _SLIVER and last.tasks:
            first = last.hover if last.tasks == 1 else last.hover.split("\n", 1)[1]
            tasks = last.tasks + 1
            last = _Bar(
                last.start, max(last.end, bar.end), bar.colour, "", f"{tasks} tasks, the first:\n{first}", tasks
            )
            continue
        if last:
            yield last
        last = bar if small else _Bar(bar.start, bar.end, bar.colour, bar.label, bar.hover, 0)
    if last:
        yield last


def _shortened(name: str, room: int) -> str:
    """The name, or its head and tail with a mark between."""
    if len(name) <= room:
        return name
    head = max(1, (room - 1) // 2)
    return f"{name[:head]}…{name[len(name) - (room - 1 - head) :]}"


def _text(
    x: float, y: float, text: str, *, size: int = 12, anchor: str = "", fill: str = "#212529", weight: str = ""
) -> str:
    style = f' text-anchor="{anchor}"' if anchor else ""
    style += f' font-weight="{weight}"' if weight else ""
    return f'<text x="{x:.2f}" y="{y:.2f}" font-size="{size}" fill="{fill}"{style}>{escape(text)}</text>'
