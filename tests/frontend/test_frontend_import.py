"""Importing: dimensions, element types, folding, control flow, functions, parameters, accounting."""

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto
from onnx.helper import make_function, make_graph, make_opsetid, make_tensor_value_info
from onnx.numpy_helper import from_array
from onnx_models import build, close, floats, hosted, imported, node, ops, run_ort, same

from mgc.frontend import ModelError, export_graph, import_model
from mgc.functions.draws import KEY, keys
from mgc.ir.graph import evaluate
from mgc.ir.text import print_graph
from mgc.ir.types import DType


def relu(inputs, **more):
    return build([node("Relu", ["x"], ["y"])], inputs, **more)


# -- dimensions --------------------------------------------------------------------------------------------------------


def test_batch_binds_the_first_dynamic_dimension_everywhere():
    model = build([node("Add", ["a", "b"], ["y"])], {"a": ["N", 3], "b": ["N", 3]})
    result = imported(model, batch=5)
    assert result.batch_dim == "N"
    assert [i.bound for i in result.inputs] == [(5, 3), (5, 3)]
    assert [i.shape for i in result.inputs] == [("N", 3), ("N", 3)]
    assert result.inputs[0].dtype == "float"
    assert result.outputs[0].bound == (5, 3)


def test_dims_bind_by_name():
    model = relu({"x": ["N", "H", "W"]})
    result = imported(model, batch=2, dims={"H": 7, "W": 3})
    assert result.inputs[0].bound == (2, 7, 3)
    result = imported(model, dims={"N": 4, "H": 7, "W": 3})
    assert result.batch_dim is None
    assert result.inputs[0].bound == (4, 7, 3)


def test_unbound_dimensions_are_listed():
    model = build([node("Concat", ["x", "z"], ["y"], axis=0)], {"x": ["N", "H"], "z": [None, "H"]})
    with pytest.raises(ModelError, match=r"without a size: H, z\.0.*--dim H=N --dim z\.0=N"):
        import_model(model)
    assert import_model(model, dims={"H": 3, "z.0": 2}).outputs[0].bound == (3, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch": 0}, "batch is 0"),
        ({"dims": {"M": 2}}, "no input has a dimension 'M'.*dynamic dimensions: N"),
        ({"dims": {"N": 0}}, "dimension 'N' is 0"),
    ],
)
def test_bad_sizes(options, message):
    with pytest.raises(ModelError, match=message):
        import_model(relu({"x": ["N", 3]}), **options)


def test_batch_of_a_static_model_is_a_warning():
    result = imported(relu({"x": [1, 3]}), batch=4)
    assert result.inputs[0].bound == (1, 3)
    assert any("batch 4 has no effect" in w for w in result.warnings)
    assert imported(relu({"x": [1, 3]})).warnings == []


# -- element types -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("elem", "dtype", "rtol"),
    [
        (TensorProto.FLOAT16, np.float16, 2e-3),
        (TensorProto.DOUBLE, np.float64, 1e-5),
        (TensorProto.BFLOAT16, ml_dtypes.bfloat16, 2e-2),
    ],
)
def test_other_floats_are_f32_inside(elem, dtype, rtol):
    w, b = floats(4, 3, dtype=dtype), floats(3, seed=1, dtype=dtype)
    model = build([node("Gemm", ["x", "w", "b"], ["h"]), node("Relu", ["h"], ["y"])], {"x": ["N", 4]}, ["y"],
                  {"w": w, "b": b}, elem=elem)  # fmt: skip
    x = floats(2, 4, seed=2, dtype=dtype)
    expected = np.maximum(x.astype(np.float64) @ w.astype(np.float64) + b.astype(np.float64), 0).astype(dtype)
    if elem == TensorProto.BFLOAT16:  # ONNX Runtime does not take it from Python
        result = imported(model, batch=2)
        close(evaluate(result.graph, {"x": x})["y"], expected, rtol, rtol)
    else:
        result = same(model, {"x": x}, {"y": expected}, rtol=rtol, atol=rtol, batch=2)
    inner = {v.tensor.dtype for n in result.graph.nodes for v in n.outputs if n.op.name != "cast"}
    assert inner == {DType.F32}
    assert ops(result)[0] == ops(result)[-1] == "cast"
    assert {c.onnx_name for c in result.graph.constants.values()} == {"w", "b"}


