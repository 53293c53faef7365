"""`mgc run`: inputs, outputs, checks, pictures."""

import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import tiny
from onnx import helper
from PIL import Image

RUN_KEYS = ["samples", "seconds", "samples_per_s", "numerics", "engine", "exact_columns", "check"]
ENGINES = ["reference", "fast"]


@pytest.fixture
def here(compiled, tmp_path, monkeypatch):
    """A folder of one's own; programs are in `compiled`."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def onnx_outputs(path, **inputs):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, inputs), strict=True))


@pytest.mark.parametrize("engine", ENGINES)
def test_json_has_exactly_the_agreed_keys(mgc, compiled, here, engine):
    outcome = mgc("run", compiled / "G.mgc", "--engine", engine, "--check", compiled / "G.onnx", "--json")
    shown = outcome.json
    assert outcome.code == 0
    assert list(shown) == RUN_KEYS
    assert (shown["samples"], shown["numerics"], shown["engine"]) == (3, "quantized", engine)
    assert 0 <= shown["exact_columns"] <= 1
    assert list(shown["check"]) == ["psnr_db", "cosine", "max_abs_err", "ok"]
    assert shown["check"]["ok"] is True
    assert shown["check"]["psnr_db"] >= 30
    assert os.listdir() == []


def test_without_a_check_there_is_none(mgc, compiled):
    assert mgc("run", compiled / "G.mgc", "--json").json["check"] is None


@pytest.mark.parametrize("engine", ENGINES)
def test_float_numerics_agree_with_onnx_runtime(mgc, compiled, engine):
    args = ["--numerics", "float", "--engine", engine, "--json"]
    for name in "GDM":
        check = mgc("run", compiled / f"{name}.mgc", "--check", compiled / f"{name}.onnx", *args).json["check"]
        assert check["ok"]
        assert check["max_abs_err"] < 1e-4


@pytest.mark.parametrize("samples", [1, 2, 3, 4, 7])
def test_any_number_of_samples(mgc, compiled, here, samples):
    assert mgc("run", compiled / "G.mgc", "-n", samples, "-o", "o.npz", "--json").json["samples"] == samples
    with np.load("o.npz") as out:
        assert sorted(out.files) == ["image", "input/z"]
        assert out["image"].shape == (samples, 1, 8, 8)
        assert out["input/z"].shape == (samples, 8)
        z, image = out["input/z"], out["image"]
    wanted = onnx_outputs(compiled / "G.onnx", z=z)["image"]
    assert np.abs(image - wanted).max() < 0.2
    np.save("z.npy", z)
    mgc("run", compiled / "G.mgc", "--input", "z=z.npy", "-o", "again.npz")
    with np.load("again.npz") as again:
        assert again.files == ["image"]  # what was given is not written again
        np.testing.assert_array_equal(again["image"], image)


@pytest.mark.parametrize("batch", [1, 4])
def test_an_input_that_all_samples_share(mgc, here, batch):
    nodes = [
        helper.make_node("Mul", ["z", "strength"], ["scaled"]),
        helper.make_node("Gemm", ["scaled", "w"], ["h"]),
        helper.make_node("Add", ["h", "noise"], ["y"]),
        helper.make_node("Exp", ["strength"], ["e"]),
    ]
    weights = np.random.default_rng(0).standard_normal((8, 4)).astype(np.float32)
    shapes = {"z": ["N", 8], "strength": [], "noise": [1, 4]}
    onnx.save(tiny.model(nodes, shapes, {"y": ["N", 4], "e": []}, w=weights), here / "S.onnx")
    assert mgc("compile", "S.onnx", "--batch", batch).code == 0
    for samples in (1, 5):
        facts = mgc("run", "S.mgc", "-n", samples, "-o", "S.npz", "--numerics", "float", "--check", "S.onnx", "--json")
        assert facts.json["check"]["ok"]
        with np.load(here / "S.npz") as kept:
            shapes = {name: kept[name].shape for name in kept.files}
        assert shapes == {
            "input/z": (samples, 8),
            "input/strength": (),
            "input/noise": (1, 4),
            "y": (samples, 4),
            "e": (),
        }


def test_same_seed_same_bytes(mgc, compiled, here):
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        mgc("run", compiled / "G.mgc", "--seed", seed, "-o", f"{name}.npz", "--png", f"{name}.png")
    for kind in ("npz", "png"):
        a, b, c = (Path(f"{name}.{kind}").read_bytes() for name in "abc")
        assert a == b
        assert a != c


def test_a_picture_of_the_images(mgc, compiled, here):
    outcome = mgc("run", compiled / "G.mgc", "-n", 4, "--png", "g.png")
    assert "g.png: 4 images of output image, values -1 to 1" in outcome.err
    with Image.open("g.png") as image:
        assert image.mode == "L"
        assert image.width == image.height


def test_no_picture_of_scores(refused, compiled, here):
    assert "no output is an image" in refused("run", compiled / "D.mgc", "--png", "g.png")
    assert os.listdir() == []


def test_text_tells_outputs_and_check(mgc, compiled):
    outcome = mgc("run", compiled / "G.mgc", "--check", compiled / "G.onnx")
    assert "float32 3×1×8×8" in outcome.out
    assert "ok: PSNR" in outcome.out
    assert max(map(len, outcome.out.splitlines())) <= 80


def test_a_failed_check_is_exit_1_and_still_one_object(mgc, compiled, here):
    other = tiny.generator()
    next(w for w in other.graph.initializer if w.name == "w1").raw_data = bytes(4 * 4 * 16)
    onnx.save(other, "other.onnx")
    outcome = mgc("run", compiled / "G.mgc", "--check", "other.onnx", "--json", "-o", "o.npz")
    assert outcome.code == 1
    assert outcome.json["check"]["ok"] is False
    assert "the check failed" in outcome.err
    assert "not the file that this program was compiled from" in outcome.err
    assert Path("o.npz").exists()


def test_integer_outputs_count_in_the_check(mgc, compiled):
    shown = mgc(
        "run", compiled / "D.mgc", "-n", 5, "--numerics", "float", "--check", compiled / "D.onnx", "--json"
    ).json
    assert shown["check"]["max_abs_err"] < 1e-3


def test_a_model_that_mixes_samples_runs_whole_batches(mgc, compiled, here):
    outcome = mgc("run", compiled / "M.mgc", "-n", 10, "-o", "o.npz", "--check", compiled / "M.onnx", "--json")
    assert outcome.json["check"]["ok"]
    with np.load("o.npz") as out:
        x, y = out["input/x"], out["y"]
    assert y.shape == (10, 4)
    np.testing.assert_allclose(y[:4], x[:4] - x[:4].mean(0), atol=1e-6)
    np.testing.assert_allclose(y[4:8], x[4:8] - x[4:8].mean(0), atol=1e-6)


def test_a_model_of_fixed_batch_is_checked_in_its_own_pieces(mgc, compiled, here):
    fixed = tiny.generator()
    for port in (*fixed.graph.input, *fixed.graph.output):
        port.type.tensor_type.shape.dim[0].ClearField("dim_param")
        port.type.tensor_type.shape.dim[0].dim_value = 4
    onnx.save(fixed, "fixed.onnx")
    mgc("compile", "fixed.onnx")
    shown = mgc("run", "fixed.mgc", "-n", 6, "--check", "fixed.onnx", "--json").json
    assert shown["samples"] == 6
    assert shown["check"]["ok"]


def test_device_numerics_are_drawn_by_seed_and_checked_as_quantized(mgc, compiled):
    def run(seed, engine):
        command = ("run", compiled / "G.mgc", "-n", 4, "--numerics", "device", "--seed", seed, "--engine", engine)
        return mgc(*command, "--check", compiled / "G.onnx", "--json")

    first = run(1, "fast")
    assert first.json["numerics"] == "device"
    assert first.json["check"]["ok"] == (first.json["check"]["psnr_db"] >= 30)
    assert first.code == (0 if first.json["check"]["ok"] else 1)
    assert first.json["exact_columns"] < 1  # columns with a stuck cell, at the least
    assert run(1, "reference").json["check"] == first.json["check"]
    assert run(2, "fast").json["check"] != first.json["check"]


def test_bad_inputs(refused, compiled, here):
    np.save("w.npy", np.zeros((2, 9), np.float32))
    np.save("i.npy", np.zeros((2, 8), np.int64))
    np.save("z.npy", np.zeros((2, 8), np.float32))
    program = compiled / "G.mgc"
    assert "there is no input 'q'" in refused("run", program, "--input", "q=z.npy")
    assert "there is no file nope.npy" in refused("run", program, "--input", "z=nope.npy")
    assert "[2, 9]" in refused("run", program, "--input", "z=w.npy", "-o", "o.npz")
    assert "int64" in refused("run", program, "--input", "z=i.npy", "-o", "o.npz")
    assert "5 are asked for" in refused("run", program, "--input", "z=z.npy", "-n", 5)
    assert "would overwrite the input z" in refused("run", program, "--input", "z=z.npy", "-o", "z.npy")
    assert sorted(os.listdir()) == ["i.npy", "w.npy", "z.npy"]


def test_nan_goes_through_ideal_arithmetic_only(mgc, refused, compiled, here):
    z = np.zeros((3, 8), np.float32)
    z[1, 2] = np.nan
    np.save("z.npy", z)
    message = refused("run", compiled / "G.mgc", "--input", "z=z.npy", "-o", "o.npz")
    assert "--input z=z.npy: input z holds NaN (first at [1, 2])" in message
    assert not Path("o.npz").exists()
    assert mgc("run", compiled / "G.mgc", "--input", "z=z.npy", "--numerics", "float").code == 0


def test_bad_checks(refused, compiled, here):
    program = compiled / "G.mgc"
    assert "there is no file nope.onnx" in refused("run", program, "--check", "nope.onnx", "-o", "o.npz")
    Path("text.onnx").write_text("hello")
    assert "text.onnx" in refused("run", program, "--check", "text.onnx", "-o", "o.npz")
    message = refused("run", program, "--check", compiled / "D.onnx", "-o", "o.npz").replace("\n", " ")
    assert "not the model of this program" in message
    assert os.listdir() == ["text.onnx"]


def test_outputs_do_not_replace_the_program(refused, compiled, here):
    before = (compiled / "G.mgc").read_bytes()
    assert "would overwrite the program" in refused("run", compiled / "G.mgc", "-o", compiled / "G.mgc")
    assert (compiled / "G.mgc").read_bytes() == before


@pytest.mark.parametrize("command", ["run", "inspect", "disasm"])
def test_damaged_and_foreign_programs(refused, compiled, here, command):
    Path("empty.mgc").write_bytes(b"")
    Path("text.mgc").write_text("hello")
    data = bytearray((compiled / "G.mgc").read_bytes())
    Path("cut.mgc").write_bytes(data[: len(data) // 2])
    data[len(data) // 2] ^= 1
    Path("flip.mgc").write_bytes(data)
    for name in ("empty", "text", "cut", "flip"):
        assert f"{name}.mgc" in refused(command, f"{name}.mgc")
    assert "there is no file nope.mgc" in refused(command, "nope.mgc")
    assert "is a folder" in refused(command, ".")


def test_reference_runs_where_neither_onnx_nor_the_compiler_is(compiled, here):
    code = (
        "import sys\n"
        "for name in ('onnx', 'onnxruntime', 'ortools', 'networkx', 'mgc.passes', 'mgc.targets',"
        " 'mgc.frontend', 'mgc.compiler', 'mgc.ir'):\n"
        "    sys.modules[name] = None\n"
        f"program = {str(compiled / 'G.mgc')!r}\n"
        "sys.argv = ['mgc', 'run', program, '--engine', 'reference', '-o', 'o.npz', '--png', 'g.png']\n"
        "from mgc.cli import main\n"
        "main()\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=120)
    assert result.returncode == 0, result.stderr
    assert sorted(os.listdir()) == ["g.png", "o.npz"]


def test_threads_do_not_change_results(mgc, compiled, here):
    for threads in (1, 2):
        mgc("run", compiled / "G.mgc", "--threads", threads, "-n", 9, "-o", f"{threads}.npz")
    assert Path("1.npz").read_bytes() == Path("2.npz").read_bytes()


def test_chips_of_their_own(mgc, refused, compiled):
    """--seed draws the inputs, --chip-seed the errors of the devices; --trials counts the chips that hold."""
    program, model = compiled / "G.mgc", compiled / "G.onnx"
    common = ("run", program, "-n", 4, "--numerics", "device", "--check", model, "--json")
    shown = mgc(*common, "--chip-seed", 3, "--trials", 3).json
    assert [t["chip_seed"] for t in shown["trials"]] == [3, 4, 5]
    assert shown["yield"] == sum(t["ok"] for t in shown["trials"]) / 3
    assert {k: v for k, v in shown["trials"][0].items() if k != "chip_seed"} == shown["check"]
    alone = mgc(*common, "--chip-seed", 5).json["check"]
    assert alone == {k: v for k, v in shown["trials"][2].items() if k != "chip_seed"}
    assert mgc(*common, "--seed", 0, "--chip-seed", 0).json["check"] == mgc(*common, "--seed", 0).json["check"]
    assert len({t["psnr_db"] for t in shown["trials"]}) == 3
    assert "needs --numerics device and --check" in refused("run", program, "--trials", 2)


def test_interpolation_goes_from_one_draw_to_another(mgc, refused, compiled, here):
    """Its ends are the first samples of both seeds, all on a great circle; a row, or frames there and back."""
    program = compiled / "G.mgc"
    assert mgc("run", program, "--interpolate", "3,4,5", "--png", "s.png", "-o", "s.npz").code == 0
    assert mgc("run", program, "--interpolate", "3,4,5", "--png", "s.gif").code == 0
    ends = []
    for seed in (3, 4):
        assert mgc("run", program, "-n", 1, "--seed", seed, "-o", "e.npz").code == 0
        with np.load("e.npz") as arrays:
            ends.append((arrays["input/z"][0], arrays["image"][0]))
    with np.load("s.npz") as arrays:
        z, image = arrays["input/z"], arrays["image"]
    for at, (noise, made) in zip((0, -1), ends, strict=True):
        np.testing.assert_allclose(z[at], noise, rtol=1e-6)
        np.testing.assert_array_equal(image[at], made)
    cosines = [a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in pairwise(z)]
    np.testing.assert_allclose(cosines, cosines[0], rtol=1e-5)
    with Image.open("s.png") as strip, Image.open("s.gif") as moving:
        assert strip.width > 4 * strip.height
        assert moving.n_frames == 8
        assert moving.size == ((strip.width - 2) // 5 + 2, strip.height)
    assert "two seeds and 2 to 256 steps" in refused("run", program, "--interpolate", "1,2")
    assert "do not go together" in refused("run", program, "--interpolate", "1,2,3", "-n", 3)
    assert "no noise of a sample's own" in refused("run", compiled / "M.mgc", "--interpolate", "1,2,3")
    assert "end its name in .png" in refused("run", program, "--png", "s.gif")


def test_a_grid_of_output_and_target(mgc, refused, compiled, here):
    """What an output should be stands to the right of it, in the output's own black and white."""
    program = compiled / "G.mgc"
    target = np.linspace(-1, 1, 64, dtype=np.float32).reshape(1, 1, 8, 8)
    np.save("t.npy", target)
    run = ("run", program, "-n", 1, "-o", "o.npz")
    assert mgc(*run, "--png", "a.png").code == 0
    assert mgc(*run, "--png", "b.png", "--expect", "image=t.npy").code == 0
    alone, beside = (np.asarray(Image.open(name)) for name in ("a.png", "b.png"))
    size, plain = (beside.shape[0] - 4) // 8, (alone.shape[0] - 4) // 8
    left, right = (beside[2:-2, at : at + 8 * size][::size, ::size] for at in (2, beside.shape[1] - 2 - 8 * size))
    np.testing.assert_array_equal(left, alone[2:-2, 2:-2][::plain, ::plain])
    np.testing.assert_array_equal(right, np.rint((target[0, 0] + 1) * 127.5).astype(np.uint8))
    assert "there is no output 'picture'" in refused("run", program, "--expect", "picture=t.npy")
    assert "give images" in refused("run", program, "--expect", "image=3")


def test_counted_writes_of_inference(mgc, compiled):
    shown = mgc("run", compiled / "G.mgc", "--count-writes", "--json").json["cell_writes"]
    assert shown["cells"] == shown["changed"] == 0 < shown["setup"]["changed"] < shown["setup"]["cells"]
    assert "none after the first programming" in mgc("run", compiled / "G.mgc", "--count-writes").out
