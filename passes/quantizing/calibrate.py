"""The scales pass: what the values that will be coded look like on sample data, and how far their codes reach."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from mgc.ir.graph import Graph
from mgc.ir.module import Entry
from mgc.ir.op import register_attr
from mgc.passes.manager import Pass
from mgc.passes.quantizing.clipping import choose_reaches, searched
from mgc.passes.quantizing.codes import Reach
from mgc.passes.quantizing.extremes import joined, observe, samples_in
from mgc.passes.quantizing.network import Feeds
from mgc.passes.quantizing.observed import coded_values, graph_macs, observed_values
from mgc.passes.quantizing.probe import make_probe
from mgc.passes.quantizing.samples import take_samples
from mgc.passes.quantizing.sensitivity import ENOUGH, most_samples, worths
from mgc.passes.state import CompileState, with_graph

CalibrationMethod = Literal["error", "minmax", "none"]
"""How scales are chosen: by least output error, by the range seen, or not at all (for `float` numerics only)."""

# Multiply-accumulates that looking at ranges may cost; beyond ENOUGH samples, a part of them, and no
# more samples than gradients are taken of. The samples that it takes at most and at least.
_OBSERVE_MACS, _MORE_MACS = 3e10, 5e9
_SAMPLES = {"error": 64, "minmax": 16}
_LEAST = 2
# What values are taken to hold where nothing is run.
_ASSUMED = 8.0

EXTRA_BITS = 0.05
"""Digits that more bits of values may add, as a share of all that layers read: 0.4 of a bit where codes have 8."""


@register_attr
@dataclass(frozen=True, eq=False)
class Calibration:
    """Sample data and what was seen with it.

    feeds: one set of graph inputs for each micro-batch that was run. ranges: (least, greatest) of real values, by the
    name that they have in the level-1 graph and keep in later ones. reaches: (least, greatest) number that the codes of
    a value hold, where that is not its range. bits: those of the codes of values that get more than the target's
    `input_bits`.
    """

    feeds: tuple[Feeds, ...]
    ranges: Mapping[str, tuple[float, float]]
    reaches: Mapping[str, Reach] = field(default_factory=dict)
    bits: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Scales(Pass):
    """Where weights are trained, nothing: scales are then computed on the chip, see `quantize`. Else takes samples from
    the user's arrays, or noise N(0,1) from the seed where there are none, runs the network on them in ONNX Runtime, and
    records the range of every value that will be coded or looked up. With method "error" it also chooses how far codes
    reach, by the least error of the network's outputs. How many samples are run, and how much is tried, depends on the
    network's multiply-accumulates, never on the clock. With method "none" every value is taken to lie in -8 .. 8, no
    data is drawn and nothing runs: such a program is exact in `float` numerics, which uses no scale; in `quantized` its
    scales are only a guess. With method "error", values that matter most get more bits than the target's `input_bits`,
    as far as its registers hold them: up to `extra_bits` of the digits that all layers read. An entry gets its
    `calibration`, and the graph that was `calibrated` where one was run, with a `probe`: what it gives for a few
    samples.
    """

    name: ClassVar[str] = "scales"
    method: CalibrationMethod = "error"
    extra_bits: float = EXTRA_BITS

    def run(self, state: CompileState) -> CompileState:
        return super().run(state).without("calibration_data")

    def run_entry(self, entry: Entry, state: CompileState) -> Entry:
        if state.trains:
            return entry
        found = self._seen(entry.graph, state)
        if not found.feeds:
            return with_graph(entry, entry.graph, calibration=found)
        probe = make_probe(entry.graph, state.module.attributes.get("calibration_data", {}), state.seed, state.tools)
        return with_graph(entry, entry.graph, calibration=found, calibrated=entry.graph, probe=probe)

    def _seen(self, graph: Graph, state: CompileState) -> Calibration:
        if self.method == "none":
            return Calibration((), {v.name: (-_ASSUMED, _ASSUMED) for v in observed_values(graph)})
        data = state.module.attributes.get("calibration_data", {})
        if not observed_values(graph) and not data:
            return Calibration((), {})
        macs = max(graph_macs(graph), 1)
        affordable = min(int(_OBSERVE_MACS / macs), max(ENOUGH, int(_MORE_MACS / macs)))
        if self.method == "error":
            affordable = min(affordable, max(ENOUGH, most_samples(graph, coded_values(graph))))
        samples = take_samples(graph, data, state.seed, max(_LEAST, min(_SAMPLES[self.method], affordable)))
        feeds, crossbar = samples.feeds, state.target.crossbar
        extra = self.extra_bits if crossbar.widest_input > crossbar.input_bits else 0.0
        names = searched(graph, samples, crossbar.input_bits, noise=extra > 0) if self.method == "error" else []
        found, seen, outputs = worths(graph, names, feeds, state.tools)
        seen = joined(seen, observe(graph, feeds[samples_in(seen) :], state.tools))
        ranges = {name: (float(low.min()), float(high.max())) for name, (low, high) in seen.items()}
        state.warnings.extend(samples.warnings)
        if self.method != "error":
            return Calibration(samples.feeds, ranges)
        reaches, bits = choose_reaches(graph, samples, seen, found, outputs, state.tools, crossbar, extra)
        return Calibration(samples.feeds, ranges, reaches, bits)