def test_half_precision_host_op_gets_half_precision():
    model = build(
        [node("Relu", ["x"], ["a"]), node("Hardmax", ["a"], ["h"]), node("Neg", ["h"], ["y"])],
        {"x": [2, 3]},
        elem=TensorProto.FLOAT16,
    )
    result = same(model, {"x": floats(2, 3, dtype=np.float16)})
    assert ops(result) == ["cast", "unary", "cast", "host", "cast", "unary", "cast"]


def test_adjacent_host_ops_need_no_casts_between():
    nodes = [node("Hardmax", ["x"], ["a"]), node("Hardmax", ["a"], ["y"], axis=0)]
    model = build(nodes, {"x": [2, 3]}, elem=TensorProto.FLOAT16)
    result = same(model, {"x": floats(2, 3, dtype=np.float16)})
    assert ops(result) == ["host"]
    assert hosted(result) == ["Hardmax", "Hardmax"]


def test_integers_and_bools_keep_their_types():
    model = build(
        [node("Add", ["i", "one"], ["j"]), node("Greater", ["i", "one"], ["b"]), node("Not", ["b"], ["n"])],
        {"i": [3]},
        {"j": TensorProto.INT64, "n": TensorProto.BOOL},
        {"one": np.array(1)},
        elem=TensorProto.INT64,
    )
    same(model, {"i": np.array([0, 1, 2])})


def test_casts_between_float_types_vanish_but_types_are_kept():
    model = build(
        [node("Cast", ["x"], ["h"], to=TensorProto.FLOAT16), node("Cast", ["h"], ["y"], to=TensorProto.FLOAT)],
        {"x": [3]},
        {"y": F, "h": TensorProto.FLOAT16},
    )
    x = np.array([1, 2, 3], np.float32)
    same(model, {"x": x})
    assert evaluate(import_model(model).graph, {"x": x})["h"].dtype == np.float16


F = TensorProto.FLOAT


# -- what is known at import -------------------------------------------------------------------------------------------


def test_initializers_that_are_inputs_are_constants():
    model = build([node("MatMul", ["x", "w"], ["y"])], {"x": ["N", 4], "w": [4, 3]}, weights={"w": floats(4, 3)})
    result = imported(model)
    assert [v.name for v in result.graph.inputs] == ["x"]
    assert [c.onnx_name for c in result.graph.constants.values()] == ["w"]


def test_shape_arithmetic_folds_away():
    nodes = [
        node("Shape", ["x"], ["s"]),
        node("Gather", ["s", "zero"], ["n"]),
        node("Unsqueeze", ["n", "axis"], ["n1"]),
        node("Mul", ["n1", "two"], ["n2"]),
        node("Concat", ["n2", "rest"], ["target"], axis=0),
        node("Reshape", ["x", "target"], ["r"]),
        node("ConstantOfShape", ["s"], ["ones"], value=from_array(np.ones(1, np.float32))),
        node("Range", ["zero", "n", "step"], ["range"]),
        node("Cast", ["range"], ["f"], to=F),
        node("ReduceSum", ["f"], ["total"], keepdims=0),
        node("Add", ["r", "total"], ["y"]),
        node("NonZero", ["ones"], ["nz"]),
    ]
    weights = {
        "zero": np.array(0),
        "axis": np.array([0]),
        "two": np.array([2]),
        "rest": np.array([-1]),
        "step": np.array(1),
    }
    model = build(nodes, {"x": ["N", 6]}, {"y": F, "nz": TensorProto.INT64}, weights)
    for batch in (1, 3):
        result = same(model, {"x": floats(batch, 6)}, batch=batch)
        assert ops(result) == ["reshape", "binary"]
    assert result.graph.absorbed["Shape_0"] == "folded into a constant"


def test_folding_keeps_the_model_precision():
    """1/3 in double, times 3, is exactly 1; in float it need not be."""
    nodes = [node("Div", ["one", "big"], ["q"]), node("Mul", ["q", "big"], ["r"]), node("Add", ["x", "r"], ["y"])]
    weights = {"one": np.array(1.0), "big": np.array(41.0)}
    result = imported(build(nodes, {"x": [1]}, weights=weights, elem=TensorProto.DOUBLE))
    (constant,) = result.graph.constants.values()
    assert constant.data == np.float32(1 / 41 * 41)


