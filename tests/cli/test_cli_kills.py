"""Signals at random moments of real commands: exit codes, outputs whole or not there, nothing left over, the same bits.

The long run has as many signals as `MGC_SIGNALS` says (500 for docs/reliability.md).
"""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
import tiny

ROOT = Path(__file__).parents[2]
sys.path += [str(ROOT / "tests" / "training"), str(ROOT / "tests" / "sim")]
from gan_programs import gan_program  # noqa: E402

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
# A shell that starts a process in the background lets it ignore Ctrl-C, and so would its children.
START = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); from mgc.cli import main; main()"
CODES = {signal.SIGINT: (130, -2), signal.SIGTERM: (143, -15), signal.SIGKILL: (-9,)}
STEPS = 6


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    onnx.save(tiny.generator(), folder / "G.onnx")
    gan_program(n=64).save(folder / "P.mgc")
    np.save(folder / "x.npy", np.random.default_rng(5).standard_normal((40, 64)).astype(np.float32) / 8)
    return folder


def command(kind, inputs):
    return {
        "compile": ["compile", inputs / "G.onnx", "-o", "G.mgc"],
        "run": ["run", inputs / "P.mgc", "-o", "out.npz"],
        "train": ["train", inputs / "P.mgc", "--data", inputs / "x.npy", "--steps", STEPS, "--checkpoint", "c",
                  "--checkpoint-every", 2],
    }[kind]  # fmt: skip


def start(words, folder):
    line = [sys.executable, "-c", START, *map(str, words)]
    return subprocess.Popen(line, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT)


def whole(words, folder):
    """Runs a command undisturbed; seconds that it takes."""
    begin = time.monotonic()
    process = start(words, folder)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err.decode()
    return time.monotonic() - begin


def contents(folder):
    """The files below a folder that are no lock; checkpoints by their newest."""
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != ".lock"
    }


def disturb(kind, inputs, tmp_path, count, seed):
    """Ends commands at random moments; tells what went wrong, in words."""
    drawn, wrong = random.Random(seed), []
    words = command(kind, inputs)
    right = tmp_path / "right"
    right.mkdir()
    takes = whole(words, right)
    expected = contents(right)
    for k in range(count):
        folder = tmp_path / f"{k}"
        folder.mkdir()
        number = drawn.choice(SIGNALS)
        process = start(words, folder)
        time.sleep(drawn.uniform(0, takes * 1.1))
        process.send_signal(number)
        _, err = process.communicate(timeout=300)
        code = process.returncode
        ended = code == 0 or (kind == "train" and code in (130, 143))
        if not ended and code not in CODES[number]:
            wrong.append(f"{kind} {k}: {number.name} gave {code}: {err.decode()[-300:]}")
        if b"bug in mgc" in err or (b"Traceback" in err and b"mgc" in err.split(b"Traceback")[1]):
            wrong.append(f"{kind} {k}: {number.name}: {err.decode()[-300:]}")
        partial = {n: d for n, d in contents(folder).items() if not n.rpartition("/")[2].startswith(".")}
        if kind != "train" and any(d != expected.get(n) for n, d in partial.items()):
            wrong.append(f"{kind} {k}: {number.name} left {sorted(partial)} of other bytes")
        again = [*words, "--resume"] if kind == "train" and list(folder.glob("c/step-*")) else words
        whole(again, folder)
        if contents(folder) != expected:
            wrong.append(f"{kind} {k}: {number.name}: the next run left {sorted(contents(folder))}, {sorted(expected)}")
    return wrong


@pytest.mark.parametrize("kind", ["compile", "train"])
def test_a_few_signals(kind, inputs, tmp_path):
    assert disturb(kind, inputs, tmp_path, 2, 11) == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["compile", "run", "train"])
def test_many_signals(kind, inputs, tmp_path, tell):
    count = -(-int(os.environ.get("MGC_SIGNALS", "60")) // 3)
    assert disturb(kind, inputs, tmp_path, count, 12) == []
    tell(f"signals: {count} at random moments of {kind}: right exit codes, nothing partial, the same bits after")


# -- places ------------------------------------------------------------------------------------------------------------


def test_a_folder_that_cannot_be_written(inputs, tmp_path, monkeypatch, refused):
    locked = tmp_path / "locked"
    locked.mkdir()
    locked.chmod(0o500)
    if os.access(locked, os.W_OK):
        pytest.skip("this user may write everywhere")
    assert "cannot be written" in refused("compile", inputs / "G.onnx", "-o", locked / "G.mgc")


def test_two_writers_of_one_file(inputs, tmp_path):
    words = ["compile", inputs / "G.onnx", "-o", "G.mgc"]
    writers = [start(words, tmp_path) for _ in range(2)]
    for writer in writers:
        _, err = writer.communicate(timeout=300)
        assert writer.returncode == 0, err.decode()
    assert list(contents(tmp_path)) == ["G.mgc"]


def test_a_full_disk(inputs, tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(small)], capture_output=True)
    if mounted.returncode:
        pytest.skip("no small file system can be mounted here")
    try:
        process = start(["compile", inputs / "G.onnx", "-o", small / "G.mgc"], tmp_path)
        _, err = process.communicate(timeout=300)
        assert process.returncode == 2, err.decode()
        assert b"bug in mgc" not in err
        assert os.listdir(small) == []
    finally:
        subprocess.run(["umount", str(small)], check=False)
