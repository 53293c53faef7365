"""The roof: how long each resource works in an iteration, and what the chip would do if it alone were the limit."""

from __future__ import annotations

from typing import Any

from mgc.isa.program import Program
from mgc.isa.tasks import tasks_of
from mgc.isa.traffic import channel_rate, offchip_bytes

CHANNEL = "off-chip channel"


def roof_of(program: Program) -> list[dict[str, Any]]:
    """For the busiest unit of each kind, and for the off-chip channel, the busiest first: `busy_cycles` in a run, or in
    an iteration of training, the `share` of its cycles, and `samples_per_s` if nothing else took any time.
    """
    busy: dict[int, int] = {}
    moved = 0
    for entry in program.iteration:
        for i in program.instructions[entry.first : entry.stop]:
            tasks = tasks_of(entry, i) * entry.repeats
            busy[i.unit] = busy.get(i.unit, 0) + tasks * i.duration
            moved += tasks * offchip_bytes(program, entry, i)
    first: dict[str, tuple[int, str]] = {}
    for unit, cycles in sorted(busy.items(), key=lambda item: (-item[1], item[0])):
        first.setdefault(program.units[unit].kind, (cycles, program.units[unit].name))
    rate = channel_rate(program)
    loads = [*first.values(), *([(moved / rate, CHANNEL)] if rate is not None and moved else [])]
    samples, whole = sum(e.batch * e.repeats for e in program.iteration), program.iteration_cycles
    return [
        {
            "resource": name,
            "busy_cycles": cycles,
            "share": cycles / whole if whole else 0.0,
            "samples_per_s": samples / (cycles * program.clock_ns * 1e-9),
        }
        for cycles, name in sorted(loads, key=lambda load: (-load[0], load[1]))
        if cycles
    ]
