"""`expected_psnr_db` beside what a run measures, over converters, cells and rows."""

from __future__ import annotations

from math import sqrt
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from families import finished
from onnx import ModelProto, TensorProto, helper

import mgc
from benchmarks.families import Layers
from mgc.comparison import compare
from mgc.report import facts
from mgc.report.views.summary import headline
from mgc.sim import draw_inputs

MODELS = Path(__file__).parents[1] / "models"
NAMES = ["dcgan_fashion_G", "dcgan_fashion_D", "gan1d_G", "gan1d_D", "mlp_gan_G", "mlp_gan_D", "pix2pix_unet_G",
         "esrgan_rrdb_G", "cyclegan_resnet_G"]  # fmt: skip
GRID = [(adc, cell, rows) for adc in range(3, 9) for cell in (1, 2, 4) for rows in (64, 128, 256)]
# Both figures are of drawn samples: those of one output a sample differ by as much from seed to seed.
NEAR = 3.0


def residual(seed: int) -> ModelProto:
    """A small residual network with weights, width, depth and activations of its own."""
    b = Layers(seed)
    width, depth = int(b.rng.choice([6, 16, 40])), int(b.rng.integers(1, 4))
    act = str(b.rng.choice(["Relu", "LeakyRelu", "Tanh"]))
    x = b.node(act, b.conv2d("x", 3, width))
    for _ in range(depth):
        y = b.conv2d(b.node(act, b.conv2d(x, width, width)), width, width, gain=0.5)
        x = b.node("Add", x, y)
    tail = b.conv2d(x, width, 3, gain=float(b.rng.uniform(0.2, 1)))
    return finished(b, b.node("Tanh", tail) if seed % 2 else tail, {"x": ["N", 3, 12, 12]})


def perceptron(seed: int) -> ModelProto:
    """A discriminator of vectors: one number a sample."""
    b = Layers(seed)
    width = int(b.rng.choice([24, 100, 300]))
    x = b.node("LeakyRelu", b.linear("x", 64, width, sqrt(2)))
    return finished(b, b.linear(b.node("LeakyRelu", b.linear(x, width, width, sqrt(2))), width, 1), {"x": ["N", 64]})


def network(name: str) -> ModelProto:
    kind, _, seed = name.partition(" ")
    if kind in ("residual", "perceptron"):
        return (residual if kind == "residual" else perceptron)(int(seed))
    return onnx.load(MODELS / name.rpartition("_")[0] / f"{name}.onnx")


def figures(model: ModelProto, adc: int, cell: int, rows: int, calibrate: str) -> tuple[float, float]:
    """Expected, and the mean of what runs of other samples measure; both within 5 .. 45 dB."""
    crossbar = {"crossbar.adc_bits": adc, "crossbar.cell_bits": cell, "crossbar.rows": rows}
    program = mgc.compile(model, calibrate=calibrate, overrides=crossbar)
    expected = facts(program, "layers")["expected_psnr_db"]
    assert headline(program)["expected_psnr_db"] == expected
    few = max(int(np.prod(p.shape)) for p in program.outputs) < 64
    large = program.meta["macs_useful"] > 5e7
    session = onnxruntime.InferenceSession(model.SerializeToString())
    names = [o.name for o in session.get_outputs()]
    simulator = mgc.Simulator(program)
    measured = []
    for seed in range(8 if few else 1):
        feeds = draw_inputs(program, 32 if few else 4 if large else 16, seed)
        wanted = dict(zip(names, map(np.asarray, session.run(names, feeds)), strict=True))
        measured.append(compare(simulator.run(feeds), wanted).psnr_db)
    within = np.clip([expected, float(np.mean(measured))], 5, 45)
    return float(within[0]), float(within[1])


@pytest.mark.parametrize("calibrate", ["error", "minmax"])
@pytest.mark.parametrize(
    ("name", "adc", "cell", "rows"),
    [
        ("dcgan_fashion_G", 8, 2, 128),
        ("dcgan_fashion_G", 4, 2, 128),
        ("dcgan_fashion_D", 8, 2, 64),
        ("mlp_gan_D", 6, 4, 64),
        ("residual 1", 3, 2, 128),
        ("residual 2", 6, 1, 256),
        ("perceptron 3", 5, 2, 64),
    ],
)
def test_the_expected_psnr_is_what_a_run_measures(name, adc, cell, rows, calibrate):
    expected, measured = figures(network(name), adc, cell, rows, calibrate)
    assert abs(expected - measured) <= NEAR


@pytest.mark.slow
@pytest.mark.parametrize("name", [*NAMES, *(f"residual {k}" for k in range(4)), *(f"perceptron {k}" for k in range(4))])
def test_the_expected_psnr_over_converters_cells_and_rows(name, tell):
    model, rng = network(name), np.random.default_rng(len(name))
    count = 2 if name in ("esrgan_rrdb_G", "cyclegan_resnet_G") else 8
    worst = 0.0
    for k in rng.choice(len(GRID), count, replace=False):
        calibrate = str(rng.choice(["error", "minmax"]))
        expected, measured = figures(model, *GRID[k], calibrate)
        worst = max(worst, abs(expected - measured))
        assert abs(expected - measured) <= NEAR, (GRID[k], calibrate, expected, measured)
    tell(f"expected PSNR of {name}: at most {worst:.1f} dB from the measured one over {count} targets")


def test_what_is_not_calibrated_or_trains_has_no_expected_psnr():
    exact = mgc.compile(residual(1), calibrate="none")
    assert facts(exact, "layers")["expected_psnr_db"] is None
    b = Layers(1)
    plain = mgc.compile(finished(b, b.node("Relu", "x"), {"x": ["N", 4]}))
    assert facts(plain, "layers")["expected_psnr_db"] is None


@pytest.mark.parametrize("first", ["image", "which"])
def test_outputs_that_are_no_floats_are_not_compared(first):
    model = residual(2)
    alone = facts(mgc.compile(model), "layers")["expected_psnr_db"]
    model.graph.node.append(helper.make_node("ArgMax", ["image"], ["which"], axis=1, keepdims=0))
    which = helper.make_tensor_value_info("which", TensorProto.INT64, ["N", 12, 12])
    model.graph.output.insert(0 if first == "which" else 1, which)
    assert abs(facts(mgc.compile(model), "layers")["expected_psnr_db"] - alone) <= NEAR
