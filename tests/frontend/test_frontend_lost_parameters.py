"""What constant folding made of parameters: copies are tied again, lost ones are named."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from mgc.frontend.split_initializers import split_initializers
from mgc.frontend.training_model import load_trainable

RNG = np.random.default_rng(0)
SIGNATURE = "pkg.torch.export.ExportedProgram.graph_signature"


def model(nodes, initializers, signature=None):
    """A model from x [4, 3] to y."""
    tensors = [numpy_helper.from_array(np.asarray(a, np.float32), n) for n, a in initializers.items()]
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", [4, 3]), ("y", None)))
    graph = helper.make_graph(nodes, "g", [x], [y], tensors)
    if signature is not None:
        graph.metadata_props.add(key=SIGNATURE, value=signature)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])


def tied(weight, copy):
    """x W^T W, as `F.linear(net.a(x), net.a.weight.t())` is exported."""
    nodes = [
        helper.make_node("MatMul", ["x", "onnx::MatMul_9"], ["h"], name="/net/a/MatMul"),
        helper.make_node("MatMul", ["h", "net.a.weight"], ["y"], name="/net/MatMul"),
    ]
    return model(nodes, {"net.a.weight": weight, "onnx::MatMul_9": copy})


def test_a_transposed_copy_is_the_parameter_again():
    weight = RNG.standard_normal((5, 3))
    found = load_trainable(tied(weight, weight.T))
    assert found.parameters == {"net.a.weight": "net.a.weight"}
    assert [t.name for t in found.model.graph.initializer] == ["net.a.weight"]
    assert [n.op_type for n in found.model.graph.node] == ["Transpose", "MatMul", "MatMul"]


@pytest.mark.parametrize(
    ("weight", "copy"),
    [
        (RNG.standard_normal((5, 3)), RNG.standard_normal((3, 5))),
        (np.full((5, 3), 0.1), np.full((3, 5), 0.1)),
        (np.eye(3), np.eye(3)),
    ],
    ids=["other", "uniform", "symmetric"],
)
def test_what_may_be_another_layer_stays_one(weight, copy):
    assert set(split_initializers(tied(weight, copy)).parameters) == {"net.a.weight", "onnx::MatMul_9"}


def gain(name, **notes):
    node = helper.make_node("Mul", ["x", name], ["y"], name="/net/Mul")
    for key, value in notes.items():
        node.metadata_props.add(key=f"pkg.torch.onnx.{key}", value=value)
    return node


NOTES = {
    "name_scopes": "['', 'net', 'mul']",
    "fx_node": "%mul : call_function[target=torch.ops.aten.mul.Tensor](args = (%x, %view), kwargs = {})",
}


def test_a_constant_in_a_module_is_named_with_the_way_out():
    (warning,) = split_initializers(model([gain("onnx::Mul_7")], {"onnx::Mul_7": RNG.standard_normal((1, 3))})).warnings
    assert warning.startswith(
        "computed by the exporter, so not trained, whatever parameters are in it: onnx::Mul_7 (in"
    )
    assert warning.endswith("training=torch.onnx.TrainingMode.PRESERVE, do_constant_folding=False)")
    (warning,) = split_initializers(model([gain("view", **NOTES)], {"view": RNG.standard_normal((1, 3))})).warnings
    assert "view (in net); to keep them, export with torch.onnx.export(..., dynamo=True, optimize=False)" in warning


def test_a_number_that_the_call_was_given_is_not_mentioned():
    notes = NOTES | {"fx_node": NOTES["fx_node"].replace("%view", "0.5")}
    assert split_initializers(model([gain("val_1", **notes)], {"val_1": np.float32(0.5)})).warnings == []


def test_the_exporters_list_says_what_is_lost():
    signature = (
        "\n# inputs\np_net_gain: PARAMETER target='net.gain'\np_net_bias: PARAMETER target='net.bias'\n"
        "b_net_scale: BUFFER target='net.scale' persistent=True\nx: USER_INPUT\n"
    )
    nodes = [gain("view", **NOTES), helper.make_node("Add", ["y", "net.bias"], ["s"], name="/net/Add")]
    weights = {"view": RNG.standard_normal((1, 3)), "net.bias": RNG.standard_normal(3)}
    (warning,) = split_initializers(model(nodes, weights, signature)).warnings
    assert warning.startswith("net.gain is in the file as a constant at most, so not trained; to keep all, export with")
    weights["net.gain"] = weights.pop("view")
    nodes[0] = gain("net.gain", **NOTES | {"fx_node": NOTES["fx_node"].replace("%view", "%p_net_gain")})
    assert split_initializers(model(nodes, weights, signature)).warnings == []


def test_a_parameter_of_the_model_itself_is_one_too():
    """The TorchScript exporter gives it no module's name, and does not say whether it is a buffer."""
    found = split_initializers(model([gain("gamma")], {"gamma": RNG.standard_normal(3)}))
    assert found.parameters == {"gamma": "gamma"}
    (warning,) = found.warnings
    assert warning.startswith("trained as parameters: gamma; the TorchScript exporter does not tell them from buffers")
    held = {"scale": RNG.standard_normal((3, 3))}
    turned = helper.make_node("Transpose", ["scale"], ["t"], name="/Transpose", perm=[1, 0])
    product = helper.make_node("MatMul", ["x", "t"], ["y"], name="/MatMul")
    assert split_initializers(model([turned, product], held)).parameters == {"scale": "scale"}
    product.name = turned.name = ""  # nobody knows what exported this
    assert split_initializers(model([turned, product], held)).parameters == {}
