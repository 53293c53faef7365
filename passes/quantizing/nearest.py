"""Weights scaled by their largest magnitudes and rounded to the nearest whole number."""

from __future__ import annotations

import numpy as np

from mgc.passes.quantizing.codes import SMALLEST


def column_scales(weights: np.ndarray, weight_bits: int) -> np.ndarray:
    """float64 [matrices, cols]: the largest magnitude of each column takes the largest code; 1 for a zero column."""
    top = np.abs(weights).max(axis=1, initial=0.0).astype(np.float64)
    most = (1 << (weight_bits - 1)) - 1
    return np.where(top > 0, np.maximum(top / most, SMALLEST), 1.0)


def rounded(weights: np.ndarray, scales: np.ndarray, weight_bits: int) -> np.ndarray:
    """The nearest whole numbers, in float32, clipped to the codes of `weight_bits` bits."""
    most = (1 << (weight_bits - 1)) - 1
    return np.clip(np.rint(weights / scales[:, None, :].astype(np.float32)), -most, most)
