"""What writing costs and wears: at worst case, as the program states it, and by the cells that changed in a simulation.

Counts are what `Simulator.cell_writes` gives; a program that has them has them as "cell_writes" in its `meta`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

from mgc.isa.program import Program
from mgc.report.units import count, duration, percent, si

_P = TypeVar("_P", bound=Program)


class CountsError(ValueError):
    """Counts that are not of this program; the message says why."""


def with_counts(program: _P, counts: Any) -> _P:
    """The program with counts that `wear_of` then finds. CountsError if they are of another program."""
    _check(program, counts)
    return replace(program, meta={**program.meta, "cell_writes": counts})


def wear_of(program: Program) -> dict[str, Any] | None:
    """For one run (in training, an iteration), once at "worst" case and once "counted": cells written, energy of that
    and in all (J), writes of a cell, mean and most, and the runs and seconds that cells last. None without counts.

    Counted is what the `runs` that were simulated give on average; `most_writes_per_cell` is of the cell that changed
    most often in them, so that a few runs say little of how long the chip lasts.
    """
    counts, worn = program.meta.get("cell_writes"), (program.meta.get("cost") or {}).get("endurance")
    trains = any(entry.kind == "train" for entry in program.entries)
    if worn is None or trains != (program.mode == "training"):
        return None  # there is no bill, or one of training, and this is its testing entry
    if counts is None or not counts["runs"] or not counts["cells"]:
        return None
    runs, share = counts["runs"], counts["changed"] / counts["cells"]
    total, writing = program.meta["energy_j"], program.meta["energy"]["write"]
    most = counts["most_changes"] / runs
    lasts = worn["endurance_writes"] / most if most else None
    return {
        "runs": runs,
        "share": share,
        "worst": {
            "cells": counts["cells"] / runs,
            "write_energy_j": writing,
            "energy_j": total,
            **{key: worn[key] for key in ("writes_per_cell", "most_writes_per_cell", "runs", "seconds")},
        },
        "counted": {
            "cells": counts["changed"] / runs,
            "write_energy_j": writing * share,
            "energy_j": total - writing * (1 - share),
            "writes_per_cell": worn["writes_per_cell"] * share,
            "most_writes_per_cell": most,
            "runs": lasts,
            "seconds": None if lasts is None else lasts * program.meta["latency_s"],
        },
    }


def lines(program: Program) -> list[tuple[str, str]]:
    """The same as text: what it is, and the figures."""
    counts, found = program.meta.get("cell_writes"), wear_of(program)
    if counts is None:
        return []
    if not counts["cells"]:
        return [("cells written", "none after the first programming")]
    run = "iteration" if program.mode == "training" else "run"
    runs = f"{count(counts['runs'])} {run}{'s' * (counts['runs'] > 1)}"
    share = percent(counts["changed"] / counts["cells"])
    written = f"{count(counts['cells'])} in {runs} at worst case, {share} changed"
    if found is None:
        return [("cells written", written)]
    worst, counted = found["worst"], found["counted"]
    lasts = "no end" if counted["runs"] is None else f"{counted['runs']:.3g} {run}s, {duration(counted['seconds'])}"
    return [
        ("cells written", written),
        (
            "energy by that",
            f"{si(counted['energy_j'], 'J')} instead of {si(worst['energy_j'], 'J')}, of it "
            f"{si(counted['write_energy_j'], 'J')} instead of {si(worst['write_energy_j'], 'J')} for writes",
        ),
        (
            "wear by that",
            f"{counted['writes_per_cell']:.3g} writes a cell instead of {worst['writes_per_cell']:.3g}, "
            f"{counted['most_writes_per_cell']:.3g} at most instead of {count(worst['most_writes_per_cell'])}; the "
            f"chip lasts {lasts}",
        ),
    ]


def _check(program: Program, counts: Any) -> None:
    """CountsError unless these are counts of this program's instructions."""
    whole = ("runs", "cells", "changed", "most_changes")
    rows = counts.get("instructions") if isinstance(counts, Mapping) else None
    if not isinstance(rows, list) or not all(_is_count(counts.get(key)) for key in whole):
        raise CountsError("there are no counts of writes in it: give what mgc train --count-writes --json printed")
    for row in rows:
        index = row.get("instruction") if isinstance(row, Mapping) else None
        if not isinstance(index, int) or not 0 <= index < len(program.instructions) or not _is_count(row.get("writes")):
            raise CountsError(f"its counts are of another program: there is no instruction {index}")
        i = program.instructions[index]
        groups = (program.groups[g] for g in i.writes_cells(program))
        written = [(i.mnemonic, g.name, row["writes"] * g.replicas * g.cells) for g in groups]
        if (row.get("mnemonic"), row.get("group"), row.get("cells")) not in written:
            raise CountsError(f"its counts are of another program: instruction {index} does not write what they say")
        if not _is_count(row.get("changed")) or row["changed"] > row["cells"]:
            raise CountsError(f"its counts are unsound: more cells of instruction {index} changed than there are")
    timed = [row for row in rows if program.instructions[row["instruction"]].timed]
    if any(sum(row[key] for row in timed) != counts[key] for key in ("cells", "changed")):
        raise CountsError("its counts are unsound: those of the instructions do not add up to their sum")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
