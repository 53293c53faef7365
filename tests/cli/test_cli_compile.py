"""`mgc compile`: what it writes, says and refuses."""

import json
import os
from pathlib import Path

import numpy as np
import onnx
import pytest
import tiny
from onnx import helper

from mgc.targets import target_toml

COMPILE_KEYS = [
    "program", "mode", "target", "batch", "crossbars", "instructions", "macs_useful", "macs_mapped", "host_ops",
    "host_op_types", "products_off_crossbars", "losses", "schedule", "latency_s", "energy_j", "samples_per_s",
    "expected_psnr_db", "rewriting",
    "objective", "choices", "passes", "seconds",
]  # fmt: skip


@pytest.fixture
def model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    onnx.save(tiny.generator(), "G.onnx")
    return tmp_path / "G.onnx"


def test_json_has_exactly_the_agreed_keys(mgc, model):
    before = model.read_bytes()
    outcome = mgc("compile", model, "--batch", 4, "--json")
    shown = outcome.json
    assert outcome.code == 0
    assert list(shown) == COMPILE_KEYS
    assert shown["program"] == "G.mgc"
    assert Path("G.mgc").exists()
    assert (shown["mode"], shown["target"], shown["batch"]) == ("inference", "liu2018", 4)
    assert list(shown["crossbars"]) == ["used", "available"]
    assert 0 < shown["crossbars"]["used"] <= shown["crossbars"]["available"] == 16128
    assert list(shown["schedule"]) == ["status", "makespan_cycles", "lower_bound_cycles", "gap", "tasks"]
    assert shown["schedule"]["gap"] >= 0
    assert (shown["host_ops"], shown["host_op_types"], shown["losses"]) == (0, [], [])
    assert [list(p) for p in shown["passes"]] == [["name", "seconds"]] * len(shown["passes"])
    assert {"import", "fold", "emit"} <= {p["name"] for p in shown["passes"]}
    assert model.read_bytes() == before


def test_summary_on_stdout_progress_on_stderr(mgc, model):
    outcome = mgc("compile", model)
    assert outcome.code == 0
    assert "crossbars" in outcome.out
    assert "nothing: every op runs on the chip" in outcome.out
    assert max(map(len, outcome.out.splitlines())) <= 80
    assert "compile: import" in outcome.err
    assert sorted(os.listdir()) == ["G.mgc", "G.onnx"]


