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


def normal_top(bits: int) -> float:
    """The reach of signed codes of `bits` bits with the least mean square error on N(0,1) (8 bits: about 3.9)."""
    x = np.linspace(0, 8, 8001)
    density = np.exp(-x * x / 2)
    tops = np.arange(0.5, 8, 0.05)
    errors: list[float] = []
    for top in tops:
        codes = codes_for(float(top), bits, unsigned=False)
        off = np.clip(np.rint(x / codes.scale), codes.lo, codes.hi) * codes.scale - x
        errors.append(float((density * off * off).sum()))
    return float(tops[int(np.argmin(errors))])
