"""The schedule as a Gantt chart of characters, as wide as the terminal."""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import takewhile

from rich.console import Console, ConsoleOptions, RenderResult
from rich.style import Style
from rich.text import Text

from mgc.report.palette import ink_on, ordered, stage_colour
from mgc.report.text import folded
from mgc.report.timeline import KIND_NAMES, Task, Timeline
from mgc.report.units import count, percent, si

MOST_ROWS = 36
"""Rows at most: beyond it, units of a kind that follow each other share one."""

_LABEL = 24
_BUSY = 7
_NARROWEST = 24
_FAINT = 0.1  # a column that is busy for less is a dot
_PURE = 0.6  # of a column's work, the share of one micro-batch (or stage) that gives the column its sign
_SHADES = "░▒▓█"
_SIGNS = string.digits + string.ascii_lowercase + string.ascii_uppercase
_TOO_MANY, _FEW = 24, 6  # micro-batches that run together in one chart, and those of a chart of the beginning
_STAGE_SIGNS = ("flbu", "FLBU", "wxyz", "WXYZ", "1234", "5678")
_LETTERS = string.ascii_lowercase + string.ascii_uppercase


@dataclass(frozen=True)
class Row:
    """One line of the chart: a name, the units that share it, their tasks."""

    name: str
    kind: str
    units: tuple[int, ...]
    tasks: tuple[Task, ...]

    def share(self, span: int) -> float:
        """How busy its units are on average."""
        return sum(t.duration for t in self.tasks) / (span * len(self.units))


