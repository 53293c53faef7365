"""The update op: its meaning in NumPy, its decomposition in ONNX Runtime, PyTorch's numbers."""

import numpy as np
import pytest
from op_checks import run_ort

from mgc.ir.graph import Graph
from mgc.ir.op import IRError
from mgc.ir.ops import Adam, RmsProp, Sgd, Update
from mgc.ir.text import parse_graph, print_graph
from mgc.ir.types import DType, TensorType, tensor_type_of
from mgc.ir.verifier import verify

RULES = [
    Sgd(0.1),
    Sgd(0.1, 0.9),
    Adam(0.1, 0.5, 0.999),
    Adam(0.01),
    RmsProp(0.01),
    RmsProp(0.01, 0.9, 1e-5, 0.5, True),
    RmsProp(0.01, centered=True),
    RmsProp(0.01, momentum=0.9),
]


def operands(rule, dtype, count=5):
    rng = np.random.default_rng(0)
    w, g = rng.standard_normal((2, count)).astype(dtype)
    return [w, g, *(np.zeros_like(w) for _ in rule.moments), *([np.array(1, dtype)] if rule.counts else [])]


@pytest.mark.parametrize("clip", [None, 0.4])
@pytest.mark.parametrize("rule", RULES, ids=str)
def test_numpy_and_onnx_runtime_agree_over_steps(rule, clip):
    op = Update(rule, clip)
    graph = Graph("update")
    arrays = operands(rule, np.float32)
    inputs = [graph.add_input(f"x{i}", tensor_type_of(a)) for i, a in enumerate(arrays)]
    graph.outputs += [(f"y{i}", v) for i, v in enumerate(graph.add_multi(op, *inputs))]
    verify(graph)
    assert parse_graph(print_graph(graph)).nodes[0].op == op
    rng = np.random.default_rng(1)
    for step in range(1, 5):
        if rule.counts:
            arrays[-1] = np.array(step, np.float32)
        new = op.evaluate(*arrays)
        found = run_ort(graph, {f"x{i}": a for i, a in enumerate(arrays)})
        for i, value in enumerate(new):
            np.testing.assert_allclose(found[f"y{i}"], value, rtol=1e-5, atol=1e-6)
        arrays[0], arrays[2 : 1 + len(new)] = new[0], new[1:]
        arrays[1] = rng.standard_normal(5).astype(np.float32)
        if clip:
            assert np.max(np.abs(new[0])) <= np.float32(clip)


def test_the_first_step_of_adam_is_the_learning_rate():
    w, g = np.zeros(3, np.float32), np.array([1e-3, -5.0, 1e4], np.float32)
    new, m, v = Update(Adam(0.01, eps=0.0)).evaluate(w, g, w, w, np.array(1, np.float32))
    np.testing.assert_allclose(new, [-0.01, 0.01, -0.01], rtol=1e-6)
    np.testing.assert_allclose(m, 0.1 * g, rtol=1e-6)
    np.testing.assert_allclose(v, 0.001 * g * g, rtol=1e-6)


def test_types_are_checked():
    w, other = TensorType(DType.F32, (3,)), TensorType(DType.F32, (4,))
    with pytest.raises(IRError, match="w is f32\\[3\\] but g is f32\\[4\\]"):
        Update(Sgd(0.1)).infer(w, other)
    with pytest.raises(IRError, match="takes 5 operands"):
        Update(Adam(0.1)).infer(w, w)
    with pytest.raises(IRError, match="t is f32\\[3\\]: a scalar"):
        Update(Adam(0.1)).infer(w, w, w, w, w)
    with pytest.raises(IRError, match="clip is -1"):
        Update(Sgd(0.1), -1.0).infer(w, w)
