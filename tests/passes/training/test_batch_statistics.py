"""Batch normalisation in training form, and shifts that cancel."""

import numpy as np
import pytest
from onnx import numpy_helper
from scripted import BATCH, detach, feeds, model, node, squares

import mgc
from mgc.ir.build import Build
from mgc.ir.graph import Graph, evaluate
from mgc.ir.ops import BatchNorm, Binary, Conv, Reduce
from mgc.ir.training import Statistic
from mgc.ir.types import DType, TensorType
from mgc.ir.verifier import verify
from mgc.passes.manager import UnsupportedError
from mgc.passes.streaming.analysis import streaming_of
from mgc.passes.tensor.simplify import share
from mgc.passes.training.batch_statistics import batch_statistics
from mgc.passes.training.differentiate import gradients
from mgc.passes.training.shifts import cancel_shifts

F64 = DType.F64


def normalised(shape=(4, 3, 2, 2), *, training=True, bias=False, momentum=0.7):
    """x (plus a bias before it) through a batch_norm; statistics are inputs."""
    graph = Graph()
    x = graph.add_input("x", TensorType(F64, shape))
    names = ("scale", "shift", "mean", "var")
    operands = [graph.add_input(n, TensorType(F64, (shape[1],))) for n in names]
    build = Build(graph, sources=("bn",))
    if bias:
        b = graph.add_input("b", TensorType(F64, (shape[1],)))
        x = build.add(x, build.reshape(b, (shape[1], *(1,) * (len(shape) - 2))))
    y = build.emit(BatchNorm(1e-3, momentum, training), x, *operands)
    graph.outputs = [("y", y)]
    return graph


def feeds_of(graph):
    rng = np.random.default_rng(0)
    return {v.name: rng.standard_normal(v.shape) + (3 if v.name == "var" else 0) for v in graph.inputs}


@pytest.mark.parametrize("shape", [(4, 3, 2, 2), (4, 3), (2, 3, 5)])
@pytest.mark.parametrize("bias", [False, True])
def test_the_result_is_that_of_the_training_form(shape, bias):
    graph = normalised(shape, bias=bias)
    feeds = feeds_of(graph)
    expected = evaluate(graph, feeds)["y"]
    statistics = batch_statistics(graph)
    verify(graph)
    found = evaluate(graph, feeds)
    np.testing.assert_allclose(found["y"], expected, rtol=1e-10)
    x = feeds["x"] + (feeds["b"].reshape(-1, *(1,) * (len(shape) - 2)) if bias else 0)
    axes = (0, *range(2, len(shape)))
    count = x.size // 3
    mean, var = statistics
    assert mean == Statistic("mean", mean.output, var.output, 0.7, own=("scale", "shift"))
    assert var == Statistic("var", var.output, var.output, 0.7, count / (count - 1), ("scale", "shift"))
    np.testing.assert_allclose(found[mean.output], x.mean(axes))
    np.testing.assert_allclose(found[var.output] * var.factor, x.var(axes, ddof=1))


def test_the_inference_form_stays():
    graph = normalised(training=False)
    assert batch_statistics(graph) == ()
    assert [type(n.op) for n in graph.nodes] == [BatchNorm]


def test_one_value_a_channel_has_no_statistics():
    with pytest.raises(UnsupportedError, match=r"batch normalisation bn of f64\[1,3,1,1\]: one value a channel"):
        batch_statistics(normalised((1, 3, 1, 1)))


def test_a_bias_before_it_has_no_gradient_at_all():
    """Its gradient is zero in exact arithmetic; in float32 it would be noise, which Adam scales up to full steps."""
    graph = normalised(bias=True)
    batch_statistics(graph)
    loss = Build(graph).total(Build(graph).unary("exp", dict(graph.outputs)["y"]))
    inputs = {v.name: v for v in graph.inputs}
    db, dscale, dmean = gradients(graph, loss, [inputs["b"], inputs["scale"], inputs["mean"]])
    assert db is None
    assert dmean is None
    assert dscale is not None


