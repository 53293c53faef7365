"""The schedule as a Gantt chart in SVG: units as rows by kind, a colour for each micro-batch, cycles and seconds."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from xml.sax.saxutils import escape

from mgc.isa.instruction import Instruction
from mgc.isa.program import Program
from mgc.report import trace
from mgc.report.palette import OPCODE_COLOURS, ink_on, ordered
from mgc.report.units import count, percent, si
from mgc.report.views.schedule import status_line

_WIDTH = 1400
_LEFT, _RIGHT, _TOP, _BOTTOM = 230, 64, 118, 58
_CHARACTER = 0.56  # width of a character of the sans font, in font sizes
_KINDS = ("link", "dma", "crossbar", "vector", "diff", "gradient", "host", "writer")
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
    rows = _rows(program)
    kinds = [kind for kind, _ in groupby(rows, lambda r: r.kind)]
    height = 22 if len(rows) <= 40 else 16 if len(rows) <= 120 else 12
    band = 20
    plot = len(rows) * height + len(kinds) * band
    total = _TOP + plot + _BOTTOM
    span = max(program.schedule.makespan, 1)
    scale = (_WIDTH - _LEFT - _RIGHT) / span
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{total}" '
        f'viewBox="0 0 {_WIDTH} {total}" font-family="Helvetica, Arial, DejaVu Sans, sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{total}" fill="#ffffff"/>',
        *_heading(program, title),
        *_legend(program),
    ]
    bars: list[str] = []
    y = float(_TOP)
    for kind, of_kind in groupby(rows, lambda r: r.kind):
        parts.append(f'<rect x="0" y="{y:g}" width="{_WIDTH}" height="{band}" fill="#f1f3f5"/>')
        parts.append(_text(16, y + 14, kind, size=11, weight="bold", fill="#495057"))
        y += band
        for row in of_kind:
            bars.extend(_row(row, y, height, scale))
            y += height
    parts += [*_axis(program, scale, plot), *bars, "</svg>"]
    return "\n".join(parts) + "\n"


def _rows(program: Program) -> list[_Row]:
    tasks: dict[int, list[Instruction]] = {}
    for instruction in program.instructions:
        if trace.is_task(program, instruction):
            tasks.setdefault(instruction.unit, []).append(instruction)
    span = max(program.schedule.makespan, 1)
    rows = []
    for unit in sorted(program.units, key=lambda u: (_KINDS.index(u.kind) if u.kind in _KINDS else 99, u.id)):
        if unit.id in tasks:
            bars = sorted((b for i in tasks[unit.id] for b in _bars(program, i)), key=lambda b: (b.start, b.end))
            busy = sum(b.end - b.start for b in bars)
            rows.append(_Row(unit.kind, unit.name, busy / span, tuple(bars)))
    return rows


def _bars(program: Program, instruction: Instruction) -> Iterator[_Bar]:
    label = trace.label(program, instruction)
    nodes = ", ".join(trace.onnx_nodes(program, instruction))
    by_opcode = program.micro_batches == 1
    for k in range(program.micro_batches):
        start = int(program.schedule.starts[instruction.id, k])
        end = start + instruction.duration
        colour = OPCODE_COLOURS.get(instruction.mnemonic, "#868e96") if by_opcode else _colour(program, k)
        hover = f"{label}\nmicro-batch {k}\ncycles {count(start)} to {count(end)} ({count(instruction.duration)})"
        yield _Bar(start, end, colour, _inside(program, instruction), f"{hover}\n{nodes}".rstrip())


def _inside(program: Program, instruction: Instruction) -> str:
    """What a bar says: not again what its row is called, but the ONNX node."""
    subject = trace.subject(program, instruction)
    if subject != program.units[instruction.unit].name:
        return subject
    return ", ".join(trace.onnx_nodes(program, instruction))


def _colour(program: Program, k: int) -> str:
    return ordered(k / max(program.micro_batches - 1, 1))


def _heading(program: Program, title: str) -> list[str]:
    batch = program.micro_batch * program.micro_batches
    line = f"{title} on {program.target.get('name', 'unnamed target')}, batch {batch}"
    return [_text(16, 32, line, size=19, weight="bold"), _text(16, 56, status_line(program), size=13, fill="#495057")]


def _legend(program: Program) -> list[str]:
    if program.micro_batches == 1:
        used = {i.mnemonic for i in program.instructions if trace.is_task(program, i)}
        return _swatches([(OPCODE_COLOURS[m], m) for m in OPCODE_COLOURS if m in used], "instruction")
    if program.micro_batches <= 16:
        swatches = [(_colour(program, k), str(k)) for k in range(program.micro_batches)]
        return _swatches(swatches, "micro-batch")
    parts = [_text(16, 84, "micro-batch", size=11, fill="#495057"), _text(96, 84, "0", size=11)]
    for step in range(64):
        parts.append(f'<rect x="{108 + 4 * step}" y="74" width="4.5" height="13" fill="{ordered(step / 63)}"/>')
    return [*parts, _text(372, 84, str(program.micro_batches - 1), size=11)]


def _swatches(items: Sequence[tuple[str, str]], title: str) -> list[str]:
    parts = [_text(16, 84, title, size=11, fill="#495057")]
    x = 96.0
    for colour, name in items:
        parts.append(f'<rect x="{x:g}" y="74" width="13" height="13" rx="2" fill="{colour}"/>')
        parts.append(_text(x + 17, 84, name, size=11))
        x += 17 + 11 * _CHARACTER * len(name) + 14
    return parts


def _axis(program: Program, scale: float, plot: int) -> list[str]:
    """Cycles above the rows, time below them, with lines through."""
    span = max(program.schedule.makespan, 1)
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
    label = f"end: {count(program.schedule.makespan)} cycles, {_time(program.schedule.makespan, program)}"
    parts.append(_text(end, bottom + 46, label, size=11, anchor="end", fill="#e03131"))
    return parts


def _time(cycles: int, program: Program) -> str:
    return si(cycles * program.schedule.clock_ns * 1e-9, "s")


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
