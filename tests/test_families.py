"""GANs of many families: every product with constant weights on crossbars, nothing on the host, and the numbers of ONNX
Runtime in both numerics.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnxruntime
import pytest
from families import MORE_FAMILIES
from onnx import ModelProto, TensorProto, helper

import mgc
from benchmarks.families import lama, stylegan2, swinir, vqgan_decoder
from mgc.comparison import compare
from mgc.report.views.summary import headline

FAMILIES: dict[str, Callable[[], ModelProto]] = {
    **MORE_FAMILIES,
    "stylegan2": lambda: stylegan2(16, 12),
    "stylegan2-fused": lambda: stylegan2(16, 12, fused=True),
    "stylegan2-fused-2": lambda: stylegan2(8, 8, fused=True, batch=2),
    "lama": lambda: lama(8, 6, 1),
    "swinir": lambda: swinir(8, 16, 4, 2, 2),
    "vqgan-decoder": lambda: vqgan_decoder(4, 8),
}


def drawn(model: ModelProto, count: int, seed: int) -> dict[str, np.ndarray]:
    """`count` samples of each input; whole numbers below 3 for labels."""
    rng = np.random.default_rng(seed)
    found: dict[str, np.ndarray] = {}
    for info in model.graph.input:
        dims = [d.dim_value for d in info.type.tensor_type.shape.dim]
        shape = (count * max(dims[0], 1), *dims[1:])
        if info.type.tensor_type.elem_type == TensorProto.INT64:
            found[info.name] = rng.integers(0, 3, shape)
        else:
            found[info.name] = rng.standard_normal(shape).astype(np.float32)
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_family_runs_on_the_chip(family):
    model = FAMILIES[family]()
    program = mgc.compile(model, calibration=drawn(model, 8, 1))
    shown = headline(program)
    assert shown["host_ops"] == 0
    assert all(p["reason"] == "both operands are computed" for p in shown["products_off_crossbars"])
    assert shown["macs_useful"] > 0
    feeds = drawn(model, 1, 2)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    wanted = {"image": np.asarray(session.run(["image"], feeds)[0])}
    for numerics in ("float", "quantized"):
        found = mgc.Simulator(program, numerics=numerics).run(feeds)  # type: ignore[arg-type]
        assert compare(found, wanted).ok(numerics), (numerics, compare(found, wanted).psnr_db)


@pytest.mark.parametrize("fused", [True, False])
def test_noise_drawn_at_run_time_stays_on_the_chip(fused):
    """StyleGAN2 as exported with random noise: both numerics draw the same, which ONNX Runtime cannot be asked for."""
    model = stylegan2(16, 12, fused=fused)
    noise = [t for t in model.graph.initializer if list(t.dims[:2]) == [1, 1] and len(t.dims) == 4]
    assert len(noise) == 5
    for tensor in noise:
        node = helper.make_node("RandomNormal", [], [tensor.name], shape=list(tensor.dims), scale=0.05)
        model.graph.node.insert(0, node)
        model.graph.initializer.remove(tensor)
    program = mgc.compile(model, calibration=drawn(model, 8, 1))
    shown = headline(program)
    assert (shown["host_ops"], shown["products_off_crossbars"]) == (0, [])
    feeds = drawn(model, 1, 2)
    wanted = mgc.Simulator(program, numerics="float").run(feeds)
    assert compare(mgc.Simulator(program, numerics="quantized").run(feeds), wanted).ok("quantized")
