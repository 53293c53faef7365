"""Metrics of what programs make: features of any network, real images of any kind, the same in run, train and sweep."""

import csv
import json
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import scipy
from onnx import TensorProto, helper
from PIL import Image
from typer.testing import CliRunner

import mgc
from mgc.cli.app import app
from mgc.evaluation.distances import LEAST
from mgc.evaluation.errors import GivenError
from mgc.evaluation.metrics import FeatureNetwork, Metrics, parse_metrics

sys.path.insert(0, str(Path(__file__).parents[1] / "cli"))
import tiny

MODELS = Path(__file__).parents[2] / "models"


def flattener(path: Path, shape: list, channels: int = 1) -> Path:
    """A network whose features are its pixels."""
    node = helper.make_node("Flatten", ["x"], ["y"])
    onnx.save(tiny.model([node], {"x": shape}, {"y": [shape[0], None]}), path)
    return path


def test_names_are_checked():
    assert parse_metrics(["frechet:a:b", "recall:c"]) == {"frechet": Path("a:b"), "recall": Path("c")}
    for texts in (["fid:x"], ["frechet"], ["frechet:"], ["recall:a", "recall:b"]):
        with pytest.raises(GivenError, match="--metric"):
            parse_metrics(texts)


def test_the_network_that_ships():
    images = np.random.default_rng(0).uniform(-1, 1, (7, 1, 32, 32)).astype(np.float32)
    found = FeatureNetwork().features(images)
    assert found.shape == (7, 64)
    np.testing.assert_array_equal(found[3:4], FeatureNetwork().features(images[3:4]))
    with pytest.raises(GivenError, match="takes 1 channels, the images have 3"):
        FeatureNetwork().features(images.repeat(3, axis=1))


@pytest.mark.parametrize("batch", [None, 4])
def test_networks_of_a_fixed_batch_and_another_size(tmp_path, batch):
    network = FeatureNetwork(flattener(tmp_path / "f.onnx", [batch or "N", 3, 8, 8]))
    images = np.random.default_rng(1).uniform(-1, 1, (6, 1, 16, 16)).astype(np.float32)
    found = network.features(images)
    assert found.shape == (6, 3 * 64)
    np.testing.assert_array_equal(found[:, :64], found[:, 64:128])
    assert np.abs(found.mean(1) - images.mean((1, 2, 3))).max() < 0.02


def test_what_is_no_network_of_features(tmp_path):
    (tmp_path / "a.onnx").write_bytes(b"no model")
    onnx.save(tiny.generator(), tmp_path / "g.onnx")
    for name, words in (("a.onnx", "give an ONNX model"), ("g.onnx", "one input"), ("b.onnx", "give an ONNX model")):
        with pytest.raises(GivenError, match=words):
            FeatureNetwork(tmp_path / name)


@pytest.fixture(scope="module")
def fashion(tmp_path_factory) -> Path:
    """A folder with a DCGAN of 32x32 grey images as G.mgc, and images as a folder and as an array of 28x28."""
    folder = tmp_path_factory.mktemp("metrics")
    model = MODELS / "dcgan_fashion" / "dcgan_fashion_G.onnx"
    mgc.compile(model, batch=8, calibrate="minmax").save(folder / "G.mgc")
    rng = np.random.default_rng(0)
    pixels = (rng.integers(0, 2, (40, 7, 7)).repeat(4, 1).repeat(4, 2) * 200).astype(np.uint8)
    np.save(folder / "real.npy", pixels)
    (folder / "real").mkdir()
    for k, image in enumerate(np.pad(pixels, ((0, 0), (2, 2), (2, 2)))):
        Image.fromarray(image).save(folder / "real" / f"{k:03}.png")
    return folder


def invoke(*arguments) -> dict:
    outcome = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    assert outcome.exit_code == 0, outcome.output
    return json.loads(outcome.stdout)


def test_a_run_says_what_scipy_and_onnx_runtime_say(fashion):
    real, out = fashion / "real", fashion / "o.npz"
    every = [f"--metric={name}:{real}" for name in ("frechet", "kernel", "precision", "recall")]
    found = invoke("run", fashion / "G.mgc", "-n", 40, "-o", out, *every)["metrics"]
    assert found == invoke("run", fashion / "G.mgc", "-n", 40, *(e + ".npy" for e in every))["metrics"]
    with np.load(out) as arrays:
        made = arrays["image"]
    pixels = np.pad(np.load(fashion / "real.npy"), ((0, 0), (2, 2), (2, 2)))[:, None]
    session = onnxruntime.InferenceSession(Path(mgc.__file__).parent / "evaluation" / "features.onnx")
    a, b = (session.run(None, {"image": x.astype(np.float32)})[0].astype(float) for x in (made, pixels / 127.5 - 1))
    ca, cb = np.cov(a.T), np.cov(b.T)
    wanted = np.sum((a.mean(0) - b.mean(0)) ** 2) + np.trace(ca + cb - 2 * scipy.linalg.sqrtm(ca @ cb).real)
    assert found["frechet"] == pytest.approx(wanted, rel=1e-3)
    assert found["frechet"] > 10
    assert 0 <= found["precision"] <= 1


