"""GANs of other families than DCGAN at small size, with random weights of sane scale, as ONNX: for timing.

Topologies after: StyleGAN2 (Karras et al. 2020), LaMa (Suvorov et al. 2022), RRDBNet of ESRGAN (Wang et al. 2018),
SwinIR (Liang et al. 2021), the decoder of VQGAN (Esser et al. 2021); much narrower than published unless said.
"""

from __future__ import annotations

from collections.abc import Callable
from math import log2, sqrt

import numpy as np
import onnx

from benchmarks.networks import Builder


class Layers(Builder):
    """What these families have in common."""

    def constant(self, values: object) -> str:
        """A constant of a name of its own."""
        array = np.asarray(values)
        name = f"c{len(self.initializers)}"
        self.initializers.append(
            onnx.numpy_helper.from_array(array.astype(np.float32) if array.dtype.kind == "f" else array, name)
        )
        return name

    def drawn(self, *shape: int, fan_in: float, gain: float = 1.0) -> str:
        """Weights of variance gain^2 / fan_in."""
        return self.constant(self.rng.standard_normal(shape) * (gain / sqrt(fan_in)))

    def conv2d(self, x: str, c: int, n: int, k: int = 3, gain: float = sqrt(2), stride: int = 1) -> str:
        """A convolution with bias that keeps sizes, but for its stride."""
        bias = self.constant(0.1 * self.rng.standard_normal(n))
        w = self.drawn(n, c, k, k, fan_in=c * k * k, gain=gain)
        return self.node("Conv", x, w, bias, pads=[k // 2] * 4, strides=[stride] * 2)

    def linear(self, x: str, c: int, n: int, gain: float = 1.0) -> str:
        """x W + b on the last axis."""
        bias = self.constant(0.1 * self.rng.standard_normal(n))
        return self.node("Add", self.node("MatMul", x, self.drawn(c, n, fan_in=c, gain=gain)), bias)

    def reshape(self, x: str, *shape: int) -> str:
        """To a constant shape."""
        return self.node("Reshape", x, self.constant(np.array(shape, np.int64)))

    def grow(self, x: str) -> str:
        """Twice the size, by the nearest neighbour."""
        return self.node("Resize", x, "", self.constant([1.0, 1.0, 2.0, 2.0]), mode="nearest",
                         coordinate_transformation_mode="asymmetric", nearest_mode="floor")  # fmt: skip

    def group_norm(self, x: str, n: int, height: int, groups: int) -> str:
        """As exporters write it: InstanceNormalization of groups, then scale and bias."""
        ones, zeros = self.constant(np.ones(groups)), self.constant(np.zeros(groups))
        flat = self.node("InstanceNormalization", self.reshape(x, 0, groups, -1), ones, zeros, epsilon=1e-6)
        whole = self.reshape(flat, 0, n, height, height)
        scale, bias = 1 + 0.1 * self.rng.standard_normal((n, 1, 1)), 0.1 * self.rng.standard_normal((n, 1, 1))
        return self.node("Add", self.node("Mul", whole, self.constant(scale)), self.constant(bias))

    def layer_norm(self, x: str, n: int) -> str:
        """Over the last axis."""
        scale, bias = 1 + 0.1 * self.rng.standard_normal(n), 0.1 * self.rng.standard_normal(n)
        return self.node("LayerNormalization", x, self.constant(scale), self.constant(bias), axis=-1, epsilon=1e-5)

    def gelu(self, x: str) -> str:
        """x (1 + erf(x / sqrt 2)) / 2."""
        erf = self.node("Erf", self.node("Div", x, self.constant(sqrt(2))))
        return self.node("Mul", self.node("Mul", x, self.node("Add", erf, self.constant(1.0))), self.constant(0.5))


def stylegan2(size: int = 64, width: int = 48, *, fused: bool = False, batch: int = 1) -> onnx.ModelProto:
    """z [batch, 64] -> image [batch, 3, size, size]: 0.3 M weights. `fused`: of the weights, as exported."""
    b = Layers(1)
    x = "z"
    for _ in range(4):
        x = b.node("LeakyRelu", b.linear(x, 64, 64, sqrt(2)), alpha=0.2)
    style, height = x, 4
    x = b.node(
        "Add",
        b.node(
            "Mul",
            b.reshape(b.node("ReduceSum", style, b.constant(np.array([1])), keepdims=1), -1, 1, 1, 1),
            b.constant(0.0),
        ),
        b.drawn(1, width, 4, 4, fan_in=1),
    )
    image = ""
    for level in range(int(log2(size)) - 1):
        if level:
            x, height = b.grow(x), 2 * height
        for _ in range(2 if level else 1):
            x = _modulated(b, x, style, width, width, 3, height, fused=fused, batch=batch, demodulate=True)
            noise = b.constant(0.05 * b.rng.standard_normal((1, 1, height, height)))
            x = b.node("Mul", b.node("LeakyRelu", b.node("Add", x, noise), alpha=0.2), b.constant(sqrt(2)))
        rgb = _modulated(b, x, style, width, 3, 1, height, fused=fused, batch=batch, demodulate=False)
        image = b.node("Add", b.grow(image), rgb) if image else rgb
    b.node("Identity", image)
    return b.model(f"stylegan2_{size}", "z", [batch, 64], "image", [batch, 3, size, size])


def _modulated(
    b: Layers, x: str, style: str, c: int, n: int, k: int, height: int, *, fused: bool, batch: int, demodulate: bool
) -> str:
    """A convolution whose input channels are scaled by the style, its output channels to unit variance."""
    scale = b.node("Add", b.linear(style, 64, c, 0.3), b.constant(1.0))
    weights = b.rng.standard_normal((n, c, k, k)) / sqrt(c * k * k)
    if fused:
        w = b.node("Mul", b.constant(weights[None]), b.reshape(scale, batch, 1, c, 1, 1))
        if demodulate:
            norm = b.node("ReduceSum", b.node("Mul", w, w), b.constant(np.array([2, 3, 4])), keepdims=1)
            w = b.node("Div", w, b.node("Sqrt", b.node("Add", norm, b.constant(1e-8))))
        y = b.node(
            "Conv",
            b.reshape(x, 1, batch * c, height, height),
            b.reshape(w, batch * n, c, k, k),
            group=batch,
            pads=[k // 2] * 4,
        )
        return b.reshape(y, batch, n, height, height)
    y = b.node("Conv", b.node("Mul", x, b.reshape(scale, batch, c, 1, 1)), b.constant(weights), pads=[k // 2] * 4)
    if not demodulate:
        return y
    power = b.node("MatMul", b.node("Mul", scale, scale), b.constant(np.square(weights).sum((2, 3)).T))
    norm = b.node("Reciprocal", b.node("Sqrt", b.node("Add", power, b.constant(1e-8))))
    return b.node("Mul", y, b.reshape(norm, batch, n, 1, 1))


def lama(size: int = 32, width: int = 24, blocks: int = 4) -> onnx.ModelProto:
    """image and mask [N, 4, size, size] -> [N, 3, size, size] by fast Fourier convolutions: 0.1 M weights."""
    b = Layers(2)
    x = b.node("Relu", b.conv2d("x", 4, width, 7))
    x = b.node("Relu", b.conv2d(x, width, 2 * width, stride=2))
    height = size // 2
    for _ in range(blocks):
        local = b.conv2d(x, 2 * width, width)
        mixed = b.node("Add", local, b.conv2d(_spectral(b, x, 2 * width, width, height), width, width, 1, 0.5))
        y = b.node("Relu", b.node("Concat", mixed, local, axis=1))
        x = b.node("Add", x, b.conv2d(y, 2 * width, 2 * width, gain=0.5))
    x = b.node("Relu", b.conv2d(b.grow(x), 2 * width, width))
    b.node("Sigmoid", b.conv2d(x, width, 3, 7, 1.0))
    return b.model("lama", "x", ["N", 4, size, size], "image", ["N", 3, size, size])


def _spectral(b: Layers, x: str, c: int, n: int, height: int) -> str:
    """A convolution by 1 of the spectrum, real and imaginary parts as channels; transforms as products."""
    x = b.node("Relu", b.conv2d(x, c, n, 1))
    turn = np.exp(-2j * np.pi * np.outer(np.arange(height), np.arange(height)) / height) / sqrt(height)
    half = turn[:, : height // 2 + 1]
    real, imaginary = (b.node("MatMul", x, b.constant(part)) for part in (half.real, half.imag))
    rows_real, rows_imaginary = b.constant(turn.real), b.constant(turn.imag)

    def rows(re: str, im: str) -> tuple[str, str]:
        return (b.node("Sub", b.node("MatMul", rows_real, re), b.node("MatMul", rows_imaginary, im)),
                b.node("Add", b.node("MatMul", rows_imaginary, re), b.node("MatMul", rows_real, im)))  # fmt: skip

    y = b.node("Relu", b.conv2d(b.node("Concat", *rows(real, imaginary), axis=1), 2 * n, 2 * n, 1))
    real, imaginary = (
        b.node("Slice", y, b.constant(np.array([i])), b.constant(np.array([j])), b.constant(np.array([1])))
        for i, j in ((0, n), (n, 2 * n))
    )
    weights = np.full((height // 2 + 1, 1), 2.0)
    weights[[0, -1]] = 1
    real, imaginary = rows(real, b.node("Neg", imaginary))
    back = (
        b.node("MatMul", real, b.constant(weights * half.real.T)),
        b.node("MatMul", imaginary, b.constant(weights * half.imag.T)),
    )
    return b.node("Sub", *back)


def rrdb(blocks: int = 23, width: int = 64, growth: int = 32, size: int = 16) -> onnx.ModelProto:
    """x [N, 3, size, size] -> [N, 3, 4 size, 4 size]: ESRGAN's RRDBNet, 16.7 M weights as published."""
    b = Layers(3)

    def dense(x: str) -> str:
        known = [x]
        for k in range(5):
            joined = b.node("Concat", *known, axis=1) if k else x
            n = width if k == 4 else growth
            y = b.conv2d(joined, width + k * growth, n, gain=0.5 if k == 4 else sqrt(2))
            known.append(y if k == 4 else b.node("LeakyRelu", y, alpha=0.2))
        return b.node("Add", x, b.node("Mul", known[-1], b.constant(0.2)))

    first = x = b.conv2d("x", 3, width, gain=1.0)
    for _ in range(blocks):
        x = b.node("Add", x, b.node("Mul", dense(dense(dense(x))), b.constant(0.2)))
    x = b.node("Add", first, b.conv2d(x, width, width, gain=0.5))
    for _ in range(2):
        x = b.node("LeakyRelu", b.conv2d(b.grow(x), width, width), alpha=0.2)
    b.conv2d(b.node("LeakyRelu", b.conv2d(x, width, width), alpha=0.2), width, 3, gain=0.5)
    return b.model(f"rrdb_{blocks}", "x", ["N", 3, size, size], "image", ["N", 3, 4 * size, 4 * size])


def swinir(size: int = 32, width: int = 48, window: int = 8, heads: int = 4, blocks: int = 4) -> onnx.ModelProto:
    """x [1, 3, size, size] -> [1, 3, 2 size, 2 size]: attention in windows, every other time in shifted ones."""
    b = Layers(4)
    n, count, area = size // window, (size // window) ** 2, window * window

    def split(x: str) -> str:
        x = b.node("Transpose", b.reshape(x, n, window, n, window, width), perm=[0, 2, 1, 3, 4])
        return b.reshape(x, count, area, width)

    def join(x: str) -> str:
        x = b.node("Transpose", b.reshape(x, n, n, window, window, width), perm=[0, 2, 1, 3, 4])
        return b.reshape(x, size, size, width)

    def roll(x: str, shift: int) -> str:
        for axis in (0, 1):
            cut = [b.constant(np.array([v])) for v in (shift % size, size, axis, 0)]
            x = b.node(
                "Concat",
                b.node("Slice", x, cut[0], cut[1], cut[2]),
                b.node("Slice", x, cut[3], cut[0], cut[2]),
                axis=axis,
            )
        return x

    first = b.conv2d("x", 3, width, gain=1.0)
    x = b.reshape(b.node("Transpose", first, perm=[0, 2, 3, 1]), size, size, width)
    for k in range(blocks):
        y = b.layer_norm(x, width)
        y = split(roll(y, window // 2) if k % 2 else y)
        parts = []
        for _ in range(3):
            parts.append(
                b.node(
                    "Transpose",
                    b.reshape(b.linear(y, width, width), count, area, heads, width // heads),
                    perm=[0, 2, 1, 3],
                )
            )
        q, key, v = parts
        scores = b.node(
            "MatMul", b.node("Mul", q, b.constant(sqrt(heads / width))), b.node("Transpose", key, perm=[0, 1, 3, 2])
        )
        bias = b.constant(0.1 * b.rng.standard_normal((1, heads, area, area)))
        weights = b.node("Softmax", b.node("Add", scores, bias), axis=-1)
        y = b.reshape(b.node("Transpose", b.node("MatMul", weights, v), perm=[0, 2, 1, 3]), count, area, width)
        y = join(b.linear(y, width, width, 0.5))
        x = b.node("Add", x, roll(y, -(window // 2)) if k % 2 else y)
        y = b.linear(b.gelu(b.linear(b.layer_norm(x, width), width, 2 * width)), 2 * width, width, 0.5)
        x = b.node("Add", x, y)
    x = b.node("Transpose", b.reshape(b.layer_norm(x, width), 1, size, size, width), perm=[0, 3, 1, 2])
    x = b.node("Add", first, b.conv2d(x, width, width, gain=0.5))
    b.node("DepthToSpace", b.conv2d(x, width, 12, gain=1.0), blocksize=2, mode="CRD")
    return b.model("swinir", "x", [1, 3, size, size], "image", [1, 3, 2 * size, 2 * size])


def vqgan_decoder(size: int = 8, width: int = 32) -> onnx.ModelProto:
    """z [1, 32, size, size] -> image [1, 3, 4 size, 4 size]: residual blocks of GroupNorm and swish, one attention."""
    b = Layers(5)

    def swish(x: str) -> str:
        return b.node("Mul", x, b.node("Sigmoid", x))

    def residual(x: str, c: int, n: int, height: int) -> str:
        y = b.conv2d(swish(b.group_norm(x, c, height, 8)), c, n)
        y = b.conv2d(swish(b.group_norm(y, n, height, 8)), n, n, gain=0.5)
        return b.node("Add", x if c == n else b.conv2d(x, c, n, 1, 1.0), y)

    def attention(x: str, c: int, height: int) -> str:
        y = b.group_norm(x, c, height, 8)
        q, k, v = (b.reshape(b.conv2d(y, c, c, 1, 1.0), 1, c, height * height) for _ in range(3))
        scores = b.node("MatMul", b.node("Transpose", q, perm=[0, 2, 1]), k)
        weights = b.node("Softmax", b.node("Mul", scores, b.constant(1 / sqrt(c))), axis=-1)
        y = b.node("MatMul", v, b.node("Transpose", weights, perm=[0, 2, 1]))
        return b.node("Add", x, b.conv2d(b.reshape(y, 1, c, height, height), c, c, 1, 0.5))

    c, height = 4 * width, size
    x = b.conv2d("z", 32, c)
    x = residual(attention(residual(x, c, c, height), c, height), c, c, height)
    for n in (2 * width, width):
        x = residual(x, c, n, height)
        x, c, height = b.conv2d(b.grow(x), n, n, gain=1.0), n, 2 * height
        x = residual(x, c, c, height)
    b.conv2d(swish(b.group_norm(x, c, height, 8)), c, 3, gain=1.0)
    return b.model("vqgan_decoder", "z", [1, 32, size, size], "image", [1, 3, 4 * size, 4 * size])


def matmul_chain(layers: int, width: int = 16) -> onnx.ModelProto:
    """x [N, width] -> `layers` products with a LeakyRelu each."""
    b = Layers(6)
    x = "x"
    for _ in range(layers):
        x = b.node("LeakyRelu", b.node("MatMul", x, b.drawn(width, width, fan_in=width, gain=1.3)), alpha=0.2)
    return b.model(f"chain_{layers}", "x", ["N", width], "y", ["N", width])


def branches(count: int, width: int = 16) -> onnx.ModelProto:
    """x [N, width] -> `count` outputs y0, y1 ..., each a product of its own."""
    b = Layers(7)
    made = [b.node("Relu", b.node("MatMul", "x", b.drawn(width, width, fan_in=width))) for _ in range(count)]
    model = b.model(f"branches_{count}", "x", ["N", width], made[-1], ["N", width])
    shape = model.graph.output[0].type
    model.graph.output.extend(onnx.ValueInfoProto(name=name, type=shape) for name in made[:-1])
    return model


FAMILIES: dict[str, Callable[[], onnx.ModelProto]] = {
    "stylegan2": stylegan2,
    "stylegan2-fused": lambda: stylegan2(fused=True),
    "lama": lama,
    "swinir": swinir,
    "vqgan-decoder": vqgan_decoder,
    "rrdb-23": rrdb,
    "rrdb-6": lambda: rrdb(6),
}