def test_the_gradient_is_that_of_the_batch():
    graph = normalised((3, 2))
    batch_statistics(graph)
    inputs = {v.name: v for v in graph.inputs}
    build = Build(graph)
    weights = graph.add_input("r", TensorType(F64, (3, 2)))
    loss = build.total(build.mul(dict(graph.outputs)["y"], weights))
    (dx,) = gradients(graph, loss, [inputs["x"]])
    graph.outputs = [("loss", loss), ("dx", dx)]
    graph.prune()
    feeds = feeds_of(graph)
    found = evaluate(graph, feeds)["dx"]
    for index in np.ndindex(3, 2):
        ends = []
        for sign in (1, -1):
            moved = feeds["x"].copy()
            moved[index] += sign * 1e-5
            ends.append(evaluate(graph, feeds | {"x": moved})["loss"])
        assert found[index] == pytest.approx((ends[0] - ends[1]) / 2e-5, abs=1e-7)


@pytest.mark.parametrize("shape", [(4, 3, 2, 2), (4, 3)])
def test_there_is_one_barrier_each_way(shape):
    """What takes the batch part by part waits for all of it once going forward and once more coming back."""
    graph = normalised(shape)
    batch_statistics(graph)
    build, inputs = Build(graph), {v.name: v for v in graph.inputs}
    y = dict(graph.outputs)["y"]
    seed = build.mul(y, build.mul(y, y))  # streams, too
    (dx,) = gradients(graph, y, [inputs["x"]], seed=seed)
    assert dx is not None
    graph.outputs = [("y", y), ("dx", dx)]
    graph.prune()
    share(graph)
    found = streaming_of(graph, ["x"], (), 4)
    barriers = dict.fromkeys(graph.inputs, 0)
    for each in graph.nodes:
        whole = [v for v in each.inputs if each in found.nodes and v not in found.axes and v not in graph.constants]
        late = [barriers[v] + (graph.producer(v) is not None) for v in whole]
        barriers.update(dict.fromkeys(each.outputs, max([*late, *(barriers.get(v, 0) for v in each.inputs)])))
    assert (barriers[y], barriers[dx]) == (1, 2)


# -- shifts --------------------------------------------------------------------------------------------------------


def shifted(make):
    """A graph of inputs v, w [2, 3, 4], per-channel b and number s, with output y = make(build, v, w, b, s)."""
    graph = Graph()
    shapes = {"v": (2, 3, 4), "w": (2, 3, 4), "b": (1, 3, 1), "s": (1,)}  # w as a kernel: two filters of 4 taps
    inputs = [graph.add_input(n, TensorType(F64, shape)) for n, shape in shapes.items()]
    graph.outputs = [("y", make(Build(graph), *inputs))]
    return graph


def less_mean(g, x, axes):
    return g.sub(x, g.reduce("mean", x, axes))


def softmax(g, x):
    powers = g.unary("exp", g.sub(x, g.reduce("max", x, (2,))))
    return g.div(powers, g.reduce("sum", powers, (2,)))


def conv(g, x, w, stride=1, pad=0):
    kernel = g.slice(w, (0, 0, 0), (2, 3, 2))
    return g.emit(Conv((stride,), (pad, pad), (1,)), x, kernel)


