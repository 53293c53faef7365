"""What is recorded of each layer, against the definition and against what a run shows."""

from pathlib import Path

import numpy as np
import pytest

import mgc
from mgc.passes.quantizing.quality import MOST_DB, decibels

MODELS = Path(__file__).parents[2] / "models"
GENERATOR = MODELS / "mlp_gan" / "mlp_gan_G.onnx"


def layers_of(**options):
    program = mgc.compile(GENERATOR, **options)
    return program, program.meta["layers"]


def test_decibels():
    assert decibels(100.0, 1.0) == pytest.approx(20)
    assert decibels(1.0, 0.0) == MOST_DB
    assert decibels(0.0, 1.0) == -MOST_DB


def test_every_layer_with_weights_has_a_record():
    program, layers = layers_of()
    assert [tuple(layer["onnx_nodes"]) for layer in layers] == [g.sources for g in program.groups]
    for layer in layers:
        assert layer["low"] < layer["high"]
        assert layer["clip_low"] <= 0 < layer["clip_high"]
        assert 0 <= layer["clipped"] < 0.01
        assert layer["exact_columns"] == 1.0
        assert 0 < layer["weight_scale_low"] <= layer["weight_scale_high"]
        assert layer["signed"] == (layer["clip_low"] < 0 and not layer["zero"])


def test_the_error_of_weights_is_that_of_the_cells():
    program, layers = layers_of()
    for group, layer in zip(program.groups, layers, strict=True):
        real = program.tensors[group.real_weights].astype(np.float64)
        cells = program.tensors[group.weights].astype(np.float64)
        # the best step for each column can only be nearer than the one in use
        best = (real * cells).sum(axis=1) / np.maximum((cells * cells).sum(axis=1), 1)
        error = np.square(real - cells * best[:, None, :]).sum()
        assert layer["weight_snr_db"] == pytest.approx(10 * np.log10(np.square(real).sum() / error), abs=0.3)


def test_fewer_bits_show(tmp_path):
    from mgc.targets.loader import load_target

    fine = load_target("liu2018")
    coarse = fine.model_copy(update={"crossbar": fine.crossbar.model_copy(update={"weight_bits": 5, "input_bits": 5})})
    _, before = layers_of(target=fine)
    _, after = layers_of(target=coarse)
    for a, b in zip(before, after, strict=True):
        assert 12 < a["weight_snr_db"] - b["weight_snr_db"] < 24  # three bits are 18 dB
        assert 8 < a["output_snr_db"] - b["output_snr_db"] < 28


def test_the_first_layers_output_error_is_what_a_run_shows():
    """The network's own inputs are its calibration data: N(0,1) from another seed."""
    program, layers = layers_of()
    group = program.groups[0]
    x = np.random.default_rng(7).normal(size=(4096, group.rows)).astype(np.float32)
    real = x @ program.tensors[group.real_weights][0]
    layer = layers[0]
    codes = np.clip(
        np.rint(x / layer["scale"]) + layer["zero"],
        *(round(layer[k] / layer["scale"]) + layer["zero"] for k in ("clip_low", "clip_high")),
    )
    cells = program.tensors[group.weights][0].astype(np.float64)
    step = (program.tensors[group.real_weights][0] * cells).sum(axis=0) / np.maximum((cells * cells).sum(axis=0), 1)
    coded = (codes - layer["zero"]) * layer["scale"] @ (cells * step)
    assert layer["output_snr_db"] == pytest.approx(
        10 * np.log10(np.square(real).sum() / np.square(coded - real).sum()), abs=1.5
    )


def test_what_was_not_measured_is_not_stated():
    _, layers = layers_of(calibrate="minmax")
    assert all(layer["output_snr_db"] is None and layer["clipped"] is None for layer in layers)
    assert all(layer["weight_snr_db"] > 30 for layer in layers)