def test_random_ops_are_never_folded():
    nodes = [node("RandomNormal", [], ["r"], shape=[2, 3]), node("Add", ["x", "r"], ["y"])]
    result = imported(build(nodes, {"x": [2, 3]}))
    assert hosted(result) == []
    zero = {"x": np.zeros((2, 3), np.float32)}
    first, second = (evaluate(result.graph, {**zero, KEY: keys(seed, 0, 2)})["y"] for seed in range(2))
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("condition", [True, False])
def test_if_with_a_known_condition_is_taken_in_place(condition):
    then = make_graph([node("Mul", ["x", "two"], ["t"])], "then", [], [make_tensor_value_info("t", F, None)])
    other = make_graph(
        [], "else", [], [make_tensor_value_info("k", F, None)], [from_array(np.ones((2, 2), np.float32), "k")]
    )
    nodes = [
        node("Shape", ["x"], ["s"]),
        node("Size", ["s"], ["rank"]),
        node("Equal", ["rank", "wanted"], ["c"]),
        node("If", ["c"], ["y"], then_branch=then, else_branch=other),
    ]
    weights = {"two": np.float32(2), "wanted": np.array(2 if condition else 3)}
    model = build(nodes, {"x": [2, 2]}, weights=weights)
    result = same(model, {"x": floats(2, 2)})
    assert ops(result) == (["binary"] if condition else [])
    assert result.graph.nodes[0].sources == ("If_3",) if condition else not result.graph.nodes


def test_if_with_a_run_time_condition_captures_on_the_host():
    then = make_graph([node("Mul", ["h", "two"], ["t"])], "then", [], [make_tensor_value_info("t", F, None)])
    other = make_graph([node("Identity", ["h"], ["e"])], "else", [], [make_tensor_value_info("e", F, None)])
    nodes = [
        node("Relu", ["x"], ["h"]),
        node("ReduceSum", ["h"], ["s"], keepdims=0),
        node("Greater", ["s", "two"], ["c"]),
        node("If", ["c"], ["i"], then_branch=then, else_branch=other),
        node("Neg", ["i"], ["y"]),
    ]
    model = build(nodes, {"x": [2, 2]}, weights={"two": np.float32(2)})
    for scale in (0.01, 100):
        result = same(model, {"x": np.abs(floats(2, 2)) * np.float32(scale)})
    assert hosted(result) == ["If"]
    assert ops(result)[-1] == "unary"


# -- functions ---------------------------------------------------------------------------------------------------------


def test_model_local_functions_are_inlined():
    f = make_function("mine", "LeakyAffine", ["a", "b"], ["o"],
                      [node("Mul", ["a", "b"], ["m"]), node("LeakyRelu", ["m"], ["o"], alpha=0.3)],
                      [make_opsetid("", 17)])  # fmt: skip
    nodes = [
        node("LeakyAffine", ["x", "w"], ["h"], domain="mine"),
        node("LeakyAffine", ["h", "w"], ["y"], domain="mine"),
    ]
    model = build(nodes, {"x": ["N", 3]}, weights={"w": floats(3)}, domains={"mine": 1}, functions=[f])
    result = same(model, {"x": floats(2, 3)}, batch=2)
    assert ops(result) == ["binary", "unary"] * 2
    assert len({v for n in result.graph.nodes for v in n.inputs if v in result.graph.constants}) == 1


def test_ops_that_onnx_defines_as_functions_are_expanded():
    model = build([node("MeanVarianceNormalization", ["x"], ["y"])], {"x": [2, 3, 4, 4]})
    result = same(model, {"x": floats(2, 3, 4, 4)})
    assert "host" not in ops(result)
    assert {n.sources for n in result.graph.nodes} == {("MeanVarianceNormalization_0",)}


def test_attention_is_expanded():
    nodes = [node("Attention", ["q", "k", "v"], ["y"])]
    model = build(nodes, {"q": [2, 3, 4, 8], "k": [2, 3, 6, 8], "v": [2, 3, 6, 8]}, opset=23)
    q, k, v = floats(2, 3, 4, 8), floats(2, 3, 6, 8, seed=1), floats(2, 3, 6, 8, seed=2)
    scores = q @ k.swapaxes(2, 3) / np.sqrt(8)
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    expected = powers / powers.sum(-1, keepdims=True) @ v
    result = same(model, {"q": q, "k": k, "v": v}, {"y": expected.astype(np.float32)})
    assert hosted(result) == []


