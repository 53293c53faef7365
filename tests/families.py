"""GANs of families that `benchmarks.families` does not time, very small, with random weights of sane scale, as ONNX.

Topologies after: BigGAN (Brock et al. 2019), SAGAN (Zhang et al. 2019), HiFi-GAN (Kong et al. 2020), U-GAT-IT (Kim et
al. 2020), StarGAN v2 (Choi et al. 2020), TransGAN (Jiang et al. 2021), LaMa with ONNX's DFT (Suvorov et al. 2022).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import sqrt

import numpy as np
from onnx import ModelProto, TensorProto
from onnx.helper import make_graph, make_model, make_node, make_opsetid, make_tensor_value_info

from benchmarks.families import Layers

Shape = Sequence[int | str]


def finished(b: Layers, result: str, inputs: Mapping[str, Shape], labels: Sequence[str] = ()) -> ModelProto:
    """The model with one output, "image"; inputs called in `labels` are int64."""
    b.nodes.append(make_node("Identity", [result], ["image"]))
    kinds = {name: TensorProto.INT64 if name in labels else TensorProto.FLOAT for name in inputs}
    given = [make_tensor_value_info(name, kinds[name], list(shape)) for name, shape in inputs.items()]
    out = make_tensor_value_info("image", TensorProto.FLOAT, None)
    graph = make_graph(b.nodes, "family", given, [out], b.initializers)
    return make_model(graph, opset_imports=[make_opsetid("", 17)], ir_version=8)


def _numbers(b: Layers, *values: int) -> str:
    return b.constant(np.array(values, np.int64))


def _heads(b: Layers, x: str, tokens: int, width: int, heads: int) -> str:
    return b.node(
        "Transpose", b.reshape(b.linear(x, width, width), -1, tokens, heads, width // heads), perm=[0, 2, 1, 3]
    )


def _attended(b: Layers, x: str, tokens: int, width: int, heads: int) -> str:
    """Self-attention of tokens [N, tokens, width]."""
    q, k, v = (_heads(b, x, tokens, width, heads) for _ in range(3))
    scores = b.node("MatMul", q, b.node("Transpose", k, perm=[0, 1, 3, 2]))
    weights = b.node("Softmax", b.node("Mul", scores, b.constant(sqrt(heads / width))), axis=-1)
    y = b.node("Transpose", b.node("MatMul", weights, v), perm=[0, 2, 1, 3])
    return b.linear(b.reshape(y, -1, tokens, width), width, width, 0.5)


def _attended_map(b: Layers, x: str, c: int, height: int) -> str:
    """SAGAN's self-attention of a map [N, c, height, height], keys and values pooled to half the size."""
    area = height * height
    q = b.reshape(b.conv2d(x, c, c // 2, 1, 1.0), -1, c // 2, area)
    k, v = (
        b.reshape(b.node("MaxPool", b.conv2d(x, c, n, 1, 1.0), kernel_shape=[2, 2], strides=[2, 2]), -1, n, area // 4)
        for n in (c // 2, c)
    )
    weights = b.node("Softmax", b.node("MatMul", b.node("Transpose", q, perm=[0, 2, 1]), k), axis=-1)
    y = b.reshape(b.node("MatMul", v, b.node("Transpose", weights, perm=[0, 2, 1])), -1, c, height, height)
    return b.node("Add", x, b.node("Mul", b.conv2d(y, c, c, 1, 1.0), b.constant(0.5)))


def _up(b: Layers, x: str, c: int, n: int) -> str:
    w = b.drawn(c, n, 4, 4, fan_in=4 * c, gain=sqrt(2))
    return b.node("ConvTranspose", x, w, strides=[2, 2], pads=[1] * 4)


def biggan() -> ModelProto:
    """Noise and label to an image: class-conditional norms, residual blocks, attention."""
    b, c = Layers(11), 12
    embedded = b.node("Gather", b.drawn(10, 8, fan_in=1), "label")
    code = b.node("Concat", "z", embedded, axis=1)
    x = b.reshape(b.linear(code, 20, 4 * 4 * c), -1, c, 4, 4)

    def norm(x: str) -> str:
        x = b.batch_norm(x, f"bn{len(b.nodes)}", c)
        gain = b.reshape(b.node("Add", b.linear(code, 20, c, 0.3), b.constant(1.0)), -1, c, 1, 1)
        return b.node("Relu", b.node("Add", b.node("Mul", x, gain), b.reshape(b.linear(code, 20, c, 0.3), -1, c, 1, 1)))

    for level in range(2):
        y = b.conv2d(b.grow(norm(x)), c, c)
        y = b.conv2d(norm(y), c, c, gain=0.5)
        x = b.node("Add", y, b.conv2d(b.grow(x), c, c, 1, 1.0))
        x = _attended_map(b, x, c, 8) if level == 0 else x
    image = b.node("Tanh", b.conv2d(b.node("Relu", b.batch_norm(x, "last", c)), c, 3, gain=0.7))
    return finished(b, image, {"z": ["N", 12], "label": ["N"]}, ["label"])


def sagan() -> ModelProto:
    """Noise to an image by transposed convolutions, with attention between."""
    b, c = Layers(12), 12
    x = b.node("ConvTranspose", "z", b.drawn(16, c, 4, 4, fan_in=16))
    x = _up(b, b.node("Relu", b.batch_norm(x, "a", c)), c, c)
    x = _attended_map(b, b.node("Relu", b.batch_norm(x, "b", c)), c, 8)
    return finished(b, b.node("Tanh", _up(b, x, c, 3)), {"z": ["N", 16, 1, 1]})


def hifigan() -> ModelProto:
    """Spectrum frames to a waveform: residual blocks of dilated convolutions after each transposed one."""
    b, c = Layers(13), 16

    def conv(x: str, i: int, o: int, k: int, d: int = 1, gain: float = sqrt(2)) -> str:
        pads = [d * (k // 2)] * 2
        bias = b.constant(0.05 * b.rng.standard_normal(o))
        return b.node("Conv", x, b.drawn(o, i, k, fan_in=i * k, gain=gain), bias, dilations=[d], pads=pads)

    def act(x: str) -> str:
        return b.node("LeakyRelu", x, alpha=0.1)

    x = conv("mel", 20, c, 7)
    for _ in range(2):
        w = b.drawn(c, c // 2, 8, fan_in=2 * c, gain=sqrt(2))
        x, c = b.node("ConvTranspose", act(x), w, strides=[4], pads=[2, 2]), c // 2
        made = []
        for k in (3, 5):
            y = x
            for d in (1, 3):
                y = b.node("Add", y, conv(act(conv(act(y), c, c, k, d)), c, c, k, gain=0.5))
            made.append(y)
        x = b.node("Mul", b.node("Add", *made), b.constant(0.5))
    return finished(b, b.node("Tanh", conv(act(x), c, 1, 7)), {"mel": ["N", 20, 8]})


def _instance_norm(b: Layers, x: str, c: int) -> str:
    return b.node("InstanceNormalization", x, b.constant(np.ones(c)), b.constant(np.zeros(c)), epsilon=1e-5)


def ugatit() -> ModelProto:
    """Image to image: class activation maps, and norms mixed of instance and layer (AdaLIN) by what they tell."""
    b, c, height = Layers(14), 12, 8
    x = b.node("Relu", _instance_norm(b, b.conv2d("x", 3, c, 5), c))
    x = b.node("Relu", _instance_norm(b, b.conv2d(x, c, c, stride=2), c))
    maps = []
    for pool in ("GlobalAveragePool", "GlobalMaxPool"):
        w = b.drawn(1, c, fan_in=c)
        pooled = b.reshape(b.node(pool, x), -1, c)
        logit = b.reshape(b.node("Gemm", pooled, w, transB=1), -1, 1, 1, 1)
        maps.append(b.node("Add", b.node("Mul", x, b.reshape(w, 1, c, 1, 1)), b.node("Mul", logit, b.constant(0.01))))
    x = b.node("Relu", b.conv2d(b.node("Concat", *maps, axis=1), 2 * c, c, 1))
    code = b.node("Relu", b.linear(b.reshape(x, -1, c * height * height), c * height * height, c))
    gamma = b.reshape(b.node("Add", b.linear(code, c, c, 0.3), b.constant(1.0)), -1, c, 1, 1)
    beta = b.reshape(b.linear(code, c, c, 0.3), -1, c, 1, 1)
    for k in range(2):
        y = b.conv2d(x, c, c)
        mixed = []
        for axes, share in (([2, 3], 0.7), ([1, 2, 3], 0.3)):
            off = b.node("Sub", y, b.node("ReduceMean", y, axes=axes))
            var = b.node("ReduceMean", b.node("Mul", off, off), axes=axes)
            normal = b.node("Div", off, b.node("Sqrt", b.node("Add", var, b.constant(1e-5))))
            mixed.append(b.node("Mul", normal, b.constant(np.full((1, c, 1, 1), share))))
        y = b.node("Add", b.node("Mul", b.node("Add", *mixed), gamma), beta)
        x = b.node("Add", x, b.node("Relu", y) if k == 0 else y)
    x = b.node("Relu", b.conv2d(b.grow(x), c, c))
    return finished(b, b.node("Tanh", b.conv2d(x, c, 3, 5, 0.7)), {"x": ["N", 3, 16, 16]})


def starganv2() -> ModelProto:
    """Image, noise and domain to an image: the domain's style out of a mapping network's, AdaIN in the decoder."""
    b, c, domains = Layers(15), 12, 3
    h = b.node("Relu", b.linear("z", 8, 24))
    styles = [b.node("Unsqueeze", b.linear(h, 24, 8), _numbers(b, 1)) for _ in range(domains)]
    index = b.node("Unsqueeze", "domain", _numbers(b, 1))
    style = b.node("GatherND", b.node("Concat", *styles, axis=1), index, batch_dims=1)

    def act(x: str) -> str:
        return b.node("LeakyRelu", x, alpha=0.2)

    def adain(x: str) -> str:
        gamma = b.reshape(b.node("Add", b.linear(style, 8, c, 0.3), b.constant(1.0)), -1, c, 1, 1)
        beta = b.reshape(b.linear(style, 8, c, 0.3), -1, c, 1, 1)
        return act(b.node("Add", b.node("Mul", _instance_norm(b, x, c), gamma), beta))

    x = b.conv2d("x", 3, c, gain=1.0)
    y = b.node("AveragePool", b.conv2d(act(_instance_norm(b, x, c)), c, c), kernel_shape=[2, 2], strides=[2, 2])
    y = b.conv2d(act(_instance_norm(b, y, c)), c, c, gain=0.7)
    x = b.node("Mul", b.node("Add", y, b.node("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2])),
               b.constant(sqrt(0.5)))  # fmt: skip
    y = b.conv2d(adain(b.conv2d(b.grow(adain(x)), c, c)), c, c, gain=0.7)
    x = b.node("Mul", b.node("Add", y, b.grow(x)), b.constant(sqrt(0.5)))
    image = b.conv2d(act(_instance_norm(b, x, c)), c, 3, 1, 0.7)
    given: dict[str, Shape] = {"x": ["N", 3, 16, 16], "z": ["N", 8], "domain": ["N"]}
    return finished(b, image, given, ["domain"])


def transgan() -> ModelProto:
    """Noise to an image by transformer blocks, with pixels shuffled between for twice the size."""
    b, width, tokens = Layers(16), 32, 16

    def block(x: str, width: int, tokens: int) -> str:
        x = b.node("Add", x, _attended(b, b.layer_norm(x, width), tokens, width, 2))
        y = b.linear(b.gelu(b.linear(b.layer_norm(x, width), width, 2 * width)), 2 * width, width, 0.5)
        return b.node("Add", x, y)

    x = b.reshape(b.linear("z", 16, tokens * width), -1, tokens, width)
    x = block(b.node("Add", x, b.constant(0.1 * b.rng.standard_normal((1, tokens, width)))), width, tokens)
    square = b.reshape(b.node("Transpose", x, perm=[0, 2, 1]), -1, width, 4, 4)
    square = b.node("DepthToSpace", square, blocksize=2, mode="CRD")
    width, tokens = width // 4, tokens * 4
    x = block(b.node("Transpose", b.reshape(square, -1, width, tokens), perm=[0, 2, 1]), width, tokens)
    square = b.reshape(b.node("Transpose", x, perm=[0, 2, 1]), -1, width, 8, 8)
    return finished(b, b.conv2d(square, width, 3, 1, 1.0), {"z": ["N", 16]})


def lama_dft() -> ModelProto:
    """A block of fast Fourier convolution with ONNX's transforms, rows and columns, forth and back."""
    b, c, size = Layers(17), 6, 8
    x = b.node("Relu", b.conv2d("x", 4, c))
    spectrum = b.node("DFT", b.node("Unsqueeze", x, _numbers(b, -1)), axis=3, onesided=1)
    spectrum = b.node("DFT", spectrum, axis=2)
    half = size // 2 + 1
    parts = b.reshape(b.node("Transpose", spectrum, perm=[0, 1, 4, 2, 3]), -1, 2 * c, size, half)
    parts = b.node("Relu", b.conv2d(parts, 2 * c, 2 * c, 1))
    spectrum = b.node("Transpose", b.reshape(parts, -1, c, 2, size, half), perm=[0, 1, 3, 4, 2])
    back = b.node("DFT", spectrum, axis=2, inverse=1)
    # the other half of the rows are conjugates: as exporters write the inverse of a real transform
    mirrored = b.node("Slice", back, *(_numbers(b, v) for v in (half - 2, 0, 3, -1)))
    mirrored = b.node("Mul", mirrored, b.constant(np.array([1.0, -1.0])))
    whole = b.node("Concat", back, mirrored, axis=3)
    whole = b.node("DFT", whole, axis=3, inverse=1)
    real = b.node("Gather", whole, b.constant(np.array(0)), axis=4)
    y = b.node("Add", x, b.conv2d(real, c, c, 1, 0.5))
    return finished(b, b.node("Sigmoid", b.conv2d(y, c, 3)), {"x": ["N", 4, size, size]})


MORE_FAMILIES: dict[str, Callable[[], ModelProto]] = {
    "biggan": biggan,
    "sagan": sagan,
    "hifigan": hifigan,
    "u-gat-it": ugatit,
    "stargan-v2": starganv2,
    "transgan": transgan,
    "lama-dft": lama_dft,
}
