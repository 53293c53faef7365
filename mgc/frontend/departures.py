"""Where what is computed is not what the file says: warnings for the user."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from onnx import GraphProto, TensorProto

from mgc.frontend.context import Operand
from mgc.frontend.operand import Sym
from mgc.ir.types import TensorType

# Ops whose sizes come from rounding, or from conventions that differ.
_ROUNDED = frozenset(["AveragePool", "ConvTranspose", "LpPool", "MaxPool", "Resize", "Upsample"])


def departures(graph: GraphProto, names: Sequence[str], scope: Mapping[str, Operand]) -> list[str]:
    """Sizes that the file declares otherwise, and float64 that becomes float32. `names` are those of the nodes."""
    return [*_sizes(graph, names, scope), *_narrowed(scope)]


def _sizes(graph: GraphProto, names: Sequence[str], scope: Mapping[str, Operand]) -> Iterator[str]:
    declared = {i.name: i.type.tensor_type.shape.dim for i in (*graph.value_info, *graph.output)}
    for node, name in zip(graph.node, names, strict=True):
        for result in node.output:
            found, dims = scope.get(result), declared.get(result)
            if node.op_type not in _ROUNDED or not dims or not isinstance(found, Sym):
                continue
            shape = list(found.value.type.shape) if isinstance(found.value.type, TensorType) else []
            # the first axis is the batch, which traces declare as it was
            wanted = [d.dim_value if d.HasField("dim_value") else n for d, n in zip(dims, shape, strict=False)]
            if len(dims) == len(shape) and shape[1:] != wanted[1:]:
                yield (
                    f"node {name!r} ({node.op_type}): its result is {shape}, the file declares "
                    f"{[*shape[:1], *wanted[1:]]}: sizes follow ONNX's definition and the node's operands, whatever is "
                    "declared"
                )


def _narrowed(scope: Mapping[str, Operand]) -> Iterator[str]:
    for name, operand in scope.items():
        if isinstance(operand, Sym) and operand.type.tensor_type.elem_type == TensorProto.DOUBLE:
            yield (
                f"{name!r} is of type double: the chip computes in float32, with 24 bits and numbers up to 3.4e38; "
                "export the model in float32 to see the same in ONNX Runtime"
            )
            return
