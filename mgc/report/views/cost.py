"""The cost: time, energy and where it goes, area, power, wear, as the compiler put the figures into the program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import RenderableType

from mgc.isa.program import Program
from mgc.report import wear
from mgc.report.roof import roof_of
from mgc.report.text import Heading, Row, pairs, section, stack, table
from mgc.report.units import count, duration, percent, si


def facts(program: Program) -> dict[str, Any]:
    """Figures of one run over the batch, or of one iteration of training; None for what the program does not state.

    `energy_by_phase_j` has phase -> stage -> component; it adds up to `energy_j`, as does `energy_by_component_j`.
    `testing` is the testing entry of a training program, `endurance` how runs wear the cells, `allocation` how the
    crossbars are shared out, with what is proven of the best possible. `roof` says what would limit the rate alone (see
    `mgc.report.roof`), `layers` what the tasks of each set of ONNX nodes take in all, `area_mm2` what all chips have
    and what of it is in use. `wear` has writes at worst case and as counted, of a program with counts (see
    `mgc.report.wear`).
    """
    meta = program.meta
    samples = _samples(meta) or program.iteration[0].batch
    energy = meta.get("energy_j")
    bill = _mapping(meta, "cost")
    return {
        "target": program.target.get("name"),
        "mode": program.mode,
        "batch": samples,
        "latency_s": meta.get("latency_s"),
        "samples_per_s": meta.get("samples_per_s"),
        "energy_j": energy,
        "energy_per_sample_j": energy / samples if energy is not None and samples else None,
        "energy_by_component_j": dict(_mapping(meta, "energy")),
        "energy_by_phase_j": bill.get("energy_by_phase", {}),
        "program_energy_j": meta.get("program_energy_j"),
        "testing": bill.get("testing"),
        "chips": bill.get("chips"),
        "area_mm2_per_chip": _total(_mapping(bill, "area_mm2")),
        "area_by_component_mm2": dict(_mapping(bill, "area_mm2")),
        "area_mm2": {
            "chip": sum(_mapping(bill, "area_mm2").values()) * (bill.get("chips") or 1),
            "used": bill.get("area_used_mm2"),
        },
        "roof": roof_of(program),
        "layers": list(bill.get("layers", ())),
        "average_power_w": bill.get("average_power_w"),
        "peak_power_w_per_chip": _total(_mapping(bill, "peak_power_w")),
        "peak_power_by_component_w": dict(_mapping(bill, "peak_power_w")),
        "endurance": bill.get("endurance"),
        "wear": wear.wear_of(program),
        "allocation": meta.get("allocation"),
        "macs_useful": meta.get("macs_useful"),
        "macs_mapped": meta.get("macs_mapped"),
        "row_block_mvms": meta.get("row_block_mvms"),
    }


def _samples(meta: Mapping[str, Any]) -> int | None:
    """Samples of one run, from its time and rate: an iteration of training may take several batches."""
    seconds, rate = meta.get("latency_s"), meta.get("samples_per_s")
    return round(seconds * rate) if seconds and rate else None


def _mapping(table: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = table.get(key)
    return found if isinstance(found, Mapping) else {}


def _total(parts: Mapping[str, float]) -> float | None:
    return sum(parts.values()) if parts else None


def render(program: Program) -> RenderableType:
    """Totals, then energy by component and by phase, area and power by component, wear."""
    shown = facts(program)
    training = program.mode == "training"
    run = "an iteration on" if training else "a batch of"
    head = [
        ("target", str(shown["target"]) + _chips(shown)),
        ("latency", f"{si(shown['latency_s'], 's')} for {run} {count(shown['batch'])}"),
        ("throughput", f"{count(shown['samples_per_s'])} samples/s"),
        ("energy", f"{si(shown['energy_j'], 'J')}, {si(shown['energy_per_sample_j'], 'J')} a sample"),
        (
            "power",
            f"{si(shown['average_power_w'], 'W')} on average, {si(shown['peak_power_w_per_chip'], 'W')} a chip at most",
        ),
        ("area", _area(shown)),
        ("to write cells", f"{si(shown['program_energy_j'], 'J')}, once"),
        ("wear", _wear(shown["endurance"])),
        *wear.lines(program),
        ("MACs", f"{si(shown['macs_useful'], '')} useful, {si(shown['macs_mapped'], '')} on crossbars, a batch"),
    ]
    if not training:
        head.append(("MVMs", f"{count(shown['row_block_mvms'])} of one row block, a batch"))
    if shown["allocation"]:
        head.append(("crossbars", _allocation(shown["allocation"])))
    if shown["testing"]:
        head.append(("testing", _testing(shown["testing"])))
    parts = [pairs(head)]
    if shown["roof"]:
        parts.append(section("Roof: the busiest of each kind", _roof(shown["roof"])))
    if shown["layers"]:
        parts.append(section("Layers", _layers(shown["layers"])))
    if shown["energy_by_component_j"]:
        parts.append(section("Energy by component", _shares(shown["energy_by_component_j"], "J", "energy")))
    if shown["energy_by_phase_j"]:
        parts.append(section("Energy by phase", _phases(shown["energy_by_phase_j"])))
    if shown["area_by_component_mm2"]:
        parts.append(section("Area of a chip", _shares(shown["area_by_component_mm2"], "mm²", "area", plain=True)))
    if shown["peak_power_by_component_w"]:
        parts.append(
            section("Power of a chip with all parts busy", _shares(shown["peak_power_by_component_w"], "W", "power"))
        )
    return stack(*parts)


def _chips(shown: Mapping[str, Any]) -> str:
    chips = shown["chips"]
    return "" if chips in (None, 1) else f", {count(chips)} chips"


def _area(shown: Mapping[str, Any]) -> str:
    area, chips = shown["area_mm2_per_chip"], shown["chips"] or 1
    if area is None:
        return "-"
    whole = f", {area * chips:,.1f} mm² in all" if chips > 1 else ""
    used = shown["area_mm2"]["used"]
    return f"{area:,.1f} mm² a chip{whole}" + ("" if used is None else f", {used:,.1f} mm² in use")


def _wear(endurance: Mapping[str, Any] | None) -> str:
    if not endurance:
        return "-"
    if endurance["runs"] is None:
        return "no cell is written after the first programming"
    each, most = endurance["writes_per_cell"], count(endurance["most_writes_per_cell"])
    return (
        f"{each:.3g} writes a cell and iteration ({most} at most); with {endurance['endurance_writes']:.0e} writes a "
        f"cell the chip lasts {endurance['runs']:.3g} iterations, {duration(endurance['seconds'])}"
    )


def _allocation(found: Mapping[str, Any]) -> str:
    where = "across borders between chips" if found["chips"] is None else f"on {count(found['chips'])} chips"
    links = ""
    if found["chips"] != 1:
        proven = "proven least" if found["status"] == "OPTIMAL" else f"{si(found['least_traffic_bytes'], 'B')} at least"
        links = f" {where}, {si(found['traffic_bytes'], 'B')} over links ({proven});"
    return f"shared out{links} estimated time within {percent(found['gap'])} of the best possible split"


def _testing(testing: Mapping[str, Any]) -> str:
    return (
        f"{si(testing['latency_s'], 's')} and {si(testing['energy_j'], 'J')} for {count(testing['batch'])} "
        f"sample{'s' * (testing['batch'] > 1)} of the generator"
    )


def _shares(parts: Mapping[str, float], unit: str, what: str, *, plain: bool = False) -> RenderableType:
    """Components in falling order with their share of the whole."""
    total = sum(parts.values()) or 1.0
    ordered = sorted(parts.items(), key=lambda item: (-item[1], item[0]))
    rows = [(name, f"{v:,.3g} {unit}" if plain else si(v, unit), percent(v / total)) for name, v in ordered if v]
    return table(["component", f">{what}", ">share"], rows)


def _roof(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    """What each resource works, and the rate if it alone were the limit."""
    columns = ["~resource", ">busy cycles", ">share", ">samples/s alone"]
    return table(
        columns,
        [(r["resource"], count(r["busy_cycles"]), percent(r["share"]), count(r["samples_per_s"])) for r in rows],
    )


def _layers(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Crossbars, cycles of all its tasks, and energy of each layer."""
    columns = ["~layer", ">crossbars", ">cycles", ">energy"]
    return table(
        columns, [(r["name"], count(r["crossbars"]), count(r["cycles"]), si(r["energy_j"], "J")) for r in rows]
    )


def _phases(phases: Mapping[str, Mapping[str, Mapping[str, float]]]) -> RenderableType:
    """Stages under their phase, each with its share and its two costliest components."""
    total = sum(sum(c.values()) for stages in phases.values() for c in stages.values()) or 1.0
    rows: list[Row] = []
    for phase, stages in phases.items():
        joules = sum(sum(c.values()) for c in stages.values())
        rows.append(Heading(f"{phase}: {si(joules, 'J')}, {percent(joules / total)}"))
        for stage, components in stages.items():
            spent = sum(components.values())
            top = sorted((c for c in components.items() if c[1]), key=lambda item: (-item[1], item[0]))[:2]
            mostly = ", ".join(f"{name} {percent(joules / spent)}" for name, joules in top)
            rows.append((f"  {stage}", si(spent, "J"), percent(spent / total), mostly))
    columns = ["stage", ">energy", ">share", "~mostly"]
    return table(columns, rows)
