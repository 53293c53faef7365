"""split-batch: separable networks are cut to one sample, the others are kept whole."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pass_graphs import state_of

from mgc.ir.graph import Graph, evaluate
from mgc.ir.op import Op
from mgc.ir.ops import Binary, Concat, Conv, Expand, MatMul, Pool, Reduce, Reshape, Transpose, Unary
from mgc.ir.types import DType, TensorType
from mgc.ir.verifier import verify
from mgc.passes.state import Tools
from mgc.passes.tensor.split_batch import SplitBatch, split


def network(batch: int) -> Graph:
    """A small discriminator; its batch dimension is axis 0 of "x"."""
    rng = np.random.default_rng(3)
    graph = Graph()
    x = graph.add_input("x", TensorType(DType.F32, (batch, 2, 6, 6)))
    w = graph.add_constant(rng.normal(size=(4, 2, 3, 3)).astype(np.float32), "w")
    value = graph.add(Conv((1, 1), (1,) * 4, (1, 1)), x, w, sources=("conv",))
    value = graph.add(Unary("leaky_relu", 0.2), value)
    value = graph.add(Pool("max", (2, 2), (2, 2), (0,) * 4, (1, 1)), value)
    value = graph.add(Reshape((batch, 36)), value)
    value = graph.add(MatMul(), value, graph.add_constant(rng.normal(size=(36, 5)).astype(np.float32), "v"))
    graph.outputs = [("score", value)]
    return graph


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 5))
def test_parts_equal_the_whole(batch: int) -> None:
    whole = network(batch)
    x = np.random.default_rng(4).normal(size=(batch, 2, 6, 6)).astype(np.float32)
    part = split(whole, ["x"], batch)
    assert isinstance(part, Graph)
    verify(part)
    rows = [evaluate(part, {"x": x[k : k + 1]})["score"] for k in range(batch)]
    np.testing.assert_allclose(np.concatenate(rows), evaluate(whole, {"x": x})["score"], rtol=1e-5, atol=1e-5)


def test_batch_of_one_is_decided_at_two() -> None:
    state = SplitBatch().run(state_of(network(2), batch=1, graph_batch=2, batched_inputs=("x",)))
    assert (state.entry.micro_batch, state.entry.micro_batches, state.entry.batched) == (1, 1, True)
    assert state.graph.inputs[0].shape == (1, 2, 6, 6)


def test_static_batch_is_split_too() -> None:
    state = SplitBatch().run(state_of(network(3), batch=1))
    assert (state.entry.micro_batch, state.entry.micro_batches, state.entry.batched) == (1, 3, True)


def test_static_batch_of_one_is_batched() -> None:
    state = SplitBatch().run(state_of(network(1), batch=1))
    assert (state.entry.micro_batch, state.entry.micro_batches, state.entry.batched) == (1, 1, True)


MIXING: list[tuple[Op, str]] = [
    (Reduce("mean", (0,)), "mixes samples"),
    (Transpose((1, 0)), "mixes samples"),
    (Reshape((12,)), ""),
    (Reshape((3, 4)), "mixes samples"),
]


@pytest.mark.parametrize(("op", "reason"), MIXING)
def test_mixing_ops_are_found(op: Op, reason: str) -> None:
    graph = Graph()
    x = graph.add_input("x", TensorType(DType.F32, (2, 6)))
    graph.outputs = [("y", graph.add(op, x, sources=("node",)))]
    result = split(graph, ["x"], 2)
    if reason:
        assert isinstance(result, str)
        assert reason in result
        assert "node" in result
    else:
        assert isinstance(result, Graph)  # [2, 6] -> [12]: each sample still has its own contiguous 6


def test_mixing_network_is_kept_whole_at_the_batch_asked_for() -> None:
    def import_at(batch: int) -> Graph:
        graph = Graph()
        x = graph.add_input("x", TensorType(DType.F32, (batch, 6)))
        graph.outputs = [("y", graph.add(Binary("sub"), x, graph.add(Reduce("mean", (0,)), x)))]
        return graph

    tools = Tools(reimport=lambda model, batch, dims: import_at(batch))
    fields = {"batched_inputs": ("x",), "tools": tools}
    state = SplitBatch().run(state_of(import_at(2), batch=1, graph_batch=2, **fields))
    assert (state.entry.micro_batch, state.entry.micro_batches, state.entry.batched) == (1, 1, False)
    assert state.graph.inputs[0].shape == (1, 6)
    state = SplitBatch().run(state_of(import_at(4), batch=4, graph_batch=4, **fields))
    assert (state.entry.micro_batch, state.entry.micro_batches, state.entry.batched) == (4, 1, False)


def test_an_output_without_the_batch_is_the_same_for_all_samples() -> None:
    graph = Graph()
    x = graph.add_input("x", TensorType(DType.F32, (2, 3)))
    graph.outputs = [("y", graph.add(Unary("relu"), x)), ("c", graph.add_constant(np.zeros(3)))]
    state = SplitBatch().run(state_of(graph, batch=5, graph_batch=2, batched_inputs=("x",)))
    assert (state.entry.micro_batch, state.entry.micro_batches, state.entry.batched) == (1, 5, True)
    assert state.entry.attributes["whole_ports"] == {"c"}


def test_a_second_input_without_the_batch_goes_whole_to_every_sample() -> None:
    graph = Graph()
    x = graph.add_input("x", TensorType(DType.F32, (2, 3)))
    s = graph.add_input("s", TensorType(DType.F32, (1,)))
    graph.outputs = [("y", graph.add(Binary("mul"), x, graph.add(Unary("exp"), s)))]
    state = SplitBatch().run(state_of(graph, batch=2, graph_batch=2, batched_inputs=("x",)))
    assert state.entry.batched
    assert state.entry.attributes["whole_ports"] == {"s"}
    verify(state.graph)
    assert [v.shape for v in state.graph.inputs] == [(1, 3), (1,)]


def test_a_second_input_of_the_batch_size_that_does_not_carry_it_mixes() -> None:
    graph = Graph()
    x = graph.add_input("x", TensorType(DType.F32, (2, 3)))
    s = graph.add_input("s", TensorType(DType.F32, (2, 3)))
    graph.outputs = [("y", graph.add(Binary("mul"), x, s))]
    assert isinstance(split(graph, ["x"], 2), str)


def test_only_outputs_without_the_batch_keep_the_network_whole() -> None:
    graph = Graph()
    graph.add_input("x", TensorType(DType.F32, (2, 3)))
    graph.outputs = [("c", graph.add_constant(np.zeros(3)))]
    assert split(graph, ["x"], 2) == "no output depends on the batch"


def test_a_learned_constant_expanded_to_the_batch_is_one_sample_of_it() -> None:
    graph = Graph()
    x = graph.add_input("x", TensorType(DType.F32, (2, 3)))
    learned = graph.add_constant(np.tile(np.arange(4, dtype=np.float32), (2, 1)), "learned")
    graph.outputs = [("y", graph.add(Concat(1), learned, x))]
    part = split(graph, ["x"], 2)
    assert isinstance(part, Graph)
    verify(part)
    assert part.outputs[0][1].shape == (1, 7)


def test_expand_of_a_sample_over_the_batch_axis_mixes() -> None:
    graph = Graph()
    x = graph.add_input("x", TensorType(DType.F32, (2, 3)))
    graph.outputs = [("y", graph.add(Expand((2, 2, 3)), x))]
    assert isinstance(split(graph, ["x"], 2), str)
