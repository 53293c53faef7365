"""`mgc train --log`: what TensorBoard's own reader finds, and the CSV beside it, also of runs that were killed."""

import csv
import json

import numpy as np
import pytest
from gan_programs import gan_program
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from typer.testing import CliRunner

from mgc.cli.app import app


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("log")
    gan_program(n=64).save(folder / "P.mgc")
    np.save(folder / "x.npy", np.random.default_rng(5).standard_normal((40, 64)).astype(np.float32) / 8)
    return folder


def call(folder, log, steps, *more):
    arguments = ["train", folder / "P.mgc", "--data", folder / "x.npy", "--steps", steps, "--log", log, *more]
    return CliRunner().invoke(app, [str(a) for a in arguments])


def train(folder, log, steps, *more) -> str:
    result = call(folder, log, steps, *more)
    assert result.exit_code == 0, result.stderr
    return result.stdout


def table(log) -> list[dict[str, str]]:
    with open(log / "losses.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.filterwarnings("ignore")
def test_tensorboard_reads_it_back(folder, tmp_path):
    shown = json.loads(train(folder, tmp_path / "log", 6, "--png-every", 3, "--json"))
    read = EventAccumulator(str(tmp_path / "log"))
    read.Reload()
    rows = table(tmp_path / "log")
    assert [int(r["step"]) for r in rows] == list(range(1, 7))
    for name, values in shown["history"].items():
        events = read.Scalars(name)
        assert [e.step for e in events] == list(range(1, 7))
        assert [e.value for e in events] == pytest.approx(values)
        assert [float(r[name]) for r in rows] == values
    assert len(read.Scalars("steps_per_s")) == 6
    pictures = read.Images("samples")
    assert [p.step for p in pictures] == [3, 6]
    assert all(p.encoded_image_string.startswith(b"\x89PNG") for p in pictures)


@pytest.mark.filterwarnings("ignore")
def test_a_resumed_run_takes_up_the_record(folder, tmp_path):
    checkpoint = ("--checkpoint", tmp_path / "c", "--checkpoint-every", 2)
    train(folder, tmp_path / "log", 4, *checkpoint)
    before = table(tmp_path / "log")
    with open(tmp_path / "log" / "losses.csv", "a") as file:
        file.write("5,1.0,")  # a run that was killed after its last checkpoint
    train(folder, tmp_path / "log", 7, *checkpoint, "--resume")
    rows = table(tmp_path / "log")
    assert rows[:4] == before
    assert [int(r["step"]) for r in rows] == list(range(1, 8))
    read = EventAccumulator(str(tmp_path / "log"))
    read.Reload()
    assert [e.step for e in read.Scalars("loss_d")] == list(range(1, 8))


def test_a_log_that_is_a_file_is_refused(folder, tmp_path):
    (tmp_path / "log").write_text("")
    result = call(folder, tmp_path / "log", 2)
    assert result.exit_code == 2
    assert "name a folder" in result.stderr
