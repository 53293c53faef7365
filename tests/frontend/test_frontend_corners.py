"""Corners of ops: empty tensors, signs of zero, slices backwards, sizes that files and runtimes see otherwise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from compiled_files import off, reference, simulated
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto, NodeProto, TensorProto
from onnx.helper import make_tensor_value_info
from onnx_models import build, node

import mgc
from mgc.compiler import compile_with_stats
from mgc.frontend import import_model
from mgc.ir.graph import evaluate
from mgc.options import CompileOptions

RNG = np.random.default_rng(11)


def floats(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def warnings_of(model: ModelProto) -> list[str]:
    return list(compile_with_stats(model, CompileOptions(calibrate="none"))[1].warnings)


@settings(max_examples=150, deadline=None)
@given(
    size=st.integers(1, 5),
    start=st.integers(-8, 8),
    end=st.one_of(st.integers(-8, 8), st.sampled_from([2**31 - 1, -(2**31)])),
    step=st.sampled_from([-3, -2, -1, 1, 2, 3]),
)
def test_slices_are_clamped_as_onnx_says(size, start, end, step):
    weights = {k: np.array([v]) for k, v in (("s", start), ("e", end), ("a", 1), ("t", step))}
    model = build([node("Slice", ["x", "s", "e", "a", "t"], ["y"])], {"x": [2, size]}, weights=weights)
    x = floats(2, size)
    found = evaluate(import_model(model).graph, {"x": x})["y"]
    assert np.array_equal(found, reference(model, {"x": x})["y"])


EMPTY: dict[str, tuple[NodeProto, list[int], dict[str, np.ndarray]]] = {
    "conv": (node("Conv", ["c", "w"], ["y"]), [2, 3, 4, 4], {"w": floats(2, 3, 3, 3)}),
    "conv_transpose": (node("ConvTranspose", ["c", "w"], ["y"]), [2, 3, 4, 4], {"w": floats(3, 2, 3, 3)}),
    "gemm": (node("Gemm", ["c", "w", "b"], ["y"]), [2, 3], {"w": floats(3, 2), "b": floats(2)}),
    "matmul": (node("MatMul", ["c", "w"], ["y"]), [2, 3], {"w": floats(3, 2)}),
}


@pytest.mark.parametrize("calibrate", ["none", "error"])
@pytest.mark.parametrize("kind", EMPTY)
def test_products_of_nothing_are_empty(kind, calibrate):
    """A slice cut to nothing, and an input of no samples."""
    last, shape, weights = EMPTY[kind]
    cut = {"from": np.array([2]), "axis": np.array([0])}
    nodes = [node("Slice", ["x", "from", "from", "axis"], ["c"]), last, node("Relu", ["y"], ["z"])]
    for model, rows in (
        (build(nodes, {"x": shape}, ("z",), weights | cut), shape[0]),
        (build([node("Identity", ["x"], ["c"]), *nodes[1:]], {"x": [0, *shape[1:]]}, ("z",), weights), 0),
    ):
        feeds = {"x": floats(rows, *shape[1:])}
        wanted = reference(model, feeds)["z"]
        program = mgc.compile(model, calibrate=calibrate)
        for numerics in ("float", "quantized"):
            for engine in ("fast", "reference"):
                found = simulated(program, feeds, numerics, engine)["z"]
                assert found.shape == wanted.shape
                assert found.size == 0


@pytest.mark.parametrize("numerics", ["float", "quantized"])
@pytest.mark.parametrize("kind", ["Gemm", "MatMul", "Conv"])
def test_a_product_over_no_channels_is_its_bias(kind, numerics):
    shapes = {"Gemm": ([2, 0], (0, 3)), "MatMul": ([2, 0], (0, 3)), "Conv": ([1, 0, 3, 3], (3, 0, 2, 2))}
    x_shape, w_shape = shapes[kind]
    weights = {"w": floats(*w_shape)} | ({"b": floats(3)} if kind != "MatMul" else {})
    model = build([node(kind, ["x", *weights], ["y"])], {"x": x_shape}, weights=weights)
    program = mgc.compile(model)
    wanted = reference(model, {"x": floats(*x_shape)})["y"]
    assert np.array_equal(simulated(program, {"x": floats(*x_shape)}, numerics)["y"], wanted)


@pytest.mark.parametrize("bias", [True, False])
def test_a_transposed_convolution_that_only_meets_padding(bias):
    """Zeros, or the bias, flow on through other layers."""
    weights = {"w": floats(2, 2, 2), "v": floats(2, 2, 3), "b": floats(2)}
    operands = ["x", "w", "b"] if bias else ["x", "w"]
    first = node("ConvTranspose", operands, ["a"], dilations=[2], output_shape=[1], strides=[3])
    nodes = [first, node("Sigmoid", ["a"], ["s"]), node("Conv", ["s", "v"], ["y"], pads=[1, 1])]
    if not bias:
        del weights["b"]
    model = build(nodes, {"x": [1, 2, 1]}, weights=weights, opset=18)
    program = mgc.compile(model)
    feeds = {"x": floats(1, 2, 1)}
    assert off(simulated(program, feeds)["y"], reference(model, feeds)["y"]) < 1e-6


@settings(max_examples=40, deadline=None)
@given(
    size=st.integers(3, 8),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 3),
    pad=st.integers(0, 1),
    p=st.integers(1, 3),
)
def test_norms_of_windows_with_ceil_mode(size, kernel, stride, pad, p):
    pad = min(pad, kernel - 1)
    attributes: dict[str, Any] = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [pad] * 4}
    model = build([node("LpPool", ["x"], ["y"], ceil_mode=1, p=p, **attributes)], {"x": [1, 2, size, size]}, opset=18)
    x = floats(1, 2, size, size)
    found = evaluate(import_model(model).graph, {"x": x})["y"]
    assert off(found, reference(model, {"x": x})["y"]) < 1e-5


@settings(max_examples=60, deadline=None)
@given(size=st.integers(2, 40), out=st.integers(1, 80))
def test_resized_sizes_are_the_runtimes(size, out):
    scales = np.array([1, 1, out / size], np.float32)
    model = build([node("Resize", ["x", "", "s"], ["y"])], {"x": [1, 1, size]}, weights={"s": scales}, opset=13)
    try:
        wanted = reference(model, {"x": floats(1, 1, size)})["y"]
    except Exception:  # a size of 0, which the runtime refuses
        return
    assert import_model(model).graph.outputs[0][1].shape == wanted.shape


def test_sizes_that_differ_are_told():
    """What the file declares, and where ONNX Runtime departs from ONNX's definition."""
    weights = {"s": np.array([1, 1, 2, 2], np.float32), "r": np.array([0, 0, 0, 0, 1, 1, 0.5, 0.5], np.float32)}
    resized = build([node("Resize", ["x", "", "s"], ["y"], name="up")], {"x": [1, 1, 3, 3]}, weights=weights, opset=13)
    resized.graph.output[0].CopyFrom(make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, 5, 6]))
    (told,) = warnings_of(resized)
    assert all(part in told for part in ("'up'", "[1, 1, 6, 6]", "[1, 1, 5, 6]"))
    crop = node("Resize", ["x", "r", "s"], ["y"], name="crop", coordinate_transformation_mode="tf_crop_and_resize")
    told = warnings_of(build([crop], {"x": [1, 1, 8, 8]}, weights=weights, opset=13))
    assert all("'crop'" in t and " 8 positions" in t and "makes 16" in t for t in told)
    assert len(told) == 2
    same = node("ConvTranspose", ["x", "w"], ["y"], name="same", auto_pad="SAME_UPPER", strides=[3])
    (told,) = warnings_of(build([same], {"x": [1, 2, 4]}, weights={"w": floats(2, 2, 2)}))
    assert all(part in told for part in ("'same'", " 12 positions", "makes 11", "stride 3"))


