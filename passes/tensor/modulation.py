"""Convolutions whose weights are constants times computed numbers: the activations are scaled, not the weights.

StyleGAN2 multiplies a layer's weights by a style for each input channel, and by a norm for each output channel; where
it does so for several samples at once, each becomes a group of channels. Crossbars hold constants: sum_c (W[m,c] s[c])
x[c] d[m] = d[m] sum_c W[m,c] (s[c] x[c]).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from mgc.ir.build import Build
from mgc.ir.graph import Graph, Node, Value
from mgc.ir.ops import Binary, Cast, Conv, ConvTranspose, Expand, Gather, MatMul, Reduce, Reshape, Slice, Transpose
from mgc.ir.rewriter import apply_patterns, pattern
from mgc.ir.types import TensorType

# Values of more elements are not looked into, nor what lies more steps back.
_MOST = 1 << 25
_DEEPEST = 24


@dataclass(frozen=True)
class _Factor:
    """A computed value of which each element of a product has one: the `index`-th (row-major), to a power."""

    value: Value
    index: np.ndarray
    power: float = 1.0


@dataclass(frozen=True)
class _Product:
    """A value as constants times computed factors; all arrays have its shape."""

    constant: np.ndarray
    factors: tuple[_Factor, ...]


def scale_activations(graph: Graph) -> Graph:
    """A copy in which convolutions with such weights read scaled activations, and sums of such products are matrix
    products by constants; the graph itself if it has neither. What else computes weights is left alone.
    """
    copy = graph.copy()
    if not apply_patterns(copy, (_scaled_convolution, _sum_of_products)):
        return graph
    copy.prune()
    return copy


def _is_constant(graph: Graph, value: Value) -> bool:
    return value in graph.constants


def _product_of(graph: Graph, value: Value, depth: int = 0) -> _Product | None:
    """What a value is the product of; None if no constant is in it."""
    if not isinstance(value.type, TensorType) or not value.tensor.dtype.is_float or value.tensor.size > _MOST:
        return None
    data = graph.data(value)
    if data is not None:
        return _Product(data.astype(np.float64), ())
    node = graph.producer(value)
    return None if node is None or depth > _DEEPEST else _made_by(graph, node, value, depth + 1)


def _made_by(graph: Graph, node: Node, value: Value, depth: int) -> _Product | None:
    op = node.op
    if isinstance(op, Reshape | Transpose | Expand | Slice | Cast) or (
        isinstance(op, Gather) and _is_constant(graph, node.inputs[1])
    ):
        before = _product_of(graph, node.inputs[0], depth)
        if before is None:
            return None
        rest = [graph.constants[v].data for v in node.inputs[1:]]
        moved = Cast(value.tensor.dtype) if isinstance(op, Cast) else op

        def move(array: np.ndarray) -> np.ndarray:
            return array if isinstance(moved, Cast) else np.asarray(moved.evaluate(array, *rest)[0])

        return _Product(move(before.constant), tuple(_Factor(f.value, move(f.index), f.power) for f in before.factors))
    if not isinstance(op, Binary) or op.fn not in ("mul", "div", "pow"):
        return None
    a, b = node.inputs
    if op.fn == "pow":
        exponent = graph.data(b)
        base = _product_of(graph, a, depth)
        if base is None or exponent is None or exponent.size != 1 or a.shape != value.shape:
            return None
        p = float(exponent.reshape(-1)[0])
        if p != 2:
            return None
        return _Product(base.constant**2, tuple(_Factor(f.value, f.index, 2 * f.power) for f in base.factors))
    left = _product_of(graph, a, depth)
    right = left if b is a else _product_of(graph, b, depth)
    if left is None and right is None:
        return None
    sign = 1.0 if op.fn == "mul" else -1.0
    parts = [(left or _alone(a), 1.0), (right or _alone(b), sign)]
    constant = np.ones(value.shape)
    factors: list[_Factor] = []
    for part, power in parts:
        constant = constant * part.constant if power > 0 else constant / part.constant
        factors += [_Factor(f.value, np.broadcast_to(f.index, value.shape), power * f.power) for f in part.factors]
    return _Product(np.broadcast_to(constant, value.shape), _joined(factors))


def _alone(value: Value) -> _Product:
    index = np.arange(value.tensor.size, dtype=np.int32).reshape(value.shape)
    return _Product(np.ones((1,) * len(value.shape)), (_Factor(value, index),))


def _joined(factors: list[_Factor]) -> tuple[_Factor, ...]:
    """One factor for each value that is met under the same index: w * w."""
    joined: list[_Factor] = []
    for f in factors:
        for k, other in enumerate(joined):
            if other.value is f.value and np.array_equal(other.index, f.index):
                joined[k] = _Factor(f.value, f.index, f.power + other.power)
                break
        else:
            joined.append(f)
    return tuple(joined)


def _varies(product: _Product | None) -> bool:
    return product is not None and bool(product.factors) and np.ptp(product.constant) > 0


def _taken(build: Build, factor: _Factor, ids: np.ndarray, shape: tuple[int, ...]) -> Value:
    """The elements `ids` of a factor, to its power, in a shape."""
    flat = build.reshape(factor.value, (factor.value.tensor.size,))
    if not np.array_equal(ids.reshape(-1), np.arange(flat.shape[0])):
        flat = build.emit(Gather(0), flat, build.array(ids.reshape(-1).astype(np.int64)))
    taken = build.reshape(flat, shape)
    if abs(factor.power) == 2:
        taken = build.mul(taken, taken)
    return taken


def _times(build: Build, value: Value, factor: _Factor, ids: np.ndarray, shape: tuple[int, ...]) -> Value:
    other = _taken(build, factor, ids, shape)
    return build.mul(value, other) if factor.power > 0 else build.div(value, other)


@pattern(Conv, ConvTranspose)
def _scaled_convolution(graph: Graph, node: Node) -> bool:
    op = node.op
    assert isinstance(op, Conv | ConvTranspose)
    x, w = node.inputs
    product = None if _is_constant(graph, w) else _product_of(graph, w)
    if product is None or not product.factors or {abs(f.power) for f in product.factors} - {1, 2}:
        return False
    g, y = op.groups, node.outputs[0]
    inner, outer = x.shape[1] // g, y.shape[1] // g

    def by_channel(array: np.ndarray) -> np.ndarray:
        """[groups, outputs, inputs, taps]"""
        if isinstance(op, Conv):
            return array.reshape(g, outer, inner, -1)
        return array.reshape(g, inner, outer, -1).swapaxes(1, 2)

    before: list[tuple[_Factor, np.ndarray]] = []
    after: list[tuple[_Factor, np.ndarray]] = []
    for factor in product.factors:
        index = by_channel(factor.index)
        if np.array_equal(index, np.broadcast_to(index[:, :1, :, :1], index.shape)):
            before.append((factor, index[:, 0, :, 0]))
        elif np.array_equal(index, np.broadcast_to(index[:, :, :1, :1], index.shape)):
            after.append((factor, index[:, :, 0, 0]))
        else:
            return False
    ones = (1,) * (len(x.shape) - 2)
    parts = product.constant.reshape(g, -1)
    samples = g > 1 and x.shape[0] == 1 and bool(np.all(parts == parts[0]))
    build = Build(graph, sources=node.sources, at=node)
    weights, conv = product.constant, op
    if samples:
        # the groups are samples, all with the same weights
        weights = product.constant.reshape(g, product.constant.shape[0] // g, *product.constant.shape[1:])[0]
        conv = _with_one_group(op)
        x = _unfolded(graph, build, x, (g, inner, *x.shape[2:]))
    lead = g if samples else 1
    for factor, ids in before:
        x = _times(build, x, factor, ids, (lead, ids.size // lead, *ones))
    held = graph.add_constant(weights.astype(w.tensor.dtype.numpy), _name(graph, w))
    result = build.emit(conv, x, held)
    for factor, ids in after:
        result = _times(build, result, factor, ids, (lead, ids.size // lead, *ones))
    if samples:
        for reader in graph.uses(y):
            if isinstance(reader.op, Reshape) and reader.outputs[0].shape == result.shape:
                graph.bypass(reader, [result], "samples were groups of channels")
        result = build.reshape(result, y.shape)
    graph.remove(node)
    graph.replace({y: result})
    return True


def _with_one_group(op: Conv | ConvTranspose) -> Conv | ConvTranspose:
    if isinstance(op, Conv):
        return Conv(op.strides, op.pads, op.dilations)
    return ConvTranspose(op.strides, op.pads, op.output_padding, op.dilations)


def _unfolded(graph: Graph, build: Build, x: Value, shape: tuple[int, ...]) -> Value:
    """x in another shape: what it was before it was reshaped, if that has it."""
    maker = graph.producer(x)
    if maker is not None and isinstance(maker.op, Reshape) and maker.inputs[0].shape == shape:
        return maker.inputs[0]
    return build.reshape(x, shape)


def _name(graph: Graph, w: Value) -> str:
    """The name of the largest constant that weights are made of."""
    waiting, found = [w], {}
    while waiting:
        value = waiting.pop()
        node = graph.producer(value)
        if value in graph.constants:
            found[value] = value.tensor.size
        elif node is not None and value.tensor.size >= w.tensor.size // max(w.shape[0], 1):
            waiting += [v for v in node.inputs if v not in found]
    return max(found, key=found.__getitem__).name if found else w.name


@pattern(Reduce)
def _sum_of_products(graph: Graph, node: Node) -> bool:
    """sum (W s)^2, the norm of modulated weights, is a matrix product: sum_k W^2, times s^2."""
    op, (v,), y = node.op, node.inputs, node.outputs[0]
    assert isinstance(op, Reduce)
    if op.fn != "sum" or not v.tensor.size:
        return False
    product = _product_of(graph, v)
    if product is None or not _varies(product) or len(product.factors) != 1 or product.factors[0].power not in (1, 2):
        return False
    (factor,) = product.factors
    kept = [a for a in range(len(v.shape)) if a not in op.axes]
    order = (*kept, *op.axes)
    rows = prod(v.shape[a] for a in kept)
    index = factor.index.transpose(order).reshape(rows, -1).astype(np.int64)
    constant = product.constant.transpose(order).reshape(rows, -1)
    found = next((f for b in dict.fromkeys((v.shape[0] if 0 in kept else 1, 1)) if (f := _matrix(
        index, constant, factor.value.tensor.size, b)) is not None), None)  # fmt: skip
    if found is None:
        return False
    matrix, blocks = found
    build = Build(graph, sources=node.sources, at=node)
    x = _taken(build, factor, np.arange(factor.value.tensor.size), (blocks, matrix.shape[1]))
    held = graph.add_constant(np.ascontiguousarray(matrix.T).astype(v.tensor.dtype.numpy), _name(graph, v))
    result = build.reshape(build.emit(MatMul(), x, held), y.shape)
    graph.remove(node)
    graph.replace({y: result})
    return True


def _matrix(index: np.ndarray, constant: np.ndarray, size: int, blocks: int) -> tuple[np.ndarray, int] | None:
    """The matrix by which rows of constants times elements `index` of a value of `size` are products, the same for
    `blocks` samples of both; None if there is none, or it is larger than the products.
    """
    rows = len(index)
    outer, inner = rows // blocks, size // blocks
    if rows % blocks or size % blocks or rows * inner > index.size:
        return None
    block = np.arange(rows)[:, None] // outer
    if not np.array_equal(index // inner, np.broadcast_to(block, index.shape)):
        return None
    place = np.arange(rows)[:, None] * inner + index % inner
    matrix = np.bincount(place.reshape(-1), constant.reshape(-1), rows * inner).reshape(blocks, outer, inner)
    return (matrix[0], blocks) if np.array_equal(matrix, np.broadcast_to(matrix[:1], matrix.shape)) else None
