"""Weight gradients as sums over windows: what `Outer` computes, in the layout of a product's parts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod

from mgc.ir.graph import Node, Value
from mgc.ir.mapped import Layout, Outer
from mgc.ir.ops import Conv, ConvTranspose, ConvWeightGrad, Transpose
from mgc.passes.lowering.trained.products import Cells, Product, conv_product, numbered, outer_of_rows
from mgc.passes.lowering.trained.weights import MAX_SPATIAL, Survey, where
from mgc.passes.manager import UnsupportedError


@dataclass(frozen=True, eq=False)
class Gradient:
    """`outer` of the level-1 values x and dy; `cells` are the entries of the gradient that its results hold."""

    outer: Outer
    x: Value
    dy: Value
    cells: Cells


def kernel_gradients(op: ConvWeightGrad, node: Node, survey: Survey, *, refined: bool) -> list[Gradient]:
    """The ways to compute a kernel's gradient: as that of the convolution, and of the transposed one."""
    x, dy = node.inputs
    w = node.outputs[0].shape
    if len(op.strides) > MAX_SPATIAL:
        raise UnsupportedError(
            f"{op.name} over {len(op.strides)} spatial axes (at {where(node)}): address generators have {MAX_SPATIAL}"
        )
    rank = len(op.strides)
    forward = Conv(op.strides, op.pads, op.dilations, op.groups)
    turned = ConvTranspose(op.strides, op.pads, (0,) * rank, op.dilations, op.groups)
    macs = dy.tensor.size * prod(w[1:])
    plain = conv_product(forward, x.tensor, w, dy.tensor, "dw", macs, refined)
    transposed = conv_product(turned, dy.tensor, w, x.tensor, "dw", macs, refined)
    return [Gradient(_outer(plain), x, dy, plain.cells), Gradient(_outer(transposed), dy, x, transposed.cells)]


def _outer(product: Product) -> Outer:
    op = product.op
    return Outer(op.parts, op.source, op.result, op.macs_useful)


def matrix_gradients(node: Node, producers: Mapping[Value, Node], image: Mapping[Value, Value]) -> Iterator[Gradient]:
    """The ways to compute a @ b, of [rows, samples] and [samples, cols], as a sum over samples: the product of one part
    as it is, and transposed; none if an operand is on crossbars.
    """
    a, b = node.inputs
    if len(a.shape) != 2 or len(b.shape) != 2:
        return
    x, x_layout = _columns(a, producers)
    dy, dy_layout = b, _rows(*b.shape)
    if x not in image or dy not in image:
        return
    index = numbered(node.outputs[0].shape)
    yield Gradient(_outer_of_rows(x_layout, dy_layout), x, dy, (index[None],))
    yield Gradient(_outer_of_rows(dy_layout, x_layout), dy, x, (index.T[None],))


def _outer_of_rows(x: Layout, dy: Layout) -> Outer:
    samples, rows, cols = x.shape[0], x.shape[1], dy.shape[1]
    return Outer(outer_of_rows(x, dy, rows, cols, "dw").parts, x, dy, samples * rows * cols)


def _rows(samples: int, channels: int) -> Layout:
    return Layout((samples, channels, 1), (channels, 1, channels))


def _columns(value: Value, producers: Mapping[Value, Node]) -> tuple[Value, Layout]:
    """A matrix [channels, samples] seen as samples; before a transpose they lie as rows."""
    node = producers.get(value)
    channels, samples = value.shape
    if node is not None and node.op == Transpose((1, 0)):
        return node.inputs[0], _rows(samples, channels)
    return value, Layout((samples, channels, 1), (1, samples, samples))
