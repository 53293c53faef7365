"""A real generator on devices: engines agree, small errors vanish in the converters, stuck cells do not."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import mgc
from mgc.sim import Simulator

MODEL = Path(__file__).parents[2] / "models" / "dcgan_fashion" / "dcgan_fashion_G.onnx"
Z = np.random.default_rng(0).standard_normal((3, 100)).astype(np.float32)


@pytest.fixture(scope="module")
def program():
    return mgc.compile(MODEL, calibrate="minmax")


def changed(program, **errors):
    return replace(program, target={**program.target, "device": {**program.target["device"], **errors}})


def images(program, engine="fast", numerics="device", seed=1):
    (port,) = program.inputs
    (result,) = Simulator(program, engine, numerics, seed=seed).run({port.name: Z.reshape(3, *port.shape[1:])}).values()
    return result


def test_engines_agree(program):
    noisy = changed(program, read_noise_levels=0.3, write_sigma=[0.02, 0.02])
    np.testing.assert_array_equal(images(noisy), images(noisy, "reference"))


def test_small_errors_vanish_and_stuck_cells_stay(program):
    ideal = images(program, numerics="quantized")
    clean = {"stuck_on": 0.0, "stuck_off": 0.0}
    errors = {
        name: np.sqrt(np.mean((images(changed(program, **change)) - ideal) ** 2))
        for name, change in {
            "none": {**clean, "write_sigma": [0.0]},
            "noise": {**clean, "write_sigma": [0.0], "read_noise_levels": 0.11},
            "one percent": clean,
            "ten percent": {**clean, "write_sigma": [0.0, 0.1]},
            "stuck": {"stuck_repair": False},
            "repaired": {},
        }.items()
    }
    assert errors["none"] == errors["noise"] == 0
    assert errors["one percent"] < 0.01 < errors["ten percent"]
    assert errors["stuck"] > 3 * errors["repaired"] > 3 * errors["one percent"]
