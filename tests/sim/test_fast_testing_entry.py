"""The testing entry of a training program: codes with one scale for each sample, on both engines."""

from pathlib import Path

import numpy as np
import onnx
import pytest

import mgc

DATA = Path(__file__).parents[1] / "data" / "training"


@pytest.mark.parametrize("name", ["mlp", "dcgan"])
def test_the_engines_agree_on_every_sample(name):
    generator = onnx.load(DATA / f"{name}_G_ts.onnx")
    for value in (*generator.graph.input, *generator.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "N"  # then samples do not mix, and each is a micro-batch
    discriminator = DATA / f"{name}_D_ts.onnx"
    program = mgc.compile_training(generator, discriminator=discriminator, loss="bce", batch=4)
    (port,) = program.part("testing").inputs
    # samples of very different sizes, so that their scales differ
    z = np.random.default_rng(0).standard_normal((5, *port.shape[1:])).astype(np.float32)
    z *= np.float32(10.0) ** np.arange(-2, 3, dtype=np.float32).reshape(5, *[1] * (z.ndim - 1))
    fast, slow = (mgc.Simulator(program, engine=engine).run({port.name: z}) for engine in ("fast", "reference"))
    assert {n: v.tobytes() for n, v in fast.items()} == {n: v.tobytes() for n, v in slow.items()}
    ideal = [mgc.Simulator(program, engine, "float").run({port.name: z}) for engine in ("fast", "reference")]
    for output in fast:
        np.testing.assert_allclose(ideal[0][output], ideal[1][output], atol=1e-5)
