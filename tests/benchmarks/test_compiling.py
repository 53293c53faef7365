"""The families of the benchmarks are sound models, and compiling grows with depth and width as it should."""

import time

import numpy as np
import onnx
import onnxruntime
import pytest

import mgc
from benchmarks.compiling import GROWING
from benchmarks.families import FAMILIES
from benchmarks.growth import slope


@pytest.mark.parametrize("name", [n for n in FAMILIES if not n.startswith("rrdb")])
def test_families_hand_on_signals_of_sane_size(name):
    model = FAMILIES[name]()
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    feeds = {
        i.name: rng.standard_normal([d if isinstance(d, int) else 1 for d in i.shape]).astype(np.float32)
        for i in session.get_inputs()
    }
    (image,) = session.run(None, feeds)
    assert image.ndim == 4
    assert 0.1 < image.std() < 10


@pytest.mark.parametrize("kind", GROWING)
def test_compile_time_grows_no_faster_than_the_network(kind):
    models = {size: GROWING[kind](size).SerializeToString() for size in (40, 160)}
    mgc.compile(models[40])  # imports
    least = dict.fromkeys(models, float("inf"))
    for _ in range(3):  # the least of each, and no more than it takes: other work on the machine only adds
        for size in (40, 160, 40):
            begin = time.process_time()
            mgc.compile(models[size])
            least[size] = min(least[size], time.process_time() - begin)
        if slope(list(least.items())) < 1.35:
            return
    raise AssertionError(f"it grows faster: {least} s")
