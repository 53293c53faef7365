"""Runs one op three ways: by its type rule, by NumPy, and by ONNX Runtime through the exporter."""

from collections.abc import Sequence

import numpy as np
import onnxruntime

from mgc.frontend import export_graph
from mgc.ir.graph import Graph, Value
from mgc.ir.op import Op
from mgc.ir.text import parse_graph, print_graph
from mgc.ir.types import TensorType, tensor_type_of
from mgc.ir.verifier import verify


def run_ort(graph: Graph, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Results of the exported graph in ONNX Runtime, by output name."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    # what is under test is the meaning of the single nodes
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(export_graph(graph).SerializeToString(), options)
    names = [name for name, _ in graph.outputs]
    return dict(zip(names, session.run(names, feeds), strict=True))


def single(op: Op, arrays: Sequence[np.ndarray]) -> tuple[Graph, dict[str, np.ndarray]]:
    """A graph of one op on inputs x0, x1, ... with the arrays to feed it."""
    graph = Graph("one op")
    inputs: list[Value] = [graph.add_input(f"x{i}", tensor_type_of(a)) for i, a in enumerate(arrays)]
    graph.outputs.append(("y", graph.add(op, *inputs)))
    return graph, {f"x{i}": a for i, a in enumerate(arrays)}


def check(op: Op, *arrays: np.ndarray, rtol: float = 1e-4, atol: float = 1e-5, ort: bool = True) -> np.ndarray:
    """Type rule, NumPy meaning and ONNX Runtime agree, and the text form reads back. Gives the result."""
    graph, feeds = single(op, arrays)
    verify(graph)
    text = print_graph(graph)
    assert parse_graph(text).nodes[0].op == op
    (y,) = op.evaluate(*arrays)
    assert tensor_type_of(y) == graph.outputs[0][1].type
    if ort:
        expected = run_ort(graph, feeds)["y"]
        assert expected.dtype == y.dtype
        np.testing.assert_allclose(y, expected, rtol=rtol, atol=atol)
    return y


def check_split(op: Op, arrays: Sequence[np.ndarray], batched: Sequence[bool], factor: int) -> bool:
    """Whether the op splits over axis 0; if it says so, parts joined must equal the whole."""
    types = [tensor_type_of(a) for a in arrays]
    part = op.split_batch(types, batched, factor)
    if part is None:
        return False
    whole = op.evaluate(*arrays)[0]
    pieces = []
    for i in range(factor):
        piece = [a.reshape(factor, -1, *a.shape[1:])[i] if b else a for a, b in zip(arrays, batched, strict=True)]
        (stated,) = part.infer(*(tensor_type_of(p) for p in piece))
        pieces.append(part.evaluate(*piece)[0])
        assert isinstance(stated, TensorType)
        assert stated.shape == pieces[-1].shape
    np.testing.assert_allclose(np.concatenate(pieces), whole, rtol=1e-5, atol=1e-6)
    return True
