"""How far the codes of each value reach: far enough for its large numbers, not so far that its small ones drown.

A generator's activations have rare outliers, some samples an order of magnitude above the rest, whose clipping the
saturating end of the network forgives: the error of a layer's own output would be ruled by them. So the choice is made
by the error of the network's outputs, as far as their gradients tell it (see `sensitivity`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from math import floor

import numpy as np

from mgc.ir.graph import Graph
from mgc.passes.manager import Tools
from mgc.passes.mapping.work import useful_macs
from mgc.passes.quantizing.codes import Codes, Reach, codes_for, normal_reach, worth_shifting
from mgc.passes.quantizing.extremes import Seen
from mgc.passes.quantizing.network import Feeds
from mgc.passes.quantizing.observed import activation_operand, coded_values, graph_macs, unshifted_values
from mgc.passes.quantizing.samples import Samples
from mgc.passes.quantizing.sensitivity import Worth
from mgc.passes.quantizing.signs import NonNegative
from mgc.passes.quantizing.stated import StatedCodes
from mgc.passes.quantizing.trials import Trials, output_elements, whole_network
from mgc.passes.quantizing.widths import Read, choose_bits
from mgc.targets.description import Crossbar

# Multiply-accumulates that the check of a result may cost; what a coded value costs beside.
_CHECK_MACS, _VALUE = 4e9, 3e6
# How much worse the outputs of a choice must be for it to be given up: a check sees few samples.
_MARKED = 1.1
# Samples that say enough where the outputs of a choice are no worse at all.
_CHECKED_FIRST = 3
# The choice of more bits is tried after each of so many equal parts of it, on so many samples: at least as many as have
# the first number of output elements together, and no more than have the second.
_STOPS, _TRIED, _ELEMENTS, _MANY_ELEMENTS = 4, 8, 256, 8192
# Tried reaches are STEP^k times the median of the samples' extremes.
_STEP = 1.2
_BELOW = 4
# Beyond a rung with so many times the least error seen, no further ones are looked at.
_RISEN = 2.0

# Further than any range that was seen.
_ANY = (-float(np.finfo(np.float32).max), float(np.finfo(np.float32).max))


class _Ladder:
    """The reaches to try for one value: STEP^k times its usual range for k = -BELOW .. end, within what was seen."""

    def __init__(self, low: np.ndarray, high: np.ndarray, *, unsigned: bool, shifts: bool) -> None:
        lows, highs = np.minimum(low, 0), np.maximum(high, 0)
        if unsigned:
            lows = np.zeros_like(lows)
        self.seen: Reach = float(lows.min(initial=0.0)), float(highs.max(initial=0.0))
        self._usual = _median(lows), _median(highs)
        ratios = [most / usual for most, usual in zip(self.seen, self._usual, strict=True) if usual]
        self.end = max((int(np.ceil(np.log(r) / np.log(_STEP) - 1e-9)) for r in ratios), default=0)
        self._unsigned = unsigned
        self._shifted = shifts and not unsigned and worth_shifting(self.seen)

    @property
    def is_zero(self) -> bool:
        """Whether nothing but 0 was seen."""
        return self.seen == (0.0, 0.0)

    def reach(self, k: float) -> Reach:
        """The reach of rung k, which may lie between two rungs."""
        factor = _STEP**k
        return max(self._usual[0] * factor, self.seen[0]), min(self._usual[1] * factor, self.seen[1])

    @property
    def signed(self) -> bool:
        """Whether codes can be negative."""
        return not self._unsigned and not self._shifted

    def codes(self, reach: Reach, bits: int) -> Codes:
        """The codes of so many bits that hold a reach."""
        return codes_for(reach, bits, unsigned=self._unsigned, shifted=self._shifted)

    def rungs(self) -> range:
        """All k of which there is a rung."""
        return range(-_BELOW, self.end + 1)


def _median(extremes: np.ndarray) -> float:
    """The median of the samples' extremes that are not 0; 0 if all are."""
    extremes = extremes[extremes != 0]
    return float(np.median(extremes)) if extremes.size else 0.0


def searched(graph: Graph, samples: Samples, bits: int, *, noise: bool = False) -> list[str]:
    """The coded values whose reach may have to be searched: not `noise` unless told, nor of codes that the model
    states.
    """
    nonnegative, unshifted, stated = NonNegative(graph), unshifted_values(graph), StatedCodes(graph)
    names: list[str] = []
    for value in coded_values(graph):
        shifts = value not in unshifted
        known = stated.codes(value, bits, _ANY, unsigned=nonnegative(value), shifts=shifts)
        if known is None and (noise or value.name not in samples.noise):
            names.append(value.name)
    return names


