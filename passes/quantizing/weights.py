"""Whole numbers for the weights of each layer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

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


def fitted_weights(windows: CodedWindows, crossbar: Crossbar) -> tuple[np.ndarray, np.ndarray]:
    """(whole numbers, scales) rounded with error feedback over sampled windows, part by part, where that is nearer to
    the real outputs on windows held out. Of the crossbar only weight_bits counts.
    """
    layer = windows.layer
    weights, scales = nearest_weights(layer, crossbar)
    real = layer.weights / scales[:, None, :].astype(np.float32)
    most = (1 << (crossbar.weight_bits - 1)) - 1
    bounds = np.cumsum((0, *layer.splits))
    sizes = [(rows, part.steps.shape[1]) for rows, part in zip(layer.splits, windows.parts, strict=True)]
    for members in _alike(sizes):
        steps = np.concatenate([windows.parts[k].steps for k in members])
        if steps.shape[1] < _FEWEST:
            continue
        slices = [slice(bounds[k], bounds[k + 1]) for k in members]
        exact = np.concatenate([real[:, s] for s in slices])
        plain = np.concatenate([weights[:, s] for s in slices])
        tested = np.arange(steps.shape[1]) % _HELD_OUT == 0
        fitted = round_with_feedback(steps[:, ~tested], exact, most)
        matrices = layer.weights.shape[0]
        for k, s in enumerate(slices):
            mine = slice(k * matrices, (k + 1) * matrices)
            held = steps[mine][:, tested]
            if output_error(held, exact[mine] - fitted[mine]) < output_error(held, exact[mine] - plain[mine]):
                weights[:, s] = fitted[mine]
    return weights, scales


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


def _alike(sizes: Sequence[tuple[int, int]]) -> Iterator[list[int]]:
    """Groups of parts with equal numbers of rows and of sampled windows: they are rounded in step."""
    for size in dict.fromkeys(sizes):
        yield [k for k, other in enumerate(sizes) if other == size]
