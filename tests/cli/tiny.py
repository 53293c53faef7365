"""Small ONNX models for the command line: quick to compile, with the shapes of real GANs."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def model(nodes, inputs, outputs, **weights):
    """A checked model; `inputs` and `outputs` map names to shapes (float32) or (type, shape)."""

    def info(name, given):
        kind, shape = given if isinstance(given, tuple) else (TensorProto.FLOAT, given)
        return helper.make_tensor_value_info(name, kind, shape)

    graph = helper.make_graph(
        nodes,
        "tiny",
        [info(*i) for i in inputs.items()],
        [info(*o) for o in outputs.items()],
        [numpy_helper.from_array(np.asarray(w), name) for name, w in weights.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(made)
    return made


def generator(channels=1, extra=()):
    """z [N, 8] -> image [N, channels, 8, 8] in -1..1."""
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Gemm", ["z", "w0"], ["h0"], "project"),
        helper.make_node("Reshape", ["h0", "shape"], ["h1"], "fold"),
        helper.make_node("Relu", ["h1"], ["h2"], "relu"),
        helper.make_node("ConvTranspose", ["h2", "w1"], ["h3"], "up", strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Tanh", ["h3"], ["image"], "tanh"),
        *extra,
    ]
    return model(
        nodes,
        {"z": ["N", 8]},
        {"image": ["N", channels, 8, 8]},
        w0=rng.normal(size=(8, 64)).astype(np.float32),
        shape=np.array([-1, 4, 4, 4]),
        w1=rng.normal(scale=0.3, size=(4, channels, 4, 4)).astype(np.float32),
    )


def scorer():
    """image [N, 1, 8, 8] -> score [N, 1] and label [N] (int64, by the host)."""
    rng = np.random.default_rng(1)
    nodes = [
        helper.make_node("Conv", ["image", "w0"], ["h0"], "conv", strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("LeakyRelu", ["h0"], ["h1"], "leaky", alpha=0.2),
        helper.make_node("Flatten", ["h1"], ["h2"], "flat"),
        helper.make_node("Gemm", ["h2", "w1"], ["score"], "score"),
        helper.make_node("ArgMax", ["h2"], ["label"], "argmax", axis=1, keepdims=0),
    ]
    return model(
        nodes,
        {"image": ["N", 1, 8, 8]},
        {"score": ["N", 1], "label": (TensorProto.INT64, ["N"])},
        w0=rng.normal(size=(4, 1, 4, 4)).astype(np.float32),
        w1=rng.normal(scale=0.1, size=(64, 1)).astype(np.float32),
    )


def batch_mixer():
    """x [N, 4] -> x minus its mean over the batch."""
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["m"], "mean", axes=[0], keepdims=1),
        helper.make_node("Sub", ["x", "m"], ["y"], "sub"),
    ]
    return model(nodes, {"x": ["N", 4]}, {"y": ["N", 4]})
