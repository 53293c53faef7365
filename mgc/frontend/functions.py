"""Ops that ONNX defines as functions of other ops."""

from __future__ import annotations

from onnx import NodeProto

from mgc.frontend.context import NodeView

Body = tuple[list[NodeProto], list[str], list[str], dict[str, int]]


def function_body(view: NodeView, opsets: dict[str, int]) -> Body | None:
    """Nodes, input names, output names and opsets of the op's definition; None if it is not a function."""
    return None
