"""A picture of a sweep: a page to explore by hand, or Pareto fronts as PNG or SVG."""

from __future__ import annotations

import json
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

from mgc.explore.table import FIGURES, Table, pareto
from mgc.functions.printable import printable
from mgc.passes.state import UnsupportedError

LARGE_IS_GOOD = frozenset({"samples_per_s", "psnr_db", "yield"})
"""Columns of which more is better; of the others less is."""

SUFFIXES = (".html", ".png", ".svg")
_MOST_DB = 200.0  # where nothing differs
_FRONTS = (("energy_j", "psnr_db"), ("area_used_mm2", "psnr_db"), ("energy_j", "samples_per_s"))


def check_plot(path: Path) -> None:
    """UnsupportedError where a plot of that name cannot be made: before the sweep, not after it."""
    if path.suffix not in SUFFIXES:
        raise UnsupportedError(f"--plot {path}: end its name in {', '.join(SUFFIXES)}")
    if path.suffix != ".html":
        try:
            import matplotlib  # noqa: F401
        except ImportError as error:
            raise UnsupportedError(f"--plot {path}: pictures need matplotlib: install mgc[sweep]") from error


def draw(table: Table, path: Path, title: str) -> None:
    """Writes the picture that the path's name asks for."""
    if path.suffix == ".html":
        path.write_text(printable(page(table, title)), encoding="utf-8")
    else:
        _figure(table, title, path)


def aim(column: str) -> str:
    """The column as an aim of `pareto`."""
    return column if column in LARGE_IS_GOOD else f"-{column}"


def page(table: Table, title: str) -> str:
    """One self-contained page: a plot whose axes and colours can be chosen, and the table below it."""
    rows = [{c: row.get(c) for c in table.columns} for row in table.rows]
    data = {
        "keys": list(table.keys),
        "figures": [f for f in FIGURES if any(isinstance(r[f], int | float) for r in rows)],
        "large": sorted(LARGE_IS_GOOD),
        "columns": list(table.columns),
        "rows": [{c: _jsonable(v) for c, v in row.items()} for row in rows],
    }
    text = json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    frame = resources.files("mgc.explore").joinpath("page.html").read_text(encoding="utf-8")
    failed = f", {len(table.failed)} failed" if table.failed else ""
    words = f"{len(table)} points over {', '.join(table.keys)}{failed}"
    for mark, value in (("@title@", escape(title)), ("@words@", escape(words)), ("@data@", text)):
        frame = frame.replace(mark, value)
    return frame


def _jsonable(value: Any) -> Any:
    """JSON has no infinity and no NaN."""
    if isinstance(value, float) and value in (float("inf"), float("-inf")):
        return 1e308 if value > 0 else -1e308
    return None if isinstance(value, float) and value != value else value


def _figure(table: Table, title: str, path: Path) -> None:
    """A panel for each pair of figures that the table has: all points, the front joined and in colour."""
    from matplotlib.figure import Figure

    shown = [
        pair for pair in _FRONTS if all(any(isinstance(r.get(c), int | float) for r in table.rows) for c in pair)
    ] or [("energy_j", "psnr_db")]
    figure = Figure(figsize=(5.2 * len(shown), 4.4), layout="constrained")
    figure.suptitle(title)
    for panel, (x, y) in enumerate(shown, start=1):
        axes = figure.add_subplot(1, len(shown), panel)
        front = pareto(table.rows, (aim(x), aim(y)))
        points = [
            (r[x], min(r[y], _MOST_DB) if y == "psnr_db" else r[y], best)
            for r, best in zip(table.rows, front, strict=True)
            if _both(r, x, y)
        ]
        axes.scatter([p[0] for p in points], [p[1] for p in points], s=18, color="#adb5bd", label="all points")
        best = sorted(p[:2] for p in points if p[2])
        axes.plot([p[0] for p in best], [p[1] for p in best], "o-", ms=5, color="#0072b2", label="Pareto front")
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        axes.grid(alpha=0.3)
        axes.legend(loc="best", fontsize="small")
    figure.savefig(path, format=path.suffix[1:], dpi=130, metadata={"Date": None} if path.suffix == ".svg" else {})


def _both(row: Any, x: str, y: str) -> bool:
    return isinstance(row.get(x), int | float) and isinstance(row.get(y), int | float)
