"""Normalisations and softmax, as primitives except for batch normalisation in inference form."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mgc.frontend.context import Context, NodeView, Operand, Result
from mgc.frontend.errors import ModelError, Unsupported
from mgc.frontend.handlers.registry import handles
from mgc.frontend.operand import Known
from mgc.ir.graph import Value
from mgc.ir.ops import AxisMap, BatchNorm


def _moments(ctx: Context, x: Value, axes: Sequence[int]) -> tuple[Value, Value, Value]:
    """Mean, x - mean and variance over axes, dimensions kept."""
    mean = ctx.reduce("mean", x, axes)
    centred = ctx.binary("sub", x, mean)
    return mean, centred, ctx.reduce("mean", ctx.binary("mul", centred, centred), axes)


def _inverse_deviation(ctx: Context, variance: Value, epsilon: float) -> Value:
    return ctx.unary("reciprocal", ctx.unary("sqrt", ctx.binary("add", variance, epsilon)))


def _channel(ctx: Context, operand: Operand, rank: int, n: NodeView, channels: int) -> Value:
    """A vector of one number a channel, shaped to broadcast along axis 1."""
    if ctx.shape_of(operand) != (channels,):
        raise ModelError(f"shape {list(ctx.shape_of(operand))} where {channels} channels are normalised", where=n.where)
    return ctx.reshape(operand, (1, channels, *(1,) * (rank - 2)))


def _check_variance(n: NodeView, epsilon: float) -> None:
    """ModelError where the running variance would make every value of a channel NaN or infinite."""
    variance = n.operand(4)
    if not isinstance(variance, Known) or not variance.is_tensor:
        return
    bad = np.flatnonzero(~(variance.array.reshape(-1).astype(np.float64) + epsilon > 0))
    if bad.size:
        name = f" {variance.name!r}" if variance.name else ""
        raise ModelError(
            f"variance{name} of channel {bad[0]} is {variance.array.reshape(-1)[bad[0]]} and epsilon {epsilon:g}: "
            "there is no root of their sum to divide by",
            where=n.where,
            todo="check the running statistics",
        )


def _operands(ctx: Context, n: NodeView) -> list[Value]:
    """A batch normalisation's scale, bias, mean and variance. Running statistics that are copies of initializers, even
    equal ones (MUNIT repeats its buffers for each sample), are none that training moves: they lose the name.
    """
    found = [n.operand(i) for i in range(1, 5)]
    for i in (2, 3):
        held = found[i]
        if ctx.keep_parameters and isinstance(held, Known) and held.name and held.name != n.proto.input[1 + i]:
            found[i] = Known(held.array, hint=held.name)
    return [ctx.value(operand) for operand in found]


@handles("BatchNormalization")
def batch_norm(ctx: Context, n: NodeView) -> Result | list[Result]:
    """Inference form as one op; in training mode by the batch's own statistics, with running ones as results."""
    x = ctx.value(n.operand(0))
    epsilon = float(n.attr("epsilon", 1e-5))
    if n.opset < 9 and not n.attr("spatial", 1) and x.tensor.rank > 2:
        raise Unsupported("spatial is 0")
    flat = x.shape
    if x.tensor.rank == 1:
        x = ctx.reshape(x, (x.shape[0], 1))
    if not _trains(n):
        _check_variance(n, epsilon)
        if any(n.wants(i) for i in range(1, 5)):
            raise Unsupported("more than one output is wanted in inference")
        op = BatchNorm(epsilon, float(n.attr("momentum", 0.9)))
        y = ctx.emit(op, x, *_operands(ctx, n))
        return ctx.reshape(y, flat)
    if n.opset < 14 and (n.wants(3) or n.wants(4)):
        raise Unsupported("saved statistics are wanted")
    rank, channels = x.tensor.rank, x.shape[1]
    axes = [0, *range(2, rank)]
    mean, centred, variance = _moments(ctx, x, axes)
    scale, bias = (_channel(ctx, n.operand(i), rank, n, channels) for i in (1, 2))
    y = ctx.binary("mul", centred, _inverse_deviation(ctx, variance, epsilon))
    y = ctx.binary("add", ctx.binary("mul", y, scale), bias)
    momentum = float(n.attr("momentum", 0.9))
    if ctx.keep_parameters:
        # one op, for `batch-statistics` to find: it updates the running statistics itself
        y = ctx.emit(BatchNorm(epsilon, momentum, training=True), x, *_operands(ctx, n))
    results: list[Result] = [ctx.reshape(y, flat)]
    for i, statistic in ((1, mean), (2, variance)):
        if n.wants(i):
            old = ctx.binary("mul", ctx.value(n.operand(2 + i)), momentum)
            new = ctx.binary("mul", ctx.reshape(statistic, (channels,)), 1 - momentum)
            results.append(ctx.binary("add", old, new))
    return results


def _trains(n: NodeView) -> bool:
    if n.opset >= 14:
        return bool(n.attr("training_mode", 0))
    if n.opset >= 7:
        return any(n.wants(i) for i in range(1, 5))
    return not n.attr("is_test", 0) and any(n.wants(i) for i in range(1, 5))


