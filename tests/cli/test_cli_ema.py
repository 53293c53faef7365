"""Moving averages of weights: exported beside the weights, and run."""

import numpy as np
import onnx
import tiny
from onnx import TensorProto, helper, numpy_helper


def step_model():
    """loss_g = mean((image - x)^2) with image = z generator.w."""
    nodes = [
        helper.make_node("MatMul", ["z", "generator.w"], ["image"], "make"),
        helper.make_node("Sub", ["image", "x"], ["d"], "differ"),
        helper.make_node("Mul", ["d", "d"], ["q"], "square"),
        helper.make_node("ReduceMean", ["q"], ["loss_g"], "mean", keepdims=0),
    ]
    shapes = {"z": [4, 3], "x": [4, 2]}
    weights = {"generator.w": np.arange(6, dtype=np.float32).reshape(3, 2) / 6}
    return tiny.model(nodes, shapes, {"loss_g": (TensorProto.FLOAT, []), "image": [4, 2]}, **weights)


def weights_of(path):
    return {t.name: numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}


def test_averages_are_exported_and_run(mgc, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    onnx.save(step_model(), "S.onnx")
    rng = np.random.default_rng(0)
    np.save("z.npy", rng.normal(size=(12, 3)).astype(np.float32))
    np.save("x.npy", rng.normal(size=(12, 2)).astype(np.float32))
    common = ["--phase", "generator=loss_g", "--optimizer", "sgd", "--lr", "0.5"]
    assert mgc("compile", "S.onnx", *common, "--ema", "generator=0.75", "-o", "S.mgc").code == 0
    train = ["train", "S.mgc", "--input", "z=z.npy", "--input", "x=x.npy", "--numerics", "float", "--checkpoint", "c"]
    average = weights_of("S.onnx")["generator.w"]
    for steps in (1, 2, 3):  # each run goes on where the one before it ended
        assert mgc(*train, "--steps", steps, "--resume", "--export", "T.onnx").code == 0
        average = 0.75 * average + 0.25 * weights_of("T.onnx")["generator.w"]
    np.testing.assert_allclose(weights_of("T.ema.onnx")["generator.w"], average, rtol=1e-5)
    assert mgc(*train, "--steps", 3, "--resume", "--export", "folder").code == 0
    np.testing.assert_allclose(weights_of("folder/generator.ema.onnx")["generator.w"], average, rtol=1e-5)
    np.save("four.npy", np.eye(4, 3, dtype=np.float32))
    run = ["run", "S.mgc", "--checkpoint", "c", "--input", "z=four.npy", "--numerics", "float", "-o", "out.npz"]
    for flags, expected in (([], weights_of("T.onnx")["generator.w"]), (["--ema"], average)):
        assert mgc(*run, *flags).code == 0
        np.testing.assert_allclose(np.load("out.npz")["image"][:3], expected, rtol=1e-5)


def test_without_averages_there_are_none_to_run(mgc, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    onnx.save(step_model(), "S.onnx")
    assert mgc("compile", "S.onnx", "--phase", "generator=loss_g", "--optimizer", "sgd", "-o", "S.mgc").code == 0
    outcome = mgc("run", "S.mgc", "--ema")
    assert outcome.code == 2
    assert "keeps no moving average" in outcome.err
    assert mgc("compile", "S.onnx", "--phase", "generator=loss_g", "--optimizer", "sgd", "--ema", "g=0.5").code == 2
