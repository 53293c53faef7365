"""Whole numbers for the weights of each layer."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from passes.quantizing.exactness import keep_exact
from passes.quantizing.feedback import output_error, round_with_feedback
from passes.quantizing.layers import Layer
from passes.quantizing.minmax import column_scales, rounded
from passes.quantizing.windows import CodedWindows
from targets.description import Crossbar

# Every fourth window is kept to compare on; fewer windows than this in all say nothing.
_HELD_OUT = 4
_FEWEST = 32


def nearest_weights(layer: Layer, crossbar: Crossbar) -> tuple[np.ndarray, np.ndarray]:
    """(whole numbers, scales): each column scaled by its largest magnitude and rounded to the nearest."""
    scales = column_scales(layer.weights, crossbar.weight_bits)
    return rounded(layer.weights, scales, crossbar.weight_bits), scales


def fitted_weights(windows: CodedWindows, crossbar: Crossbar) -> tuple[np.ndarray, np.ndarray]:
    """(whole numbers, scales) rounded with error feedback over sampled windows, part by part, where that is nearer to
    the real outputs on windows held out; columns that would clip are left to rounding to nearest.
    """
    layer = windows.layer
    weights, scales = nearest_weights(layer, crossbar)
    real = layer.weights / scales[:, None, :].astype(np.float32)
    most = (1 << (crossbar.weight_bits - 1)) - 1
    bounds = np.cumsum((0, *layer.splits))
    for members in _alike(layer.splits):
        codes = np.concatenate([windows.parts[k] for k in members])
        if codes.shape[1] < _FEWEST:
            continue
        slices = [slice(bounds[k], bounds[k + 1]) for k in members]
        exact = np.concatenate([real[:, s] for s in slices])
        plain = np.concatenate([weights[:, s] for s in slices])
        tested = np.arange(codes.shape[1]) % _HELD_OUT == 0
        fitted = round_with_feedback(codes[:, ~tested], exact, most)
        matrices = layer.weights.shape[0]
        for k, s in enumerate(slices):
            mine = slice(k * matrices, (k + 1) * matrices)
            held = codes[mine][:, tested]
            if output_error(held, exact[mine] - fitted[mine]) < output_error(held, exact[mine] - plain[mine]):
                weights[:, s] = fitted[mine]
    return keep_exact(weights, layer.weights, scales, layer.splits, crossbar)


def _alike(splits: tuple[int, ...]) -> Iterator[list[int]]:
    """Groups of parts with equal numbers of rows: they are rounded in step."""
    for rows in dict.fromkeys(splits):
        yield [k for k, r in enumerate(splits) if r == rows]
