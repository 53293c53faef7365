"""NumPy's pairwise summation as graph nodes, in its very order.

`np.add.reduce` over a contiguous axis of n float64 numbers adds as follows. Below 8: one after the other. Up to 128:
eight accumulators take every eighth number, are added as ((0+1)+(2+3))+((4+5)+(6+7)), then the last n mod 8 numbers one
after the other. Above: the sums of two halves, the first of n/2 numbers less its remainder by 8. Every addition is one
IEEE operation, so that doing the same ones in the same order gives the same bits, whichever numbers are independent of
which (`test_fast_reductions`). `is_exact` confirms it for a length on this machine and this NumPy.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from mgc.sim.fast.graph import GraphBuilder

_BLOCK = 128
_LANES = 8
MOST = 1 << 13
"""Numbers of a block at most that does not split evenly: each piece of it costs nodes."""
_PROBE = 1 << 16
_NARROW, _FEW = 16, _BLOCK
"""Rows of fewer channels and sums of fewer numbers than these are turned: kernels add long rows at once."""


def _halves(n: int) -> tuple[int, int]:
    first = n // 2
    first -= first % _LANES
    return first, n - first


def _split(n: int) -> tuple[int, int]:
    """How often n splits evenly down to equal blocks, and the numbers of a block."""
    depth = 0
    while n > _BLOCK and _halves(n)[0] == _halves(n)[1]:
        n, depth = _halves(n)[0], depth + 1
    return depth, n


def emit(g: GraphBuilder, x: str, n: int, channels: int) -> str:
    """float32 or float64 [m, n, channels] -> float64 [m, channels]: the sums over the middle axis."""
    if channels < _NARROW and n <= _FEW:
        # turned before they are widened: half the bytes
        turned = g.node("Transpose", x, perm=[1, 0, 2]) if channels > 1 else _turned(g, x, n)
        return g.reshape(_summed(g, g.cast(turned, np.float64), n), [-1, channels])
    x = g.cast(x, np.float64)
    depth, block = _split(n)
    if block > _BLOCK or block % _LANES:
        if not depth:
            return _uneven(g, x, n, channels)
        total = emit(g, g.reshape(x, [-1, block, channels]), block, channels)
        return _pairs(g, g.reshape(total, [-1, *[2] * depth, channels]), depth, channels)
    steps = block // _LANES
    # number i of lane j of block l is (l * steps + i) * 8 + j; ReduceSum adds the i one after the other, then, pair by
    # pair from the innermost axis out, lanes and blocks
    pairs = [2] * (depth + _LANES.bit_length() - 1)
    total = g.reshape(x, [-1, *pairs[:depth], steps, *pairs[depth:], channels])
    return _pairs(g, g.node("ReduceSum", total, g.constant([1 + depth]), keepdims=0), len(pairs), channels)


def _turned(g: GraphBuilder, x: str, n: int) -> str:
    """[m, n, 1] -> [n, m, 1]."""
    return g.reshape(g.node("Transpose", g.reshape(x, [-1, n]), perm=[1, 0]), [n, -1, 1])


def _summed(g: GraphBuilder, x: str, n: int) -> str:
    """float64 [n, m, channels], a block -> [1, m, channels]: additions of whole rows, which lie together."""
    steps, rest = divmod(n, _LANES)
    sizes = [_LANES] * steps + [1] * rest
    parts = g.nodes_of("Split", [x, g.constant(sizes)], len(sizes), axis=0) if len(sizes) > 1 else [x]
    total, *others = parts
    for part in others[: max(0, steps - 1)]:
        total = g.node("Add", total, part)
    if steps:
        lanes = g.nodes_of("Split", [total], _LANES, axis=0, num_outputs=_LANES)
        while len(lanes) > 1:
            lanes = [g.node("Add", *lanes[k : k + 2]) for k in range(0, len(lanes), 2)]
        (total,) = lanes
    for part in others[max(0, steps - 1) :]:
        total = g.node("Add", total, part)
    return total


def _pairs(g: GraphBuilder, x: str, axes: int, channels: int) -> str:
    """The sums over axes 1 .. `axes`, of two numbers each, the innermost first. In front, halves lie together: where
    channels are few, that is worth moving them there.
    """
    turned = channels < _NARROW
    if turned:
        x = g.node("Transpose", x, perm=[*range(axes, 0, -1), 0, axes + 1])
    for axis in range(axes, 0, -1):
        x = g.node("ReduceSum", x, g.constant([0 if turned else axis]), keepdims=0)
    return x


def _uneven(g: GraphBuilder, x: str, n: int, channels: int) -> str:
    if n > _BLOCK:
        first, second = _halves(n)
        parts = (emit(g, g.slice(x, 0, first, axis=1), first, channels),
                 emit(g, g.slice(x, first, n, axis=1), second, channels))  # fmt: skip
        return g.node("Add", *parts)
    whole = n - n % _LANES
    total = emit(g, g.slice(x, 0, whole, axis=1), whole, channels) if whole else None
    for k in range(whole, n):
        term = g.reshape(g.slice(x, k, k + 1, axis=1), [-1, channels])
        total = term if total is None else g.node("Add", total, term)
    assert total is not None
    return total


@cache
def is_exact(n: int, channels: int) -> bool:
    """Whether the nodes for sums of n numbers over rows of `channels` give NumPy's bits on this machine.

    The order of the kernels' additions depends on shapes only, and random numbers of very different sizes tell orders
    apart; several numbers of rows are tried, since kernels treat a single one in their own way. Very wide rows are
    tried narrower: channels are independent of each other.
    """
    if _split(n)[1] > MOST:
        return False
    channels = min(channels, max(1, _PROBE // n))
    g = GraphBuilder()
    dtype = np.dtype(np.float64)
    g.output(emit(g, g.input("x", dtype), n, channels), "y", dtype)
    rng = np.random.default_rng(n)
    for threads in (1, 2):
        session = g.session(threads)
        for rows in (1, 3):
            x = rng.normal(size=(rows, n, channels)) * 10.0 ** rng.integers(-6, 6, (rows, n, channels))
            (got,) = session.run(["y"], {"x": x})
            if not np.array_equal(got, np.add.reduce(np.ascontiguousarray(x.transpose(0, 2, 1)), axis=-1)):
                return False
    return True
