"""Scales from largest magnitudes, and rounding to nearest."""

from __future__ import annotations

import numpy as np

from passes.quantizing.layers import Codes

# Scales are float32 in the program, and a code divides by them: stay clear of denormals.
_SMALLEST = 2.0**-100


def codes_for(top: float, bits: int, unsigned: bool) -> Codes:
    """Codes of `bits` bits that reach `top` >= 0 (0: any scale does)."""
    hi = (1 << bits) - 1 if unsigned else (1 << (bits - 1)) - 1
    lo = 0 if unsigned else -(1 << (bits - 1))
    scale = float(np.float32(max(top / max(hi, 1), _SMALLEST))) if top > 0 else 1.0
    return Codes(scale, lo, hi)


def column_scales(weights: np.ndarray, weight_bits: int) -> np.ndarray:
    """float64 [matrices, cols]: the largest magnitude of each column takes the largest code; 1 for a zero column."""
    top = np.abs(weights).max(axis=1, initial=0.0).astype(np.float64)
    most = (1 << (weight_bits - 1)) - 1
    return np.where(top > 0, np.maximum(top / most, _SMALLEST), 1.0)


def rounded(weights: np.ndarray, scales: np.ndarray, weight_bits: int) -> np.ndarray:
    """The nearest whole numbers, in float32, clipped to the codes of `weight_bits` bits."""
    most = (1 << (weight_bits - 1)) - 1
    return np.clip(np.rint(weights / scales[:, None, :].astype(np.float32)), -most, most)
