"""MOVE as graph nodes: row gathers, concatenations of channels, transposes, or a gather of blocks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import gcd, prod

import numpy as np

from mgc.functions.windows import strided_view
from mgc.isa.instructions import Move, Ref
from mgc.sim.fast import layout
from mgc.sim.fast.builder import LoweredStep, PlanBuilder
from mgc.sim.fast.elementwise import Operand
from mgc.sim.fast.graph import GraphBuilder, NotLoweredError
from mgc.sim.fast.steps import limit
from mgc.sim.fast.values import Element, Frame, GraphValue, Part, Rows

Orientation = Callable[[Sequence[int]], Frame | None]

_MOST = 1 << 24
"""Elements of a destination up to which the whole copy is tabulated."""


def lower_move(builder: PlanBuilder, move: Move) -> None:
    """Adds the copy to the open graph."""
    sources = {r: builder.read(r) for r in dict.fromkeys(p.src for p in move.pieces)}
    shape = builder.program.buffers[move.dst].shape
    value = lower(builder.open_graph(), move, sources, shape, builder.dtype(move.dst))
    builder.hold(move.dst, builder.define(value))
    builder.placements.append(LoweredStep(move.id, "move", "rows" if value.rows is not None else "dense"))


def lower(
    g: GraphBuilder, move: Move, sources: Mapping[Ref, Operand], shape: tuple[int, ...], dtype: np.dtype
) -> GraphValue:
    """The destination of `shape` and program type `dtype`. Raises NotLoweredError for what is too large to tabulate.

    The copy is written down as a table, destination element -> source element; whatever form is chosen reproduces
    that table, so that it is exact by construction.
    """
    if prod(shape) > _MOST or prod(shape) == 0:
        raise NotLoweredError(f"a destination of {prod(shape)} elements")
    table = _Table.of(move, sources, shape)
    values = [o for o in sources.values() if isinstance(o, GraphValue)]
    batched = any(v.batched for v in values)
    if batched and not all(v.batched for v in values):
        raise NotLoweredError("sources that differ between micro-batches, and others")
    element = values[0].element if values and all(v.element == values[0].element for v in values) else Element(dtype)
    numbers: list[Operand] = [*sources.values(), np.zeros(1, dtype)]
    result = GraphValue(shape, dtype, element, limit=max(map(limit, numbers)), span=_span(numbers), batched=batched)
    rows = _by_rows(g, table, result)
    if rows is not None:
        return replace(result, rows=rows)
    return replace(result, dense=_whole_transpose(g, move, table, result) or _by_blocks(g, table, result))


def _span(operands: Sequence[Operand]) -> tuple[int, int] | None:
    """The span of a mixture of operands."""
    spans = []
    for o in operands:
        if isinstance(o, GraphValue):
            spans.append(o.span)
        else:
            spans.append((int(o.min()), int(o.max())) if o.dtype.kind in "iu" and o.size else None)
    known = [s for s in spans if s is not None]
    return (min(lo for lo, _ in known), max(hi for _, hi in known)) if len(known) == len(spans) else None


@dataclass(frozen=True)
class _Table:
    """For every element of the destination (flat): number `start` of its source plus the address there; -1: `fill`."""

    operands: tuple[Operand, ...]
    starts: tuple[int, ...]
    origin: np.ndarray
    fill: float

    @staticmethod
    def of(move: Move, sources: Mapping[Ref, Operand], shape: tuple[int, ...]) -> _Table:
        refs = list(sources)
        sizes = [prod(sources[r].shape) for r in refs]
        starts = [sum(sizes[:k]) for k in range(len(sizes))]
        origin = np.full(prod(shape), -1, np.int64)
        for piece in move.pieces:
            k = refs.index(piece.src)
            addresses = np.arange(starts[k], starts[k] + sizes[k])
            target = strided_view(origin, piece.dst_base, piece.extents, piece.dst_strides)
            target[...] = strided_view(addresses, piece.src_base, piece.extents, piece.src_strides)
        operands = tuple(sources[r] for r in refs)
        return _Table(operands, tuple(starts), origin, 0).filled()

    def filled(self) -> _Table:
        """The same with one number of constants, if there is only one (zero where nothing is copied), as the fill."""
        fills: list[float] = [0.0] if (self.origin < 0).any() else []
        places = self.origin < 0
        for operand, start in zip(self.operands, self.starts, strict=True):
            if isinstance(operand, np.ndarray):
                inside = (self.origin >= start) & (self.origin < start + operand.size)
                numbers = operand.reshape(-1)[self.origin[inside] - start]
                if not len(numbers):
                    continue
                number = float(numbers[0])
                # equal bits, so that a fill of -0 or NaN is told from others
                if number != numbers[0] or len(set(numbers.view(f"V{numbers.itemsize}").tolist())) > 1:
                    return self
                fills.append(number)
                places |= inside
        if len({(f, np.signbit(f)) for f in fills}) != 1:
            return self
        return replace(self, origin=np.where(places, -1, self.origin), fill=fills[0])

    def source_of(self) -> np.ndarray:
        """For every element the number of its source, -1 for the fill."""
        if len(self.starts) == 1:
            return np.where(self.origin < 0, -1, 0)
        found = np.searchsorted(self.starts, self.origin, side="right") - 1
        return np.where(self.origin < 0, -1, found)


@dataclass(frozen=True)
class _Run:
    """Channels of the destination that are neighbouring channels of one source (in `frame`), at the same positions."""

    source: int
    frame: Frame
    first: int
    count: int
    positions: np.ndarray


def _by_rows(g: GraphBuilder, table: _Table, result: GraphValue) -> Rows | None:
    """The destination as rows, if some source lies in rows and the copy keeps channels together."""
    if not any(isinstance(o, GraphValue) and o.rows is not None for o in table.operands):
        return None
    for orientation in (Frame.channels_first, Frame.channels_last):
        frame = orientation(result.shape)
        runs = _runs(table, frame, orientation) if frame is not None else None
        if frame is None or runs is None:
            continue
        if len(runs) == 1:
            source = table.operands[runs[0].source]
            assert isinstance(source, GraphValue)
            rows = source.rows
            if rows is not None and runs[0].count == rows.frame.channels and source.element == result.element:
                return _lazily(g, rows, runs[0].positions, frame, table.fill, result)
        tensor = g.concat([_channels(g, table, run, result) for run in runs], axis=2)
        return Rows.whole(frame, tensor)
    return None


def _lazily(g: GraphBuilder, rows: Rows, at: np.ndarray, frame: Frame, fill: float, result: GraphValue) -> Rows:
    """The same rows for other positions: nothing moves."""
    holes = at < 0
    if not (fill or np.signbit(fill)) or not holes.any():
        return Rows(frame, rows.parts, np.where(holes, -1, rows.index[at]))
    rows = layout.without_holes(g, rows, result.element)
    row = layout.constant_row(g, rows.parts[0].tensor, rows.frame.channels, result.element, fill)
    return Rows(frame, (*rows.parts, Part(row, 1)), np.where(holes, rows.total, rows.index[at]))


def _runs(table: _Table, frame: Frame, orientation: Orientation) -> list[_Run] | None:
    """The copy as runs of channels; None if it is no such copy. Sources without rows get the same orientation."""
    wanted = frame.view(table.origin)  # [batch, positions, channels]
    numbers = frame.view(table.source_of())
    some = numbers >= 0
    # every channel needs a source: that of its first position that has one
    if not some[0].any(axis=0).all():
        return None
    probe = some[0].argmax(axis=0)
    source_of_channel = numbers[0][probe, np.arange(frame.channels)]
    runs: list[_Run] = []
    c = 0
    while c < frame.channels:
        k = int(source_of_channel[c])
        source = table.operands[k]
        if not isinstance(source, GraphValue):
            return None
        own = source.rows.frame if source.rows is not None else orientation(source.shape)
        if own is None or own.batch != frame.batch:
            return None
        addresses = own.addresses() + table.starts[k]  # [batch, positions, channels]
        place = np.full(own.size, -1, np.int64)
        place[(addresses[0] - table.starts[k]).reshape(-1)] = np.arange(own.positions * own.channels)
        at = wanted[0, :, c]
        if (some[0, :, c] & (numbers[0, :, c] != k)).any():
            return None  # the source changes from position to position
        hits = np.where(at >= table.starts[k], at - table.starts[k], 0)
        position, channel = np.divmod(np.where(at < 0, -1, place[hits]), own.channels)
        position = np.where(at < 0, -1, position)
        first = int(channel[at >= 0][0])
        most = min(frame.channels - c, own.channels - first)
        expected = np.where(position[None, :, None] < 0, -1, addresses[:, position, first : first + most])
        good = (wanted[:, :, c : c + most] == expected).all(axis=(0, 1))
        count = most if good.all() else int(good.argmin())
        if count == 0:
            return None
        runs.append(_Run(k, own, first, count, position))
        c += count
        if len(runs) > 16:
            return None
    return runs


def _channels(g: GraphBuilder, table: _Table, run: _Run, result: GraphValue) -> str:
    """The channels of a run at the destination's positions: [n, positions, count]."""
    source = table.operands[run.source]
    assert isinstance(source, GraphValue)
    if source.element != result.element:
        source = GraphValue(source.shape, source.logical, result.element, dense=layout.plain(g, source))
    tensor = layout.take(g, layout.rows_of(g, source, run.frame), run.positions, source.element, table.fill)
    if run.count == run.frame.channels:
        return tensor
    return g.slice(tensor, run.first, run.first + run.count, axis=2)