@handles("InstanceNormalization")
def instance_norm(ctx: Context, n: NodeView) -> Result:
    """Each sample's channel by its own moments."""
    x = ctx.value(n.operand(0))
    rank = x.tensor.rank
    if rank < 3:
        raise ModelError(f"X is {x.type}: rank 3 or more is needed", where=n.where)
    _, centred, variance = _moments(ctx, x, range(2, rank))
    y = ctx.binary("mul", centred, _inverse_deviation(ctx, variance, float(n.attr("epsilon", 1e-5))))
    scale, bias = (_channel(ctx, n.operand(i), rank, n, x.shape[1]) for i in (1, 2))
    return ctx.binary("add", ctx.binary("mul", y, scale), bias)


@handles("GroupNormalization")
def group_norm(ctx: Context, n: NodeView) -> Result:
    """Groups of channels by their moments; before opset 21 scale and bias are one number a group."""
    x = ctx.value(n.operand(0))
    groups, rank, channels = int(n.attr("num_groups")), x.tensor.rank, x.shape[1]
    if groups < 1 or channels % groups:
        raise ModelError(f"{channels} channels do not divide into {groups} groups", where=n.where)
    grouped = ctx.reshape(x, (x.shape[0], groups, -(-channels // groups), *x.shape[2:]))
    _, centred, variance = _moments(ctx, grouped, range(2, rank + 1))
    y = ctx.binary("mul", centred, _inverse_deviation(ctx, variance, float(n.attr("epsilon", 1e-5))))
    per_group = ctx.shape_of(n.operand(1)) == (groups,) and (n.opset < 21 or groups == channels)
    if per_group:
        scale, bias = (_channel(ctx, n.operand(i), rank + 1, n, groups) for i in (1, 2))
        return ctx.reshape(ctx.binary("add", ctx.binary("mul", y, scale), bias), x.shape)
    scale, bias = (_channel(ctx, n.operand(i), rank, n, channels) for i in (1, 2))
    return ctx.binary("add", ctx.binary("mul", ctx.reshape(y, x.shape), scale), bias)


@handles("LayerNormalization")
def layer_norm(ctx: Context, n: NodeView) -> list[Result]:
    """Trailing axes by their moments; mean and inverse deviation are results too."""
    x = ctx.value(n.operand(0))
    axes = range(int(n.attr("axis", -1)) % max(x.tensor.rank, 1), x.tensor.rank)
    mean, centred, variance = _moments(ctx, x, axes)
    inverse = _inverse_deviation(ctx, variance, float(n.attr("epsilon", 1e-5)))
    y = ctx.binary("mul", ctx.binary("mul", centred, inverse), ctx.value(n.operand(1)))
    bias = n.optional(2)
    if bias is not None:
        y = ctx.binary("add", y, ctx.value(bias))
    return [y, mean, inverse]


@handles("RMSNormalization")
def rms_norm(ctx: Context, n: NodeView) -> Result:
    """Trailing axes by their root mean square."""
    x = ctx.value(n.operand(0))
    axes = range(int(n.attr("axis", -1)) % max(x.tensor.rank, 1), x.tensor.rank)
    square = ctx.reduce("mean", ctx.binary("mul", x, x), axes)
    inverse = _inverse_deviation(ctx, square, float(n.attr("epsilon", 1e-5)))
    return ctx.binary("mul", ctx.binary("mul", x, inverse), ctx.value(n.operand(1)))


@handles("LpNormalization")
def lp_norm(ctx: Context, n: NodeView) -> Result:
    """One axis by its L1 or L2 norm; a zero vector stays zero."""
    x = ctx.value(n.operand(0))
    axis = int(n.attr("axis", -1)) % max(x.tensor.rank, 1)
    if int(n.attr("p", 2)) == 1:
        norm = ctx.reduce("sum", ctx.unary("abs", x), [axis])
    else:
        norm = ctx.unary("sqrt", ctx.reduce("sum", ctx.binary("mul", x, x), [axis]))
    tiny = float(np.finfo(np.float32).tiny)
    return ctx.binary("div", x, ctx.binary("max", norm, tiny))


@handles("LRN")
def local_response(ctx: Context, n: NodeView) -> Result:
    """Each channel by the energy of its neighbours: a band matrix along axis 1 sums them."""
    x = ctx.value(n.operand(0))
    size, channels = int(n.attr("size")), x.shape[1]
    ctx.room(channels, channels)
    offset = np.arange(channels)[None, :] - np.arange(channels)[:, None]
    band = (offset >= -((size - 1) // 2)) & (offset <= size // 2)
    energy = ctx.emit(AxisMap(1), ctx.binary("mul", x, x), ctx.const(band))
    scaled = ctx.binary("mul", energy, float(n.attr("alpha", 1e-4)) / size)
    divisor = ctx.binary("pow", ctx.binary("add", scaled, float(n.attr("bias", 1.0))), float(n.attr("beta", 0.75)))
    return ctx.binary("div", x, divisor)


@handles("Softmax", "LogSoftmax")
def softmax(ctx: Context, n: NodeView) -> Result:
    """By the shifted exponential; before opset 13 over all axes from `axis` on."""
    x = ctx.value(n.operand(0))
    rank = x.tensor.rank
    axis = int(n.attr("axis", -1 if n.opset >= 13 else 1)) % max(rank, 1)
    axes = [axis] if n.opset >= 13 else list(range(axis, rank))
    shifted = ctx.binary("sub", x, ctx.reduce("max", x, axes))
    powers = ctx.unary("exp", shifted)
    total = ctx.reduce("sum", powers, axes)
    if n.op_type == "Softmax":
        return ctx.binary("div", powers, total)
    return ctx.binary("sub", shifted, ctx.unary("log", total))
