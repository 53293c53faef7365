"""Models as onnxruntime.quantization writes them, in its three formats: on crossbars, with the scales that they state,
and the numbers of ONNX Runtime. A model that requantises its own results may be one of its steps off, here and there:
sums that lie on the edge between two codes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from compiled_files import elsewhere, off, reference, simulated
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from onnx import ModelProto
from onnx_models import build, node
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static

import mgc
from mgc.comparison import compare
from mgc.evaluation.model_outputs import output_steps

TYPES = [(QuantType.QUInt8, QuantType.QUInt8), (QuantType.QInt8, QuantType.QInt8), (QuantType.QUInt8, QuantType.QInt8)]
# Models of tens of seconds are not made smaller again and again.
DRAWN = settings(deadline=None, phases=[Phase.generate], suppress_health_check=[HealthCheck.function_scoped_fixture])
# a step of 8-bit codes is 1/127 or 1/255 of a result's range; two layers' steps may meet in a sum
STEP = 1 / 60


class Feeds(CalibrationDataReader):
    """Sample inputs for the tool."""

    def __init__(self, feeds: list[dict[str, np.ndarray]]) -> None:
        self._rest = iter(feeds)

    def get_next(self) -> Any:
        return next(self._rest, None)


def network(draw: Callable[..., Any]) -> tuple[ModelProto, dict[str, np.ndarray]]:
    """A few layers of a generator, drawn, and its samples."""
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    channels, size = draw(st.sampled_from([4, 6])), draw(st.sampled_from([4, 6]))
    weights: dict[str, np.ndarray] = {}
    nodes: list[onnx.NodeProto] = []

    def const(*shape: int, scale: float = 1.0) -> str:
        name = f"w{len(weights)}"
        fan = np.prod(shape[1:]) if len(shape) > 1 else 4
        weights[name] = (rng.normal(size=shape) * scale / np.sqrt(fan)).astype(np.float32)
        return name

    def then(kind: str, *operands: str, **attributes: Any) -> str:
        nodes.append(node(kind, list(operands), [f"v{len(nodes)}"], **attributes))
        return nodes[-1].output[0]

    weights["shape"] = np.array([-1, channels, size, size])
    x = then("Gemm", "z", const(channels * size * size, 10), const(channels * size * size), transB=1)
    x = then("Reshape", x, "shape")
    before = x
    for kind in draw(st.lists(st.sampled_from(LAYERS), min_size=2, max_size=5)):
        if kind == "Conv":
            before, x = x, then(kind, x, const(channels, channels, 3, 3, scale=1.4), const(channels), pads=[1] * 4)
        elif kind == "grouped":
            before, x = x, then("Conv", x, const(channels, channels // 2, 1, 1), group=2)
        elif kind == "ConvTranspose":
            x = before = then(kind, x, const(channels, channels, 4, 4, scale=2.0), strides=[2, 2], pads=[1] * 4)
            size *= 2
        elif kind in ("Add", "Mul"):
            x = then(kind, x, before)
        elif kind == "Concat":
            x = then("Conv", then(kind, x, before, axis=1), const(channels, 2 * channels, 1, 1))
        elif kind in ("MaxPool", "AveragePool"):
            if size < 2:
                continue
            x = before = then(kind, x, kernel_shape=[2, 2], strides=[2, 2] if kind == "MaxPool" else [1, 1])
            size = size // 2 if kind == "MaxPool" else size - 1
        elif kind == "Clip":
            weights["low"], weights["high"] = np.array(-1, np.float32), np.array(1, np.float32)
            x = then(kind, x, "low", "high")
        else:
            x = then(kind, x, **({"alpha": 0.2} if kind == "LeakyRelu" else {}))
    x = then("Conv", x, const(3, channels, 3, 3), const(3), pads=[1] * 4)
    nodes.append(node("Tanh", [x], ["y"]))
    flat = then("Flatten", then("GlobalAveragePool", x))
    nodes.append(node("MatMul", [flat, const(3, 5)], ["score"]))
    data = rng.normal(size=(12, 10)).astype(np.float32)
    return build(nodes, {"z": ["n", 10]}, ("y", "score"), weights), {"z": data}


LAYERS = ["Conv", "grouped", "ConvTranspose", "Add", "Mul", "Concat", "MaxPool", "AveragePool", "Relu", "LeakyRelu",
          "Sigmoid", "Clip"]  # fmt: skip


def quantised(model: ModelProto, data: Mapping[str, np.ndarray], folder: Path, how: str, **options: Any) -> ModelProto:
    logging.getLogger().setLevel(logging.ERROR)  # the tool advises on preprocessing
    onnx.save(model, folder / "float.onnx")
    if how == "dynamic":
        quantize_dynamic(folder / "float.onnx", folder / "int8.onnx", **options)
    else:
        feeds = [{name: array[k : k + 1] for name, array in data.items()} for k in range(8)]
        kind = QuantFormat.QDQ if how == "QDQ" else QuantFormat.QOperator
        quantize_static(folder / "float.onnx", folder / "int8.onnx", Feeds(feeds), quant_format=kind, **options)
    return onnx.load(folder / "int8.onnx")


def check(int8: ModelProto, data: Mapping[str, np.ndarray]) -> None:
    """On crossbars; in `float` some results are a few of the model's own steps off, in `quantized` all are near enough.

    Sums of codes lie on the edge between two codes often (a mean of four), and later layers make more of such a step.
    """
    program = mgc.compile(int8, calibration=data)
    assert elsewhere(program) == []
    feeds = {"z": data["z"][9:10]}
    wanted = reference(int8, feeds)
    found = simulated(program, feeds)
    steps = output_steps(int8)
    for name, array in wanted.items():
        most = 3 * (steps.get(name) or STEP * np.abs(array).max())
        assert np.abs(found[name] - array).max() <= 1.01 * most, name
    assert compare(found, wanted).psnr_db > 35
    assert compare(simulated(program, feeds, "quantized"), wanted).ok("quantized")


@pytest.mark.parametrize("how", ["QDQ", "QOperator"])
@settings(DRAWN, max_examples=5)
@given(draw=st.data())
def test_static_models_give_the_runtimes_numbers_on_crossbars(how, draw, tmp_path):
    model, data = network(draw.draw)
    activations, weights = draw.draw(st.sampled_from(TYPES))
    int8 = quantised(model, data, tmp_path, how, activation_type=activations, weight_type=weights,
                     per_channel=draw.draw(st.booleans()))  # fmt: skip
    check(int8, data)


@settings(DRAWN, max_examples=4)
@given(draw=st.data())
def test_dynamic_models_give_the_runtimes_numbers_on_crossbars(draw, tmp_path):
    model, data = network(draw.draw)
    of, some = draw.draw(st.sampled_from([QuantType.QInt8, QuantType.QUInt8])), draw.draw(st.booleans())
    options = {"weight_type": of, "per_channel": some, "reduce_range": draw.draw(st.booleans())}
    int8 = quantised(model, data, tmp_path, "dynamic", **options)
    check(int8, data)


def test_stated_scales_are_used_as_they_are(tmp_path):
    """Codes have the file's steps, and weights its whole numbers: nothing is rounded twice."""
    weights = {"w": np.random.default_rng(1).normal(size=(8, 8, 3, 3)).astype(np.float32)}
    model = build([node("Conv", ["x", "w"], ["y"], pads=[1] * 4)], {"x": [1, 8, 6, 6]}, weights=weights)
    data = {"x": np.random.default_rng(2).normal(size=(8, 8, 6, 6)).astype(np.float32)}
    int8 = quantised(model, data, tmp_path, "QDQ", per_channel=True, activation_type=QuantType.QUInt8)
    stated = {t.name: onnx.numpy_helper.to_array(t) for t in int8.graph.initializer}
    program = mgc.compile(int8, calibration={"x": 0.1 * data["x"]})  # other data, other ranges
    (layer,) = program.meta["layers"]
    assert np.float32(layer["scale"]) == stated["x_scale"]
    assert layer["zero"] == stated["x_zero_point"]
    assert layer["weight_snr_db"] > 120
    scales = stated["w_scale"] / stated["y_scale"]  # what divides the result is in the weights
    assert np.isclose(layer["weight_scale_high"], scales.max(), rtol=1e-6)
    assert np.isclose(layer["weight_scale_low"], scales.min(), rtol=1e-6)