def _whole_transpose(g: GraphBuilder, move: Move, table: _Table, result: GraphValue) -> str | None:
    """The copy as one Transpose, if it is a permutation of a source's axes."""
    if len(move.pieces) != 1 or not isinstance(table.operands[0], GraphValue):
        return None
    (piece,), source = move.pieces, table.operands[0]
    axes = [k for k, n in enumerate(piece.extents) if n > 1]
    extents = [piece.extents[k] for k in axes]
    size = prod(source.shape)
    if piece.src_base or piece.dst_base or prod(extents) != size or size != prod(result.shape):
        return None
    src, dst = [piece.src_strides[k] for k in axes], [piece.dst_strides[k] for k in axes]
    for strides in (src, dst):
        expected = 1
        for k in sorted(range(len(axes)), key=lambda k: strides[k]):
            if strides[k] != expected:
                return None
            expected *= extents[k]
    tensor = layout.dense(g, source) if source.element == result.element else layout.plain(g, source)
    held = sorted(range(len(axes)), key=lambda k: -src[k])
    wanted = sorted(range(len(axes)), key=lambda k: -dst[k])
    tensor = g.reshape(tensor, [-1, *(extents[k] for k in held)])
    tensor = g.node("Transpose", tensor, perm=[0, *(1 + held.index(k) for k in wanted)])
    return g.reshape(tensor, layout.leading(result.shape))


