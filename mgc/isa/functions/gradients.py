"""Gradients that stay on the vector unit: of pooling and of gather."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mgc.functions.dtypes import is_float, is_integer
from mgc.functions.pool import PoolWindows, pool_average_grad, pool_max_grad, pool_max_pick
from mgc.functions.scatter import scatter_add
from mgc.isa.error import ExecutionError
from mgc.isa.functions.base import (
    Array,
    Attributes,
    Operand,
    VecFunction,
    pooled,
    require,
    same_dtype,
    whole,
    windows_of,
)
from mgc.isa.functions.reduce import POOL


def _split(attributes: Attributes) -> tuple[PoolWindows, tuple[int, ...]]:
    """A pool's attributes, and the extents of its operand after them."""
    require(len(attributes) > 0, "pool: attributes are missing")
    rank = whole(attributes[0], "pool: rank", 1, 3)
    require(len(attributes) == 6 * rank + 2, f"pool: {len(attributes)} attributes, {6 * rank + 2} are expected")
    spatial = tuple(whole(a, "pool: an extent", 1) for a in attributes[5 * rank + 2 :])
    return windows_of(attributes[: 5 * rank + 2]), spatial


def _average_grad(args: Sequence[Array], attributes: Attributes, ideal: bool) -> Array:
    windows, spatial = _split(attributes)
    return pool_average_grad(args[0], windows, spatial, np.float64)


def _infer_average_grad(args: Sequence[Operand], attributes: Attributes) -> Operand:
    (dy,) = args
    windows, spatial = _split(attributes)
    require(is_float(dy.dtype), f"pool_average_grad of {dy}: float elements are expected")
    x = Operand(dy.dtype, (*dy.shape[:2], *spatial))
    _check_windows("pool_average_grad", dy, pooled("pool_average_grad", windows, x))
    return x


def _check_windows(name: str, dy: Operand, y: Operand) -> None:
    require(dy.shape[2:] == y.shape[2:], f"{name} of {dy}: windows {list(y.shape[2:])} are expected")


def _max_grad(args: Sequence[Array], attributes: Attributes, ideal: bool) -> Array:
    x, dy = args
    return pool_max_grad(x, dy, windows_of(attributes), np.float64)


def _infer_max_grad(args: Sequence[Operand], attributes: Attributes) -> Operand:
    x, dy = args
    y = _pooled_floats("pool_max_grad", args, attributes)
    require(x.shape[:2] == dy.shape[:2], f"pool_max_grad: x is {x}, dy is {dy}")
    _check_windows("pool_max_grad", dy, y)
    return x


def _pooled_floats(name: str, args: Sequence[Operand], attributes: Attributes) -> Operand:
    """What a pool makes of the first operand, which is of floats as the other is."""
    require(is_float(same_dtype(args)), f"{name} of {args[0]}: float elements are expected")
    return pooled(name, windows_of(attributes), args[0])


def _max_pick(args: Sequence[Array], attributes: Attributes, ideal: bool) -> Array:
    x, picked = args
    return pool_max_pick(x, picked, windows_of(attributes))


def _infer_max_pick(args: Sequence[Operand], attributes: Attributes) -> Operand:
    x, picked = args
    require(x.shape == picked.shape, f"pool_max_pick: x is {x}, picked is {picked}")
    return _pooled_floats("pool_max_pick", args, attributes)


def _scatter_add(args: Sequence[Array], attributes: Attributes, ideal: bool) -> Array:
    dy, indices = args
    axis, size = int(attributes[0]), int(attributes[1])
    if indices.size and (indices.min() < -size or indices.max() >= size):
        raise ExecutionError(f"scatter_add: an index is outside -{size}..{size - 1}")
    return scatter_add(dy, indices, axis, size, np.float64 if is_float(dy.dtype) else dy.dtype)


def _infer_scatter_add(args: Sequence[Operand], attributes: Attributes) -> Operand:
    dy, indices = args
    require(is_integer(indices.dtype), f"scatter_add: indices are {indices}, integers are expected")
    require(is_float(dy.dtype) or is_integer(dy.dtype), f"scatter_add of {dy}: numbers are expected")
    axis = whole(attributes[0], "scatter_add: axis", 0, len(dy.shape))
    size = whole(attributes[1], "scatter_add: size")
    end = axis + len(indices.shape)
    require(dy.shape[axis:end] == indices.shape, f"scatter_add of {dy}: indices {indices} do not fit axis {axis}")
    return Operand(dy.dtype, (*dy.shape[:axis], size, *dy.shape[end:]))


_ADDED = "added up in float64, tap after tap, the last axis fastest, and rounded once"

GRADIENTS: tuple[VecFunction, ...] = (
    VecFunction(119, "pool_average_grad", ("dy",), (*POOL, "spatial..."), "reduction",
                "the transpose of pool_average of a value with extents `spatial`: dy of each window, divided in "
                f"float64 by what its mean was, {_ADDED}", _average_grad, _infer_average_grad),
    VecFunction(120, "pool_max_grad", ("x", "dy"), POOL, "reduction",
                "dy of each window goes to the first of its elements, the last axis fastest, that has the maximum; "
                f"{_ADDED}", _max_grad, _infer_max_grad),
    VecFunction(121, "pool_max_pick", ("x", "picked"), POOL, "reduction",
                "for each window the element of `picked` where x has its first maximum", _max_pick, _infer_max_pick),
    VecFunction(122, "scatter_add", ("dy", "indices"), ("axis", "size"), "reduction",
                "the transpose of gather: entries of dy added up along an axis of extent `size` where gather took them "
                "from, floats in float64 in row-major order, rounded once; negative indices count from the end, others "
                "out of range stop the run", _scatter_add, _infer_scatter_add),
)  # fmt: skip
"""Gradients of pooling and gather."""
