"""Maxima and minima of the fast engine: the reference's bits, for zeros of both signs, NaNs and infinities too."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

import mgc
from mgc.sim import Simulator

ODD = (0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, 1e-45, -1e-45)


@pytest.fixture(scope="module")
def program():
    """a, b [5, 4] -> the extremes of a - b over either axis: numbers that nothing bounds, and NaN of infinities."""
    nodes, outputs = [helper.make_node("Sub", ["a", "b"], ["x"], "sub")], []
    for op in ("ReduceMax", "ReduceMin"):
        for axis in (0, 1):
            name = f"{op}_{axis}"
            nodes.append(helper.make_node(op, ["x", f"axis{axis}"], [name], name, keepdims=1))
            outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4] if axis == 0 else [5, 1]))
    axes = [numpy_helper.from_array(np.array([axis]), f"axis{axis}") for axis in (0, 1)]
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [5, 4]) for name in "ab"]
    graph = helper.make_graph(nodes, "extremes", inputs, outputs, axes)
    return mgc.compile(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(ODD) | st.floats(width=32, allow_nan=False), min_size=40, max_size=40))
def test_engines_agree_bit_for_bit(program, numbers):
    a, b = np.array(numbers, np.float32).reshape(2, 5, 4)
    with np.errstate(all="ignore"):
        x = a - b
    fast, reference = (Simulator(program, engine=e).run({"a": a, "b": b}) for e in ("fast", "reference"))
    for name, wanted in reference.items():
        nans = np.isnan(wanted)
        np.testing.assert_array_equal(np.isnan(fast[name]), nans)
        np.testing.assert_array_equal(fast[name][~nans].view(np.int32), wanted[~nans].view(np.int32))
        op, axis = name.split("_")
        expected = (np.max if op == "ReduceMax" else np.min)(x, axis=int(axis), keepdims=True)
        np.testing.assert_array_equal(wanted, expected)
        assert not np.signbit(wanted[wanted == 0]).any()