CANCEL = {
    "channel": (lambda g, v, w, b, s: less_mean(g, g.add(v, b), (0, 2)), "b"),
    "instance": (lambda g, v, w, b, s: less_mean(g, g.add(b, v), (2,)), "b"),
    "pair": (lambda g, v, w, b, s: g.sub(g.add(v, s), g.add(w, s)), "s"),
    "average": (lambda g, v, w, b, s: g.sub(g.add(v, s), g.reduce("mean", g.add(w, s), (0, 1, 2), False)), "s"),
    "reshaped": (
        lambda g, v, w, b, s: g.sub(g.reshape(g.add(v, g.reshape(s, ())), (24,)), g.reshape(g.add(w, s), (24,))),
        "s",
    ),
    "residual": (lambda g, v, w, b, s: less_mean(g, g.add(w, g.add(v, b)), (0, 2)), "b"),
    "scaled": (lambda g, v, w, b, s: less_mean(g, g.div(g.add(v, b), s), (0, 2)), "b"),
    "point by point": (lambda g, v, w, b, s: less_mean(g, conv(g, g.add(v, b), w), (0, 2)), "b"),
    "strided": (lambda g, v, w, b, s: less_mean(g, conv(g, g.add(v, b), w, 2), (2,)), "b"),
    "rows": (lambda g, v, w, b, s: less_mean(g, g.matmul(g.transpose(g.add(v, b), (0, 2, 1)), w), (1,)), "b"),
    "keys": (lambda g, v, w, b, s: softmax(g, g.matmul(g.transpose(w, (0, 2, 1)), g.add(v, b))), "b"),
    "flat keys": (
        lambda g, v, w, b, s: softmax(
            g, g.reshape(g.add(g.reshape(v, (2, 3, 2, 2)), g.reshape(b, (3, 1, 1))), (2, 3, 4))
        ),
        "b",
    ),
    "transposed": (lambda g, v, w, b, s: less_mean(g, g.transpose(g.add(v, b), (1, 0, 2)), (1, 2)), "b"),
}
STAY = {
    "varies": lambda g, v, w, b, s: less_mean(g, g.add(v, b), (1,)),
    "other mean": lambda g, v, w, b, s: g.sub(g.add(v, b), g.reduce("mean", w, (0, 2))),
    "other number": lambda g, v, w, b, s: g.sub(g.add(v, s), g.add(w, 1.0)),
    "sum": lambda g, v, w, b, s: g.sub(g.add(v, s), g.reduce("sum", g.add(w, s), (0, 1, 2))),
    "padded": lambda g, v, w, b, s: less_mean(g, conv(g, g.add(v, b), w, pad=1), (0, 2)),
    "columns": lambda g, v, w, b, s: less_mean(g, g.matmul(g.transpose(w, (0, 2, 1)), g.add(v, b)), (1,)),
    "part of a block": lambda g, v, w, b, s: less_mean(g, g.reshape(g.add(v, b), (2, 12)), (1,)),
}


@pytest.mark.parametrize("name", CANCEL)
def test_shifts_that_cancel_are_taken_out(name):
    make, gone = CANCEL[name]
    graph = shifted(make)
    feeds = feeds_of(graph)
    before = evaluate(graph, feeds)["y"]
    cancel_shifts(graph)
    verify(graph)
    np.testing.assert_allclose(evaluate(graph, feeds)["y"], before, atol=1e-12)
    read = {v.name for n in graph.nodes for v in n.inputs}
    assert gone not in read


@pytest.mark.parametrize("name", STAY)
def test_shifts_that_do_not_cancel_stay(name):
    graph = shifted(STAY[name])
    feeds = feeds_of(graph)
    before, count = evaluate(graph, feeds)["y"], len(graph.nodes)
    cancel_shifts(graph)
    np.testing.assert_array_equal(evaluate(graph, feeds)["y"], before)
    assert len(graph.nodes) == count
    assert any(isinstance(n.op, Binary | Reduce) for n in graph.nodes)


def test_a_shift_behind_a_convolution_leaves_the_statistics_as_they_were():
    """A bias, a convolution without padding, batch normalisation: the bias only moves the running mean."""
    graph = Graph()
    names = ("scale", "shift", "mean", "var")
    x = graph.add_input("x", TensorType(F64, (2, 3, 4, 4)))
    b = graph.add_input("b", TensorType(F64, (3, 1, 1)))
    w = graph.add_input("w", TensorType(F64, (5, 3, 2, 2)))
    held = [graph.add_input(n, TensorType(F64, (5,))) for n in names]
    build = Build(graph)
    y = build.emit(Conv((1, 1), (0,) * 4, (1, 1)), build.add(x, b), w)
    graph.outputs = [("y", build.emit(BatchNorm(training=True), y, *held))]
    feeds = feeds_of(graph)
    kernels = np.lib.stride_tricks.sliding_window_view(feeds["x"] + feeds["b"], (2, 2), axis=(2, 3))
    convolved = np.einsum("nchwij,mcij->nmhw", kernels, feeds["w"])
    statistics = batch_statistics(graph)
    verify(graph)
    found = evaluate(graph, feeds)
    np.testing.assert_allclose(found[statistics[0].output], convolved.mean((0, 2, 3)))
    np.testing.assert_allclose(found[statistics[1].output], convolved.var((0, 2, 3)))
    (slope,) = gradients(graph, build.total(dict(graph.outputs)["y"]), [b])
    assert slope is None


