"""What the outputs of an ONNX model are made of: the steps of their own quantisation, and the values summed in them.

Both are read from the model's file, so that a check knows when an error is small.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, numpy_helper

# Ops that hand numbers on as they are.
_SAME = frozenset({"Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Cast", "Expand", "Slice"})
# Ops whose results lie in a range of size 1 whatever they read: that range is the scale of their errors.
_UNIT = frozenset({"Sigmoid", "HardSigmoid", "Softmax", "Tanh"})
# Ops that make no difference of numbers larger.
_GENTLE = _SAME | {"Tanh", "Sigmoid", "HardSigmoid", "Relu", "LeakyRelu", "Clip"}
_SUMS = frozenset({"Add", "Sub", "Sum"})
_MEANS = frozenset({"ReduceMean", "ReduceSum", "GlobalAveragePool", "AveragePool", "Mean"})
# The axis of its second operand that each sums over.
_PRODUCTS = {"Gemm": 0, "MatMul": -2, "Conv": 1}
_CODES = frozenset({"QuantizeLinear", "QLinearConv", "QLinearMatMul", "DynamicQuantizeLinear"})


def quantises(model: ModelProto) -> bool:
    """Whether the model holds codes: ONNX Runtime's fusions then round otherwise than it says, even where only weights
    are codes (a product of real numbers with them becomes one of codes).
    """
    return any(n.op_type in _CODES or n.op_type == "DequantizeLinear" for n in model.graph.node)


def output_steps(model: ModelProto) -> dict[str, float]:
    """For each output that the model itself rounds to codes, perhaps before a last activation, the size of a code's
    step.
    """
    graph = _Graph(model.graph)
    found: dict[str, float] = {}
    for output in model.graph.output:
        node = graph.maker(output.name)
        while node is not None and node.op_type in _GENTLE:
            node = graph.maker(node.input[0])
        if node is None:
            continue
        if node.op_type in _CODES:
            found[output.name] = 1.0
        elif node.op_type == "DequantizeLinear" and graph.maker(node.input[0]) is not None:
            scale = graph.constant(node.input[1])
            if scale is not None:
                found[output.name] = float(np.max(np.abs(scale)))
    return found


@dataclass(frozen=True)
class Summand:
    """Values that are summed in an output: those of a tensor, times the largest weight of each slice on an axis.

    `tensor` is "" where `weights` are all there is to it (a range, a bias).
    """

    output: str
    tensor: str
    axis: int
    weights: np.ndarray

    def largest(self, values: np.ndarray) -> float:
        """The largest magnitude of a summand, given the tensor."""
        if not self.tensor:
            return float(self.weights.max(initial=0.0))
        finite = np.nan_to_num(np.abs(values.astype(np.float64)), nan=0.0, posinf=0.0)
        if self.weights.size == 1 or not finite.size:
            return float(finite.max(initial=0.0) * self.weights.max(initial=0.0))
        axis = self.axis % finite.ndim
        slices = finite.max(axis=tuple(a for a in range(finite.ndim) if a != axis))
        groups = np.resize(self.weights, slices.shape) if slices.size % self.weights.size == 0 else self.weights.max()
        return float((slices * groups).max())


def summands(model: ModelProto) -> list[Summand]:
    """What each output is made of, as far as its last layers tell."""
    graph = _Graph(model.graph)
    return [s for output in model.graph.output for s in graph.summands(output.name, output.name)]


def with_outputs(model: ModelProto, tensors: list[str]) -> ModelProto:
    """The model with these tensors as its only outputs."""
    made = ModelProto()
    made.CopyFrom(model)
    del made.graph.output[:]
    made.graph.output.extend(onnx.ValueInfoProto(name=name) for name in tensors)
    return made


class _Graph:
    """Who makes what, and what is constant."""

    def __init__(self, graph: GraphProto) -> None:
        self._makers = {name: node for node in graph.node for name in node.output if name}
        self._constants = {t.name: t for t in graph.initializer}

    def maker(self, name: str) -> NodeProto | None:
        """The node behind a value, through ops that hand numbers on; None for an input or a constant."""
        node = self._makers.get(name)
        while node is not None and node.op_type in _SAME:
            node = self._makers.get(node.input[0])
        return node

    def constant(self, name: str) -> np.ndarray | None:
        """The value of an initializer or a Constant."""
        if name in self._constants:
            return numpy_helper.to_array(self._constants[name])
        node = self._makers.get(name)
        for attribute in node.attribute if node is not None and node.op_type == "Constant" else ():
            if attribute.name == "value":
                return numpy_helper.to_array(attribute.t)
        return None

    def summands(self, output: str, name: str) -> Iterator[Summand]:
        """Of a value that an output is made of."""
        node = self.maker(name)
        constant = self.constant(name)
        if constant is not None:
            yield Summand(output, "", 0, np.abs(constant.astype(np.float64)).reshape(-1))
        if node is None:
            return
        if node.op_type in _UNIT:
            yield Summand(output, "", 0, np.ones(1))
        elif node.op_type in _SUMS:
            for operand in node.input:
                if self.constant(operand) is None:
                    yield Summand(output, operand, 0, np.ones(1))
                yield from self.summands(output, operand)
        elif node.op_type in _MEANS:
            yield Summand(output, node.input[0], 0, np.ones(1))
        elif node.op_type in _PRODUCTS:
            yield from self._products(output, node)

    def _products(self, output: str, node: NodeProto) -> Iterator[Summand]:
        weights = self.constant(node.input[1])
        if weights is None or weights.ndim < 2:
            return
        flags = {a.name: a.i for a in node.attribute}
        axis = _PRODUCTS[node.op_type] % weights.ndim
        if node.op_type == "Gemm" and flags.get("transB"):
            axis = 1
        of_x = 1 if node.op_type == "Conv" else (0 if flags.get("transA") else -1)
        most = np.abs(weights.astype(np.float64)).max(axis=tuple(a for a in range(weights.ndim) if a != axis))
        yield Summand(output, node.input[0], of_x, most)
        if len(node.input) > 2 and node.input[2]:
            yield from self.summands(output, node.input[2])


def magnitudes(found: list[Summand], values: Mapping[str, np.ndarray]) -> dict[str, float]:
    """The largest summand of each output, given the tensors that summands name."""
    largest: dict[str, float] = {}
    for summand in found:
        size = summand.largest(values.get(summand.tensor, np.zeros(0)))
        largest[summand.output] = max(largest.get(summand.output, 0.0), size)
    return largest
