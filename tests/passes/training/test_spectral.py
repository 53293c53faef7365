"""Spectral normalisation in training, as the exporters write it in both forms: against the rules, in NumPy's float64,
with gradients by central differences.
"""

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted import BATCH, detach, feeds, model, node

import mgc
from mgc.ir.build import Build
from mgc.ir.graph import Graph, evaluate
from mgc.ir.ops import Conv, ConvTranspose
from mgc.ir.types import DType, TensorType
from mgc.passes.tensor.scaled import scale_products

RATE = 0.2
ITERATIONS = 3
STEP = 1e-6
ROWS, COLS = 3, 4
KINDS = {
    "hook": ("d.weight_orig", "d.weight_u", "d.weight_v"),
    "parametrization": (
        "d.parametrizations.weight.original",
        "d.parametrizations.weight.0._u",
        "d.parametrizations.weight.0._v",
    ),
}


def unit(x):
    return x / max(np.linalg.norm(x), 1e-12)


def power(kind, steps, w, u, v):
    """What a forward pass in training makes of the vectors."""
    m = w.reshape(ROWS, COLS)
    for _ in range(steps):
        if kind == "hook":
            v = unit(m.T @ u)
            u = unit(m @ v)
        else:
            u = unit(m @ v)
            v = unit(m.T @ u)
    return u, v


def iterated(kind, steps, tag, start):
    """Nodes of a power iteration from the one vector it begins with; the names of u and v."""
    nodes, made = [], {"u": start, "v": start}
    for k in range(steps):
        for which in "vu" if kind == "hook" else "uv":
            name, matrix, other = f"{which}{tag}.{k}", {"u": "m", "v": "mt"}[which] + tag, made["uv".replace(which, "")]
            nodes += [
                node("MatMul", f"{matrix} {other}", f"{name}.mv"),
                node("ReduceL2", f"{name}.mv", f"{name}.norm", keepdims=1),
                node("Clip", f"{name}.norm least", f"{name}.most"),
                node("Div", f"{name}.mv {name}.most", name),
            ]
            made[which] = name
    return nodes, made["u"], made["v"]


def applied(kind, form, steps, tag, image, start):
    """Nodes of one application of the layer to an image; what the next one starts from."""
    weight, u, v = KINDS[kind]
    nodes = [node("Reshape", f"{weight} matrix", f"m{tag}"), node("Transpose", f"m{tag}", f"mt{tag}", perm=[1, 0])]
    after = start
    if form == "training":
        more, u, v = iterated(kind, steps, tag, start)
        after = u if kind == "hook" else v
        nodes += [*more, node("Identity", u, f"cu{tag}"), node("Identity", v, f"cv{tag}")]
        u, v = f"cu{tag}", f"cv{tag}"
    nodes += [
        node("MatMul", f"m{tag} {v}", f"mv{tag}"),
        node("MatMul", f"{u} mv{tag}", f"sigma{tag}"),
        node("Div", f"{weight} sigma{tag}", f"w{tag}"),
        node("Conv", f"{image} w{tag}", f"y{tag}"),
        node("Tanh", f"y{tag}", f"t{tag}"),
        node("ReduceMean", f"t{tag}", f"score{tag}", keepdims=0),
    ]
    return nodes, after


def step(kind, form, steps=1):
    weight, u, v = KINDS[kind]
    start = u if kind == "hook" else v
    one, start = applied(kind, form, steps, "1", "fake", start)
    two, start = applied(kind, form, steps, "2", "x", start)
    three, _ = applied(kind, form, steps, "3", "cut", start)
    nodes = [
        node("MatMul", "z g.weight", "pre"),
        node("Tanh", "pre", "flat"),
        node("Reshape", "flat picture", "fake"),
        *one,
        node("Neg", "score1", "loss_g"),
        *two,
        detach("fake", "cut"),
        *three,
        node("Sub", "score3 score2", "loss_d"),
    ]
    rng = np.random.default_rng(1)
    vectors = {u: unit(rng.standard_normal(ROWS)), v: unit(rng.standard_normal(COLS))}
    if form == "training":
        del vectors[v if kind == "hook" else u]
    weights = {"g.weight": (3, 9), weight: (ROWS, 1, 2, 2), **vectors, "least": np.array(1e-12)}
    integers = {"matrix": np.array([ROWS, COLS]), "picture": np.array([-1, 1, 3, 3])}
    inputs, outputs = {"z": [BATCH, 3], "x": [BATCH, 1, 3, 3]}, {"loss_g": [], "loss_d": [], "fake": [BATCH, 1, 3, 3]}
    return model(nodes, inputs, outputs, weights, integers)


def score(image, w, u, v):
    windows = np.lib.stride_tricks.sliding_window_view(image[:, 0], (2, 2), axis=(1, 2))
    sigma = u @ (w.reshape(ROWS, COLS) @ v)
    return float(np.tanh(np.einsum("bhwij,cij->bchw", windows, w[:, 0] / sigma)).mean())


