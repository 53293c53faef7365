"""How far the codes of each value reach: far enough for its large numbers, not so far that its small ones drown.

A generator's activations have rare outliers, some samples an order of magnitude above the rest, whose clipping the
saturating end of the network forgives: the error of a layer's own output would be ruled by them. So the choice is made
by the error of the network's outputs, value by value: what one value's codes do to them is nearly independent of the
others'. Where outputs are too few for that (a discriminator's score), or the network too large, by the layers' own
errors, each sample's relative to its energy.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mgc.ir.graph import Graph, Value
from mgc.ir.ops import Conv, MatMul
from passes.manager import Tools
from passes.quantizing.layers import Codes
from passes.quantizing.minmax import codes_for, normal_top
from passes.quantizing.network import Feeds, add_coding, add_errors, cut_above, downstream, mirrored, run
from passes.quantizing.observed import activation_operand, coded_values, graph_macs
from passes.quantizing.samples import Samples
from passes.quantizing.signs import NonNegative
from passes.work import useful_macs

# Multiply-accumulates that the search, and the check of its result, may cost; how many trials of a value are expected.
_SEARCH_MACS = 1.6e11
_CHECK_MACS = 4e10
_TRIALS = 7
_SAMPLES = 64
_FEWEST = 4
# What the values that a part of the network starts from may take in memory, for all samples; else all of it is run.
_CACHE_BYTES = 1 << 28
# Squared errors in all that a comparison should rest on.
_ENOUGH = 2048
# How much worse the outputs of a choice that was not made by them must be for it to be given up.
_MARKED = 1.5
# Tried reaches are STEP^k times the median of the samples' largest magnitudes.
_STEP = 1.2
_BELOW = 4
# Elements of one value of one sample that a layer's own error looks at.
_ELEMENTS = 1 << 14

Seen = Mapping[str, tuple[np.ndarray, np.ndarray]]


class _Ladder:
    """The reaches to try for one value: STEP^k * base for k = -BELOW .. top, the last one no further than was seen."""

    def __init__(self, low: np.ndarray, high: np.ndarray, unsigned: bool, bits: int) -> None:
        tops = np.maximum(high, 0) if unsigned else np.maximum(np.abs(low), np.abs(high))
        self.most = float(tops.max(initial=0.0))
        self.base = float(np.median(tops[tops > 0])) if self.most > 0 else 0.0
        self.end = int(np.ceil(np.log(self.most / self.base) / np.log(_STEP) - 1e-9)) if self.base > 0 else 0
        self.unsigned, self.bits = unsigned, bits

    def top(self, k: float) -> float:
        """The reach of rung k, which may lie between two rungs."""
        return min(self.base * _STEP**k, self.most)

    def codes(self, k: float) -> Codes:
        """The codes of rung k."""
        return self.codes_to(self.top(k))

    def codes_to(self, top: float) -> Codes:
        """The codes that reach `top`."""
        return codes_for(top, self.bits, self.unsigned)

    def inside(self, k: int) -> bool:
        """Whether there is a rung k."""
        return -_BELOW <= k <= self.end


def choose_tops(graph: Graph, samples: Samples, seen: Seen, tools: Tools, bits: int) -> dict[str, float]:
    """For values of a level-1 graph that will be coded, the magnitude that the largest code should reach.

    seen: (least, greatest) by name, one entry a sample. An input that is noise needs no search. The others have none,
    that is the largest magnitudes seen, where the choice would make the outputs worse.
    """
    nonnegative = NonNegative(graph)
    feeds = samples.feeds
    ladders: dict[str, _Ladder] = {}
    for value in coded_values(graph):
        ladder = _Ladder(*seen[value.name], nonnegative(value), bits)
        if ladder.base > 0:
            ladders[value.name] = ladder
    if not ladders or not feeds:
        return {}
    noise = {name: normal_top(bits) for name in samples.noise if name in ladders}
    tops = dict(noise)
    wanted = {name: ladder for name, ladder in ladders.items() if name not in tops}
    scorer = _Outputs(graph, tools)
    count = min(len(feeds), _SAMPLES, _affordable(graph, wanted))
    by_outputs = count >= _FEWEST and count * scorer.elements >= _ENOUGH
    if by_outputs:
        tops |= {name: ladder.top(_descend(ladder, scorer, name, feeds[:count])) for name, ladder in wanted.items()}
    else:
        rungs = _by_layers(graph, feeds[:_SAMPLES], wanted, tools)
        tops |= {name: ladder.top(rungs[name]) for name, ladder in wanted.items()}
    if scorer.elements:
        checked = feeds[: max(_FEWEST, int(_CHECK_MACS / (2 * max(graph_macs(graph), 1))))]
        chosen = {name: ladder.codes_to(tops[name]) for name, ladder in ladders.items()}
        plain = {name: chosen[name] if name in noise else l.codes_to(l.most) for name, l in ladders.items()}
        better, worse = scorer.whole(checked).errors([chosen, plain])
        # few outputs say little: only a marked loss counts
        if not better <= worse * (1.0 if by_outputs else _MARKED):
            return noise
    return tops


def _affordable(graph: Graph, names: Collection[str]) -> int:
    """How many samples the search can be paid for."""
    once = sum(useful_macs(n) for v in coded_values(graph) if v.name in names for n in downstream(graph, v))
    return int(_SEARCH_MACS / (_TRIALS * max(once, 1)))


class _Outputs:
    """Says how far the network's float outputs are off when some values are coded."""

    def __init__(self, graph: Graph, tools: Tools) -> None:
        self._graph, self._tools = graph, tools
        self._floats = [(n, v) for n, v in graph.outputs if v.tensor.dtype.is_float]
        self.elements = sum(v.tensor.size for _, v in self._floats)

    def whole(self, feeds: Sequence[Feeds]) -> _Trials:
        """Trials of any values over the whole network."""
        probe, values = mirrored(self._graph)
        return self._trials(probe, values, feeds, [])

    def below(self, name: str, feeds: Sequence[Feeds]) -> _Trials:
        """Trials of one value, for which only what depends on it is run, if its surroundings fit in memory."""
        probe, values = mirrored(self._graph)
        probe.outputs = [(n, values[v.name]) for n, v in self._floats]
        cut = cut_above(probe, values[name])
        if len(feeds) * sum(v.tensor.nbytes for v in cut) > _CACHE_BYTES:
            return self.whole(feeds)
        return self._trials(probe, values, feeds, [v.name for v in cut])

    def _trials(self, probe: Graph, values: dict[str, Value], feeds: Sequence[Feeds], cut: list[str]) -> _Trials:
        reached = {v.name for n in probe.nodes for v in n.outputs}
        floats = [(n, v) for n, v in self._floats if v.name in reached]
        reference, originals = mirrored(self._graph)
        reference.outputs = [(f"ref {n}", originals[v.name]) for n, v in floats]
        reference.outputs += [(f"cut {name}", originals[name]) for name in cut]
        results = run(reference, feeds, self._tools)
        prepared: list[Feeds] = []
        for feed, result in zip(feeds, results, strict=True):
            fed = {name: result[f"cut {name}"] for name in cut}
            prepared.append({**feed, **fed, **{f"ref {n}": result[f"ref {n}"] for n, _ in floats}})
        weights = {f"error {n}": _weight([r[f"ref {n}"] for r in results], v) for n, v in floats}
        probe.outputs = []
        return _Trials(probe, values, [(n, values[v.name]) for n, v in floats], weights, prepared, self._tools)


