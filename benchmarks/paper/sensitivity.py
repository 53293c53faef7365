"""How the result moves with what was assumed: one key changed at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.paper.cases import Result, Workload, billed, of_program, train, trained, with_keys
from mgc.targets.description import Target

Change = Callable[[Target], Mapping[str, Any]]


@dataclass(frozen=True)
class Variation:
    """One assumption changed: what, why that value, and the keys it changes. `energy`: it changes no time."""

    what: str
    why: str
    change: Change
    energy: bool = False


def _scaled(column: tuple[float, ...], factor: float) -> list[float]:
    return [value * factor for value in column]


def _faster_reads(t: Target) -> Mapping[str, Any]:
    return {"adc.sample_ns": _scaled(t.adc.sample_ns, 0.5), "cell.read_ns": t.cell.read_ns / 2}


VARIATIONS: tuple[Variation, ...] = (
    Variation("cell.write_energy_pj = 1.4", "PANTHER: 22.6 nJ an array", lambda t: {"cell.write_energy_pj": 1.4}, True),
    Variation(
        "cell.write_energy_pj = 2840", "MNSIM-TIME: 2.84 nJ a write", lambda t: {"cell.write_energy_pj": 2840.0}, True
    ),
    Variation("adc.energy_pj x 2", "", lambda t: {"adc.energy_pj": _scaled(t.adc.energy_pj, 2)}, True),
    Variation("dram.energy_pj_per_byte = 32", "4 pJ a bit: HBM", lambda t: {"dram.energy_pj_per_byte": 32.0}, True),
    Variation("power.static_mw_per_tile = 50", "PUMA's leakage", lambda t: {"power.static_mw_per_tile": 50.0}, True),
    Variation("cell.row_write_ns x 10", "write and verify", lambda t: {"cell.row_write_ns": t.cell.row_write_ns * 10}),
    Variation("cell.read_ns = 30", "PipeLayer's spike; converters as they are", lambda t: {"cell.read_ns": 30.0}),
    Variation("adc.sample_ns and cell.read_ns / 2", "reads twice as fast", _faster_reads),
    Variation("adc.sample_ns x 2", "converters half as fast", lambda t: {"adc.sample_ns": _scaled(t.adc.sample_ns, 2)}),
    Variation("structure.chips = 2", "twice the replicas", lambda t: {"structure.chips": 2}),
    Variation(
        "training.packing = interleaved", "slices and signs side by side", lambda t: {"training.packing": "interleaved"}
    ),
    Variation(
        "training.transposed_clip = true", "transposed reads may clip", lambda t: {"training.transposed_clip": True}
    ),
    Variation("training.copies = least", "one copy of each weight", lambda t: {"training.copies": "least"}),
    Variation(
        "training.transposed_read = false", "a second copy of all", lambda t: {"training.transposed_read": False}
    ),
    Variation("training.master_bits = 8", "fewer slices, so fewer turns", lambda t: {"training.master_bits": 8}),
    Variation("crossbar.input_bits = 16", "codes of 16 bits", lambda t: {"crossbar.input_bits": 16}),
    Variation("clock_ns = 2", "half the clock of the digital part", lambda t: {"clock_ns": 2.0}),
    Variation("edram.bytes_per_tile x 16", "1 MiB a tile", lambda t: {"edram.bytes_per_tile": 1 << 20}),
    Variation("dram.bytes_per_ns = 484", "the GPU's own memory", lambda t: {"dram.bytes_per_ns": 484.0}),
    Variation("vector.lanes_per_tile x 4", "", lambda t: {"vector.lanes_per_tile": t.vector.lanes_per_tile * 4}),
)


def variations(workload: Workload, target: Target) -> Iterator[tuple[str, str, Result]]:
    """(what, why, training) for the target as it is and under each variation; compiled anew where times change."""
    program, seconds = trained(workload, target)
    yield "as the target says", "", of_program(workload, target, program, seconds)
    for variation in VARIATIONS:
        changed = with_keys(target, variation.change(target))
        if variation.energy:
            yield variation.what, variation.why, billed(workload, changed, program)
        else:
            yield variation.what, variation.why, train(workload, changed)