def slope(f, x):
    found = np.zeros_like(x)
    for at in np.ndindex(x.shape):
        ends = []
        for sign in (1, -1):
            moved = x.copy()
            moved[at] += sign * STEP
            ends.append(f(moved))
        found[at] = (ends[0] - ends[1]) / (2 * STEP)
    return found


def followed(proto, kind, steps):
    """The losses of the iterations, and the states after them, by the rules."""
    names = KINDS[kind]
    held = {t.name: onnx.numpy_helper.to_array(t).astype(np.float64) for t in proto.graph.initializer}
    w, u, v, g = (
        held[names[0]],
        held.get(names[1], np.zeros(ROWS)),
        held.get(names[2], np.zeros(COLS)),
        held["g.weight"],
    )
    losses = {"loss_g": [], "loss_d": []}
    for feed in feeds(proto, ITERATIONS):

        def fake(g, feed=feed):
            return np.tanh(feed["z"] @ g).reshape(-1, 1, 3, 3)

        made = fake(g)
        u, v = power(kind, steps, w, u, v)
        losses["loss_g"].append(-score(made, w, u, v))
        g = g - RATE * slope(lambda g, w=w, u=u, v=v, fake=fake: -score(fake(g), w, u, v), g)
        real = power(kind, steps, w, u, v)
        u, v = again = power(kind, steps, w, *real)

        def loss_d(w, x=feed["x"], made=made, real=real, again=again):
            return score(made, w, *again) - score(x, w, *real)

        losses["loss_d"].append(loss_d(w))
        w = w - RATE * slope(loss_d, w)
    return losses, {"g.weight": g, names[0]: w, names[1]: u, names[2]: v}


def trained(proto, numerics="float", engine="fast", **options):
    program = mgc.compile(
        proto,
        phases=["g=loss_g", "d=loss_d"],
        once=["fake"],
        optimizer="sgd",
        lr=RATE,
        batch=BATCH,
        **options,
    )
    data = feeds(proto, ITERATIONS)
    simulator = mgc.Simulator(program, numerics=numerics, engine=engine)
    inputs = {name: np.concatenate([d[name] for d in data]) for name in data[0]}
    progress = simulator.train(inputs=inputs, steps=ITERATIONS)
    return progress.history, simulator.states()


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_training_moves_the_vectors_with_every_application(kind, steps):
    proto = step(kind, "training", steps)
    losses, states = followed(proto, kind, steps)
    for engine in ("fast", "reference"):
        history, found = trained(proto, engine=engine)
        for name, values in losses.items():
            np.testing.assert_allclose(history[name], values, rtol=1e-4, atol=1e-7)
        for name, value in states.items():
            np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_exported_for_evaluation_trains_as_in_training(kind):
    """A layer whose weight is trained iterates, whatever form it has in the file; equal applications stay apart."""
    proto = step(kind, "evaluation")
    losses, states = followed(proto, kind, 1)
    history, found = trained(proto)
    for name, values in losses.items():
        np.testing.assert_allclose(history[name], values, rtol=1e-4, atol=1e-7)
    for name, value in states.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-6, err_msg=name)


def test_quantized_training_follows():
    proto = step("hook", "training")
    _, states = followed(proto, "hook", 1)
    runs = [trained(proto, "quantized", engine)[1] for engine in ("fast", "reference")]
    for name, value in states.items():
        np.testing.assert_array_equal(runs[0][name], runs[1][name])
        assert np.abs(runs[0][name] - value).max() <= 0.1 * np.abs(value).max()


CONV = Conv(strides=(1, 1), pads=(0, 0, 0, 0), dilations=(1, 1))
TURNED = ConvTranspose(strides=(1, 1), pads=(0, 0, 0, 0), output_padding=(0, 0), dilations=(1, 1))
SHAPES = st.sampled_from([(CONV, (2, 3, 4, 4), (5, 3, 2, 2)), (TURNED, (2, 3, 4, 4), (3, 5, 2, 2))])


@settings(max_examples=30, deadline=None)
@given(SHAPES, st.sampled_from(["one", "rows", "columns"]), st.sampled_from(["mul", "div"]), st.integers(0, 99))
def test_products_by_scaled_weights_are_scaled(layer, along, fn, seed):
    """Along either channel axis; then no product by a computed weight is left."""
    op, x_shape, w_shape = layer
    size = {"one": (), "rows": (w_shape[0], 1, 1, 1), "columns": (1, w_shape[1], 1, 1)}[along]
    rng = np.random.default_rng(seed)
    graph = Graph("scaled")
    shapes = {"x": x_shape, "w": w_shape, "s": size}
    x, w, s = (graph.add_input(name, TensorType(DType.F32, shape)) for name, shape in shapes.items())
    build = Build(graph)
    scaled = build.binary(fn, w, build.unary("exp", s))
    graph.outputs.append(("y", build.emit(op, x, scaled)))
    inputs = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    before = evaluate(graph, inputs)["y"]
    scale_products(graph, {"w"})
    np.testing.assert_allclose(evaluate(graph, inputs)["y"], before, rtol=1e-4, atol=1e-4)
    (product,) = [n for n in graph.nodes if isinstance(n.op, Conv | ConvTranspose)]
    assert product.inputs[1] is w
