"""`mgc compare`: what differs between two programs, and nothing else."""

import json

import onnx
import pytest
import tiny


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    from typer.testing import CliRunner

    from mgc.cli.app import app

    folder = tmp_path_factory.mktemp("compare")
    onnx.save(tiny.generator(), folder / "G.onnx")
    for name, more in (("a", []), ("again", []), ("b", ["--set", "rows=16", "--set", "adc_bits=5"])):
        args = ["compile", folder / "G.onnx", "-o", folder / f"{name}.mgc", "--calibrate", "minmax", *more]
        assert CliRunner().invoke(app, [str(a) for a in args]).exit_code == 0
    return folder


def test_two_targets(mgc, programs):
    found = mgc("compare", programs / "a.mgc", programs / "b.mgc", "--json").json
    assert found["schema_version"] >= 1
    keys = {k: v for k, v in found["target"].items() if k != "name"}
    assert keys == {"crossbar.rows": {"a": 128, "b": 16}, "crossbar.adc_bits": {"a": 8, "b": 5}}
    for name, side in (("a", "a"), ("b", "b")):
        figures = mgc("inspect", programs / f"{name}.mgc", "cost", "--format", "json").json
        assert found["figures"]["energy_per_sample_j"][side] == figures["energy_per_sample_j"]
        parts = {k: v[side] for k, v in found["energy_by_component_j"].items()}
        assert parts.items() <= {k: v / figures["batch"] for k, v in figures["energy_by_component_j"].items()}.items()
    for each in found["figures"].values():
        assert each["a"] != each["b"]
        if each["a"] and each["b"]:
            assert each["ratio"] == pytest.approx(each["b"] / each["a"])


def test_one_screen(mgc, programs):
    shown = mgc("compare", programs / "a.mgc", programs / "b.mgc").out
    assert len(shown.splitlines()) <= 60
    assert max(map(len, shown.splitlines())) <= 80
    assert "crossbar.adc_bits" in shown
    assert "crossbars" in shown


def test_equal_programs(mgc, programs):
    found = mgc("compare", programs / "a.mgc", programs / "again.mgc", "--json").json
    assert (found["target"], found["figures"], found["energy_by_component_j"], found["layers"]) == ({}, {}, {}, {})
    assert "energy_per_sample_j" in found["same"]
    shown = mgc("compare", programs / "a.mgc", programs / "again.mgc").out
    assert "The same." in shown
    assert "All are the same." in shown


def test_inference_beside_training(mgc, programs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    onnx.save(tiny.scorer(), "D.onnx")
    outcome = mgc("compile", "D.onnx", "-o", "d.mgc")
    assert outcome.code == 0
    assert json.loads(mgc("compare", programs / "a.mgc", "d.mgc", "--json").out)["figures"]


def test_what_is_refused(refused, programs):
    assert "compile it first" in refused("compare", programs / "a.mgc", programs / "G.onnx")
    refused("compare", programs / "a.mgc", programs / "none.mgc")
