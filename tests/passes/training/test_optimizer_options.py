"""Weight decay, clipped norms, falling rates and moving averages: against PyTorch's rules written out in float64."""

import numpy as np
import pytest
from iterations import iterate
from onnx import TensorProto, helper, numpy_helper
from oracle import network

from mgc.frontend.training_model import load_trainable
from mgc.ir.training import Phase
from mgc.options import CompileOptions
from mgc.passes.manager import UnsupportedError
from mgc.passes.training.model import step_model
from mgc.passes.training.optimizers import optimizer
from mgc.passes.training.passes import averaged
from mgc.passes.training.phases import parse_phase
from mgc.passes.training.step import training_iteration

RNG = np.random.default_rng(3)
START = {"g.w": RNG.normal(size=(5, 4)), "g.b": RNG.normal(size=(4,)), "g.idle": RNG.normal(size=(3,))}
X = RNG.normal(size=(8, 6, 5))


def quadratic():
    """loss = mean((x w + b)^2); the phase d trains d.w by the same loss; g.idle enters none."""
    nodes = [
        helper.make_node("MatMul", ["x", "g.w"], ["h"]),
        helper.make_node("Add", ["h", "g.b"], ["y"]),
        helper.make_node("Mul", ["y", "d.w"], ["s"]),
        helper.make_node("Mul", ["s", "s"], ["q"]),
        helper.make_node("ReduceMean", ["q"], ["loss"], keepdims=0),
        helper.make_node("ReduceSum", ["g.idle"], ["other"], keepdims=0),
    ]
    values = {**START, "d.w": np.ones(1)}
    tensors = [numpy_helper.from_array(v.astype(np.float32), n) for n, v in values.items()]
    ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in
             (("x", [6, 5]), ("loss", []), ("other", []))]  # fmt: skip
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def expected(kind, steps, lr, decay, norm, fall, ema):
    """Weights and averages after 4 iterations of `steps` updates each."""
    w = {n: START[n].astype(np.float32).astype(np.float64) for n in ("g.w", "g.b")}
    average = {n: v.copy() for n, v in w.items()}
    m, v = ({n: np.zeros_like(a) for n, a in w.items()} for _ in range(2))
    t = 0
    for iteration in range(4):
        rate = lr if fall is None else lr * max(0.0, 1 - max(0, iteration - fall[0]) / (fall[1] - fall[0]))
        for k in range(steps):
            x = X[iteration * steps + k]
            t += 1
            dy = 2 * (x @ w["g.w"] + w["g.b"]) / (6 * 4)
            g = {"g.w": x.T @ dy, "g.b": dy.sum(0)}
            if norm:
                total = np.sqrt(sum((a**2).sum() for a in g.values()))
                g = {n: a * min(1, norm / (total + 1e-6)) for n, a in g.items()}
            for n in w:
                if kind == "adamw":
                    w[n] = w[n] * (1 - rate * decay)
                else:
                    g[n] = g[n] + decay * w[n]
                if kind in ("adam", "adamw"):
                    m[n] = 0.5 * m[n] + 0.5 * g[n]
                    v[n] = 0.9 * v[n] + 0.1 * g[n] ** 2
                    w[n] = w[n] - rate * (m[n] / (1 - 0.5**t)) / (np.sqrt(v[n] / (1 - 0.9**t)) + 1e-8)
                elif kind == "rmsprop":
                    v[n] = 0.99 * v[n] + 0.01 * g[n] ** 2
                    w[n] = w[n] - rate * g[n] / (np.sqrt(v[n]) + 1e-8)
                else:
                    m[n] = (0.9 * m[n] if kind == "momentum" else 0) + g[n]
                    w[n] = w[n] - rate * m[n]
        average = {n: ema * average[n] + (1 - ema) * w[n] for n in w}
    return w, average


@pytest.mark.parametrize("fall", [None, (1, 3)])
@pytest.mark.parametrize("norm", [None, 0.2])
@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("kind", ["sgd", "momentum", "adam", "adamw", "rmsprop"])
def test_weights_and_averages(kind, steps, norm, fall):
    phases = [Phase("g", "loss", steps, clipnorm=norm)]
    betas = {"betas": (0.5, 0.9)} if kind.startswith("adam") else {}
    rule = optimizer(kind, lr=0.05, weight_decay=0.1, lr_decay=fall and f"linear:{fall[0]}:{fall[1]}", **betas)
    source = load_trainable(quadratic().SerializeToString(), batch=6)
    model = step_model(network(source), phases, {}, warnings=[])
    made = training_iteration(model, phases, rule, [], averages=averaged(model.states, {"g": 0.75}))
    iteration = iterate(model, phases, rule)
    iteration.module = made
    states = iteration.initial()
    for k in range(4):
        _, states = iteration.run([{"x": X[k * steps + j].astype(np.float32)} for j in range(steps)], states)
    weights, averages = expected(kind, steps, 0.05, 0.1, norm, fall, 0.75)
    for name in weights:
        np.testing.assert_allclose(states[name], weights[name], rtol=2e-4, atol=2e-6)
        np.testing.assert_allclose(states[f"{name}.ema"], averages[name], rtol=2e-4, atol=2e-6)
    assert "g.idle" not in states or np.array_equal(states["g.idle"], START["g.idle"].astype(np.float32))


def test_a_phase_states_its_own():
    phase = parse_phase("g=loss,steps=2,lr=0.1,wd=0,clip=0.5,clipnorm=3")
    assert phase == Phase("g", "loss", 2, 0.1, 0.5, wd=0.0, clipnorm=3.0)
    options = CompileOptions(phases=["g=loss,clipnorm=2", "d=other"], optimizer="adamw", clip_norm=1.0)
    assert [p.clipnorm for p in options.parsed_phases] == [2.0, 1.0]
    assert options.rule.weight_decay == 0.01  # PyTorch's default


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr_decay": "linear:5:5"}, "must end later"),
        ({"lr_decay": "cosine:1:2"}, "write linear:A:B"),
        ({"lr_decay": "linear:1"}, "write linear:A:B"),
        ({"weight_decay": -1.0}, "a number >= 0"),
        ({"clip_norm": 0.0}, "a positive number"),
        ({"ema": {"g": 1.0}}, "between 0 and 1"),
    ],
)
def test_what_means_nothing_is_refused(options, message):
    with pytest.raises(UnsupportedError, match=message):
        CompileOptions(phases=["g=loss"], optimizer="sgd", **options)


def test_an_average_of_no_group_is_refused():
    with pytest.raises(UnsupportedError, match="no group has that name"):
        averaged((), {"g": 0.5})