def _weight(arrays: Sequence[np.ndarray], value: Value) -> float:
    """Errors of several outputs add up relative to their ranges."""
    spread = float(max(a.max() for a in arrays)) - float(min(a.min() for a in arrays))
    return 1 / (spread * spread * value.tensor.size) if np.isfinite(spread) and spread > 0 else 0.0


@dataclass
class _Trials:
    """A network with inputs for the outputs wanted of it; `weights` are those of its outputs' squared errors."""

    probe: Graph
    values: dict[str, Value]
    floats: list[tuple[str, Value]]
    weights: dict[str, float]
    prepared: Sequence[Feeds]
    tools: Tools

    def errors(self, trials: Sequence[Mapping[str, Codes]]) -> list[float]:
        """For each trial, all of the same values: the outputs' squared error, infinite if it is not a number."""
        probe, values = mirrored(self.probe)
        scales = {name: add_coding(probe, values[name], codes.lo, codes.hi) for name, codes in trials[0].items()}
        add_errors(probe, [(name, values[v.name]) for name, v in self.floats])
        feeds = [
            {**feed, **{scales[name]: _scale(values[name], codes) for name, codes in trial.items()}}
            for trial in trials
            for feed in self.prepared
        ]
        results = run(probe, feeds, self.tools)
        totals: list[float] = []
        for k in range(len(trials)):
            mine = results[k * len(self.prepared) : (k + 1) * len(self.prepared)]
            total = sum(self.weights[name] * float(r[name]) for r in mine for name in self.weights)
            totals.append(total if np.isfinite(total) else np.inf)
        return totals


def _scale(value: Value, codes: Codes) -> np.ndarray:
    return np.array(codes.scale, value.tensor.dtype.numpy)


