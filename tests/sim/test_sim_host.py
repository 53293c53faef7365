"""Host segments: ONNX Runtime, ONNX's reference evaluator where it cannot, opaque values."""

import numpy as np
import onnx
import pytest
from builder import ProgramBuilder
from onnx import TensorProto, helper

from mgc.sim import SimulationError, Simulator


def model(nodes, inputs, outputs, opset=17) -> bytes:
    graph = helper.make_graph(nodes, "segment", inputs, outputs)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(made)
    return made.SerializeToString()


def tensor(name, dtype, shape):
    return helper.make_tensor_value_info(name, dtype, shape)


def run(program, **inputs):
    return Simulator(program, engine="reference").run(inputs)


def test_a_segment_runs_in_the_types_it_declares():
    """The chip holds float32, the segment declares float64: arguments and results are converted."""
    segment = model(
        [helper.make_node("TopK", ["x", "k"], ["values", "indices"])],
        [tensor("x", TensorProto.DOUBLE, [1, 4]), tensor("k", TensorProto.INT64, [1])],
        [tensor("values", TensorProto.DOUBLE, [1, 2]), tensor("indices", TensorProto.INT64, [1, 2])],
    )
    b = ProgramBuilder()
    x = b.input((1, 4), name="x")
    k = b.constant(np.array([2]))
    values, indices = b.host(
        segment, [x, k], [("real", "float32", (1, 2)), ("real", "int64", (1, 2))], op_types=("TopK",)
    )
    b.output(values, name="v")
    b.output(indices, name="i")
    result = run(b.build(), x=np.array([[1, 9, 3, 7], [8, 2, 4, 6]], np.float32))
    assert result["v"].tolist() == [[9, 7], [8, 6]]
    assert result["v"].dtype == np.float32
    assert result["i"].tolist() == [[1, 3], [0, 3]]


def test_what_onnx_runtime_cannot_run_the_reference_evaluator_runs():
    # ONNX Runtime has no kernel for a bitwise shift of int8
    segment = model(
        [helper.make_node("BitShift", ["x", "s"], ["y"], direction="LEFT")],
        [tensor("x", TensorProto.UINT16, [1, 3]), tensor("s", TensorProto.UINT16, [1, 3])],
        [tensor("y", TensorProto.UINT16, [1, 3])],
    )
    b = ProgramBuilder()
    x = b.input((1, 3), dtype="uint16", name="x")
    (y,) = b.host(segment, [x, b.constant(np.array([[1, 2, 3]], np.uint16))], [("real", "uint16", (1, 3))])
    b.output(y, name="y")
    for _ in range(2):
        assert run(b.build(), x=np.array([[1, 1, 1]], np.uint16))["y"].tolist() == [[2, 4, 8]]


def test_opaque_values_pass_from_segment_to_segment():
    sequence = helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, None)
    split = model([helper.make_node("SplitToSequence", ["x"], ["s"], axis=1)],
                  [tensor("x", TensorProto.FLOAT, [1, 3])], [sequence])  # fmt: skip
    join = model([helper.make_node("ConcatFromSequence", ["s"], ["y"], axis=0)],
                 [sequence], [tensor("y", TensorProto.FLOAT, [3, 1])])  # fmt: skip
    b = ProgramBuilder(batched=False)
    x = b.input((1, 3), batched=False, name="x")
    (s,) = b.host(split, [x], [("opaque", "float32", ())])
    (y,) = b.host(join, [s], [("real", "float32", (3, 1))])
    b.output(y, batched=False, name="y")
    b.outputs.append(type(b.outputs[0])("s", s.index, "sequence", (), False))
    from mgc.isa.instructions import Store

    b.add(Store, "link", src=s, port=1)
    result = run(b.build(), x=np.array([[1, 2, 3]], np.float32))
    assert result["y"].tolist() == [[1], [2], [3]]
    assert [v.tolist() for v in result["s"]] == [[[1]], [[2]], [[3]]]


def test_results_of_another_shape_are_an_error():
    segment = model(
        [helper.make_node("NonZero", ["x"], ["y"])],
        [tensor("x", TensorProto.FLOAT, [1, 3])],
        [tensor("y", TensorProto.INT64, [2, "n"])],
    )
    b = ProgramBuilder(batched=False)
    x = b.input((1, 3), batched=False, name="x")
    (y,) = b.host(segment, [x], [("real", "int64", (2, 3))], op_types=("NonZero",))
    b.output(y, batched=False, name="y")
    assert run(b.build(), x=np.ones((1, 3), np.float32))["y"].tolist() == [[0, 0, 0], [0, 1, 2]]
    with pytest.raises(SimulationError, match=r"instruction 1 \(host\).*shape \[2, 1\] came, \[2, 3\] is expected"):
        run(b.build(), x=np.array([[0, 1, 0]], np.float32))


@pytest.mark.parametrize("nested", [False, True])
def test_data_in_other_files_is_refused(nested):
    weight = onnx.numpy_helper.from_array(np.ones((1, 3), np.float32), "w")
    weight.data_location = TensorProto.EXTERNAL
    weight.ClearField("raw_data")
    weight.external_data.add(key="location", value="../secret")
    nodes = [helper.make_node("Add", ["x", "w"], ["y"])]
    if nested:
        nodes = [helper.make_node("Constant", [], ["w"], value=weight), *nodes]
    graph = helper.make_graph(nodes, "g", [tensor("x", TensorProto.FLOAT, [1, 3])],
                              [tensor("y", TensorProto.FLOAT, [1, 3])], [] if nested else [weight])  # fmt: skip
    segment = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString()
    b = ProgramBuilder()
    (y,) = b.host(segment, [b.input((1, 3), name="x")], [("real", "float32", (1, 3))])
    b.output(y, name="y")
    with pytest.raises(SimulationError, match="names data in other files"):
        run(b.build(), x=np.ones((1, 3), np.float32))


def test_a_failing_segment_says_what_both_said():
    segment = model(
        [helper.make_node("Reshape", ["x", "shape"], ["y"])],
        [tensor("x", TensorProto.FLOAT, [1, 3]), tensor("shape", TensorProto.INT64, [1])],
        [tensor("y", TensorProto.FLOAT, ["n"])],
    )
    b = ProgramBuilder(batched=False)
    x = b.input((1, 3), batched=False, name="x")
    (y,) = b.host(segment, [x, b.constant(np.array([7]))], [("real", "float32", (7,))], op_types=("Reshape",))
    b.output(y, batched=False, name="y")
    with pytest.raises(SimulationError, match=r"host segment 0 \(Reshape\) fails: ONNX Runtime says .*evaluator says"):
        run(b.build(), x=np.ones((1, 3), np.float32))
