"""Tries codes on values of a network and says how far results are off: the network's outputs, or the next layers'."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mgc.ir.graph import Graph, Value
from mgc.ir.types import TensorType
from mgc.passes.manager import Tools
from mgc.passes.quantizing.codes import Codes
from mgc.passes.quantizing.network import Feeds, add_coding, add_errors, cut_above, mirrored, run
from mgc.passes.quantizing.observed import activation_operand

# What a part of the network starts from and is compared with may take in memory, for all samples.
_CACHE_BYTES = 1 << 28


@dataclass(frozen=True)
class Trials:
    """A network, or a part of one, with feeds that hold what it starts from and the results wanted of it.

    measured: the compared results. weights: for each of them, and each feed, what its squared error counts.
    """

    probe: Graph
    measured: tuple[str, ...]
    weights: np.ndarray
    feeds: Sequence[Feeds]
    tools: Tools

    def errors(self, trials: Sequence[Mapping[str, Codes]]) -> list[float]:
        """For each trial, all of the same values: the weighted squared error, infinite if it is not a number."""
        probe, values = mirrored(self.probe)
        inputs = {name: add_coding(probe, values[name]) for name in trials[0]}
        names = add_errors(probe, [(name, values[name]) for name in self.measured])
        fed = [
            {k: a for name, codes in trial.items() for k, a in _scalars(inputs[name], values[name], codes).items()}
            for trial in trials
        ]
        feeds = [{**feed, **codes} for codes in fed for feed in self.feeds]
        results = run(probe, feeds, self.tools)
        squares = np.array([[float(r[name]) for name in names] for r in results])
        with np.errstate(invalid="ignore"):  # an infinite error that counts nothing is not a number
            totals = (squares.reshape(len(trials), len(self.feeds), len(names)) * self.weights).sum(axis=(1, 2))
        return [float(t) if np.isfinite(t) else np.inf for t in totals]


def _scalars(inputs: Mapping[str, str], value: Value, codes: Codes) -> dict[str, np.ndarray]:
    numbers = {"scale": codes.scale, "low": codes.lo - codes.zero, "high": codes.hi - codes.zero}
    return {inputs[k]: np.array(v, value.tensor.dtype.numpy) for k, v in numbers.items()}


def whole_network(graph: Graph, feeds: Sequence[Feeds], tools: Tools) -> Trials:
    """Trials of any values, by the errors of the float outputs relative to their ranges."""
    return _prepared(graph, _float_outputs(graph), feeds, tools, mirrored(graph)[0], [], per_sample=False)


def below(graph: Graph, name: str, feeds: Sequence[Feeds], tools: Tools) -> Trials:
    """Trials of one value by the same errors; only what depends on it is run, if its surroundings fit in memory."""
    probe, values = mirrored(graph)
    outputs = _float_outputs(graph)
    probe.outputs = [(output, values[output]) for output in outputs]
    cut = cut_above(probe, values[name])
    if len(feeds) * sum(v.tensor.nbytes for v in cut) > _CACHE_BYTES:
        return whole_network(graph, feeds, tools)
    reached = [output for output, _ in probe.outputs]
    return _prepared(graph, reached, feeds, tools, probe, [v.name for v in cut], per_sample=False)


def next_layers(graph: Graph, name: str, feeds: Sequence[Feeds], tools: Tools) -> Trials:
    """Trials of one value by the errors of the weighted ops that read it, each sample's relative to its energy."""
    probe, values = mirrored(graph)
    readers = [n.outputs[0] for n in probe.nodes if activation_operand(probe, n) is values[name]]
    probe.outputs = [(v.name, v) for v in readers]
    probe.prune()
    cut = cut_above(probe, values[name])
    size = sum(v.tensor.nbytes for v in (*cut, *readers))
    fitting = feeds[: max(1, _CACHE_BYTES // max(size, 1))]
    return _prepared(graph, [v.name for v in readers], fitting, tools, probe, [v.name for v in cut], per_sample=True)


def _float_outputs(graph: Graph) -> list[str]:
    """The computed float values that leave a graph."""
    made = {v for n in graph.nodes for v in n.outputs}
    tensors = [v for _, v in graph.outputs if v in made and isinstance(v.type, TensorType)]
    return list(dict.fromkeys(v.name for v in tensors if v.tensor.dtype.is_float))


def output_elements(graph: Graph) -> int:
    """How many numbers a comparison of the float outputs of one micro-batch rests on."""
    sizes = {v.name: v.type.size for _, v in graph.outputs if isinstance(v.type, TensorType)}
    return sum(sizes[name] for name in _float_outputs(graph))


def _prepared(
    graph: Graph,
    measured: Sequence[str],
    feeds: Sequence[Feeds],
    tools: Tools,
    probe: Graph,
    cut: Sequence[str],
    *,
    per_sample: bool,
) -> Trials:
    """Runs the network as it is for the references, and for the values at which it was cut."""
    original, values = mirrored(graph)
    original.outputs = [(f"ref {name}", values[name]) for name in measured]
    original.outputs += [(f"cut {name}", values[name]) for name in cut]
    results = run(original, feeds, tools)
    prepared: list[Feeds] = []
    weights = np.zeros((len(feeds), len(measured)))
    for feed, result in zip(feeds, results, strict=True):
        fed = {name: result[f"cut {name}"] for name in cut}
        prepared.append({**feed, **fed, **{f"ref {name}": result[f"ref {name}"] for name in measured}})
    for k, name in enumerate(measured):
        arrays = [r[f"ref {name}"].astype(np.float64) for r in results]
        if per_sample:
            worth = np.array([float(np.square(a).sum()) for a in arrays])
        else:
            spread = max(a.max(initial=-np.inf) for a in arrays) - min(a.min(initial=np.inf) for a in arrays)
            worth = np.full(len(feeds), float(spread) ** 2 * arrays[0].size)
        good = np.isfinite(worth) & (worth > 0)
        weights[good, k] = 1 / worth[good]
    return Trials(probe, tuple(measured), weights, prepared, tools)
