"""`mgc sweep`: what it writes, says and refuses."""

import csv
from pathlib import Path

import onnx
import pytest
import tiny


@pytest.fixture
def model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    onnx.save(tiny.generator(), "G.onnx")
    return "G.onnx"


def test_a_table_and_a_page(mgc, model):
    outcome = mgc(
        "sweep", model, "--over", "adc_bits=4..5", "--over", "rows=16,64", "-n", 2, "--workers", 1, "--threads",
        "-o", "s.csv", "--plot", "s.html", "--json",
    )  # fmt: skip
    shown = outcome.json
    assert (outcome.code, shown["points"], shown["failed"]) == (0, 4, 0)
    with open("s.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == shown["columns"] == [
        "adc_bits", "rows", "trial", "crossbars", "area_used_mm2", "area_chip_mm2", "cycles", "samples_per_s",
        "energy_j", "psnr_db", "frechet", "yield", "seconds", "error",
    ]  # fmt: skip
    assert [(r["adc_bits"], r["rows"]) for r in rows] == [("4", "16"), ("4", "64"), ("5", "16"), ("5", "64")]
    assert [float(r["energy_j"]) for r in rows] == [r["energy_j"] for r in shown["rows"]]
    assert "s.csv" in Path("s.html").read_text() or "G.onnx on liu2018" in Path("s.html").read_text()
    again = mgc(
        "sweep", model, "--over", "adc_bits=4..5", "--over", "rows=16,64", "-n", 2, "--workers", 1, "--threads",
        "-o", "s.csv", "--resume",
    )  # fmt: skip
    assert again.code == 0
    assert "s.csv: 4 points" in again.out
    assert "Best in accuracy for their energy" in again.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--over", "rows"], "--over rows: write KEY=V,V,..."),
        (["--over", "row=64"], "did you mean rows?"),
        (["--over", "rows=64", "--workers", "2", "--scheduler", "tcp://127.0.0.1:1"], "do not go together"),
        (["--over", "rows=64", "--plot", "s.jpg"], "end its name in .html, .png, .svg"),
        (["--over", "rows=64", "--input", "z"], "--input z: write NAME=WHAT"),
        (["--over", "rows=64", "--target", "liu"], "no such target"),
    ],
)
def test_what_is_refused(refused, model, arguments, words):
    assert words in refused("sweep", model, "-o", "s.csv", *arguments)
    assert not Path("s.csv").exists()


def test_the_model_is_never_overwritten(refused, model):
    assert "would overwrite the input model" in refused("sweep", model, "--over", "rows=64", "-o", model)
