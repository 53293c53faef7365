"""What layers read once those before them are quantised: their errors can then be made up for.

Where a network ends in few numbers, errors of many places add up in them, those that are alike above all: an image's
background is one window many times, and its error one number many times. Layer by layer, such errors are taken out by
what is rounded next, weights and biases (with inputs of the quantised network, as Lybrand and Saab 2021 have it).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mgc.ir.graph import Graph, Node, Value
from mgc.ir.ops import Host, Random
from mgc.ir.types import TensorType
from mgc.passes.quantizing.emit import QuantizedLayer
from mgc.passes.quantizing.layers import Layer
from mgc.passes.quantizing.network import Feeds
from mgc.passes.quantizing.observed import graph_macs
from mgc.passes.quantizing.trials import output_elements

# Numbers that are few; layers, and multiply-accumulates and elements of all samples together, up to which a network is
# followed layer by layer; samples that it is followed for, at least and at most.
_FEW, _LAYERS, _MACS, _ELEMENTS = 64, 16, 2.5e8, 1 << 24
_SAMPLES = 8, 64


def samples_to_follow(graph: Graph, calibrated: Graph, layers: int, given: int) -> int:
    """For how many samples, of those given, a lowered graph is followed; 0 of one that is large or ends in many
    numbers. `calibrated` is its level-1 graph.
    """
    if layers > _LAYERS or not 0 < output_elements(calibrated) <= _FEW:
        return 0
    if any(isinstance(n.op, Host | Random) for n in graph.nodes):
        return 0
    made = sum(v.type.size for n in graph.nodes for v in n.outputs if isinstance(v.type, TensorType))
    least, most = _SAMPLES
    count = min(given, most, int(_MACS / max(graph_macs(calibrated), 1)), _ELEMENTS // max(made, 1))
    return count if count >= least else 0


class Followed:
    """The values of a lowered graph for some samples, by the NumPy meanings of its ops. Layers that were `settle`d
    before anything after them was asked for are quantised.
    """

    def __init__(self, graph: Graph, feeds: Sequence[Feeds]) -> None:
        self._known: dict[Value, list[np.ndarray]] = {v: [f[v.name] for f in feeds] for v in graph.inputs}
        self._known |= {v: [c.data] * len(feeds) for v, c in graph.constants.items()}
        self._rest = iter(graph.nodes)
        self._settled: dict[Node, tuple[Layer, QuantizedLayer]] = {}

    def settle(self, layer: Layer, chosen: QuantizedLayer) -> None:
        """Has a layer read codes and multiply by whole numbers."""
        self._settled[layer.node] = layer, chosen

    def samples(self, value: Value) -> list[np.ndarray]:
        """A value for each sample."""
        while value not in self._known:
            node = next(self._rest)
            operands = zip(*(self._known[v] for v in node.inputs), strict=True)
            if node in self._settled:
                layer, chosen = self._settled[node]
                results = [(_quantised(layer, chosen, x),) for x, *_ in operands]
            else:
                results = [node.op.evaluate(*arrays) for arrays in operands]
            self._known |= {v: [r[k] for r in results] for k, v in enumerate(node.outputs)}
        return self._known[value]


def _quantised(layer: Layer, chosen: QuantizedLayer, x: np.ndarray) -> np.ndarray:
    """What a layer makes of x, without the bias that is added to it in reals."""
    coded = chosen.codes.steps(x) * np.float32(chosen.codes.scale)
    weights = np.split((chosen.weights * chosen.scales[:, None, :]).astype(np.float32), np.cumsum(layer.splits)[:-1], 1)
    (sums,) = layer.op.evaluate(coded.astype(np.float32), *weights)
    return sums + (chosen.bias - layer.bias).reshape(layer.channel_shape).astype(np.float32)
