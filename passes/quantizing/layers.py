"""The weighted layers of a lowered graph: each `mvm` with its stacked weights and the bias that follows it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import numpy as np

from mgc.ir.graph import Graph, Node, Value
from mgc.ir.mapped import Layout, Mvm
from mgc.ir.ops import Binary


@dataclass(eq=False)
class Layer:
    """One `mvm` on real values.

    weights: [matrices, rows of all parts, cols] float32; `splits` are the rows of each part. bias: float64 [channels],
    from the `add` node after it (None: there is none, the bias is 0).
    """

    node: Node
    op: Mvm
    x: Value
    weights: np.ndarray
    splits: tuple[int, ...]
    bias: np.ndarray
    add: Node | None
    unsigned: bool

    @property
    def name(self) -> str:
        """What the layer's first part is called, for messages."""
        return self.op.parts[0].name

    @property
    def channel_shape(self) -> tuple[int, ...]:
        """The shape in which [channels] data broadcasts to the result."""
        return channel_shape(self.op.result, self.op.out_shape)

    @property
    def takes_shifted_codes(self) -> bool:
        """Whether what a shifted code of 0 adds is one number a channel: all windows read all rows of one matrix a
        group, and every position of the result has a window.
        """
        channels = self.op.result.shape[1] * self.op.result.shape[0]
        positions = prod(self.op.out_shape) // channels if channels else 0
        return len(self.op.parts) == 1 and self.op.parts[0].windows.total == positions

    @property
    def result(self) -> Value:
        """The real value that the layer makes, bias included."""
        return (self.add or self.node).outputs[0]


def channel_shape(result: Layout, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The extents of `shape` along the axes that the layout's channels run over, 1 elsewhere."""
    step, span = result.strides[1], result.strides[1] * result.shape[1]
    strides = [prod(shape[a + 1 :]) for a in range(len(shape))]
    found = tuple(n if step <= s < span else 1 for n, s in zip(shape, strides, strict=True))
    if prod(found) != result.shape[1]:
        raise AssertionError(f"channels of {result} do not lie along axes of {shape}")
    return found


def find_layers(graph: Graph, nonnegative: Callable[[Value], bool]) -> list[Layer]:
    """The layers in the graph's order."""
    users, leaving = graph.users(), graph.output_values()
    layers: list[Layer] = []
    for node in graph.nodes:
        if not isinstance(node.op, Mvm):
            continue
        op = node.op
        x, *weights = node.inputs
        stacked = np.concatenate([graph.constants[w].data for w in weights], axis=1)
        splits = tuple(p.rows for p in op.parts)
        y = node.outputs[0]
        add = None
        if y not in leaving and len(users.get(y, [])) == 1:
            add = users[y][0]
        bias = None if add is None else _bias(graph, y, add, channel_shape(op.result, op.out_shape))
        add, bias = (None, np.zeros(op.result.shape[1])) if bias is None else (add, bias)
        layers.append(Layer(node, op, x, stacked, splits, bias, add, nonnegative(x)))
    return layers


def _bias(graph: Graph, y: Value, add: Node, shape: tuple[int, ...]) -> np.ndarray | None:
    """The constant that `add` adds to each channel of `y`; None if it does something else."""
    if not isinstance(add.op, Binary) or add.op.fn != "add" or add.outputs[0].type != y.type:
        return None
    other = add.inputs[1] if add.inputs[0] is y else add.inputs[0]
    data = graph.data(other)
    if data is None or data.ndim > len(shape):
        return None
    data = data.reshape((1,) * (len(shape) - data.ndim) + data.shape)
    if any(d not in (1, c) for d, c in zip(data.shape, shape, strict=True)):
        return None
    return np.broadcast_to(data.astype(np.float64), shape).reshape(-1)
