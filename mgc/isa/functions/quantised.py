"""Between real values and codes: quantise, dequantise, look up."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from mgc.functions import codes
from mgc.isa.dtypes import dtype_of_code, is_float, is_integer
from mgc.isa.functions.base import Array, Attributes, Operand, VecFunction, broadcast, require, whole
from mgc.isa.functions.unary import UNARY

_UNARY = {f.code: f for f in UNARY}


def _quant(args: Sequence[Array], attributes: Attributes, ideal: bool) -> Array:
    (x,) = args
    if ideal:
        return x
    scale, lo, hi, dtype, zero = attributes
    return codes.quant(x, scale, lo, hi, dtype_of_code(dtype), zero)


def _infer_quant(args: Sequence[Operand], attributes: Attributes) -> Operand:
    (x,) = args
    scale, lo, hi, code, zero = attributes
    result = _codes("quant", x, lo, hi, code)
    require(math.isfinite(scale) and float(np.float32(scale)) > 0, f"quant: scale {scale} is not positive and finite")
    whole(zero, "quant: zero", int(lo), int(hi))
    return result


def _codes(name: str, x: Operand, lo: float, hi: float, code: float) -> Operand:
    """Codes lo..hi of real values, in the element type of a code."""
    dtype = dtype_of_code(code)
    require(is_float(x.dtype), f"{name} of {x}: float elements are expected")
    require(is_integer(dtype) and dtype.itemsize <= 2, f"{name} to {dtype}: an integer of 8 or 16 bits is expected")
    info = np.iinfo(dtype)
    low = whole(lo, f"{name}: lo", int(info.min), int(info.max))
    whole(hi, f"{name}: hi", low, int(info.max))
    return Operand(dtype, x.shape)


def _dequant(args: Sequence[Array], attributes: Attributes, ideal: bool) -> Array:
    acc, scale, bias, bias_float = args
    if ideal:
        return (acc + bias_float).astype(np.float32)
    return codes.dequant(acc, scale, bias)


def _infer_dequant(args: Sequence[Operand], attributes: Attributes) -> Operand:
    acc, scale, bias, bias_float = args
    require(acc.dtype == np.int64, f"dequant: the accumulator is {acc}, int64 is expected")
    require(scale.dtype in (np.float32, np.float64), f"dequant: the scale is {scale}, float32 or float64 is expected")
    require(bias.dtype == scale.dtype, f"dequant: the quantised bias is {bias}, {scale.dtype} is expected")
    require(is_float(bias_float.dtype), f"dequant: the float bias is {bias_float}, float elements are expected")
    shape = broadcast([a.shape for a in args])
    require(shape == acc.shape, f"dequant: scale and bias do not broadcast to the accumulator {acc}")
    return Operand(np.dtype(np.float32), shape)


def _quant_by(args: Sequence[Array], attributes: Attributes, ideal: bool) -> Array:
    x, scale = args
    if ideal:
        return x
    lo, hi, dtype = attributes
    return codes.quant(x, scale, lo, hi, dtype_of_code(dtype))


def _infer_quant_by(args: Sequence[Operand], attributes: Attributes) -> Operand:
    x, scale = args
    require(scale.dtype == np.float32, f"quant_by: the scale is {scale}, float32 is expected")
    shape = broadcast([x.shape, scale.shape])
    require(shape == x.shape, f"quant_by: the scale {scale} does not broadcast to {x}")
    return _codes("quant_by", x, *attributes)


def _quant_dithered(args: Sequence[Array], attributes: Attributes, ideal: bool) -> Array:
    x, scale, dither = args
    return x if ideal else _quant_by([codes.dithered(x, scale, dither), scale], attributes, ideal)


def _infer_quant_dithered(args: Sequence[Operand], attributes: Attributes) -> Operand:
    x, scale, dither = args
    require(x.dtype == dither.dtype == np.float32, f"quant_dithered of {x} with {dither}: float32 is expected")
    shape = broadcast([x.shape, dither.shape])
    require(shape == x.shape, f"quant_dithered: the dither {dither} does not broadcast to {x}")
    return _infer_quant_by([x, scale], attributes)


def _dequant_by(args: Sequence[Array], attributes: Attributes, ideal: bool) -> Array:
    acc, first, second = args
    if ideal:
        return acc.astype(np.float32)
    return codes.dequant_by(acc, first, second, *attributes)


def _infer_dequant_by(args: Sequence[Operand], attributes: Attributes) -> Operand:
    acc, *scales = args
    require(acc.dtype == np.int64, f"dequant_by: the accumulator is {acc}, int64 is expected")
    for scale in scales:
        require(scale.dtype == np.float32, f"dequant_by: a scale is {scale}, float32 is expected")
    (factor,) = attributes
    require(math.isfinite(factor) and factor > 0, f"dequant_by: factor {factor} is not positive and finite")
    require(broadcast([a.shape for a in args]) == acc.shape, f"dequant_by: the scales do not broadcast to {acc}")
    return Operand(np.dtype(np.float32), acc.shape)


def _run_max(args: Sequence[Array], attributes: Attributes, ideal: bool) -> Array:
    (x,) = args
    return codes.run_max(x, int(attributes[0]))


def _infer_run_max(args: Sequence[Operand], attributes: Attributes) -> Operand:
    (x,) = args
    shape = list(x.shape)
    require(x.dtype == np.float32 and len(shape) > 0 and 0 not in shape, f"run_max of {x}: float32 is expected")
    runs = whole(attributes[0], "run_max: runs", 1, shape[0])
    require(shape[0] % runs == 0, f"run_max of {x}: axis 0 does not divide into {runs} runs")
    return Operand(x.dtype, (shape[0], *(1 for _ in shape[1:])))


def _lookup(args: Sequence[Array], attributes: Attributes, ideal: bool) -> Array:
    code, alpha, beta, first, width = attributes
    x, values, slopes = args
    if ideal:
        return _UNARY[int(code)].meaning([x], (alpha, beta), True)
    return codes.lookup(x, values, slopes, first, width)


def _infer_lookup(args: Sequence[Operand], attributes: Attributes) -> Operand:
    x, values, slopes = args
    code, _, _, lo, step = attributes
    require(code in _UNARY, f"lookup: {code} is no function of one operand")
    require(x.dtype == np.float32, f"lookup of {x}: float32 is expected")
    table = values.dtype == slopes.dtype == np.float32 and len(values.shape) == 1 and values.shape == slopes.shape
    require(table and values.shape[0] > 0, f"lookup: values are {values} and slopes {slopes}, float32[n] is expected")
    require(math.isfinite(lo) and math.isfinite(step) and float(np.float32(step)) > 0, f"lookup: lo {lo}, step {step}")
    return x


QUANTISED: tuple[VecFunction, ...] = (
    VecFunction(128, "quant", ("x",), ("scale", "lo", "hi", "dtype", "zero"), "divide",
                "clip(round(x / scale) + zero, lo, hi) in float32, half to even, NaN as 0, stored as dtype; in float "
                "numerics x itself", _quant, _infer_quant),
    VecFunction(129, "dequant", ("acc", "scale", "bias_quantized", "bias_float"), (), "multiply",
                "float32(acc * scale + bias_quantized): acc, product and sum each rounded to the type of scale and "
                "bias, float32 or float64; in float numerics float32(acc + bias_float)", _dequant, _infer_dequant),
    VecFunction(130, "lookup", ("x", "values", "slopes"), ("function", "alpha", "beta", "lo", "step"), "table",
                "piecewise-linear table in float32, each operation rounded: i = clip(floor((x - lo) * (1/step)), 0, "
                "n - 1), NaN to 0; values[i] + slopes[i] * (x - (lo + i * step)); in float numerics the function of "
                "one operand that `function` numbers", _lookup, _infer_lookup),
    VecFunction(131, "quant_by", ("x", "scale"), ("lo", "hi", "dtype"), "divide",
                "as quant, with a float32 operand as the scale: clip(round(x / scale), lo, hi); in float numerics x "
                "itself", _quant_by, _infer_quant_by),
    VecFunction(132, "dequant_by", ("acc", "scale1", "scale2"), ("factor",), "multiply",
                "float32(acc * ((scale1 * scale2) * factor)), the scales float32, products in float64; in float "
                "numerics float32(acc). `factor` holds what is known beforehand: the weight scale and the "
                "arithmetic's factor; a scale that is not needed is a constant 1", _dequant_by, _infer_dequant_by),
    VecFunction(133, "quant_dithered", ("x", "scale", "dither"), ("lo", "hi", "dtype"), "divide",
                "quant_by of x + dither * scale, product and sum in float32: what is less than half a step is not lost "
                "where the dither differs from element to element; in float numerics x itself", _quant_dithered,
                _infer_quant_dithered),
    VecFunction(134, "run_max", ("x",), ("runs",), "reduction",
                "greatest element of each of `runs` equal runs of samples (axis 0) of x [N, ...], NaN if one is, a "
                "zero is +0, told to every sample: [N, 1, ..., 1]", _run_max, _infer_run_max),
)  # fmt: skip
"""Quantise, dequantise, look up; scales fixed by the compiler, or computed on the chip."""
