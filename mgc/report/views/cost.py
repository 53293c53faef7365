"""The cost: latency, throughput, energy and where it goes, as the compiler put the figures into the program."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import RenderableType

from mgc.isa.program import Program
from mgc.report.text import Column, pairs, section, stack, table
from mgc.report.units import count, percent, si


def facts(program: Program) -> dict[str, Any]:
    """Figures of one run over the batch; None for what the program does not state."""
    meta = program.meta
    samples = program.micro_batch * program.micro_batches
    energy = meta.get("energy_j")
    return {
        "target": program.target.get("name"),
        "batch": samples,
        "latency_s": meta.get("latency_s"),
        "samples_per_s": meta.get("samples_per_s"),
        "energy_j": energy,
        "energy_per_sample_j": energy / samples if energy is not None and samples else None,
        "energy_by_component_j": dict(_components(meta)),
        "program_energy_j": meta.get("program_energy_j"),
        "macs_useful": meta.get("macs_useful"),
        "macs_mapped": meta.get("macs_mapped"),
        "row_block_mvms": meta.get("row_block_mvms"),
    }


def _components(meta: Mapping[str, Any]) -> Mapping[str, float]:
    found = meta.get("energy", {})
    return found if isinstance(found, Mapping) else {}


def render(program: Program) -> RenderableType:
    """Totals, then energy by component in falling order."""
    shown = facts(program)
    head = pairs(
        [
            ("target", str(shown["target"])),
            ("latency", f"{si(shown['latency_s'], 's')} for a batch of {count(shown['batch'])}"),
            ("throughput", f"{count(shown['samples_per_s'])} samples/s"),
            ("energy", f"{si(shown['energy_j'], 'J')}, {si(shown['energy_per_sample_j'], 'J')} a sample"),
            ("to write cells", f"{si(shown['program_energy_j'], 'J')}, once"),
            ("MACs", f"{si(shown['macs_useful'], '')} useful, {si(shown['macs_mapped'], '')} on crossbars, a batch"),
            ("MVMs", f"{count(shown['row_block_mvms'])} of one row block, a batch"),
        ]
    )
    components = shown["energy_by_component_j"]
    if not components:
        return head
    total = sum(components.values()) or 1.0
    ordered = sorted(components.items(), key=lambda item: (-item[1], item[0]))
    rows = [(name, si(joules, "J"), percent(joules / total)) for name, joules in ordered if joules]
    columns = [Column("component"), Column("energy", number=True), Column("share", number=True)]
    return stack(head, section("Energy by component", table(columns, rows)))
