"""The calibrate pass: what the values that will be coded look like on sample data, and how far their codes reach."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

import numpy as np

from mgc.ir.graph import Graph
from mgc.ir.ops import Reduce
from mgc.passes.manager import CompileState, Pass, Tools
from mgc.passes.quantizing.clipping import choose_reaches
from mgc.passes.quantizing.codes import Reach
from mgc.passes.quantizing.network import Feeds, mirrored, run
from mgc.passes.quantizing.observed import graph_macs, observed_values
from mgc.passes.quantizing.samples import take_samples

__all__ = ["Calibrate", "Calibration", "observe", "observed_values"]

# Multiply-accumulates that looking at ranges may cost, and the samples that it takes at most and at least.
_OBSERVE_MACS = 3e10
_SAMPLES = {"error": 64, "minmax": 16}
_LEAST = 2


@dataclass(frozen=True)
class Calibration:
    """Sample data and what was seen with it.

    feeds: one set of graph inputs for each micro-batch that was run. ranges: (least, greatest) of real values, by the
    name that they have in the level-1 graph and keep in later ones. reaches: (least, greatest) number that the codes of
    a value hold, where that is not its range. graph: the level-1 graph that was run, None: nothing ran.
    """

    feeds: tuple[Feeds, ...]
    ranges: Mapping[str, tuple[float, float]]
    reaches: Mapping[str, Reach] = field(default_factory=dict)
    graph: Graph | None = None


@dataclass(frozen=True)
class Calibrate(Pass):
    """Takes samples from the user's arrays, or noise N(0,1) from the seed where there are none, runs the network on
    them in ONNX Runtime, and records the range of every value that will be coded or looked up. With method "error" it
    also chooses how far codes reach, by the least error of the network's outputs. How many samples are run, and how
    much is tried, depends on the network's multiply-accumulates, never on the clock. The graph stays as it is.
    """

    name: ClassVar[str] = "calibrate"
    method: Literal["error", "minmax"] = "error"

    def run(self, state: CompileState) -> CompileState:
        graph = state.graph
        if not observed_values(graph) and not state.calibration_data:
            return replace(state, calibration=Calibration((), {}))
        affordable = int(_OBSERVE_MACS / max(graph_macs(graph), 1))
        samples = take_samples(state, max(_LEAST, min(_SAMPLES[self.method], affordable)))
        seen = observe(graph, samples.feeds, state.tools)
        ranges = {name: (float(low.min()), float(high.max())) for name, (low, high) in seen.items()}
        reaches: dict[str, Reach] = {}
        if self.method == "error":
            reaches = choose_reaches(graph, samples, seen, state.tools, state.target.crossbar.input_bits)
        found = Calibration(samples.feeds, ranges, reaches, graph)
        return replace(state, calibration=found, warnings=(*state.warnings, *samples.warnings))


def observe(graph: Graph, feeds: Sequence[Feeds], tools: Tools) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """(least, greatest) number that each observed value takes, one entry a feed; what is not finite counts as 0.

    Only minima and maxima leave the runtime, so memory does not grow with the network.
    """
    names = [v.name for v in observed_values(graph)]
    if not names or not feeds:
        return {}
    probe, values = mirrored(graph)
    for name in names:
        axes = tuple(range(values[name].tensor.rank))
        for fn in ("min", "max"):
            extreme = probe.add(Reduce(fn, axes, keepdims=False), values[name]) if axes else values[name]
            probe.outputs.append((f"{fn} {name}", extreme))
    results = run(probe, feeds, tools)
    seen: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for name in names:
        low, high = (
            np.nan_to_num(np.array([float(r[f"{fn} {name}"]) for r in results]), nan=0.0, posinf=0.0, neginf=0.0)
            for fn in ("min", "max")
        )
        seen[name] = (low, high)
    return seen
