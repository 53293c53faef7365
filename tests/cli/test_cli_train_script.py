"""What a script does with its values, by the command line: samples made once, a value carried on."""

import numpy as np
import onnx
import pytest

RATE, STEPS, BATCH = 0.1, 4, 2
MODEL = """
<ir_version: 9, opset_import: ["" : 20]>
step (float[2,3] z, float[2,2] x, float k) => (float loss_g, float loss_d, float k_next, float real)
<float[3,2] g_w = {0.5, -0.25, 0.125, 1.0, -0.5, 0.75}, float[2,1] d_w = {0.5, -1.0}, float rate = {0.5}>
{
    fake = MatMul(z, g_w)
    scores = MatMul(fake, d_w)
    mean = ReduceMean<keepdims = 0>(scores)
    loss_g = Neg(mean)
    of_real = MatMul(x, d_w)
    real = ReduceMean<keepdims = 0>(of_real)
    weighed = Mul(k, real)
    loss_d = Sub(mean, weighed)
    moved = Mul(loss_g, rate)
    k_next = Add(k, moved)
}
"""
GROUPS = ["--group", "generator=g_w", "--group", "discriminator=d_w"]
OPTIONS = ["--optimizer", "sgd", "--lr", str(RATE), *GROUPS, "--once", "fake", "--carry", "k=k_next"]
PHASES = ["--phase", "generator=loss_g", "--phase", "discriminator=loss_d"]


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """The model, its data as options, and the data."""
    folder = tmp_path_factory.mktemp("script")
    model = onnx.parser.parse_model(MODEL)
    onnx.checker.check_model(model)
    onnx.save(model, folder / "step.onnx")
    rng = np.random.default_rng(1)
    data = {n: rng.standard_normal((STEPS * BATCH, s)).astype(np.float32) for n, s in (("z", 3), ("x", 2))}
    data["k"] = np.array(0.25, np.float32)
    for name, array in data.items():
        np.save(folder / f"{name}.npy", array)
    inputs = [text for name in data for text in ("--input", f"{name}={folder / name}.npy")]
    return folder / "step.onnx", inputs, data


def by_hand(data):
    """G steps first, then D on the samples made before; k goes on with G's loss."""
    g = np.array([[0.5, -0.25], [0.125, 1.0], [-0.5, 0.75]])
    d, k = np.array([[0.5], [-1.0]]), 0.25
    history = {"loss_g": [], "loss_d": [], "k_next": [], "real": []}
    for i in range(STEPS):
        z, x = (data[n][i * BATCH : (i + 1) * BATCH].astype(np.float64) for n in "zx")
        fake, real = z @ g, float((x @ d).mean())
        mean = float((fake @ d).mean())
        g = g + RATE * z.mean(0)[:, None] @ d.T
        d = d - RATE * (fake.mean(0) - k * x.mean(0))[:, None]
        for name, value in (("loss_g", -mean), ("loss_d", mean - k * real), ("k_next", k - 0.5 * mean), ("real", real)):
            history[name].append(value)
        k -= 0.5 * mean
    return history


def test_a_script_is_followed(mgc, tmp_path, given):
    model, inputs, data = given
    program = tmp_path / "P.mgc"
    compiled = mgc("compile", model, *PHASES, *OPTIONS, "-o", program, "--json")
    assert compiled.code == 0, compiled.err
    run = ["train", program, *inputs, "--numerics", "float", "--json"]
    whole = mgc(*run, "--steps", STEPS)
    assert whole.code == 0, whole.err
    for name, values in by_hand(data).items():
        assert whole.json["history"][name] == pytest.approx(values, rel=1e-5, abs=1e-6), name
    kept = ["--checkpoint", tmp_path / "c"]
    # a file in order is used from its first sample on, so the halves read the same file
    assert mgc(*run, *kept, "--steps", 2).code == 0
    rest = mgc(*run, *kept, "--steps", STEPS, "--resume")
    assert rest.json["history"] == whole.json["history"]
    missing = mgc("train", program, *inputs[:4], "--steps", STEPS)
    assert missing.code == 2
    assert "the first value of k (float32[]) is missing: give --input k=FILE.npy" in missing.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--once", "fakes"], "the model has no value 'fakes'; there are fake"),
        (["--carry", "k"], "write INPUT=OUTPUT"),
        (["--stop-gradient", "score"], "the model has no value 'score'; there are scores"),
        (["--penalty", "loss_d:scores"], "write LOSS:SCORE:INPUT"),
        (["--penalty", "loss_d:scores:x"], "scores does not depend on x"),
        (["--replay", "x=fake"], "write INPUT=OUTPUT,size=N"),
        (["--order", "generator,discriminator"], "--order goes with --discriminator"),
    ],
)
def test_what_is_written_wrong_is_refused(mgc, tmp_path, given, options, message):
    refused = mgc("compile", given[0], *PHASES, *GROUPS, "--optimizer", "sgd", *options, "-o", tmp_path / "P.mgc")
    assert refused.code == 2
    assert message in " ".join(refused.err.split())
    assert not (tmp_path / "P.mgc").exists()
