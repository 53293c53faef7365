"""The oracle of `mgc run --check`: functions that ONNX Runtime has no good float32 kernel of, in float64."""

import math

import numpy as np
import onnx
import onnxruntime
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from mgc.evaluation.precise_model import loaded
from mgc.evaluation.precise_model import precise as precise_model

X = np.concatenate([np.linspace(-60, 60, 2001), np.logspace(-30, 1, 300), -np.logspace(-30, 1, 300)]).astype(np.float32)
ELU = lambda x, a=1.0, inner=1.0: x if x > 0 else a * math.expm1(x * inner)  # noqa: E731
SIGMOID = lambda x: 1 / (1 + math.exp(-x))  # noqa: E731
CASES = {
    "Sigmoid": ({}, SIGMOID),
    "Elu": ({"alpha": 0.5}, lambda x: ELU(x, 0.5)),
    "Selu": ({"alpha": 1.5, "gamma": 1.25}, lambda x: 1.25 * ELU(x, 1.5)),
    "Celu": ({"alpha": 2.0}, lambda x: ELU(x, 2.0, 0.5)),
    "Gelu": ({"approximate": "tanh"}, lambda x: x * SIGMOID(math.sqrt(8 / math.pi) * (x + 0.044715 * x**3))
             if x > -20 else 0.0),
}  # fmt: skip


def precise(path):
    return precise_model(loaded(path)).SerializeToString()


def outputs(source, **feeds):
    session = onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


def saved(path, nodes, kind=TensorProto.FLOAT, opset=20):
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", kind, ["n"])],
                              [helper.make_tensor_value_info("y", kind, ["n"])])  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9), path)
    return path


@pytest.mark.parametrize("op", CASES)
def test_it_is_right_to_a_millionth(op, tmp_path):
    attributes, truth = CASES[op]
    path = saved(tmp_path / "m.onnx", [helper.make_node(op, ["x"], ["y"], **attributes)])
    y = np.array([truth(float(x)) for x in X])
    far = lambda found: np.abs(found - y) > np.maximum(1e-6 * np.abs(y), 1e-30)  # noqa: E731
    assert not far(outputs(precise(path), x=X)[0]).any()
    assert far(outputs(str(path), x=X)[0]).any(), "ONNX Runtime's own kernel is as good by now"


def test_nodes_in_branches_and_functions_are_found(tmp_path):
    branch = helper.make_graph([helper.make_node("Sigmoid", ["x"], ["s"])], "b", [],
                               [helper.make_tensor_value_info("s", TensorProto.FLOAT, ["n"])])  # fmt: skip
    condition = helper.make_node("Constant", [], ["c"], value=helper.make_tensor("v", TensorProto.BOOL, (), [1]))
    path = saved(
        tmp_path / "m.onnx", [condition, helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)]
    )
    x = np.float32([-20, -30])
    np.testing.assert_allclose(outputs(precise(path), x=x)[0], [SIGMOID(-20), SIGMOID(-30)], 1e-6)


def test_others_stay_as_they_are(tmp_path):
    plain = saved(tmp_path / "m.onnx", [helper.make_node("Tanh", ["x"], ["y"])])
    assert precise(plain) == onnx.load(plain).SerializeToString()
    double = saved(tmp_path / "d.onnx", [helper.make_node("Sigmoid", ["x"], ["y"])], TensorProto.DOUBLE)
    assert [n.op_type for n in onnx.load_from_string(precise(double)).graph.node] == ["Sigmoid"]


@pytest.mark.parametrize("engine", ["fast", "reference"])
def test_check_holds_behind_a_saturated_sigmoid(mgc, tmp_path, engine):
    """ln(sigmoid(20 x)) is about 20 x for x near -1; by the float32 kernel it is -inf."""
    nodes = [
        helper.make_node("Gemm", ["x", "w"], ["h"], "score"),
        helper.make_node("Sigmoid", ["h"], ["p"], "sigmoid"),
        helper.make_node("Log", ["p"], ["y"], "log"),
    ]
    model = tiny.model(nodes, {"x": ["N", 4]}, {"y": ["N", 3]}, w=np.full((4, 3), 12.0, np.float32))
    onnx.save(model, tmp_path / "S.onnx")
    assert mgc("compile", tmp_path / "S.onnx", "--batch", 8, "-o", tmp_path / "S.mgc").code == 0
    check = mgc("run", tmp_path / "S.mgc", "-n", 8, "--numerics", "float", "--engine", engine,
                "--check", tmp_path / "S.onnx", "--json").json["check"]  # fmt: skip
    assert check["ok"]
    assert check["max_abs_err"] < 1e-4


@given(
    st.sampled_from(["MatMulInteger", "ConvInteger", "QLinearMatMul", "QLinearConv"]),
    st.sampled_from([None, 0, 5, -128]),
    st.booleans(),
)
@settings(deadline=None, max_examples=40)
def test_integer_products_do_not_saturate(op, zero, dynamic):
    """Bytes by signed bytes at their bounds, where some processors' sums of pairs do not fit."""
    rng = np.random.default_rng(0)
    conv, linear = op.endswith("Conv") or op.startswith("Conv"), op.startswith("QLinear")
    zero = 0 if linear and zero is None else zero
    x = rng.choice([0, 255, 200], (1, 8, 1, 3) if conv else (3, 8)).astype(np.uint8)
    w = rng.choice([-128, 127], (4, 8, 1, 1) if conv else (8, 4)).astype(np.int8)
    weights = {"w": w, "xz": np.uint8(3), "wz": np.int8(zero or 0), "s": np.float32(1), "ys": np.float32(997)}
    points = ["xz", *([] if zero is None else ["wz"])]
    operands = ["x", "s", "xz", "w", "s", "wz", "ys", "yz"] if linear else ["x", "w", *points]
    nodes = [helper.make_node(op, operands, ["y"])]
    inputs = {"x": x}
    if dynamic and not linear:
        nodes.insert(0, helper.make_node("DynamicQuantizeLinear", ["r"], ["x", "s1", "xz"]))
        inputs = {"r": x.astype(np.float32) - 3}
        inputs["r"].reshape(-1)[:2] = (-3, 252)
        x = (inputs["r"] + 3).astype(np.uint8)
        del weights["xz"]
    weights["yz"] = np.uint8(128)
    ((name, array),) = inputs.items()
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)],
        [helper.make_tensor_value_info("y", TensorProto.UINT8 if linear else TensorProto.INT32, None)],
        [numpy_helper.from_array(np.asarray(a), n) for n, a in weights.items() if any(n in m.input for m in nodes)],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    a, b = x.astype(np.int64) - 3, w.astype(np.int64) - (zero or 0)
    wanted = np.einsum("nchw,mc->nmhw", a, b[:, :, 0, 0]) if conv else a @ b
    if linear:
        wanted = np.clip(np.rint(wanted / 997) + 128, 0, 255)
    changed = precise_model(model)
    assert [n.op_type for n in changed.graph.node] == [n.op_type for n in nodes]
    session = onnxruntime.InferenceSession(changed.SerializeToString(), providers=["CPUExecutionProvider"])
    assert np.array_equal(session.run(None, inputs)[0], wanted)
