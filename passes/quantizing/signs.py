"""Which values cannot be negative: their codes need no sign, which is worth a bit."""

from __future__ import annotations

import numpy as np

from mgc.ir.graph import Graph, Node, Value
from mgc.ir.ops import (
    AxisMap,
    Binary,
    Cast,
    Concat,
    Expand,
    Gather,
    MatMul,
    Pad,
    Pool,
    Reduce,
    Reshape,
    Slice,
    Transpose,
    Unary,
    Where,
)
from mgc.ir.types import DType, TensorType

# f(x) >= 0 for x >= 0
_KEEPS_SIGN = frozenset(
    (
        *("leaky_relu", "elu", "selu", "celu", "thresholded_relu", "hard_swish", "silu", "mish", "gelu", "gelu_tanh"),
        *("sqrt", "reciprocal", "sign", "floor", "ceil", "round", "tanh", "softsign", "erf"),
        *("asin", "atan", "sinh", "asinh", "acosh", "atanh"),
    )
)
_UNSIGNED = (DType.BOOL, DType.U8, DType.U16, DType.U32, DType.U64)


class NonNegative:
    """Answers whether a value of one graph is >= 0 (or NaN) whatever the inputs, from what its producers are."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._known: dict[Value, bool] = {v: _is_unsigned(v) for v in graph.inputs}
        for value, constant in graph.constants.items():
            self._known[value] = bool(np.all(constant.data >= 0)) if constant.data.dtype != bool else True
        for node in graph.nodes:
            holds = self._rule(node)
            self._known.update({v: holds or _is_unsigned(v) for v in node.outputs})

    def __call__(self, value: Value) -> bool:
        """Whether the value is known not to be negative."""
        return self._known[value]

    def _rule(self, node: Node) -> bool:
        op = node.op
        first = self._known[node.inputs[0]] if node.inputs else False
        every = all(self._known[v] for v in node.inputs)
        match op:
            case Unary(fn):
                return op.is_nonnegative or (first and fn in _KEEPS_SIGN and op.alpha >= 0 and op.beta >= 0)
            case Binary("mul") if node.inputs[0] is node.inputs[1]:
                return True
            case Binary("max"):
                return any(self._known[v] for v in node.inputs)
            case Binary("prelu" | "pow" | "fmod"):
                return first
            case Binary("add" | "mul" | "div" | "min" | "mod"):
                return every
            case Reshape() | Transpose() | Expand() | Slice() | Gather() | Pool() | Reduce():
                return first
            case Cast(to):
                # a cast to a narrower integer may wrap
                return first and (to.is_float or to is DType.BOOL)
            case Pad(_, mode, value):
                return first and (mode != "constant" or value >= 0)
            case Concat() | AxisMap() | MatMul():
                return every
            case Where():
                return all(self._known[v] for v in node.inputs[1:])
        return False


def _is_unsigned(value: Value) -> bool:
    return isinstance(value.type, TensorType) and value.type.dtype in _UNSIGNED
