"""ONNX models that run for ever, or make values of any size, end where their limits are."""

import time

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from onnx.helper import make_graph, make_model, make_node, make_opsetid, make_tensor_value_info

from mgc.functions.onnx_limits import LimitError, Limits, ModelRunError, evaluate
from mgc.functions.onnx_model import OnnxModel

F, I, B = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL  # noqa: E741
SHORT = Limits(seconds=1.5)


def info(name, kind, shape):
    return make_tensor_value_info(name, kind, shape)


def model(nodes, inputs, outputs=(("y", F, None),)):
    graph = make_graph(nodes, "g", [info(*i) for i in inputs], [info(*o) for o in outputs])
    return make_model(graph, opset_imports=[make_opsetid("", 20)], ir_version=8)


def endless():
    """A loop that goes on while a number that it is given is positive."""
    body = make_graph(
        [make_node("Greater", ["s", "zero"], ["d"]), make_node("Identity", ["s"], ["t"])],
        "body",
        [info("i", I, []), info("c", B, []), info("s", F, [])],
        [info("d", B, []), info("t", F, [])],
        [onnx.numpy_helper.from_array(np.array(0, np.float32), "zero")],
    )
    return model([make_node("Loop", ["", "go", "x"], ["y"], body=body)], [("x", F, []), ("go", B, [])])


GOING = {"x": np.array(1, np.float32), "go": np.array(True)}
STOPPED = {"x": np.array(-1, np.float32), "go": np.array(True)}


def test_a_loop_without_an_end():
    runner = OnnxModel(endless().SerializeToString(), limits=SHORT)
    begin = time.monotonic()
    with pytest.raises(LimitError, match=r"longer than 1\.5 s"):
        runner.run(GOING)
    assert time.monotonic() - begin < 20
    assert runner.run(STOPPED)[0] == -1


def test_a_loop_without_an_end_in_the_evaluator():
    with pytest.raises(LimitError, match="longer"):
        evaluate(endless(), ["y"], GOING, SHORT)
    assert evaluate(endless(), ["y"], STOPPED, SHORT)[0] == -1


@pytest.mark.parametrize("size", [1 << 30, 1 << 40])
def test_a_value_of_a_size_that_comes_at_run_time(size):
    given = model([make_node("Expand", ["x", "s"], ["y"])], [("x", F, [1]), ("s", I, [1])])
    feeds = {"x": np.ones(1, np.float32), "s": np.array([size], np.int64)}
    with pytest.raises(ModelRunError):
        OnnxModel(given.SerializeToString(), limits=SHORT).run(feeds)
    with pytest.raises(LimitError, match="more than"):
        evaluate(given, ["y"], feeds, SHORT)


def test_expressions_that_take_for_ever_are_not_left_to_python():
    given = model([make_node("RegexFullMatch", ["x"], ["y"], pattern="(a+)+$")], [("x", TensorProto.STRING, [1])],
                  [("y", B, [1])])  # fmt: skip
    feeds = {"x": np.array(["a" * 50 + "b"], object)}
    assert not OnnxModel(given.SerializeToString(), limits=SHORT).run(feeds)[0].any()
    with pytest.raises(LimitError):
        evaluate(given, ["y"], feeds, SHORT)


@pytest.mark.parametrize("data", [b"\xff" * 40, b"garbage", bytes(100)])
def test_bytes_that_are_no_model(data):
    with pytest.raises(ModelRunError):
        OnnxModel(data, limits=SHORT).run({})
