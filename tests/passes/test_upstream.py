"""Layers quantised one after the other, and what is rounded next making up for errors that come in."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from pass_graphs import state_of

from mgc.ir.graph import Graph, Value, evaluate
from mgc.ir.mapped import Quant
from mgc.ir.ops import Binary, Conv, MatMul, Reshape, Unary
from mgc.ir.types import DType, TensorType
from mgc.passes.lowering.lower_linear import LowerLinear
from mgc.passes.quantizing.calibrate import Calibration
from mgc.passes.quantizing.codes import Codes
from mgc.passes.quantizing.emit import QuantizedLayer
from mgc.passes.quantizing.feedback import output_error, round_with_feedback
from mgc.passes.quantizing.layers import find_layers
from mgc.passes.quantizing.quantize import Quantize
from mgc.passes.quantizing.signs import NonNegative
from mgc.passes.quantizing.upstream import Followed, samples_to_follow
from mgc.passes.quantizing.weights import nearest_weights


def discriminator(rng: np.random.Generator, channels: int, outputs: int) -> Graph:
    graph = Graph()

    def weights(*shape: int) -> Value:
        return graph.add_constant((rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32))

    x = graph.add_input("x", TensorType(DType.F32, (1, 2, 8, 8)))
    y = graph.add(Conv((2, 2), (1, 1, 1, 1), (1, 1)), x, weights(channels, 2, 4, 4))
    y = graph.add(Binary("add"), y, weights(1, channels, 1, 1))
    y = graph.add(Unary("leaky_relu", 0.2), y, name="leaky")
    y = graph.add(Conv((2, 2), (1, 1, 1, 1), (1, 1)), y, weights(3, channels, 4, 4))
    y = graph.add(Reshape((1, 12)), graph.add(Unary("relu"), y, name="relu"), name="flat")
    graph.outputs = [
        ("y", graph.add(MatMul(), y, graph.add_constant(rng.normal(size=(12, outputs)).astype(np.float32))))
    ]
    return graph


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 999), st.integers(1, 9), st.integers(1, 3))
def test_values_that_are_followed_are_those_of_the_quantised_graph(seed: int, channels: int, outputs: int) -> None:
    rng = np.random.default_rng(seed)
    ranges = {"x": (-2.5, 2.5), "leaky": (-0.4, 3.0), "relu": (0.0, 3.0), "flat": (0.0, 3.0)}
    graph = discriminator(rng, channels, outputs)
    state = LowerLinear().run(state_of(graph, calibration=Calibration((), ranges)))
    feeds = [{"x": rng.normal(size=(1, 2, 8, 8)).astype(np.float32)} for _ in range(3)]
    (_, out), plain = state.graph.outputs[0], evaluate(state.graph, feeds[0])["y"]
    assert np.array_equal(Followed(state.graph, feeds).samples(out)[0], plain)
    result = Quantize("minmax").run(state).graph
    quants = [n.op for n in result.nodes if isinstance(n.op, Quant)]
    followed = Followed(state.graph, feeds)
    layers = find_layers(state.graph, NonNegative(state.graph))
    assert len(layers) == len(quants) == 3
    for layer, q in zip(layers, quants, strict=True):
        codes = Codes(q.scale, q.lo, q.hi, q.zero)
        chosen = QuantizedLayer(codes, *nearest_weights(layer, state.target.crossbar), layer.bias)
        followed.samples(layer.x)
        followed.settle(layer, chosen)
    wanted = [evaluate(result, dict(f))["y"] for f in feeds]
    # a code may fall the other way where sums end between two
    assert np.allclose(followed.samples(out), wanted, atol=0.05 * max(1.0, float(np.ptp(wanted))))
    assert np.mean(np.abs(np.subtract(followed.samples(out), wanted))) < 0.3 * np.mean(np.abs(wanted[0] - plain)) + 1e-6


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 999), st.integers(1, 2), st.integers(40, 200), st.integers(16, 40))
def test_rounding_makes_up_for_what_steps_lack(seed: int, matrices: int, rows: int, cols: int) -> None:
    rng = np.random.default_rng(seed)
    steps = rng.integers(0, 20, (matrices, 300, rows)).astype(np.uint8)
    steps[:, ::2] = steps[:, :1]  # every other window is the same: a background, with one error
    off = np.repeat(rng.uniform(-2, 2, (matrices, 1, rows)), 300, axis=1)
    off[:, 1::2] = rng.uniform(-0.05, 0.05, (matrices, 150, rows))
    weights = rng.normal(size=(matrices, rows, cols)).astype(np.float32) * 20
    lacking = (off @ weights).astype(np.float32)
    without, with_ = (round_with_feedback(steps, weights, 127, given) for given in (None, lacking))
    errors = [output_error(steps, weights - w, lacking) for w in (without, with_)]
    assert errors[1] < 0.5 * errors[0]


def test_what_ends_in_many_numbers_is_not_followed() -> None:
    few, many = (discriminator(np.random.default_rng(0), 3, n) for n in (1, 65))
    assert samples_to_follow(few, few, 3, 99) == 64
    assert samples_to_follow(few, few, 3, 7) == 0
    assert samples_to_follow(few, few, 17, 64) == 0
    assert samples_to_follow(many, many, 3, 64) == 0
