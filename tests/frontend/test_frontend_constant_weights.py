"""Weights that chains of constant ops make are constants, whatever their size: their products are on crossbars."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np
import pytest
from compiled_files import elsewhere, off, reference, simulated
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import NodeProto, TensorProto
from onnx_models import build, node

import mgc


class Chain:
    """Constant nodes that end in a tensor "w" of a wanted shape; made from the end to the beginning."""

    def __init__(self, draw: Callable[..., Any], shape: tuple[int, ...]) -> None:
        self.nodes: list[NodeProto] = []
        self.weights: dict[str, np.ndarray] = {}
        self.rng = np.random.default_rng(draw(st.integers(0, 99)))
        name, scale = "w", 1 / np.sqrt(prod(shape[1:]))
        for _ in range(draw(st.integers(0, 3))):
            name, shape = self._before(
                draw(st.sampled_from(["Transpose", "Reshape", "Mul", "Neg", "Slice"])), name, shape
            )
        self._source(
            draw(st.sampled_from(["int8", "uint8 channels", "float16", "expand", "double"])), name, shape, scale
        )

    def _op(self, kind: str, result: str, *operands: str, **attributes: Any) -> None:
        self.nodes.insert(0, node(kind, list(operands), [result], **attributes))

    def _const(self, array: Any) -> str:
        name = f"c{len(self.weights)}"
        self.weights[name] = np.asarray(array)
        return name

    def _before(self, kind: str, result: str, shape: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
        x = f"v{len(self.nodes)}"
        if kind == "Transpose":
            perm = [int(p) for p in self.rng.permutation(len(shape))]
            self._op(kind, result, x, perm=perm)
            before = [0] * len(shape)
            for k, p in enumerate(perm):
                before[p] = shape[k]
            return x, tuple(before)
        if kind == "Reshape":
            self._op(kind, result, x, self._const(np.array(shape, np.int64)))
            return x, (prod(shape[:-1]), shape[-1])
        if kind == "Slice":
            bounds = [self._const(np.array([v], np.int64)) for v in (1, 1 + shape[0], 0)]
            self._op(kind, result, x, *bounds)
            return x, (shape[0] + 2, *shape[1:])
        if kind == "Mul":
            self._op(kind, result, x, self._const(self.rng.uniform(0.5, 2, (shape[-1],)).astype(np.float32)))
        else:
            self._op(kind, result, x)
        return x, shape

    def _source(self, kind: str, result: str, shape: tuple[int, ...], scale: float) -> None:
        if kind == "int8":
            data = self.rng.integers(-127, 128, shape).astype(np.int8)
            self._op("DequantizeLinear", result, *map(self._const, (data, np.float32(scale / 64), np.int8(3))))
        elif kind == "uint8 channels":
            data = self.rng.integers(0, 256, shape).astype(np.uint8)
            scales = self.rng.uniform(0.5, 2, shape[0]).astype(np.float32) * np.float32(scale / 128)
            zeros = self.rng.integers(100, 156, shape[0]).astype(np.uint8)
            self._op("DequantizeLinear", result, *map(self._const, (data, scales, zeros)), axis=0)
        elif kind == "expand":
            small = self.rng.normal(0, scale, (shape[0], *(1,) * (len(shape) - 1))).astype(np.float32)
            self._op("Expand", result, self._const(small), self._const(np.array(shape, np.int64)))
        else:
            data = self.rng.normal(0, scale, shape).astype(np.float16 if kind == "float16" else np.float64)
            self._op("Cast", result, self._const(data), to=TensorProto.FLOAT)


PRODUCTS: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "Conv": ((48, 40, 3, 3), (1, 40, 5, 5), {"pads": [1, 1, 1, 1]}),
    "ConvTranspose": ((40, 48, 3, 3), (1, 40, 4, 4), {"strides": [2, 2]}),
    "Gemm": ((160, 130), (2, 130), {"transB": 1}),
    "MatMul": ((130, 160), (1, 3, 130), {}),
}


@pytest.mark.parametrize("kind", PRODUCTS)
@settings(max_examples=8, deadline=None)
@given(draw=st.data())
def test_weights_of_constant_chains_are_on_crossbars(kind, draw):
    shape, x_shape, attributes = PRODUCTS[kind]
    chain = Chain(draw.draw, shape)
    model = build([*chain.nodes, node(kind, ["x", "w"], ["y"], **attributes)], {"x": x_shape}, weights=chain.weights)
    program = mgc.compile(model, calibrate="none")
    assert elsewhere(program) == []
    assert program.meta["macs_useful"] > 0
    feeds = {"x": np.random.default_rng(5).normal(size=x_shape).astype(np.float32)}
    assert off(simulated(program, feeds)["y"], reference(model, feeds)["y"]) < 1e-5


def test_a_product_off_the_crossbars_is_named():
    """Two computed operands: on the vector unit, and the summary and the JSON say which node and why."""
    from mgc.report.views.summary import facts

    model = build([node("Transpose", ["x"], ["t"]), node("MatMul", ["x", "t"], ["y"], name="scores")], {"x": (4, 6)})
    program = mgc.compile(model, calibrate="none")
    (product,) = facts(program)["products_off_crossbars"]
    assert product["unit"] == "vector"
    assert "scores" in product["onnx_nodes"]
    assert product["reason"] == "both operands are computed"
