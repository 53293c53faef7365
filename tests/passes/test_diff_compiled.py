"""A compiled step in `float` numerics: loss and deltas of scores up to 10,000, where the ONNX gives inf or nan."""

import math

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from mgc.compiler import compile_training
from mgc.sim import Simulator
from mgc.training.trainee import Trainee

BATCH = 4


def step_model(target, clamped):
    """Scores w x + b with w = 1, b = 0; cross-entropy of their sigmoid as PyTorch's exporters spell it."""
    nodes = [
        helper.make_node("Gemm", ["x", "discriminator.w", "discriminator.b"], ["s"]),
        helper.make_node("Sigmoid", ["s"], ["p"]),
        helper.make_node("Log", ["p"], ["log"]),
        helper.make_node("Sub", ["one", "p"], ["q"]),
        helper.make_node("Log", ["q"], ["rest"]),
        *(helper.make_node("Max", [x, "least"], [f"{x}.limited"]) for x in ("log", "rest") if clamped),
        helper.make_node("Mul", ["log.limited" if clamped else "log", "t"], ["a"]),
        helper.make_node("Mul", ["rest.limited" if clamped else "rest", "u"], ["b"]),
        helper.make_node("Add", ["a", "b"], ["sum"]),
        helper.make_node("Neg", ["sum"], ["each"]),
        helper.make_node("ReduceMean", ["each"], ["loss_d"], keepdims=0),
    ]
    constants = {
        "discriminator.w": np.ones((1, 1)),
        "discriminator.b": np.zeros(1),
        "one": np.array(1.0),
        "least": np.array(-100.0),
        "t": np.full((BATCH, 1), target),
        "u": np.full((BATCH, 1), 1 - target),
    }
    graph = helper.make_graph(
        nodes,
        "step",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [BATCH, 1])],
        [helper.make_tensor_value_info("loss_d", TensorProto.FLOAT, [])],
        [numpy_helper.from_array(a.astype(np.float32), n) for n, a in constants.items() if clamped or n != "least"],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def softplus(x):
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def sigmoid(x):
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


@pytest.mark.parametrize("clamped", [False, True])
@pytest.mark.parametrize("target", [0.0, 1.0, 0.9])
def test_right_to_a_millionth(target, clamped):
    program = compile_training(
        step_model(target, clamped), phases=["discriminator=loss_d"], optimizer="sgd", lr=1.0, target="liu2018"
    )
    assert program.meta["losses"] == [{"name": "loss_d", "kind": "cross-entropy", "branches": 1}]
    assert [i.mnemonic for i in program.instructions].count("diff") == 1
    for score in (-1e4, -120.0, -90.0, -60.0, -20.0, -17.0, 0.0, 17.0, 20.0, 60.0, 90.0, 120.0, 1e4):
        trainee = Trainee(Simulator(program, "reference", "float"))
        loss = trainee.step([{"x": np.full((BATCH, 1), score, np.float32)}])["loss_d"]
        expected = target * softplus(-score) + (1 - target) * softplus(score)
        assert loss == pytest.approx(expected, rel=1e-6, abs=1e-30)
        # one step of SGD at rate 1: the bias is minus the sum of the deltas
        (bias,) = trainee.state()["discriminator.b"]
        delta = (1 - target) * sigmoid(score) - target * sigmoid(-score)
        assert float(bias) == pytest.approx(-delta, rel=1e-6, abs=1e-30)
