"""Ops that move elements: reshape, transpose, slices, padding, concatenation."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from mgc.frontend.context import Context, NodeView, Operand, Result
from mgc.frontend.errors import ModelError
from mgc.frontend.handlers.convolution import crop
from mgc.frontend.handlers.registry import handles
from mgc.frontend.load import to_array
from mgc.frontend.modules import is_detach
from mgc.frontend.operand import Known, numpy_of
from mgc.ir.graph import Value
from mgc.ir.ops import Concat, Expand, Pad, Slice


def attribute_or_input(ctx: Context, n: NodeView, name: str, index: int) -> list[int] | None:
    """A list of ints that old opsets give as an attribute and new ones as an input."""
    stated = n.attr(name, None)
    if stated is not None:
        return [int(v) for v in stated]
    return ctx.ints(n.optional(index), name)


@handles("Identity", "StopGradient")
def identity(ctx: Context, n: NodeView) -> Result:
    """The operand itself."""
    x = n.operand(0)
    return ctx.detached(x) if is_detach(n.proto) else x


@handles("Shape")
def shape(ctx: Context, n: NodeView) -> Result:
    """A static shape is known."""
    dims = ctx.shape_of(n.operand(0))
    return Known(np.array(dims[slice(n.attr("start", 0), n.attr("end", None))], np.int64))


@handles("Size")
def size(ctx: Context, n: NodeView) -> Result:
    """A static size is known."""
    return Known(np.array(prod(ctx.shape_of(n.operand(0))), np.int64))


@handles("ConstantOfShape")
def constant_of_shape(ctx: Context, n: NodeView) -> Result:
    """A known shape filled with one number."""
    dims = ctx.ints(n.operand(0), "shape") or []
    if min(dims, default=0) < 0:
        raise ModelError(f"a constant of shape {dims}", where=n.where)
    value = n.attr("value", None)
    fill = np.zeros(1, np.float32) if value is None else to_array(value)
    ctx.budget.make([(tuple(dims), fill.itemsize)], n.where)
    return Known(np.full(dims, fill.reshape(()), fill.dtype))


@handles("EyeLike")
def eye_like(ctx: Context, n: NodeView) -> Result:
    """Depends on the operand's shape only."""
    x = n.operand(0)
    rows, columns = ctx.shape_of(x)
    ctx.room(rows, columns)
    kind = n.type_of(x)
    elem = n.attr("dtype", None) or (kind.tensor_type.elem_type if kind is not None else 1)
    return Known(np.eye(rows, columns, int(n.attr("k", 0)), numpy_of(int(elem))))


def resolve_shape(n: NodeView, wanted: Sequence[int], shape: Sequence[int], allow_zero: bool) -> list[int]:
    """A Reshape's target with 0 (copy) and -1 (the rest) resolved."""
    dims = []
    for axis, d in enumerate(wanted):
        if d == 0 and not allow_zero:
            if axis >= len(shape):
                raise ModelError(f"shape {list(wanted)} copies axis {axis} of {list(shape)}", where=n.where)
            d = shape[axis]
        dims.append(int(d))
    if dims.count(-1) == 1:
        rest = prod(d for d in dims if d != -1)
        if rest and prod(shape) % rest == 0:
            dims[dims.index(-1)] = prod(shape) // rest
    if min(dims, default=0) < 0 or prod(dims) != prod(shape):
        raise ModelError(f"shape {list(shape)} cannot become {list(wanted)}", where=n.where)
    return dims


@handles("Reshape")
def reshape(ctx: Context, n: NodeView) -> Result:
    """With 0 and -1 resolved."""
    x = n.operand(0)
    wanted = attribute_or_input(ctx, n, "shape", 1) or []
    return _as_shape(ctx, x, resolve_shape(n, wanted, ctx.shape_of(x), bool(n.attr("allowzero", 0))))


def _as_shape(ctx: Context, x: Operand, dims: Sequence[int]) -> Result:
    return x if tuple(dims) == ctx.shape_of(x) else ctx.reshape(x, dims)


@handles("Flatten")
def flatten(ctx: Context, n: NodeView) -> Result:
    """To a matrix, cut at `axis`."""
    x = n.operand(0)
    dims = ctx.shape_of(x)
    axis = int(n.attr("axis", 1))
    axis = axis + len(dims) if axis < 0 else axis
    return _as_shape(ctx, x, (prod(dims[:axis]), prod(dims[axis:])))


@handles("Squeeze")
def squeeze(ctx: Context, n: NodeView) -> Result:
    """Without axes of size 1."""
    x = n.operand(0)
    dims = ctx.shape_of(x)
    axes = attribute_or_input(ctx, n, "axes", 1)
    gone = {a % max(len(dims), 1) for a in axes} if axes is not None else {a for a, d in enumerate(dims) if d == 1}
    if any(dims[a] != 1 for a in gone):
        raise ModelError(f"axes {sorted(gone)} of shape {list(dims)} are not all 1", where=n.where)
    return _as_shape(ctx, x, [d for a, d in enumerate(dims) if a not in gone])


