"""How the result moves with what was assumed: one key changed at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.paper.cases import Result, Workload, on_fewest_chips, with_keys
from targets.description import Target

Change = Callable[[Target], Mapping[str, Any]]


@dataclass(frozen=True)
class Variation:
    """One assumption changed: what, why that value, and the keys it changes."""

    what: str
    why: str
    change: Change


def _scaled(column: tuple[float, ...], factor: float) -> list[float]:
    return [value * factor for value in column]


VARIATIONS: tuple[Variation, ...] = (
    Variation("as the target says", "", lambda t: {}),
    Variation("cell.write_energy_pj = 1.4", "PANTHER: 22.6 nJ an array", lambda t: {"cell.write_energy_pj": 1.4}),
    Variation("cell.write_energy_pj = 2840", "MNSIM-TIME: 2.84 nJ a write", lambda t: {"cell.write_energy_pj": 2840.0}),
    Variation("cell.row_write_ns x 10", "write and verify", lambda t: {"cell.row_write_ns": t.cell.row_write_ns * 10}),
    Variation("cell.write_drivers_per_macro = 8", "a driver each", lambda t: {"cell.write_drivers_per_macro": 8}),
    Variation("cell.read_ns = 30", "PipeLayer's spike, converters as they are", lambda t: {"cell.read_ns": 30.0}),
    Variation(
        "adc: twice the rate",
        "and read_ns = 50",
        lambda t: {
            "adc.sample_ns": _scaled(t.adc.sample_ns, 0.5),
            "cell.read_ns": t.cell.read_ns / 2,
        },
    ),
    Variation("adc: half the rate", "", lambda t: {"adc.sample_ns": _scaled(t.adc.sample_ns, 2)}),
    Variation("adc: twice the energy", "", lambda t: {"adc.energy_pj": _scaled(t.adc.energy_pj, 2)}),
    Variation("adc.per_macro x 4", "less sharing; reads bound then", lambda t: {"adc.per_macro": t.adc.per_macro * 4}),
    Variation("structure.chips x 2", "twice the replicas", lambda t: {"structure.chips": t.structure.chips * 2}),
    Variation("structure.chips x 4", "four times", lambda t: {"structure.chips": t.structure.chips * 4}),
    Variation("training.transposed_read = false", "a second copy", lambda t: {"training.transposed_read": False}),
    Variation("training.master_bits = 8", "half the slices", lambda t: {"training.master_bits": 8}),
    Variation("crossbar.input_bits = 16", "codes of activations and errors", lambda t: {"crossbar.input_bits": 16}),
    Variation("clock_ns = 2", "half the clock of the digital part", lambda t: {"clock_ns": 2.0}),
    Variation(
        "edram.bytes_per_tile x 16",
        "1 MiB a tile: nothing off-chip",
        lambda t: {"edram.bytes_per_tile": t.edram.bytes_per_tile * 16},
    ),
    Variation(
        "dram.bytes_per_ns x 4", "256 GB/s, a GPU's memory", lambda t: {"dram.bytes_per_ns": t.dram.bytes_per_ns * 4}
    ),
    Variation("dram.energy_pj_per_byte = 32", "4 pJ a bit: HBM", lambda t: {"dram.energy_pj_per_byte": 32.0}),
    Variation("vector.lanes_per_tile x 4", "", lambda t: {"vector.lanes_per_tile": t.vector.lanes_per_tile * 4}),
    Variation("power.static_mw_per_tile = 50", "PUMA's leakage", lambda t: {"power.static_mw_per_tile": 50.0}),
)


def variations(workload: Workload, target: Target) -> Iterator[tuple[Variation, Result]]:
    """Training under each variation, one after the other."""
    for variation in VARIATIONS:
        yield variation, on_fewest_chips(workload, with_keys(target, variation.change(target)))
