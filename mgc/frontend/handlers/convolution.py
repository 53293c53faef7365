"""Conv and ConvTranspose with all their attributes."""

from __future__ import annotations

from collections.abc import Sequence

from mgc.frontend.context import Context, NodeView, Operand, Result
from mgc.frontend.errors import ModelError
from mgc.frontend.handlers.registry import handles
from mgc.ir.graph import Value
from mgc.ir.ops import Conv, ConvTranspose, Pad, Slice


def spatial_attribute(n: NodeView, name: str, rank: int, default: int) -> tuple[int, ...]:
    """An attribute with one int for each spatial axis."""
    values = tuple(int(v) for v in n.attr(name, None) or (default,) * rank)
    if len(values) != rank:
        raise ModelError(f"{name} {list(values)}: {rank} numbers are needed", where=n.where)
    return values


def split_total(total: int, auto_pad: str) -> tuple[int, int]:
    """A total padding as (begin, end): the odd one goes to the end for SAME_UPPER, else to the beginning."""
    small, large = total // 2, total - total // 2
    return (small, large) if auto_pad == "SAME_UPPER" else (large, small)


def window_pads(
    n: NodeView, spatial: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> tuple[int, ...]:
    """Pads (begins..., ends...) of a convolution or pooling, from `pads` or `auto_pad`."""
    rank = len(spatial)
    auto_pad = n.attr("auto_pad", "NOTSET") or "NOTSET"
    if auto_pad == "NOTSET":
        pads = tuple(int(p) for p in n.attr("pads", None) or (0,) * (2 * rank))
        if len(pads) != 2 * rank:
            raise ModelError(f"pads {list(pads)}: {2 * rank} numbers are needed", where=n.where)
        return pads
    if auto_pad == "VALID":
        return (0,) * (2 * rank)
    if auto_pad not in ("SAME_UPPER", "SAME_LOWER"):
        raise ModelError(f"auto_pad {auto_pad!r} is not one of ONNX's", where=n.where)
    pairs = [
        split_total(max((-(-size // s) - 1) * s + d * (k - 1) + 1 - size, 0), auto_pad)
        for size, k, s, d in zip(spatial, kernel, strides, dilations, strict=True)
    ]
    return (*(b for b, _ in pairs), *(e for _, e in pairs))


def crop(ctx: Context, x: Value, pads: Sequence[int]) -> tuple[Value, tuple[int, ...]]:
    """x with its negative pads carried out as a slice, and the pads that remain. `pads` covers the last axes."""
    if min(pads, default=0) >= 0:
        return x, tuple(pads)
    rank, half = x.tensor.rank, len(pads) // 2
    full = [0] * (rank - half)
    begins, ends = full + list(pads[:half]), full + list(pads[half:])
    starts = tuple(max(-b, 0) for b in begins)
    stops = tuple(max(d - max(-e, 0), s) for d, e, s in zip(x.shape, ends, starts, strict=True))
    return ctx.emit(Slice(starts, stops, (1,) * rank), x), tuple(max(p, 0) for p in pads)


def add_bias(ctx: Context, y: Value, bias: Operand | None) -> Value:
    """y plus a bias of one number a channel."""
    if bias is None:
        return y
    return ctx.binary("add", y, ctx.reshape(bias, (1, y.shape[1], *(1,) * (y.tensor.rank - 2))))


def _operands(ctx: Context, n: NodeView) -> tuple[Value, Value, int]:
    """x, w and the number of spatial axes, checked against each other and against kernel_shape."""
    x, w = ctx.value(n.operand(0)), ctx.value(n.operand(1))
    if x.tensor.rank < 3 or w.tensor.rank != x.tensor.rank:
        raise ModelError(f"X is {x.type} and W is {w.type}: both need rank 3 or more, and the same", where=n.where)
    stated = n.attr("kernel_shape", None)
    if stated and tuple(stated) != w.shape[2:]:
        raise ModelError(f"kernel_shape {list(stated)} but W is {w.type}", where=n.where)
    bias = n.optional(2)
    filters = w.shape[0] if n.op_type == "Conv" else w.shape[1] * int(n.attr("group", 1))
    if bias is not None and ctx.shape_of(bias) != (filters,):
        raise ModelError(f"B has shape {list(ctx.shape_of(bias))} but W {w.type} has {filters} filters", where=n.where)
    return x, w, x.tensor.rank - 2


@handles("Conv")
def conv(ctx: Context, n: NodeView) -> Result:
    """Convolution, then the bias."""
    x, w, rank = _operands(ctx, n)
    strides = spatial_attribute(n, "strides", rank, 1)
    dilations = spatial_attribute(n, "dilations", rank, 1)
    pads = window_pads(n, x.shape[2:], w.shape[2:], strides, dilations)
    x, pads = crop(ctx, x, pads)
    y = ctx.emit(Conv(strides, pads, dilations, int(n.attr("group", 1))), x, w)
    return add_bias(ctx, y, n.optional(2))


@handles("ConvTranspose")
def conv_transpose(ctx: Context, n: NodeView) -> Result:
    """Transposed convolution, then the bias; output_shape and auto_pad are turned into pads."""
    x, w, rank = _operands(ctx, n)
    strides = spatial_attribute(n, "strides", rank, 1)
    dilations = spatial_attribute(n, "dilations", rank, 1)
    extra = list(spatial_attribute(n, "output_padding", rank, 0))
    auto_pad = n.attr("auto_pad", "NOTSET") or "NOTSET"
    target = n.attr("output_shape", None)
    if auto_pad in ("SAME_UPPER", "SAME_LOWER") and not target:
        target = [size * s for size, s in zip(x.shape[2:], strides, strict=True)]
    if target:
        begins, ends = [], []
        for axis, wanted in enumerate(list(target)[-rank:]):
            reach = dilations[axis] * (w.shape[2 + axis] - 1) + 1
            total = strides[axis] * (x.shape[2 + axis] - 1) + extra[axis] + reach - int(wanted)
            if total < 0 and not n.attr("output_shape", None):
                ctx.warnings.append(
                    f"{n.where}: with auto_pad {auto_pad} the result has {wanted} positions on axis {2 + axis}, as "
                    f"ONNX defines it; ONNX Runtime makes {int(wanted) + total}, as a kernel of {reach} positions at "
                    f"stride {strides[axis]} reaches no further"
                )
            extra[axis] += max(-total, 0)
            begin, end = split_total(max(total, 0), auto_pad)
            begins.append(begin)
            ends.append(end)
        pads = [*begins, *ends]
    else:
        pads = list(window_pads(n, x.shape[2:], w.shape[2:], strides, dilations))
    for axis in range(rank):
        extra[axis] += max(-pads[rank + axis], 0)
    grown = [max(-p, 0) for p in pads[:rank]]
    op = ConvTranspose(strides, tuple(max(p, 0) for p in pads), tuple(extra), dilations, int(n.attr("group", 1)))
    y = ctx.emit(op, x, w)
    if any(grown):
        y = ctx.emit(Pad((0, 0, *grown, *(0,) * (rank + 2))), y)
    return add_bias(ctx, y, n.optional(2))
