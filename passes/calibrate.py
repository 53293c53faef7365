"""The calibrate pass: what the values that will be coded look like on sample data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from mgc.ir.graph import Graph, Value, evaluate
from mgc.ir.ops import Conv, ConvTranspose, Host, MatMul, Reduce, Unary
from mgc.ir.types import TensorType
from passes.manager import CompileState, Pass, Tools
from passes.quantizing.samples import sample_feeds
from passes.quantizing.tables import needs_table

Feeds = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Calibration:
    """Sample data and what was seen with it.

    feeds: one set of graph inputs for each micro-batch that was run. ranges: (least, greatest) of real values, by the
    name that they have in the level-1 graph and keep in later ones.
    """

    feeds: tuple[Feeds, ...]
    ranges: Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class Calibrate(Pass):
    """Draws `samples` micro-batches from the user's arrays, or noise N(0,1) from the seed where there are none, runs
    the network on them in ONNX Runtime, and records the range of every value that will be coded or looked up. Only
    minima and maxima leave the runtime, so memory does not grow with the network. The graph stays as it is.
    """

    name: ClassVar[str] = "calibrate"
    samples: int = 16

    def run(self, state: CompileState) -> CompileState:
        feeds, warnings = sample_feeds(state, self.samples)
        ranges = observe(state.graph, feeds, state.tools)
        return replace(state, calibration=Calibration(feeds, ranges), warnings=(*state.warnings, *warnings))


def observed_values(graph: Graph) -> list[Value]:
    """The computed real values whose range matters: operands of weighted ops and of functions that become tables."""
    values: dict[Value, None] = {}
    for node in graph.nodes:
        weighted = isinstance(node.op, Conv | ConvTranspose | MatMul)
        table = isinstance(node.op, Unary) and needs_table(node.op)
        for value in node.inputs if weighted or table else ():
            if value not in graph.constants and isinstance(value.type, TensorType) and value.type.dtype.is_float:
                values[value] = None
    return list(values)


def observe(graph: Graph, feeds: Sequence[Feeds], tools: Tools) -> dict[str, tuple[float, float]]:
    """The least and the greatest finite number that each observed value takes over all feeds."""
    probe = graph.copy()
    # the copy's values pair with the graph's in order
    image = {v.name: v for n in probe.nodes for v in n.outputs} | {v.name: v for v in probe.inputs}
    names = [v.name for v in observed_values(graph) if v.tensor.size]
    probe.outputs = []
    for name in names:
        value = image[name]
        axes = tuple(range(value.tensor.rank))
        for fn in ("min", "max"):
            reduced = probe.add(Reduce(fn, axes, keepdims=False), value) if axes else value
            probe.outputs.append((f"{fn} {name}", reduced))
    if not names:
        return {}
    probe.prune()
    results: Sequence[Mapping[str, np.ndarray]]
    if any(isinstance(n.op, Host) for n in probe.nodes):
        # a host segment knows itself which runtime can run it
        results = [evaluate(probe, dict(f)) for f in feeds]
    else:
        results = tools.run(tools.export(probe), feeds)
    ranges: dict[str, tuple[float, float]] = {}
    for name in names:
        low = [float(r[f"min {name}"]) for r in results]
        high = [float(r[f"max {name}"]) for r in results]
        seen = [v for v in (*low, *high) if np.isfinite(v)]
        ranges[name] = (min(seen), max(seen)) if seen else (0.0, 0.0)
    return ranges
