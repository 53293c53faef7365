"""OUTER as matrix products over rows of channels."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from math import prod

import numpy as np

from mgc.isa.instructions import Outer
from mgc.sim.fast import layout
from mgc.sim.fast.builder import LoweredStep, PlanBuilder
from mgc.sim.fast.elementwise import Operand
from mgc.sim.fast.graph import GraphBuilder, NotLoweredError
from mgc.sim.fast.values import Element, Frame, GraphValue
from mgc.sim.fast.weights import Sums, by_matrix, most_of, plane_dtype
from mgc.sim.fast.windows import window_map

_F32 = np.dtype(np.float32)
_F64 = np.dtype(np.float64)


def lower_outer(builder: PlanBuilder, m: Outer) -> None:
    """Adds the weight gradient to the open graph."""
    x, dy = builder.buffer(m.x), builder.buffer(m.dy)
    if not isinstance(x, GraphValue) or not isinstance(dy, GraphValue):
        raise NotLoweredError("an OUTER of constants")
    scales = [builder.buffer(m.x_scale), builder.buffer(m.dy_scale)] if m.runs and not builder.ideal else []
    shape = builder.program.buffers[m.dst].shape
    value, kernel = outer(builder.open_graph(), m, x, dy, scales, shape, builder.ideal)
    builder.hold(m.dst, builder.define(value))
    builder.placements.append(LoweredStep(m.id, "outer", kernel))


def outer(
    g: GraphBuilder,
    m: Outer,
    x: GraphValue,
    dy: GraphValue,
    scales: Sequence[Operand],
    shape: tuple[int, ...],
    ideal: bool,
) -> tuple[GraphValue, str]:
    """The weight gradient [matrices, rows, cols] (`shape`), and the kernel."""
    matrices, depth, cols = shape
    inner = Frame.of(m.input, prod(x.shape))
    errors = Frame.of(m.output, prod(dy.shape))
    if inner is None or errors is None:
        raise NotLoweredError("a view that is no permutation of its buffer's axes")
    if x.batched or dy.batched:
        raise NotLoweredError("an OUTER of several micro-batches")
    reads, writes = window_map(m)
    windows, taps = reads.shape
    channels = depth // taps
    if inner.channels != matrices * channels or errors.channels != matrices * cols:
        raise NotLoweredError("channels that no matrix meets")
    met = layout.take(g, layout.rows_of(g, x, inner), reads, x.element)
    against = layout.take(g, layout.rows_of(g, dy, errors), writes, dy.element)
    runs = m.runs if scales else 1
    terms = m.input.shape[0] // runs * windows
    scale = _run_scales(g, scales, m.input.shape[0], runs) if scales else None
    found: list[str] = []
    dtype, kernel, limit = _F32, "float32", np.inf
    pairs = zip(
        by_matrix(g, met, matrices, windows * taps, inner.channels),
        by_matrix(g, against, matrices, windows, errors.channels),
        strict=True,
    )
    for left, right in pairs:
        left, right = g.reshape(left, [runs, terms, depth]), g.reshape(right, [runs, terms, cols])
        if ideal:
            flat = g.reshape(left, [runs * terms, depth]), g.reshape(right, [runs * terms, cols])
            tensor = g.node("Gemm", *flat, transA=1)
        else:
            sums = _bytes_across(g, left, right, x, dy, terms)
            tensor, dtype, kernel, limit = sums.tensor, sums.dtype, sums.kernel, sums.limit
            if scale is not None:
                tensor, dtype, limit = _added(g, sums, scale, runs), _F32, np.inf
        spread = g.reshape(tensor, [taps, channels, cols])
        if m.tap_fastest and taps > 1 and channels > 1:
            spread = g.node("Transpose", spread, perm=[1, 0, 2])
        found.append(g.reshape(spread, [1, depth, cols]))
    tensor = g.concat(found, axis=0)
    logical = _F32 if ideal or scale is not None else np.dtype(np.int64)
    return GraphValue(shape, logical, Element(dtype), dense=tensor, limit=limit, batched=False), kernel


def _run_scales(g: GraphBuilder, scales: Sequence[Operand], samples: int, runs: int) -> str:
    """float64 [runs, 1, 1]: the product of both scales of each run, those of its first sample."""
    found: list[str] = []
    for scale in scales:
        tensor = layout.dense(g, scale) if isinstance(scale, GraphValue) else g.constant(scale)
        if prod(scale.shape) == 1:
            tensor = g.reshape(tensor, [1, 1, 1])
        else:
            tensor = g.reshape(tensor, [runs, samples // runs])
            tensor = g.reshape(g.node("Gather", tensor, g.constant([0]), axis=1), [runs, 1, 1])
        found.append(g.cast(tensor, _F64))
    return g.node("Mul", *found)


def _added(g: GraphBuilder, sums: Sums, scale: str, runs: int) -> str:
    """The sums of all runs times their scales, in float32: one after the other, from 0 on."""
    wide = sums.tensor if sums.dtype == _F64 else g.cast(sums.tensor, _F64)
    real = g.cast(g.node("Mul", wide, scale), _F32)
    zero = g.constant(np.float32(0))
    if adds_in_order(runs):
        # a sum of -0 only is +0 if one starts from it
        return g.node("Add", zero, g.node("ReduceSum", real, g.constant([0]), keepdims=0))
    total = zero
    for run in g.nodes_of("Split", [real], runs, axis=0, num_outputs=runs):
        total = g.node("Add", total, run)
    return total


@cache
def adds_in_order(count: int) -> bool:
    """Whether ReduceSum over axis 0 adds `count` float32 numbers one after the other on this machine."""
    g = GraphBuilder()
    g.output(g.node("ReduceSum", g.input("x", _F32), g.constant([0]), keepdims=0), "y", _F32)
    rng = np.random.default_rng(count)
    for shape in ((count, 1, 1), (count, 3, 1), (count, 7, 33), (count, 640, 80)):
        x = (rng.normal(size=shape) * 10.0 ** rng.integers(-6, 6, shape)).astype(np.float32)
        expected = np.zeros(shape[1:], np.float32)
        for term in x:
            expected += term
        for threads in (1, 2):
            if not np.array_equal(g.session(threads).run(["y"], {"x": x})[0], expected):
                return False
    return True


def _bytes_across(g: GraphBuilder, x: str, dy: str, of_x: GraphValue, of_dy: GraphValue, terms: int) -> Sums:
    """x [runs, terms, K] transposed times dy [runs, terms, N] of codes in bytes: in int32 as far as no sum overflows,
    pieces of it added in float64.
    """
    if of_x.element.dtype != np.uint8 or of_dy.element.dtype != np.uint8:
        raise NotLoweredError(f"codes of {of_x.element.dtype} and {of_dy.element.dtype}")
    each = max(1, most_of(of_x) * most_of(of_dy))
    if each * terms >= 1 << 53:
        raise NotLoweredError(f"sums reach {each * terms}: no kernel is exact")
    fits = ((1 << 31) - 1) // each
    signed = plane_dtype() == np.int8
    if signed:
        dy = g.cast(g.node("BitwiseXor", dy, g.constant(np.uint8(128))), np.int8)
    zero = g.constant(np.int8(of_dy.element.bias - 128) if signed else np.uint8(of_dy.element.bias))
    across, bias = g.node("Transpose", x, perm=[0, 2, 1]), g.constant(np.uint8(of_x.element.bias))
    kernel = "u8s8" if signed else "u8u8"
    if terms <= fits:
        return Sums(g.node("MatMulInteger", across, dy, bias, zero), np.dtype(np.int32), each * terms, kernel)
    total: str | None = None
    for start in range(0, terms, fits):
        stop = min(start + fits, terms)
        left, right = g.slice(across, start, stop, axis=2), g.slice(dy, start, stop, axis=1)
        term = g.cast(g.node("MatMulInteger", left, right, bias, zero), _F64)
        total = term if total is None else g.node("Add", total, term)
    assert total is not None
    return Sums(total, _F64, each * terms, kernel)
