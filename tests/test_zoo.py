"""The zoo that trains: the commands of docs/zoo.md work, and training follows PyTorch."""

import json
import shlex
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from benchmarks.zoo import measure
from mgc.cli.app import app
from mgc.passes.streaming.dataflow import DEFAULT_DATAFLOW
from models.zoo.entries import FOLDER, ZOO

ROOT = Path(__file__).parents[1]
KINDS = {
    "mlp": ["cross-entropy", "cross-entropy"],
    "dcgan": ["cross-entropy", "cross-entropy"],
    "lsgan": ["least-squares", "least-squares"],
    "wgan": ["wasserstein", "wasserstein"],
    "wgan-gp": ["wasserstein", "wasserstein"],
    "hinge": ["hinge", "wasserstein"],
    "relativistic": ["relativistic", "relativistic"],
    "pix2pix": ["cross-entropy", "cross-entropy"],
    "cyclegan": ["least-squares", "least-squares", "least-squares"],
}
QUICK = ("mlp", "pix2pix", "sngan")
SLOW = {e.name: [] if e.name in QUICK else [pytest.mark.slow] for e in ZOO}
ENTRIES = [pytest.param(e, id=e.name, marks=[pytest.mark.xdist_group(f"zoo {e.name}"), *SLOW[e.name]]) for e in ZOO]
"""The tests of an entry run in one process: what it compiles is compiled once."""


def mgc(arguments):
    """The JSON object of a command that must succeed."""
    if arguments[0] != "compile":
        return told(arguments)
    found, program = compiled(tuple(arguments))
    Path(arguments[arguments.index("-o") + 1]).write_bytes(program)
    return found


def told(arguments):
    result = CliRunner().invoke(app, [*arguments, "--json"])
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


@lru_cache(maxsize=2)
def compiled(arguments):
    """What `mgc compile` tells, and the program's file: it may be written again to another current folder."""
    return told(arguments), Path(arguments[arguments.index("-o") + 1]).read_bytes()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder: empty, but for models/."""
    (tmp_path / "models").symlink_to(ROOT / "models")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("entry", ENTRIES)
def test_the_commands_work(entry, folder):
    compiling, training, running = (shlex.split(c) for c in entry.commands)
    assert {c[0] for c in (compiling, training, running)} == {"mgc"}
    compiled = mgc(compiling[1:])
    if not entry.scripted:
        assert [e["kind"] for e in compiled["losses"]] == KINDS[entry.name]
    assert compiled["host_ops"] == 0
    trained = mgc(training[1:])
    assert trained["steps"] == 2
    lengths = {len(v) for v in trained["history"].values()}  # none of a loss that begins later
    assert {2} <= lengths <= {0, 2}
    assert all(np.isfinite(v).all() for v in trained["history"].values())
    assert mgc(running[1:])["samples"] == 4
    if entry.picture:
        assert np.ptp(np.asarray(Image.open(folder / f"{entry.name}.png"))) > 0


@pytest.mark.parametrize("entry", ENTRIES)
def test_overlapping_takes_no_longer_than_one_after_another(entry, folder):
    cycles = {}
    for flow in ("parallel", "cyclic"):
        chosen = [] if flow == DEFAULT_DATAFLOW else ["--dataflow", flow]
        schedule = mgc([*shlex.split(entry.compile)[1:], *chosen])["schedule"]
        cycles[flow] = schedule.get("interval_cycles") or schedule["makespan_cycles"]
    assert cycles["cyclic"] <= cycles["parallel"]


@pytest.mark.parametrize("entry", ENTRIES)
def test_training_follows_pytorch(entry, folder):
    found = measure(entry, folder, mgc)
    assert found.deviation <= max(1e-3, 3 * found.float32)
    assert found.cosine >= 0.95
    assert found.compiled["schedule"]["gap"] <= 0.02


def test_the_document_has_the_commands():
    text = (ROOT / "docs" / "zoo.md").read_text()
    for entry in ZOO:
        assert "\n".join(["```", *entry.commands, "```"]) in text
        assert f"| {entry.title} |" in text


def test_every_file_of_the_zoo_is_used():
    used = {f"onnx/{n}.onnx" for e in ZOO for n in e.networks} | {f"data/{e.data}" for e in ZOO}
    used |= {f"recorded/{e.name}.npz" for e in ZOO} | {"data/sketches.npy", "data/zero.npy"}
    there = {str(p.relative_to(FOLDER)) for p in FOLDER.rglob("*") if p.suffix in (".onnx", ".npz", ".npy")}
    assert used == there