def test_each_application_counts_in_the_file_and_again_after_an_update():
    """D is applied to the samples twice in the file, for the loss of each phase, and once to data: the generator's
    phase moves its statistics once, the discriminator's twice, in the order of the file.
    """
    proto = normalised_gan()
    options = {"phases": ["generator=loss_g", "discriminator=loss_d"], "optimizer": "sgd", "lr": 0.1, "batch": BATCH}
    (feed,) = feeds(proto, 1)
    for once in ([], ["fake"]):
        program = mgc.compile(proto, once=once, **options)
        simulator = mgc.Simulator(program, numerics="float")
        simulator.train(inputs=feed, steps=1)
        states = simulator.states()
        start = {t.name: numpy_helper.to_array(t).astype(np.float64) for t in proto.graph.initializer}
        # the discriminator is as it was in both phases, the generator has moved unless its samples are kept
        before = feed["z"] @ start["generator.w"]
        after = before if once else feed["z"] @ states["generator.w"]
        mean, var = start["discriminator.n.mean"], start["discriminator.n.var"]
        for x in (before, feed["x"], after):
            hidden = x @ start["discriminator.a"]
            mean = 0.9 * mean + 0.1 * hidden.mean(0)
            var = 0.9 * var + 0.1 * hidden.var(0, ddof=1)
        np.testing.assert_allclose(states["discriminator.n.mean"], mean, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(states["discriminator.n.var"], var, rtol=1e-5)


def normalised_gan():
    def critic(x, y):
        norm = f"{y}.1 discriminator.n.scale discriminator.n.bias discriminator.n.mean discriminator.n.var"
        return [
            node("MatMul", f"{x} discriminator.a", f"{y}.1"),
            node("BatchNormalization", norm, f"{y}.2 {y}.m {y}.v", training_mode=1, momentum=0.9),
            node("MatMul", f"{y}.2 discriminator.b", y),
        ]

    nodes = [
        node("MatMul", "z generator.w", "fake"),
        *critic("fake", "again"),
        *squares("again", "one", "loss_g"),
        *critic("x", "real"),
        detach("fake", "cut"),
        *critic("cut", "made"),
        *squares("real", "one", "loss_real"),
        *squares("made", "zero", "loss_fake"),
        node("Add", "loss_real loss_fake", "loss_d"),
    ]
    rng = np.random.default_rng(2)
    weights = {
        "generator.w": (3, 4),
        "discriminator.a": (4, 5),
        "discriminator.b": (5, 1),
        "discriminator.n.scale": rng.uniform(0.5, 1.5, 5),
        "discriminator.n.bias": (5,),
        "discriminator.n.mean": (5,),
        "discriminator.n.var": rng.uniform(0.5, 1.5, 5),
        "one": np.ones(()),
        "zero": np.zeros(()),
    }
    return model(nodes, {"z": [BATCH, 3], "x": [BATCH, 4]}, {"loss_g": [], "loss_d": []}, weights)


@pytest.mark.parametrize(("op", "more", "moved"), [("Tile", " ones", False), ("Identity", "", True)])
def test_copies_of_running_statistics_do_not_move(op, more, moved):
    """MUNIT repeats the buffers of its adaptive normalisation for each sample: they stay, also with one sample."""
    nodes = [
        node("MatMul", "z generator.w", "hidden"),
        node(op, f"generator.n.mean{more}", "mean"),
        node(op, f"generator.n.var{more}", "var"),
        node("BatchNormalization", "hidden generator.n.scale generator.n.bias mean var", "y m v", training_mode=1),
        *squares("y", "zero", "loss_g"),
    ]
    vectors = ("scale", "bias", "mean", "var")
    weights = {
        "generator.w": (3, 4),
        **{f"generator.n.{n}": np.arange(1, 5) / 4 for n in vectors},
        "zero": np.zeros(()),
    }
    extra = {"ones": np.array([1])} if more else {}
    proto = model(nodes, {"z": [BATCH, 3]}, {"loss_g": []}, weights, integers=extra)
    program = mgc.compile(proto, phases=["generator=loss_g"], optimizer="sgd", batch=BATCH)
    assert ("generator.n.mean" in {s.name for s in program.states}) is moved