def test_double_precision_is_told_to_become_single():
    model = build([node("Mul", ["x", "c"], ["y"])], {"x": [2]}, weights={"c": np.array(0.5)}, elem=TensorProto.DOUBLE)
    (told,) = warnings_of(model)
    assert "double" in told
    assert "float32" in told
    assert not warnings_of(build([node("Relu", ["x"], ["y"])], {"x": [2]}))


ZERO = np.array(-0.0, np.float32)
SIGNS: dict[str, tuple[NodeProto, dict[str, np.ndarray]]] = {
    "Pad": (node("Pad", ["x", "p", "v"], ["y"]), {"p": np.array([0, 1, 0, 2]), "v": ZERO}),
    "Concat": (node("Concat", ["x", "c"], ["y"], axis=0), {"c": np.full((1, 4), ZERO)}),
    "channels": (node("Concat", ["c", "x"], ["y"], axis=1), {"c": np.full((2, 3), ZERO)}),
    "Where": (node("Where", ["m", "x", "c"], ["y"]), {"m": np.array([True, False, True, False]), "c": ZERO}),
    "Where first": (node("Where", ["m", "c", "x"], ["y"]), {"m": np.array([True, False, False, True]), "c": ZERO}),
    "Relu": (node("Relu", ["x"], ["y"]), {}),
    "Clip": (node("Clip", ["x", "low"], ["y"]), {"low": np.array(0, np.float32)}),
    "Clip 6": (
        node("Clip", ["x", "low", "high"], ["y"]),
        {"low": -ZERO, "high": -ZERO + 6},
    ),
    "Mul": (node("Mul", ["x", "c"], ["y"]), {"c": ZERO}),
}


@pytest.mark.parametrize("kind", SIGNS)
def test_signs_of_zero_are_the_runtimes_on_both_engines(kind):
    """1/x tells them apart."""
    last, weights = SIGNS[kind]
    model = build([last, node("Reciprocal", ["y"], ["z"])], {"x": [2, 4]}, ("z",), weights)
    program = mgc.compile(model, calibrate="none")
    feeds = {"x": np.array([[-0.0, 0.0, -1.5, 2.5], [0.0, -0.0, 3.0, -0.0]], np.float32)}
    wanted = reference(model, feeds)["z"]
    if kind.startswith("Where"):  # the runtime's kernel loses the sign of what it chooses from the first operand
        x, c, m = feeds["x"], weights["c"], weights["m"]
        with np.errstate(divide="ignore"):
            wanted = 1 / (np.where(m, x, c) if last.input[1] == "x" else np.where(m, c, x))
    for engine in ("fast", "reference"):
        for numerics in ("float", "quantized"):
            found = simulated(program, feeds, numerics, engine)["z"]
            infinite = np.isinf(wanted)
            assert infinite.any()
            assert np.array_equal(found[infinite], wanted[infinite]), (engine, numerics)
