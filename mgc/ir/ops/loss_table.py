"""A loss function that has no closed form in the diff-block: f and f' as piecewise-linear tables."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from mgc.functions.losses import exact_segment
from mgc.ir.op import register_attr

COLUMNS = 5
"""Numbers a segment: its left end, then value and slope there of f, then of f'."""


@register_attr
@dataclass(frozen=True)
class LossTable:
    """f and f' on segments of the score axis.

    data: float64, little-endian, [segments, COLUMNS], left ends ascending; on segment i, with u from its left end x_i
    to the next, f(u) = v_i + k_i (u - x_i), and f'(u) likewise. The first segment reaches down to -inf and the last up
    to +inf: these are the linear tails. Between `low` and `high` the errors are proven: |table - f| <= loss_error *
    max(1, |f|), and likewise for f' and delta_error, except at the `corners`, where f' jumps or is not known to be
    continuous: each stands for a stretch no wider than 1e-6 around it.
    """

    data: bytes = field(repr=False)
    low: float
    high: float
    loss_error: float
    delta_error: float
    corners: tuple[float, ...] = ()

    @staticmethod
    def of(
        segments: np.ndarray,
        low: float,
        high: float,
        loss_error: float,
        delta_error: float,
        corners: tuple[float, ...] = (),
    ) -> LossTable:
        """A table from an array [segments, COLUMNS]."""
        data = np.ascontiguousarray(segments, "<f8").tobytes()
        return LossTable(data, float(low), float(high), float(loss_error), float(delta_error), corners)

    @property
    def segments(self) -> np.ndarray:
        """The table as float64 [segments, COLUMNS], read-only."""
        return np.frombuffer(self.data, "<f8").reshape(-1, COLUMNS)

    def problem(self) -> str:
        """What is wrong with it, or ""."""
        if not self.data or len(self.data) % (8 * COLUMNS):
            return f"its data is {len(self.data)} bytes, a positive multiple of {8 * COLUMNS} is needed"
        table = self.segments
        if not np.isfinite(table).all():
            return "its data is not finite"
        if (np.diff(table[:, 0]) <= 0).any():
            return "the left ends of its segments do not ascend"
        return ""

    def look_up(self, u: np.ndarray, column: int) -> np.ndarray:
        """f (column 1) or f' (column 3) at float64 u."""
        return exact_segment(self.segments, u)[column // 2]
