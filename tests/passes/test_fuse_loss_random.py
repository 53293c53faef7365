"""fuse-loss on random losses: whatever it makes of them, values and gradients are those of the graph as written."""

import random

import numpy as np
from hypothesis import event, given, settings
from hypothesis import strategies as st
from loss_files import blocks_of

from mgc.ir.build import Build
from mgc.ir.graph import Graph, evaluate
from mgc.ir.types import DType, TensorType
from mgc.ir.verifier import verify
from mgc.passes.losses.fuse_loss import fuse_losses
from mgc.passes.training.differentiate import gradients

BATCH = 5
NUMBERS = (-2.0, -1.0, -0.5, 0.1, 0.5, 0.9, 1.0, 2.0)
UNEVEN = np.array([[0.0], [1.0], [0.9], [1.0], [0.0]])
UNARY = ("neg", "sigmoid", "softplus", "relu", "tanh", "abs", "leaky_relu")
FORMS = (*UNARY, "log_sigmoid", "log_rest", "square", "number", "number", "constants", "both", "both", "both")


def mean(g, x):
    return g.reduce("mean", x, range(x.tensor.rank), keepdims=False)


def expression(rnd, g, r, f, t, depth):
    """A random expression of the shape of r, built from what losses are built from."""
    if depth == 0:
        pick = rnd.randrange(10)
        return (r, r, r, r, f, f, g.sub(r, f), g.sub(f, r), g.sub(r, mean(g, f)), t)[pick]
    form = rnd.choice(FORMS)
    x = expression(rnd, g, r, f, t, depth - 1)
    if form == "both":
        return g.binary(rnd.choice(("add", "sub", "mul")), x, expression(rnd, g, r, f, t, rnd.randrange(depth)))
    if form == "number":
        return g.binary(rnd.choice(("add", "sub", "mul", "max", "min")), x, rnd.choice(NUMBERS))
    if form == "constants":
        return g.binary(rnd.choice(("sub", "mul")), x, g.array(UNEVEN))
    if form == "square":
        return g.mul(x, x)
    if form == "log_sigmoid":
        return g.unary("log", g.unary("sigmoid", x))
    if form == "log_rest":
        return g.unary("log", g.sub(g.number(1.0, x), g.unary("sigmoid", x)))
    return g.unary(form, x, 0.2)


def random_loss(rnd, g, r, f, t):
    total = None
    for _ in range(rnd.randrange(1, 4)):
        value = expression(rnd, g, r, f, t, rnd.randrange(4))
        part = g.mul(g.total(value) if rnd.random() < 0.3 else mean(g, value), rnd.choice(NUMBERS))
        total = part if total is None else g.add(total, part)
    return total


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**9))
def test_values_and_gradients_stay(seed):
    graph = Graph("random")
    build = Build(graph)
    rng = np.random.default_rng(seed)
    x, y = (graph.add_input(n, TensorType(DType.F64, (BATCH, 3))) for n in "xy")
    w = graph.add_input("w", TensorType(DType.F64, (3, 1)))
    t = graph.add_input("t", TensorType(DType.F64, (BATCH, 1)))
    scores = build.matmul(x, w), build.matmul(y, w)
    graph.outputs.append(("loss", random_loss(random.Random(seed), build, *scores, t)))
    fused = fuse_losses(graph, ["loss"], ["w"])
    verify(fused.graph)
    # small scores: log(1 - sigmoid(u)) as written loses its digits for large ones
    feeds = {v.name: 0.4 * rng.standard_normal(v.shape) for v in graph.inputs} | {"t": rng.random((BATCH, 1))}
    results = []
    for g in (graph.copy(), fused.graph.copy()):
        inputs = {v.name: v for v in g.inputs}
        loss = dict(g.outputs)["loss"]
        g.sort()
        (d,) = gradients(g, loss, [inputs["w"]])
        if d is not None:
            g.outputs.append(("d", d))
        found = evaluate(g, feeds)
        results.append((found["loss"], found.get("d", np.zeros((3, 1)))))
    (loss, d), (fused_loss, fused_d) = results
    (report,) = fused.reports
    event(report.kind)
    blocks = [n.op for n in blocks_of(fused.graph, dict(fused.graph.outputs)["loss"])]
    assert len(blocks) == report.branches
    bound = 1e-8
    for block in blocks:
        if block.table is not None:
            bound += abs(block.weight) * 2e3 * max(block.table.loss_error, block.table.delta_error)
    size = max(1.0, float(np.abs(loss)), float(np.abs(d).max()))
    np.testing.assert_allclose(fused_loss, loss, rtol=bound, atol=bound * size)
    np.testing.assert_allclose(fused_d, d, rtol=bound, atol=bound * size)