def _by_blocks(g: GraphBuilder, table: _Table, result: GraphValue) -> str:
    """The copy as one Gather of blocks, the longest that the table is made of."""
    origin = table.origin
    follows = (origin[1:] == origin[:-1] + 1) & (origin[:-1] >= 0) | (origin[1:] < 0) & (origin[:-1] < 0)
    breaks = np.flatnonzero(~follows) + 1
    heads = origin[np.concatenate([[0], breaks])]
    size = gcd(origin.size, *table.starts, *breaks.tolist(), *heads[heads >= 0].tolist())
    sizes = [prod(o.shape) for o in table.operands]
    size = gcd(size, *sizes)
    tensors = [_flat(g, o, n, size, result) for o, n in zip(table.operands, sizes, strict=True)]
    index = origin[::size] // size
    if (index < 0).any():
        row = result.element.stored(np.full((1, 1, size), table.fill))
        tensors.append(_repeated(g, row, result))
        index = np.where(index < 0, sum(sizes) // size, index)
    whole = g.concat(tensors, axis=1)
    return g.reshape(g.node("Gather", whole, g.constant(index.astype(np.int32)), axis=1), layout.leading(result.shape))


def _flat(g: GraphBuilder, operand: Operand, size: int, block: int, result: GraphValue) -> str:
    """A source as [k, size / block, block]."""
    if isinstance(operand, GraphValue):
        tensor = layout.dense(g, operand) if operand.element == result.element else layout.plain(g, operand)
        return g.reshape(tensor, [-1, size // block, block])
    stored = result.element.stored(operand)
    return _repeated(g, stored.reshape(1, size // block, block), result)


def _repeated(g: GraphBuilder, array: np.ndarray, result: GraphValue) -> str:
    """A constant [1, blocks, block] for every micro-batch."""
    if not result.batched:
        return g.constant(array)
    count = g.input("k", np.dtype(np.int64))
    return g.node("Expand", g.constant(array), g.node("Concat", count, g.constant(array.shape[1:]), axis=0))
