"""Write drivers in time: a macro writes no more crossbars at once than it has drivers for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from heapq import heappop, heappush
from typing import Any

from mgc.isa.dataflow import ancestors, ancestors_before
from mgc.isa.tables import Tables
from mgc.isa.tasks import Task


def overdriven(program: Tables, start: Mapping[Task, int], end: Mapping[Task, int]) -> Iterator[str]:
    """In words, every macro in which tasks that run at once write more crossbars than it has drivers for.

    A task has the drivers of each macro for the crossbars that it writes there (all of them where there are more
    crossbars, which then take turns) as long as it runs. Of two instructions that ask for more than there are one waits
    for the other, in a run and where runs overlap, so that it is so however long they take. Nothing is said of a target
    that does not state its drivers.
    """
    drivers, used = _driven(program)
    yield from _unordered(program, drivers, used)
    spans: dict[int, list[tuple[int, int, int, Task]]] = {}
    interval = program.entry.schedule.interval
    for task, begin in start.items():
        for macro, count in used.get(task[0], {}).items():
            for shift in _turns(begin, end[task], interval):
                spans.setdefault(macro, []).append((begin + shift, end[task] + shift, count, task))
    for macro, own in sorted(spans.items()):
        running: list[tuple[int, int, Task]] = []
        busy = 0
        for begin, last, count, task in sorted(own):
            while running and running[0][0] <= begin:
                busy -= heappop(running)[1]
            if busy + count > drivers and last > begin:
                other = running[0][2]
                yield (
                    f"task {task[1]} of instruction {task[0]} and task {other[1]} of {other[0]} write cells of macro "
                    f"{macro} at once, which has {drivers} write driver{'s' * (drivers > 1)}"
                )
                break
            heappush(running, (last, count, task))
            busy += count


def _driven(program: Tables) -> tuple[int, dict[int, dict[int, int]]]:
    """The drivers of a macro; of each instruction that writes cells in a run, those that it has of each macro."""
    structure: Mapping[str, Any] = program.target.get("structure") or {}
    per_macro = structure.get("crossbars_per_macro")
    drivers = (program.target.get("cell") or {}).get("write_drivers_per_macro")
    found: dict[int, dict[int, int]] = {}
    if not per_macro or not drivers:
        return 0, found
    for i in program.instructions:
        for group in i.writes_cells(program) if i.timed else ():
            crossbars = Counter(c // per_macro for c in program.groups[group].crossbars)
            found[i.id] = {macro: min(n, drivers) for macro, n in crossbars.items()}
    return drivers, found


def _unordered(program: Tables, drivers: int, used: Mapping[int, Mapping[int, int]]) -> Iterator[str]:
    writers: dict[int, list[int]] = {}
    for i, macros in used.items():
        for macro in macros:
            writers.setdefault(macro, []).append(i)
    pairs = {
        (i, j): macro
        for macro, own in writers.items()
        for n, j in enumerate(own)
        for i in own[:n]
        if used[i][macro] + used[j][macro] > drivers
    }
    if not pairs:
        return
    before = ancestors(program)
    later = ancestors_before(program, before) if program.entry.schedule.interval else None
    for (i, j), macro in pairs.items():
        what = f"instructions {i} and {j} write cells of macro {macro}, which has too few write drivers for both, and"
        if not before[j] >> i & 1:
            yield f"{what} {j} does not wait for {i}"
        elif later is not None and not later[i] >> j & 1:
            yield f"{what} {i} does not wait for {j} of the run before"


def _turns(begin: int, end: int, interval: int) -> list[int]:
    """By how much a task is shifted in the runs that meet one interval; 0 where runs do not overlap."""
    if not interval:
        return [0]
    first = begin // interval * interval
    return [-first - k * interval for k in range((end - begin) // interval + 2)]
