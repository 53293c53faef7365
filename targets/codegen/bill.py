"""The bill of a program: energy by phase and stage, area, power, how long its cells last. What `inspect cost` shows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mgc.isa.instruction import Instruction
from mgc.isa.instructions import Outer, Update
from mgc.isa.instructions import Program as WriteCells
from mgc.isa.phases import stages
from mgc.isa.program import Program
from mgc.targets.codegen.account import Account
from mgc.targets.cost import CostModel
from mgc.targets.energy import EnergyBreakdown
from mgc.targets.totals import chip_area_mm2, peak_power_w

STAGES = ("forward", "loss", "backward", "gradient", "update", "leakage")
"""Stages of a phase, in order. gradient: what the gradient units make of errors and inputs; leakage: static power,
which belongs to no work."""

ByStage = Mapping[tuple[str, str], EnergyBreakdown]
"""(phase, stage) -> energy."""


@dataclass(frozen=True)
class Part:
    """Instructions `first` .. `stop` - 1, done `times` times in one run of the program (an iteration of training)."""

    first: int
    stop: int
    times: int


def parts_of(program: Program) -> list[Part]:
    """What one run does: its entries, as often as they run, for every micro-batch."""
    return [Part(e.first, e.stop, e.repeats * e.micro_batches) for e in program.iteration]


def energy_by_stage(program: Program, cost: CostModel, cycles: int) -> dict[tuple[str, str], EnergyBreakdown]:
    """Energy of one run that takes `cycles` cycles, by phase and stage; it adds up to the energy of the run."""
    account = Account(program, cost)
    stage_of = _stages(program)
    total: dict[tuple[str, str], EnergyBreakdown] = {}
    for part in parts_of(program):
        for i in _tasks(program, part.first, part.stop):
            spent = account.energy(i) * part.times
            total[stage_of[i.id]] = total.get(stage_of[i.id], EnergyBreakdown()) + spent
    leakage = cost.static_energy(cycles)
    if leakage.total:
        total["chip", "leakage"] = leakage
    order = {phase: k for k, phase in enumerate(dict.fromkeys(phase for phase, _ in total))}
    return dict(sorted(total.items(), key=lambda item: (order[item[0][0]], STAGES.index(item[0][1]))))


def _stages(program: Program) -> list[tuple[str, str]]:
    """(phase, stage) of every instruction: those of the data flow, with the gradients told from the errors."""
    gradients: set[int] = set()
    result: list[tuple[str, str]] = []
    for instruction, stage in zip(program.instructions, stages(program), strict=True):
        kind: str = stage.kind
        if kind == "backward":
            roots = {program.root(b) for b in instruction.reads()}
            if isinstance(instruction, Outer) or (roots and roots <= gradients):
                kind = "gradient"
                gradients |= {program.root(b) for b in instruction.writes()}
        result.append((stage.phase, kind))
    return result


def _tasks(program: Program, first: int, stop: int) -> Iterable[Instruction]:
    return (i for i in program.instructions[first:stop] if not isinstance(i, WriteCells))


@dataclass(frozen=True)
class Endurance:
    """How often one run writes cells: the most that any cell is written, and the mean over all cells with weights."""

    most: int
    mean: float


def endurance_of(program: Program) -> Endurance:
    """Writes of a cell in one run. An update writes every cell of its group once, in every replica (assumed: also those
    whose level stays the same).
    """
    writes = dict.fromkeys(range(len(program.groups)), 0)
    for part in parts_of(program):
        for i in _tasks(program, part.first, part.stop):
            if isinstance(i, Update) and i.group >= 0:
                writes[i.group] += part.times
    cells = {k: g.replicas * g.cells for k, g in enumerate(program.groups)}
    held = sum(cells.values())
    mean = sum(writes[k] * cells[k] for k in cells) / held if held else 0.0
    return Endurance(max(writes.values(), default=0), mean)


def bill(program: Program, cost: CostModel, cycles: int) -> dict[str, Any]:
    """All figures as JSON values; `cycles` is what one run takes when runs follow each other (energies in J)."""
    target = cost.target
    spent = energy_by_stage(program, cost, cycles)
    phases: dict[str, dict[str, dict[str, float]]] = {}
    for (phase, stage), energy in spent.items():
        phases.setdefault(phase, {})[stage] = energy.to_json_dict()
    seconds = cost.seconds(cycles)
    writes = endurance_of(program)
    runs = target.cell.endurance_writes / writes.most if writes.most else None
    total = EnergyBreakdown.sum(spent.values())
    return {
        "energy_by_phase": phases,
        "testing": _testing(program, cost),
        "chips": target.structure.chips,
        "area_mm2": chip_area_mm2(target),
        "average_power_w": total.total / seconds if seconds else 0.0,
        "peak_power_w": peak_power_w(target),
        "endurance": {
            "endurance_writes": target.cell.endurance_writes,
            "writes_per_cell": writes.mean,
            "most_writes_per_cell": writes.most,
            "runs": runs,
            "seconds": None if runs is None else runs * seconds,
        },
    }


def _testing(program: Program, cost: CostModel) -> dict[str, Any] | None:
    """The testing entry of a training program: one run of it."""
    account = Account(program, cost)
    for entry in program.entries:
        if entry.kind == "test" and entry not in program.iteration:
            spent = EnergyBreakdown.sum(account.energy(i) for i in _tasks(program, entry.first, entry.stop))
            energy = spent + cost.static_energy(entry.schedule.makespan)
            seconds = cost.seconds(entry.schedule.makespan)
            return {
                "batch": entry.micro_batch,
                "latency_s": seconds,
                "samples_per_s": entry.micro_batch / seconds if seconds else 0.0,
                "energy_j": energy.total,
                "energy": energy.to_json_dict(),
            }
    return None
