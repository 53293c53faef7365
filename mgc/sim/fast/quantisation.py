"""Codes and what they stand for as graph nodes: QUANT, DEQUANT, their forms with computed scales, and LOOKUP."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import numpy as np

from mgc.isa.dtypes import dtype_of_code
from mgc.sim.fast import elementwise, layout
from mgc.sim.fast.graph import GraphBuilder, NotLoweredError
from mgc.sim.fast.steps import FLOAT, Call, finite, limit, logical, pointwise
from mgc.sim.fast.values import Element, GraphValue

_ROUNDING = np.float32(3 << 22)
"""Numbers within 2^22 of it are whole: float32 rounds a sum with it to a whole number, halves to even ones."""


def quant(g: GraphBuilder, call: Call) -> GraphValue:
    """clip(round(x / scale) + zero, lo, hi) in float32, NaN as 0; the scale is an attribute."""
    scale, lo, hi, code, zero = call.attributes
    by = replace(call, args=(*call.args, np.array(scale, FLOAT)), attributes=(lo, hi, code))
    return _codes(g, by, int(zero), sure=True)


def quant_by(g: GraphBuilder, call: Call) -> GraphValue:
    """The same without a zero point; one computed scale for all of x, or one a sample, and maybe a dither.

    With guards: one that scales are normal numbers.
    """
    scale, sure = call.args[1], False
    if call.guarded and isinstance(scale, GraphValue) and scale.element == Element(FLOAT):
        s = g.reshape(layout.dense(g, scale), [-1])
        both = g.node("Add", g.node("Abs", s), g.node("Abs", g.node("Reciprocal", s)))
        g.require(g.node("ReduceSum", both, g.constant([0]), keepdims=1))
        sure = True
    elif call.guarded and isinstance(scale, np.ndarray):
        sure = bool((scale >= np.finfo(np.float32).tiny).all() and np.isfinite(scale).all())
    return _codes(g, call, 0, sure)


def _codes(g: GraphBuilder, call: Call, zero: int, sure: bool) -> GraphValue:
    """Codes of x over a scale; `sure`: a quotient is NaN only where x is.

    Eight bits: QuantizeLinear, which divides, rounds half to even, adds the zero point (and 128 for signed codes, see
    `Element`) and clips to the type, as a probe confirms on this machine. It makes NaN the tensor's 0: where there may
    be one and that is not the code of 0, it is replaced first. Then the clip to lo..hi where that is narrower.
    Otherwise the operations one by one, on the quotient clipped to lo..hi less the zero point, which are whole numbers:
    rounding is adding and taking away a float32 whose neighbours are whole numbers. Wider codes become float32, which
    the products of most of them take: by way of QuantizeLinear to 16 bits, whose 0 is the least code, where that has
    one scale and a probe confirms it.
    """
    x, scale = call.args[:2]
    if logical(x) != FLOAT or logical(scale) != FLOAT:
        raise NotLoweredError(f"{call.name} of {logical(x)} by {logical(scale)}")
    lo, hi, code = call.attributes
    dtype = dtype_of_code(code)
    element = Element(np.dtype(np.uint8), 128 if dtype.kind == "i" else 0) if dtype.itemsize == 1 else Element(FLOAT)
    one = math.prod(scale.shape) == 1 and not (isinstance(scale, GraphValue) and scale.batched)
    by_sample = len(scale.shape) == len(x.shape) > 0 and math.prod(scale.shape) == scale.shape[0]
    wide = dtype.itemsize == 2
    point = zero - int(lo) if wide else zero + element.bias
    whole = np.dtype(np.uint16 if wide else np.uint8)
    direct = dtype.itemsize <= 2 and (one or (by_sample and not wide)) and quantises_exactly(whole)
    direct &= sure or point == 0

    def emit(tensors: Sequence[str], _: list[int]) -> str:
        t, s, *dither = tensors
        number = g.is_number(t) or math.isfinite(limit(x))
        number &= all(isinstance(d, np.ndarray) and bool(np.isfinite(d).all()) for d in call.args[2:])
        t = g.any_zero(t)
        for d in dither:
            t = g.node("Add", t, g.node("Mul", d, s))
        if not (direct and point == 0) and not number:
            t = _without_nan(g, t)
        if direct:
            if one:
                s = s if isinstance(scale, np.ndarray) and not scale.ndim else g.reshape(s, [])
                t = g.node("QuantizeLinear", t, s, g.constant(whole.type(point)))
            else:
                s = g.reshape(s, [-1])
                points = g.node("Expand", g.constant(np.full(1, point, np.uint8)), g.node("Shape", s))
                t = g.node("QuantizeLinear", t, s, points, axis=0)
            if wide:
                t = g.node("DequantizeLinear", t, g.constant(np.float32(1)), g.constant(np.uint16(-lo)))
                span = hi - lo < np.iinfo(np.uint16).max
                return g.node("Clip", t, g.constant(np.float32(lo)), g.constant(np.float32(hi))) if span else t
            least, most = int(lo) + element.bias, int(hi) + element.bias
            if (least, most) != (0, 255):
                t = g.node("Clip", t, g.constant(np.uint8(least)), g.constant(np.uint8(most)))
            return t
        steps = g.node("Div", t, s)
        if not sure:
            steps = _without_nan(g, steps)
        steps = g.node("Clip", steps, g.constant(np.float32(lo - zero)), g.constant(np.float32(hi - zero)))
        rounded = g.node("Add", steps, g.constant(_ROUNDING))
        codes = g.node("Sub", rounded, g.constant(_ROUNDING - np.float32(zero + element.bias)))
        return codes if element.dtype == FLOAT else g.cast(codes, element.dtype)

    value = elementwise.apply(g, call.args, call.result.shape, dtype, element, emit)
    return replace(value, limit=float(max(abs(lo), abs(hi))), span=(int(lo), int(hi)))


def _without_nan(g: GraphBuilder, x: str) -> str:
    return g.node("Where", g.node("IsNaN", x), g.constant(np.float32(0)), x)


def dequant(g: GraphBuilder, call: Call) -> GraphValue:
    """float32(acc * scale + bias) in the type of scale and bias: the same IEEE operations, never fused."""
    acc, scale, bias, _ = call.args
    if not isinstance(acc, GraphValue) or not isinstance(scale, np.ndarray) or not isinstance(bias, np.ndarray):
        raise NotLoweredError("dequant with computed scale or bias")
    # adding +0 changes nothing but the sign of a zero, and acc = 0 times a positive scale is +0 already
    no_bias = not bias.any() and not np.signbit(bias).any() and bool((scale > 0).all())
    operands = (acc, scale) if no_bias else (acc, scale, bias)

    def emit(tensors: Sequence[str], _: list[int]) -> str:
        y = tensors[0] if acc.element.dtype == scale.dtype else g.cast(tensors[0], scale.dtype)
        y = g.node("Mul", y, tensors[1])
        if not no_bias:
            y = g.node("Add", y, tensors[2])
        return y if scale.dtype == FLOAT else g.cast(y, FLOAT)

    value = elementwise.apply(g, operands, call.result.shape, FLOAT, Element(FLOAT), emit)
    return replace(value, limit=finite(acc.limit * limit(scale) + limit(bias)))


def ideal_dequant(g: GraphBuilder, call: Call) -> GraphValue:
    """acc + bias_float in float32."""
    acc, _, _, bias = call.args
    if logical(acc) != FLOAT or not isinstance(acc, GraphValue) or not isinstance(bias, np.ndarray):
        raise NotLoweredError(f"dequant of {logical(acc)}, or with a computed bias")
    if not bias.any():
        return acc
    trimmed = replace(call, args=(acc, bias.astype(FLOAT)))
    return pointwise(g, trimmed, lambda t, _: g.node("Add", *t))


def dequant_by(g: GraphBuilder, call: Call) -> GraphValue:
    """float32(acc * ((scale1 * scale2) * factor)), products in float64: the same operations in the same order.

    In `float` numerics acc itself, which is float32 there.
    """
    acc, *scales = call.args
    (factor,) = call.attributes
    if not isinstance(acc, GraphValue) or any(logical(s) != FLOAT for s in scales):
        raise NotLoweredError(f"dequant_by of {logical(acc)}")
    if call.ideal and acc.logical == FLOAT:
        return _in_order(g, acc)

    def emit(tensors: Sequence[str], _: list[int]) -> str:
        y, *by = tensors
        if acc.element.dtype != np.float64:
            y = g.cast(y, np.float64)
        first, second = (g.cast(t, np.float64) for t in by)
        scale = g.node("Mul", g.node("Mul", first, second), g.constant(np.float64(factor)))
        return g.cast(g.node("Mul", y, scale), FLOAT)

    return _in_order(g, elementwise.apply(g, call.args, call.result.shape, FLOAT, Element(FLOAT), emit))


def _in_order(g: GraphBuilder, value: GraphValue) -> GraphValue:
    """The value with its rows in order: where it goes it meets others, masks and normalised values among them."""
    if value.rows is None:
        return value
    return replace(value, rows=layout.in_order(g, layout.without_holes(g, value.rows, value.element), value.element))


def lookup(g: GraphBuilder, call: Call) -> GraphValue:
    """values[i] + slopes[i] * (x - (lo + i * step)), i = clip(floor((x - lo) * (1/step)), 0, n - 1), NaN to 0.

    The same float32 operations in the same order. Entries are fetched by GatherElements over the flattened tensor,
    whose inner loop is several times faster than Gather's. A NaN finds any entry: its offset is NaN.
    """
    x, values, slopes = call.args
    if not isinstance(values, np.ndarray) or not isinstance(slopes, np.ndarray) or logical(x) != FLOAT:
        raise NotLoweredError("lookup in a computed table")
    _, _, _, first, width = call.attributes
    lo, step = np.float32(first), np.float32(width)
    may_be_nan, regular = not math.isfinite(limit(x)), 0 < np.float32(1) / step < np.inf
    lo_, step_, inverse = (g.constant(v) for v in (lo, step, np.float32(1) / step))
    table_values, table_slopes = g.constant(values), g.constant(slopes)

    def make(tensors: Sequence[str], shape: list[int]) -> str:
        flat = g.reshape(tensors[0], [-1])
        place = g.node("Mul", g.node("Sub", flat, lo_), inverse)
        if not regular:  # 0 times infinity
            place = _without_nan(g, place)
        # what is not negative is cut off downwards
        place = g.node("Clip", place, g.constant(np.float32(0)), g.constant(np.float32(len(values) - 1)))
        at = g.cast(place, np.int32)
        if may_be_nan:
            at = g.node("Clip", at, g.constant(np.int32(0)), g.constant(np.int32(len(values) - 1)))
        value = g.node("GatherElements", table_values, at, axis=0)
        slope = g.node("GatherElements", table_slopes, at, axis=0)
        rest = g.node("Sub", flat, g.node("Add", lo_, g.node("Mul", g.cast(at, FLOAT), step_)))
        return g.reshape(g.node("Add", value, g.node("Mul", slope, rest)), shape)

    trimmed = replace(call, args=(x,))
    reach = limit(x) + abs(float(lo)) + len(values) * float(step)
    return pointwise(g, trimmed, make, finite(limit(values) + limit(slopes) * reach))


@cache
def quantises_exactly(whole: np.dtype) -> bool:
    """Whether QuantizeLinear to uint8 or uint16 equals the ISA's QUANT on this machine, ties, bounds and infinities
    included, and DequantizeLinear gives what was made.
    """
    rng = np.random.default_rng(0)
    scale, most = np.float32(0.0123), int(np.iinfo(whole).max)
    ties = (np.concatenate([np.arange(-700, 700), [2 * most - 1, 2 * most + 1]]) / 2 * np.float64(scale)).astype(FLOAT)
    near = np.concatenate([np.nextafter(ties, np.float32(s)) for s in (-np.inf, np.inf)])
    odd = [np.inf, -np.inf, 3e38, -0.0, np.nan]
    x = np.concatenate([odd, ties, near, rng.normal(0, 2, 4099), rng.normal(0, 400, 999), odd]).astype(np.float32)
    for bias in (0, 37, 128, most):
        g = GraphBuilder()
        code = g.node("QuantizeLinear", g.input("x", FLOAT), g.constant(scale), g.constant(whole.type(bias)))
        back = g.node("DequantizeLinear", code, g.constant(np.float32(1)), g.constant(whole.type(bias)))
        g.output(back, "y", FLOAT)
        got = g.session(1).run(["y"], {"x": x})[0]
        with np.errstate(over="ignore"):
            expected = np.clip(np.nan_to_num(np.rint(x / scale), nan=0, posinf=1e9, neginf=-1e9), -bias, most - bias)
        unlike = got != expected
        if (unlike & ~np.isnan(x) if bias else unlike).any():
            return False
    return True
