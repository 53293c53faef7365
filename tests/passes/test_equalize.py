"""equalize: channels come together, and the network computes what it did."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pass_graphs import state_of

from mgc.compiler import compile_tools
from mgc.ir.graph import Graph, Value, evaluate
from mgc.ir.ops import Binary, Conv, ConvTranspose, MatMul, Pad, Pool, Reshape, Transpose, Unary
from mgc.ir.types import DType, TensorType
from mgc.passes.quantizing.equalize import Equalize

SHAPE = (1, 4, 5, 6)


class Drawn:
    """A drawn chain of weighted ops and what may lie between them; channels of very different sizes."""

    def __init__(self, data: st.DataObject) -> None:
        self.data, self.graph = data, Graph()
        self.rng = np.random.default_rng(data.draw(st.integers(0, 999)))
        self.x = self.graph.add_input("x", TensorType(DType.F32, SHAPE))

    def constant(self, *shape: int) -> Value:
        return self.graph.add_constant(self.rng.normal(size=shape).astype(np.float32), "c")

    def weighted(self, x: Value) -> Value:
        """A conv, a transposed one or a product, each of whose channels has a size of its own."""
        channels = 4 * self.data.draw(st.integers(1, 2))
        sizes = np.exp(self.rng.normal(0, 2, channels)).astype(np.float32)
        if x.tensor.rank == 2 or self.data.draw(st.booleans()):
            rows = x.shape[-1]
            return self.add(MatMul(), x, self.rng.normal(size=(rows, channels)) * sizes)
        groups = self.data.draw(st.sampled_from([g for g in (1, 2, 4) if x.shape[1] % g == 0]))
        if self.data.draw(st.booleans()):
            filters = self.rng.normal(size=(channels, x.shape[1] // groups, 2, 3)) * sizes[:, None, None, None]
            return self.add(Conv((1, 1), (1, 1, 1, 1), (1, 1), groups), x, filters)
        kernel = self.rng.normal(size=(x.shape[1], channels // groups, 3, 2))
        kernel = kernel * sizes.reshape(groups, -1)[np.arange(x.shape[1]) * groups // x.shape[1], :, None, None]
        return self.add(ConvTranspose((2, 1), (1, 1, 1, 0), (0, 0), (1, 1), groups), x, kernel)

    def between(self, x: Value) -> Value:
        """Something that keeps factors of channels, where x has the form for it."""
        kinds = ["relu", "leaky_relu", "bias", "mul"]
        if x.tensor.rank == 4:
            kinds += ["pool", "pad", "transpose", "flatten"]
        elif x.shape[1] % 4 == 0:
            kinds.append("unflatten")
        match self.data.draw(st.sampled_from(kinds)):
            case "relu" | "leaky_relu" as fn:
                return self.graph.add(Unary(fn, 0.2) if fn == "leaky_relu" else Unary(fn), x)
            case "bias":
                axis = self.data.draw(st.integers(1, x.tensor.rank - 1))
                shape = [x.shape[axis] if k == axis else 1 for k in range(x.tensor.rank)]
                return self.graph.add(Binary(self.data.draw(st.sampled_from(["add", "sub"]))), x, self.constant(*shape))
            case "mul":
                return self.graph.add(Binary("mul"), x, self.constant(*x.shape))
            case "pool":
                kind = self.data.draw(st.sampled_from(["max", "average"]))
                return self.graph.add(Pool(kind, (2, 1), (1, 1), (1, 0, 0, 0), (1, 1)), x)
            case "pad":
                mode = self.data.draw(st.sampled_from(["constant", "edge"]))
                return self.graph.add(Pad((0, 0, 1, 0, 0, 0, 0, 2), mode), x)
            case "transpose":
                perm = self.data.draw(st.permutations([1, 2, 3]))
                return self.graph.add(Transpose((0, *perm)), x)
            case "flatten":
                return self.graph.add(Reshape((1, x.tensor.size)), x)
            case _:
                return self.graph.add(Reshape((1, x.shape[1] // 4, 2, 2)), x)

    def add(self, op, x: Value, weights: np.ndarray) -> Value:
        return self.graph.add(op, x, self.graph.add_constant(weights.astype(np.float32), "w"))


def equalized(graph: Graph) -> Graph:
    state = replace(state_of(graph), tools=compile_tools())
    return Equalize().run(state).graph


def samples(graph: Graph) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    return {v.name: rng.normal(size=v.shape).astype(np.float32) for v in graph.inputs}


def weights_of(graph: Graph) -> list[np.ndarray]:
    return [graph.constants[n.inputs[1]].data for n in graph.nodes if isinstance(n.op, Conv | ConvTranspose | MatMul)]


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_networks_compute_what_they_did(data) -> None:
    drawn = Drawn(data)
    value = drawn.x
    for _ in range(data.draw(st.integers(2, 4))):
        assume(value.tensor.size <= 1 << 14)
        value = drawn.weighted(value)
        for _ in range(data.draw(st.integers(0, 3))):
            value = drawn.between(value)
    graph = drawn.graph
    graph.outputs = [("y", value)]
    before = evaluate(graph, samples(graph))["y"]
    after = evaluate(equalized(graph), samples(graph))["y"]
    np.testing.assert_allclose(after, before, rtol=1e-4, atol=2e-5 * float(np.abs(before).max()) + 1e-30)


def chain(first, second, *between, bias: bool = True) -> tuple[Graph, Value]:
    """x -> first -> bias -> between -> second; gives what second reads."""
    rng = np.random.default_rng(0)
    graph = Graph()
    x = graph.add_input("x", TensorType(DType.F32, SHAPE))
    sizes = np.array([8, 1, 0.25, 2], np.float32)
    y = graph.add(first, x, graph.add_constant(shaped(first, rng, sizes), "w"))
    if bias:
        shape = (1, 4, 1, 1) if not isinstance(first, MatMul) else (4,)
        y = graph.add(
            Binary("add"), y, graph.add_constant((rng.normal(size=4) * sizes).astype(np.float32).reshape(shape))
        )
    for op in between:
        y = graph.add(op, y)
    z = graph.add(second, y, graph.add_constant(shaped(second, rng, np.ones(4, np.float32), y), "v"))
    graph.outputs = [("z", z)]
    return graph, y


def shaped(op, rng: np.random.Generator, sizes: np.ndarray, x: Value | None = None) -> np.ndarray:
    """Weights of 4 channels each way, those that are made of given sizes."""
    if isinstance(op, MatMul):
        return (rng.normal(size=(SHAPE[-1] if x is None else x.shape[-1], 4)) * sizes).astype(np.float32)
    by = sizes[:, None, None, None] if isinstance(op, Conv) else sizes[None, :, None, None]
    return (rng.normal(size=(4, 4, 3, 3)) * by).astype(np.float32)


CONV = Conv((1, 1), (1, 1, 1, 1), (1, 1))
TRANSPOSED = ConvTranspose((2, 2), (1, 1, 1, 1), (0, 0), (1, 1))


@pytest.mark.parametrize(
    ("first", "second", "between"),
    [
        (CONV, CONV, (Unary("relu"),)),
        (TRANSPOSED, TRANSPOSED, (Unary("leaky_relu", 0.2),)),
        (CONV, TRANSPOSED, (Unary("relu"), Pool("max", (2, 2), (2, 2), (0, 0, 0, 0), (1, 1)))),
        (MatMul(), MatMul(), (Unary("relu"),)),
        (CONV, MatMul(), (Unary("relu"), Transpose((0, 2, 3, 1)))),
        (CONV, MatMul(), (Unary("relu"), Reshape((1, 4 * 5 * 6)))),
        (CONV, CONV, ()),
    ],
)
def test_channels_come_together(first, second, between) -> None:
    graph, read = chain(first, second, *between)
    after = equalized(graph)
    spreads = []
    for g in (graph, after):
        own = g.copy()
        (value,) = [v for n in own.nodes for v in n.outputs if v.name == read.name]
        own.outputs = [("read", value)]
        array = evaluate(own, samples(own))["read"]
        channels = np.moveaxis(array, -1 if isinstance(first, MatMul) or "transpose" in read.name else 1, 0)
        sizes = np.sqrt(np.square(channels.reshape(4, -1)).mean(axis=1))
        spreads.append(sizes.max() / sizes.min())
    assert spreads[1] < 0.75 * spreads[0]


def test_what_must_stay_stays() -> None:
    whole, _ = chain(CONV, CONV, Unary("relu"))
    for value, constant in list(whole.constants.items()):
        if value.name == "v":
            whole.constants[value] = replace(constant, data=np.round(constant.data * 40).clip(-127, 127))
    leaving, read = chain(CONV, CONV, Unary("relu"))
    leaving.outputs.append(("also", read))
    residual, read = chain(CONV, CONV, Unary("relu"))
    residual.outputs = [("z", residual.add(Binary("add"), residual.outputs[0][1], read))]
    curved, _ = chain(CONV, CONV, Unary("tanh"))
    shared, _ = chain(CONV, CONV, Unary("relu"))
    shared.nodes[-1].inputs = shared.nodes[-1].inputs[0], shared.nodes[0].inputs[1]
    for graph in (whole, leaving, residual, curved, shared):
        for before, after in zip(weights_of(graph), weights_of(equalized(graph)), strict=True):
            np.testing.assert_array_equal(before, after)
    state = replace(state_of(chain(CONV, CONV)[0]), tools=compile_tools())
    assert Equalize("minmax").run(state).graph is state.graph


def test_silent_and_infinite_channels() -> None:
    silent, _ = chain(CONV, CONV, Unary("relu"))
    silent.constants[silent.nodes[0].inputs[1]].data[1] = 0
    silent.constants[silent.nodes[1].inputs[1]].data[:, 1] = 0
    before, after = (evaluate(g, samples(g))["z"] for g in (silent, equalized(silent)))
    np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-4)
    infinite, _ = chain(CONV, CONV, Unary("relu"))
    infinite.constants[infinite.nodes[0].inputs[1]].data[2] = np.inf
    for one, other in zip(weights_of(infinite), weights_of(equalized(infinite)), strict=True):
        np.testing.assert_array_equal(one, other)
