"""Which values cannot be negative: their codes need no sign, which is worth a bit."""

from __future__ import annotations

import numpy as np

from mgc.ir.graph import Graph, Node, Value
from mgc.ir.ops import Binary
from mgc.ir.types import DType, TensorType

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
        if node.op == Binary("mul") and node.inputs[0] is node.inputs[1]:
            return True
        return node.op.is_nonnegative([self._known[v] for v in node.inputs])


def _is_unsigned(value: Value) -> bool:
    return isinstance(value.type, TensorType) and value.type.dtype in _UNSIGNED
