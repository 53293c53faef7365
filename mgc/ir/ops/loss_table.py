"""A loss function that has no closed form in the diff-block: f and f' as piecewise-linear tables."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from mgc.ir.op import register_attr

if TYPE_CHECKING:
    from mgc.ir.build import Build
    from mgc.ir.graph import Value

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
        table = self.segments
        at = np.clip(np.searchsorted(table[:, 0], u, side="right") - 1, 0, len(table) - 1)
        return table[at, column] + table[at, column + 1] * (u - table[at, 0])

    def look_up_ops(self, g: Build, u: Value, column: int) -> Value:
        """`look_up` as level-1 ops: the number of left ends up to u is the segment's number. u of type f64."""
        from mgc.ir.ops.shape import Gather
        from mgc.ir.types import DType

        table = self.segments
        flat = g.reshape(u, (u.tensor.size, 1))
        passed = g.binary("greater_or_equal", flat, g.array(table[1:, 0].copy()))
        at = g.reduce("sum", g.cast(passed, DType.I64), (1,), keepdims=False)

        def entry(k: int) -> Value:
            return g.reshape(g.emit(Gather(0), g.array(table[:, k].copy()), at), u.shape)

        return g.add(entry(column), g.mul(entry(column + 1), g.sub(u, entry(0))))
