"""Keeps columns within what the converters read exactly (design section 4, clip mode)."""

from __future__ import annotations

import numpy as np

from mgc.passes.mapping.crossbar_rows import exact_columns
from mgc.passes.quantizing.nearest import rounded
from mgc.targets.description import Crossbar

# A column that clips is tried with its scale enlarged by up to this many steps, unless too many clip for that to help.
_STEP = 1.06
_STEPS = 4
_HOPELESS = 0.25


def exact(weights: np.ndarray, splits: tuple[int, ...], crossbar: Crossbar) -> np.ndarray:
    """bool [matrices, cols]: whether all parts of a column are exact. weights [matrices, rows of all parts, cols]."""
    small = weights.astype(np.int8 if crossbar.weight_bits <= 8 else np.int16)
    parts = np.split(small, np.cumsum(splits)[:-1], axis=1)
    return np.all([exact_columns(np.ascontiguousarray(p), crossbar) for p in parts], axis=0)


def keep_exact(
    weights: np.ndarray,
    real: np.ndarray,
    scales: np.ndarray,
    splits: tuple[int, ...],
    crossbar: Crossbar,
) -> tuple[np.ndarray, np.ndarray]:
    """(whole numbers, scales) in which columns that could clip are rounded to nearest, with a larger scale if need be.

    A column that no scale tried makes exact is rounded to nearest at its first scale. In mode "scale" nothing is exact
    and nothing changes.
    """
    if crossbar.adc_mode != "clip":
        return weights, scales
    bad = ~exact(weights, splits, crossbar)
    weights, scales = weights.copy(), scales.copy()
    factors = [_STEP**k for k in range(_STEPS + 1)] if bad.mean() <= _HOPELESS else [1.0]
    for matrix, columns in ((g, np.flatnonzero(row)) for g, row in enumerate(bad)):
        first = scales[matrix, columns]
        for factor in factors:
            if columns.size == 0:
                break
            tried = first * factor
            chosen = rounded(real[matrix][None, :, columns], tried[None], crossbar.weight_bits)
            good = exact(chosen, splits, crossbar)[0]
            take = good | (factor == 1.0)
            weights[matrix][:, columns[take]] = chosen[0][:, take]
            scales[matrix, columns[take]] = tried[take]
            columns, first = columns[~good], first[~good]
    return weights, scales
