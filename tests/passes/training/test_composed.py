"""G, D and a loss's name, composed and trained: losses and every weight follow PyTorch over four iterations."""

from dataclasses import replace

import numpy as np
import pytest
from iterations import check_forward, forward_of, graph_of, iterate
from oracle import DATA, RULES, follow, load, network, recorded

from mgc.ir.training import Phase
from mgc.passes.manager import UnsupportedError
from mgc.passes.training.compose import compose
from mgc.passes.training.losses import LOSSES

PHASES = (Phase("discriminator", "loss_d"), Phase("generator", "loss_g"))
# (net, exporter, loss, optimizer, redraw)
RUNS = [("mlp", "ts", loss, rule, False) for loss in LOSSES for rule in RULES]
RUNS += [("mlp", "dynamo", loss, "adam", False) for loss in LOSSES]
RUNS += [("mlp", "ts", "bce", "adam", True), ("mlp", "dynamo", "bce", "adam", True)]
RUNS += [("mlpsig", e, *run, False) for e in ("ts", "dynamo") for run in (("bce", "adam"), ("minimax", "sgd"))]
DCGAN = [("bce", "adam"), ("wgan-gp", "rmsprop"), ("relativistic-average", "sgd")]
RUNS += [("dcgan", e, *run, False) for e in ("plain", "ts") for run in DCGAN]
RUNS += [("dcgan", "ts", "bce", "sgd", True)]
RUNS += [("odd", e, *run, False) for e in ("dynamo", "ts") for run in (("hinge", "adam"), ("wgan-gp", "sgd"))]


def composed(net, exporter, loss, *, redraw=False, warnings=None):
    g, d = load(f"{net}_G_{exporter}"), load(f"{net}_D_{exporter}")
    model = compose(network(g), network(d), loss, [] if warnings is None else warnings, redraw_noise=redraw)
    check_forward(model)
    files = {"generator": g, "discriminator": d}
    names = {s.name: f"{s.network}.{files[s.network].parameters.get(s.onnx_name, s.onnx_name)}" for s in model.states}
    return model, names


@pytest.mark.parametrize("float64", [False, True], ids=["onnxruntime", "float64"])
@pytest.mark.parametrize(("net", "exporter", "loss", "rule", "redraw"), RUNS)
def test_training_follows_pytorch(net, exporter, loss, rule, redraw, float64):
    model, names = composed(net, exporter, loss, redraw=redraw)
    phases = [replace(PHASES[0], clip=0.1 if loss == "wgan" else None), PHASES[1]]
    iteration = iterate(model, phases, RULES[rule])
    with np.load(DATA / f"composed_{net}.npz") as archive:
        arrays = dict(archive)
    expected = recorded(arrays, f"{loss}-{rule}{'-redraw' if redraw else ''}")
    initial = {s.name: s.initial for s in model.states}
    tolerance = 1e-6 if float64 else 1e-3
    data = recorded(arrays, "data")
    follow(iteration, data, expected, names, initial=initial, float64=float64, tolerance=tolerance)


def test_data_and_states_of_a_composed_model():
    model, _ = composed("mlp", "ts", "wgan-gp")
    drawn = [(d.name, d.draw) for d in forward_of(model).data]
    assert drawn == [
        ("z", "normal"),
        ("x", "given"),
        ("epsilon", "uniform"),
    ]
    assert forward_of(model).losses == ("loss_d", "loss_g")
    # both files call their weights net.0.weight and so on: the states say whose, the initializers keep their names
    state = next(s for s in model.states if s.name == "generator.net.0.weight")
    assert (state.kind, state.group, state.network, state.onnx_name) == (
        "parameter",
        "generator",
        "generator",
        "net.0.weight",
    )
    assert {s.group for s in model.states} == {"generator", "discriminator"}


def test_where_networks_share_names_all_say_whose_they_are():
    model, _ = composed("odd", "ts", "bce")
    names = {s.name for s in model.states}
    assert all(s.name.startswith(f"{s.network}.") for s in model.states)
    assert {"generator.fc.weight", "generator.up.weight"} <= names
    assert len({n.partition(".")[0] for n in names}) == 2


def test_wgan_without_clipping_is_mentioned():
    g, d = network(load("mlp_G_ts")), network(load("mlp_D_ts"))
    free, clipped = [], []
    compose(g, d, "wgan", free)
    compose(g, d, "wgan", clipped, clipped=True)
    assert any("clip its weights" in w for w in free)
    assert not clipped


def test_redrawn_noise_is_an_input_of_its_own():
    model, _ = composed("mlp", "ts", "bce", redraw=True)
    assert [d.name for d in forward_of(model).data] == ["z", "x", "z.redrawn"]


def test_a_sigmoid_at_the_end_is_taken_off_or_mentioned():
    plain, _ = composed("mlpsig", "ts", "bce")
    assert not any(getattr(n.op, "fn", "") == "sigmoid" for n in graph_of(plain).nodes)
    warnings: list[str] = []
    kept, _ = composed("mlpsig", "ts", "lsgan", warnings=warnings)
    assert any(getattr(n.op, "fn", "") == "sigmoid" for n in graph_of(kept).nodes)
    assert not warnings
    composed("mlpsig", "ts", "hinge", warnings=warnings)
    assert "the discriminator ends in a sigmoid, which loss hinge does not expect" in warnings


def test_what_does_not_fit_is_refused():
    g, d = network(load("mlp_G_ts")), network(load("odd_D_ts"))
    with pytest.raises(UnsupportedError, match="no loss 'gan': choose one of bce, minimax"):
        compose(g, g, "gan", [])
    with pytest.raises(UnsupportedError, match=r"gives f32\[4,8\] but the discriminator takes f32\[4,2,16,16\]"):
        compose(g, d, "bce", [])
    untrained = replace(g, attributes={"weights": replace(g.attributes["weights"], parameters={})})
    with pytest.raises(UnsupportedError, match="the generator has no parameters"):
        compose(untrained, d, "bce", [])
