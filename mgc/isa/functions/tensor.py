"""Casts, shapes, gathers and digital products."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from mgc.functions.dtypes import in_domain, is_float, is_integer, positive_zero
from mgc.functions.products import aligned
from mgc.isa.dtypes import dtype_of_code
from mgc.isa.error import ExecutionError, ProgramError
from mgc.isa.functions.base import (
    Array,
    Attributes,
    Operand,
    VecFunction,
    broadcast,
    require,
    same_dtype,
    whole,
)


def cast(x: Array, dtype: np.dtype) -> Array:
    """x in another element type. Float to integer: toward zero, NaN to 0, out of range to the nearest bound."""
    if not (is_float(x.dtype) and is_integer(dtype)):
        return x.astype(dtype)
    info = np.iinfo(dtype)
    wide = np.trunc(np.nan_to_num(x.astype(np.float64), nan=0.0, posinf=np.inf, neginf=-np.inf))
    # 2^63 - 1 is no float64: compare against the next power of two and substitute
    over, under = wide >= float(info.max) + (info.max < 1 << 53), wide < float(info.min)
    result = np.where(over | under, 0.0, wide).astype(dtype)
    return np.where(over, dtype.type(info.max), np.where(under, dtype.type(info.min), result))


def _cast(args: Sequence[Array], attributes: Attributes, ideal: bool) -> Array:
    return cast(args[0], dtype_of_code(attributes[0]))


def _infer_cast(args: Sequence[Operand], attributes: Attributes) -> Operand:
    return Operand(dtype_of_code(attributes[0]), args[0].shape)


def _copy(args: Sequence[Array], attributes: Attributes, ideal: bool) -> Array:
    return args[0]


def _infer_copy(args: Sequence[Operand], attributes: Attributes) -> Operand:
    return args[0]


def _reshape(args: Sequence[Array], attributes: Attributes, ideal: bool) -> Array:
    return np.ascontiguousarray(args[0]).reshape([int(d) for d in attributes])


def _infer_reshape(args: Sequence[Operand], attributes: Attributes) -> Operand:
    shape = tuple(whole(d, "reshape: a dimension") for d in attributes)
    require(prod(shape) == prod(args[0].shape), f"reshape: {args[0]} does not fill shape {list(shape)}")
    return Operand(args[0].dtype, shape)


def _gather(args: Sequence[Array], attributes: Attributes, ideal: bool) -> Array:
    x, indices = args
    axis = int(attributes[0])
    extent = x.shape[axis]
    if indices.size and (indices.min() < -extent or indices.max() >= extent):
        raise ExecutionError(f"gather: an index is outside -{extent}..{extent - 1} (axis {axis} of {list(x.shape)})")
    return np.asarray(np.take(x, indices.astype(np.int64), axis))


def _infer_gather(args: Sequence[Operand], attributes: Attributes) -> Operand:
    x, indices = args
    require(len(x.shape) > 0, f"gather of {x}: an axis is expected")
    axis = whole(attributes[0], "gather: axis", 0, len(x.shape) - 1)
    require(is_integer(indices.dtype), f"gather: indices are {indices}, integers are expected")
    return Operand(x.dtype, x.shape[:axis] + indices.shape + x.shape[axis + 1 :])


def _axis_map(args: Sequence[Array], attributes: Attributes, ideal: bool) -> Array:
    x, matrix = args
    axis = int(attributes[0])
    dtype = np.float64 if is_float(x.dtype) else x.dtype
    rows = np.moveaxis(x, axis, 0).astype(dtype)
    rest = (1,) * (rows.ndim - 1)
    total = np.zeros((matrix.shape[0], *rows.shape[1:]), dtype)
    used = matrix != 0
    order = np.argsort(~used, axis=1, kind="stable")  # of each row: the columns of its nonzero entries first, ascending
    for k in range(int(used.sum(axis=1).max(initial=0))):
        (outs,) = np.nonzero(used.sum(axis=1) > k)
        column = order[outs, k]
        total[outs] += rows[column] * matrix[outs, column].astype(dtype).reshape(-1, *rest)
    return np.ascontiguousarray(np.moveaxis(total, 0, axis)).astype(x.dtype)


def _infer_axis_map(args: Sequence[Operand], attributes: Attributes) -> Operand:
    x, matrix = args
    dtype = same_dtype(args)
    require(in_domain(dtype, "number") and len(x.shape) > 0, f"axis_map of {x}: numbers with an axis are expected")
    axis = whole(attributes[0], "axis_map: axis", 0, len(x.shape) - 1)
    fits = len(matrix.shape) == 2 and matrix.shape[1] == x.shape[axis]
    require(fits, f"axis_map: matrix is {matrix}, [out,{x.shape[axis]}] is expected for axis {axis} of {x}")
    return Operand(dtype, (*x.shape[:axis], matrix.shape[0], *x.shape[axis + 1 :]))


def _matmul(args: Sequence[Array], attributes: Attributes, ideal: bool) -> Array:
    a, b = args
    if not is_float(a.dtype):
        return np.asarray(np.matmul(a, b), a.dtype)
    left, right = a[None, :] if a.ndim == 1 else a, b[:, None] if b.ndim == 1 else b
    if ideal or a.dtype == np.float64:
        left, right = left.astype(np.float64), right.astype(np.float64)
    else:
        depth = left.shape[-1]
        left, right = aligned(left, (-1,), depth), aligned(right, (-2, -1), depth)
    stack = np.broadcast_shapes(left.shape[:-2], right.shape[:-2])
    total = np.zeros((*stack, left.shape[-2], right.shape[-1]))
    for k in range(left.shape[-1]):
        total += left[..., :, k, None] * right[..., k, None, :]
    if a.ndim == 1:
        total = total[..., 0, :]
    if b.ndim == 1:
        total = total[..., 0]
    return positive_zero(np.asarray(total.astype(a.dtype)))


def _infer_matmul(args: Sequence[Operand], attributes: Attributes) -> Operand:
    a, b = args
    dtype = same_dtype(args)
    require(in_domain(dtype, "number"), f"matmul of {a} and {b}: numbers are expected")
    if not a.shape or not b.shape:
        raise ProgramError(f"matmul of {a} and {b}: vectors or matrices are expected")
    inner, rows = a.shape[-1], (b.shape[:-1] or b.shape)[-1]
    require(inner == rows, f"matmul of {a} and {b}: {inner} columns but {rows} rows")
    stack = broadcast([a.shape[:-2], b.shape[:-2]])
    columns = b.shape[-1:] if len(b.shape) > 1 else ()
    return Operand(dtype, (*stack, *a.shape[:-1][-1:], *columns))


TENSOR: tuple[VecFunction, ...] = (
    VecFunction(97, "cast", ("x",), ("dtype",), "simple",
                "x in another element type. Float to integer rounds toward zero, out of range to the nearest bound, "
                "NaN to 0; to bool: whether it is not 0", _cast, _infer_cast),
    VecFunction(98, "copy", ("x",), (), "simple", "x", _copy, _infer_copy),
    VecFunction(99, "reshape", ("x",), ("shape...",), "simple",
                "the same elements in row-major order under another shape", _reshape, _infer_reshape),
    VecFunction(100, "gather", ("x", "indices"), ("axis",), "simple",
                "entries of x along an axis; negative indices count from the end, others out of range stop the run",
                _gather, _infer_gather),
    VecFunction(101, "axis_map", ("x", "matrix"), ("axis",), "multiply",
                "linear map along an axis, matrix[out,in]. Floats: float64 products of the nonzero matrix entries, "
                "summed in float64 from the lowest column up, rounded once", _axis_map, _infer_axis_map),
    VecFunction(102, "matmul", ("a", "b"), (), "multiply",
                "matrix product (stacks broadcast; a vector is a row on the left, a column on the right). Floats: "
                "float64 products summed in float64 from the lowest k up, rounded once, a zero is +0. Before, all but "
                "float64 are aligned so that no order of the K additions changes a sum: each row of a and each matrix "
                "of b is (x + c) - c in float64, c = 2^ceil((54 + ceil(log2 K)) / 2) times its largest finite "
                "magnitude", _matmul, _infer_matmul),
)  # fmt: skip
"""Casts, shapes, gathers and digital products."""
