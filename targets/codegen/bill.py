"""The bill of a program: what a run takes, energy by phase and stage, area, power, how long its cells last."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mgc.isa.instructions import Outer, Rewrite
from mgc.isa.phases import stages
from mgc.isa.program import Program
from mgc.isa.tasks import tasks_of
from mgc.targets.codegen.account import Account
from mgc.targets.cost import CostModel
from mgc.targets.energy import EnergyBreakdown
from mgc.targets.totals import chip_area_mm2, peak_power_w, used_area_mm2

STAGES = ("forward", "loss", "backward", "gradient", "update", "leakage")
"""Stages of a phase, in order. gradient: what the gradient units make of errors and inputs; leakage: static power,
which belongs to no work."""


def bill(program: Program, cost: CostModel) -> dict[str, Any]:
    """Time and energy of a run (in training, of an iteration) for a program's `meta`, all under "cost" in detail.

    Runs follow each other in a steady state. Energies are in J, of the weights' first writing apart.
    """
    account = Account(program, cost)
    cycles, energy, setup = account.run()
    samples = sum(e.batch * e.repeats for e in program.iteration)
    detail = _detail(account, cost.seconds(cycles), energy)
    return {
        "iteration_cycles": cycles,
        **_run(samples, cost.seconds(cycles), energy),
        "program_energy_j": setup.total,
        "cost": detail,
        "rewriting": _rewriting(account, detail["endurance"]),
    }


def _run(samples: int, seconds: float, energy: EnergyBreakdown) -> dict[str, Any]:
    return {
        "latency_s": seconds,
        "samples_per_s": samples / seconds if seconds else 0.0,
        "energy_j": energy.total,
        "energy": energy.to_json_dict(),
    }


def _detail(account: Account, seconds: float, energy: EnergyBreakdown) -> dict[str, Any]:
    """Shares of the energy, and figures of the chip and its cells, if a run takes so many seconds."""
    program, cost, target = account.program, account.cost, account.cost.target
    phases: dict[str, dict[str, dict[str, float]]] = {}
    for (phase, stage), spent in energy_by_stage(account).items():
        phases.setdefault(phase, {})[stage] = spent.to_json_dict()
    aside = [e for e in program.entries if e not in program.iteration]
    writes = endurance_of(program)
    runs = target.cell.endurance_writes / writes.most if writes.most else None
    return {
        "energy_by_phase": phases,
        "testing": {
            "batch": aside[0].batch,
            **_run(aside[0].batch, cost.seconds(aside[0].schedule.period), account.entry(aside[0])),
        }
        if aside
        else None,
        "chips": target.structure.chips,
        "area_mm2": chip_area_mm2(target),
        "area_used_mm2": used_area_mm2(target, {c for g in program.groups for c in g.crossbars}),
        "layers": layers_of(account),
        "average_power_w": energy.total / seconds if seconds else 0.0,
        "peak_power_w": peak_power_w(target),
        "endurance": {
            "endurance_writes": target.cell.endurance_writes,
            "writes_per_cell": writes.mean,
            "most_writes_per_cell": writes.most,
            "runs": runs,
            "seconds": None if runs is None else runs * seconds,
        },
    }


def _rewriting(account: Account, endurance: dict[str, Any]) -> dict[str, Any] | None:
    """What a run takes to write groups that take turns on crossbars: cycles of all writes, one after the other, joules,
    bytes over the off-chip channel; the most writes of a cell, and the runs and seconds that cells last. None where all
    weights stay.
    """
    program = account.program
    writes = [
        (i, entry.repeats)
        for entry in program.iteration
        for i in program.instructions[entry.first : entry.stop]
        if isinstance(i, Rewrite)
    ]
    if not writes:
        return None
    return {
        "crossbars_needed": sum(len(g.crossbars) for g in program.groups),
        "crossbars_written": sum(n * len(program.groups[i.group].crossbars) for i, n in writes),
        "cycles": sum(n * i.duration for i, n in writes),
        "energy_j": sum(n * account.energies[i.id].total for i, n in writes),
        "offchip_bytes": sum(n * i.fetches(program) for i, n in writes),
        "writes_per_cell": endurance["most_writes_per_cell"],
        "runs": endurance["runs"],
        "seconds": endurance["seconds"],
    }


def energy_by_stage(account: Account) -> dict[tuple[str, str], EnergyBreakdown]:
    """Energy of one run by phase and stage, in order; it adds up to the energy of the run."""
    program, stage_of = account.program, _stages(account.program)
    total: dict[tuple[str, str], EnergyBreakdown] = {}
    for entry in program.iteration:
        for i in range(entry.first, entry.stop):
            spent = account.energies[i] * (entry.repeats * entry.micro_batches)
            total[stage_of[i]] = total.get(stage_of[i], EnergyBreakdown()) + spent
    leakage = account.cost.static_energy(program.iteration_cycles)
    if leakage.total:
        total["chip", "leakage"] = leakage
    order = {phase: k for k, phase in enumerate(dict.fromkeys(phase for phase, _ in total))}
    return dict(sorted(total.items(), key=lambda item: (order[item[0][0]], STAGES.index(item[0][1]))))


def layers_of(account: Account) -> list[dict[str, Any]]:
    """What each set of ONNX nodes takes in a run: crossbars of its weights (with those that read them first), cycles of
    all its tasks, joules; leakage is in none.
    """
    program = account.program
    found: dict[tuple[str, ...], dict[str, Any]] = {}
    held = {g.id: len(g.crossbars) for g in program.groups}
    for entry in program.iteration:
        for i in program.instructions[entry.first : entry.stop]:
            nodes = program.sources[i.source] if i.source >= 0 else ()
            blank = {"name": nodes[0] if nodes else "", "onnx_nodes": list(nodes), "crossbars": 0, "cycles": 0}
            row = found.setdefault(nodes, {**blank, "energy_j": 0.0})
            row["crossbars"] += sum(held.pop(g, 0) for g in i.reads_groups())
            row["cycles"] += i.duration * tasks_of(entry, i) * entry.repeats
            row["energy_j"] += account.energies[i.id].total * entry.micro_batches * entry.repeats
    return list(found.values())


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


@dataclass(frozen=True)
class Endurance:
    """How often one run writes cells: the most that any cell is written, and the mean over all cells with weights."""

    most: int
    mean: float


def endurance_of(program: Program) -> Endurance:
    """Writes of a cell in one run. An update writes every cell of its group once, in every replica (assumed: also those
    whose level stays the same). Groups that take turns write the same cells; of a crossbar, those of its fullest group
    count.
    """
    writes = [0] * len(program.groups)
    for entry in program.iteration:
        for i in program.instructions[entry.first : entry.stop]:
            for group in i.writes_cells(program):
                writes[group] += entry.repeats * entry.micro_batches
    times: dict[int, int] = {}
    cells: dict[int, float] = {}
    for group, count in zip(program.groups, writes, strict=True):
        each = group.cells / group.crossbars_per_replica
        for crossbar in group.crossbars:
            times[crossbar] = times.get(crossbar, 0) + count
            cells[crossbar] = max(cells.get(crossbar, 0.0), each)
    written = sum(n * g.replicas * g.cells for n, g in zip(writes, program.groups, strict=True))
    return Endurance(max(times.values(), default=0), written / max(1.0, sum(cells.values())))
