"""The equalize pass: channels of one value made more alike in size, so that one scale of codes serves all of them.

What lies between a weighted op and those that read it often keeps a factor of a channel as it is: f(a x) = a f(x) for
a > 0. A channel may then be divided by a number that the weights which read it take back, and the network computes what
it did. The weights before have a scale of their own for each column of the crossbar, and lose nothing; those behind
share one scale in a column, and their rows move apart as the channels come together. So channels come together by a
part of the way only (as in SmoothQuant, Xiao et al. 2023; without data: Nagel et al. 2019).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import ClassVar

import numpy as np

from mgc.ir.graph import Graph, Node, Value
from mgc.ir.module import Entry
from mgc.ir.ops import Binary, Conv, ConvTranspose, MatMul, Pad, Pool, Reduce, Reshape, Transpose, Unary
from mgc.ir.types import TensorType
from mgc.passes.manager import Pass, Tools
from mgc.passes.quantizing.calibrate import CalibrationMethod
from mgc.passes.quantizing.network import Feeds, mirrored, run
from mgc.passes.quantizing.observed import activation_operand, graph_macs
from mgc.passes.quantizing.samples import take_samples
from mgc.passes.quantizing.stated import may_be_on_grid
from mgc.passes.state import CompileState, with_graph

# A channel is divided by its size to this power, as long as it is not smaller than the largest by more than that.
_POWER, _SMALLEST = 0.375, 1 / 16
# Samples that sizes are taken from, and the multiply-accumulates that may cost.
_SAMPLES, _MACS = 8, 1e9


@dataclass(frozen=True)
class Equalize(Pass):
    """Where scales are chosen by "error", and nothing is trained: divides channels between weighted ops by a power of
    their size on sample data, and multiplies the weights that read them. Weights that are whole numbers of steps stay.
    """

    name: ClassVar[str] = "equalize"
    method: CalibrationMethod = "error"

    def run_entry(self, entry: Entry, state: CompileState) -> Entry:
        if state.trains or self.method != "error":
            return entry
        graph = entry.graph.copy()
        stretches = find_stretches(graph, state.target.crossbar.weight_bits)
        if not stretches:
            return entry
        data = state.module.attributes.get("calibration_data", {})
        count = max(1, min(_SAMPLES, int(_MACS / max(graph_macs(graph), 1))))
        feeds = take_samples(graph, data, state.seed, count).feeds
        sizes = _sizes(graph, stretches, feeds, state.tools)
        for stretch in stretches:
            _divide(graph, stretch, _factors(stretch, sizes[stretch.read.name]))
        graph.prune()
        return with_graph(entry, graph)


@dataclass
class Stretch:
    """From a weighted op to those that read what is made of its result.

    labels: for each channel of `read`, along `axis`, one that the op makes and that goes there. classes: for each
    channel that the op makes, the number of those that have to keep one factor, as they go into one. added: the nodes
    that add constants on the way, with axis and labels there.
    """

    maker: Node
    read: Value
    axis: int
    classes: np.ndarray
    labels: np.ndarray
    readers: list[Node] = field(default_factory=list)
    added: list[tuple[Node, int, np.ndarray]] = field(default_factory=list)

    @property
    def read_classes(self) -> np.ndarray:
        """The class of each channel of `read`."""
        return self.classes[self.labels]


def find_stretches(graph: Graph, weight_bits: int) -> list[Stretch]:
    """Those whose weights nothing else reads, and are no whole numbers of steps."""
    users, leaving = graph.users(), graph.output_values()
    found: list[Stretch] = []
    for node in graph.nodes:
        made = _channels_made(graph, node)
        if made is None:
            continue
        axis, channels = made
        stretch = Stretch(node, node.outputs[0], axis, np.arange(channels), np.arange(channels))
        while stretch.read not in leaving and (after := users.get(stretch.read, [])):
            if all(_reads(graph, n, stretch) for n in after):
                stretch.readers = list(dict.fromkeys(after))
                break
            if len(after) != 1 or not _step(graph, after[0], stretch):
                break
        weighted = (node, *stretch.readers)
        owned = all(len(users[n.inputs[1]]) == 1 and n.inputs[1] not in leaving for n in weighted)
        if stretch.readers and owned and all(_scales(graph, n, weight_bits) for n in weighted):
            found.append(stretch)
    return found


def _channels_made(graph: Graph, node: Node) -> tuple[int, int] | None:
    """(axis, number) of the channels that a weighted op makes; None if it is none, or of another form."""
    if activation_operand(graph, node) is None or node.inputs[1] not in graph.constants:
        return None
    y = node.outputs[0].tensor
    if isinstance(node.op, MatMul):
        return (y.rank - 1, y.shape[-1]) if node.inputs[1].tensor.rank == 2 else None
    return 1, y.shape[1]


def _reads(graph: Graph, node: Node, stretch: Stretch) -> bool:
    """Whether a weighted op reads the stretch's value, channel by channel."""
    if activation_operand(graph, node) is not stretch.read or node.inputs[1] not in graph.constants:
        return False
    if isinstance(node.op, MatMul):
        return stretch.axis == stretch.read.tensor.rank - 1 and node.inputs[1].tensor.rank == 2
    return stretch.axis == 1


