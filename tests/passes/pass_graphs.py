"""Small graphs and a state for pass tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mgc.ir.graph import Graph
from mgc.ir.op import Op
from mgc.ir.types import tensor_type_of
from mgc.passes.manager import CompileState, Tools
from mgc.targets.loader import load_target


def no_export(graph: Graph) -> bytes:
    raise AssertionError("this test exports nothing")


def no_run(model: bytes, feeds: Sequence[Mapping[str, np.ndarray]]) -> Sequence[Mapping[str, np.ndarray]]:
    raise AssertionError("this test runs no ONNX")


def state_of(graph: Graph, **fields: Any) -> CompileState:
    """A compile state for the default target, without tools unless given."""
    fields.setdefault("tools", Tools(no_export, no_run))
    return CompileState(graph, fields.pop("target", None) or load_target("liu2018"), **fields)


def weighted(op: Op, x: np.ndarray, w: np.ndarray, *, left: bool = False) -> Graph:
    """One op on an input "x" and constant weights "layer.weight", which come first if `left`."""
    graph = Graph()
    operand = graph.add_input("x", tensor_type_of(x))
    weights = graph.add_constant(w, "layer.weight")
    inputs = (weights, operand) if left else (operand, weights)
    graph.outputs = [("y", graph.add(op, *inputs, sources=("/model/layer/Op",)))]
    return graph