@handles("Unsqueeze")
def unsqueeze(ctx: Context, n: NodeView) -> Result:
    """With new axes of size 1."""
    x = n.operand(0)
    axes = attribute_or_input(ctx, n, "axes", 1)
    if axes is None:
        raise ModelError("axes are missing", where=n.where)
    rest = list(ctx.shape_of(x))
    rank = len(rest) + len(axes)
    for axis in sorted(a % rank for a in axes):
        rest.insert(axis, 1)
    return _as_shape(ctx, x, rest)


@handles("Transpose")
def transpose(ctx: Context, n: NodeView) -> Result:
    """Axes permuted, reversed by default."""
    x = n.operand(0)
    rank = len(ctx.shape_of(x))
    perm = [int(p) for p in n.attr("perm", None) or range(rank)[::-1]]
    return x if perm == list(range(rank)) else ctx.transpose(x, perm)


@handles("Expand")
def expand(ctx: Context, n: NodeView) -> Result:
    """Broadcast to at least a shape."""
    x = n.operand(0)
    dims = np.broadcast_shapes(ctx.shape_of(x), tuple(ctx.ints(n.operand(1), "shape") or ()))
    return x if dims == ctx.shape_of(x) else ctx.emit(Expand(dims), ctx.value(x))


@handles("Tile")
def tile(ctx: Context, n: NodeView) -> Result:
    """Copies along axes: an axis of 1 before each, expanded, then folded in."""
    x = n.operand(0)
    dims = list(ctx.shape_of(x))
    repeats = ctx.ints(n.operand(1), "repeats") or []
    if n.opset < 6:
        axis = (ctx.ints(n.operand(2), "axis") or [0])[0]
        repeats = [repeats[0] if a == axis else 1 for a in range(len(dims))]
    if len(repeats) != len(dims):
        raise ModelError(f"{len(repeats)} repeats for shape {dims}", where=n.where)
    if all(r == 1 for r in repeats):
        return x
    # an axis of size 1 is expanded in place
    spread = [r > 1 and d != 1 for r, d in zip(repeats, dims, strict=True)]
    before = [e for d, s in zip(dims, spread, strict=True) for e in ([1, d] if s else [d])]
    after = [e for d, r, s in zip(dims, repeats, spread, strict=True) for e in ([r, d] if s else [d * r])]
    if 0 in repeats:
        return Known(np.zeros([d * r for d, r in zip(dims, repeats, strict=True)], ctx.dtype_of(x).numpy))
    value = ctx.emit(Expand(tuple(after)), ctx.reshape(x, before))
    return ctx.reshape(value, [d * r for d, r in zip(dims, repeats, strict=True)])


@handles("Concat")
def concat(ctx: Context, n: NodeView) -> Result:
    """Along an axis, which opset 1 defaults to 1."""
    rank = len(ctx.shape_of(n.operand(0)))
    axis = int(n.attr("axis", 1) if n.opset < 4 else n.attr("axis"))
    if not -rank <= axis < rank:
        raise ModelError(f"axis {axis} of rank {rank}", where=n.where)
    return ctx.emit(Concat(axis % rank), *(ctx.value(n.operand(i)) for i in range(len(n.inputs))))


def _whole(x: Value) -> tuple[list[int], list[int], list[int]]:
    return [0] * x.tensor.rank, list(x.shape), [1] * x.tensor.rank


