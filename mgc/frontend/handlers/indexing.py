"""Gather and the ops that become masks."""

from __future__ import annotations

import math

import numpy as np

from mgc.frontend.context import Context, NodeView, Result
from mgc.frontend.errors import ModelError, Unsupported
from mgc.frontend.handlers.registry import handles
from mgc.frontend.operand import Known
from mgc.ir.ops import AxisMap, Binary, Cast, Gather, Reduce, Slice, Where
from mgc.ir.types import DType


@handles("Gather")
def gather(ctx: Context, n: NodeView) -> Result:
    """Entries along an axis; known indices are checked."""
    data, indices = n.operand(0), n.operand(1)
    dims = ctx.shape_of(data)
    axis = int(n.attr("axis", 0))
    if not -len(dims) <= axis < len(dims):
        raise ModelError(f"axis {axis} of shape {list(dims)}", where=n.where)
    axis %= len(dims)
    if isinstance(indices, Known):
        bad = [int(i) for i in np.ravel(indices.array) if not -dims[axis] <= i < dims[axis]]
        if bad:
            raise ModelError(f"index {bad[0]} is outside axis {axis} of shape {list(dims)}", where=n.where)
    return ctx.emit(Gather(axis), ctx.value(data), ctx.value(indices))


@handles("GatherND")
def gather_nd(ctx: Context, n: NodeView) -> Result:
    """Slices at index tuples: a gather along the axes that they index, made one."""
    data, indices = n.operand(0), n.operand(1)
    dims, shape, batch = ctx.shape_of(data), ctx.shape_of(indices), int(n.attr("batch_dims", 0))
    if not shape or not 0 <= batch < len(shape) or batch + shape[-1] > len(dims) or shape[:batch] != dims[:batch]:
        raise ModelError(f"indices of shape {list(shape)} do not fit data of shape {list(dims)}", where=n.where)
    axes = dims[batch : batch + shape[-1]]
    strides = [math.prod(axes[k + 1 :]) for k in range(len(axes))]
    first = np.arange(math.prod(dims[:batch])) * math.prod(axes)
    first = first.reshape(*dims[:batch], *(1,) * (len(shape) - 1 - batch))
    if isinstance(indices, Known):
        index = np.asarray(indices.array, np.int64)
        if index.size and not ((index >= -np.array(axes)) & (index < axes)).all():
            raise ModelError(f"an index is outside axes of sizes {list(axes)}", where=n.where)
        flat = ctx.const((np.where(index < 0, index + axes, index) * strides).sum(-1) + first, DType.I64)
    else:
        index = ctx.emit(Cast(DType.I64), ctx.value(indices))
        wrapped = ctx.binary("add", index, ctx.const(axes, DType.I64))
        index = ctx.emit(Where(), ctx.binary("less", index, 0), wrapped, index)
        flat = ctx.reduce("sum", ctx.binary("mul", index, ctx.const(strides, DType.I64)), [-1], keepdims=False)
        flat = ctx.binary("add", flat, ctx.const(first, DType.I64)) if batch else flat
    rest = dims[batch + shape[-1] :]
    rows = ctx.reshape(data, (math.prod(dims[: batch + shape[-1]]), *rest))
    return ctx.emit(Gather(0), rows, flat)


@handles("Trilu")
def trilu(ctx: Context, n: NodeView) -> Result:
    """A triangle of matrices: a choice by a constant mask."""
    x = ctx.value(n.operand(0))
    k = n.optional(1)
    offset = 0 if k is None else int(ctx.known(k, "k").reshape(()))
    ctx.room(*x.shape[-2:])
    ones = np.ones(x.shape[-2:], bool)
    mask = np.triu(ones, offset) if n.attr("upper", 1) else np.tril(ones, offset)
    return ctx.emit(Where(), ctx.const(mask, DType.BOOL), x, ctx.like(0, x))


