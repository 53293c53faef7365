"""Products by a weight times computed numbers, as weight and spectral normalisation have them.

Crossbars hold the weight itself: x (W s) = (x W) s with one number for each column of the result, (x s) W with one for
each row of the weight.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from mgc.ir.build import Build
from mgc.ir.graph import Graph, Node, Value
from mgc.ir.ops import Binary, Conv, ConvTranspose, Expand, Gather, MatMul, Reshape, Transpose
from mgc.ir.rewriter import apply_patterns, pattern


def scale_products(graph: Graph, parameters: Collection[str]) -> None:
    """Rewrites, in place, products by W * s and W / s as products by W, where W is (another shape of) an input of the
    graph that is one of `parameters`, and s has one number for each element along a channel axis (or one for all): the
    result is scaled, or what is streamed.
    """
    weights = {v for v in graph.inputs if v.name in parameters}

    @pattern(Conv, ConvTranspose, MatMul)
    def scaled(graph: Graph, node: Node) -> bool:
        operands = (1,) if not isinstance(node.op, MatMul) else (1, 0)
        return any(_rewrite(graph, node, k, weights) for k in operands)

    apply_patterns(graph, (scaled,))
    graph.prune()


def _rewrite(graph: Graph, node: Node, operand: int, weights: Collection[Value]) -> bool:
    views: list[Node] = []
    made = graph.producer(node.inputs[operand])
    while made is not None and isinstance(made.op, Reshape | Transpose | Expand):
        views.insert(0, made)
        made = graph.producer(made.inputs[0])
    if made is None or not isinstance(made.op, Binary) or made.op.fn not in ("mul", "div"):
        return False
    for k in (0, 1) if made.op.fn == "mul" else (0,):
        w, s = made.inputs[k], made.inputs[1 - k]
        if w.shape == made.outputs[0].shape and _leads(graph, w, weights) and not _of_weight(graph, s, w):
            scaling = _axis(node, operand, _moved(s, w.shape, views))
            if scaling is not None:
                _scale(graph, node, operand, _viewed(graph, node, views, w), s, made.op, *scaling)
                return True
    return False


def _root(graph: Graph, value: Value) -> Value:
    node = graph.producer(value)
    while node is not None and isinstance(node.op, Reshape | Transpose):
        value = node.inputs[0]
        node = graph.producer(value)
    return value


def _leads(graph: Graph, value: Value, weights: Collection[Value]) -> bool:
    """Whether a value is a weight, or one times numbers, in another shape."""
    root = _root(graph, value)
    node = graph.producer(root)
    if node is None or not isinstance(node.op, Binary) or node.op.fn not in ("mul", "div"):
        return root in weights
    operands = node.inputs if node.op.fn == "mul" else node.inputs[:1]
    return any(v.shape == root.shape and _leads(graph, v, weights) for v in operands)


def _of_weight(graph: Graph, s: Value, w: Value) -> bool:
    return _root(graph, s) is _root(graph, w)


def _moved(s: Value, shape: tuple[int, ...], views: list[Node]) -> np.ndarray:
    """Which number of s each element of a product's operand is scaled by."""
    index = np.broadcast_to(np.arange(s.tensor.size).reshape(s.shape), shape)
    for view in views:
        index = np.asarray(view.op.evaluate(index)[0])
    return index


def _axis(node: Node, operand: int, index: np.ndarray) -> tuple[bool, np.ndarray] | None:
    """Whether the result is scaled (else what is streamed), and by which number each channel; None if by neither."""
    op = node.op
    if not index.size:
        return None
    if index.min() == index.max():
        return True, index.reshape(-1)[:1]
    if isinstance(op, MatMul):
        after, before = (index.ndim - 1, index.ndim - 2) if operand else (index.ndim - 2, index.ndim - 1)
        if index.ndim != 2 or len(node.inputs[1 - operand].shape) < 2:
            return None
    elif isinstance(op, Conv | ConvTranspose):
        after, before = (0, 1) if isinstance(op, Conv) else (1, 0)
        if op.groups > 1:
            return None
    else:
        return None
    for axis, of_result in ((after, True), (before, False)):
        flat = np.moveaxis(index, axis, 0).reshape(index.shape[axis], -1)
        if bool((flat == flat[:, :1]).all()):
            return of_result, flat[:, 0]
    return None


def _viewed(graph: Graph, node: Node, views: list[Node], w: Value) -> Value:
    """The weight itself as the product reads it."""
    build = Build(graph, sources=node.sources, hint=w.name, at=node)
    for view in views:
        w = build.emit(view.op, w)
    return w


def _scale(
    graph: Graph, node: Node, operand: int, kernel: Value, s: Value, by: Binary, of_result: bool, ids: np.ndarray
) -> None:
    build = Build(graph, sources=node.sources, hint=node.outputs[0].name, at=node)
    y, x = node.outputs[0], node.inputs[1 - operand]
    factor = build.reshape(s, (s.tensor.size,))
    if not np.array_equal(ids, np.arange(s.tensor.size)):
        factor = build.emit(Gather(0), factor, build.array(ids.astype(np.int64)))
    rank = (y if of_result else x).tensor.rank
    axis = 1 if not isinstance(node.op, MatMul) else rank - 1 if operand else rank - 2
    factor = build.reshape(factor, () if ids.size == 1 else tuple(ids.size if a == axis else 1 for a in range(rank)))
    if not of_result:
        x = build.emit(by, x, factor)
    result = build.emit(node.op, *((x, kernel) if operand else (kernel, x)))
    if of_result:
        result = build.emit(by, result, factor)
    graph.remove(node)
    graph.replace({y: result})
