"""Rewrites layers to codes: quant, integer weights, dequant."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from mgc.ir.graph import Graph, Node, Value
from mgc.ir.mapped import Dequant, Quant
from mgc.ir.types import TensorType
from mgc.passes.quantizing.codes import Codes
from mgc.passes.quantizing.layers import Layer
from mgc.targets.description import Crossbar


@dataclass(frozen=True)
class QuantizedLayer:
    """What was chosen for one layer.

    codes: of its input. weights: whole numbers [matrices, rows, cols], |w| <= 2^(weight_bits - 1) - 1. scales: float64
    [matrices, cols], weight = whole number * scale. bias: float64 [channels], of the integer pipeline, for codes in
    which 0 is 0.
    """

    codes: Codes
    weights: np.ndarray
    scales: np.ndarray
    bias: np.ndarray


def _real_type(*numbers: np.ndarray) -> type[np.floating]:
    """float32, in which vector units compute, where it holds numbers and their products with sums at full precision."""
    sizes = np.abs(np.concatenate([n.reshape(-1) for n in numbers]))
    return np.float32 if ((sizes == 0) | ((sizes > 2.0**-100) & (sizes < 2.0**60))).all() else np.float64


class Emitter:
    """Puts chosen codes and weights into a graph; equal codes of one value share one `quant`."""

    def __init__(self, graph: Graph, crossbar: Crossbar) -> None:
        self._graph = graph
        self._input_bits = crossbar.input_bits
        self._weight_dtype = np.int8 if crossbar.weight_bits <= 8 else np.int16
        self._coded: dict[tuple[Value, Codes], Value] = {}

    def emit(self, layer: Layer, chosen: QuantizedLayer) -> None:
        """Replaces the layer's `mvm` and bias `add`; its result keeps its value.

        The real weights and the real bias stay beside the codes, for `float` numerics.
        """
        graph, node = self._graph, layer.node
        key = layer.x, chosen.codes
        if key not in self._coded:
            self._coded[key] = self._quant(*key, node)
        stacked = chosen.weights.astype(self._weight_dtype)
        split = np.split(stacked, np.cumsum(layer.splits)[:-1], axis=1)
        whole = [
            graph.add_constant(np.ascontiguousarray(data), f"{part.name}.q")
            for part, data in zip(layer.op.parts, split, strict=True)
        ]
        bits = chosen.codes.bits
        op = replace(layer.op, outside=chosen.codes.zero, input_bits=bits if bits > self._input_bits else 0)
        at = graph.nodes.index(node)
        acc = graph.add(
            op, self._coded[key], *whole, *node.inputs[1:], name=f"{layer.name}.acc", sources=node.sources, at=at
        )
        shape = layer.channel_shape
        scale = chosen.codes.scale * chosen.scales
        # every row reads a code of 0 that is too large by `zero`
        excess = chosen.codes.zero * scale * chosen.weights.sum(axis=1, dtype=np.float64)
        bias = chosen.bias - excess.reshape(-1) if chosen.codes.zero else chosen.bias
        real = _real_type(scale, bias)
        rest = [
            graph.add_constant(data, f"{layer.name}.{hint}")
            for hint, data in (
                ("scale", scale.reshape(shape).astype(real)),
                ("bias", bias.reshape(shape).astype(real)),
                ("real_bias", layer.bias.reshape(shape)),
            )
        ]
        sources = dict.fromkeys([*node.sources, *(layer.add.sources if layer.add else ())])
        graph.nodes.insert(at + 1, Node(Dequant(), (acc, *rest), (layer.result,), tuple(sources)))
        graph.nodes.remove(node)
        if layer.add is not None:
            graph.nodes.remove(layer.add)

    def _quant(self, x: Value, codes: Codes, before: Node) -> Value:
        graph, data = self._graph, self._graph.data(x)
        if data is not None:
            return graph.add_constant(codes.stored(data), f"{x.name}.codes")
        assert isinstance(x.type, TensorType)
        op = Quant(codes.scale, codes.lo, codes.hi, codes.dtype, codes.zero)
        return graph.add(op, x, name=f"{x.name}.codes", sources=before.sources, at=graph.nodes.index(before))
