"""Windows of rows, side by side: the left operand of a windowed matrix product."""

from __future__ import annotations

from math import prod

import numpy as np

from mgc.sim.fast import layout
from mgc.sim.fast.graph import GraphBuilder
from mgc.sim.fast.values import Element, Frame, Part, Rows
from mgc.sim.fast.windows import SAMPLES, SharedProduct, flatten

_PIECE = 3.0
"""Nanoseconds that one piece of a Gather costs, however short."""
_BYTES = 50.0
"""Bytes a nanosecond that a Gather moves beyond that; half of it for Slice and Concat."""
_NODE = 2000.0
"""Nanoseconds of one more node."""


def windows(g: GraphBuilder, rows: Rows, element: Element, shared: SharedProduct, outside: int = 0) -> str:
    """[n, windows * taps, channels]: what the windows read, taps fastest, the number `outside` beyond the input.

    Either one Gather of single positions, or, where that costs less, of whole lines of taps. Taps along the last
    dimension that lie next to each other are `span` neighbouring positions. Those windows of a line that start at the
    same remainder modulo `span` do not overlap, so that they are the line itself, from there on, cut into pieces of
    `span` positions: a Slice and a Reshape for each remainder.
    """
    lines, _ = _cheapest(rows, element, shared)
    return lines.emit(g, element, outside) if lines else layout.take(g, rows, shared.reads, element, outside)


def cost(rows: Rows, element: Element, shared: SharedProduct) -> float:
    """Estimated nanoseconds of `windows` over `SAMPLES` samples."""
    return _cheapest(rows, element, shared)[1]


def _cheapest(rows: Rows, element: Element, shared: SharedProduct) -> tuple[_Lines | None, float]:
    """The second form, where it costs less than the first, and what it costs, or the first."""
    first = shared.instructions[0].windows
    row_bytes = rows.frame.channels * element.dtype.itemsize
    plain = SAMPLES * shared.reads.size * (_PIECE + row_bytes / _BYTES)
    if first.taps and first.taps[-1] > 1 and first.in_dilation[-1] == 1:
        lines = _Lines(shared, rows)
        found = lines.cost(row_bytes)
        if found < plain:
            return lines, found
    return None, plain


class _Lines:
    """The second form of `windows`."""

    def __init__(self, shared: SharedProduct, rows: Rows) -> None:
        first = shared.instructions[0].windows
        *outer, self.extent = shared.instructions[0].input.shape[2:]
        *outer_taps, self.span = first.taps
        starts = shared.starts[-1]
        self.shared, self.rows = shared, rows
        self.low = int(starts[0])
        self.remainder, self.piece = (starts - self.low) % self.span, (starts - self.low) // self.span
        self.remainders = sorted(set(self.remainder.tolist()))
        # pieces of a line for each remainder, and positions of a line that they cover
        self.pieces = {r: int(self.piece[self.remainder == r].max()) + 1 for r in self.remainders}
        self.width = max(r + n * self.span for r, n in self.pieces.items())
        self.outer = prod(outer)
        axes = zip(shared.starts[:-1], first.in_dilation[:-1], outer_taps, strict=True)
        self.lines = flatten([s[:, None] + d * np.arange(t) for s, d, t in axes], outer)  # [outer windows, outer taps]
        column = self.low + np.arange(self.width)
        column = np.where((column >= 0) & (column < self.extent), column, -1)
        line = np.arange(self.outer)[:, None] * self.extent
        self.raster = np.where(column < 0, -1, line + column)

    @property
    def _in_order(self) -> bool:
        return self.raster.size == self.rows.total and self.rows.in_order and len(self.rows.parts) == 1

    def cost(self, row_bytes: int) -> float:
        """Estimated nanoseconds."""
        gather = self.lines.size * len(self.shared.starts[-1]) * (_PIECE + self.span * row_bytes / _BYTES)
        raster = 0.0 if self._in_order else self.raster.size * (_PIECE + row_bytes / _BYTES)
        copies = 4 * self.outer * sum(self.pieces.values()) * self.span * row_bytes / _BYTES
        return SAMPLES * (gather + raster + copies) + (3 + 2 * len(self.remainders)) * _NODE

    def emit(self, g: GraphBuilder, element: Element, outside: int) -> str:
        """The nodes."""
        frame = self.rows.frame
        wide = self.span * frame.channels
        raster = layout.take(g, self.rows, self.raster, element, outside)
        lines = g.reshape(raster, [-1, self.outer, self.width, frame.channels])
        parts: list[Part] = []
        start: dict[int, int] = {}
        for r in self.remainders:
            count = self.pieces[r]
            cut = lines
            if (r, r + count * self.span) != (0, self.width):
                cut = g.slice(lines, r, r + count * self.span, axis=2)
            start[r] = sum(p.rows for p in parts)
            parts.append(Part(g.reshape(cut, [-1, self.outer * count, wide]), self.outer * count))
        pieces = Rows(
            Frame(frame.batch, wide, sum(p.rows for p in parts), 0, 0, ()),
            tuple(parts),
            np.arange(sum(p.rows for p in parts)),
        )
        base = np.array([start[r] for r in self.remainder.tolist()]) + self.piece  # of each window in line 0
        step = np.array([self.pieces[r] for r in self.remainder.tolist()])
        # [outer windows, windows of a line, outer taps]
        at = base[None, :, None] + self.lines[:, None, :] * step[None, :, None]
        return layout.take(g, pieces, np.where(self.lines[:, None, :] < 0, -1, at), element, outside)
