"""Initializers that PyTorch's exporters merged, dropped or renamed, put right before training."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from mgc.frontend.modules import Modules, Origin
from mgc.frontend.split_initializers import split_initializers
from mgc.frontend.training_model import load_trainable
from mgc.ir.ops import BatchNorm

DATA = Path(__file__).parents[1] / "data" / "training"


def load(name):
    return load_trainable(DATA / f"{name}.onnx", batch=4)


def batch_norms(model):
    """The initializers of every batch_norm, in order."""
    graph = model.imported.graph
    return [
        tuple(graph.constants[v].onnx_name for v in n.inputs[1:]) for n in graph.nodes if isinstance(n.op, BatchNorm)
    ]


def norm(path):
    return tuple(f"{path}.{role}" for role in ("weight", "bias", "running_mean", "running_var"))


def test_merged_normalisations_come_apart_under_their_own_names():
    """The dynamo export of a fresh model has one initializer for eight."""
    proto = onnx.load(DATA / "step_dcgan_dynamo.onnx")
    merged = [n for n in proto.graph.node if n.op_type == "BatchNormalization"]
    assert len({name for n in merged for name in n.input[1:]}) == 2
    found = batch_norms(load("step_dcgan_dynamo"))
    # applied to real samples, to fakes and to detached ones, which the exporter made one: the same parameters
    assert Counter(found) == dict.fromkeys((norm("discriminator.main.3"), norm("discriminator.main.6")), 3)


def test_the_torchscript_exporters_identities_are_initializers_again():
    proto = onnx.load(DATA / "step_dcgan_tseval.onnx")
    assert any(n.op_type == "Identity" and n.output[0] == "generator.main.1.running_mean" for n in proto.graph.node)
    model = load("step_dcgan_tseval")
    assert batch_norms(model) == [norm("generator.main.1"), norm("generator.main.4")]
    # what it folded has made-up names, and biases that are shared with the generator's normalisation
    assert model.parameters["discriminator.main.2.bias"] == "discriminator.main.2.bias"
    made_up = {v: k for k, v in model.parameters.items() if k.startswith("onnx::")}
    assert set(made_up) == {"discriminator.main.2.weight", "discriminator.main.5.weight"}


def test_training_form_is_kept_with_its_momentum():
    graph = load("dcgan_G_ts").imported.graph
    ops = [n.op for n in graph.nodes if isinstance(n.op, BatchNorm)]
    assert [(op.training, round(op.momentum, 6)) for op in ops] == [(True, 0.9), (True, 0.7)]


def test_nothing_is_written_to_the_model_that_was_given():
    proto = onnx.load(DATA / "step_dcgan_dynamo.onnx")
    before = proto.SerializeToString(deterministic=True)
    load_trainable(proto, batch=4)
    assert proto.SerializeToString(deterministic=True) == before


def test_the_split_model_still_is_the_model():
    import onnxruntime

    rng = np.random.default_rng(0)
    feeds = {
        "z": rng.standard_normal((4, 6, 1, 1)).astype(np.float32),
        "x": rng.standard_normal((4, 1, 16, 16)).astype(np.float32),
    }
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4

    def run(proto):
        return onnxruntime.InferenceSession(proto.SerializeToString(), options).run(None, feeds)

    for name in ("dynamo", "bare", "tseval"):
        proto = onnx.load(DATA / f"step_dcgan_{name}.onnx")
        for found, expected in zip(run(split_initializers(proto).model), run(proto), strict=True):
            np.testing.assert_array_equal(found, expected)


# -- hand-made models ----------------------------------------------------------------------------------------------


def call(target, *arguments):
    return (
        f"%y : [num_users=1] = call_function[target=torch.ops.aten.{target}.default](args = ({', '.join(arguments)}))"
    )


def noted(node, scopes, text):
    for key, value in (("name_scopes", repr([*scopes, "op"])), ("fx_node", text)):
        node.metadata_props.add(key=f"pkg.torch.onnx.{key}", value=value)
    return node


def model(nodes, weights, outputs=("y",), shape=(4, 3)):
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(o, TensorProto.FLOAT, None) for o in outputs],
        [numpy_helper.from_array(np.asarray(v, np.float32), k) for k, v in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])


RNG = np.random.default_rng(0)


def test_a_bias_that_was_dropped_because_it_is_zero_comes_back():
    gemm = helper.make_node("Gemm", ["x", "net.0.weight"], ["y"], transB=1)
    noted(gemm, ["", "net", "net.0"], call("linear", "%x", "%p_net_0_weight", "%p_net_0_bias"))
    found = split_initializers(model([gemm], {"net.0.weight": RNG.standard_normal((5, 3))}))
    assert found.parameters == {"net.0.weight": "net.0.weight", "net.0.bias": "net.0.bias"}
    assert list(found.model.graph.node[0].input) == ["x", "net.0.weight", "net.0.bias"]
    (bias,) = [t for t in found.model.graph.initializer if t.name == "net.0.bias"]
    np.testing.assert_array_equal(numpy_helper.to_array(bias), np.zeros(5))


def test_a_bias_that_never_was_does_not():
    gemm = helper.make_node("Gemm", ["x", "net.0.weight"], ["y"], transB=1)
    noted(gemm, ["", "net", "net.0"], call("linear", "%x", "%p_net_0_weight", "None"))
    assert (
        len(split_initializers(model([gemm], {"net.0.weight": RNG.standard_normal((5, 3))})).model.graph.initializer)
        == 1
    )


def test_buffers_are_no_parameters():
    add = noted(helper.make_node("Add", ["x", "net.offset"], ["y"]), ["", "net"], call("add", "%x", "%b_net_offset"))
    assert split_initializers(model([add], {"net.offset": RNG.standard_normal(3)})).parameters == {}


def test_weights_computed_from_others_are_mentioned():
    gemm = helper.make_node("Gemm", ["x", "mul", "net.0.bias"], ["y"], transB=1)
    noted(gemm, ["", "net", "net.0"], call("linear", "%x", "%mul", "%p_net_0_bias"))
    found = split_initializers(
        model([gemm], {"mul": RNG.standard_normal((5, 3)), "net.0.bias": RNG.standard_normal(5)})
    )
    assert found.parameters == {"mul": "net.0.weight", "net.0.bias": "net.0.bias"}
    (warning,) = found.warnings
    assert "initializer mul (net.0.weight) was computed from other parameters" in warning


def test_dropout_that_was_left_out_is_mentioned():
    node = noted(helper.make_node("Identity", ["x"], ["y"]), ["", "net", "net.1"], call("clone", "%x"))
    hierarchy = "['M', 'torch.nn.modules.dropout.Dropout', 'aten.clone.default']"
    node.metadata_props.add(key="pkg.torch.onnx.class_hierarchy", value=hierarchy)
    (warning,) = split_initializers(model([node], {})).warnings
    assert warning == "dropout net.1 was left out by the exporter: training goes without it"


def chain(with_loss):
    """Two layers whose biases are one initializer of zeros, which a loss may use as well; no notes."""
    nodes = [
        helper.make_node("Gemm", ["x", "a.weight", "a.bias"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Gemm", ["r", "b.weight", "a.bias"], ["s"]),
        helper.make_node("Sub", ["s", "a.bias"], ["y"]) if with_loss else helper.make_node("Neg", ["s"], ["y"]),
    ]
    weights = {"a.weight": RNG.standard_normal((3, 3)), "b.weight": RNG.standard_normal((3, 3)), "a.bias": np.zeros(3)}
    return model(nodes, weights)


@pytest.mark.parametrize("with_loss", [False, True])
def test_merged_biases_without_notes(with_loss):
    found = split_initializers(chain(with_loss))
    assert set(found.parameters) == {"a.weight", "b.weight", "a.bias", "b.bias"}
    names = [list(n.input) for n in found.model.graph.node]
    assert names[0][2] == "a.bias"
    assert names[2][2] == "b.bias"
    assert not with_loss or names[3][1] == "a.bias.constant"


def test_a_tied_weight_stays_tied():
    nodes = [
        helper.make_node("MatMul", ["x", "a.weight"], ["h"]),
        helper.make_node("MatMul", ["h", "a.weight"], ["y"]),
    ]
    found = split_initializers(model(nodes, {"a.weight": RNG.standard_normal((3, 3))}))
    assert found.parameters == {"a.weight": "a.weight"}


def test_one_slope_for_several_layers_is_ambiguous():
    nodes = [
        helper.make_node("Gemm", ["x", "a.weight"], ["h"]),
        helper.make_node("PRelu", ["h", "act.weight"], ["p"]),
        helper.make_node("Gemm", ["p", "b.weight"], ["q"]),
        helper.make_node("PRelu", ["q", "act.weight"], ["y"]),
    ]
    weights = {"a.weight": RNG.standard_normal((3, 3)), "b.weight": RNG.standard_normal((3, 3)), "act.weight": [0.25]}
    found = split_initializers(model(nodes, weights))
    assert "act.weight" in found.parameters
    assert [
        "initializer act.weight is used in several layers; it is trained as one parameter that they share" in w
        for w in found.warnings
    ] == [True]


# -- module paths --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("/discriminator/main/main.0/Conv", "discriminator.main.0"),
        ("/discriminator/main/main.0_1/Conv", "discriminator.main.0"),
        ("/layer1/layer1.0/conv1/Conv", "layer1.0.conv1"),
        ("/net/net.0/net.0.1/Gemm", "net.0.1"),
        ("/conv_1/Conv", "conv_1"),
        ("node_conv2d_3", ""),
        ("/Add", ""),
    ],
)
def test_module_paths_from_node_names(name, path):
    names = ["discriminator.main.0.weight", "layer1.0.conv1.weight", "net.0.1.weight", "conv_1.weight", "conv.weight"]
    assert Modules(names).of(onnx.NodeProto(name=name)) == path


def test_what_a_call_says_of_its_operands():
    modules = Modules(["net.out_proj.weight", "net.0.weight"])
    node = helper.make_node("Conv", ["x", "w", "b"], ["y"])
    noted(node, ["", "net", "net.0"], call("conv2d", "%x", "%p_net_0_weight", "None", "[1, 1]", "[0, 0]"))
    assert modules.parameter(node, 1) == Origin("p", "net.0.weight")
    assert modules.parameter(node, 2) == Origin("")
    plain = noted(helper.make_node("Mul", ["x", "g"], ["y"]), ["", "net"], call("mul", "%x", "%p_net_out_proj_gain"))
    assert modules.parameter(plain, 1) == Origin("p", "net.out_proj.gain")
    both = noted(helper.make_node("Mul", ["x", "g"], ["y"]), ["", "net"], call("mul", "%p_net_a", "%p_net_b"))
    assert modules.parameter(both, 1) is None
    assert modules.parameter(helper.make_node("Mul", ["x", "g"], ["y"]), 1) is None
