"""Codes of activations: scale, range and the code of zero."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from mgc.ir.types import DType

# Scales are float32 in the program, and a code divides by them: stay clear of denormals.
SMALLEST = 2.0**-100
# Codes are shifted if that makes their steps smaller by this factor.
_WORTH = 0.85

Reach = tuple[float, float]
"""(least, greatest) number that codes should hold; least <= 0 <= greatest."""


@dataclass(frozen=True)
class Codes:
    """How a real tensor is coded: code = clip(round(x / scale) + zero, lo, hi), `scale` a float32 number.

    zero is the code of 0: not 0 only in unsigned codes of values that can be negative, which are "shifted".
    """

    scale: float
    lo: int
    hi: int
    zero: int = 0

    @property
    def signed(self) -> bool:
        """Whether codes can be negative."""
        return self.lo < 0

    @property
    def bits(self) -> int:
        """How many bits they have."""
        return (self.hi - self.lo).bit_length()

    @property
    def dtype(self) -> DType:
        """The narrowest element type that holds the codes."""
        if self.signed:
            return DType.I8 if self.lo >= -128 and self.hi <= 127 else DType.I16
        return DType.U8 if self.hi <= 255 else DType.U16

    def stored(self, x: np.ndarray) -> np.ndarray:
        """The codes of `x` in their element type, by the arithmetic of the `quant` op; NaN counts as 0."""
        steps = np.rint(x.astype(np.float32) / np.float32(self.scale))
        steps = np.where(np.isnan(steps), np.float32(0), steps)
        return np.clip(steps + np.float32(self.zero), self.lo, self.hi).astype(self.dtype.numpy)

    def steps(self, x: np.ndarray) -> np.ndarray:
        """The codes of `x` less that of 0, in the narrowest integer type: scale * steps is what they stand for."""
        codes = self.stored(x)
        return codes if self.zero == 0 else codes.astype(np.int32 if self.hi > 0x7FFF else np.int16) - self.zero


def codes_for(reach: Reach, bits: int, *, unsigned: bool, shifted: bool = False) -> Codes:
    """Codes of `bits` bits that hold `reach`: unsigned ones from 0, shifted ones from its least, else symmetric ones.

    A reach of nothing but 0 is held by any scale.
    """
    low, high = min(reach[0], 0.0), max(reach[1], 0.0)
    whole = (1 << bits) - 1
    if unsigned:
        return Codes(_scale(high, whole), 0, whole)
    if shifted:
        scale = _scale(high - low, whole)
        return Codes(scale, 0, whole, int(np.clip(np.rint(-low / scale), 0, whole)))
    most = (1 << (bits - 1)) - 1
    return Codes(_scale(max(high, -low), max(most, 1)), -(1 << (bits - 1)), most)


def _scale(span: float, steps: int) -> float:
    return float(np.float32(max(span / steps, SMALLEST))) if span > 0 else 1.0


def worth_shifting(reach: Reach) -> bool:
    """Whether a range is so lopsided that shifted codes have markedly smaller steps than symmetric ones."""
    low, high = reach
    return max(high, 0.0) - min(low, 0.0) < _WORTH * 2 * max(high, -low)


@cache
def normal_reach(bits: int) -> Reach:
    """The reach of signed codes of `bits` bits with the least mean square error on N(0,1) (8 bits: about 3.9)."""
    x = np.linspace(0, 8, 8001)
    density = np.exp(-x * x / 2)
    tops = np.arange(0.5, 8, 0.05)
    errors: list[float] = []
    for top in tops:
        codes = codes_for((-float(top), float(top)), bits, unsigned=False)
        off = np.clip(np.rint(x / codes.scale), codes.lo, codes.hi) * codes.scale - x
        errors.append(float((density * off * off).sum()))
    best = float(tops[int(np.argmin(errors))])
    return -best, best
