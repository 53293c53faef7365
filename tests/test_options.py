"""The options of a compilation: one source for Python, the command line and docs/options.md."""

import inspect
from dataclasses import fields
from pathlib import Path

import pytest

import mgc
from mgc.options import SPELLINGS, CompileOptions, document
from mgc.passes.state import UnsupportedError

DOCS = Path(__file__).parents[1] / "docs"


def test_the_document_is_up_to_date():
    """`make docs` writes it."""
    assert (DOCS / "options.md").read_text() == document()


def test_python_has_the_command_lines_options_as_keywords():
    keywords = list(inspect.signature(mgc.compile).parameters)
    assert keywords == ["model", "example", *(f.name for f in fields(CompileOptions))]
    assert keywords == ["model", "example", *SPELLINGS]
    assert "wgan-gp" in str(mgc.compile.__doc__)
    assert mgc.compile_training is mgc.compile


def test_a_keyword_that_does_not_exist():
    with pytest.raises(TypeError, match="batches"):
        mgc.compile("model.onnx", batches=3)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": 0.1}, "--lr is for training: give --discriminator D.onnx and --loss NAME"),
        ({"gp_weight": 0.0}, "--gp-weight is for training"),
        ({"centered": True}, "--centered is for training"),
        ({"loss": "bce"}, "--loss needs --discriminator"),
        ({"discriminator": "D.onnx"}, "--discriminator needs --loss NAME: one of bce, minimax"),
        ({"phases": ["d=loss"], "dataflow": "backwards"}, "dataflow 'backwards' is unknown; there are sequential"),
        ({"discriminator": "D.onnx", "loss": "guess"}, "loss 'guess' is unknown; there are bce"),
        ({"discriminator": "D.onnx", "loss": "wgan-gp", "gp_weight": -1.0}, "the penalty's weight is -1.0"),
        ({"phases": ["d=loss"], "optimizer": "guess"}, "no optimizer 'guess': choose one of sgd"),
        ({"phases": ["d=loss,often=3"]}, "is not one of steps=K"),
        ({"objective": "speed"}, "objective 'speed' is unknown; there are time, energy, edp"),
        ({"phases": ["d=loss"], "calibration": "x.npz"}, "--calibration is for inference"),
    ],
)
def test_what_does_not_go_together_is_refused_before_any_work(options, message):
    with pytest.raises(UnsupportedError, match=message):
        CompileOptions(**options)


def test_without_training_options_a_program_is_for_inference():
    assert not CompileOptions(batch=3, phases=(), groups={}, loss="").trains
    assert CompileOptions(phases=["d=loss"]).trains


def test_a_program_records_its_options_and_no_path(tmp_path):
    import json

    options = CompileOptions(
        batch=4, dims={"n": 3}, overrides={"adc_bits": 6}, calibration=tmp_path / "x.npz", calibrate="minmax", seed=3
    )
    assert options.to_json_dict() == {
        "overrides": {"adc_bits": 6},
        "batch": 4,
        "dims": {"n": 3},
        "calibration": "given",
        "calibrate": "minmax",
    }
    trained = CompileOptions(
        phases=["d=loss_d,steps=2", "g=loss_g"], groups={"d": ("a.*",)}, optimizer="adam", betas=(0.5, 0.999)
    ).to_json_dict()
    assert json.loads(json.dumps(trained)) == {
        "phases": ["d=loss_d,steps=2", "g=loss_g"],
        "groups": {"d": ["a.*"]},
        "optimizer": "adam",
        "betas": [0.5, 0.999],
    }
    assert CompileOptions(discriminator="D.onnx", loss="bce").to_json_dict() == {
        "discriminator": "given",
        "loss": "bce",
    }
