"""Reductions over axes and pooling over windows."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from mgc.functions.dtypes import in_domain, is_float, is_integer
from mgc.functions.pool import pool_average, pool_max
from mgc.functions.reduce import REDUCTIONS, Reduction, total
from mgc.isa.functions.base import Array, Attributes, Operand, VecFunction, pooled, require, whole, windows_of


def _rows(x: Array, axes: tuple[int, ...]) -> Array:
    """A contiguous [*kept, reduced] copy: the reduced axes last, in their order, as one."""
    kept = [a for a in range(x.ndim) if a not in axes]
    moved = np.ascontiguousarray(x.transpose([*kept, *axes]))
    return moved.reshape(*(x.shape[a] for a in kept), prod(x.shape[a] for a in axes))


def _reduction(r: Reduction) -> VecFunction:
    name = f"reduce_{r.name}"

    def run(args: Sequence[Array], attributes: Attributes, ideal: bool) -> Array:
        (x,) = args
        axes = tuple(int(a) for a in attributes[1:])
        rows = _rows(x, axes)
        if not r.logic:
            rows = rows.astype(np.float64 if is_float(x.dtype) or r.name == "mean" else np.int64)
        ordered = r.name in ("sum", "mean") and rows.dtype == np.float64
        y = total(rows, -1) if ordered else r.numpy(rows, axis=-1)
        if ordered and r.name == "mean":
            y = y / rows.shape[-1]
        if r.name == "mean" and is_integer(x.dtype):
            y = np.trunc(y)
        return np.asarray(y).astype(x.dtype).reshape(_reduced(x.shape, axes, bool(attributes[0])))

    def infer(args: Sequence[Operand], attributes: Attributes) -> Operand:
        (x,) = args
        axes = [whole(a, f"{name}: axis", 0, len(x.shape) - 1) for a in attributes[1:]]
        whole(attributes[0], f"{name}: keepdims", 0, 1)
        require(axes == sorted(set(axes)), f"{name}: axes {axes} are not sorted and distinct")
        require(r.empty or all(x.shape[a] for a in axes), f"{name} of {x} over an empty axis")
        fits = (in_domain(x.dtype, "number") and (r.integer or is_float(x.dtype))) or (r.logic and x.dtype == np.bool_)
        require(fits, f"{name} of {x}: numbers are expected")
        return Operand(x.dtype, _reduced(x.shape, tuple(axes), bool(attributes[0])))

    return VecFunction(r.code, name, ("x",), ("keepdims", "axes..."), "reduction", r.doc, run, infer)


def _reduced(shape: tuple[int, ...], axes: tuple[int, ...], keepdims: bool) -> tuple[int, ...]:
    return tuple(1 if a in axes else d for a, d in enumerate(shape) if keepdims or a not in axes)


def _infer_pool(args: Sequence[Operand], attributes: Attributes) -> Operand:
    (x,) = args
    require(in_domain(x.dtype, "number"), f"pool of {x}: numbers are expected")
    return pooled("pool", windows_of(attributes), x)


def _pool_max(args: Sequence[Array], attributes: Attributes, ideal: bool) -> Array:
    return pool_max(args[0], windows_of(attributes))


def _pool_average(args: Sequence[Array], attributes: Attributes, ideal: bool) -> Array:
    return pool_average(args[0], windows_of(attributes), np.float64)


def _infer_average(args: Sequence[Operand], attributes: Attributes) -> Operand:
    require(not is_integer(args[0].dtype), f"pool_average of {args[0]}: float elements are expected")
    return _infer_pool(args, attributes)


POOL = ("rank", "kernel...", "strides...", "pads...", "dilations...", "count_include_pad")

REDUCE: tuple[VecFunction, ...] = (
    *map(_reduction, REDUCTIONS.values()),
    VecFunction(117, "pool_max", ("x",), POOL, "reduction",
                "greatest of each window of x [N,C,*spatial]; padding is lower than anything; a zero is +0", _pool_max,
                _infer_pool),
    VecFunction(118, "pool_average", ("x",), POOL, "reduction",
                "mean of each window: taps summed in float64, the last axis fastest, divided in float64 by the number "
                "of elements inside x (with count_include_pad: inside x and its pads), rounded once", _pool_average,
                _infer_average),
)  # fmt: skip
"""Reductions over axes and pooling over windows. `pads` holds the begins of all axes, then the ends."""