def test_host_ops_are_named_with_the_reason(mgc, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    onnx.save(tiny.scorer(), "D.onnx")
    outcome = mgc("compile", "D.onnx")
    assert "ArgMax" in outcome.out
    assert "argmax" in outcome.out
    shown = mgc("compile", "D.onnx", "--json").json
    assert (shown["host_ops"], shown["host_op_types"]) == (1, ["ArgMax"])


def test_same_input_same_bytes(mgc, model):
    mgc("compile", model, "-o", "a.mgc", "--batch", 2)
    mgc("compile", model, "-o", "b.mgc", "--batch", 2)
    assert Path("a.mgc").read_bytes() == Path("b.mgc").read_bytes()


def test_a_target_file_and_its_name_in_the_report(mgc, model):
    Path("mine.toml").write_text(target_toml("liu2018").replace("adc_bits = 8", "adc_bits = 7"))
    assert mgc("compile", model, "--target", "mine.toml", "--json").json["target"] == "liu2018"
    Path("half.toml").write_text('base = "isaac"\n[crossbar]\nadc_bits = 7\n')
    assert mgc("compile", model, "--target", "half.toml", "--json").json["target"] == "half"


def test_keys_of_the_target_are_set(mgc, refused, model):
    shown = mgc("compile", model, "--set", "rows=64", "--set", "crossbar.adc_bits=6", "--json").json
    assert shown["target"] == "liu2018 rows=64, crossbar.adc_bits=6"
    kept = mgc("inspect", "G.mgc", "mapping", "--format", "json").json
    assert kept["crossbars"]["used"] >= shown["crossbars"]["used"] > 0
    for text in ("rows", "rows=", "=64"):
        assert f"--set {text}: write KEY=VALUE" in refused("compile", model, "--set", text)
    assert "--set rows is given twice" in refused("compile", model, "--set", "rows=64", "--set", "rows=32")
    assert "did you mean rows?" in refused("compile", model, "--set", "row=64")


def test_dump_dir(mgc, model):
    mgc("compile", model, "--dump-dir", "stages")
    assert any(name.endswith(".ir") for name in os.listdir("stages"))


def test_calibration_data(mgc, model):
    np.savez("data.npz", z=np.random.default_rng(0).normal(size=(16, 8)).astype(np.float32))
    assert mgc("compile", model, "--calibration", "data.npz", "--calibrate", "minmax").code == 0


def test_an_older_program_stays_if_compiling_fails(mgc, model):
    Path("G.mgc").write_bytes(b"old")
    model.write_bytes(b"not onnx")
    assert mgc("compile", model).code == 2
    assert Path("G.mgc").read_bytes() == b"old"
    assert sorted(os.listdir()) == ["G.mgc", "G.onnx"]


@pytest.mark.parametrize("content", [b"", b"hello, I am a text", bytes(range(256)) * 8, b"\x08\x08\x12\x04"])
def test_what_is_no_model_is_refused(refused, tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    Path("x.onnx").write_bytes(content)
    assert "x.onnx" in refused("compile", "x.onnx")
    assert os.listdir() == ["x.onnx"]


def test_a_truncated_model_is_refused(refused, model):
    data = model.read_bytes()
    for length in (1, len(data) // 2, len(data) - 1):
        model.write_bytes(data[:length])
        refused("compile", model)
    assert os.listdir() == ["G.onnx"]


def test_files_that_are_not_there(refused, model):
    assert "there is no file nope.onnx" in refused("compile", "nope.onnx")
    assert "is a folder" in refused("compile", ".")
    assert "there is no file nope.npz" in refused("compile", model, "--calibration", "nope.npz")
    assert "nope.toml" in refused("compile", model, "--target", "nope.toml")
    assert "did you mean isaac?" in refused("compile", model, "--target", "isaak")
    assert "there is no folder" in refused("compile", model, "-o", "no/where.mgc")
    assert os.listdir() == ["G.onnx"]


def test_the_model_is_never_overwritten(refused, model):
    before = model.read_bytes()
    os.link(model, "link.mgc")
    os.symlink(model, "soft.mgc")
    for output in (model, "G.onnx", "./G.onnx", "link.mgc", "soft.mgc"):
        assert "G.onnx" in refused("compile", model, "-o", output) or output.endswith("mgc")
    onnx.save(tiny.scorer(), "D.onnx")
    assert "named like a model" in refused("compile", model, "-o", "D.onnx")
    assert model.read_bytes() == before


@pytest.mark.parametrize("dim", ["N", "=3", "N=", "N=x", "N=0", "N=-1", "N=1.5"])
def test_dims_must_be_names_with_numbers(refused, model, dim):
    assert "write NAME=N" in refused("compile", model, "--dim", dim)


def test_a_dim_given_twice_differently(refused, model):
    assert "given twice" in refused("compile", model, "--dim", "N=1", "--dim", "N=2")


def test_unbound_dimensions_are_listed(mgc, refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    nodes = [helper.make_node("Relu", ["x"], ["y"], "relu")]
    onnx.save(tiny.model(nodes, {"x": ["N", 3, "height", "width"]}, {"y": ["N", 3, "height", "width"]}), "x.onnx")
    message = refused("compile", "x.onnx")
    assert "height" in message
    assert "width" in message
    assert mgc("compile", "x.onnx", "--dim", "height=4", "--dim", "width=5").code == 0


def test_a_bad_target_shows_all_its_errors_at_once(refused, model):
    Path("bad.toml").write_text('base = "liu2018"\n[crossbar]\nrows = 0\nadc_mode = "guess"\ncolour = "red"\n')
    message = refused("compile", model, "--target", "bad.toml")
    assert all(word in message for word in ("rows", "adc_mode", "colour"))


def test_calibration_that_does_not_fit(refused, model):
    np.savez("other.npz", x=np.zeros((4, 8), np.float32))
    refused("compile", model, "--calibration", "other.npz")
    np.savez("shape.npz", z=np.zeros((4, 9), np.float32))
    refused("compile", model, "--calibration", "shape.npz")
    Path("text.npz").write_text("hello")
    refused("compile", model, "--calibration", "text.npz")


def test_a_model_that_is_too_large_for_the_chip(refused, model):
    Path("small.toml").write_text(
        'base = "liu2018"\n[structure]\ntiles_per_chip = 1\nmacros_per_tile = 1\ncrossbars_per_macro = 1\n'
    )
    assert "crossbars" in refused("compile", model, "--target", "small.toml")
    assert sorted(os.listdir()) == ["G.onnx", "small.toml"]


def test_warnings_are_seen(mgc, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = tiny.generator()
    for port in (*made.graph.input, *made.graph.output):
        port.type.tensor_type.shape.dim[0].ClearField("dim_param")
        port.type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(made, "fixed.onnx")
    outcome = mgc("compile", "fixed.onnx", "--batch", 4)
    assert outcome.code == 0
    assert "warning: " in outcome.err
    assert "batch" in outcome.err


def test_the_program_does_not_depend_on_the_models_name_or_place(mgc, model):
    Path("sub").mkdir()
    Path("sub/other.onnx").write_bytes(model.read_bytes())
    mgc("compile", model)
    mgc("compile", "sub/other.onnx")
    assert Path("other.mgc").read_bytes() == Path("G.mgc").read_bytes()


def test_json_numbers_survive_a_program_that_takes_no_time(mgc, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    nodes = [helper.make_node("Identity", ["x"], ["y"], "same")]
    onnx.save(tiny.model(nodes, {"x": ["N", 3]}, {"y": ["N", 3]}), "x.onnx")
    json.dumps(mgc("compile", "x.onnx", "--json").json, allow_nan=False)
