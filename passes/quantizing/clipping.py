"""How far the codes of each value reach: far enough for its large numbers, not so far that its small ones drown.

A generator's activations have rare outliers, some samples an order of magnitude above the rest, whose clipping the
saturating end of the network forgives: the error of a layer's own output would be ruled by them. So the choice is made
by the error of the network's outputs, value by value: what one value's codes do to them is nearly independent of the
others'. Where outputs are too few for that (a discriminator's score), or the network too large, it is made by the
outputs of the layers that read the value, each sample's error relative to its energy.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from mgc.ir.graph import Graph
from mgc.passes.manager import Tools
from mgc.passes.mapping.work import useful_macs
from mgc.passes.quantizing.codes import Codes, Reach, codes_for, normal_reach, worth_shifting
from mgc.passes.quantizing.network import downstream
from mgc.passes.quantizing.observed import coded_values, graph_macs, takes_shifted_codes
from mgc.passes.quantizing.samples import Samples
from mgc.passes.quantizing.signs import NonNegative
from mgc.passes.quantizing.stated import StatedCodes
from mgc.passes.quantizing.trials import Trials, below, next_layers, output_elements, whole_network

# Multiply-accumulates that the search, and the check of its result, may cost; how many trials of a value are expected.
_SEARCH_MACS = 1.6e11
_CHECK_MACS = 4e10
_TRIALS = 7
_SAMPLES = 64
_FEWEST = 4
# Squared errors in all that a comparison should rest on.
_ENOUGH = 2048
# How much worse the outputs of a choice that was not made by them must be for it to be given up.
_MARKED = 1.5
# Tried reaches are STEP^k times the median of the samples' extremes.
_STEP = 1.2
_BELOW = 4

Seen = Mapping[str, tuple[np.ndarray, np.ndarray]]


class _Ladder:
    """The reaches to try for one value: STEP^k times its usual range for k = -BELOW .. end, within what was seen."""

    def __init__(self, low: np.ndarray, high: np.ndarray, bits: int, *, unsigned: bool, shifts: bool) -> None:
        lows, highs = np.minimum(low, 0), np.maximum(high, 0)
        if unsigned:
            lows = np.zeros_like(lows)
        self.seen: Reach = float(lows.min(initial=0.0)), float(highs.max(initial=0.0))
        self._usual = _median(lows), _median(highs)
        ratios = [most / usual for most, usual in zip(self.seen, self._usual, strict=True) if usual]
        self.end = max((int(np.ceil(np.log(r) / np.log(_STEP) - 1e-9)) for r in ratios), default=0)
        self._bits, self._unsigned = bits, unsigned
        self._shifted = shifts and not unsigned and worth_shifting(self.seen)

    @property
    def is_zero(self) -> bool:
        """Whether nothing but 0 was seen."""
        return self.seen == (0.0, 0.0)

    def reach(self, k: float) -> Reach:
        """The reach of rung k, which may lie between two rungs."""
        factor = _STEP**k
        return max(self._usual[0] * factor, self.seen[0]), min(self._usual[1] * factor, self.seen[1])

    def codes(self, reach: Reach) -> Codes:
        """The codes that hold a reach."""
        return codes_for(reach, self._bits, unsigned=self._unsigned, shifted=self._shifted)

    def inside(self, k: int) -> bool:
        """Whether there is a rung k."""
        return -_BELOW <= k <= self.end


def _median(extremes: np.ndarray) -> float:
    """The median of the samples' extremes that are not 0; 0 if all are."""
    extremes = extremes[extremes != 0]
    return float(np.median(extremes)) if extremes.size else 0.0


def choose_reaches(graph: Graph, samples: Samples, seen: Seen, tools: Tools, bits: int) -> dict[str, Reach]:
    """For values of a level-1 graph that will be coded, the range that codes should hold.

    seen: (least, greatest) by name, one entry a sample. An input that is noise needs no search. Of the others none is
    given, which stands for all that was seen, where the choice would make the outputs worse. None is given either for a
    value whose codes the model states.
    """
    nonnegative, stated = NonNegative(graph), StatedCodes(graph)
    feeds = samples.feeds
    ladders: dict[str, _Ladder] = {}
    for value in coded_values(graph):
        shifts = takes_shifted_codes(graph, value)
        ladder = _Ladder(*seen[value.name], bits, unsigned=nonnegative(value), shifts=shifts)
        known = stated.codes(value, bits, ladder.seen, unsigned=nonnegative(value), shifts=shifts)
        if not ladder.is_zero and known is None:
            ladders[value.name] = ladder
    if not ladders or not feeds:
        return {}
    noise = {name: normal_reach(bits) for name in samples.noise if name in ladders}
    reaches = dict(noise)
    wanted = {name: ladder for name, ladder in ladders.items() if name not in noise}
    by_outputs, count = _plan(graph, wanted, len(feeds))
    if count == 0:
        return noise
    for name, ladder in wanted.items():
        trials = (below if by_outputs else next_layers)(graph, name, feeds[:count], tools)
        reaches[name] = ladder.reach(_descend(ladder, trials, name))
    checked = feeds[: int(_CHECK_MACS / (3 * max(graph_macs(graph), 1)))]
    if checked and output_elements(graph):
        chosen = {name: ladder.codes(reaches[name]) for name, ladder in ladders.items()}
        plain = chosen | {name: ladder.codes(ladder.seen) for name, ladder in wanted.items()}
        better, worse = whole_network(graph, checked, tools).errors([chosen, plain])
        # few outputs say little: only a marked loss counts
        if not better <= worse * (1.0 if by_outputs else _MARKED):
            return noise
    return reaches


def _plan(graph: Graph, names: Collection[str], available: int) -> tuple[bool, int]:
    """(whether to judge by the outputs of the network, how many samples can be paid for); 0 samples: do not search."""
    values = [v for v in coded_values(graph) if v.name in names]
    if not values:
        return True, available
    most = min(available, _SAMPLES)
    after = sum(useful_macs(n) for v in values for n in downstream(graph, v))
    samples = min(most, int(_SEARCH_MACS / (_TRIALS * max(after, 1))))
    if samples >= _FEWEST and samples * output_elements(graph) >= _ENOUGH:
        return True, samples
    # each value's references are run from the start
    before = sum(graph_macs(graph) - sum(useful_macs(n) for n in downstream(graph, v)) for v in values)
    return False, min(most, int(_SEARCH_MACS / max(before + (1 + _TRIALS) * graph_macs(graph), 1)))


def _descend(ladder: _Ladder, trials: Trials, name: str) -> float:
    """The rung with the least error: goes down from neighbour to neighbour, then between rungs."""
    known: dict[int, float] = {}
    best = 0
    wanted = [k for k in (0, 2) if ladder.inside(k)]
    while wanted:
        known.update(zip(wanted, trials.errors([{name: ladder.codes(ladder.reach(k))} for k in wanted]), strict=True))
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
