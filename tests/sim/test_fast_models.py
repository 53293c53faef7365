"""The fast engine on real networks, compiled: everything in graphs, and the reference's bits."""

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from test_fast import assert_same_bits

import mgc
from mgc.sim.fast import FastEngine
from mgc.sim.simulator import Simulator
from mgc.targets.loader import load_target

MODELS = Path(__file__).parents[2] / "models"
DCGAN = ("dcgan_fashion/dcgan_fashion_G", "dcgan_fashion/dcgan_fashion_D")
OTHERS = ("gan1d/gan1d_G", "gan1d/gan1d_D", "mlp_gan/mlp_gan_G", "pix2pix_unet/pix2pix_unet_G")


def compiled(name, **crossbar):
    target = load_target("liu2018")
    if crossbar:
        changed = target.crossbar.model_copy(update=crossbar)
        target = target.model_copy(update={"crossbar": changed})
    return mgc.compile(MODELS / f"{name}.onnx", target=target, calibrate="minmax")


def noise(program, samples):
    rng = np.random.default_rng(7)
    return {p.name: rng.normal(size=(samples, *p.shape[1:])).astype(p.dtype) for p in program.inputs}


@pytest.mark.parametrize("name", [*DCGAN, *OTHERS])
def test_compiled_networks_are_lowered_whole_and_equal_the_reference(name):
    program = compiled(name)
    inputs = noise(program, 2)
    fast = Simulator(program, "fast", threads=1)
    assert_same_bits(fast.run(inputs), Simulator(program, "reference").run(inputs))
    engine = FastEngine(program, "quantized", 1)
    assert [e for e in engine.plan.placements if not e.lowered] == []
    assert len(engine.plan.items) == 1


@pytest.mark.parametrize("name", DCGAN)
def test_integer_products_of_a_dcgan_run_on_eight_bit_kernels(name):
    kernels = {e.kernel for e in FastEngine(compiled(name), "quantized", 1).plan.placements if e.what == "mvm"}
    assert kernels <= {"u8s8", "u8u8"}


@pytest.mark.parametrize(
    "crossbar",
    [{"adc_bits": 4}, {"adc_mode": "scale"}, {"encoding": "offset", "adc_bits": 6}, {"cell_bits": 4, "dac_bits": 2}],
    ids=str,
)
def test_targets_that_lose_bits_still_equal_the_reference(crossbar):
    program = compiled("gan1d/gan1d_D", **crossbar)
    assert Simulator(program, "fast").exact_columns < 1
    inputs = noise(program, 2)
    fast = Simulator(program, "fast", threads=2)
    assert_same_bits(fast.run(inputs), Simulator(program, "reference").run(inputs))


@pytest.mark.parametrize("name", [*DCGAN, *OTHERS, "cyclegan_resnet/cyclegan_resnet_G", "esrgan_rrdb/esrgan_rrdb_G"])
def test_float_numerics_equal_onnx_runtime(name):
    program = compiled(name)
    inputs = noise(program, 3)
    got = Simulator(program, "fast", "float", threads=2).run(inputs)
    expected = ort.InferenceSession(MODELS / f"{name}.onnx", providers=["CPUExecutionProvider"]).run(None, inputs)
    for port, array in zip(program.outputs, expected, strict=True):
        np.testing.assert_allclose(got[port.name], array, rtol=1e-4, atol=1e-4)


def test_any_number_of_samples_gives_the_same_images():
    program = compiled("dcgan_fashion/dcgan_fashion_G")
    inputs = noise(program, 70)
    (name,) = (p.name for p in program.outputs)
    whole = Simulator(program, "fast", threads=2).run(inputs)[name]
    sim = Simulator(program, "fast", threads=1)
    for start, stop in ((0, 1), (3, 20), (69, 70)):
        part = sim.run({n: a[start:stop] for n, a in inputs.items()})[name]
        np.testing.assert_array_equal(part, whole[start:stop])
