"""Networks taken out of step models, models side by side, templates filled with trained weights."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from mgc.frontend.errors import ModelError
from mgc.frontend.inference_form import to_inference_form
from mgc.frontend.merge import merge_models
from mgc.frontend.networks import extract_networks
from mgc.frontend.template import composed_templates, step_templates
from mgc.frontend.training_model import load_trainable
from mgc.ir.training import State
from mgc.training.export import filled

DATA = Path(__file__).parents[1] / "data" / "training"
STEPS = sorted(p.stem for p in DATA.glob("step_*.onnx"))
FLOAT = TensorProto.FLOAT


def session(model):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(model.SerializeToString(), options)


def draw(model, seed=0):
    random = np.random.default_rng(seed)
    return {
        i.name: random.integers(0, 2, i.shape)
        if "int" in i.type
        else random.standard_normal(i.shape).astype(np.float32)
        for i in session(model).get_inputs()
    }


def outputs(model, feeds):
    run = session(model)
    names = [o.name for o in run.get_outputs()]
    return dict(zip(names, run.run(names, {i.name: feeds[i.name] for i in run.get_inputs()}), strict=True))


def group(qualified):
    return "generators" if qualified.startswith("gen_") else qualified.partition(".")[0]


def extracted(name, bare):
    loaded = load_trainable(DATA / f"{name}.onnx")
    groups = {k: group(v) for k, v in loaded.parameters.items() if not v.startswith("sub")}
    if bare:
        for node in loaded.model.graph.node:
            node.name = ""
            del node.metadata_props[:]
    found, warnings = extract_networks(loaded.model, groups, loaded.parameters)
    assert warnings == []
    return loaded, {n.name: n for n in found}


@pytest.mark.parametrize("bare", [False, True], ids=["noted", "bare"])
@pytest.mark.parametrize("name", STEPS)
def test_networks_of_a_step_model_compute_what_they_do_inside_it(name, bare):
    loaded, found = extracted(name, bare)
    whole = to_inference_form(loaded.model)
    known = {o.name for o in whole.graph.output}
    wanted = [o.name for n in found.values() for o in n.model.graph.output]
    whole.graph.output.extend(onnx.ValueInfoProto(name=n) for n in wanted if n not in known)
    feeds = draw(whole)
    inside = outputs(whole, feeds)
    for network in found.values():
        onnx.checker.check_model(network.model)
        alone = outputs(network.model, feeds)
        assert len(alone) == 1
        for output, value in alone.items():
            np.testing.assert_allclose(value, inside[output], rtol=1e-5, atol=1e-6)
    parameters = {t.name for n in found.values() for t in n.model.graph.initializer} & set(loaded.parameters)
    assert parameters == {p for p, q in loaded.parameters.items() if not q.startswith("sub")}


@pytest.mark.parametrize("bare", [False, True], ids=["noted", "bare"])
@pytest.mark.parametrize("exporter", ["ts", "dynamo"])
def test_their_borders(exporter, bare):
    def about(name):
        def kind(network):
            graph = network.model.graph
            shape = [d.dim_value for d in graph.output[0].type.tensor_type.shape.dim]
            return [i.name for i in graph.input], graph.node[-1].op_type, shape, network.generates

        return {n: kind(network) for n, network in extracted(f"{name}_{exporter}", bare)[1].items()}

    mlp = about("step_mlp_hinge")
    assert mlp["generator"] == (["z"], "Tanh", [4, 8], True)
    assert mlp["discriminator"] == (["x"], "Gemm", [4, 1], False)
    assert about("step_odd")["generator"][:2] == (["z"], "Sub")
    cycle = about("step_cyclegan")
    assert cycle["gen_ab"] == (["a"], "Gemm", [4, 8], True)
    assert cycle["gen_ba"] == (["b"], "Gemm", [4, 8], True)
    assert cycle["dis_a"] == (["a"], "Gemm", [4, 1], False)
    assert about("step_pix2pix")["discriminator"][0] == ["a", "b"]


def test_batch_normalisation_and_dropout_are_tested_as_such():
    for name in ("step_dcgan_ts", "step_dcgan_plain"):
        _, found = extracted(name, False)
        nodes = [n for network in found.values() for n in network.model.graph.node]
        norms = [n for n in nodes if n.op_type == "BatchNormalization"]
        assert norms
        assert all(len(n.output) == 1 and all(a.name != "training_mode" for a in n.attribute) for n in norms)
    dropout = helper.make_node("Dropout", ["x", "ratio", "training"], ["y", "mask"])
    values = [
        helper.make_tensor("ratio", FLOAT, [], [0.5]),
        helper.make_tensor("training", TensorProto.BOOL, [], [True]),
    ]
    ports = [helper.make_tensor_value_info(n, FLOAT, [3]) for n in "xy"]
    model = helper.make_model(helper.make_graph([dropout], "g", ports[:1], ports[1:], values), ir_version=10)
    found = to_inference_form(model)
    assert list(found.graph.node[0].input) == ["x"]
    assert list(found.graph.node[0].output) == ["y"]
    assert not found.graph.initializer
    np.testing.assert_array_equal(outputs(found, {"x": np.ones(3, np.float32)})["y"], np.ones(3))


def linear(features, into, out, *, weight="net.weight", opset=17):
    nodes = [helper.make_node("MatMul", [into, weight], ["h"]), helper.make_node("Tanh", ["h"], [out])]
    values = np.arange(features[0] * features[1], dtype=np.float32).reshape(features) / 10
    ports = [helper.make_tensor_value_info(n, FLOAT, ["N", f]) for n, f in zip((into, out), features, strict=True)]
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:], [onnx.numpy_helper.from_array(values, weight)])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def test_models_side_by_side():
    models = {"generator": linear((3, 5), "z", "y"), "discriminator": linear((5, 2), "x", "y")}
    merged = merge_models(models)
    onnx.checker.check_model(merged)
    feeds = {"z": np.ones((4, 3), np.float32), "x": np.ones((4, 5), np.float32)}
    found = outputs(merged, feeds)
    np.testing.assert_array_equal(found["y"], outputs(models["generator"], feeds)["y"])
    np.testing.assert_array_equal(found["discriminator/y"], outputs(models["discriminator"], feeds)["y"])
    assert [t.name for t in merged.graph.initializer] == ["net.weight", "discriminator.net.weight"]
    for model in models.values():
        assert [t.name for t in model.graph.initializer] == ["net.weight"]


def test_inputs_of_one_name_and_type_are_one():
    merged = merge_models({"a": linear((3, 5), "x", "y"), "b": linear((3, 2), "x", "s", weight="w")})
    assert [i.name for i in merged.graph.input] == ["x"]
    merged = merge_models({"a": linear((3, 5), "x", "y"), "b": linear((5, 2), "x", "s", weight="w")})
    assert [i.name for i in merged.graph.input] == ["x", "b.x"]


def test_models_of_different_opsets_stay_apart():
    models = {"generator": linear((3, 5), "z", "y", opset=17), "discriminator": linear((5, 2), "x", "s", opset=18)}
    with pytest.raises(ModelError, match=r"use versions 17 and 18 of operator set 'ai\.onnx'"):
        merge_models(models)
    found = composed_templates(models, states_of(models))
    assert found.whole is None
    assert found.meta()["whole"] is None
    assert len(found.networks) == 2
    assert "cannot be exported as one file" in found.warnings[0]


def states_of(models):
    """States as composing names them: with the network in front where both have a name."""
    names = [{t.name for t in m.graph.initializer} for m in models.values()]
    both = names[0] & names[1]
    return [
        State(f"{n}.{t.name}" if t.name in both else t.name, "parameter", onnx.numpy_helper.to_array(t), n, t.name, n)
        for n, m in models.items()
        for t in m.graph.initializer
    ]


@pytest.mark.parametrize("same", [False, True], ids=["own names", "same names"])
def test_templates_of_a_composed_step(same):
    names = {"weight": "net.weight"} if same else {}
    models = {
        "generator": linear((3, 5), "x" if same else "z", "y", **names),
        "discriminator": linear((5, 2), "x", "s", **names or {"weight": "d.weight"}),
    }
    states = states_of(models)
    weights = {s.name: s.initial * 2 for s in states}
    found = composed_templates(models, states)
    assert found.testing is found.networks[0]
    assert [s.name for s in found.networks] == ["generator", "discriminator"]
    assert b"".join(s.initial.tobytes() for s in states if s.initial.any()) not in found.tensors()["onnx/whole model"]
    rows = np.random.default_rng(1).standard_normal((4, 5)).astype(np.float32)
    z = rows[:, :3].copy()
    wanted = {
        "generator": {"y": np.tanh(z @ weights[states[0].name])},
        "discriminator": {"s": np.tanh(rows @ weights[states[1].name])},
    }
    tensors, meta = found.tensors(), found.meta()
    for name, feeds in {"generator": {"x" if same else "z": z}, "discriminator": {"x": rows}}.items():
        entry = meta["networks"][name]
        model = filled(tensors[entry["tensor"]].tobytes(), entry["states"], weights)
        assert [t.name for t in model.graph.initializer] == [t.name for t in models[name].graph.initializer]
        assert outputs(model, feeds).keys() == wanted[name].keys()
        for output, value in outputs(model, feeds).items():
            np.testing.assert_allclose(value, wanted[name][output], rtol=1e-5, atol=1e-6)
    whole = filled(tensors["onnx/whole model"].tobytes(), meta["whole"]["states"], weights)
    assert {t.name for t in whole.graph.initializer} == set(weights)
    feeds = {"x": z, "real": rows} if same else {"z": z, "x": rows}
    for output, value in outputs(whole, feeds).items():
        np.testing.assert_allclose(value, wanted["generator" if output == "y" else "discriminator"][output], rtol=1e-5)


@pytest.mark.parametrize("name", ["step_dcgan_ts", "step_cyclegan_dynamo", "step_mlp_bce_ts"])
def test_templates_of_a_step_model(name):
    loaded = load_trainable(DATA / f"{name}.onnx")
    states = [
        State(p, "parameter", loaded.weights[p], group(q), p)
        for p, q in loaded.parameters.items()
        if p in loaded.weights
    ]
    found = step_templates(loaded.model, states, loaded.parameters)
    assert found.warnings == ()
    assert found.whole is not None
    weights = {s.name: s.initial * np.float32(1.5) for s in states}
    changed = onnx.ModelProto()
    changed.CopyFrom(loaded.model)
    for tensor in changed.graph.initializer:
        if tensor.name in weights:
            tensor.CopyFrom(onnx.numpy_helper.from_array(weights[tensor.name], tensor.name))
    tensors, meta = found.tensors(), found.meta()
    model = filled(tensors[meta["whole"]["tensor"]].tobytes(), meta["whole"]["states"], weights)
    feeds = draw(model)
    for output, value in outputs(changed, feeds).items():
        np.testing.assert_array_equal(outputs(model, feeds)[output], value)
    assert found.testing is not None
    if "cyclegan" in name:
        assert sorted(o.name for o in found.testing.model.graph.output) == ["linear_1", "linear_3"]
        assert [i.name for i in found.testing.model.graph.input] == ["a", "b"]
        onnx.checker.check_model(found.testing.model)
        assert set(found.testing.states) == {s.name for s in states if s.group == "generators"}
    else:
        assert found.testing.name == "generator"
    for template in found.networks:
        assert set(template.states) == {s.name for s in states if s.group == template.name} or "cyclegan" in name
        entry = meta["networks"][template.name]
        onnx.checker.check_model(filled(tensors[entry["tensor"]].tobytes(), entry["states"], weights), full_check=True)


def test_templates_are_deterministic_and_small():
    loaded = load_trainable(DATA / "step_dcgan_ts.onnx")
    states = [State(p, "parameter", loaded.weights[p], group(q), p) for p, q in loaded.parameters.items()]
    first, second = (step_templates(loaded.model, states, loaded.parameters).tensors() for _ in range(2))
    assert all(first[n].tobytes() == second[n].tobytes() for n in first)
    assert first["onnx/whole model"].nbytes < loaded.model.ByteSize() - sum(s.initial.nbytes for s in states) + 99


def test_weights_go_back_in_the_initializers_own_type():
    model = linear((3, 5), "z", "y")
    half = onnx.numpy_helper.from_array(np.zeros((3, 5), np.float16), "net.weight")
    model.graph.initializer[0].CopyFrom(half)
    found = filled(model.SerializeToString(), {"net.weight": "w"}, {"w": np.full((3, 5), 1 / 3, np.float32)})
    value = onnx.numpy_helper.to_array(found.graph.initializer[0])
    assert value.dtype == np.float16
    assert (value == np.float16(1 / 3)).all()
