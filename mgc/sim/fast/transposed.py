"""MVM_T as matrix products over rows of channels, of groups whose weights change while a plan runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

import numpy as np

from mgc.isa.instructions import MvmT
from mgc.sim.fast import layout
from mgc.sim.fast.graph import GraphBuilder, NotLoweredError
from mgc.sim.fast.values import Element, Frame, GraphValue, Part, Rows
from mgc.sim.fast.weights import Sums, WeightVariable, by_matrix, common_type, most_of, product, side_by_side
from mgc.sim.fast.windows import window_map

_F32 = np.dtype(np.float32)
_CLASSES = 64
"""Sets of taps that meet a position, at most: each costs a product of its own."""


def lower(
    g: GraphBuilder,
    groups: Mapping[int, WeightVariable],
    instructions: Sequence[MvmT],
    source: GraphValue,
    shape: tuple[int, ...],
    ideal: bool,
) -> tuple[GraphValue, str]:
    """All MVM_Ts that add into one destination (of `shape`), reading one source; and the kernel.

    Instead of scattering sums, each position of the destination gathers the errors of the windows that read it:
    positions that are read by the same taps share a product over these taps (those at a border, by some of them).
    """
    first = instructions[0]
    views = {(m.input, m.output) for m in instructions}
    errors = Frame.of(first.output, prod(source.shape))
    target = Frame.of(first.input, prod(shape))
    if len(views) > 1 or errors is None or target is None:
        raise NotLoweredError("a view that is no permutation of its buffer's axes")
    lead = groups[first.group]
    matrices, cols = lead.group.matrices, lead.group.cols
    taps = [m.windows.tap_total for m in instructions]
    depth = target.channels // matrices
    for m, t in zip(instructions, taps, strict=True):
        group = groups[m.group].group
        formed = (group.matrices, group.cols, group.rows) == (matrices, cols, depth * t)
        if not formed or groups[m.group].planes != lead.planes:
            raise NotLoweredError("MVM_Ts of groups that differ in form")
    if errors.channels != matrices * cols or depth * matrices != target.channels:
        raise NotLoweredError("channels that no matrix meets")
    meets = _meetings(instructions, target.positions, sum(taps))
    rows = layout.rows_of(g, source, errors)
    index = np.full(target.positions, -1, np.int64)
    sizes: list[int] = []
    made: list[list[Sums]] = []
    for positions, keys in _classes(meets):
        index[positions] = sum(sizes) + np.arange(len(positions))
        gathered = layout.take(g, rows, meets[np.ix_(positions, keys)], source.element)
        found: list[Sums] = []
        for matrix, x in enumerate(by_matrix(g, gathered, matrices, meets[positions][:, keys].size, errors.channels)):
            stacks = [
                groups[m.group].transposed(t, m.tap_fastest, matrix) for m, t in zip(instructions, taps, strict=True)
            ]
            operand = tuple(_rows_of_keys(g, s, keys, sum(taps), cols, depth) for s in side_by_side(g, stacks, axis=0))
            inputs = g.reshape(x, [-1, len(positions), len(keys) * cols])
            found.append(product(g, inputs, source.element, most_of(source), operand, lead.planes, len(keys) * cols))
        made.append(found)
        sizes.append(len(positions))
    if not made:
        raise NotLoweredError("a destination that no window reads")
    sums = [s for found in made for s in found]
    dtype, limit, kernel = common_type(sums), max(s.limit for s in sums), made[-1][0].kernel
    tensors = [g.concat([s.wide(g, dtype) for s in found], axis=2) for found in made]
    parts = tuple(Part(tensor, size) for tensor, size in zip(tensors, sizes, strict=True))
    logical = _F32 if ideal else np.dtype(np.int64)
    value = GraphValue(
        shape, logical, Element(dtype), rows=Rows(target, parts, index), limit=limit, batched=source.batched
    )
    return value, kernel


def _rows_of_keys(g: GraphBuilder, stack: str, keys: np.ndarray, total: int, cols: int, channels: int) -> str:
    """[len(keys) * cols, channels] of the taps `keys` of a stack [total, cols, channels]."""
    if len(keys) < total:
        stack = g.node("Gather", stack, g.constant(keys.astype(np.int64)), axis=0)
    return g.reshape(stack, [len(keys) * cols, channels])


def _meetings(instructions: Sequence[MvmT], positions: int, keys: int) -> np.ndarray:
    """int64 [positions, keys]: the error that tap `key` brings to a position of the destination, -1 for none."""
    table = np.full((positions, keys), -1, np.int64)
    start = 0
    for m in instructions:
        reads, writes = window_map(m)
        window, tap = np.nonzero(reads >= 0)
        at = reads[window, tap]
        if (table[at, start + tap] >= 0).any() or len(np.unique(at * keys + tap)) != len(at):
            raise NotLoweredError("a tap that meets a position twice")
        table[at, start + tap] = writes[window]
        start += reads.shape[1]
    return table


def _classes(meets: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """(positions, keys): positions whose taps are among the keys, each position once; those without taps in none."""
    signatures, member = np.unique(meets >= 0, axis=0, return_inverse=True)
    member = member.reshape(-1)
    found: list[tuple[np.ndarray, list[int]]] = []
    for k in np.argsort(-signatures.sum(axis=1), kind="stable"):
        if not signatures[k].any():
            continue
        home = next((members for keys, members in found if not (signatures[k] & ~keys).any()), None)
        if home is not None:
            home.append(int(k))
        else:
            found.append((signatures[k], [int(k)]))
    if len(found) > _CLASSES:
        raise NotLoweredError(f"{len(found)} sets of taps")
    return [(np.flatnonzero(np.isin(member, members)), np.flatnonzero(keys)) for keys, members in found]
