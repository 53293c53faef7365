"""Mistakes that newcomers make: each message says what to do."""

from pathlib import Path

import onnx
import pytest
import tiny

from mgc.cli.errors import UserError
from mgc.cli.files import check_png
from mgc.targets import target_toml


@pytest.fixture
def folder(tmp_path, monkeypatch, compiled):
    monkeypatch.chdir(tmp_path)
    onnx.save(tiny.generator(), "G.onnx")
    Path("G.mgc").write_bytes((compiled / "G.mgc").read_bytes())
    return tmp_path


@pytest.mark.parametrize("command", ["run", "inspect", "disasm"])
def test_a_model_in_the_place_of_a_program(refused, folder, command):
    assert "G.onnx is an ONNX model, not a program: compile it first, with mgc compile G.onnx" in refused(
        command, "G.onnx"
    )


def test_training_a_program_that_is_for_inference(refused, folder):
    message = refused("train", "G.mgc", "--steps", 3)
    assert "does not train: compile it with --discriminator and --loss, or with --phase" in message


@pytest.mark.parametrize(
    ("option", "given", "meant"),
    [("--loss", "bcee", "bce"), ("--optimizer", "Adma", "adam"), ("--dataflow", "paralel", "parallel")],
)
def test_a_misspelt_name(mgc, folder, option, given, meant):
    outcome = mgc("compile", "G.onnx", option, given)
    assert outcome.code == 2
    assert f"Did you mean {meant}?" in " ".join(outcome.err.split())


def test_a_batch_that_no_dimension_takes(mgc, folder):
    model = tiny.generator()
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(model, "fixed.onnx")
    said = " ".join(mgc("compile", "fixed.onnx", "--batch", 8).err.split())
    assert "batch 8 has no effect" in said
    assert "export the model with one (dynamic_axes or dynamic_shapes of torch.onnx.export)" in said


def test_a_picture_that_is_not_named_as_png(refused, folder):
    message = "--png out.jpg: what is written is PNG: end its name in .png"
    assert message in refused("run", "G.mgc", "--png", "out.jpg")
    with pytest.raises(UserError, match=message):  # as mgc train asks
        check_png("--png", Path("out.jpg"))


def test_a_target_file_is_checked(mgc, refused, folder):
    Path("mine.toml").write_text(target_toml("isaac"))
    outcome = mgc("targets", "mine.toml")
    assert outcome.out == target_toml("isaac")
    assert "mine.toml is a sound target, isaac: --target mine.toml takes it" in outcome.err
    Path("bad.toml").write_text(target_toml("isaac").replace("rows = 128", "rows = 0"))
    assert "crossbar.rows (line " in refused("targets", "bad.toml")
