"""Pooling, windowed and global."""

from __future__ import annotations

from math import prod

from mgc.frontend.context import Context, NodeView, Result
from mgc.frontend.errors import ModelError, Unsupported
from mgc.frontend.handlers.convolution import spatial_attribute, window_pads
from mgc.frontend.handlers.registry import handles
from mgc.ir.graph import Value
from mgc.ir.ops import Pad, Pool


def _ceil_extra(size: int, kernel: int, stride: int, begin: int, end: int, dilation: int) -> int:
    """End padding that ceil_mode adds: a last window may hang over, if it starts inside x or its begin padding."""
    reach = dilation * (kernel - 1) + 1
    room = size + begin + end - reach
    windows = -(-room // stride) + 1
    if (windows - 1) * stride >= size + begin:
        windows -= 1
    return max((windows - 1) * stride - room, 0)


def _pool(ctx: Context, n: NodeView, kind: str, x: Value, count_pads: bool, *, zeros: bool = False) -> Value:
    """Windows of `kind`. count_pads: stated pads are numbers; zeros: so is what ceil_mode adds."""
    rank = x.tensor.rank - 2
    if rank < 1:
        raise ModelError(f"X is {x.type}: rank 3 or more is needed", where=n.where)
    kernel = tuple(int(k) for k in n.attr("kernel_shape"))
    if len(kernel) != rank:
        raise ModelError(f"kernel_shape {list(kernel)} but X is {x.type}", where=n.where)
    strides = spatial_attribute(n, "strides", rank, 1)
    dilations = spatial_attribute(n, "dilations", rank, 1)
    pads = window_pads(n, x.shape[2:], kernel, strides, dilations)
    if min(pads) < 0:
        raise Unsupported("pads are negative")
    extra = [0] * rank
    if n.attr("ceil_mode", 0):
        extra = [
            _ceil_extra(x.shape[2 + i], kernel[i], strides[i], pads[i], pads[rank + i], dilations[i])
            for i in range(rank)
        ]
    if zeros:
        ends = [p + e for p, e in zip(pads[rank:], extra, strict=True)]
        x = ctx.emit(Pad((0, 0, *pads[:rank], 0, 0, *ends)), x) if any((*pads[:rank], *ends)) else x
        pads, extra = (0,) * (2 * rank), [0] * rank
    if count_pads and any(extra):
        # stated pads count, what ceil_mode adds does not
        if any(pads):
            x = ctx.emit(Pad((0, 0, *pads[:rank], 0, 0, *pads[rank:])), x)
            pads = (0,) * (2 * rank)
        count_pads = False
    ends = (p + e for p, e in zip(pads[rank:], extra, strict=True))
    return ctx.emit(Pool(kind, kernel, strides, (*pads[:rank], *ends), dilations, count_pads), x)


@handles("MaxPool")
def max_pool(ctx: Context, n: NodeView) -> Result:
    """Maxima of windows."""
    if n.wants(1):
        raise Unsupported("indices are wanted")
    return _pool(ctx, n, "max", ctx.value(n.operand(0)), False)


@handles("AveragePool")
def average_pool(ctx: Context, n: NodeView) -> Result:
    """Means of windows."""
    return _pool(ctx, n, "average", ctx.value(n.operand(0)), bool(n.attr("count_include_pad", 0)))


@handles("LpPool")
def lp_pool(ctx: Context, n: NodeView) -> Result:
    """The p-norm of windows: the mean of powers times the window's size, under the root. Padding counts as zeros."""
    p = float(n.attr("p", 2))
    powers = ctx.binary("pow", ctx.unary("abs", ctx.value(n.operand(0))), p)
    mean = _pool(ctx, n, "average", powers, True, zeros=True)
    size = prod(int(k) for k in n.attr("kernel_shape"))
    return ctx.binary("pow", ctx.binary("mul", mean, float(size)), 1 / p)


@handles("GlobalAveragePool", "GlobalMaxPool")
def global_pool(ctx: Context, n: NodeView) -> Result:
    """Over all spatial axes."""
    x = ctx.value(n.operand(0))
    return ctx.reduce("mean" if n.op_type == "GlobalAveragePool" else "max", x, range(2, x.tensor.rank))


@handles("GlobalLpPool")
def global_lp_pool(ctx: Context, n: NodeView) -> Result:
    """The p-norm over all spatial axes."""
    x, p = ctx.value(n.operand(0)), float(n.attr("p", 2))
    total = ctx.reduce("sum", ctx.binary("pow", ctx.unary("abs", x), p), range(2, x.tensor.rank))
    return ctx.binary("pow", total, 1 / p)
