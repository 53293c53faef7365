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
from mgc.passes.quantizing.second_reads import Pair, read_twice
from mgc.passes.quantizing.sensitivity import most_samples, worths
from mgc.passes.state import CompileState, with_graph

CalibrationMethod = Literal["error", "minmax", "none"]
"""How scales are chosen: by least output error, by the range seen, or not at all (for `float` numerics only)."""

# Multiply-accumulates that looking at ranges may cost; beyond the second number of samples, a part of them, and no
# more samples than gradients are taken of. The samples that it takes at most and at least.
_OBSERVE_MACS, _ENOUGH, _MORE_MACS = 3e10, 16, 5e9
_SAMPLES = {"error": 64, "minmax": 16}
_LEAST = 2
# What values are taken to hold where nothing is run.
_ASSUMED = 8.0


@register_attr
@dataclass(frozen=True, eq=False)
class Calibration:
    """Sample data and what was seen with it.

    feeds: one set of graph inputs for each micro-batch that was run. ranges: (least, greatest) of real values, by the
    name that they have in the level-1 graph and keep in later ones. reaches: (least, greatest) number that the codes of
    a value hold, where that is not its range. pairs: values that hold what is read twice.
    """

    feeds: tuple[Feeds, ...]
    ranges: Mapping[str, tuple[float, float]]
    reaches: Mapping[str, Reach] = field(default_factory=dict)
    pairs: Mapping[str, Pair] = field(default_factory=dict)


@dataclass(frozen=True)
class Scales(Pass):
    """Where weights are trained, nothing: scales are then computed on the chip, see `quantize`. Else takes samples from
    the user's arrays, or noise N(0,1) from the seed where there are none, runs the network on them in ONNX Runtime, and
    records the range of every value that will be coded or looked up. With method "error" it also chooses how far codes
    reach, by the least error of the network's outputs. How many samples are run, and how much is tried, depends on the
    network's multiply-accumulates, never on the clock. With method "none" every value is taken to lie in -8 .. 8, no
    data is drawn and nothing runs: such a program is exact in `float` numerics, which uses no scale; in `quantized` its
    scales are only a guess. With `second_reads`, weighted ops read values twice where that pays, up to this share of
    the network's multiply-accumulates; else the graph stays as it is. An entry gets its `calibration`, and the graph
    that was `calibrated` where one was run, with a `probe`: what it gives for a few samples.
    """

    name: ClassVar[str] = "scales"
    method: CalibrationMethod = "error"
    second_reads: float = 0.0

    def run(self, state: CompileState) -> CompileState:
        return super().run(state).without("calibration_data")

    def run_entry(self, entry: Entry, state: CompileState) -> Entry:
        if state.trains:
            return entry
        graph = entry.graph.copy() if self.second_reads else entry.graph
        found = self._seen(graph, state)
        if not found.feeds:
            return with_graph(entry, graph, calibration=found)
        probe = make_probe(graph, state.module.attributes.get("calibration_data", {}), state.seed, state.tools)
        return with_graph(entry, graph, calibration=found, calibrated=graph, probe=probe)

    def _seen(self, graph: Graph, state: CompileState) -> Calibration:
        if self.method == "none":
            return Calibration((), {v.name: (-_ASSUMED, _ASSUMED) for v in observed_values(graph)})
        data = state.module.attributes.get("calibration_data", {})
        if not observed_values(graph) and not data:
            return Calibration((), {})
        macs = max(graph_macs(graph), 1)
        affordable = min(int(_OBSERVE_MACS / macs), max(_ENOUGH, int(_MORE_MACS / macs)))
        if self.method == "error":
            affordable = min(affordable, max(_ENOUGH, most_samples(graph, coded_values(graph))))
        samples = take_samples(graph, data, state.seed, max(_LEAST, min(_SAMPLES[self.method], affordable)))
        feeds, bits = samples.feeds, state.target.crossbar.input_bits
        twice = self.second_reads > 0
        names = searched(graph, samples, bits, noise=twice) if self.method == "error" else []
        found, seen, outputs = worths(graph, names, feeds, state.tools)
        seen = joined(seen, observe(graph, feeds[samples_in(seen) :], state.tools))
        ranges = {name: (float(low.min()), float(high.max())) for name, (low, high) in seen.items()}
        state.warnings.extend(samples.warnings)
        if self.method != "error":
            return Calibration(samples.feeds, ranges)
        reaches, coded = choose_reaches(graph, samples, seen, found, outputs, state.tools, bits)
        if not twice:
            return Calibration(samples.feeds, ranges, reaches)
        if not coded:
            state.warnings.append(
                "second reads: none, as which values matter cannot be found out: the network is too large for it, or "
                "has no derivative"
            )
        pairs = read_twice(graph, coded, self.second_reads)
        for name, pair in pairs.items():
            ranges[name] = ranges[pair.of]
            if pair.of in reaches:
                reaches[name] = reaches[pair.of]
        return Calibration(samples.feeds, ranges, reaches, pairs)
