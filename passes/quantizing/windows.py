"""Samples of what crossbars read: some windows of every layer, as codes, from calibration data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from math import ceil

import numpy as np

from mgc.ir.graph import Graph, Node, Value
from mgc.ir.mapped import CHANNEL_MAJOR, MvmPart
from mgc.passes.manager import Tools
from mgc.passes.quantizing.codes import Codes
from mgc.passes.quantizing.layers import Layer
from mgc.passes.quantizing.network import Feeds, mirrored, run_each
from mgc.passes.quantizing.upstream import Followed

# Windows of one part that are looked at (fewer of a very large one, or in a very large network, as work grows with
# windows x weights), and the memory that sampled windows may take at once.
_WINDOWS = (256, 1024)
_WORK = 4e9
_WORK_OF_ALL = 6e9
# Samples that they come from, at least and at most; between, half of all, or as many as have this many windows.
_SAMPLES, _FROM = (12, 32), 512
# Windows of a part that outputs are compared on, about.
_COMPARED = 64
_BYTES = 1 << 27
# Windows are drawn from all samples at once whose input of a layer is together smaller than this, and looked at for as
# many samples as have so many bytes: a look has a cost of its own.
_TOGETHER, _LOOK = 1 << 16, 1 << 20


@dataclass(frozen=True)
class PartWindows:
    """Sampled windows of one part: their codes less that of 0, integers [matrices, windows, rows].

    residues: float64 [2, matrices, rows], for each half of the windows the mean of what coding took off, clipped
    values (which are few, and large) left out. Of a few windows, `real` [matrices, few, rows] float32 is what they hold
    before coding, `coded` their codes as in `steps`. clipped: the share of values that codes do not reach. lacking:
    where layers before are quantised too, float32 [matrices, windows, rows], how many steps the real values are beyond
    the codes, clipped ones left out.
    """

    steps: np.ndarray
    residues: np.ndarray
    real: np.ndarray
    coded: np.ndarray
    clipped: float
    lacking: np.ndarray | None = None


@dataclass(frozen=True)
class CodedWindows:
    """The sampled windows of each part of a layer."""

    layer: Layer
    codes: Codes
    parts: tuple[PartWindows, ...]


def window_rows(x: np.ndarray, part: MvmPart, samples: np.ndarray, windows: np.ndarray) -> np.ndarray:
    """Rows of chosen windows: x [batch, channels, *spatial] -> [matrices, chosen, rows], zero outside the input.

    `samples` and `windows` (numbered row-major over the part's windows) give each chosen one's batch entry and place.
    """
    w = part.windows
    inside = np.ones((len(windows), *[1] * len(w.count)), bool)
    at: list[np.ndarray] = []
    for d, q in enumerate(np.unravel_index(windows, w.count)):
        taps = np.arange(w.taps[d]).reshape([-1 if k == d + 1 else 1 for k in range(len(w.count) + 1)])
        first = (w.in_base[d] + q * w.in_stride[d]).reshape(-1, *[1] * len(w.count))
        place = first + taps * w.in_dilation[d]
        inside = inside & (place >= 0) & (place < x.shape[2 + d])
        at.append(np.clip(place, 0, x.shape[2 + d] - 1))
    # two advanced indices around a slice: the chosen windows come first, then taps, then channels
    rows = x[(samples.reshape(-1, *[1] * len(w.count)), slice(None), *at)]
    rows = np.where(inside[..., None], rows, x.dtype.type(0))
    grouped = rows.reshape(len(windows), w.tap_total, part.matrices, part.channels)
    order = (2, 0, 3, 1) if part.row_order == CHANNEL_MAJOR else (2, 0, 1, 3)
    return np.ascontiguousarray(grouped.transpose(order)).reshape(part.matrices, len(windows), part.rows)


def sampled_windows(
    layers: Sequence[tuple[Layer, Codes]],
    graph: Graph,
    origin: Callable[[Value], Value],
    calibrated: Graph,
    feeds: Sequence[Feeds],
    tools: Tools,
) -> Iterator[list[CodedWindows]]:
    """The windows of each layer, in groups that memory holds. `graph` holds the layers, `calibrated` is the level-1
    graph that is run; `origin` leads from a layer's input to the value that both graphs have.
    """
    producers = graph.producers()
    held = tools.values.pop(calibrated, ())
    values = partial(_values, calibrated, feeds, held, tools)
    group: list[tuple[Layer, Codes]] = []
    size = 0
    most = int(_WORK_OF_ALL / max(sum(layer.weights.size for layer, _ in layers), 1))
    for layer, codes in layers:
        size += sum(_wanted(part, most) * part.matrices * part.rows for part in layer.op.parts)
        group.append((layer, codes))
        if size > _BYTES:
            yield _of_group(group, most, producers, origin, values, len(feeds), len(calibrated.nodes))
            group, size = [], 0
    if group:
        yield _of_group(group, most, producers, origin, values, len(feeds), len(calibrated.nodes))


def _of_group(
    group: Sequence[tuple[Layer, Codes]],
    most: int,
    producers: Mapping[Value, Node],
    origin: Callable[[Value], Value],
    values: Callable[[Sequence[str], int], Iterator[Feeds]],
    given: int,
    seed: int,
) -> list[CodedWindows]:
    gathered = [[_Gathered(codes, part, _wanted(part, most)) for part in layer.op.parts] for layer, codes in group]
    names = list(dict.fromkeys(origin(layer.x).name for layer, _ in group))
    rng = np.random.default_rng(seed)
    kept: list[tuple[list[np.ndarray], list[np.ndarray]]] = [([], []) for _ in group]
    most_bytes = min(_LOOK, _BYTES // len(group))
    counts = [_samples(layer, given) for layer, _ in group]
    for number, result in enumerate(values(names, max(counts)), 1):
        for (layer, _), parts, (sources, drawn), count in zip(group, gathered, kept, counts, strict=True):
            if number > count:
                continue
            x = _moved(result[origin(layer.x).name], layer.x, origin(layer.x), producers)
            sources.append(layer.op.source.view(np.ascontiguousarray(x, np.float32)))
            ends_half = number in (count // 2, count)
            if ends_half or len(sources) * x.nbytes >= _TOGETHER:
                for part in parts:
                    part.draw(sum(map(len, sources)), rng, len(sources) / count)
                drawn += sources
                sources.clear()
            if ends_half or len(drawn) * x.nbytes >= most_bytes:
                joined = np.concatenate(drawn)
                for part in parts:
                    part.look(joined)
                drawn.clear()
    return [
        CodedWindows(layer, codes, tuple(part.windows() for part in parts))
        for (layer, codes), parts in zip(group, gathered, strict=True)
    ]


def _values(
    graph: Graph, feeds: Sequence[Feeds], held: Sequence[Feeds], tools: Tools, names: Sequence[str], count: int
) -> Iterator[Feeds]:
    """Values of a graph for the first feeds: those that are `held`, by a run those that are not."""
    known = ({**feed, **values} for feed, values in zip(feeds[:count], held, strict=False))
    ready = list(takewhile(lambda values: all(name in values for name in names), known))
    yield from ready
    rest = feeds[len(ready) : count]
    if not rest:
        return
    probe, values = mirrored(graph)
    probe.outputs = [(f"value {name}", values[name]) for name in names]
    for result in run_each(probe, rest, tools):
        yield {name: result[f"value {name}"] for name in names}


def followed_windows(
    layers: Sequence[tuple[Layer, Codes]], real: Followed, followed: Followed
) -> Iterator[list[CodedWindows]]:
    """The same, layer by layer: each layer's codes are of what it reads in `followed`, where those before it have been
    settled, and lack what they differ from what it reads in `real`, for the same samples.
    """
    rng = np.random.default_rng(len(layers))
    for layer, codes in layers:
        views = [
            np.concatenate([layer.op.source.view(np.ascontiguousarray(x, np.float32)) for x in of.samples(layer.x)])
            for of in (real, followed)
        ]
        parts = [_Gathered(codes, part, _wanted(part, int(_WORK_OF_ALL))) for part in layer.op.parts]
        for half in ([v[: -(-len(v) // 2)] for v in views], [v[-(-len(v) // 2) :] for v in views]):
            for part in parts:
                if len(half[0]):
                    part.draw(len(half[0]), rng, len(half[0]) / len(views[0]))
                    part.look(*half)
        yield [CodedWindows(layer, codes, tuple(part.windows() for part in parts))]


class _Gathered:
    """Windows of one part, feed after feed."""

    def __init__(self, codes: Codes, part: MvmPart, wanted: int) -> None:
        self._codes, self._part, self._wanted = codes, part, wanted
        self._drawn: list[tuple[np.ndarray, int]] = []
        self._samples = 0
        self._chunks: list[np.ndarray] = []
        self._residues: list[np.ndarray] = []
        self._kept: list[tuple[np.ndarray, np.ndarray]] = []
        self._lacking: list[np.ndarray] = []
        self._clipped = self._seen = 0

    def draw(self, samples: int, rng: np.random.Generator, share: float) -> None:
        """Chooses the share of windows that is due to some samples, which follow those drawn of since the last look."""
        windows = self._part.windows.total
        chosen = np.sort(rng.permutation(samples * windows)[: ceil(self._wanted * share)])
        step = max(1, int(len(chosen) / share) // _COMPARED)
        self._drawn.append((chosen + self._samples * windows, step))
        self._samples += samples

    def look(self, source: np.ndarray, followed: np.ndarray | None = None) -> None:
        """Adds the windows that were drawn of the samples in `source`. `followed`: what is coded instead."""
        at = np.divmod(np.concatenate([chosen for chosen, _ in self._drawn]), self._part.windows.total)
        rows = window_rows(source, self._part, *at)
        read = rows if followed is None else window_rows(followed, self._part, *at)
        steps, scale = self._codes.steps(read), np.float32(self._codes.scale)
        off = rows - steps * scale
        beyond = np.abs(off if followed is None else read - steps * scale) > scale
        off[beyond] = 0
        if followed is not None:
            self._lacking.append(off / scale)
        self._clipped, self._seen = self._clipped + int(beyond.sum()), self._seen + beyond.size
        self._chunks.append(steps)
        begin = 0
        for chosen, step in self._drawn:
            end = begin + len(chosen)
            kept = slice(begin, end, step)
            self._kept.append((rows[:, kept].astype(np.float32), steps[:, kept]))
            self._residues.append(off[:, begin:end].mean(axis=1, dtype=np.float64))
            begin = end
        self._drawn, self._samples = [], 0

    def windows(self) -> PartWindows:
        """All of them."""
        half = (len(self._residues) + 1) // 2
        halves = [self._residues[:half], self._residues[half:] or self._residues]
        return PartWindows(
            np.concatenate(self._chunks, axis=1),
            np.stack([np.mean(h, axis=0) for h in halves]),
            np.concatenate([real for real, _ in self._kept], axis=1),
            np.concatenate([coded for _, coded in self._kept], axis=1),
            self._clipped / max(self._seen, 1),
            np.concatenate(self._lacking, axis=1) if self._lacking else None,
        )


def _wanted(part: MvmPart, affordable: int) -> int:
    """How many windows of a part to look at, if the whole network can afford so many."""
    least, most = _WINDOWS
    return max(least, min(most, affordable, int(_WORK / (part.rows * part.cols))))


def _samples(layer: Layer, given: int) -> int:
    """How many samples, of those given, the windows of a layer are taken from."""
    least, most = _SAMPLES
    fewest = min(part.windows.total for part in layer.op.parts)
    return min(given, most, max(least, given // 2, ceil(_FROM / max(fewest, 1))))


def _moved(data: np.ndarray, value: Value, origin: Value, producers: Mapping[Value, Node]) -> np.ndarray:
    """The data of `value`, given that of the value of which it is a cast or rearrangement."""
    if value is origin:
        return data
    node = producers[value]
    (result,) = node.op.evaluate(_moved(data, node.inputs[0], origin, producers))
    return result