def test_a_sweep_fills_its_column(fashion, tmp_path):
    model = MODELS / "dcgan_fashion" / "dcgan_fashion_G.onnx"
    over, metric = {"adc_bits": [4, 8]}, f"frechet:{fashion / 'real'}"
    table = mgc.sweep(model, over, samples=8, calibrate="minmax", metric=metric)
    alone = mgc.compile(model, calibrate="minmax", overrides={"adc_bits": 8})
    alone.save(tmp_path / "G.mgc")
    found = invoke("run", tmp_path / "G.mgc", "-n", 8, "--metric", metric)["metrics"]["frechet"]
    assert table.rows[1]["frechet"] == pytest.approx(found, rel=1e-6)
    assert table.rows[0]["frechet"] != table.rows[1]["frechet"]
    with pytest.raises(ValueError, match="write frechet:REAL"):
        mgc.sweep(model, over, metric="recall:x")


def test_what_does_not_fit(fashion, tmp_path):
    program = mgc.Program.load(fashion / "G.mgc")
    np.save(tmp_path / "colour.npy", np.zeros((5, 3, 32, 32), np.uint8))
    with pytest.raises(GivenError, match="are no images as output image makes them"):
        Metrics(program, {"frechet": tmp_path / "colour.npy"}, FeatureNetwork())
    few = mgc.Simulator(program).run({"z": np.zeros((1, 100, 1, 1), np.float32)})
    metrics = Metrics(program, {"frechet": fashion / "real"}, FeatureNetwork())
    with pytest.raises(GivenError, match="there are 1 images, 2 are needed: make more samples"):
        metrics.of(few)


class Untouched(FeatureNetwork):
    """Features that nobody may ask for."""

    def features(self, images):
        raise AssertionError("features were taken of too few images")


@pytest.mark.parametrize(("name", "least"), LEAST.items())
def test_too_few_images_are_refused_before_features_are_taken(name, least, fashion, tmp_path):
    program = mgc.Program.load(fashion / "G.mgc")
    real = np.zeros((least, 1, 32, 32), np.uint8)
    np.save(tmp_path / "few.npy", real[1:])
    np.save(tmp_path / "enough.npy", real)
    with pytest.raises(GivenError, match=f"holds {least - 1} images, {least} are needed: give more real images"):
        Metrics(program, {name: tmp_path / "few.npy"}, Untouched())
    with pytest.raises(GivenError, match=f"there are to be {least - 1} images, {least} are needed"):
        Metrics(program, {name: tmp_path / "enough.npy"}, Untouched(), samples=least - 1)


def test_outputs_that_are_no_images(fashion):
    plain = helper.make_node("Identity", ["x"], ["y"])
    shapes = {"x": (TensorProto.FLOAT, ["N", 7])}
    other = mgc.compile(tiny.model([plain], shapes, {"y": (TensorProto.FLOAT, ["N", 7])}))
    with pytest.raises(GivenError, match="no output"):
        Metrics(other, {"frechet": fashion / "real"}, FeatureNetwork())


def test_training_measures_as_it_goes(tmp_path):
    zoo = MODELS / "zoo"
    features = flattener(tmp_path / "f.onnx", ["N", 1, 16, 16])
    data = zoo / "data" / "images.npy"
    gan = invoke(
        "compile", zoo / "onnx" / "dcgan_G.onnx", "--discriminator", zoo / "onnx" / "dcgan_D.onnx", "--loss", "bce",
        "--optimizer", "sgd", "--batch", 4, "-o", tmp_path / "T.mgc",
    )  # fmt: skip
    assert gan["mode"] == "training"
    every = ["--metric", f"kernel:{data}", "--metric", f"frechet:{data}", "--features", features, "--metric-every", 2]
    how = [*every, "--metric-samples", 12, "--log", tmp_path / "log", "--checkpoint", tmp_path / "c"]
    told = invoke("train", tmp_path / "T.mgc", "--data", data, "--steps", 3, *how)
    assert [step for step, _ in told["metrics"]["frechet"]] == [2, 3]
    with open(tmp_path / "log" / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(int(r["step"]), float(r["value"])) for r in rows if r["metric"] == "kernel"] == [
        tuple(pair) for pair in told["metrics"]["kernel"]
    ]
    more = invoke("train", tmp_path / "T.mgc", "--data", data, "--steps", 4, *how, "--resume")
    ran = invoke("run", tmp_path / "T.mgc", "--checkpoint", tmp_path / "c", "-n", 12, "--features", features,
                 "--metric", f"frechet:{data}")  # fmt: skip
    assert more["metrics"]["frechet"][-1][1] == pytest.approx(ran["metrics"]["frechet"], rel=1e-6)
    assert (tmp_path / "log" / "metrics.csv").read_text().count("\n") == 7
