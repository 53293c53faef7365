"""The table of a sweep: its columns, its rows as CSV while they come, and the whole of it when they are there."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from mgc.functions.drafts import drafted
from mgc.functions.printable import printable

Row = dict[str, Any]
"""A point's chip: figures by column; a column that is not there has none."""

FIGURES = (
    "crossbars",
    "area_used_mm2",
    "area_chip_mm2",
    "cycles",
    "samples_per_s",
    "energy_j",
    "psnr_db",
    "frechet",
    "yield",
    "seconds",
)
"""Columns of numbers, in order, between the swept keys with the trial and the error."""

_WHOLE = frozenset({"trial", "crossbars", "cycles"})


class ResumeError(ValueError):
    """A table cannot be gone on with; the message says why."""


@dataclass(frozen=True)
class Table:
    """The rows of a sweep in the order of its points. `keys` are the keys that are swept.

    `yield` is that of a point: the share of its trials whose outputs pass the check of `mgc run --check`.
    """

    keys: tuple[str, ...]
    rows: tuple[Row, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns."""
        return columns(self.keys)

    @property
    def failed(self) -> tuple[Row, ...]:
        """The rows of points that could not be measured."""
        return tuple(row for row in self.rows if row.get("error"))

    def front(self, *aims: str) -> tuple[Row, ...]:
        """The rows that no other row beats in all the aims at once: "psnr_db" is to be large, "-energy_j" small."""
        return tuple(row for row, kept in zip(self.rows, pareto(self.rows, aims), strict=True) if kept)

    def to_csv(self) -> str:
        """The whole table, with its heading."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows(_cells(row, self.columns) for row in self.rows)
        return text.getvalue()

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __repr__(self) -> str:
        return f"<sweep over {', '.join(self.keys)}: {len(self.rows)} rows, {len(self.failed)} failed>"

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{escape(c)}</th>" for c in self.columns)
        shown = [{k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in row.items()} for row in self.rows]
        body = "".join(
            f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in _cells(row, self.columns))}</tr>" for row in shown
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def columns(keys: Sequence[str]) -> tuple[str, ...]:
    """The columns of a sweep over some keys."""
    return (*keys, "trial", *FIGURES, "error")


def assembled(keys: Sequence[str], rows: Sequence[Row]) -> Table:
    """The table of rows in order, each with the yield of its point."""
    found: dict[tuple[Any, ...], list[float]] = {}
    for row in rows:
        found.setdefault(tuple(row[k] for k in keys), []).append(row.get("yield") or 0.0)
    done = []
    for row in rows:
        held = found[tuple(row[k] for k in keys)]
        # of a table that is gone on with it may be the point's already
        share = held[0] if len(set(held)) == 1 else sum(held) / len(held)
        done.append(row if row.get("error") else {**row, "yield": share})
    return Table(tuple(keys), tuple(done))


def pareto(rows: Sequence[Mapping[str, Any]], aims: Sequence[str]) -> list[bool]:
    """For each row, whether no other is at least as good in every aim and better in one; rows without a figure do not
    count. An aim is a column to be large, or one to be small behind a "-".
    """
    scores: list[tuple[float, ...] | None] = []
    for row in rows:
        values = [row.get(aim.removeprefix("-")) for aim in aims]
        known = all(isinstance(v, int | float) and not math.isnan(v) for v in values)
        signs = [-1.0 if aim.startswith("-") else 1.0 for aim in aims]
        scores.append(tuple(s * v for s, v in zip(signs, values, strict=True)) if known else None)  # type: ignore[operator]
    real = [s for s in scores if s is not None]

    def beaten(score: tuple[float, ...]) -> bool:
        return any(o != score and all(a >= b for a, b in zip(o, score, strict=True)) for o in real)

    return [s is not None and not beaten(s) for s in scores]


def _cells(row: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """Numbers as Python writes them shortest without loss; nothing where there is none; one line an error."""
    cells = []
    for name in names:
        value = row.get(name)
        cells.append("" if value is None else " ".join(value.split()) if isinstance(value, str) else repr(value))
    return cells


def _read(cells: Sequence[str], keys: Sequence[str]) -> Row:
    row: Row = {}
    for name, cell in zip(columns(keys), cells, strict=True):
        if name in keys or name == "error":
            if cell or name in keys:
                row[name] = cell
        elif cell:
            row[name] = int(cell) if name in _WHOLE else float(cell)
    return row


class Journal:
    """The file of a sweep while it runs: each row as it comes, on disk before the next one.

    Beside it stands what the sweep is of (model, target, data, seed, trials), so that no other one goes on with it.
    """

    def __init__(self, path: Path, keys: Sequence[str], identity: str) -> None:
        self.path, self.keys, self.identity = path, tuple(keys), identity
        self.beside = path.with_name(f"{path.name}.sweep")

    def start(self, resume: bool) -> list[Row]:
        """The rows that are there already, of a sweep that is to go on; points with errors are tried again. Raises
        ResumeError.
        """
        rows = self._held() if resume else []
        if not rows:  # at no moment is a table there that what stands beside it is not about
            self.path.unlink(missing_ok=True)
            self.beside.write_text(json.dumps({"sweep": self.identity}) + "\n", encoding="utf-8")
        self._write(Table(self.keys, tuple(rows)).to_csv())
        return rows

    def add(self, row: Row) -> None:
        """One more row."""
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerow(_cells(row, columns(self.keys)))
        with open(self.path, "a", encoding="utf-8", newline="") as file:
            file.write(printable(text.getvalue()))
            file.flush()
            os.fsync(file.fileno())

    def finish(self, table: Table) -> None:
        """The whole table in the place of the rows as they came."""
        self._write(table.to_csv())

    def _stated(self) -> str:
        """What the table is of, as far as it is known."""
        try:
            return str(json.loads(self.beside.read_text(encoding="utf-8"))["sweep"])
        except (OSError, ValueError, KeyError, TypeError):
            return ""

    def _write(self, text: str) -> None:
        with drafted(self.path) as draft:
            draft.write_text(printable(text), encoding="utf-8", newline="")

    def _held(self) -> list[Row]:
        if not self.path.exists():
            return []
        lines = self.path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
        if not lines or lines[0].rstrip("\n").split(",") != list(columns(self.keys)):
            raise ResumeError(f"{self.path} is not the table of this sweep: its columns differ; leave --resume out")
        if self._stated() != self.identity:
            raise ResumeError(
                f"{self.path} is of another sweep (another model, target, seed, data or number of trials): leave "
                "--resume out, or name another file with -o"
            )
        if not lines[-1].endswith("\n"):  # it was being written when the sweep was killed
            lines.pop()
        rows = [_read(cells, self.keys) for cells in csv.reader(lines[1:]) if len(cells) == len(columns(self.keys))]
        failed = [[row[k] for k in self.keys] for row in rows if row.get("error")]
        return [row for row in rows if [row[k] for k in self.keys] not in failed]
