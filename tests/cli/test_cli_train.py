"""`mgc train`: results, files, refusals, signals; on a small program that really trains."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from PIL import Image
from typer.testing import CliRunner

ROOT = Path(__file__).parents[2]
sys.path += [str(ROOT / "tests" / "training"), str(ROOT / "tests" / "sim")]
from device_programs import POOR, on_devices  # noqa: E402
from gan_programs import gan_program  # noqa: E402

from mgc.cli.app import app  # noqa: E402
from mgc.training.checkpoint import read_checkpoint  # noqa: E402


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """P.mgc (images of 64 pixels), Q.mgc (two critic steps), x.npy."""
    path = tmp_path_factory.mktemp("train")
    gan_program(n=64).save(path / "P.mgc")
    gan_program(2, n=64).save(path / "Q.mgc")
    np.save(path / "x.npy", np.random.default_rng(5).standard_normal((40, 64)).astype(np.float32) / 8)
    return path


def call(folder, *args, program="P.mgc", data=("--data", "x.npy")):
    options = [str(folder / a) if a == "x.npy" else str(a) for a in (*data, *args)]
    result = CliRunner().invoke(app, ["train", str(folder / program), "--engine", "reference", *options])
    assert "Traceback" not in result.stderr, result.stderr
    return result


def done(folder, *args, **options):
    """The JSON object of a run that ended well."""
    result = call(folder, *args, "--json", **options)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.count("\n") == 1
    return json.loads(result.stdout)


def refused(folder, *args, **options):
    result = call(folder, *args, "--json", **options)
    assert result.exit_code == 2, result.output
    assert json.loads(result.stdout)["error"]["exit_code"] == 2
    assert "a bug in mgc" not in result.stderr
    assert result.stderr.count("rror: ") == 1
    return result.stderr


def test_json_is_exactly_this(folder, tmp_path):
    facts = done(folder, "--steps", 6, "--checkpoint", tmp_path / "c", "--checkpoint-every", 4)
    assert list(facts) == ["steps", "resumed_from", "seconds", "history", "checkpoint"]
    assert (facts["steps"], facts["resumed_from"]) == (6, 0)
    assert facts["history"].keys() == {"loss_d", "loss_g"}
    assert all(len(h) == 6 and all(isinstance(v, float) for v in h) for h in facts["history"].values())
    assert facts["checkpoint"] == str(tmp_path / "c" / "step-00000006.safetensors")
    assert facts["seconds"] > 0
    assert done(folder, "--steps", 6)["checkpoint"] is None


def test_the_same_command_has_the_same_history_and_others_have_not(folder):
    first = done(folder, "--steps", 5)["history"]
    assert done(folder, "--steps", 5)["history"] == first
    assert done(folder, "--steps", 5, "--seed", 1)["history"] != first
    assert done(folder, "--steps", 5, "--numerics", "float")["history"] != first
    assert {n: h[:5] for n, h in done(folder, "--steps", 9)["history"].items()} == first


def test_resuming(folder, tmp_path):
    whole = done(folder, "--steps", 9, program="Q.mgc")
    done(folder, "--steps", 4, "--checkpoint", tmp_path, "--resume", program="Q.mgc")
    rest = done(folder, "--steps", 9, "--checkpoint", tmp_path, "--resume", program="Q.mgc")
    assert (rest["steps"], rest["resumed_from"], rest["history"]) == (9, 4, whole["history"])


def test_files_in_order(folder, tmp_path):
    rows = np.random.default_rng(1).standard_normal((24, 64)).astype(np.float32)
    np.save(tmp_path / "rows.npy", rows)
    np.save(tmp_path / "z.npy", rows[:, :3])
    inputs = ["--input", f"x={tmp_path / 'rows.npy'}", "--input", f"z={tmp_path / 'z.npy'}"]
    first = done(folder, *inputs, "--steps", 6, data=())["history"]
    assert done(folder, *inputs, "--steps", 6, "--seed", 9, data=())["history"] == first
    assert "holds 24 samples, 7 steps of 4 need 28" in refused(folder, *inputs, "--steps", 7, data=())
    assert "7 steps of 2 batches of 4" in refused(folder, *inputs, "--steps", 7, data=(), program="Q.mgc")


def test_text_says_what_matters(folder, tmp_path):
    result = call(folder, "--steps", 3, "--checkpoint", tmp_path)
    assert result.exit_code == 0
    for word in ("steps", "3 of 3, 3 now", "loss_d", "loss_g", "checkpoint"):
        assert word in result.stdout
    assert "input x: 40 samples of " in result.stderr
    assert "input z: drawn N(0,1)" in result.stderr
    assert "step 3 of 3: loss_d " in result.stderr


def test_exported_models_run(folder, tmp_path):
    done(folder, "--steps", 3, "--export", tmp_path / "out" / "models")
    done(folder, "--steps", 3, "--export", tmp_path / "all.onnx")
    assert sorted(p.name for p in (tmp_path / "out" / "models").iterdir()) == ["discriminator.onnx", "generator.onnx"]
    z = np.ones((2, 3), np.float32)
    (alone,) = onnxruntime.InferenceSession(tmp_path / "out" / "models" / "generator.onnx").run(["y"], {"z": z})
    feeds = {"z": z, "x": np.ones((2, 64), np.float32)}
    (whole,) = onnxruntime.InferenceSession(tmp_path / "all.onnx").run(["y"], feeds)
    np.testing.assert_array_equal(alone, whole)
    assert alone.any()


def test_pictures(folder, tmp_path):
    done(folder, "--steps", 5, "--png", tmp_path / "g.png", "--png-every", 2)
    names = ["g-00000002.png", "g-00000004.png", "g.png"]
    assert sorted(p.name for p in tmp_path.iterdir()) == names
    images = set()
    for name in names:
        with Image.open(tmp_path / name) as image:
            assert image.size == (530, 530)  # 8 x 8 images of 8 x 8 pixels, enlarged
            images.add(image.tobytes())
    assert len(images) == 3


def test_images_are_data_too(folder, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (9, 8, 8), np.uint8)
    for k, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / f"{k}.png")
    np.save(tmp_path / "x.npy", pixels)
    from_folder = done(folder, "--steps", 4, data=("--data", tmp_path))["history"]
    assert done(folder, "--steps", 4, data=("--data", tmp_path / "x.npy"))["history"] == from_folder


def test_divergence_is_exit_1_and_keeps_the_last_good_checkpoint(folder, tmp_path):
    np.save(tmp_path / "wild.npy", np.full((8, 64), 1e20, np.float32))
    result = call(
        folder, "--steps", 9, "--numerics", "float", "--json", "--checkpoint", tmp_path / "c", "--checkpoint-every", 1,
        data=("--data", tmp_path / "wild.npy"),
    )  # fmt: skip
    assert result.exit_code == 1
    assert "error: training diverged at step 1: " in result.stderr
    assert "is not finite" in result.stderr
    facts = json.loads(result.stdout)
    assert (facts["steps"], facts["checkpoint"]) == (0, None)


@pytest.mark.parametrize("program", ["P.mgc", "Q.mgc"])
def test_divergence_saves_the_state_before_it(folder, tmp_path, program):
    """The fourth iteration meets a sample that no float32 loss can hold; the third is kept, to the bit."""
    batches = 2 if program == "Q.mgc" else 1
    x = np.random.default_rng(5).standard_normal((6 * batches * 4, 64)).astype(np.float32) / 8
    np.save(tmp_path / "good.npy", x)
    x[4 * batches * 4 - 1] = 1e30
    np.save(tmp_path / "wild.npy", x)
    options = ["--steps", 6, "--numerics", "float", "--checkpoint-every", 100]
    wild = call(
        folder, *options, "--checkpoint", tmp_path / "c", program=program, data=("--input", f"x={tmp_path}/wild.npy")
    )
    assert wild.exit_code == 1
    kept = tmp_path / "c" / "step-00000003.safetensors"
    assert f"; the last good checkpoint is {kept}; " in " ".join(wild.stderr.split())
    done(
        folder, *["--steps", 3, *options[2:]], "--checkpoint", tmp_path / "d", program=program,
        data=("--input", f"x={tmp_path}/good.npy"),
    )  # fmt: skip
    alone = tmp_path / "d" / "step-00000003.safetensors"
    first, second = (read_checkpoint(p) for p in (kept, alone))
    assert first.history == second.history
    assert first.state.keys() == second.state.keys()
    assert all(first.state[n].tobytes() == v.tobytes() for n, v in second.state.items())


def test_wrong_requests_are_refused(folder, tmp_path):
    assert "nothing to learn from: give --data DATA" in refused(folder, "--steps", 3, data=())
    for option in (["--checkpoint-every", 3], ["--resume"]):
        assert f"{option[0]} needs --checkpoint" in refused(folder, "--steps", 3, *option)
    assert "--png-every needs --png" in refused(folder, "--steps", 3, "--png-every", 3)
    assert "there is no input 'q'; the program's inputs are x, z" in refused(folder, "--steps", 3, "--input", "q=a.npy")
    assert "would overwrite the program" in refused(folder, "--steps", 3, "--png", folder / "P.mgc")
    assert "would overwrite the data" in refused(folder, "--steps", 3, "--png", folder / "x.npy")
    assert "cannot be read: No such file" in refused(folder, "--steps", 3, data=("--data", tmp_path / "no"))
    assert "there is no folder" in refused(folder, "--steps", 3, "--png", tmp_path / "no" / "g.png")
    (tmp_path / "f").write_text("")
    assert "is a file: name a folder" in refused(folder, "--steps", 3, "--checkpoint", tmp_path / "f")
    assert "is a file: name a folder" in refused(folder, "--steps", 3, "--export", tmp_path / "f")
    done(folder, "--steps", 3, "--checkpoint", tmp_path / "c")
    assert "add --resume to go on" in refused(folder, "--steps", 3, "--checkpoint", tmp_path / "c")
    message = refused(folder, "--steps", 5, "--checkpoint", tmp_path / "c", "--resume", "--seed", 5)
    assert "was made with seed 0, not 5" in message
    assert sorted(os.listdir(tmp_path)) == ["c", "f"]


def test_a_program_for_inference_does_not_train(folder, compiled):
    message = refused(folder, "--steps", 3, program=compiled / "G.mgc")
    assert "does not train: compile it with --discriminator and --loss, or with --phase" in message
    assert str(compiled / "G.mgc") in message


def device_program(folder):
    """V.mgc: P.mgc for poor devices."""
    program = gan_program(n=64)
    on_devices(program, replace(POOR, update="pulses")).save(folder / "V.mgc")


def start(folder, *args, program="P.mgc"):
    options = [folder / program, "--engine", "reference", "--data", folder / "x.npy", "--json", *args]
    command = [sys.executable, "-m", "mgc", "train", *map(str, options)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def wait_for(folder):
    for _ in range(600):
        if list(folder.glob("step-*.safetensors")):
            return
        time.sleep(0.05)
    raise AssertionError("no checkpoint was written")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_training_after_the_step_with_a_checkpoint(folder, tmp_path, number, code):
    with start(folder, "--steps", 10**6, "--checkpoint", tmp_path, "--checkpoint-every", 20) as process:
        wait_for(tmp_path)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert "Traceback" not in err
    assert "stopping after this step" in err
    facts = json.loads(out)
    steps = facts["steps"]
    assert facts["checkpoint"] == str(tmp_path / f"step-{steps:08d}.safetensors")
    assert f"interrupted after step {steps} of 1000000, saved in {facts['checkpoint']}" in err
    rest = done(folder, "--steps", steps + 3, "--checkpoint", tmp_path, "--resume")
    assert rest["history"] == done(folder, "--steps", steps + 3)["history"]


@pytest.mark.parametrize("numerics", ["quantized", "device"])
def test_killed_and_resumed_it_has_the_bits_of_a_run_left_alone(folder, tmp_path, numerics):
    device_program(folder)
    program, mode = ("V.mgc" if numerics == "device" else "P.mgc"), ("--numerics", numerics, "--seed", 3)
    steps = ("--steps", 10**6, "--checkpoint", tmp_path / "c", "--checkpoint-every", 3)
    with start(folder, *steps, *mode, program=program) as process:
        wait_for(tmp_path / "c")
        time.sleep(0.3)
        process.kill()
        process.communicate(timeout=60)
    reached = max(int(p.stem.partition("-")[2]) for p in (tmp_path / "c").glob("step-*"))
    rest = done(folder, "--steps", reached + 5, "--checkpoint", tmp_path / "c", "--resume", *mode, program=program)
    assert rest["resumed_from"] == reached
    alone = done(folder, "--steps", reached + 5, "--checkpoint", tmp_path / "alone", *mode, program=program)
    assert rest["history"] == alone["history"]
    assert Path(rest["checkpoint"]).read_bytes() == Path(alone["checkpoint"]).read_bytes()


def test_training_and_testing_on_devices(folder, tmp_path, mgc):
    """The very cells that were trained are tested; engines agree; a seed is part of what a checkpoint belongs to."""
    device_program(folder)
    mode, kept = ("--numerics", "device", "--seed", 3), ("--checkpoint", tmp_path / "c")
    facts = done(folder, "--steps", 4, *mode, *kept, program="V.mgc")
    fast = done(folder, "--steps", 4, *mode, "--engine", "fast", program="V.mgc")
    assert fast["history"] == facts["history"]
    assert done(folder, "--steps", 4, "--numerics", "device", program="V.mgc")["history"] != facts["history"]
    names = read_checkpoint(Path(facts["checkpoint"])).state
    assert {"device/clock", "device/cells/0"} <= set(names)
    assert "made with seed 3" in refused(
        folder, "--steps", 5, "--numerics", "device", *kept, "--resume", program="V.mgc"
    )
    tested = mgc("run", folder / "V.mgc", *mode, *kept, "-n", 4, "--json", "-o", tmp_path / "device.npz")
    assert tested.code == 0, tested.err
    assert tested.json["numerics"] == "device"
    quantized = mgc("run", folder / "V.mgc", *kept, "--seed", 3, "-n", 4, "--json", "-o", tmp_path / "quantized.npz")
    assert quantized.code == 0, quantized.err


def test_running_with_the_weights_of_a_checkpoint(folder, tmp_path, mgc, refused):
    done(folder, "--steps", 5, "--checkpoint", tmp_path / "c", "--export", tmp_path, "--numerics", "float")
    z = np.random.default_rng(2).standard_normal((10, 3)).astype(np.float32)
    np.save(tmp_path / "z.npy", z)
    common = [folder / "P.mgc", "--engine", "reference", "--input", f"z={tmp_path / 'z.npy'}"]
    trained = [*common, "--checkpoint", tmp_path / "c"]
    outcome = mgc("run", *trained, "--json", "--numerics", "float", "--check", tmp_path / "generator.onnx")
    assert outcome.code == 0, outcome.err
    assert outcome.json["check"]["ok"]
    assert outcome.json["samples"] == 10
    assert "with the weights of step 5" in outcome.err
    assert "not the file" not in outcome.err
    outcome = mgc("run", *trained, "--json", "--check", tmp_path / "generator.onnx", "--png", tmp_path / "g.png")
    assert outcome.json["check"]["psnr_db"] > 30
    assert (tmp_path / "g.png").exists()
    outcome = mgc("run", *common, "--numerics", "float", "--check", tmp_path / "generator.onnx")
    assert outcome.code == 1
    assert "with the weights before training: --checkpoint DIR" in outcome.err
    assert "belongs to another program" in refused("run", folder / "Q.mgc", "--checkpoint", tmp_path / "c")
    assert "there is no folder" in refused("run", folder / "P.mgc", "--checkpoint", tmp_path / "d")


def test_a_program_for_inference_has_no_checkpoints(compiled, tmp_path, refused):
    assert "has no testing entry" in refused("run", compiled / "G.mgc", "--checkpoint", tmp_path)


def test_a_full_disk_ends_training_and_leaves_the_checkpoint_before(folder, tmp_path, monkeypatch):
    from mgc.isa import container

    write, written = container.write, []

    def full(path, *rest, **how):
        if written:
            raise OSError(28, "No space left on device")
        written.append(path)
        write(path, *rest, **how)

    whole = done(folder, "--steps", 6)["history"]
    monkeypatch.setattr(container, "write", full)
    message = refused(folder, "--steps", 6, "--checkpoint", tmp_path, "--checkpoint-every", 2)
    assert "step-00000004.safetensors cannot be written: No space left on device" in message
    assert "step-00000002.safetensors stays" in message
    monkeypatch.undo()
    rest = done(folder, "--steps", 6, "--checkpoint", tmp_path, "--resume")
    assert (rest["resumed_from"], rest["history"]) == (2, whole)


def test_counted_writes_go_into_the_cost(folder, tmp_path):
    """What `--count-writes` prints: in the run's JSON and text, and beside the worst case in the cost."""
    plain = done(folder, "--steps", "2")
    counted = done(folder, "--steps", "2", "--count-writes")
    assert "cell_writes" not in plain
    assert counted["history"] == plain["history"]
    writes = counted["cell_writes"]
    assert writes["runs"] == 2
    assert 0 < writes["changed"] < writes["cells"]
    (tmp_path / "counts.json").write_text(json.dumps(counted))
    billed = gan_program(n=64)
    worn = {"endurance_writes": 1e6, "writes_per_cell": 1.0, "most_writes_per_cell": 1, "runs": 1e6, "seconds": 1e3}
    meta = {"energy_j": 5.0, "energy": {"write": 4.0}, "latency_s": 1e-3, "cost": {"endurance": worn}}
    replace(billed, meta={**billed.meta, **meta}).save(tmp_path / "B.mgc")
    inspected = ["inspect", str(tmp_path / "B.mgc"), "cost", "--counted", str(tmp_path / "counts.json")]
    program = json.loads(CliRunner().invoke(app, [*inspected, "--json"]).stdout)
    assert program["wear"]["share"] == writes["changed"] / writes["cells"]
    assert program["wear"]["counted"]["energy_j"] < program["wear"]["worst"]["energy_j"] == program["energy_j"]
    assert "% changed" in call(folder, "--steps", "2", "--count-writes").stdout
    text = call(tmp_path, "--steps", "2", "--count-writes", program="B.mgc", data=("--data", folder / "x.npy")).stdout
    for part in ("cells written", "energy by that", "wear by that"):
        assert part in text
        assert part in CliRunner().invoke(app, inspected).stdout
    for content, message in (("{", "is no JSON"), ("[1]", "no counts"), (json.dumps(plain), "no counts")):
        (tmp_path / "counts.json").write_text(content)
        result = CliRunner().invoke(app, inspected)
        assert (result.exit_code, result.stdout) == (2, "")
        assert message in result.stderr
    assert "float" in refused(folder, "--steps", "2", "--count-writes", "--numerics", "float")
    result = CliRunner().invoke(app, ["inspect", str(folder / "P.mgc"), "memory", "--counted", "counts.json"])
    assert result.exit_code == 2
