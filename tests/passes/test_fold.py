"""fold: structure after the pass, equal values, and every ONNX node accounted for."""

from __future__ import annotations

import numpy as np
import pytest
from pass_graphs import state_of

from mgc.ir.graph import Graph, Value, evaluate
from mgc.ir.op import Op
from mgc.ir.ops import (
    BatchNorm,
    Binary,
    Conv,
    ConvTranspose,
    Expand,
    Host,
    MatMul,
    Pad,
    Reduce,
    Reshape,
    Transpose,
    Unary,
)
from mgc.ir.types import DType, OpaqueType, TensorType
from mgc.ir.verifier import verify
from mgc.passes.tensor.fold import Fold

RNG = np.random.default_rng(7)


def random(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


class Builder:
    """Builds a chain from an input "x"; every node gets a source of its own."""

    def __init__(self, *shape: int) -> None:
        self.graph = Graph()
        self.value = self.graph.add_input("x", TensorType(DType.F32, shape))
        self.sources: list[str] = []

    def const(self, data: np.ndarray, name: str = "c") -> Value:
        return self.graph.add_constant(data, name)

    def then(self, op: Op, *rest: np.ndarray, first: bool = True) -> Builder:
        constants = [self.const(r, f"layer{len(self.sources)}.weight") for r in rest]
        operands = (self.value, *constants) if first else (*constants, self.value)
        self.sources.append(f"/n{len(self.sources)}/{op.name}")
        self.value = self.graph.add(op, *operands, sources=self.sources[-1:])
        return self

    def batch_norm(self) -> Builder:
        channels = self.value.shape[1]
        statistics = [random(channels), random(channels), random(channels), np.abs(random(channels)) + 0.1]
        return self.then(BatchNorm(1e-5), *statistics)

    def fold(self) -> Graph:
        graph = self.graph
        graph.outputs = [("y", self.value)]
        x = random(*graph.inputs[0].shape)
        before = evaluate(graph, {"x": x})["y"]
        folded = Fold().run(state_of(graph)).graph
        verify(folded)
        after = evaluate(folded, {"x": x})["y"]
        assert after.dtype == before.dtype
        assert np.max(np.abs(after - before)) <= 1e-5 * max(1.0, float(np.max(np.abs(before))))
        held = {s for n in folded.nodes for s in n.sources}
        assert held | set(folded.absorbed) == set(self.sources)
        assert not held & set(folded.absorbed)
        return folded


def names(graph: Graph) -> list[str]:
    return [getattr(n.op, "fn", n.op.name) for n in graph.nodes]


CONVS = [
    (Conv((1, 1), (1,) * 4, (1, 1)), (6, 4, 3, 3)),
    (Conv((2, 2), (1,) * 4, (1, 1), 2), (6, 2, 3, 3)),
    (ConvTranspose((2, 2), (1,) * 4, (0, 0), (1, 1)), (4, 6, 4, 4)),
    (ConvTranspose((2, 2), (1,) * 4, (0, 0), (1, 1), 2), (4, 3, 4, 4)),
]


@pytest.mark.parametrize(("op", "w"), CONVS)
def test_batch_norm_after_a_biased_convolution(op: Op, w: tuple[int, ...]) -> None:
    b = Builder(2, 4, 5, 5).then(op, random(*w)).then(Binary("add"), random(1, 6, 1, 1)).batch_norm()
    graph = b.then(Unary("relu")).fold()
    assert names(graph) == [op.name, "add", "relu"]
    assert graph.nodes[0].sources == tuple(b.sources[:3])
    assert graph.nodes[1].inputs[1].shape == (1, 6, 1, 1)


@pytest.mark.parametrize(("op", "w"), CONVS)
def test_a_chain_of_affine_maps_becomes_one_add(op: Op, w: tuple[int, ...]) -> None:
    b = Builder(1, 4, 5, 5).then(op, random(*w))
    b.then(Binary("mul"), random(6, 1, 1)).then(Binary("sub"), random(1, 6, 1, 1), first=False)
    b.then(Binary("div"), np.abs(random(6, 1, 1)) + 0.5).then(Unary("neg")).then(Binary("add"), random(1))
    assert names(b.fold()) == [op.name, "add"]


def test_scale_without_shift_leaves_no_add() -> None:
    b = Builder(1, 4, 5, 5).then(CONVS[0][0], random(6, 4, 3, 3)).then(Binary("mul"), random(6, 1, 1))
    assert names(b.fold()) == ["conv"]


def test_batch_norm_behind_a_reshape_goes_into_the_matrix() -> None:
    b = Builder(3, 5).then(MatMul(), random(5, 4 * 2 * 2)).then(Binary("add"), random(16))
    b.then(Reshape((3, 4, 2, 2))).batch_norm()
    graph = b.fold()
    assert names(graph) == ["matmul", "add", "reshape"]
    assert graph.nodes[1].inputs[1].shape == (1, 16)


def test_constant_on_the_left_and_a_transposed_result() -> None:
    b = Builder(5, 3).then(MatMul(), random(4, 5), first=False).then(Transpose((1, 0))).then(Binary("mul"), random(4))
    assert names(b.fold()) == ["matmul", "transpose"]


def test_a_map_that_is_not_per_channel_stays() -> None:
    b = Builder(1, 4, 5, 5).then(CONVS[0][0], random(6, 4, 3, 3)).then(Binary("mul"), random(1, 6, 5, 5))
    assert names(b.fold()) == ["conv", "mul"]


def test_batch_norm_of_a_shared_convolution_becomes_mul_and_add() -> None:
    b = Builder(1, 4, 5, 5).then(CONVS[0][0], random(6, 4, 3, 3))
    conv = b.value
    b.batch_norm()
    b.sources.append("/sum")
    b.value = b.graph.add(Binary("add"), conv, b.value, sources=("/sum",))
    assert names(b.fold()) == ["conv", "mul", "add", "add"]


def test_singular_batch_norm_is_not_folded() -> None:
    b = Builder(1, 2, 3).then(Conv((1,), (0, 0), (1,)), random(2, 2, 1))
    b.then(BatchNorm(0.0), np.ones(2, np.float32), *(np.full(2, v, np.float32) for v in (1, 1, 0)))
    b.graph.outputs = [("y", b.value)]
    assert names(Fold().run(state_of(b.graph)).graph) == ["conv", "add", "mul", "add"]


def test_batch_norm_with_computed_statistics_is_written_out() -> None:
    graph = Graph()
    shapes = {"x": (2, 3, 4), "scale": (3,), "bias": (3,), "mean": (3,), "var": (3,)}
    values = [graph.add_input(name, TensorType(DType.F32, shape)) for name, shape in shapes.items()]
    graph.outputs = [("y", graph.add(BatchNorm(1e-5), *values))]
    feeds = {name: np.abs(random(*shape)) for name, shape in shapes.items()}
    folded = Fold().run(state_of(graph)).graph
    verify(folded)
    assert "batch_norm" not in names(folded)
    np.testing.assert_allclose(evaluate(folded, feeds)["y"], evaluate(graph, feeds)["y"], rtol=1e-5)


def test_identities_go_with_a_reason() -> None:
    b = Builder(1, 4, 6).then(Reshape((1, 4, 6))).then(Pad((0,) * 6)).then(Transpose((0, 1, 2)))
    b.then(Expand((1, 4, 6))).then(Reduce("mean", (0,))).then(Binary("mul"), np.ones(1, np.float32))
    b.then(Binary("add"), np.zeros((4, 1), np.float32)).then(Unary("tanh"))
    graph = b.fold()
    assert names(graph) == ["tanh"]
    assert graph.absorbed["/n1/pad"] == "identity (pad)"


def test_a_neutral_constant_that_broadcasts_is_no_identity() -> None:
    b = Builder(1, 4, 1).then(Binary("add"), np.zeros((1, 4, 3), np.float32))
    assert names(b.fold()) == ["add"]


def test_chains_of_shape_ops_join() -> None:
    b = Builder(2, 3, 4).then(Reshape((6, 4))).then(Reshape((2, 12))).then(Reshape((3, 2, 4)))
    b.then(Transpose((2, 0, 1))).then(Transpose((1, 2, 0))).then(Unary("relu")).then(Unary("relu"))
    graph = b.fold()
    assert names(graph) == ["reshape", "relu"]


def test_common_subexpressions_and_dead_code() -> None:
    graph = Graph()
    x = graph.add_input("x", TensorType(DType.F32, (2,)))
    first = graph.add(Binary("add"), x, graph.add_constant(np.ones(2, np.float32)), sources=("a",))
    second = graph.add(Binary("add"), x, graph.add_constant(np.ones(2, np.float32)), sources=("b",))
    graph.add(Unary("exp"), first, sources=("dead",))
    graph.outputs = [("y", graph.add(Binary("mul"), first, second, sources=("c",)))]
    folded = Fold().run(state_of(graph)).graph
    assert [n.sources for n in folded.nodes] == [("a", "b"), ("c",)]
    assert folded.absorbed == {"dead": "its result is not used"}
    assert len(folded.constants) == 1


def test_operand_graph_is_left_alone() -> None:
    b = Builder(1, 4, 5, 5).then(CONVS[0][0], random(6, 4, 3, 3)).batch_norm()
    b.graph.outputs = [("y", b.value)]
    Fold().run(state_of(b.graph))
    assert names(b.graph) == ["conv", "batch_norm"]


def test_what_a_host_op_of_unknown_shape_reads_ends_the_chain() -> None:
    graph = Graph()
    x = graph.add_input("x", TensorType(DType.F32, (2, 4)))
    h = graph.add(MatMul(), x, graph.add_constant(random(4, 3), "w"), sources=("mm",))
    found = graph.add(Host(b"", "no shape", ("NonZero",), (OpaqueType(),)), h, sources=("nonzero",))
    graph.outputs = [("y", found)]
    folded = Fold().run(state_of(graph)).graph
    verify(folded)
    assert [n.op.name for n in folded.nodes] == ["matmul", "host"]
