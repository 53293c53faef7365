"""Text reports: aligned tables that fit the terminal. Long names fold inside their column."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.text import Text

_GAP = 2
_NARROWEST = 8
_SEPARATORS = "/_.,:-+×"


@dataclass(frozen=True)
class Column:
    """One column of a table: numbers are right-aligned, names may fold when the line gets too long."""

    title: str
    number: bool = False
    fold: bool = False
    style: str = ""


@dataclass(frozen=True)
class Heading:
    """A row that is one text over the whole width, above the rows that belong to it."""

    text: str


Row = Sequence[str] | Heading


@dataclass(frozen=True)
class Table:
    """Rows under bold titles (none if all titles are empty), without frames."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Lines no wider than the console, unless even the narrowest columns are."""
        titles = [c.title for c in self.columns]
        widths = self._widths(options.max_width)
        if any(titles):
            yield from self._lines(titles, widths, "bold")
        for row in self.rows:
            if isinstance(row, Heading):
                yield from (Text(line, style="bold") for line in folded(row.text, options.max_width))
            else:
                yield from self._lines(row, widths)

    def _widths(self, room: int) -> list[int]:
        cells = [[c.title for c in self.columns], *(r for r in self.rows if not isinstance(r, Heading))]
        widths = [max(cell_len(row[k]) for row in cells) for k in range(len(self.columns))]
        foldable = [k for k, c in enumerate(self.columns) if c.fold]
        while foldable and sum(widths) + _GAP * (len(widths) - 1) > room:
            widest = max(foldable, key=lambda k: widths[k])
            if widths[widest] <= _NARROWEST:
                break
            widths[widest] -= 1
        return widths

    def _lines(self, row: Sequence[str], widths: Sequence[int], style: str = "") -> Iterator[Text]:
        cells = [folded(cell, w) if c.fold else [cell] for cell, c, w in zip(row, self.columns, widths, strict=True)]
        for k in range(max(map(len, cells))):
            line = Text(no_wrap=True)
            for column, cell, width in zip(self.columns, cells, widths, strict=True):
                text = cell[k] if k < len(cell) else ""
                blank = " " * (width - cell_len(text))
                line.append(blank + text if column.number else text + blank, style=style or column.style)
                line.append(" " * _GAP)
            line.rstrip()
            yield line


def folded(text: str, width: int) -> list[str]:
    """The text in lines of at most `width`, cut in their second half: at a blank, a separator, or anywhere.

    All lines are indented as the first.
    """
    lines = []
    indent = " " * (len(text) - len(text.lstrip(" ")))
    while cell_len(text) > width:
        half = range(min(width, len(text)), width // 2, -1)  # wide characters: fewer than columns
        blank = next((k for k in half if " " in text[k - 1 : k + 1]), 0)
        cut = blank or next((k for k in half if text[k - 1] in _SEPARATORS), min(width, len(text)))
        while cell_len(text[:cut]) > width:  # characters of double width
            cut -= 1
        lines.append(text[:cut].rstrip(" "))
        text = indent + text[cut:].lstrip(" ")
    return [*lines, text]


def table(columns: Sequence[str], rows: Iterable[Row]) -> RenderableType:
    """Rows under titles. A column whose title starts with ">" is right-aligned, one with "~" may fold."""
    made = (Column(c.lstrip(">~"), number=c.startswith(">"), fold=c.startswith("~")) for c in columns)
    return Table(tuple(made), tuple(rows))


def pairs(items: Iterable[tuple[str, str]]) -> RenderableType:
    """Names and values, one pair a line; a value that is too long folds beside its name."""
    return Table((Column("", style="bold"), Column("", fold=True)), tuple(items))


def section(title: str, body: RenderableType, *, indent: int = 2) -> RenderableType:
    """A titled part of a report."""
    return Group(Text(""), Text(title, style="bold cyan"), Padding(body, (0, 0, 0, indent)))


def stack(*parts: RenderableType) -> RenderableType:
    """Parts one below the other."""
    return Group(*parts)


def to_text(renderable: RenderableType, width: int = 80) -> str:
    """The plain text of a report, without colours or trailing blanks."""
    buffer = io.StringIO()
    Console(file=buffer, width=width, color_system=None, force_terminal=False, legacy_windows=False).print(renderable)
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()) + "\n"
