"""Sums in float64 as graph nodes, in the order of `mgc.functions.reduce.total`.

Four lanes take every fourth number: that is how kernels with registers of two float64 numbers add up a last axis, two
registers at a time. Along other axes they add up one number after the other, unless there are many: hence the blocks.
`is_exact` confirms it for a length on this machine. Every addition is one IEEE operation, so that
doing the same ones in the same order gives the same bits, whichever numbers are independent of which.
"""

from __future__ import annotations

from functools import cache, reduce

import numpy as np

from mgc.functions.reduce import BLOCK, LANES, total
from mgc.sim.fast.graph import GraphBuilder

_PROBE = 1 << 16
_NARROW = 16
"""Rows of fewer channels than these are turned: kernels add long rows at once."""


def emit(g: GraphBuilder, x: str, n: int, channels: int, *, wide: bool = False) -> str:
    """float32 [m, n, channels], or float64 if `wide` -> float64 [m, channels]: the sums over the middle axis."""
    if n > BLOCK:
        blocks = n // BLOCK
        body = g.reshape(_cut(g, x, 0, blocks * BLOCK, n), [-1, BLOCK, channels])
        found = g.reshape(emit(g, body, BLOCK, channels, wide=wide), [-1, blocks, channels])
        first, rest = emit(g, found, blocks, channels, wide=True), n % BLOCK
        return g.node("Add", first, emit(g, _cut(g, x, n - rest, n, n), rest, channels, wide=wide)) if rest else first
    if 1 < channels < _NARROW:  # before it is widened: half the bytes
        x = g.node("Transpose", x, perm=[0, 2, 1])
    x = x if wide else g.cast(x, np.float64)
    if channels < _NARROW:
        x = g.reshape(x, [-1, n])
    row = [-1] if channels < _NARROW else [-1, channels]
    whole = n - n % LANES
    terms = [g.reshape(_cut(g, x, k, k + 1, n), row) for k in range(whole, n)]
    if whole:
        lanes = _cut(g, x, 0, whole, n)
        # number i of lane j is i * LANES + j: kernels add the i one after the other, then lanes 0 and 2, 1 and 3
        if channels >= _NARROW:
            lanes = g.reshape(lanes, [-1, whole // LANES, 2, 2, channels])
            for _ in range(2):
                lanes = g.node("ReduceSum", lanes, g.constant([1]), keepdims=0)
        terms.insert(0, g.node("ReduceSum", lanes, g.constant([1]), keepdims=0))
    return reduce(lambda a, b: g.node("Add", a, b), terms)


def _cut(g: GraphBuilder, x: str, begin: int, end: int, n: int) -> str:
    return x if (begin, end) == (0, n) else g.slice(x, begin, end, axis=1)


@cache
def is_exact(n: int, channels: int) -> bool:
    """Whether the nodes for sums of n numbers over rows of `channels` give the defined bits on this machine.

    The order of the kernels' additions depends on shapes only, and random numbers of very different sizes tell orders
    apart; several numbers of rows are tried, since kernels treat a single one in their own way. Very wide rows are
    tried narrower: channels are independent of each other.
    """
    channels = channels if channels < _NARROW else min(channels, max(_NARROW, _PROBE // n))
    g = GraphBuilder()
    dtype = np.dtype(np.float64)
    g.output(emit(g, g.input("x", dtype), n, channels, wide=True), "y", dtype)
    rng = np.random.default_rng(n)
    for threads in (1, 2):
        session = g.session(threads)
        for rows in (1, 3):
            x = rng.normal(size=(rows, n, channels)) * 10.0 ** rng.integers(-6, 6, (rows, n, channels))
            (got,) = session.run(["y"], {"x": x})
            if not np.array_equal(got.reshape(rows, channels), total(x, 1)):
                return False
    return True
