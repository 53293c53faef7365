"""Small pieces of HTML: escaped text, tables, figures, bars."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape


@dataclass(frozen=True)
class Html:
    """Markup that is used as it is; plain strings are escaped."""

    text: str


Cell = str | Html


def text(value: Cell) -> str:
    """A cell's markup."""
    return value.text if isinstance(value, Html) else escape(value)


def table(columns: Sequence[str], rows: Iterable[Sequence[Cell]], *, id: str = "") -> str:
    """A table. A column whose title starts with ">" is right-aligned, one with "~" may break anywhere, one with "|"
    holds bars.
    """
    classes = {">": ' class="n"', "~": ' class="name"', "|": ' class="bar"'}
    marks = [classes.get(c[:1], "") for c in columns]
    titles = [escape(c[1:] if c[:1] in classes else c) for c in columns]
    head = "".join(f'<th scope="col"{mark}>{title}</th>' for mark, title in zip(marks, titles, strict=True))
    body = "\n".join(
        "<tr>" + "".join(f"<td{mark}>{text(cell)}</td>" for mark, cell in zip(marks, row, strict=True)) + "</tr>"
        for row in rows
    )
    name = f' id="{escape(id)}"' if id else ""
    return f'<div class="scroll"><table{name}><thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>'


def figures(items: Sequence[tuple[str, str, str]]) -> str:
    """Large figures: name, value, what to add below it in small."""
    few = " few" if len(items) == 3 else ""
    cells = "\n".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}{f'<small>{escape(more)}</small>' if more else ''}</dd></div>"
        for name, value, more in items
    )
    return f'<dl class="figures{few}">\n{cells}\n</dl>'


def bar(share: float, colour: str = "") -> Html:
    """A bar of a share of 1."""
    fill = f"width:{100 * min(max(share, 0.0), 1.0):.2f}%" + (f";background:{colour}" if colour else "")
    return Html(f'<span><i style="{fill}"></i></span>')


def swatch(colour: str, name: str) -> Html:
    """A name with its colour before it."""
    style = f"display:inline-block;width:.7rem;height:.7rem;border-radius:2px;background:{colour}"
    return Html(f'<i style="{style}"></i> {escape(name)}')


def filter_for(table_id: str, what: str) -> str:
    """An input that filters a table's rows."""
    name, words = escape(table_id), f"Filter {escape(what)}"
    return (
        f'<div class="tools"><input type="search" data-filters="{name}" placeholder="{words}" aria-label="{words}">'
        f'<span class="count" data-count="{name}" aria-live="polite"></span></div>'
    )


def node_button(node: str) -> Html:
    """A node's name that shows it in the schedule when pressed."""
    return Html(f'<button class="link" data-node="{escape(node, quote=True)}">{escape(node)}</button>')


def note(words: str) -> str:
    """A line of explanation."""
    return f'<p class="note">{escape(words)}</p>'
