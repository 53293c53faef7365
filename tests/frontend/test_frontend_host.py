"""What the chip cannot do: host nodes, their merging into segments, opaque values, unknown ops."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from onnx.helper import make_graph, make_sequence_type_proto, make_tensor_type_proto, make_tensor_value_info
from onnx_models import build, close, floats, hosted, imported, node, ops, same

from mgc.frontend import ModelError, import_model
from mgc.ir.graph import evaluate
from mgc.ir.ops import Host
from mgc.ir.types import OpaqueType

F, I64 = TensorProto.FLOAT, TensorProto.INT64


def test_a_host_node_says_why_and_what():
    nodes = [node("Relu", ["x"], ["h"]), node("TopK", ["h", "k"], ["v", "i"])]
    model = build(nodes, {"x": [2, 5]}, {"v": F, "i": I64}, {"k": np.array([2])})
    result = same(model, {"x": floats(2, 5)})
    (host,) = (n for n in result.graph.nodes if isinstance(n.op, Host))
    assert host.op.op_types == ("TopK",)
    assert host.op.reason == "the chip has no TopK"
    assert host.sources == ("TopK_1",)
    assert [str(v.type) for v in host.outputs] == ["f32[2,2]", "i64[2,2]"]


def test_the_reason_of_a_form_that_the_chip_cannot_do():
    model = build([node("MaxPool", ["x"], ["y", "i"], kernel_shape=[2, 2])], {"x": [1, 1, 4, 4]}, {"y": F, "i": I64})
    result = same(model, {"x": floats(1, 1, 4, 4)})
    assert result.graph.nodes[0].op.reason == "MaxPool: indices are wanted"


def test_adjacent_host_nodes_are_one_segment():
    nodes = [
        node("Hardmax", ["x"], ["a"]),
        node("ArgMax", ["a"], ["b"], keepdims=0),
        node("Hardmax", ["a"], ["c"], axis=0),
        node("Relu", ["c"], ["y"]),
    ]
    result = same(build(nodes, {"x": [2, 3]}, {"y": F, "b": I64}), {"x": floats(2, 3)})
    assert ops(result) == ["host", "unary"]
    assert result.graph.nodes[0].sources == ("Hardmax_0", "ArgMax_1", "Hardmax_2")
    assert len(result.graph.nodes[0].outputs) == 2


def test_segments_do_not_swallow_the_chip_between():
    """x -> Hardmax -> Relu -> Hardmax, with a second edge past the Relu: one segment would be a cycle."""
    nodes = [node("Hardmax", ["x"], ["a"]), node("Relu", ["a"], ["b"]), node("Hardmax", ["b"], ["c"]),
             node("BitShift", ["u", "u"], ["s"], direction="LEFT"), node("Det", ["square"], ["d"]),
             node("Sum", ["a", "c", "d"], ["y"])]  # fmt: skip
    model = build(nodes, {"x": [2, 3], "u": [2], "square": [3, 3]}, {"y": F, "s": TensorProto.UINT8},
                  elems={"u": TensorProto.UINT8})  # fmt: skip
    feeds = {"x": floats(2, 3), "u": np.array([1, 2], np.uint8), "square": floats(3, 3)}
    result = same(model, feeds)
    assert sorted(hosted(result)) == ["BitShift", "Det", "Hardmax", "Hardmax"]
    assert ops(result).count("host") == 4


def test_a_direct_edge_beside_a_detour_stays_acyclic():
    nodes = [node("Hardmax", ["x"], ["a"]), node("Relu", ["a"], ["b"]), node("Scatter", ["a", "i", "b"], ["y"], axis=0)]
    nodes[2].op_type = "ScatterElements"
    model = build(nodes, {"x": [2, 3], "i": [2, 3]}, elems={"i": I64})
    result = same(model, {"x": floats(2, 3), "i": np.array([[1, 0, 1], [0, 1, 0]])})
    assert ops(result) == ["host", "unary", "host"]


def test_recurrent_layer():
    weights = {"w": floats(1, 16, 3), "r": floats(1, 16, 4, seed=1), "b": floats(1, 32, seed=2)}
    nodes = [node("LSTM", ["x", "w", "r", "b"], ["h", "last"], hidden_size=4), node("Tanh", ["h"], ["y"])]
    result = same(build(nodes, {"x": [5, "N", 3]}, ["y", "last"], weights), {"x": floats(5, 2, 3)}, batch=2)
    assert hosted(result) == ["LSTM"]
    assert ops(result) == ["host", "unary"]


def test_loop_captures_constants_and_values():
    info = make_tensor_value_info
    body = make_graph(
        [node("Mul", ["acc", "factor"], ["m"]), node("Add", ["m", "h"], ["acc2"]), node("Identity", ["c"], ["c2"])],
        "body",
        [info("i", I64, []), info("c", TensorProto.BOOL, []), info("acc", F, [2])],
        [info("c2", TensorProto.BOOL, []), info("acc2", F, [2])],
    )
    nodes = [node("Relu", ["x"], ["h"]), node("Loop", ["n", "", "h"], ["l"], body=body), node("Exp", ["l"], ["y"])]
    model = build(nodes, {"x": [2], "n": []}, weights={"factor": np.float32(0.5)}, elems={"n": I64})
    result = same(model, {"x": floats(2), "n": np.array(3)})
    assert ops(result) == ["unary", "host"], "ONNX does not say that the shape stays: Exp follows on the host"


def sequence_model():
    nodes = [node("SequenceConstruct", ["x", "h"], ["s"]), node("SequenceLength", ["s"], ["n"])]
    model = build([node("Relu", ["x"], ["h"]), *nodes], {"x": [2]}, ["s", "n"])
    model.graph.output[0].type.CopyFrom(make_sequence_type_proto(make_tensor_type_proto(F, None)))
    model.graph.output[1].type.tensor_type.elem_type = I64
    return model


def test_sequences_are_opaque():
    result = imported(sequence_model())
    x = np.array([-1, 2], np.float32)
    found = evaluate(result.graph, {"x": x})
    close(found["s"], [x, np.maximum(x, 0)])
    assert found["n"] == 2
    assert isinstance(result.graph.outputs[0][1].type, OpaqueType)
    assert result.outputs[0].bound is None


def test_data_dependent_shapes_stay_on_the_host_until_they_are_static_again():
    nodes = [node("NonZero", ["x"], ["nz"]), node("Cast", ["nz"], ["f"], to=F), node("Relu", ["f"], ["r"]),
             node("ReduceSum", ["r"], ["y"], keepdims=0), node("Neg", ["y"], ["z"])]  # fmt: skip
    model = build(nodes, {"x": [2, 3]}, ["z"])
    result = same(model, {"x": np.array([[0, 1, 0], [1, 0, 2]], np.float32)})
    assert ops(result) == ["host", "unary"]
    assert hosted(result) == ["NonZero", "Cast", "Relu", "ReduceSum"]


def test_strings_pass_through_the_host():
    nodes = [node("StringNormalizer", ["s"], ["t"], case_change_action="UPPER"), node("Relu", ["x"], ["y"])]
    model = build(nodes, {"s": [2], "x": [2]}, {"t": TensorProto.STRING, "y": F}, elems={"s": TensorProto.STRING})
    result = imported(model)
    found = evaluate(result.graph, {"s": np.array(["ab", "C"], object), "x": np.zeros(2, np.float32)})
    assert found["t"].tolist() == ["AB", "C"]


def test_eight_bit_floats_pass_through_the_host():
    nodes = [node("Cast", ["x"], ["e"], to=TensorProto.FLOAT8E4M3FN), node("Cast", ["e"], ["y"], to=F)]
    model = build(nodes, {"x": [3]}, {"e": TensorProto.FLOAT8E4M3FN, "y": F}, opset=19)
    model.ir_version = 9
    result = imported(model)
    x = np.array([1.0, 1.06, -300.0], np.float32)
    found = evaluate(result.graph, {"x": x})
    assert found["e"].dtype.name == "float8_e4m3fn"
    assert found["y"].tolist() == [1.0, 1.0, -288.0]


def test_known_data_of_a_type_the_chip_lacks():
    model = build([node("Constant", [], ["s"], value_string="hello")], {"x": [1]}, {"s": TensorProto.STRING})
    result = imported(model)
    assert evaluate(result.graph, {"x": np.zeros(1, np.float32)})["s"] == "hello"


def test_contrib_op_of_onnx_runtime():
    """An op outside ONNX that ONNX Runtime has, its shape found by asking for it."""
    nodes = [node("BiasGelu", ["x", "b"], ["h"], domain="com.microsoft"), node("Neg", ["h"], ["y"])]
    model = build(nodes, {"x": [2, 3]}, weights={"b": floats(3)}, domains={"com.microsoft": 1})
    result = same(model, {"x": floats(2, 3)})
    assert ops(result) == ["host", "unary"]


@pytest.mark.parametrize(("op_type", "domain"), [("Frobnicate", ""), ("Frobnicate", "my.company")])
def test_an_op_that_nothing_can_run(op_type, domain):
    nodes = [node("Relu", ["x"], ["h"]), node(op_type, ["h"], ["y"], domain=domain, name="odd")]
    model = build(nodes, {"x": [2]}, domains={domain: 1} if domain else None)
    with pytest.raises(
        ModelError, match=r"node 'odd' \(Frobnicate\): op .*Frobnicate is not known here.*model-local function"
    ):
        import_model(model)


def test_a_wrong_static_shape_is_found_at_run_time():
    model = build([node("Hardmax", ["x"], ["y"])], {"x": [2]}, opset=13)
    host = imported(model).graph.nodes[0].op
    wrong = Host(host.model, host.reason, host.op_types, (host.out_types[0].with_shape((3,)),))
    with pytest.raises(ValueError, match=r"result 0 has shape \[2\] at run time, f32\[3\] was inferred"):
        wrong.evaluate(np.zeros(2, np.float32))


def test_host_models_are_the_same_bytes_each_time():
    model = sequence_model()
    first, second = (import_model(model).graph.nodes[-1].op.model for _ in range(2))
    assert first == second
    onnx.checker.check_model(onnx.load_model_from_string(first))