def _step(graph: Graph, node: Node, stretch: Stretch) -> bool:
    """Takes the stretch past a node that keeps factors of channels; False if it may not."""
    op, y = node.op, node.outputs[0]
    if len(node.outputs) != 1 or node.inputs[0] is not stretch.read or not isinstance(y.type, TensorType):
        return False
    axis, rank = stretch.axis, stretch.read.tensor.rank
    match op:
        case Unary(fn) if fn in ("relu", "leaky_relu"):
            pass
        case Binary("mul" | "div") if node.inputs[1] in graph.constants and y.type == stretch.read.type:
            pass
        case Binary("add" | "sub") if node.inputs[1] in graph.constants and y.type == stretch.read.type:
            if _along(graph, node.inputs[1], rank, axis) is None:
                return False
            stretch.added.append((node, axis, stretch.labels))
        case Pool() if axis == 1:
            pass
        case Pad() if op.pads[axis] == op.pads[rank + axis] == 0 and (op.mode != "constant" or op.value == 0):
            pass
        case Transpose():
            stretch.axis = op.perm.index(axis)
        case Reshape():
            return _reshape(y, stretch)
        case _:
            return False
    stretch.read = y
    return True


def _reshape(y: Value, stretch: Stretch) -> bool:
    """Past a reshape from [N, C, ...] to [N, C * ...], or back."""
    x, shape = stretch.read.tensor, y.tensor.shape
    if stretch.axis != 1 or not x.shape or shape[:1] != x.shape[:1]:
        return False
    if len(shape) == 2:
        stretch.labels = np.repeat(stretch.labels, prod(x.shape[2:]))
    elif x.rank == 2 and len(shape) > 2 and prod(shape):
        together = stretch.labels.reshape(shape[1], -1)
        if (together != together[:, :1]).any():
            if not np.array_equal(stretch.labels, np.arange(len(stretch.classes))):
                return False
            stretch.classes = np.repeat(np.arange(len(together)), together.shape[1])
        stretch.labels = together[:, 0]
    else:
        return False
    stretch.read = y
    return True


def _along(graph: Graph, constant: Value, rank: int, axis: int) -> np.ndarray | None:
    """A constant that differs from channel to channel only, as one with all axes; None if it is another one."""
    data = graph.constants[constant].data
    if data.ndim > rank:
        return None
    data = data.reshape((1,) * (rank - data.ndim) + data.shape)
    return data if all(n == 1 for k, n in enumerate(data.shape) if k != axis) else None


def _scales(graph: Graph, node: Node, weight_bits: int) -> bool:
    """Whether the weights of an op may be multiplied: finite numbers of 32 bits or more, and no whole steps."""
    weights = graph.constants[node.inputs[1]].data
    if weights.dtype not in (np.float32, np.float64) or not weights.size:
        return False
    low, high = weights.min(), weights.max()
    if not np.isfinite((low, high)).all():
        return False
    most = weights.argmax() if high >= -low else weights.argmin()
    filters = 0 if isinstance(node.op, Conv) else 1
    column = np.take(weights, np.unravel_index(most, weights.shape)[filters], filters)
    return not may_be_on_grid(column.reshape(1, -1, 1), weight_bits)


def _sizes(
    graph: Graph, stretches: Sequence[Stretch], feeds: Sequence[Feeds], tools: Tools
) -> Mapping[str, np.ndarray]:
    """The mean square of each channel of what stretches lead to, float64, by the value's name."""
    probe, values = mirrored(graph)
    for stretch in stretches:
        value = values[stretch.read.name]
        squares = probe.add(Binary("mul"), value, value)
        others = tuple(k for k in range(value.tensor.rank) if k != stretch.axis)
        mean = probe.add(Reduce("mean", others, keepdims=False), squares) if others else squares
        probe.outputs.append((value.name, mean))
    results = run(probe, feeds, tools)
    return {s.read.name: np.mean([r[s.read.name].astype(np.float64) for r in results], axis=0) for s in stretches}


def _factors(stretch: Stretch, squares: np.ndarray) -> np.ndarray:
    """What each class of channels is divided by: float64, at most 1; 1 where sizes are not known."""
    count = int(stretch.classes.max(initial=-1)) + 1
    members = np.bincount(stretch.read_classes, minlength=count)
    means = np.bincount(stretch.read_classes, squares, count) / np.maximum(members, 1)
    if not np.isfinite(means).all() or not means.max(initial=0.0):
        return np.ones(count)
    size = np.sqrt(means / means.max())
    return np.where(means > 0, np.maximum(size, _SMALLEST) ** _POWER, 1.0)


def _divide(graph: Graph, stretch: Stretch, factors: np.ndarray) -> None:
    """Divides what the stretch's op makes and what is added to it, and multiplies the weights of those that read it."""
    made = factors[stretch.classes]
    _scale(graph, stretch.maker, 1 / made, made_by=True)
    for node, axis, labels in stretch.added:
        data = _along(graph, node.inputs[1], node.outputs[0].tensor.rank, axis)
        assert data is not None
        old = graph.constants[node.inputs[1]]
        data = data / made[labels].reshape([-1 if k == axis else 1 for k in range(data.ndim)])
        node.inputs = node.inputs[0], graph.add_constant(data.astype(old.data.dtype), old.value.name, group=old.group)
    for reader in stretch.readers:
        _scale(graph, reader, factors[stretch.read_classes], made_by=False)


def _scale(graph: Graph, node: Node, factors: np.ndarray, *, made_by: bool) -> None:
    """Multiplies an op's weights by a factor for each channel that it makes, or reads."""
    constant, op = graph.constants[node.inputs[1]], node.op
    weights = constant.data
    factors = factors.astype(weights.dtype)
    if isinstance(op, MatMul):
        scaled = weights * (factors if made_by else factors[:, None])
    else:
        assert isinstance(op, Conv | ConvTranspose)
        across = isinstance(op, Conv) != made_by  # the channels are those of one group, along axis 1
        grouped = weights.reshape(op.groups, -1, *weights.shape[1:])
        shape = (op.groups, 1, -1) if across else (op.groups, -1, 1)
        scaled = grouped * factors.reshape(*shape, *(1 for _ in weights.shape[2:]))
    graph.constants[node.inputs[1]] = replace(constant, data=scaled.reshape(weights.shape))
