"""How far the codes of each value reach: far enough for its large numbers, not so far that its small ones drown.

A generator's activations have rare outliers, some samples an order of magnitude above the rest, whose clipping the
saturating end of the network forgives: the error of a layer's own output would be ruled by them. So the choice is made
by the error of the network's outputs, as far as their gradients tell it (see `sensitivity`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from mgc.ir.graph import Graph
from mgc.passes.manager import Tools
from mgc.passes.quantizing.codes import Codes, Reach, codes_for, normal_reach, worth_shifting
from mgc.passes.quantizing.extremes import Seen
from mgc.passes.quantizing.network import Feeds
from mgc.passes.quantizing.observed import coded_values, graph_macs, unshifted_values
from mgc.passes.quantizing.samples import Samples
from mgc.passes.quantizing.second_reads import Coded
from mgc.passes.quantizing.sensitivity import Worth
from mgc.passes.quantizing.signs import NonNegative
from mgc.passes.quantizing.stated import StatedCodes
from mgc.passes.quantizing.trials import output_elements, whole_network

# Multiply-accumulates that the check of a result may cost; what a coded value costs beside.
_CHECK_MACS, _VALUE = 4e9, 3e6
# How much worse the outputs of a choice must be for it to be given up: a check sees few samples.
_MARKED = 1.1
# Samples that say enough where the outputs of a choice are no worse at all.
_CHECKED_FIRST = 3
# Tried reaches are STEP^k times the median of the samples' extremes.
_STEP = 1.2
_BELOW = 4

# Further than any range that was seen.
_ANY = (-float(np.finfo(np.float32).max), float(np.finfo(np.float32).max))


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
    bits: int,
) -> tuple[dict[str, Reach], dict[str, Coded]]:
    """For values of a level-1 graph that will be coded, the range that codes should hold; and the codes of those of
    known worth, with what rounding them costs.

    worth: of the `searched` values, nothing where the network was too large to look. outputs: of the network for the
    first samples, as far as they are known. An input that is noise needs no search. Of the others none is given, which
    stands for all that was seen, where the choice would make the outputs worse. None is given either for a value whose
    codes the model states.
    """
    nonnegative, unshifted, stated = NonNegative(graph), unshifted_values(graph), StatedCodes(graph)
    feeds = samples.feeds
    ladders: dict[str, _Ladder] = {}
    for value in coded_values(graph):
        shifts = value not in unshifted
        ladder = _Ladder(*seen[value.name], bits, unsigned=nonnegative(value), shifts=shifts)
        known = stated.codes(value, bits, ladder.seen, unsigned=nonnegative(value), shifts=shifts)
        if not ladder.is_zero and known is None:
            ladders[value.name] = ladder
    if not ladders or not feeds:
        return {}, {}
    noise = {name: normal_reach(bits) for name in samples.noise if name in ladders}
    reaches = dict(noise)
    wanted = {name: ladder for name, ladder in ladders.items() if name not in noise}
    if not worth:
        return noise, {}
    reaches |= {name: ladder.reach(_lowest(ladder, worth[name])) for name, ladder in wanted.items()}
    checked = feeds[: int(_CHECK_MACS / (3 * graph_macs(graph) + _VALUE * len(ladders)))]
    if checked and output_elements(graph):
        chosen = {name: ladder.codes(reaches[name]) for name, ladder in ladders.items()}
        plain = chosen | {name: ladder.codes(ladder.seen) for name, ladder in wanted.items()}
        for few, margin in ((checked[:_CHECKED_FIRST], 1.0), (checked, _MARKED)):
            better, worse = whole_network(graph, few, tools, outputs).errors([chosen, plain])
            if better <= worse * margin:
                break
        else:
            reaches = noise
    coded: dict[str, Coded] = {}
    for name in (n for n in ladders if n in worth):
        codes = ladders[name].codes(reaches.get(name, ladders[name].seen))
        coded[name] = Coded(codes, codes.scale**2 * float(worth[name].weights.sum()))
    return reaches, coded


def _lowest(ladder: _Ladder, worth: Worth) -> float:
    """The rung with the least error, or a place between two."""
    errors = {k: worth.error(ladder.codes(ladder.reach(k))) for k in ladder.rungs()}
    best = min(errors, key=errors.__getitem__)
    return best + _vertex(errors.get(best - 1), errors[best], errors.get(best + 1))


def _vertex(left: float | None, middle: float, right: float | None) -> float:
    """Where between -0.5 and 0.5 a parabola through the logarithms has its least value."""
    if left is None or right is None or not 0 < middle < np.inf or np.inf in (left, right):
        return 0.0
    a, b, c = np.log([left, middle, right])
    bend = a - 2 * b + c
    return float(np.clip((a - c) / (2 * bend), -0.5, 0.5)) if bend > 1e-12 else 0.0
