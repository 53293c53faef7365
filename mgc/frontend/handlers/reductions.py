"""Reductions."""

from __future__ import annotations

import numpy as np

from mgc.frontend.context import Context, NodeView, Result
from mgc.frontend.errors import Unsupported
from mgc.frontend.handlers.registry import handles
from mgc.frontend.operand import Known
from mgc.ir.graph import Value
from mgc.ir.types import DType

_PLAIN = {
    "ReduceSum": "sum",
    "ReduceMean": "mean",
    "ReduceMax": "max",
    "ReduceMin": "min",
    "ReduceProd": "prod",
}


def _axes(ctx: Context, n: NodeView, rank: int) -> list[int]:
    """The reduced axes, from attribute or input; none given means all, or none at all if the node says so."""
    stated = n.attr("axes", None)
    if stated is None:
        stated = ctx.ints(n.optional(1), "axes")
    if not stated:
        return [] if n.attr("noop_with_empty_axes", 0) else list(range(rank))
    return sorted({int(a) % max(rank, 1) for a in stated})


@handles(*_PLAIN)
def plain(ctx: Context, n: NodeView) -> Result:
    """Sum, mean, maximum, minimum, product."""
    x = ctx.value(n.operand(0))
    axes, keep = _axes(ctx, n, x.tensor.rank), bool(n.attr("keepdims", 1))
    fn = _PLAIN[n.op_type]
    if fn in ("max", "min", "mean") and any(x.shape[a] == 0 for a in axes):
        return _of_nothing(x, axes, keep, fn)
    return ctx.reduce(fn, x, axes, keep) if axes else n.operand(0)


def _of_nothing(x: Value, axes: list[int], keep: bool, fn: str) -> Known:
    """Maximum, minimum or mean over empty axes: the neutral element."""
    dtype = x.tensor.dtype
    if dtype is DType.BOOL:
        neutral: float = fn == "min"
    elif dtype.is_float:
        neutral = {"max": -np.inf, "min": np.inf, "mean": np.nan}[fn]
    elif fn == "mean":
        raise Unsupported("the mean of no integers is not defined")
    else:
        limits = np.iinfo(dtype.numpy)
        neutral = int(limits.min if fn == "max" else limits.max)
    shape = [1 if a in axes else d for a, d in enumerate(x.shape) if keep or a not in axes]
    return Known(np.full(shape, neutral, dtype.numpy))


@handles("ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp")
def composite(ctx: Context, n: NodeView) -> Result:
    """Norms and logarithms of sums."""
    x = ctx.value(n.operand(0))
    axes, keep = _axes(ctx, n, x.tensor.rank), bool(n.attr("keepdims", 1))
    if n.op_type != "ReduceLogSumExp":
        before = {"ReduceL1": lambda: ctx.unary("abs", x), "ReduceLogSum": lambda: x}
        terms = before.get(n.op_type, lambda: ctx.binary("mul", x, x))()
        total = ctx.reduce("sum", terms, axes, keep)
        after = {"ReduceL2": "sqrt", "ReduceLogSum": "log"}.get(n.op_type)
        return _on_floats(ctx, after, total) if after else total
    if any(x.shape[a] == 0 for a in axes) or not x.tensor.dtype.is_float:
        return _on_floats(ctx, "log", ctx.reduce("sum", _on_floats(ctx, "exp", x), axes, keep))
    # shifted by the maximum, so that exp does not overflow
    top = ctx.reduce("max", x, axes)
    total = ctx.reduce("sum", ctx.unary("exp", ctx.binary("sub", x, top)), axes)
    y = ctx.binary("add", ctx.unary("log", total), top)
    kept = [1 if a in axes else d for a, d in enumerate(x.shape) if keep or a not in axes]
    return ctx.reshape(y, kept)


def _on_floats(ctx: Context, fn: str, x: Value) -> Value:
    if x.tensor.dtype.is_float:
        return ctx.unary(fn, x)
    raise Unsupported(f"the {fn} of integers is wanted")
