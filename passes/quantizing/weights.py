"""Whole numbers for the weights of each layer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from mgc.passes.quantizing.feedback import output_error, round_with_feedback
from mgc.passes.quantizing.layers import Layer
from mgc.passes.quantizing.nearest import column_scales, rounded
from mgc.passes.quantizing.products import product
from mgc.passes.quantizing.stated import grid_scales, may_be_on_grid
from mgc.passes.quantizing.windows import CodedWindows
from mgc.targets.description import Crossbar

# Every fourth window is kept to compare on; fewer windows than this in all say nothing.
_HELD_OUT = 4
_FEWEST = 32
# Columns that are rounded in step: enough that arithmetic rules, few enough that a row of each is near.
_IN_STEP = 1024


def nearest_weights(layer: Layer, crossbar: Crossbar) -> tuple[np.ndarray, np.ndarray]:
    """(whole numbers, scales): each column scaled by its largest magnitude and rounded to the nearest."""
    scales = column_scales(layer.weights, crossbar.weight_bits)
    return rounded(layer.weights, scales, crossbar.weight_bits), scales


def given_weights(layer: Layer, crossbar: Crossbar) -> tuple[np.ndarray, np.ndarray] | None:
    """(whole numbers, scales) of a layer whose weights are whole numbers of steps already; None if they are not."""
    if not may_be_on_grid(layer.weights, crossbar.weight_bits):
        return None
    scales = grid_scales(layer.weights, crossbar.weight_bits)
    if not np.all(scales):
        return None
    return rounded(layer.weights, scales, crossbar.weight_bits), scales


def fitted_weights(sampled: Sequence[CodedWindows], crossbar: Crossbar) -> list[tuple[np.ndarray, np.ndarray]]:
    """(whole numbers, scales) of some layers, rounded with error feedback over sampled windows, part by part, where
    that is nearer to the real outputs on windows held out. Of the crossbar only weight_bits counts.
    """
    found = [nearest_weights(windows.layer, crossbar) for windows in sampled]
    most = (1 << (crossbar.weight_bits - 1)) - 1
    parts = [part for windows, chosen in zip(sampled, found, strict=True) for part in _parts(windows, *chosen)]
    for members in _alike(parts):
        steps = np.concatenate([part.steps for part in members])
        exact = np.concatenate([part.real for part in members])
        lacking = _lacking(members)
        tested = np.arange(steps.shape[1]) % _HELD_OUT == 0
        fitted = round_with_feedback(steps[:, ~tested], exact, most, None if lacking is None else lacking[:, ~tested])
        matrix = 0
        for part in members:
            mine = slice(matrix, matrix := matrix + len(part.steps))
            held, best, rest = part.steps[:, tested], fitted[mine], None if lacking is None else lacking[mine, tested]
            if output_error(held, exact[mine] - best, rest) < output_error(held, exact[mine] - part.whole, rest):
                part.whole[:] = best
    return found


def bias_shift(windows: CodedWindows, weights: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """What to add to each channel of the bias, float64 [channels], so that coding and rounding leave its mean alone.

    Constant regions of an image are rounded alike everywhere, which no averaging over windows takes out. Estimated on
    two halves of the windows; what they do not agree on is left out. Clipping is no part of it: its rare large errors
    would shift all the rest.
    """
    layer, scale = windows.layer, windows.codes.scale
    bounds = np.cumsum((0, *layer.splits))
    rounding = layer.weights - weights * scales[:, None, :]
    total = sum(part.windows.total for part in layer.op.parts)
    halves = np.zeros((2, layer.weights.shape[0], layer.weights.shape[2]))
    for k, (part, sampled) in enumerate(zip(layer.op.parts, windows.parts, strict=True)):
        mine = slice(bounds[k], bounds[k + 1])
        middle = (sampled.steps.shape[1] + 1) // 2
        for half, steps in enumerate((sampled.steps[:, :middle], sampled.steps[:, middle:])):
            read = (steps if steps.shape[1] else sampled.steps).mean(axis=1, dtype=np.float64)
            off = product(sampled.residues[half][:, None], layer.weights[:, mine].astype(np.float64))
            off += scale * product(read[:, None], rounding[:, mine])
            halves[half] += off[:, 0] * (part.windows.total / total)
    first, second = halves
    energy = first * first + second * second
    agreement = np.where(energy > 0, 2 * first * second / np.where(energy > 0, energy, 1), 0)
    return ((first + second) / 2 * np.maximum(agreement, 0)).reshape(-1)


@dataclass(frozen=True)
class _Part:
    """The rows of one part: what they read, views of their weights and whole numbers, the scales of the columns."""

    steps: np.ndarray
    weights: np.ndarray
    whole: np.ndarray
    scales: np.ndarray
    lacking: np.ndarray | None

    @property
    def real(self) -> np.ndarray:
        """The weights in units of their codes."""
        return self.weights / self.scales[:, None, :].astype(np.float32)


def _parts(windows: CodedWindows, whole: np.ndarray, scales: np.ndarray) -> Iterator[_Part]:
    bounds = pairwise(np.cumsum((0, *windows.layer.splits)))
    for (begin, end), part in zip(bounds, windows.parts, strict=True):
        yield _Part(part.steps, windows.layer.weights[:, begin:end], whole[:, begin:end], scales, part.lacking)


def _lacking(parts: Sequence[_Part]) -> np.ndarray | None:
    """What the outputs of parts lack for errors of their steps, [matrices, windows, cols]; None if it is not known."""
    found = [product(p.lacking, p.real.astype(np.float32)) for p in parts if p.lacking is not None]
    return np.concatenate(found) if len(found) == len(parts) else None


def _alike(parts: Sequence[_Part]) -> Iterator[list[_Part]]:
    """Groups of parts with enough windows and equal numbers of them, of rows and of columns: they are rounded in step,
    as many at a time as stay small.
    """
    groups: dict[tuple[int, ...], list[_Part]] = {}
    for part in parts:
        size = (*part.steps.shape[1:], part.whole.shape[2])
        if size[0] >= _FEWEST:
            groups.setdefault(size, []).append(part)
    for members in groups.values():
        count = max(1, _IN_STEP // max(1, members[0].whole[:, 0].size))
        yield from (members[k : k + count] for k in range(0, len(members), count))
