"""Drawn networks of many ops and drawn targets: for comparing what should be equal, not for looking at."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from mgc.targets import load_target, target_names
from mgc.targets.description import Target

Shape = tuple[int, ...]
ODD = (0.0, -0.0, 0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 1e-45, -1e-45, 1e-20)
"""Numbers that tell roundings and signs of zero apart."""
FAR = (3e38, -3e38, np.inf, -np.inf, np.nan)
"""Numbers that weights may not have."""

UNARY = {
    "Relu": {}, "LeakyRelu": {"alpha": 0.2}, "Sigmoid": {}, "Tanh": {}, "Neg": {}, "Abs": {}, "Floor": {}, "Ceil": {},
    "Round": {}, "Sign": {}, "Erf": {}, "Softplus": {}, "Softsign": {}, "Elu": {"alpha": 0.7}, "Selu": {},
    "Celu": {"alpha": 0.5}, "HardSigmoid": {}, "HardSwish": {}, "Mish": {}, "Gelu": {}, "Sin": {}, "Atan": {},
    "ThresholdedRelu": {"alpha": -0.3}, "Reciprocal": {}, "Identity": {},
}  # fmt: skip
BINARY = ("Add", "Sub", "Mul", "Div", "Max", "Min")
REDUCTIONS = ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceL2", "ReduceProd")


class Drawn:
    """A network that grows op by op on its value `x`, of shape `shape` [batch, channels, ...]."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.shape: Shape = self._first_shape()
        self.input = self.shape
        self.open = self.shape[0] == 1
        """Whether the number of samples is open."""
        self.x = "x"
        self.seen: list[tuple[str, Shape]] = [("x", self.shape)]

    def _first_shape(self) -> Shape:
        n, c = self.below(1, 3), self.below(1, 6)
        return (n, c, *(self.below(1, 7) for _ in range(self.below(0, 3)))) if self.likely(0.9) else (n, c)

    def below(self, low: int, high: int) -> int:
        """A whole number low <= k < high."""
        return int(self.rng.integers(low, high))

    def likely(self, p: float) -> bool:
        """True as often as p."""
        return bool(self.rng.random() < p)

    def one_of(self, options: Any) -> Any:
        """One of some."""
        return options[self.below(0, len(options))]

    def numbers(self, *shape: int, scale: float = 1.0) -> np.ndarray:
        """Float32, some of them odd."""
        drawn = (self.rng.standard_normal(shape) * scale).astype(np.float32)
        odd = self.rng.choice(np.array(ODD, np.float32), shape)
        return np.where(self.rng.random(shape) < self.one_of((0, 0.2, 0.5)), odd, drawn)

    def constant(self, array: Any) -> str:
        """An initializer; of Python's numbers int64 or float32."""
        array = np.asarray(array)
        name = f"c{len(self.weights)}"
        array = array.astype(np.float32) if array.dtype == np.float64 else array
        self.weights.append(numpy_helper.from_array(np.array(array), name))
        return name

    def node(self, op: str, *inputs: str, **attributes: Any) -> str:
        """The value of a node."""
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], f"{op}_{len(self.nodes)}", **attributes))
        return name

    def then(self, shape: Shape, op: str, *inputs: str, **attributes: Any) -> None:
        """x becomes the value of a node."""
        self.to(self.node(op, *inputs, **attributes), shape)

    def to(self, x: str, shape: Shape) -> None:
        """x becomes a value that there is."""
        self.x, self.shape = x, tuple(shape)
        self.seen.append((x, self.shape))

    def other(self) -> str:
        """A second operand: a value of the same shape where there is one, its mirror image, or a constant."""
        same = [v for v, s in self.seen[:-1] if s == self.shape]
        if same and self.likely(0.6):
            return self.one_of(same)
        if self.likely(0.3):
            return self.node("Neg", self.x)
        shape = [d if self.likely(0.6) else 1 for d in self.shape]
        return self.constant(self.numbers(*shape[self.below(0, len(shape) + 1) :]))

    def same(self) -> str:
        """A value of the shape of x, or x."""
        return self.one_of([v for v, s in self.seen if s == self.shape])

    def model(self) -> onnx.ModelProto:
        """What was drawn; besides the last value two others are outputs, and their reciprocals."""
        outputs = [(self.node("Identity", self.x), self.shape)]
        for _ in range(2):
            x, shape = self.one_of(self.seen)
            outputs += [(self.node("Identity", x), shape), (self.node("Reciprocal", x), shape)]

        def port(name: str, shape: Shape) -> onnx.ValueInfoProto:
            batch = "n" if self.open else shape[0]
            return helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, *shape[1:]])

        graph = helper.make_graph(
            self.nodes, "drawn", [port("x", self.input)], [port(*o) for o in outputs], self.weights
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def _unary(d: Drawn) -> None:
    op = d.one_of(list(UNARY))
    d.then(d.shape, op, d.x, **UNARY[op])


def _binary(d: Drawn) -> None:
    op, operands = d.one_of(BINARY), [d.x, d.other()]
    d.then(d.shape, op, *(operands if d.likely(0.7) else operands[::-1]))


def _clip(d: Drawn) -> None:
    low, high = sorted(d.numbers(2).tolist())
    d.then(d.shape, "Clip", d.x, d.constant(np.float32(low)), d.constant(np.float32(high)))


def _mask(d: Drawn) -> None:
    """Zeros of both signs, as masks and padding make them."""
    mask = d.rng.choice(np.array([0, 0, 1, -1], np.float32), d.shape[1:])
    d.then(d.shape, "Mul", d.x, d.constant(mask))


def _prelu(d: Drawn) -> None:
    d.then(d.shape, "PRelu", d.x, d.constant(d.numbers(*(1 if d.likely(0.3) else s for s in d.shape[1:]))))


def _where(d: Drawn) -> None:
    condition = d.node(d.one_of(("Less", "Greater", "Equal")), d.x, d.other())
    d.then(d.shape, "Where", condition, d.other(), d.other() if d.likely(0.5) else d.x)


def _reduce(d: Drawn) -> None:
    axes = sorted({d.below(1, len(d.shape)) for _ in range(2)})
    shape = tuple(1 if a in axes else s for a, s in enumerate(d.shape))
    y = d.node(d.one_of(REDUCTIONS), d.x, d.constant(axes), keepdims=1)
    if d.likely(0.6):
        d.then(d.shape, d.one_of(BINARY), d.x, y)
    else:
        d.to(y, shape)


def _softmax(d: Drawn) -> None:
    d.then(d.shape, d.one_of(("Softmax", "LogSoftmax")), d.x, axis=d.below(1, len(d.shape)))


def _norm(d: Drawn) -> None:
    c = d.shape[1]
    if len(d.shape) > 2 and d.likely(0.5):
        scale, bias = (d.constant(d.numbers(c)) for _ in range(2))
        d.then(d.shape, "InstanceNormalization", d.x, scale, bias)
    elif d.likely(0.5):
        scale, bias = (d.constant(d.numbers(d.shape[len(d.shape) - 1])) for _ in range(2))
        d.then(d.shape, "LayerNormalization", d.x, scale, bias, axis=-1)
    else:
        stats = [d.numbers(c), d.numbers(c), d.numbers(c), np.abs(d.numbers(c)) + np.float32(0.1)]
        d.then(d.shape, "BatchNormalization", d.x, *map(d.constant, stats))


def _conv(d: Drawn) -> None:
    n, c, *space = d.shape
    if not space or max(space) > 12:
        return _linear(d)
    k, stride, pads = [d.below(1, min(s, 3) + 1) for s in space], [d.below(1, 3) for _ in space], d.below(0, 2)
    bias = [d.constant(d.numbers(m))] if (m := d.below(1, 7)) and d.likely(0.5) else []
    attributes: dict[str, Any] = {"strides": stride, "pads": [pads] * 2 * len(space)}
    if d.likely(0.4):
        out = [s * (e - 1) + b - 2 * pads for s, e, b in zip(stride, space, k, strict=True)]
        if min(out) >= 1:
            w = d.constant(d.numbers(c, m, *k, scale=1 / np.sqrt(c)))
            return d.then((n, m, *out), "ConvTranspose", d.x, w, *bias, **attributes)
    groups = d.one_of([g for g in (1, 1, c, 2) if c % g == 0 and m % g == 0])
    out = [(e + 2 * pads - b) // s + 1 for s, e, b in zip(stride, space, k, strict=True)]
    w = d.constant(d.numbers(m, c // groups, *k, scale=1 / np.sqrt(c * prod(k))))
    return d.then((n, m, *out), "Conv", d.x, w, *bias, group=groups, **attributes)


def _linear(d: Drawn) -> None:
    m, c = d.below(1, 9), d.shape[len(d.shape) - 1]
    w = d.numbers(c, m, scale=1 / np.sqrt(c))
    if len(d.shape) == 2 and d.likely(0.5):
        return d.then((d.shape[0], m), "Gemm", d.x, d.constant(w), d.constant(d.numbers(m)))
    return d.then((*d.shape[:-1], m), "MatMul", d.x, d.constant(w))


def _attention(d: Drawn) -> None:
    if len(d.shape) < 3:
        return _linear(d)
    order = [*range(len(d.shape) - 2), len(d.shape) - 1, len(d.shape) - 2]
    scores = d.node("MatMul", d.x, d.node("Transpose", d.same(), perm=order))
    return d.then(d.shape, "MatMul", d.node("Softmax", scores, axis=-1) if d.likely(0.7) else scores, d.x)


def _pool(d: Drawn) -> None:
    n, c, *space = d.shape
    if not space:
        return _unary(d)
    if d.likely(0.2):
        return d.then((n, c, *(1 for _ in space)), d.one_of(("GlobalAveragePool", "GlobalMaxPool")), d.x)
    k, stride, pad = [d.below(1, min(s, 3) + 1) for s in space], [d.below(1, 3) for _ in space], 0
    if min(k) > 1:
        pad = d.below(0, 2)
    out = [(e + 2 * pad - b) // s + 1 for s, e, b in zip(stride, space, k, strict=True)]
    op = d.one_of(("MaxPool", "AveragePool"))
    return d.then((n, c, *out), op, d.x, kernel_shape=k, strides=stride, pads=[pad] * 2 * len(space))


def _concat(d: Drawn) -> None:
    axis = d.below(1, len(d.shape))
    parts = [d.x, d.same()]
    shape = [2 * s if a == axis else s for a, s in enumerate(d.shape)]
    if prod(shape) < 3000:
        d.then(tuple(shape), "Concat", *(parts if d.likely(0.5) else parts[::-1]), axis=axis)


def _slice(d: Drawn) -> None:
    axis = d.below(1, len(d.shape))
    size, step = d.shape[axis], d.one_of((1, 1, 2, -1))
    start = d.below(0, size)
    count = len(range(size)[start::step])
    shape = tuple(count if a == axis else s for a, s in enumerate(d.shape))
    end = np.iinfo(np.int64).max if step > 0 else np.iinfo(np.int64).min
    d.then(shape, "Slice", d.x, *(d.constant([v]) for v in (start, end, axis, step)))


def _pad(d: Drawn) -> None:
    pads = [0, *(d.below(0, 2) for _ in d.shape[1:])]
    shape = tuple(s + 2 * p for s, p in zip(d.shape, pads, strict=True))
    if prod(shape) < 3000:
        mode = d.one_of(("constant", "edge"))
        value = [d.constant(d.numbers(1)[0])] if mode == "constant" else []
        d.then(shape, "Pad", d.x, d.constant(pads * 2), *value, mode=mode)


def _transpose(d: Drawn) -> None:
    perm = [0, *(1 + d.rng.permutation(len(d.shape) - 1)).tolist()]
    d.then(tuple(d.shape[p] for p in perm), "Transpose", d.x, perm=perm)


def _reshape(d: Drawn) -> None:
    n, size = d.shape[0], prod(d.shape[1:])
    a = d.one_of([k for k in range(1, size + 1) if size % k == 0])
    b = d.one_of([k for k in range(1, size // a + 1) if size // a % k == 0])
    shape = d.one_of(((n, size), (n, a, size // a), (n, a, b, size // a // b)))
    d.then(shape, "Reshape", d.x, d.constant([0, *shape[1:]]))


def _gather(d: Drawn) -> None:
    axis = d.below(1, len(d.shape))
    count, size = d.below(1, 5), d.shape[axis]
    shape = tuple(count if a == axis else s for a, s in enumerate(d.shape))
    d.then(shape, "Gather", d.x, d.constant(d.rng.integers(-size, size, count)), axis=axis)


def _resize(d: Drawn) -> None:
    if len(d.shape) != 4 or prod(d.shape) > 700:
        return _unary(d)
    n, c, h, w = d.shape
    mode = d.one_of(("nearest", "linear", "cubic"))
    scales = d.constant(np.array([1, 1, 2, 2], np.float32))
    return d.then((n, c, 2 * h, 2 * w), "Resize", d.x, "", scales, mode=mode)


def _codes(d: Drawn) -> None:
    scale, zero = d.constant(np.float32(abs(d.numbers(1)[0]) + 0.01)), d.constant(np.uint8(d.below(0, 256)))
    d.then(d.shape, "DequantizeLinear", d.node("QuantizeLinear", d.x, scale, zero), scale, zero)


def _integers(d: Drawn) -> None:
    whole = d.node("Cast", d.x, to=d.one_of((TensorProto.INT32, TensorProto.INT64, TensorProto.UINT8)))
    d.then(d.shape, "Cast", whole, to=TensorProto.FLOAT)


LAYERS: tuple[tuple[float, Callable[[Drawn], None]], ...] = (
    (4, _unary), (4, _binary), (5, _mask), (2, _clip), (1, _prelu), (2, _where), (3, _reduce), (1, _softmax),
    (1.5, _norm), (5, _conv), (2, _linear), (1, _attention), (3, _pool), (1, _concat), (1, _slice), (1, _pad),
    (1, _transpose), (1, _reshape), (1, _gather), (1, _resize), (0.5, _codes), (0.5, _integers),
)  # fmt: skip
"""Layers, and how often they are drawn."""


def inputs(rng: np.random.Generator, model: onnx.ModelProto, samples: int) -> np.ndarray:
    """Numbers for x: of `samples` samples where their number is open."""
    dims = model.graph.input[0].type.tensor_type.shape.dim
    x = Drawn(rng).numbers(*(d.dim_value or samples for d in dims))
    if rng.random() < 0.2:
        x = np.where(rng.random(x.shape) < 0.05, rng.choice(np.array(FAR, np.float32), x.shape), x)
    return x


def network(rng: np.random.Generator) -> onnx.ModelProto:
    """A model of 2 to 12 layers, x [batch, ...] -> five outputs; at most some thousand elements a value."""
    drawn = Drawn(rng)
    chances = np.array([p for p, _ in LAYERS])
    for k in rng.choice(len(LAYERS), drawn.below(2, 13), p=chances / chances.sum()):
        LAYERS[k][1](drawn)
    return drawn.model()


def target(rng: np.random.Generator) -> Target:
    """A target that there is, with crossbars of another size and other bits, and cells with errors of any kind."""

    def one(*options: Any) -> Any:
        return options[int(rng.integers(len(options)))]

    input_bits = one(4, 8, 8, 8, 12, 16)
    crossbar = {
        "rows": one(4, 16, 64, 128), "cols": one(16, 64, 128), "cell_bits": one(1, 2, 2, 3, 4),
        "weight_bits": one(4, 6, 8, 8, 8, 12, 16), "input_bits": input_bits,
        "dac_bits": min(input_bits, one(1, 1, 2, 4)), "adc_bits": one(4, 6, 8, 8, 8, 10, 12),
        "adc_mode": one("clip", "clip", "clip", "scale"),
        "encoding": one("differential", "offset"),
    }  # fmt: skip
    device = {
        "write_sigma": one([0.0], [0.0, 0.03], [0.01]), "stuck_on": one(0.0, 0.01), "stuck_off": one(0.0, 0.02),
        "stuck_repair": one(True, False), "read_noise_levels": one(0.0, 0.0, 0.3), "drift_s": one(1.0, 1e4),
        "drift_exponent": one(0.0, 0.02),
    }  # fmt: skip
    crossbar["register_bits"] = max(input_bits, one(0, 0, 11, 16))
    changes = {f"crossbar.{k}": v for k, v in crossbar.items()} | {f"device.{k}": v for k, v in device.items()}
    return load_target(one(*target_names())).replace(changes)
