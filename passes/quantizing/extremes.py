"""The least and greatest number that values take: all that leaves the runtime, so memory does not grow with them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from mgc.ir.graph import Graph, Value
from mgc.ir.ops import Reduce
from mgc.passes.manager import Tools
from mgc.passes.quantizing.network import Feeds, mirrored, run
from mgc.passes.quantizing.observed import observed_values

Seen = Mapping[str, tuple[np.ndarray, np.ndarray]]
"""(least, greatest) by a value's name, one entry a feed."""

_FNS = ("min", "max")


def observe(graph: Graph, feeds: Sequence[Feeds], tools: Tools) -> Seen:
    """What each observed value takes."""
    names = [v.name for v in observed_values(graph)]
    if not names or not feeds:
        return {}
    probe, values = mirrored(graph)
    add_extremes(probe, [values[name] for name in names])
    return extremes(names, run(probe, feeds, tools))


def samples_in(seen: Seen) -> int:
    """How many feeds were seen."""
    return next((len(low) for low, _ in seen.values()), 0)


def joined(first: Seen, rest: Seen) -> Seen:
    """What was seen with some feeds, and then with others."""
    if not first or not rest:
        return first or rest
    return {
        n: (np.concatenate((low, rest[n][0])), np.concatenate((high, rest[n][1]))) for n, (low, high) in first.items()
    }


def add_extremes(probe: Graph, values: Iterable[Value]) -> None:
    """Makes the extremes of values outputs of the graph they are in."""
    for value in values:
        axes = tuple(range(value.tensor.rank))
        for fn in _FNS:
            extreme = probe.add(Reduce(fn, axes, keepdims=False), value) if axes else value
            probe.outputs.append((f"{fn} {value.name}", extreme))


def extreme_names(names: Iterable[str]) -> list[str]:
    """What the extremes of values are called among a graph's outputs."""
    return [f"{fn} {name}" for name in names for fn in _FNS]


def extremes(names: Iterable[str], results: Sequence[Feeds]) -> Seen:
    """The extremes of values in the results of a graph that they were added to. Where one of them is not finite, what
    is not counts as 0, which lies in the range then.
    """
    seen: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for name in names:
        low, high = (np.array([float(r[f"{fn} {name}"]) for r in results]) for fn in _FNS)
        known = np.isfinite(low) & np.isfinite(high)
        finite = [np.where(np.isfinite(x), x, 0) for x in (low, high)]
        seen[name] = np.where(known, low, np.minimum(finite[0], 0)), np.where(known, high, np.maximum(finite[1], 0))
    return seen
