"""Batch normalisation as training has it: by the batch's own statistics, which also move the running ones."""

from __future__ import annotations

from math import prod

from mgc.ir.build import Build
from mgc.ir.graph import Graph, Node, Value
from mgc.ir.ops import BatchNorm
from mgc.ir.training import Statistic
from mgc.passes.manager import UnsupportedError
from mgc.passes.training.shifts import Shifts


def batch_statistics(graph: Graph) -> tuple[Statistic, ...]:
    """Replaces, in place, every batch_norm in training form by normalisation with the batch's mean and biased variance,
    as primitives, so that its gradient follows.

    Where the operands mean and var are graph inputs (running statistics), the batch's [C] become graph outputs, in the
    order of the nodes, and a `Statistic` each says how they update the running ones: by the op's momentum, the variance
    unbiased (n / (n - 1)), as PyTorch does. UnsupportedError for a batch with one value a channel.
    """
    found: list[Statistic] = []
    nodes, graph.nodes = graph.nodes, []
    shifts = Shifts(nodes)
    replaced: dict[Value, Value] = {}
    inputs = set(graph.inputs)
    number = 0
    for node in nodes:
        node.inputs = tuple(replaced.get(v, v) for v in node.inputs)
        if not isinstance(node.op, BatchNorm) or not node.op.training:
            graph.nodes.append(node)
            continue
        y, mean, var = _normalised(graph, shifts, node, node.op)
        replaced[node.outputs[0]] = y
        x = node.inputs[0]
        running_mean, running_var = node.inputs[3:]
        if running_mean in inputs and running_var in inputs:
            count = x.tensor.size // x.shape[1]
            ran = f"{running_var.name}.batch{number}"
            graph.outputs += [(f"{running_mean.name}.batch{number}", mean), (ran, var)]
            momentum = node.op.momentum
            own = tuple(dict.fromkeys(v.name for v in map(shifts.root, node.inputs[1:3]) if v in inputs))
            found.append(Statistic(running_mean.name, f"{running_mean.name}.batch{number}", ran, momentum, own=own))
            found.append(Statistic(running_var.name, ran, ran, momentum, count / (count - 1), own))
            number += 1
    graph.outputs = [(name, replaced.get(v, v)) for name, v in graph.outputs]
    graph.prune()
    return tuple(found)


def _normalised(graph: Graph, shifts: Shifts, node: Node, op: BatchNorm) -> tuple[Value, Value, Value]:
    """y, the batch's mean and its biased variance. A bias on x is left out where it cancels (`shifts`)."""
    x, scale, bias, *_ = node.inputs
    axes = (0, *range(2, x.tensor.rank))
    if prod(x.shape[a] for a in axes) < 2:
        raise UnsupportedError(
            f"batch normalisation {', '.join(node.sources) or node.outputs[0].name} of {x.type}: one value a channel "
            "has no batch statistics; use a larger batch"
        )
    wide = (1, x.shape[1], *(1,) * (x.tensor.rank - 2))
    build = Build(graph, sources=node.sources, hint=f"{node.outputs[0].name}.mean")
    split = shifts.split(build, x, axes)
    whole, x = x, x if split is None else split[0]
    # both in one pass over the batch, and so are their gradients: one barrier each way
    middle = build.reduce("mean", x, axes)
    build.hint = f"{node.outputs[0].name}.var"
    var = build.reduce("variance", x, axes, keepdims=False)
    build.hint = f"{node.outputs[0].name}.centred"
    centred = build.sub(x, middle)
    mean = build.reshape(middle, scale.shape)
    # the statistic is that of the whole operand
    if split is not None and split[1] is not None:
        mean = build.add(mean, build.reshape(split[1], mean.shape))
    elif split is not None:
        mean = build.reduce("mean", whole, axes, keepdims=False)
    build.hint = f"{node.outputs[0].name}.factor"
    inverse = build.unary("reciprocal", build.unary("sqrt", build.add(var, op.epsilon)))
    factor = build.reshape(build.mul(scale, inverse), wide)
    build.hint = node.outputs[0].name
    return build.add(build.mul(centred, factor), build.reshape(bias, wide)), mean, var
