"""Losses over classes, as primitives: they differentiate like anything else."""

from __future__ import annotations

import numpy as np

from mgc.frontend.context import Context, NodeView, Result
from mgc.frontend.errors import ModelError
from mgc.frontend.handlers.registry import handles
from mgc.frontend.modules import note_of_call, traced_arguments
from mgc.ir.graph import Value
from mgc.ir.types import DType

_SMOOTHING = 5  # the place of label_smoothing among the arguments of aten.cross_entropy_loss


@handles("SoftmaxCrossEntropyLoss", "NegativeLogLikelihoodLoss")
def class_loss(ctx: Context, n: NodeView) -> Result | list[Result]:
    """-sum over classes of share * log-probability, by class numbers or (as PyTorch exports them) by probabilities."""
    x = ctx.value(n.operand(0))
    if x.tensor.rank < 2:
        raise ModelError(f"the scores are {x.type}: [N, classes, ...] is needed", where=n.where)
    logs = log_softmax(ctx, x) if n.op_type == "SoftmaxCrossEntropyLoss" else x
    target, weight = ctx.value(n.operand(1)), n.optional(2)
    classes, rest = x.shape[1], (1,) * (x.tensor.rank - 2)
    weights = None if weight is None else ctx.reshape(weight, (1, classes, *rest))
    smoothing = _label_smoothing(n)
    if target.tensor.dtype.is_float:
        shares, counted = _probabilities(ctx, n, x, target, smoothing), None
        shares = shares if weights is None else ctx.binary("mul", shares, weights)
    else:
        shares, counted = _chosen(ctx, n, x, target, weights, smoothing)
    losses = ctx.unary("neg", ctx.reduce("sum", ctx.binary("mul", logs, shares), [1], keepdims=False))
    reduction = n.attr("reduction", "mean")
    axes = list(range(losses.tensor.rank))
    if reduction == "none":
        loss = losses
    elif reduction == "sum":
        loss = ctx.reduce("sum", losses, axes, keepdims=False)
    elif counted is None:
        loss = ctx.reduce("mean", losses, axes, keepdims=False)
    else:
        total = ctx.reduce("sum", counted, range(counted.tensor.rank), keepdims=False)
        loss = ctx.binary("div", ctx.reduce("sum", losses, axes, keepdims=False), total)
    return [loss, logs] if n.wants(1) else loss


def log_softmax(ctx: Context, x: Value) -> Value:
    """Over axis 1."""
    shifted = ctx.binary("sub", x, ctx.reduce("max", x, [1]))
    return ctx.binary("sub", shifted, ctx.unary("log", ctx.reduce("sum", ctx.unary("exp", shifted), [1])))


def _chosen(
    ctx: Context, n: NodeView, x: Value, labels: Value, weights: Value | None, smoothing: float
) -> tuple[Value, Value]:
    """What each class counts where a number says which is right, and the weights of those that are right."""
    expected = (x.shape[0], *x.shape[2:])
    if labels.shape != expected:
        raise ModelError(f"the labels are {labels.type}: shape {list(expected)} is needed", where=n.where)
    classes, rest = x.shape[1], x.shape[2:]
    numbers = ctx.const(np.arange(classes).reshape(1, classes, *(1,) * len(rest)), labels.tensor.dtype)
    hit = ctx.cast(ctx.binary("equal", ctx.reshape(labels, (x.shape[0], 1, *rest)), numbers), DType.F32)
    ignored = n.attr("ignore_index", None)
    if ignored is not None and 0 <= ignored < classes:  # a number of no class hits none
        kept = np.ones((1, classes, *(1,) * len(rest)))
        kept[0, ignored] = 0
        hit = ctx.binary("mul", hit, ctx.const(kept))
    counted = hit if weights is None else ctx.binary("mul", hit, weights)
    if not smoothing:
        return counted, counted
    valid = ctx.binary("mul", ctx.reduce("sum", hit, [1]), smoothing / classes)
    spread = valid if weights is None else ctx.binary("mul", weights, valid)
    return ctx.binary("add", ctx.binary("mul", counted, 1 - smoothing), spread), counted


def _probabilities(ctx: Context, n: NodeView, x: Value, target: Value, smoothing: float) -> Value:
    """What each class counts where probabilities are given."""
    if target.shape != x.shape:
        raise ModelError(f"the probabilities are {target.type}: the scores are {x.type}", where=n.where)
    if not smoothing:
        return target
    return ctx.binary("add", ctx.binary("mul", target, 1 - smoothing), smoothing / x.shape[1])


def _label_smoothing(n: NodeView) -> float:
    """PyTorch's, which ONNX has no attribute for: the dynamo exporter leaves it in its note of the call alone."""
    arguments = traced_arguments(n.proto) if "cross_entropy_loss" in note_of_call(n.proto) else []
    try:
        return float(arguments[_SMOOTHING]) if len(arguments) > _SMOOTHING else 0.0
    except ValueError:
        return 0.0
