"""Ratios of several runs of a benchmark: what a page says is the least and the greatest of at least three of them.

A run is one start of a command with `--record FILE`, which adds its rows to the file; `--report FILE` prints the table.
Runs at different times of the day meet different neighbours on a shared machine: that is the point of having several.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.measure import Ratio, machine

FEWEST = 3


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of a benchmark that is run several times."""
    parser.add_argument("--record", type=Path, metavar="FILE", help="add the rows of this run to a file")
    parser.add_argument("--report", type=Path, metavar="FILE", help="measure nothing: print the table of all its runs")


class Record:
    """Adds the rows of one run to a file as they come; to none without a path."""

    def __init__(self, path: Path | None) -> None:
        self._path, self._run = path, time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())

    def add(self, row: Sequence[object], ratio: Ratio) -> None:
        """A ratio, by what stands before it in its row."""
        if self._path is not None:
            line = {"run": self._run, "machine": machine(), "row": list(map(str, row)), "ratio": ratio.median}
            with open(self._path, "a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")


def report(path: Path, heads: Sequence[str], ratio: str) -> str:
    """The table of all runs in a file, and the unfavourable end in one sentence. ValueError for fewer than three runs,
    or runs on different machines.
    """
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    runs, machines = sorted({line["run"] for line in lines}), sorted({line["machine"] for line in lines})
    if len(runs) < FEWEST:
        raise ValueError(f"{path} has {len(runs)} runs: {FEWEST} at different times are needed")
    if len(machines) > 1:
        raise ValueError(f"{path} has runs of different machines: {'; '.join(machines)}")
    found: dict[tuple[str, ...], list[float]] = {}
    for line in lines:
        found.setdefault(tuple(line["row"]), []).append(line["ratio"])
    rows = [(*row, f"{min(values):.2f} to {max(values):.2f}", str(len(values))) for row, values in found.items()]
    worst = min(found, key=lambda row: min(found[row]))
    table = [(*heads, f"{ratio}, least to greatest", "runs"), ("---",) * (len(heads) + 2), *rows]
    return "\n".join(
        [
            f"Machine: {machines[0]}. {len(runs)} runs, {runs[0]} to {runs[-1]}; a ratio is the median of its run.\n",
            *(f"| {' | '.join(line)} |" for line in table),
            f"\nAt worst {min(found[worst]):.2f} ({', '.join(worst)}).",
        ]
    )


def reported(options: argparse.Namespace, heads: Sequence[str], ratio: str) -> int | None:
    """The exit code of `--report`, its table printed; None where the benchmark is to run."""
    if options.report is None:
        return None
    try:
        print(report(options.report, heads, ratio))
    except (OSError, ValueError, KeyError) as error:
        print(f"{options.report}: {error}", file=sys.stderr)
        return 2
    return 0
