"""What has a known length is written out: transforms become constant matrices, loops their bodies, tuples of indices
one index.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from compiled_files import elsewhere, off, reference, simulated
from onnx import TensorProto, ValueInfoProto
from onnx.helper import make_graph, make_tensor_value_info
from onnx.numpy_helper import from_array
from onnx_models import build, node

import mgc


def info(name: str, shape: list[int] | None, kind: int = TensorProto.FLOAT) -> ValueInfoProto:
    return make_tensor_value_info(name, kind, shape)


@pytest.mark.parametrize("seed", range(10))
def test_transforms_of_known_length_are_on_crossbars(seed):
    """Forward ones of either opset, on any axis; the inverse is NumPy's."""
    rng = np.random.default_rng(seed)
    axis, count, parts = int(rng.integers(1, 3)), int(rng.choice([5, 8, 9])), int(rng.choice([1, 2]))
    inverse = bool(rng.integers(2)) and parts == 2
    onesided = bool(rng.integers(2)) and parts == 1
    length = count + int(rng.integers(-2, 3))
    shape = [1, 3, 4, parts]
    shape[axis] = count
    old = bool(rng.integers(2))
    weights = {"n": np.array(length), "axis": np.array(axis)}
    attributes: dict[str, Any] = {"inverse": int(inverse), "onesided": int(onesided)}
    attributes |= {"axis": axis} if old else {}
    inputs = ["x", "n"] if old else ["x", "n", "axis"]
    model = build([node("DFT", inputs, ["y"], **attributes)], {"x": shape},
                  weights=weights, opset=17 if old else 20)  # fmt: skip
    program = mgc.compile(model, calibrate="none")
    assert elsewhere(program) == []
    x = rng.normal(size=shape).astype(np.float32)
    whole = x[..., 0] + 1j * x[..., 1] if parts == 2 else x[..., 0]
    if inverse:
        wanted = np.fft.ifft(whole, length, axis)
    else:
        wanted = (np.fft.rfft if onesided else np.fft.fft)(whole, length, axis)
    wanted = np.stack([wanted.real, wanted.imag], -1).astype(np.float32)
    assert off(simulated(program, {"x": x})["y"], wanted) < 1e-5


@pytest.mark.parametrize("length", [6, 7])
def test_a_real_inverse_takes_half_a_spectrum(length):
    rng = np.random.default_rng(length)
    signal = rng.normal(size=(1, 3, length))
    half = np.fft.rfft(signal)
    x = np.stack([half.real, half.imag], -1).astype(np.float32)
    weights = {"n": np.array(length), "axis": np.array(2)}
    model = build([node("DFT", ["x", "n", "axis"], ["y"], inverse=1, onesided=1)], {"x": list(x.shape)},
                  weights=weights, opset=20)  # fmt: skip
    program = mgc.compile(model, calibrate="none")
    assert elsewhere(program) == []
    assert off(simulated(program, {"x": x})["y"][..., 0], signal.astype(np.float32)) < 1e-5


@pytest.mark.parametrize("trips", [0, 1, 4])
@pytest.mark.parametrize("scan", [False, True])
def test_loops_of_known_trips_are_unrolled(trips, scan):
    """A body with weights of its own, the number of the trip, and rows that are stacked."""
    rng = np.random.default_rng(trips)
    w = from_array((rng.normal(size=(3, 3, 3, 3)) / 5).astype(np.float32), "w")
    body = make_graph(
        [
            node("Conv", ["v", "w"], ["c"], pads=[1] * 4),
            node("Cast", ["i"], ["f"], to=1),
            node("Add", ["c", "f"], ["next"]),
            node("Identity", ["keep"], ["on"]),
            node("ReduceMax", ["next"], ["row"], keepdims=0),
        ],
        "body",
        [info("i", [], TensorProto.INT64), info("keep", [], TensorProto.BOOL), info("v", None)],
        [info("on", [], TensorProto.BOOL), info("next", None), *([info("row", None)] if scan else [])],
        [w],
    )
    weights = {"trips": np.array(trips), "true": np.array(True)}
    nodes = [
        node("Loop", ["trips", "true", "x"], ["last", "rows"] if scan else ["last"], body=body),
        node("Relu", ["last"], ["y"]),
    ]
    model = build(nodes, {"x": [1, 3, 4, 4]}, ("y", "rows") if scan else ("y",), weights)
    program = mgc.compile(model, calibrate="none")
    if trips or not scan:
        assert elsewhere(program) == []
    feeds = {"x": rng.normal(size=(1, 3, 4, 4)).astype(np.float32)}
    found, wanted = simulated(program, feeds), reference(model, feeds)
    for name, array in wanted.items():
        assert off(found[name], array) < 1e-5, name


def test_a_loop_that_stops_by_itself_is_unrolled_up_to_there():
    body = make_graph(
        [
            node("Add", ["v", "v"], ["next"]),
            node("Less", ["i", "two"], ["on"]),
        ],
        "body",
        [info("i", [], TensorProto.INT64), info("keep", [], TensorProto.BOOL), info("v", None)],
        [info("on", [], TensorProto.BOOL), info("next", None)],
    )
    weights = {"trips": np.array(9), "two": np.array(2)}
    model = build([node("Loop", ["trips", "", "x"], ["y"], body=body)], {"x": [2, 3]}, weights=weights)
    program = mgc.compile(model, calibrate="none")
    assert elsewhere(program) == []
    feeds = {"x": np.ones((2, 3), np.float32)}
    assert np.array_equal(simulated(program, feeds)["y"], reference(model, feeds)["y"])


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("seed", range(6))
def test_index_tuples_are_gathered_on_the_chip(seed, known):
    rng = np.random.default_rng(seed)
    dims = [int(d) for d in rng.integers(2, 5, 4)]
    batch = int(rng.integers(0, 2))
    width = int(rng.integers(1, 4 - batch))
    shape = (*dims[:batch], int(rng.integers(1, 4)), width)
    limits = np.array(dims[batch : batch + width])
    index = np.stack([rng.integers(-n, n, shape[:-1]) for n in limits], -1)
    given, weights = ({"x": dims}, {"i": index}) if known else ({"x": dims, "i": list(shape)}, {})
    kinds = {} if known else {"i": TensorProto.INT64}
    model = build([node("GatherND", ["x", "i"], ["y"], batch_dims=batch)], given, weights=weights, elems=kinds)
    program = mgc.compile(model, calibrate="none")
    assert elsewhere(program) == []
    feeds = {"x": rng.normal(size=dims).astype(np.float32), **({} if known else {"i": index})}
    assert np.array_equal(simulated(program, feeds)["y"], reference(model, feeds)["y"])
