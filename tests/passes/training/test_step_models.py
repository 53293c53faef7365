"""Step models from both exporters, trained: losses and every weight follow PyTorch; what cannot is said by name."""

import numpy as np
import pytest
from iterations import check_forward, iterate
from oracle import DATA, RULES, OrtStep, follow, load, network, recorded

from mgc.ir.op import IRError
from mgc.ir.training import Phase
from mgc.passes.manager import UnsupportedError
from mgc.passes.training.model import step_model

LOSSES = ("bce", "soft", "minimax", "softplus", "lsgan", "wgan", "hinge", "hingemin", "relativistic", "average")
RUNS = [(f"mlp_{loss}", e, rule) for loss in LOSSES for e in ("dynamo", "ts") for rule in ("adam", "rmsprop")]
RUNS += [(name, e, "adam") for name in ("odd", "cyclegan", "pix2pix") for e in ("dynamo", "ts")]
RUNS += [("dcgan", e, "adam") for e in ("plain", "ts")]
RUNS += [("tied", e, "adam") for e in ("dynamo", "plain", "ts", "tseval")]
RUNS += [("separable", e, "adam") for e in ("plain", "ts")]
RUNS += [("stripes", "dynamo", "momentum")]


def phases_of(name):
    """Phases and patterns of a step model."""
    if name == "cyclegan":
        # the first group's name is no prefix: a pattern says what it holds
        phases = [Phase("generators", "loss_g"), Phase("dis_a", "loss_a"), Phase("dis_b", "loss_b")]
        return phases, {"generators": ["gen_*"]}
    clip = 0.05 if name == "mlp_wgan" else None
    return [Phase("discriminator", "loss_d", clip=clip), Phase("generator", "loss_g")], {}


def build(name, exporter, rule, warnings=None):
    source = load(f"step_{name}_{exporter}")
    phases, globs = phases_of(name)
    model = step_model(network(source), phases, globs, warnings=[] if warnings is None else warnings)
    check_forward(model)
    return source, model, iterate(model, phases, RULES[rule])


@pytest.mark.parametrize("float64", [False, True], ids=["onnxruntime", "float64"])
@pytest.mark.parametrize(("name", "exporter", "rule"), RUNS)
def test_training_follows_pytorch(name, exporter, rule, float64):
    warnings: list[str] = []
    source, model, iteration = build(name, exporter, rule, warnings)
    assert not [w for w in (*source.warnings, *warnings) if "no effect" not in w and "wants --once" not in w]
    with np.load(DATA / f"step_{name}.npz") as archive:
        arrays = dict(archive)
    names = {s.name: source.parameters.get(s.onnx_name, s.onnx_name) for s in model.states}
    initial = {s.name: s.initial for s in model.states}
    follow(
        iteration,
        recorded(arrays, "data"),
        recorded(arrays, rule),
        names,
        initial=initial,
        float64=float64,
        tolerance=1e-6 if float64 else 1e-3,
    )


@pytest.mark.parametrize("exporter", ["dynamo", "tseval"])
def test_folded_normalisations_are_mentioned_and_trained_as_plain_layers(exporter):
    source, model, iteration = build("dcgan", exporter, "adam")
    (folded,) = (w for w in source.warnings if "was folded by the exporter into" in w)
    layers, how = {
        "dynamo": (
            ("generator.main.0.weight (generator.main.1)", "generator.main.3.weight (generator.main.4)"),
            "export with torch.onnx.export(..., dynamo=True, optimize=False)",
        ),
        "tseval": (
            ("(discriminator.main.2)", "(discriminator.main.5)"),
            "dynamo=False, training=torch.onnx.TrainingMode.PRESERVE, do_constant_folding=False)",
        ),
    }[exporter]
    assert all(layer in folded for layer in layers)
    assert folded.count("(generator.main") + folded.count("(discriminator.main") == 2
    assert folded.endswith(how)
    # every convolution of both networks is trained, under whatever name the exporter gave its weights
    qualified = {source.parameters[s.onnx_name] for s in model.states if s.kind == "parameter"}
    weights = {f"generator.main.{k}.weight" for k in (0, 3, 6)} | {
        f"discriminator.main.{k}.weight" for k in (0, 2, 5, 8)
    }
    assert weights <= qualified
    assert not [w for w in iteration.warnings if "without effect" in w and ".weight" in w]


def test_without_the_exporters_notes_merged_weights_come_apart_by_their_place():
    """Stripped of its notes, the dynamo export trains as it does with them."""
    (_, noted, first), (_, bare, second) = (build("dcgan", e, "adam") for e in ("dynamo", "bare"))
    assert len(noted.states) == len(bare.states)
    with np.load(DATA / "step_dcgan.npz") as archive:
        data = recorded(dict(archive), "data")
    results = []
    for iteration in (first, second):
        runner, states, losses = OrtStep(iteration.step), iteration.initial(), []
        for i in range(4):
            found, states = runner.run({k: v[i] for k, v in data.items()}, states)
            losses.append(found)
        results.append((losses, states))
    (losses, states), (bare_losses, bare_states) = results
    assert losses == bare_losses
    weights, bare_weights = (
        sorted(np.sort(v.reshape(-1)).tolist() for v in found.values() if v.size > 1) for found in (states, bare_states)
    )
    assert weights == bare_weights


def test_both_exporters_give_the_same_states():
    named = []
    for exporter in ("plain", "ts"):
        source, model, _ = build("dcgan", exporter, "adam")
        named.append({(source.parameters.get(s.onnx_name, s.onnx_name), s.kind, s.group) for s in model.states})
    assert named[0] == named[1]
    assert ("discriminator.main.3.running_var", "statistic", "discriminator") in named[0]


def test_a_transposed_weight_keeps_its_initializer():
    source, model, _ = build("odd", "dynamo", "adam")
    (state,) = [s for s in model.states if source.parameters.get(s.onnx_name) == "discriminator.token.weight"]
    assert state.initial.shape == (6, 4)  # PyTorch's is [4, 6]
    assert state.name == state.onnx_name


def test_constants_of_a_loss_are_no_parameters():
    source, model, _ = build("mlp_soft", "dynamo", "adam")
    assert set(source.weights) - set(source.parameters)
    assert {s.name for s in model.states} == set(source.parameters)


def test_what_a_phase_cannot_find_is_listed():
    source = load("step_mlp_bce_ts")
    with pytest.raises(UnsupportedError, match="model has no output 'loss_x'; its outputs are loss_d, loss_g"):
        step_model(network(source), [Phase("discriminator", "loss_x")], warnings=[])
    message = r"phase critic trains nothing: no float initializer is named critic\.\*.*found: discriminator, generator"
    with pytest.raises(UnsupportedError, match=message):
        step_model(network(source), [Phase("critic", "loss_d")], warnings=[])
    phases = [Phase("a", "loss_d"), Phase("b", "loss_g")]
    model = step_model(network(source), phases, {"a": ["disc*"], "b": ["*"]}, warnings=[])
    assert {(s.group, s.shared) for s in model.states} == {("a", ("b",)), ("b", ())}


def test_a_loss_that_is_no_number_is_refused():
    source = load("step_mlp_bce_ts")
    source.imported.graph.outputs.append(("loss_x", source.imported.graph.inputs[0]))
    with pytest.raises(IRError, match=r"loss 'loss_x' is f32\[4,.*: a float scalar is needed"):
        step_model(network(source), [Phase("discriminator", "loss_x")], warnings=[])