@handles("Split")
def split(ctx: Context, n: NodeView) -> list[Result]:
    """One slice for each output."""
    x = ctx.value(n.operand(0))
    axis = int(n.attr("axis", 0)) % max(x.tensor.rank, 1)
    length = x.shape[axis]
    sizes = attribute_or_input(ctx, n, "split", 1)
    if sizes is None:
        count = len(n.proto.output)
        if n.attr("num_outputs", count) != count:
            raise ModelError(f"num_outputs is {n.attr('num_outputs')} but there are {count} outputs", where=n.where)
        chunk = -(-length // count)
        sizes = [max(min(chunk, length - i * chunk), 0) for i in range(count)]
    if sum(sizes) != length or len(sizes) < len(n.outputs):
        raise ModelError(f"split {sizes} of axis {axis} of {x.type} into {len(n.outputs)} outputs", where=n.where)
    results: list[Result] = []
    begin = 0
    for width in sizes[: len(n.outputs)]:
        starts, stops, steps = _whole(x)
        starts[axis], stops[axis] = begin, begin + width
        begin += width
        results.append(ctx.emit(Slice(tuple(starts), tuple(stops), tuple(steps)), x))
    return results


_NO_END = ((1 << 31) - 1, (1 << 63) - 1)


def _bounds(begin: int, end: int, step: int, size: int) -> tuple[int, int, int]:
    """A slice's bounds as ONNX clamps them: unlike Python's, a start before the first element is the first one. The
    greatest number of a type stands for no end.
    """
    if end in _NO_END and step < 0:
        end = -size - 1
    start, stop, step = slice(begin, end, step).indices(size)
    return (max(start, 0) if size else start), stop, step


@handles("Slice")
def slice_(ctx: Context, n: NodeView) -> Result:
    """With bounds clamped as ONNX says."""
    operand = n.operand(0)
    dims = ctx.shape_of(operand)
    begins = attribute_or_input(ctx, n, "starts", 1) or []
    ends = attribute_or_input(ctx, n, "ends", 2) or []
    axes = attribute_or_input(ctx, n, "axes", 3)
    axes = list(range(len(begins))) if axes is None else axes
    strides = ctx.ints(n.optional(4), "steps") or [1] * len(axes)
    if not len(begins) == len(ends) == len(axes) == len(strides):
        raise ModelError(f"starts {begins}, ends {ends}, axes {axes}, steps {strides}: lengths differ", where=n.where)
    starts, stops, steps = [0] * len(dims), list(dims), [1] * len(dims)
    for begin, end, axis, step in zip(begins, ends, axes, strides, strict=True):
        if not -len(dims) <= axis < len(dims) or step == 0:
            raise ModelError(f"axis {axis} with step {step} of shape {list(dims)}", where=n.where)
        starts[axis], stops[axis], steps[axis] = _bounds(begin, end, step, dims[axis])
        if not range(starts[axis], stops[axis], step):
            starts[axis], stops[axis], steps[axis] = 0, 0, 1
    if starts == [0] * len(dims) and stops == list(dims) and steps == [1] * len(dims):
        return operand
    return ctx.emit(Slice(tuple(starts), tuple(stops), tuple(steps)), ctx.value(operand))


@handles("Pad")
def pad(ctx: Context, n: NodeView) -> Result:
    """All modes; negative amounts crop first."""
    x = ctx.value(n.operand(0))
    rank = x.tensor.rank
    mode = n.attr("mode", "constant")
    value: float = 0.0
    if n.opset < 11:
        amounts = [int(p) for p in n.attr("pads" if n.opset >= 2 else "paddings")]
        value = float(n.attr("value", 0.0))
    else:
        amounts = ctx.ints(n.operand(1), "pads") or []
        fill = n.optional(2)
        if fill is not None and mode == "constant":
            value = float(ctx.known(fill, "constant_value").reshape(-1)[0])
    axes = ctx.ints(n.optional(3), "axes")
    axes = list(range(rank)) if axes is None else [a % max(rank, 1) for a in axes]
    if len(amounts) != 2 * len(axes):
        raise ModelError(f"{len(amounts)} pads for {len(axes)} axes of {x.type}", where=n.where)
    pads = [0] * (2 * rank)
    for i, axis in enumerate(axes):
        pads[axis], pads[rank + axis] = amounts[i], amounts[len(axes) + i]
    x, rest = crop(ctx, x, pads)
    return ctx.emit(Pad(rest, mode, value), x) if any(rest) else x


@handles("DepthToSpace")
def depth_to_space(ctx: Context, n: NodeView) -> Result:
    """Channels to blocks of pixels, depth first (DCR) or column first (CRD)."""
    x = ctx.value(n.operand(0))
    b, mode = int(n.attr("blocksize")), n.attr("mode", "DCR")
    if x.tensor.rank != 4 or b < 1 or x.shape[1] % (b * b):
        raise ModelError(f"blocksize {b} does not divide the channels of {x.type}", where=n.where)
    batch, channels, h, w = x.shape
    deep = channels // (b * b)
    if mode == "DCR":
        y = ctx.transpose(ctx.reshape(x, (batch, b, b, deep, h, w)), (0, 3, 4, 1, 5, 2))
    else:
        y = ctx.transpose(ctx.reshape(x, (batch, deep, b, b, h, w)), (0, 1, 4, 2, 5, 3))
    return ctx.reshape(y, (batch, deep, h * b, w * b))


@handles("SpaceToDepth")
def space_to_depth(ctx: Context, n: NodeView) -> Result:
    """Blocks of pixels to channels, the inverse of DepthToSpace in the same mode."""
    x = ctx.value(n.operand(0))
    b = int(n.attr("blocksize"))
    if x.tensor.rank != 4 or b < 1 or x.shape[2] % b or x.shape[3] % b:
        raise ModelError(f"blocksize {b} does not divide the pixels of {x.type}", where=n.where)
    batch, channels, h, w = x.shape
    y = ctx.reshape(x, (batch, channels, h // b, b, w // b, b))
    perm = (0, 1, 3, 5, 2, 4) if n.attr("mode", "DCR") == "CRD" else (0, 3, 5, 1, 2, 4)
    return ctx.reshape(ctx.transpose(y, perm), (batch, channels * b * b, h // b, w // b))