# -- parameters --------------------------------------------------------------------------------------------------------


def test_a_parameter_used_twice_is_one_constant():
    nodes = [
        node("Conv", ["x", "w", "b"], ["h"], pads=[1, 1, 1, 1]),
        node("Conv", ["h", "w", "b"], ["y"], pads=[1, 1, 1, 1]),
    ]
    model = build(nodes, {"x": ["N", 3, 4, 4]}, weights={"w": floats(3, 3, 3, 3), "b": floats(3)})
    result = same(model, {"x": floats(1, 3, 4, 4)})
    assert sorted(c.onnx_name for c in result.graph.constants.values()) == ["b", "w"]


def gemm():
    nodes = [node("Gemm", ["x", "w", "c"], ["y"], transB=1, alpha=0.5, beta=2.0)]
    return build(nodes, {"x": ["N", 4]}, weights={"w": floats(3, 4), "c": floats(3)})


def test_constants_of_gemm_are_prepared_at_import():
    result = same(gemm(), {"x": floats(2, 4)}, batch=2)
    assert ops(result) == ["matmul", "binary"]


def test_parameters_can_be_kept_as_they_are():
    result = same(gemm(), {"x": floats(2, 4)}, batch=2, keep_parameters=True)
    assert sorted(ops(result)) == ["binary", "binary", "binary", "matmul", "transpose"]
    kept = {c.onnx_name: c.data.shape for c in result.graph.constants.values() if c.onnx_name}
    assert kept == {"w": (3, 4), "c": (3,)}


def test_what_is_computed_from_parameters_can_be_kept():
    """Weight normalisation: folded for inference, in the graph for training."""
    nodes = [
        node("ReduceL2", ["v"], ["norm"], axes=[1], keepdims=1),
        node("Div", ["v", "norm"], ["unit"]),
        node("Mul", ["unit", "g"], ["w"]),
        node("MatMul", ["x", "w"], ["y"]),
    ]
    model = build(nodes, {"x": ["N", 3]}, weights={"v": floats(3, 4), "g": floats(3, 1)})
    assert ops(same(model, {"x": floats(2, 3)}, batch=2)) == ["matmul"]
    result = same(model, {"x": floats(2, 3)}, batch=2, keep_parameters=True)
    assert {c.onnx_name for c in result.graph.constants.values()} == {"v", "g"}
    assert ops(result)[-1] == "matmul"
    assert len(ops(result)) > 3


def test_an_input_without_a_shape_is_a_warning():
    model = build([node("Relu", ["x"], ["y"])], {"x": [2]})
    model.graph.input[0].type.tensor_type.ClearField("shape")
    result = imported(model)
    assert any("'x' declares no shape" in w for w in result.warnings)
    assert evaluate(result.graph, {"x": np.array([-1.0, 2.0], np.float32)})["y"].tolist() == [0, 2]


def test_an_input_too_large_for_any_host():
    with pytest.raises(ModelError, match=r"input 'x': a value would have 1048576 x 1048576 elements"):
        import_model(relu({"x": [2**20, 2**20]}))


# -- accounting --------------------------------------------------------------------------------------------------------


def test_every_node_is_accounted_for_under_a_unique_name():
    nodes = [
        node("Relu", ["x"], ["a"], name="act"),
        node("Relu", ["a"], ["b"], name="act"),
        node("Identity", ["b"], ["c"]),
        node("Dropout", ["c"], ["d", "mask"]),
        node("Neg", ["b"], ["unused"]),
        node("Constant", [], ["k"], value_float=2.0),
        node("Mul", ["d", "k"], ["y"]),
    ]
    x = floats(2)
    result = same(build(nodes, {"x": [2]}), {"x": x}, {"y": np.maximum(x, 0) * 2})  # ONNX Runtime wants unique names
    assert result.node_names == ["act", "act_1", "Identity_2", "Dropout_3", "Neg_4", "Constant_5", "Mul_6"]
    assert [n.sources for n in result.graph.nodes] == [("act",), ("act_1",), ("Mul_6",)]
    assert result.graph.absorbed == {
        "Identity_2": "Identity changes nothing here",
        "Dropout_3": "Dropout changes nothing here",
        "Constant_5": "folded into a constant",
        "Neg_4": "its result is not used",
    }


