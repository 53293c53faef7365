"""Between real values and codes: quantise, dequantise, look up; integer weights. Normative, to the bit."""

from __future__ import annotations

import numpy as np

from mgc.functions.dtypes import positive_zero

Array = np.ndarray
_f32, _f64 = np.float32, np.float64


def quant(x: Array, scale: float | Array, lo: float, hi: float, dtype: np.dtype, zero: float = 0) -> Array:
    """clip(round(x / scale) + zero, lo, hi) in float32, half to even, NaN as 0, stored as dtype; zero is the code of
    0. The scale is a number, or float32 that broadcasts to x.
    """
    with np.errstate(all="ignore"):
        code = np.rint(x.astype(_f32) / (scale.astype(_f32) if isinstance(scale, np.ndarray) else _f32(scale)))
    code = np.where(np.isnan(code), _f32(0), code) + _f32(zero)
    return np.clip(code, lo, hi).astype(dtype)


def dithered(x: Array, scale: Array, dither: Array) -> Array:
    """x + dither * scale, product and sum in float32."""
    return x + dither * scale


def dequant(acc: Array, scale: Array, bias: Array) -> Array:
    """float32(acc * scale + bias): acc, product and sum each rounded to the type of scale and bias."""
    with np.errstate(over="ignore", invalid="ignore"):
        return (acc.astype(scale.dtype) * scale + bias).astype(_f32)


def dequant_by(acc: Array, first: Array, second: Array, factor: float) -> Array:
    """float32(acc * ((first * second) * factor)), the scales float32, products in float64."""
    scale = first.astype(_f64) * second.astype(_f64) * factor
    return (acc.astype(_f64) * scale).astype(_f32)


def run_max(x: Array, runs: int) -> Array:
    """The greatest element of each of `runs` equal runs of samples (axis 0), told to every sample: [N, 1, ..., 1]. A
    zero is +0.
    """
    most = positive_zero(np.max(x.reshape(runs, -1), axis=1))
    return np.repeat(most, len(x) // len(most)).reshape(len(x), *(1 for _ in x.shape[1:]))


def even_segment(x: Array, lo: float, step: float, segments: int) -> tuple[Array, Array]:
    """(number, offset in it) of the segment of x in a table of equal segments, in float32, each operation rounded:
    i = clip(floor((x - lo) * (1 / step)), 0, segments - 1), NaN to 0; x - (lo + i * step).
    """
    start, width = _f32(lo), _f32(step)
    index = np.clip(np.floor((x - start) * (_f32(1) / width)), _f32(0), _f32(segments - 1))
    index = np.where(np.isnan(index), _f32(0), index)
    return index.astype(np.int64), x - (start + index * width)


def lookup(x: Array, values: Array, slopes: Array, lo: float, step: float) -> Array:
    """A piecewise-linear table in float32: values[i] + slopes[i] * offset, with `even_segment`."""
    at, rest = even_segment(x, lo, step, len(values))
    return values[at] + slopes[at] * rest


def in_steps(weights: Array, scale: float, weight_bits: int) -> Array:
    """Real weights as whole steps of `scale`: int32 clip(rint(w / scale)) in float64, within +-(2^(Bw-1) - 1)."""
    most = (1 << (weight_bits - 1)) - 1
    return np.clip(np.rint(weights.astype(_f64) / scale), -most, most).astype(np.int32)


def in_reals(steps: Array, scale: float) -> Array:
    """The real weights, float32, that whole steps stand for: the product in float64, rounded once."""
    return (steps.astype(_f64) * scale).astype(_f32)


def weight_bytes(count: int, bits: int) -> int:
    """Bytes of so many whole-number weights of some bits, packed."""
    return -(-count * bits // 8)