def choose_reaches(
    graph: Graph,
    samples: Samples,
    seen: Seen,
    worth: Mapping[str, Worth],
    outputs: Sequence[Feeds],
    tools: Tools,
    crossbar: Crossbar,
    extra_bits: float,
) -> tuple[dict[str, Reach], dict[str, int]]:
    """For values of a level-1 graph that will be coded, the range that codes should hold, and the bits of those that
    get more than others: `extra_bits` is the share of reads that these may add (`choose_bits`).

    worth: of the `searched` values, nothing where the network was too large to look. outputs: of the network for the
    first samples, as far as they are known. An input that is noise needs no search. Of the others no range is given,
    which stands for all that was seen, where the choice would make the outputs worse. None is given either for a value
    whose codes the model states.
    """
    nonnegative, unshifted, stated = NonNegative(graph), unshifted_values(graph), StatedCodes(graph)
    feeds, bits = samples.feeds, crossbar.input_bits
    ladders: dict[str, _Ladder] = {}
    for value in coded_values(graph):
        shifts = value not in unshifted
        ladder = _Ladder(*seen[value.name], unsigned=nonnegative(value), shifts=shifts)
        known = stated.codes(value, bits, ladder.seen, unsigned=nonnegative(value), shifts=shifts)
        if not ladder.is_zero and known is None:
            ladders[value.name] = ladder
    if not ladders or not feeds:
        return {}, {}
    noise = {name for name in samples.noise if name in ladders}
    choices = {name: _Choice(ladder, worth.get(name), noise=name in noise) for name, ladder in ladders.items()}
    if not worth:
        return {name: choices[name].reach(bits) for name in noise}, {}
    tried = feeds[: _affordable(graph, len(ladders), 3)] if output_elements(graph) else []
    trials = whole_network(graph, tried, tools, outputs) if tried else None
    if trials is not None:
        chosen = {name: choice.codes(bits) for name, choice in choices.items()}
        whole = {name: ladder.codes(ladder.seen, bits) for name, ladder in ladders.items() if name not in noise}
        for few, margin in ((_CHECKED_FIRST, 1.0), (None, _MARKED)):
            better, worse = trials.errors([chosen, chosen | whole], few)
            if better <= worse * margin:
                break
        else:
            choices |= {name: _Choice(ladders[name], None, noise=False) for name in whole}
    steps = _widths(graph, choices, worth, crossbar, extra_bits)
    if trials is not None and steps:
        elements = output_elements(graph)
        enough = max(_CHECKED_FIRST, min(_TRIED, _MANY_ELEMENTS // elements), _ELEMENTS // elements)
        few = max(1, min(enough, _affordable(graph, len(ladders), _STOPS + 1)))
        steps = _as_far_as_they_help(steps, choices, bits, trials, few)
    wide = dict(steps)
    return {name: c.reach(wide.get(name, bits)) for name, c in choices.items() if not c.is_whole}, wide


def _widths(
    graph: Graph, choices: Mapping[str, _Choice], worth: Mapping[str, Worth], crossbar: Crossbar, share: float
) -> list[tuple[str, int]]:
    """The values that get more bits than others by the estimates, one step after the other."""
    reads = {name: Read(0, choice.ladder.signed) for name, choice in choices.items() if name in worth}
    for node in graph.nodes:
        operand = activation_operand(graph, node)
        if operand is not None and operand.name in reads:
            read = reads[operand.name]
            reads[operand.name] = replace(read, macs=read.macs + useful_macs(node))

    @cache
    def error(name: str, bits: int) -> float:
        return worth[name].error(choices[name].codes(bits))

    return choose_bits(reads, error, crossbar, graph_macs(graph), share)


def _as_far_as_they_help(
    steps: list[tuple[str, int]], choices: Mapping[str, _Choice], bits: int, trials: Trials, few: int
) -> list[tuple[str, int]]:
    """The first of the steps, up to where the outputs of a few samples get markedly worse than at their best."""
    stops = sorted({len(steps) * k // _STOPS for k in range(_STOPS + 1)})
    base = {name: choice.codes(bits) for name, choice in choices.items()}
    errors = trials.errors([base | {name: choices[name].codes(b) for name, b in steps[:n]} for n in stops], few)
    return steps[: max(n for n, e in zip(stops, errors, strict=True) if e <= min(errors) * _MARKED)]


def _affordable(graph: Graph, values: int, runs: int) -> int:
    """How many samples a check of so many runs of each can take."""
    return int(_CHECK_MACS / (runs * graph_macs(graph) + _VALUE * values))


class _Choice:
    """The reach of one value for each width of its codes: of noise that for N(0,1), else that of the least error where
    the value's worth is known, else all that was seen.
    """

    def __init__(self, ladder: _Ladder, worth: Worth | None, *, noise: bool) -> None:
        self.ladder, self._worth, self._noise = ladder, worth, noise
        self._rungs: dict[int, float] = {}

    @property
    def is_whole(self) -> bool:
        """Whether codes hold all that was seen."""
        return self._worth is None and not self._noise

    def codes(self, bits: int) -> Codes:
        """Codes of so many bits."""
        return self.ladder.codes(self.reach(bits), bits)

    def reach(self, bits: int) -> Reach:
        """The reach of codes of so many bits."""
        if self._noise:
            return normal_reach(bits)
        if self._worth is None:
            return self.ladder.seen
        if bits not in self._rungs:
            self._rungs[bits] = self._search(self._worth, bits)
        return self.ladder.reach(self._rungs[bits])

    def _search(self, worth: Worth, bits: int) -> float:
        """The rung with the least error, or a place between two. Finer codes reach at least as far as coarser ones:
        there the search goes up from where those ended.
        """
        rungs = self.ladder.rungs()
        known = [rung for b, rung in self._rungs.items() if b < bits]
        errors: dict[int, float] = {}
        for k in range(floor(max(known)), rungs.stop) if known else rungs:
            errors[k] = worth.error(self.ladder.codes(self.ladder.reach(k), bits))
            if known and errors[k] > _RISEN * min(errors.values()):
                break
        best = min(errors, key=errors.__getitem__)
        return max([best + _vertex(errors.get(best - 1), errors[best], errors.get(best + 1)), *known])


def _vertex(left: float | None, middle: float, right: float | None) -> float:
    """Where between -0.5 and 0.5 a parabola through the logarithms has its least value."""
    if left is None or right is None or not 0 < middle < np.inf or np.inf in (left, right):
        return 0.0
    a, b, c = np.log([left, middle, right])
    bend = a - 2 * b + c
    return float(np.clip((a - c) / (2 * bend), -0.5, 0.5)) if bend > 1e-12 else 0.0