def test_outputs_of_every_kind():
    nodes = [node("Relu", ["x"], ["h"]), node("Identity", ["h"], ["same"]), node("Identity", ["x"], ["through"]),
             node("Constant", [], ["five"], value_int=5)]  # fmt: skip
    model = build(nodes, {"x": [2]}, {"h": F, "same": F, "through": F, "five": TensorProto.INT64, "w": F},
                  {"w": floats(3)})  # fmt: skip
    same(model, {"x": floats(2)})


def test_text_of_a_small_generator(golden):
    nodes = [
        node("Gather", ["table", "label"], ["e"], name="embed"),
        node("Concat", ["z", "e"], ["ze"], axis=1, name="cat"),
        node("Gemm", ["ze", "fc.weight", "fc.bias"], ["h"], transB=1, name="fc"),
        node("Reshape", ["h", "shape"], ["r"], name="view"),
        node("ConvTranspose", ["r", "up.weight"], ["u"], strides=[2, 2], pads=[1, 1, 1, 1], name="up"),
        node("BatchNormalization", ["u", "bn.weight", "bn.bias", "bn.mean", "bn.var"], ["n"], name="bn"),
        node("Relu", ["n"], ["a"], name="relu"),
        node("Resize", ["a", "", "scales"], ["b"], mode="linear", name="resize"),
        node("Conv", ["b", "out.weight", "out.bias"], ["o"], pads=[1, 1, 1, 1], name="out"),
        node("Tanh", ["o"], ["image"], name="tanh"),
    ]
    weights = {
        "table": floats(3, 2),
        "fc.weight": floats(8, 6),
        "fc.bias": floats(8),
        "shape": np.array([-1, 2, 2, 2]),
        "up.weight": floats(2, 2, 4, 4),
        **{f"bn.{k}": np.abs(floats(2, seed=i)) for i, k in enumerate(("weight", "bias", "mean", "var"))},
        "scales": np.array([1, 1, 1.5, 1.5], np.float32),
        "out.weight": floats(1, 2, 3, 3),
        "out.bias": floats(1),
    }
    model = build(nodes, {"z": ["N", 4], "label": ["N"]}, ["image"], weights, elems={"label": TensorProto.INT64})
    result = same(model, {"z": floats(2, 4), "label": np.array([2, 0])}, batch=2)
    golden("conditional_generator.ir", print_graph(result.graph, elide=True))


def test_import_is_deterministic():
    model = gemm()
    assert print_graph(import_model(model).graph) == print_graph(import_model(model).graph)
    assert import_model(model).model_sha256 == import_model(model.SerializeToString()).model_sha256


# -- export ------------------------------------------------------------------------------------------------------------


def test_extra_outputs_show_intermediate_values():
    nodes = [node("Relu", ["x"], ["h"]), node("Exp", ["h"], ["y"])]
    graph = import_model(build(nodes, {"x": [2]})).graph
    h, y = (n.outputs[0] for n in graph.nodes)
    model = export_graph(graph, extra_outputs=[h, graph.inputs[0], y])
    onnx.checker.check_model(model, full_check=True)
    found = run_ort(model, {"x": np.array([-1, 2], np.float32)})
    assert [o.name for o in model.graph.output] == ["y", h.name, "x.1"]
    assert found[h.name].tolist() == [0, 2]
    assert found["x.1"].tolist() == [-1, 2]


def test_export_keeps_names_and_passes_the_checker():
    model = gemm()
    exported = export_graph(import_model(model, keep_parameters=True).graph)
    onnx.checker.check_model(exported, full_check=True)
    assert {t.name for t in exported.graph.initializer} >= {"w", "c"}
    assert exported.graph.node[0].name == "Gemm_0"


def test_export_of_an_old_host_op_is_brought_up_to_date():
    model = build([node("TopK", ["x"], ["v", "i"], k=2)], {"x": [3, 4]}, {"v": F, "i": TensorProto.INT64}, opset=9)
    result = same(model, {"x": floats(3, 4)})
    assert hosted(result) == ["TopK"]
