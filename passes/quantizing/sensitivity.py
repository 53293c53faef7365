"""What an error of each coded value costs the network's outputs, by their gradients: all values in one go.

To first order the squared error of the outputs is that of the value times the Jacobian, and as errors of rounding are
independent of each other, the sum of squared errors, each times the sum of squares of its column of the Jacobian. That
is estimated by one backward pass a sample, from random signs at the outputs (Hutchinson 1990). The same diagonal rules
the rounding in BRECQ (Li et al. 2021).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mgc.ir.graph import Graph, Node, Value
from mgc.ir.op import NotDifferentiable
from mgc.ir.ops import Binary, Reduce, Reshape, Unary
from mgc.ir.types import TensorType
from mgc.passes.quantizing.codes import Codes
from mgc.passes.quantizing.extremes import Seen, add_extremes, extreme_names, extremes
from mgc.passes.quantizing.network import Feeds, mirrored, read_apart, run_each
from mgc.passes.quantizing.observed import graph_macs, observed_values
from mgc.passes.quantizing.trials import float_outputs, output_elements
from mgc.passes.state import Tools
from mgc.passes.training.differentiate import gradients

# Multiply-accumulates that all backward passes may cost, and beyond ENOUGH samples; the samples that they look at, at
# most.
_SEARCH_MACS, _MORE_MACS = 1.2e10, 8.7e9
_SAMPLES = 64
ENOUGH, _NEARLY = 13, 10
"""How many say well what ranges values have, and how many are nearly so many."""
# What one element of a value, one of what any op makes, and a value by itself, cost beside multiply-accumulates; what
# values may take in memory, and for all samples together between passes.
_ELEMENT, _MADE, _VALUE = 100, 20, 3e6
_BYTES, _HELD = 1 << 28, 1 << 27
# Outputs so few that random signs at them say all, and values so few that each sample can be kept apart.
_FEW_OUTPUTS = 1
_FEW_VALUES = 64
# Bits of a float32 that say which bin of a histogram it is in: sign, exponent and the first of the mantissa.
_SHIFT = 23 - 4
_BINS = 1 << (32 - _SHIFT)
with np.errstate(invalid="ignore"):  # some bins are of NaNs
    _MIDDLES = ((np.arange(_BINS, dtype=np.uint32) << _SHIFT) | (1 << (_SHIFT - 1))).view(np.float32).astype(np.float64)
_GOOD = np.isfinite(_MIDDLES)
_GOOD[:: _BINS // 2] = False  # zeros are coded exactly


@dataclass(frozen=True)
class Worth:
    """The numbers that a value held, as the middles of bins, with the sum of what squared errors of each cost.

    `slopes`: for each sample, where the network has so few outputs that it is known, what an error of each number does
    to them. Errors of clipping all have one direction: there they add up before they are squared, which is counted too.
    """

    numbers: np.ndarray
    weights: np.ndarray
    slopes: tuple[np.ndarray, ...] = ()

    def error(self, codes: Codes) -> float:
        """What coding the value costs: exact for clipped numbers and those of few steps, step^2 / 12 for the rest."""
        low, high = codes.scale * (codes.lo - codes.zero), codes.scale * (codes.hi - codes.zero)
        steps = np.clip(np.rint(self.numbers / codes.scale), codes.lo - codes.zero, codes.hi - codes.zero)
        off = steps * codes.scale - self.numbers
        inside = (self.numbers > low) & (self.numbers < high)
        smooth = inside & (np.abs(self.numbers) > 2 * codes.scale)
        squares = np.where(smooth, codes.scale**2 / 12, np.square(off))
        clipped = np.where(inside, 0, off)
        return float(squares @ self.weights) + sum(float(s @ clipped) ** 2 for s in self.slopes)


def most_samples(graph: Graph, values: Sequence[Value]) -> int:
    """How many samples can be looked at for the worth of some values. Where there are nearly as many as ranges are
    looked at in, there are so many: another run for the rest would cost as much.
    """
    elements = sum(v.tensor.size for v in values)
    made = sum(v.tensor.size for n in graph.nodes for v in n.outputs if isinstance(v.type, TensorType))
    cost = 3 * graph_macs(graph) + _ELEMENT * elements + _MADE * made + _VALUE * len(values)
    count = min(_SAMPLES, int(_SEARCH_MACS / cost), max(ENOUGH, int(_MORE_MACS / cost))) if values else 0
    return ENOUGH if _NEARLY <= count < ENOUGH else count


def worths(
    graph: Graph, names: Sequence[str], feeds: Sequence[Feeds], tools: Tools
) -> tuple[dict[str, Worth], Seen, list[Feeds]]:
    """The worth of each value; and what all observed values take in the first samples, which were looked at, and the
    float outputs for them. Nothing where the network is too large. An error counts by the outputs' ranges; where there
    is no way to them that can be differentiated, all errors count alike. What the values were in the first samples is
    left in `tools.values`, as far as memory holds it.
    """
    values = [v for n in graph.nodes for v in n.outputs if v.name in set(names)]
    values += [v for v in graph.inputs if v.name in set(names)]
    count = min(len(feeds), most_samples(graph, values))
    if not count:
        return {}, {}, []
    bins = {v.name: np.zeros(_BINS) for v in values}
    slopes: dict[str, list[np.ndarray]] = {v.name: [] for v in values}
    known = 0 < output_elements(graph) <= _FEW_OUTPUTS and len(values) <= _FEW_VALUES
    observed = [v.name for v in observed_values(graph)]
    ends: list[Feeds] = []
    outputs: list[Feeds] = []
    groups = _groups(values)
    room = _HELD // max(1, sum(v.tensor.nbytes for v in values)) if len(groups) == 1 else 0
    shown: list[Feeds] = []
    for number, group in enumerate(groups):
        looked_at = [v.name for v in group]
        for result in _looked_at(graph, looked_at, () if number else observed, feeds[:count], tools):
            if not number:
                ends.append({name: result[name] for name in extreme_names(observed)})
                outputs.append({name: result[f"output {name}"] for name in float_outputs(graph)})
            if len(shown) < room:
                shown.append({name: result[f"value {name}"] for name in looked_at})
            for name in looked_at:
                numbers, slope = result[f"value {name}"], result.get(f"slope {name}")
                which = numbers.astype(np.float32, copy=False).reshape(-1).view(np.uint32) >> _SHIFT
                squares = np.ones(which.size) if slope is None else np.square(slope, dtype=np.float64).reshape(-1)
                bins[name] += _finite(np.bincount(which, squares, minlength=_BINS))
                if known and slope is not None:
                    counted = np.bincount(which, slope.astype(np.float64).reshape(-1), minlength=_BINS)
                    slopes[name].append(_finite(counted))
    tools.values[graph] = shown
    found: dict[str, Worth] = {}
    seen = extremes(observed, ends)
    for name, weights in bins.items():
        held = np.flatnonzero(_GOOD & (weights > 0))
        low, high = seen[name]
        numbers = np.clip(_MIDDLES[held], low.min(), high.max())  # a bin may reach further than what was seen
        found[name] = Worth(numbers, weights[held], tuple(s[held] for s in slopes[name]))
    return found, seen, outputs


def _finite(counted: np.ndarray) -> np.ndarray:
    return counted if np.isfinite(counted.sum()) else np.where(np.isfinite(counted), counted, 0)


def _groups(values: Sequence[Value]) -> list[list[Value]]:
    """The values in groups that fit into memory, with their gradients."""
    groups: list[list[Value]] = [[]]
    size = 0
    for value in values:
        size += 2 * value.tensor.nbytes
        if size > _BYTES and groups[-1]:
            groups.append([])
            size = 2 * value.tensor.nbytes
        groups[-1].append(value)
    return groups


def _looked_at(
    graph: Graph, wanted: Sequence[str], observed: Sequence[str], feeds: Sequence[Feeds], tools: Tools
) -> Iterator[Feeds]:
    """For each sample "value NAME" of each wanted value, "slope NAME", what an error of each of its numbers does to the
    outputs, if it is known, the extremes of observed ones, and "output NAME" of float outputs.
    """
    probe, values = mirrored(graph)
    slopes: list[Value | None] = [None] * len(wanted)
    seeds: dict[str, Value] = {}
    try:
        coded = read_apart(
            probe,
            [values[name] for name in wanted],
            lambda v: [Node(Reshape(v.shape), (v,), (Value(f"of {v.name}", v.type),))],
        )
        seeds = {name: probe.add_input(f"seed {name}", values[name].tensor) for name in float_outputs(graph)}
        loss = _weighted_sum(probe, [(values[name], seed) for name, seed in seeds.items()])
        if loss is not None:
            slopes = gradients(probe, loss, coded, fixed=_softmax_shifts(probe))
    except NotDifferentiable:
        probe, values = mirrored(graph)
        seeds = {}
    probe.outputs = [(f"value {name}", values[name]) for name in wanted]
    probe.outputs += [(f"slope {name}", s) for name, s in zip(wanted, slopes, strict=True) if s is not None]
    probe.outputs += [(f"output {name}", values[name]) for name in float_outputs(graph)]
    add_extremes(probe, [values[name] for name in observed])
    spreads = _spreads(graph, list(seeds), feeds, tools)
    rng = np.random.default_rng(len(graph.nodes))
    signs = [{f"seed {n}": _signs(rng, seed, spreads[n]) for n, seed in seeds.items()} for _ in feeds]
    yield from run_each(probe, [{**f, **s} for f, s in zip(feeds, signs, strict=True)], tools)


def _softmax_shifts(graph: Graph) -> list[Value]:
    """What softmaxes subtract from all numbers that they add up: their results do not depend on it."""
    found: list[Value] = []
    for node in graph.nodes:
        match node.op, [graph.producer(v) for v in node.inputs]:
            case Binary("div"), [Node(op=Unary("exp")) as power, Node(op=Reduce("sum", keepdims=True)) as total]:
                below = graph.producer(power.inputs[0])
                chain = (power.inputs[0], [power]), (power.outputs[0], [total, node]), (total.outputs[0], [node])
                if below is None or below.op != Binary("sub") or any(graph.uses(v) != n for v, n in chain):
                    continue
                shift = below.inputs[1]
                if graph.uses(shift) == [below] and shift.shape == total.outputs[0].shape:
                    found.append(shift)
            case _:
                pass
    return found


def _spreads(graph: Graph, outputs: Sequence[str], feeds: Sequence[Feeds], tools: Tools) -> dict[str, float]:
    """The range of each output over the samples; that of a single one does not matter."""
    if len(outputs) == 1:
        return dict.fromkeys(outputs, 1.0)
    probe, values = mirrored(graph)
    probe.outputs = [(name, values[name]) for name in outputs]
    low, high = dict.fromkeys(outputs, np.inf), dict.fromkeys(outputs, -np.inf)
    for result in run_each(probe, feeds, tools) if outputs else ():
        for name in outputs:
            finite = result[name][np.isfinite(result[name])].astype(np.float64)
            low[name], high[name] = (
                min(low[name], finite.min(initial=np.inf)),
                max(high[name], finite.max(initial=-np.inf)),
            )
    return {n: s if np.isfinite(s := high[n] - low[n]) and s > 0 else 1.0 for n in outputs}


def _signs(rng: np.random.Generator, seed: Value, spread: float) -> np.ndarray:
    drawn = (rng.integers(0, 2, seed.tensor.shape) * 2 - 1) / (spread * np.sqrt(seed.tensor.size))
    return drawn.astype(seed.tensor.dtype.numpy)


def _weighted_sum(graph: Graph, pairs: Sequence[tuple[Value, Value]]) -> Value | None:
    """The sum of the products of values and seeds, as a scalar; None of none."""
    terms: list[Value] = []
    for value, seed in pairs:
        product = graph.add(Binary("mul"), value, seed)
        axes = tuple(range(value.tensor.rank))
        terms.append(graph.add(Reduce("sum", axes, keepdims=False), product) if axes else product)
    while len(terms) > 1:
        terms = [
            graph.add(Binary("add"), *terms[k : k + 2]) if k + 1 < len(terms) else terms[k]
            for k in range(0, len(terms), 2)
        ]
    return terms[0] if terms else None