@pytest.mark.parametrize("zero", [0, 7])
@pytest.mark.parametrize("scale", [0.5, 1.0])
def test_a_dynamic_zero_point_counts_as_often_as_the_kernel_meets_the_input(zero, scale):
    """ConvInteger pads with its zero point, in a model that computes it."""
    rng = np.random.default_rng(3)
    weights = {"w": rng.integers(-9, 9, (4, 2, 3, 3)).astype(np.int8), "wz": np.int8(zero)}
    nodes = [
        node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
        node("ConvInteger", ["q", "w", "z", "wz"], ["i"], pads=[2, 1, 0, 1], strides=[2, 1]),
        node("Cast", ["i"], ["y"], to=1),
    ]
    model = build(nodes, {"x": [1, 2, 5, 6]}, weights=weights)
    program = mgc.compile(model, calibrate="none")
    assert elsewhere(program) == []
    for shift in (-1.0, 0.0, 2.0):
        feeds = {"x": (rng.normal(size=(1, 2, 5, 6)) * scale + shift).astype(np.float32)}
        for numerics in ("float", "quantized"):
            assert off(simulated(program, feeds, numerics)["y"], reference(model, feeds)["y"]) == 0


def test_a_dynamic_model_of_zeros_is_zeros():
    nodes = [
        node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
        node("DequantizeLinear", ["q", "s", "z"], ["y"]),
    ]
    model = build(nodes, {"x": [2, 3]})
    program = mgc.compile(model, calibrate="none")
    feeds = {"x": np.zeros((2, 3), np.float32)}
    assert np.array_equal(simulated(program, feeds)["y"], reference(model, feeds)["y"])
