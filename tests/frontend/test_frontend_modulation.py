"""Modulated convolutions as StyleGAN2 and others export them: on crossbars, with ONNX Runtime's numbers."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import pytest
from compiled_files import elsewhere, off, reference, simulated
from onnx import ModelProto, NodeProto
from onnx_models import build, node

import mgc


class Modulated:
    """One layer: styles of shape [batch, inputs], weights modulated and demodulated, samples as groups."""

    def __init__(self, seed: int, batch: int, inputs: int, outputs: int, kernel: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.batch, self.inputs, self.outputs, self.kernel = batch, inputs, outputs, kernel
        self.nodes: list[NodeProto] = []
        self.weights: dict[str, np.ndarray] = {}

    def const(self, array: Any, kind: type = np.float32) -> str:
        name = f"c{len(self.weights)}"
        self.weights[name] = np.asarray(array, kind)
        return name

    def then(self, kind: str, *operands: str, **attributes: Any) -> str:
        self.nodes.append(node(kind, list(operands), [f"v{len(self.nodes)}"], **attributes))
        return self.nodes[-1].output[0]

    def shaped(self, x: str, *dims: int) -> str:
        return self.then("Reshape", x, self.const(dims, np.int64))

    def modulated_weights(self, *, demodulate: bool) -> str:
        """[batch, outputs, inputs, kernel, kernel]."""
        shape = (1, self.outputs, self.inputs, self.kernel, self.kernel)
        w = self.const(self.rng.normal(size=shape) / np.sqrt(prod(shape[2:])))
        w = self.then("Mul", w, self.shaped("s", self.batch, 1, self.inputs, 1, 1))
        if demodulate:
            two = self.const(2)
            square = self.then("Pow", w, two) if self.rng.random() < 0.5 else self.then("Mul", w, w)
            norm = self.then("ReduceSum", square, self.const([2, 3, 4], np.int64), keepdims=1)
            norm = self.then("Sqrt", self.then("Add", norm, self.const(1e-8)))
            if self.rng.random() < 0.5:
                w = self.then("Div", w, norm)
            else:
                w = self.then("Mul", w, self.then("Reciprocal", norm))
        return w

    def model(self, *, fused: bool, up: bool, demodulate: bool, size: int = 5) -> ModelProto:
        b, i, o, k = self.batch, self.inputs, self.outputs, self.kernel
        w = self.modulated_weights(demodulate=demodulate)
        assert fused
        x = self.shaped("x", 1, b * i, size, size)
        if up:
            w = self.shaped(self.then("Transpose", w, perm=[0, 2, 1, 3, 4]), b * i, o, k, k)
            y = self.then("ConvTranspose", x, w, group=b, strides=[2, 2])
        else:
            w = self.shaped(w, b * o, i, k, k)
            if self.rng.random() < 0.5:  # flipped, as a true convolution is
                ends = self.const([-9, -9], np.int64)
                w = self.then("Slice", w, self.const([-1, -1], np.int64), ends, self.const([2, 3], np.int64),
                              self.const([-1, -1], np.int64))  # fmt: skip
            y = self.then("Conv", x, w, group=b, pads=[k // 2] * 4)
        out = 2 * size + k - 2 if up else size
        self.nodes.append(node("Reshape", [y, self.const((b, o, out, out), np.int64)], ["y"]))
        return build(self.nodes, {"x": [b, i, size, size], "s": [b, i]}, weights=self.weights)


@pytest.mark.parametrize("seed", range(12))
def test_fused_modulation_is_on_crossbars(seed):
    rng = np.random.default_rng(100 + seed)
    batch, inputs, outputs = int(rng.choice([1, 2, 3])), int(rng.integers(2, 9)), int(rng.integers(2, 9))
    layer = Modulated(seed, batch, inputs, outputs, int(rng.choice([1, 3])))
    model = layer.model(fused=True, up=bool(seed % 2), demodulate=bool(rng.integers(2)))
    feeds = {
        "x": rng.normal(size=(batch, inputs, 5, 5)).astype(np.float32),
        "s": rng.normal(1, 0.5, (batch, inputs)).astype(np.float32),
    }
    wanted = reference(model, feeds)["y"]
    program = mgc.compile(model, calibration=feeds)
    assert elsewhere(program) == []
    assert program.meta["macs_useful"] > 0
    assert len(program.groups) <= 5  # one set of weights for all samples (residue classes apart), and the norm's
    assert off(simulated(program, feeds)["y"], wanted) < 1e-5
    assert off(simulated(program, feeds, "quantized")["y"], wanted) < 0.06


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("by", ["inputs", "outputs", "both"])
def test_a_scale_by_channel_goes_to_the_activations(rank, by):
    rng = np.random.default_rng(rank)
    weights = {"w": rng.normal(size=(4, 3, *(3,) * rank)).astype(np.float32)}
    ones = (1,) * rank
    nodes, last = [], "w"
    for name in ("inputs", "outputs") if by == "both" else (by,):
        nodes.append(node("Mul", [last, name], [f"w.{name}"]))
        last = f"w.{name}"
    nodes.append(node("Conv", ["x", last], ["y"]))
    shapes = {"inputs": [1, 3, *ones], "outputs": [4, 1, *ones]}
    given = {"x": [2, 3, *(5,) * rank]} | {k: s for k, s in shapes.items() if by in (k, "both")}
    model = build(nodes, given, weights=weights)
    program = mgc.compile(model, calibrate="none")
    assert elsewhere(program) == []
    feeds = {k: rng.normal(size=s).astype(np.float32) for k, s in given.items()}
    assert off(simulated(program, feeds)["y"], reference(model, feeds)["y"]) < 1e-5


def test_weights_that_differ_otherwise_stay_on_the_host():
    """A number for each tap is no scale of a channel."""
    weights = {"w": np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype(np.float32)}
    nodes = [node("Mul", ["w", "s"], ["v"]), node("Conv", ["x", "v"], ["y"])]
    model = build(nodes, {"x": [1, 3, 5, 5], "s": [1, 1, 3, 3]}, weights=weights)
    program = mgc.compile(model, calibrate="none")
    assert [p["unit"] for p in elsewhere(program)[:1]] == ["host"]
    rng = np.random.default_rng(1)
    feeds = {
        "x": rng.normal(size=(1, 3, 5, 5)).astype(np.float32),
        "s": rng.normal(size=(1, 1, 3, 3)).astype(np.float32),
    }
    assert off(simulated(program, feeds)["y"], reference(model, feeds)["y"]) < 1e-5
