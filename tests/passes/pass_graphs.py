"""Small graphs and a state for pass tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mgc.ir.graph import Graph
from mgc.ir.module import Entry, Module
from mgc.ir.op import Op
from mgc.ir.types import tensor_type_of
from mgc.passes.state import CompileState, Tools
from mgc.passes.tensor.split_batch import Batching
from mgc.targets.loader import load_target


def no_export(graph: Graph) -> bytes:
    raise AssertionError("this test exports nothing")


def no_run(model: bytes, feeds: Sequence[Mapping[str, np.ndarray]]) -> Sequence[Mapping[str, np.ndarray]]:
    raise AssertionError("this test runs no ONNX")


def state_of(graph: Graph, **fields: Any) -> CompileState:
    """A compile state of one inference entry for the default target, without tools unless given. `fields` are those of
    the entry, of its batching, of the state and attributes of entry and module.
    """
    fields.setdefault("tools", Tools(no_export, no_run))
    batching = Batching(fields.pop("batch", 1), fields.pop("graph_batch", 1), fields.pop("batched_inputs", ()))
    entry = Entry("testing", "test", graph, attributes={"batching": batching})
    for name in ("micro_batch", "micro_batches", "batched"):
        setattr(entry, name, fields.pop(name, getattr(entry, name)))
    if "calibration" in fields:
        entry.attributes["calibration"] = fields.pop("calibration")
    data = fields.pop("calibration_data", None)
    module = Module("test", (entry,), (), {} if data is None else {"calibration_data": data})
    return CompileState(module, fields.pop("target", None) or load_target("liu2018"), **fields)


def weighted(op: Op, x: np.ndarray, w: np.ndarray, *, left: bool = False) -> Graph:
    """One op on an input "x" and constant weights "layer.weight", which come first if `left`."""
    graph = Graph()
    operand = graph.add_input("x", tensor_type_of(x))
    weights = graph.add_constant(w, "layer.weight")
    inputs = (weights, operand) if left else (operand, weights)
    graph.outputs = [("y", graph.add(op, *inputs, sources=("/model/layer/Op",)))]
    return graph
