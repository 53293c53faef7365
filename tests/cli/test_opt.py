"""`mgc opt`: from every stage of a compilation to the next, to the byte; and what it refuses."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mgc.cli.app import app
from mgc.compiler import pass_registry
from mgc.ir.text import header_of

ROOT = Path(__file__).parents[2]
MODELS = ROOT / "models"
STEP = ("--discriminator", "--loss", "bce", "--optimizer", "adam", "--batch", "4")


def mgc(*arguments, code=0):
    result = CliRunner().invoke(app, [*map(str, arguments)])
    assert result.exit_code == code, result.stderr
    return result


def training(folder, name):
    return (folder / f"{name}_G.onnx", "--discriminator", folder / f"{name}_D.onnx", *STEP[1:])


COMPILATIONS = {
    "inference": (MODELS / "gan1d" / "gan1d_G.onnx", "--calibrate", "minmax"),
    "inference by error": (MODELS / "mlp_gan" / "mlp_gan_G.onnx", "--batch", "2"),
    "training": training(MODELS / "mlp_gan", "mlp_gan"),
    "dcgan": (MODELS / "dcgan_fashion" / "dcgan_fashion_G.onnx", "--batch", "4"),
    "dcgan training": training(MODELS / "dcgan_fashion", "dcgan_fashion"),
}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if "dcgan" in n else ()) for n in COMPILATIONS]
)
def test_every_stage_leads_to_the_next(name, tmp_path):
    dumps, out = tmp_path / "dumps", tmp_path / "out.ir"
    mgc("compile", *COMPILATIONS[name], "--dump-dir", dumps, "-o", tmp_path / "p.mgc")
    stages = sorted(dumps.glob("*.ir"))
    assert len(stages) >= 15
    for stage, following in zip(stages, [*stages[1:], None], strict=True):
        text = stage.read_text()
        assert max(map(len, text.splitlines())) <= 20_000
        header = dict(line.split(": ", 1) for line in header_of(text) if ": " in line)
        assert ("next" in header) == (following is not None)
        if following is None:
            return
        mgc("opt", stage, "--passes", header["next"], "-o", out)
        assert out.read_text() == following.read_text(), following.name
        data, expected = (p.with_suffix(".safetensors") for p in (out, following))
        assert data.exists() == expected.exists()
        assert not data.exists() or data.read_bytes() == expected.read_bytes(), following.name
        graphs = {p.suffixes[-2]: p.read_bytes() for p in tmp_path.glob("out.*.onnx")}
        assert graphs == {p.suffixes[-2]: p.read_bytes() for p in dumps.glob(f"{following.stem}.*.onnx")}
        for path in tmp_path.glob("out.*"):
            path.unlink()


GRAPH = """graph "g" (%x: f32[1,2]) -> ("y": %y) {
  %a = unary(%x) {fn="relu"} : f32[1,2] from "A"
  %y = unary(%a) {fn="relu"} : f32[1,2] from "B"
}
"""


@pytest.fixture
def stage(tmp_path):
    path = tmp_path / "g.ir"
    path.write_text(GRAPH)
    return path


def test_text_goes_to_stdout(stage):
    text = mgc("opt", stage, "--passes", "fold").stdout
    assert header_of(text)[0].endswith("after: fold")
    assert '("y": %a) {\n  %a = unary(%x) {fn="relu"} : f32[1,2] from "A", "B"\n}' in text
    found = json.loads(mgc("opt", stage, "--passes", "fold,lower-linear", "--json").stdout)
    assert [p["name"] for p in found["passes"]] == ["fold", "lower-linear"]
    assert '%a = unary(%x) {fn="relu"}' in found["text"]


def test_another_target(stage, tmp_path):
    mgc("opt", stage, "--passes", "fold", "--target", "prime", "-o", tmp_path / "out.ir")
    assert '"name": "prime"' in (tmp_path / "out.ir").read_text()


@pytest.mark.parametrize(
    ("passes", "message"),
    [
        ("flod", "no pass 'flod': there are compose, fuse-loss"),
        ("fold{}}", "NAME or NAME{OPTION=VALUE,...} is expected at 'fold{}}'"),
        ("quantize{method=best}", "method is 'best', error|minmax|none is expected"),
        ("quantize{kind=best}", "its options are method=error|minmax|none"),
        ("", "no pass is named"),
    ],
)
def test_passes_are_checked(stage, passes, message):
    assert message in " ".join(mgc("opt", stage, "--passes", passes, code=2).stderr.split())


def test_a_wrong_stage_says_where(stage):
    stage.write_text(GRAPH.replace('"relu"} : f32[1,2] from "B"', '"reluu"} : f32[1,2] from "B"'))
    message = " ".join(mgc("opt", stage, "--passes", "fold", code=2).stderr.split())
    assert f"{stage}:3: unary: no function 'reluu'" in message
    assert '(%y, from "B")' in message
    stage.write_text(GRAPH.replace("graph", "grap"))
    assert f"{stage}:1:1: expected 'graph'" in " ".join(mgc("opt", stage, "--passes", "fold", code=2).stderr.split())
    mgc("opt", stage.with_name("none.ir"), "--passes", "fold", code=2)


def test_every_pass_has_a_text():
    for name, cls in pass_registry().items():
        assert name == cls.name
        assert str(cls()) == name


def test_a_level_two_text_needs_no_import():
    code = (
        'from mgc.ir.text import parse_graph; parse_graph(\'graph "g" (%x: f32[2]) -> ("y": %y) {'
        " %y = quant(%x) {scale=0.5, lo=0, hi=255, to=u8} : u8[2] }')"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