@handles("CumSum")
def cumsum(ctx: Context, n: NodeView) -> Result:
    """Running sums: a triangular matrix along the axis."""
    x = ctx.value(n.operand(0))
    if not x.tensor.dtype.is_float:
        raise Unsupported("the operand is no float tensor")
    axis = int(ctx.known(n.operand(1), "axis").reshape(())) % x.tensor.rank
    size = x.shape[axis]
    ctx.room(size, size)
    triangle = np.tril(np.ones((size, size)), -1 if n.attr("exclusive", 0) else 0)
    return ctx.emit(AxisMap(axis), x, ctx.const(triangle.T if n.attr("reverse", 0) else triangle))


@handles("OneHot")
def one_hot(ctx: Context, n: NodeView) -> Result:
    """A comparison with 0, 1, 2, ... chooses between the two values."""
    indices = ctx.value(n.operand(0))
    depth = int(ctx.known(n.operand(1), "depth").reshape(-1)[0])
    values = ctx.known(n.operand(2), "values")
    if not indices.tensor.dtype.is_integer:
        raise Unsupported("indices are no integers")
    rank = indices.tensor.rank
    axis = int(n.attr("axis", -1)) % (rank + 1)
    dtype = indices.tensor.dtype
    if not np.iinfo(dtype.numpy).max >= depth:
        raise Unsupported("depth is more than the index type counts")
    ctx.room(depth)
    column = ctx.reshape(indices, (*indices.shape[:axis], 1, *indices.shape[axis:]))
    if np.iinfo(dtype.numpy).min < 0:
        negative = ctx.binary("less", column, 0)
        column = ctx.emit(Where(), negative, ctx.binary("add", column, depth), column)
    classes = ctx.const(np.arange(depth).reshape(-1, *(1,) * (rank - axis)), dtype)
    hit = ctx.emit(Binary("equal"), column, classes)
    return ctx.emit(Where(), hit, *(ctx.value(Known(values[i : i + 1].reshape(()))) for i in (1, 0)))


_MOST_CHOSEN = 1 << 22
"""Elements of what one of them is chosen from, at most."""


@handles("GatherElements")
def gather_elements(ctx: Context, n: NodeView) -> Result:
    """Where an index meets 0, 1, 2, ..., the element there; a sum over what was met (`log_p.gather(1, labels)`)."""
    data, indices = (ctx.value(n.operand(i)) for i in (0, 1))
    if not data.tensor.dtype.is_float:
        raise Unsupported("the data are no floats")
    axis, dtype = int(n.attr("axis", 0)) % data.tensor.rank, indices.tensor.dtype
    count = data.shape[axis]
    shape = tuple(count if a == axis else size for a, size in enumerate(indices.shape))
    if indices.tensor.size * count > _MOST_CHOSEN or not indices.tensor.size or np.iinfo(dtype.numpy).max < count:
        raise Unsupported("it chooses from too much, or from nothing")
    if shape != data.shape:
        data = ctx.emit(Slice((0,) * len(shape), shape, (1,) * len(shape)), data)
    column = ctx.reshape(indices, (*indices.shape[: axis + 1], 1, *indices.shape[axis + 1 :]))
    if np.iinfo(dtype.numpy).min < 0:
        column = ctx.emit(Where(), ctx.binary("less", column, 0), ctx.binary("add", column, count), column)
    hit = ctx.emit(
        Binary("equal"), column, ctx.const(np.arange(count).reshape(-1, *(1,) * (len(shape) - axis - 1)), dtype)
    )
    wide = ctx.reshape(data, (*shape[:axis], 1, *shape[axis:]))
    zero = ctx.const(np.zeros(()), data.tensor.dtype)
    return ctx.emit(Reduce("sum", (axis + 1,), keepdims=False), ctx.emit(Where(), hit, wide, zero))


@handles("Range")
def range_(ctx: Context, n: NodeView) -> Result:
    """Start, limit and step must be known."""
    start, limit, delta = (ctx.known(n.operand(i), what) for i, what in enumerate(("start", "limit", "delta")))
    count = max(math.ceil((limit.item() - start.item()) / delta.item()), 0)
    ctx.room(count)
    return Known((start.item() + np.arange(count) * delta.item()).astype(start.dtype))
