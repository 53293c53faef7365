"""Tries codes on values of a network and says how far its outputs are off."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from mgc.ir.graph import Graph, Value
from mgc.ir.types import TensorType
from mgc.passes.manager import Tools
from mgc.passes.quantizing.codes import Codes
from mgc.passes.quantizing.network import Feeds, add_coding, add_errors, mirrored, run, runner


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
    _made: dict[tuple[str, ...], _Coded] = field(default_factory=dict, init=False, repr=False)

    def errors(self, trials: Sequence[Mapping[str, Codes]], first: int | None = None) -> list[float]:
        """For each trial, all of the same values: the weighted squared error over the first feeds, or all; infinite if
        it is not a number.
        """
        names = tuple(trials[0])
        coded = self._coded(names)
        used = self.feeds[:first]
        tried = [(tuple(trial[name] for name in names), k) for trial in trials for k in range(len(used))]
        new = [key for key in dict.fromkeys(tried) if key not in coded.known]
        feeds = [{**used[k], **coded.scalars(dict(zip(names, codes, strict=True)))} for codes, k in new]
        for key, result in zip(new, coded.run(feeds), strict=True):
            coded.known[key] = [float(result[name]) for name in coded.errors]
        squares = np.array([coded.known[key] for key in tried])
        with np.errstate(invalid="ignore"):  # an infinite error that counts nothing is not a number
            weighted = squares.reshape(len(trials), len(used), len(coded.errors)) * self.weights[:first]
        totals = weighted.sum(axis=(1, 2))
        return [float(t) if np.isfinite(t) else np.inf for t in totals]

    def _coded(self, names: tuple[str, ...]) -> _Coded:
        if names not in self._made:
            probe, values = mirrored(self.probe)
            inputs = add_coding(probe, [values[name] for name in names])
            errors = add_errors(probe, [(name, values[name]) for name in self.measured])
            by_name = {name: (values[name], given) for name, given in zip(names, inputs, strict=True)}
            self._made[names] = _Coded(by_name, errors, runner(probe, self.tools))
        return self._made[names]


@dataclass(frozen=True)
class _Coded:
    """A network that reads some values coded: they and their inputs for codes, the outputs, what runs it; and what is
    known of the outputs, by the codes in the values' order and the feed's number.
    """

    values: Mapping[str, tuple[Value, Mapping[str, str]]]
    errors: Sequence[str]
    run: Callable[[Sequence[Feeds]], Iterator[Feeds]]
    known: dict[tuple[tuple[Codes, ...], int], list[float]] = field(default_factory=dict)

    def scalars(self, trial: Mapping[str, Codes]) -> dict[str, np.ndarray]:
        """What is fed for codes."""
        found: dict[str, np.ndarray] = {}
        for name, codes in trial.items():
            value, inputs = self.values[name]
            found |= _scalars(inputs, value, codes)
        return found


def _scalars(inputs: Mapping[str, str], value: Value, codes: Codes) -> dict[str, np.ndarray]:
    numbers = {"scale": codes.scale, "low": codes.lo - codes.zero, "high": codes.hi - codes.zero}
    return {inputs[k]: np.array(v, value.tensor.dtype.numpy) for k, v in numbers.items()}


def whole_network(graph: Graph, feeds: Sequence[Feeds], tools: Tools, known: Sequence[Feeds] = ()) -> Trials:
    """Trials of any values, by the errors of the float outputs relative to their ranges. `known`: the outputs, as far
    as they were computed, of the first feeds.
    """
    measured = float_outputs(graph)
    original, values = mirrored(graph)
    original.outputs = [(name, values[name]) for name in measured]
    rest = feeds[len(known) :]
    results = [*known[: len(feeds)], *(run(original, rest, tools) if rest else ())]
    weights = np.zeros((len(feeds), len(measured)))
    for k, name in enumerate(measured):
        arrays = [r[name].astype(np.float64) for r in results]
        spread = max(a.max(initial=-np.inf) for a in arrays) - min(a.min(initial=np.inf) for a in arrays)
        worth = float(spread) ** 2 * arrays[0].size
        if np.isfinite(worth) and worth > 0:
            weights[:, k] = 1 / worth
    prepared = [
        {**feed, **{f"ref {name}": result[name] for name in measured}}
        for feed, result in zip(feeds, results, strict=True)
    ]
    return Trials(mirrored(graph)[0], tuple(measured), weights, prepared, tools)


def float_outputs(graph: Graph) -> list[str]:
    """The computed float values that leave a graph."""
    made = {v for n in graph.nodes for v in n.outputs}
    tensors = [v for _, v in graph.outputs if v in made and isinstance(v.type, TensorType)]
    return list(dict.fromkeys(v.name for v in tensors if v.tensor.dtype.is_float))


def output_elements(graph: Graph) -> int:
    """How many numbers a comparison of the float outputs of one micro-batch rests on."""
    sizes = {v.name: v.type.size for _, v in graph.outputs if isinstance(v.type, TensorType)}
    return sum(sizes[name] for name in float_outputs(graph))
