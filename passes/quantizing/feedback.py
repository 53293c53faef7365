"""Rounding with error feedback: each weight's rounding error is made up for by the weights that are rounded after it.

Rows are rounded in order; before a row is rounded it takes over as much of the error left in the layer's outputs (over
sampled windows) as its own inputs can undo. This is the greedy path-following quantisation of Lybrand and Saab (2021,
"A greedy algorithm for quantizing neural networks") with a ridge that keeps it from fitting noise where there are few
windows, done in blocks of rows so that nearly all work is matrix products.
"""

from __future__ import annotations

import numpy as np

from mgc.passes.quantizing.products import product

# Rows go in blocks, and blocks in a few rows at a time: all but the last few rows' part is in matrix products.
_BLOCK = 128
_INNER = 16
# Weight of a row's own rounding error beside that of the outputs, relative to the mean energy of a row's inputs.
_RIDGE = 1.0


def round_with_feedback(
    steps: np.ndarray, weights: np.ndarray, most: int, lacking: np.ndarray | None = None
) -> np.ndarray:
    """Whole numbers of magnitude <= most with outputs near those of the real weights.

    steps: integers [matrices, windows, rows], what the rows read; weights: [matrices, rows, cols] in units of their
    code. lacking: [matrices, windows, cols], what outputs lack from the start, for errors of the steps. Sums are taken
    in float64, so that the order in which a processor adds cannot show in the result.
    """
    matrices, windows, rows = steps.shape
    cols = weights.shape[2]
    left = np.zeros((matrices, windows, cols)) if lacking is None else lacking.astype(np.float64)
    result = np.empty(weights.shape, np.float32)
    energies = _energies(steps)
    ridge = energies.mean(axis=1, keepdims=True) * _RIDGE + 1e-9
    for begin in range(0, rows, _BLOCK):
        end = min(begin + _BLOCK, rows)
        x = steps[:, :, begin:end].astype(np.float64)
        turned = np.ascontiguousarray(x.swapaxes(1, 2))
        gram, pull = product(turned, x), product(turned, left)
        gain = 1 / (energies[:, begin:end, None] + ridge[:, :, None])
        exact = weights[:, begin:end].astype(np.float64)
        errors = np.empty_like(exact)
        # rows first: what belongs to a row lies together
        of_row, error_of, pull_of, gain_of = (a.swapaxes(0, 1) for a in (exact, errors, pull, gain))
        gram_of, result_of = gram.transpose(2, 1, 0)[..., None], result[:, begin:end].swapaxes(0, 1)
        for first in range(0, end - begin, _INNER):
            last = min(first + _INNER, end - begin)
            for t in range(first, last):
                # `pull` holds what the outputs are off by, through all rows before this one
                chosen = pull_of[t] * gain_of[t]
                chosen += of_row[t]
                np.rint(chosen, out=chosen)
                np.minimum(chosen, most, out=chosen)
                np.maximum(chosen, -most, out=chosen)
                error = np.subtract(of_row[t], chosen, out=error_of[t])
                result_of[t] = chosen
                if t + 1 < last:
                    pull_of[t + 1 : last] += gram_of[t, t + 1 : last] * error
            pull[:, last:] += product(gram[:, last:, first:last], errors[:, first:last])
        left += product(x, errors)
    return result


def _energies(steps: np.ndarray) -> np.ndarray:
    """float64 [matrices, rows]: the sum of squares of what each row reads."""
    total = np.zeros((steps.shape[0], steps.shape[2]))
    for begin in range(0, steps.shape[1], 256):
        total += np.square(steps[:, begin : begin + 256], dtype=np.float64).sum(axis=1)
    return total


def output_error(steps: np.ndarray, difference: np.ndarray, lacking: np.ndarray | None = None) -> float:
    """The squared error of the outputs over some windows, for weights that are off by `difference`, beside what they
    are `lacking` anyway.
    """
    total = 0.0
    for begin in range(0, steps.shape[1], 256):
        off = product(steps[:, begin : begin + 256].astype(np.float32), difference.astype(np.float32))
        if lacking is not None:
            off = off + lacking[:, begin : begin + 256]
        total += float(np.square(off, dtype=np.float64).sum())
    return total
