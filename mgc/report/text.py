"""Text reports: aligned tables that fit the terminal, made with Rich. Long names fold in their own column."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text


@dataclass(frozen=True)
class Column:
    """One column of a table: numbers are right-aligned, names may fold when the line gets too long."""

    title: str
    number: bool = False
    fold: bool = False


def table(columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> RenderableType:
    """Rows under bold titles, without frames."""
    result = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        result.add_column(
            Text(column.title),
            justify="right" if column.number else "left",
            no_wrap=not column.fold,
            overflow="fold",
        )
    for row in rows:
        result.add_row(*(Text(cell) for cell in row))
    return result


def pairs(items: Iterable[tuple[str, str]]) -> RenderableType:
    """Names and values, one pair a line; a value that is too long folds beside its name."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True, style="bold")
    grid.add_column(overflow="fold")
    for name, value in items:
        grid.add_row(Text(name), Text(value))
    return grid


def section(title: str, body: RenderableType) -> RenderableType:
    """A titled part of a report."""
    return Group(Text(""), Text(title, style="bold cyan"), Padding(body, (0, 0, 0, 2)))


def stack(*parts: RenderableType) -> RenderableType:
    """Parts one below the other."""
    return Group(*parts)


def to_text(renderable: RenderableType, width: int = 80) -> str:
    """The plain text of a report, without colours or trailing blanks."""
    buffer = io.StringIO()
    Console(file=buffer, width=width, color_system=None, force_terminal=False, legacy_windows=False).print(renderable)
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()) + "\n"