def _descend(ladder: _Ladder, scorer: _Outputs, name: str, feeds: Sequence[Feeds]) -> float:
    """The rung with the least error of the outputs: goes down from neighbour to neighbour, then between rungs."""
    trials = scorer.below(name, feeds)
    known: dict[int, float] = {}
    best = 0
    wanted = [k for k in (0, 2) if ladder.inside(k)]
    while wanted:
        known.update(zip(wanted, trials.errors([{name: ladder.codes(k)} for k in wanted]), strict=True))
        best = min(known, key=known.__getitem__)
        wanted = [k for k in (best - 1, best + 1) if ladder.inside(k) and k not in known]
    return best + _vertex(known.get(best - 1), known[best], known.get(best + 1))


def _vertex(left: float | None, middle: float, right: float | None) -> float:
    """Where between -0.5 and 0.5 a parabola through the logarithms has its least value."""
    if left is None or right is None or not 0 < middle < np.inf or np.inf in (left, right):
        return 0.0
    a, b, c = np.log([left, middle, right])
    bend = a - 2 * b + c
    return float(np.clip((a - c) / (2 * bend), -0.5, 0.5)) if bend > 1e-12 else 0.0


def _by_layers(graph: Graph, feeds: Sequence[Feeds], ladders: Mapping[str, _Ladder], tools: Tools) -> dict[str, float]:
    """The rungs with the least error of the layers that read each value, taking errors as independent."""
    names = list(ladders)
    totals = {name: np.zeros(_BELOW + ladder.end + 1) for name, ladder in ladders.items()}
    energies = {name: _channel_energies(graph, name) for name in names}
    for feed in feeds:
        probe, values = mirrored(graph)
        probe.outputs = [(f"value {name}", values[name]) for name in names]
        (result,) = run(probe, [feed], tools)
        for name in names:
            x, energy = _thinned(result[f"value {name}"], *energies[name])
            whole = float((x * x * energy).sum())
            for rung in range(totals[name].size):
                codes = ladders[name].codes(rung - _BELOW)
                d = codes.quantized(x) * np.float32(codes.scale) - x
                totals[name][rung] += float((d * d * energy).sum()) / whole if whole > 0 else 0.0
    rungs: dict[str, float] = {}
    for name, total in totals.items():
        best = int(total.argmin())
        around = [float(total[k]) if 0 <= k < total.size else None for k in (best - 1, best + 1)]
        rungs[name] = best - _BELOW + _vertex(around[0], float(total[best]), around[1])
    return rungs


def _thinned(x: np.ndarray, axis: int, energy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At most _ELEMENTS elements of x, evenly spread, with the energy of each one's channel."""
    step = -(-x.size // _ELEMENTS)
    at = np.arange(0, x.size, step + (step + 1) % 2)  # odd steps do not fall in with even extents
    flat = np.asarray(x, np.float32).reshape(-1)[at]
    channel = at // int(np.prod(x.shape[axis + 1 :], dtype=np.int64)) % x.shape[axis]
    return flat, energy[channel]


def _channel_energies(graph: Graph, name: str) -> tuple[int, np.ndarray]:
    """The axis of a value's channels, and for each the sum of squares of the weights that read it (float32)."""
    total: np.ndarray | None = None
    axis = 0
    for node in graph.nodes:
        value = activation_operand(graph, node)
        if value is None or value.name != name:
            continue
        constant_left = isinstance(node.op, MatMul) and node.inputs[0] in graph.constants
        w = graph.constants[node.inputs[0 if constant_left else 1]].data.astype(np.float32)
        rank = value.tensor.rank
        if isinstance(node.op, MatMul):
            # rows of w (columns if it stands on the left) meet the last axis of x (the one before)
            axis = max(rank - 2, 0) if constant_left else rank - 1
            inner = w.ndim - 1 if constant_left else max(w.ndim - 2, 0)
            energy = (w * w).sum(axis=tuple(a for a in range(w.ndim) if a != inner))
        else:
            axis = 1
            energy = _conv_energies(w, node.op.groups) if isinstance(node.op, Conv) else _sum_rest(w * w)
        total = energy if total is None or total.shape != energy.shape else total + energy
    assert total is not None
    return axis, total


def _sum_rest(w: np.ndarray) -> np.ndarray:
    return w.reshape(w.shape[0], -1).sum(axis=1)


def _conv_energies(w: np.ndarray, groups: int) -> np.ndarray:
    """w[M, C/groups, *kernel]: filters of group g read its input channels."""
    grouped = (w * w).reshape(groups, w.shape[0] // groups, w.shape[1], -1)
    return grouped.sum(axis=(1, 3)).reshape(-1)
