"""What a network gives for a few samples before anything is coded: beside it a program's own outputs are held."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mgc.ir.graph import Graph
from mgc.ir.op import register_attr
from mgc.ir.ops import Random
from mgc.passes.manager import Tools
from mgc.passes.quantizing.network import Feeds, mirrored, run
from mgc.passes.quantizing.observed import graph_macs
from mgc.passes.quantizing.samples import take_samples
from mgc.passes.quantizing.stated import StatedCodes
from mgc.passes.quantizing.trials import float_outputs, output_elements

# Multiply-accumulates that the samples may take, and how many there are at least and at most: where outputs are few
# numbers, many samples are needed to know their range.
_MACS = 1e9
_LIMITS, _LIMITS_OF_FEW = (2, 64), (32, 256)
_FEW = 64


@register_attr
@dataclass(frozen=True, eq=False)
class Probe:
    """Sample inputs and the float outputs that the network has for them, one set for each micro-batch.

    steps: the step of those outputs that the model itself rounds to codes. macs: multiply-accumulates of one set. few:
    whether a set has too few numbers to know their range by.
    """

    feeds: tuple[Feeds, ...]
    outputs: tuple[Feeds, ...]
    steps: Mapping[str, float]
    macs: int
    few: bool


def make_probe(graph: Graph, data: Mapping[str, np.ndarray], seed: int, tools: Tools) -> Probe | None:
    """The outputs for samples of the user's `data`, or, where there are none, other noise than scales are chosen on.
    None where there is no float output to compare.
    """
    elements = output_elements(graph)
    if not elements:
        return None
    macs, few = graph_macs(graph), elements < _FEW
    least, most = _LIMITS_OF_FEW if few else _LIMITS
    feeds = take_samples(graph, data, seed + 1, max(least, min(most, int(_MACS / max(macs, 1))))).feeds
    measured = set(float_outputs(graph))
    copy, values = mirrored(graph)
    ends = [(name, v) for name, v in graph.outputs if v.name in measured]
    copy.outputs = [(name, values[v.name]) for name, v in ends]
    results = run(copy, _with_draws(copy, feeds), tools)
    stated = StatedCodes(graph)
    steps = {name: step for name, v in ends if (step := stated.step(v)) is not None}
    return Probe(feeds, tuple(results), steps, macs, few)


def _with_draws(graph: Graph, feeds: Sequence[Feeds]) -> list[Feeds]:
    """Makes random numbers inputs of the graph, in place: the feeds with the chip's own draws, which no other runtime
    makes.
    """
    fed = [dict(feed) for feed in feeds]
    for node in [n for n in graph.nodes if isinstance(n.op, Random)]:
        (drawn,), key = node.outputs, node.inputs[0]
        graph.nodes.remove(node)
        graph.inputs.append(drawn)
        for feed in fed:
            (feed[drawn.name],) = node.op.evaluate(feed[key.name])
    return list(fed)
