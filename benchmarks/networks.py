"""DCGANs of the published sizes with random weights, as ONNX: for timing and counting, not for looking at.

Weights are drawn so that every layer keeps the variance of its input (He), so calibration and rounding meet realistic
ranges. Topology: Radford et al., "Unsupervised Representation Learning with Deep Convolutional GANs" (2016).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class Builder:
    """Nodes and weights of a model, one after the other."""

    def __init__(self, seed: int):
        self.rng = np.random.Generator(np.random.PCG64(seed))
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def weight(self, name: str, array: np.ndarray) -> str:
        self.initializers.append(numpy_helper.from_array(array.astype(np.float32), name))
        return name

    def node(self, op: str, *inputs: str, **attributes: object) -> str:
        out = f"h{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [out], name=f"{op}_{len(self.nodes)}", **attributes))
        return out

    def conv(self, x: str, name: str, shape: Sequence[int], fan_in: float, op: str, stride: int, pad: int) -> str:
        w = self.rng.standard_normal(shape) * np.sqrt(2 / fan_in)
        kernel = list(shape[2:])
        attributes = {
            "kernel_shape": kernel,
            "strides": [stride] * 2,
            "pads": [pad] * 4,
            "dilations": [1, 1],
            "group": 1,
        }
        return self.node(op, x, self.weight(f"{name}.weight", w), **attributes)

    def batch_norm(self, x: str, name: str, channels: int) -> str:
        one, zero = np.ones(channels), np.zeros(channels)
        scale = one + 0.1 * self.rng.standard_normal(channels)
        bias = 0.1 * self.rng.standard_normal(channels)
        values = {"weight": scale, "bias": bias, "running_mean": zero, "running_var": one}
        return self.node("BatchNormalization", x, *(self.weight(f"{name}.{k}", v) for k, v in values.items()))

    def model(self, name: str, x: str, shape: list[int | str], y: str, y_shape: list[int | str]) -> onnx.ModelProto:
        self.nodes[-1].output[0] = y
        graph = helper.make_graph(
            self.nodes,
            name,
            [helper.make_tensor_value_info(x, TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info(y, TensorProto.FLOAT, y_shape)],
            self.initializers,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def generator(width: int = 64, noise: int = 100, colours: int = 3, seed: int = 0) -> onnx.ModelProto:
    """z [N, noise, 1, 1] -> image [N, colours, 64, 64]; channels 8, 4, 2, 1 times `width`."""
    b = Builder(seed)
    channels = [noise, 8 * width, 4 * width, 2 * width, width, colours]
    x = "z"
    for k, (c, n) in enumerate(pairwise(channels)):
        # each output of a stride-2 layer sees 4 of the 16 taps
        fan_in = c if k == 0 else c * 4
        x = b.conv(x, f"main.{3 * k}", (c, n, 4, 4), fan_in, "ConvTranspose", 1 if k == 0 else 2, int(k > 0))
        x = b.node("Tanh", x) if k == 4 else b.node("Relu", b.batch_norm(x, f"main.{3 * k + 1}", n))
    return b.model(f"dcgan_G_{width}", "z", ["N", noise, 1, 1], "image", ["N", colours, 64, 64])


def discriminator(width: int = 64, colours: int = 3, seed: int = 0) -> onnx.ModelProto:
    """image [N, colours, 64, 64] -> score [N, 1, 1, 1]; channels 1, 2, 4, 8 times `width`; 11 M weights at 128."""
    b = Builder(seed)
    channels = [colours, width, 2 * width, 4 * width, 8 * width, 1]
    x = "image"
    for k, (c, n) in enumerate(pairwise(channels)):
        x = b.conv(x, f"main.{3 * k}", (n, c, 4, 4), c * 16, "Conv", 1 if k == 4 else 2, int(k < 4))
        if 0 < k < 4:
            x = b.batch_norm(x, f"main.{3 * k + 1}", n)
        if k < 4:
            x = b.node("LeakyRelu", x, alpha=0.2)
    return b.model(f"dcgan_D_{width}", "image", ["N", colours, 64, 64], "score", ["N", 1, 1, 1])


def vgg_a(size: int = 224, seed: int = 0) -> onnx.ModelProto:
    """The convolutions of VGG-A (Simonyan and Zisserman, 2015): image [N, 3, size, size] -> features; 7.5 G
    multiply-accumulates at 224. `size` is a multiple of 32.
    """
    b = Builder(seed)
    x, channels = "image", 3
    for n in (64, 0, 128, 0, 256, 256, 0, 512, 512, 0, 512, 512, 0):
        if n:
            x = b.node("Relu", b.conv(x, f"conv{len(b.nodes)}", (n, channels, 3, 3), channels * 9, "Conv", 1, 1))
            channels = n
        else:
            x = b.node("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    shape: list[int | str] = ["N", channels, size // 32, size // 32]
    return b.model("vgg_a", "image", ["N", 3, size, size], "features", shape)