@dataclass(frozen=True)
class Gantt:
    """A chart of one timeline, for a Rich console: coloured by stage (or micro-batch) where it is a terminal.

    `until` is the cycle that it ends at, to show the beginning alone; 0: all of it.
    """

    timeline: Timeline
    until: int = 0

    @staticmethod
    def of_beginning(timeline: Timeline) -> Gantt | None:
        """The first few micro-batches, where there are so many that they run together in a chart of all."""
        if timeline.micro_batches <= _TOO_MANY:
            return None
        until = max(t.end for t in timeline.tasks if t.micro_batch < _FEW)
        return Gantt(timeline, until) if until < timeline.span / 2 else None

    @property
    def span(self) -> int:
        """Cycles shown."""
        return self.until or self.timeline.span

    @cached_property
    def rows(self) -> tuple[Row, ...]:
        """Units of one kind whose work is of the same ONNX nodes share a row; more of them where there are too many."""
        timeline = self.timeline
        found: dict[tuple[str, object], list[int]] = {}
        for unit, tasks in timeline.by_unit.items():
            kind = timeline.program.units[unit].kind
            nodes = frozenset(n for t in tasks for n in timeline.nodes[t.instruction])
            found.setdefault((kind, nodes if kind == "crossbar" and nodes else unit), []).append(unit)
        groups = [(kind, units) for (kind, _), units in found.items()]
        while len(groups) > MOST_ROWS:
            sizes = Counter(kind for kind, _ in groups)
            kind = max(sizes, key=lambda k: sizes[k])
            if sizes[kind] == 1:
                break
            own = [units for k, units in groups if k == kind]
            joined = [(kind, [u for units in own[i : i + 2] for u in units]) for i in range(0, len(own), 2)]
            at = next(i for i, (k, _) in enumerate(groups) if k == kind)
            groups = groups[:at] + joined + groups[at + len(own) :]
        return tuple(self._row(kind, units) for kind, units in groups)

    def _row(self, kind: str, units: Sequence[int]) -> Row:
        names = [self.timeline.program.units[u].name for u in units]
        shown = (t for u in units for t in self.timeline.by_unit[u] if t.start < self.span)
        tasks = sorted((replace(t, end=min(t.end, self.span)) for t in shown), key=lambda t: (t.start, t.id))
        return Row(_joint_name(names, kind), kind, tuple(units), tuple(tasks))

    @cached_property
    def by_micro_batch(self) -> bool:
        """Whether signs say the micro-batch; in training they say the stage."""
        return self.timeline.micro_batches > 1 and not self.trained

    @cached_property
    def trained(self) -> tuple[str, ...]:
        """The phases that update something."""
        found = (self.timeline.stages[t.instruction] for t in self.timeline.tasks)
        return tuple(dict.fromkeys(s.phase for s in found if s.kind == "update"))

    # -- what a cell shows ---------------------------------------------------------------------------------------------

    def _sign(self, task: Task) -> str:
        if self.by_micro_batch:
            return _SIGNS[task.micro_batch % len(_SIGNS)]
        stage = self.timeline.stages[task.instruction]
        if stage.phase not in self.trained:
            return "█"
        signs = _STAGE_SIGNS[self.trained.index(stage.phase) % len(_STAGE_SIGNS)]
        return signs[("forward", "loss", "backward", "update").index(stage.kind)]

    def _colour(self, task: Task) -> str:
        stage = self.timeline.stages[task.instruction]
        if stage.phase in self.trained:
            return stage_colour(self.trained.index(stage.phase), stage.kind)
        if self.by_micro_batch:
            return ordered(task.micro_batch / (self.timeline.micro_batches - 1))
        return stage_colour(0, "backward")

    def _cells(self, row: Row, columns: int, critical: set[int]) -> Iterator[tuple[str, Style | None]]:
        """A sign and a style for each column."""
        span = self.span
        held: list[list[tuple[Task, float]]] = [[] for _ in range(columns)]
        for task in row.tasks:
            first = task.start * columns // span
            last = min(columns - 1, max(first, (task.end * columns - 1) // span))
            for k in range(first, last + 1):
                overlap = min(task.end, (k + 1) * span / columns) - max(task.start, k * span / columns)
                held[k].append((task, max(overlap, 0.0)))
        for tasks in held:
            if not tasks:
                yield " ", None
                continue
            work = sum(o for _, o in tasks)
            share = work * columns / span / len(row.units)
            signs: dict[str, float] = {}
            for task, overlap in tasks:
                signs[self._sign(task)] = signs.get(self._sign(task), 0.0) + overlap
            sign = max(signs, key=lambda s: signs[s])
            most = max(tasks, key=lambda held: held[1])[0]
            colour = self._colour(most)
            on_path = any(t.id in critical for t, _ in tasks)
            if share < _FAINT:
                yield "·", Style(color=colour, bold=on_path)
            elif work and signs[sign] / work < _PURE:
                yield _SHADES[min(3, int(share * 4))], Style(color=colour, underline=on_path)
            else:
                yield sign, Style(color=ink_on(colour), bgcolor=colour, bold=on_path, underline=on_path)

    # -- the chart -----------------------------------------------------------------------------------------------------

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Axis, rows by kind, critical path, and what it all means; no line wider than the console."""
        label = min(max(len(row.name) for row in self.rows), max(_LABEL, options.max_width // 5)) if self.rows else 1
        label = max(len("critical path"), min(label, options.max_width // 3))
        columns = max(_NARROWEST, options.max_width - label - 3 - _BUSY)
        critical = {t.id for t in self.timeline.critical}
        yield from self._axis(label, columns)
        kind = ""
        for place, row in enumerate(self.rows):
            if row.kind != kind:
                kind = row.kind
                yield Text(KIND_NAMES.get(kind, kind), style="dim")
            name = _cut(row.name, label)
            line = Text(f"{_LETTERS[place % len(_LETTERS)]} {name:<{label}} ", no_wrap=True)
            for sign, style in self._cells(row, columns, critical):
                line.append(sign, style)
            line.append(f"{percent(row.share(self.span)):>{_BUSY}}")
            yield line
        path = "".join(self._path(columns))
        yield Text(f"  {'critical path':<{label}} {path}".rstrip(), style="bold", no_wrap=True)
        yield Text("")
        yield from (Text(line) for line in self._legend(columns, options.max_width, options.is_terminal))

    def _axis(self, label: int, columns: int) -> Iterator[Text]:
        """Cycles, then seconds, each starting above its column."""
        clock = self.timeline.program.clock_ns * 1e-9
        span = self.span
        step = _nice(span * 11 / columns)
        for name, shown in (("cycles", count), ("time", lambda cycles: si(cycles * clock, "s"))):
            line = [" "] * columns
            for cycle in range(0, span, step):
                at, words = cycle * columns // span, shown(cycle)
                if at + len(words) <= columns:
                    line[at : at + len(words)] = words
            yield Text(f"  {name:>{label}} {''.join(line)}".rstrip(), style="dim", no_wrap=True)

    def _path(self, columns: int) -> Iterator[str]:
        """For each column the letter of the row that the critical path is in for most of it."""
        span = self.span
        row_of = {u: k for k, row in enumerate(self.rows) for u in row.units}
        shares: list[Counter[int]] = [Counter() for _ in range(columns)]
        for task in self.timeline.critical:
            if task.start >= span:
                break
            for k in range(task.start * columns // span, min(columns, task.end * columns // span + 1)):
                overlap = min(task.end, (k + 1) * span / columns) - max(task.start, k * span / columns)
                if overlap > 0:
                    shares[k][row_of[task.unit]] += int(overlap * columns)
        for found in shares:
            yield _LETTERS[found.most_common(1)[0][0] % len(_LETTERS)] if found else " "

    def _legend(self, columns: int, width: int, marked: bool) -> Iterator[str]:
        timeline = self.timeline
        cycles = self.span / columns
        time = si(cycles * timeline.program.clock_ns * 1e-9, "s")
        units, rows = len(timeline.by_unit), len(self.rows)
        shared = f"{count(units)} units in {count(rows)} rows (units of one layer share a row)" if rows < units else ""
        if any(row.kind != "crossbar" and len(row.units) > 1 for row in self.rows):
            shared = f"{count(units)} units in {count(rows)} rows (neighbours of a kind share a row)"
        parts = [f"A column is {count(cycles) if cycles >= 10 else f'{cycles:.2g}'} cycles ({time})"]
        tasks = sum(len(row.tasks) for row in self.rows)
        parts += [f"{count(tasks)} tasks", shared or f"{count(units)} units"]
        interval = timeline.entries[0].schedule.interval
        if interval:
            parts.append(f"and the next run begins {count(interval)} cycles after this one")
        yield from folded(", ".join(parts) + ".", width)
        yield from folded(f"Signs: {self._signs()}.", width)
        path = "The critical path names the rows it is in by their letters"
        yield from folded(path + ("; its tasks are underlined." if marked else "."), width)

    def _signs(self) -> str:
        faint = f"· busy for less than {percent(_FAINT)}".replace(".0 %", " %")
        if self.by_micro_batch:
            last = self.timeline.micro_batches - 1
            wraps = f", again from 0 after {len(_SIGNS) - 1}" if last >= len(_SIGNS) else ""
            sign = _SIGNS[min(last, len(_SIGNS) - 1)]
            return f"0 to {sign} the micro-batch{wraps}; ░▒▓█ several, by how busy the units are; {faint}"
        if not self.trained:
            return f"█ busy; {faint}"
        seen: dict[str, str] = {}
        for task in self.timeline.tasks:
            stage = self.timeline.stages[task.instruction]
            seen.setdefault(self._sign(task), f"{stage.phase} {stage.kind}")
        named = ", ".join(f"{sign} {name}" for sign, name in seen.items())
        return f"{named}; ░▒▓█ several, by how busy the units are; {faint}"


def _joint_name(names: Sequence[str], kind: str) -> str:
    """What the names of units that share a row begin with, and how many there are."""
    if len(names) == 1:
        return names[0]
    same = takewhile(lambda letters: len(set(letters)) == 1, zip(*names, strict=False))
    start = "".join(letters[0] for letters in same).rstrip(" .,:_/-")
    if len(start) < 3 or start.startswith("tile"):
        return f"{len(names)} {KIND_NAMES.get(kind, kind)}"
    return f"{start} ×{len(names)}"


def _cut(name: str, room: int) -> str:
    """The name, or its head and tail with a mark between."""
    if len(name) <= room:
        return name
    head = (room - 1) // 2
    return f"{name[:head]}…{name[len(name) - (room - 1 - head) :]}"


def _nice(value: float) -> int:
    """The least of 1, 2, 5, 10, 20 ... that is not below the value."""
    power = 1
    while True:
        for m in (1, 2, 5):
            if m * power >= value:
                return m * power
        power *= 10
