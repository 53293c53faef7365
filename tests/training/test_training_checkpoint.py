"""Checkpoints: whole or not there, told apart from damaged ones, kept when a disk is full, resumed after SIGKILL."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from mgc.functions.drafts import drafted
from mgc.isa import container
from mgc.training.checkpoint import (
    Checkpoint,
    CheckpointError,
    list_checkpoints,
    newest_checkpoint,
    read_checkpoint,
    write_checkpoint,
)
from mgc.training.store import Store

HERE = Path(__file__).parent
IDENTITY = {"program": "ab" * 32, "numerics": "quantized"}


def example(step, seed=3):
    state = {
        "G.weight": np.random.default_rng(step).standard_normal((4, 3)).astype(np.float32),
        "half": np.arange(3, dtype=ml_dtypes.bfloat16),
        "count": np.array(step, np.int64),
        "none": np.empty((0, 2), np.float32),
    }
    return Checkpoint(step, seed, IDENTITY, {"x": "cd" * 32}, state, {"loss_d": [0.1] * step, "loss_g": [0.3] * step})


def no_warning(message):
    raise AssertionError(message)


def test_what_is_written_is_read(tmp_path):
    path = write_checkpoint(tmp_path, example(5))
    found = read_checkpoint(path)
    assert path.name == "step-00000005.safetensors"
    assert (found.step, found.seed, found.identity, found.data) == (5, 3, IDENTITY, {"x": "cd" * 32})
    assert found.history == example(5).history
    assert found.state.keys() == example(5).state.keys()
    for name, array in example(5).state.items():
        assert (found.state[name].dtype, found.state[name].shape) == (array.dtype, array.shape)
        assert found.state[name].tobytes() == array.tobytes()


def test_the_same_checkpoint_has_the_same_bytes(tmp_path):
    first = write_checkpoint(tmp_path, example(5)).read_bytes()
    assert write_checkpoint(tmp_path, example(5)).read_bytes() == first


def test_the_file_opens_as_safetensors(tmp_path):
    from safetensors.numpy import load_file

    found = load_file(write_checkpoint(tmp_path, Checkpoint(1, 0, IDENTITY, {}, {"w": np.ones(3)}, {})))
    np.testing.assert_array_equal(found["state/w"], np.ones(3))


def test_any_damage_is_found(tmp_path):
    path = write_checkpoint(tmp_path, example(2))
    whole = path.read_bytes()
    for place in range(0, len(whole), 13):
        broken = bytearray(whole)
        broken[place] ^= 1 << (place % 8)
        path.write_bytes(broken)
        with pytest.raises(CheckpointError, match="truncated, damaged or no checkpoint"):
            read_checkpoint(path)
    for length in range(0, len(whole), 29):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError):
            read_checkpoint(path)


def test_foreign_files(tmp_path):
    path = tmp_path / "step-00000001.safetensors"
    container.write(path, {}, '{"format": "mgc"}')
    with pytest.raises(CheckpointError, match="is no checkpoint"):
        read_checkpoint(path)
    container.write(path, {}, '{"format": "mgc-checkpoint", "version": 99}')
    with pytest.raises(CheckpointError, match="its format version is 99, this mgc reads 1"):
        read_checkpoint(path)
    with pytest.raises(CheckpointError, match="cannot be read: No such file"):
        read_checkpoint(tmp_path / "no")


def test_a_damaged_newest_falls_back_with_a_warning(tmp_path):
    for step in (1, 2):
        write_checkpoint(tmp_path, example(step))
    newest = list_checkpoints(tmp_path)[-1]
    newest.write_bytes(newest.read_bytes()[:-1])
    told = []
    path, found = newest_checkpoint(tmp_path, told.append)
    assert found.step == 1
    assert told == [f"{newest} is truncated, damaged or no checkpoint; going on from {path.name}"]
    path.write_bytes(b"")
    with pytest.raises(CheckpointError, match="no other can be used: remove them to begin anew"):
        newest_checkpoint(tmp_path, told.append)
    assert newest_checkpoint(tmp_path / "elsewhere", no_warning) is None


def test_one_file_may_be_named(tmp_path):
    first = write_checkpoint(tmp_path, example(1))
    write_checkpoint(tmp_path, example(2))
    found = newest_checkpoint(first, no_warning)
    assert found is not None
    assert found[1].step == 1


def test_steps_are_ordered_as_numbers(tmp_path):
    for name in ("step-99999999", "step-100000000"):
        (tmp_path / f"{name}.safetensors").write_bytes(b"")
    (tmp_path / "step-1.safetensors").write_bytes(b"")
    assert [p.stem for p in list_checkpoints(tmp_path)] == ["step-99999999", "step-100000000"]


@pytest.mark.parametrize("moment", ["write", "fsync", "replace"])
def test_a_failing_disk_leaves_what_was_there(tmp_path, monkeypatch, moment):
    write_checkpoint(tmp_path, example(1))
    before = list_checkpoints(tmp_path)[0].read_bytes()

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    target = container if moment == "write" else os
    monkeypatch.setattr(target, moment, full)
    with pytest.raises(
        CheckpointError, match=r"step-00000002.safetensors cannot be written: No space.*00000001.*stays"
    ):
        write_checkpoint(tmp_path, example(2))
    monkeypatch.undo()
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [before]


LIMITED = """
import resource, sys
from pathlib import Path
sys.path.insert(0, {here!r})
from test_training_checkpoint import Checkpoint, IDENTITY, example, write_checkpoint
import numpy as np
folder = Path({folder!r})
write_checkpoint(folder, example(1))
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    write_checkpoint(folder, Checkpoint(2, 3, IDENTITY, {{}}, {{"w": np.zeros(100_000)}}, {{}}))
except ValueError as error:
    print(error)
"""


def test_a_file_that_may_not_grow_leaves_what_was_there(tmp_path):
    script = LIMITED.format(here=str(HERE), folder=str(tmp_path))
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment())
    assert result.returncode == 0, result.stderr
    assert "step-00000002.safetensors cannot be written: " in result.stdout
    assert "File too large" in result.stdout
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000001.safetensors"]
    assert read_checkpoint(tmp_path / "step-00000001.safetensors").step == 1


def test_a_store_cannot_be_where_a_file_is(tmp_path):
    (tmp_path / "f").write_text("")
    with pytest.raises(CheckpointError, match="is a file: name a folder"), Store(tmp_path / "f", 0, IDENTITY):
        pass
    with pytest.raises(CheckpointError, match="cannot be written to"), Store(tmp_path / "f" / "g", 0, IDENTITY):
        pass


def test_what_killed_processes_left_is_removed(tmp_path):
    write_checkpoint(tmp_path, example(1))
    with drafted(tmp_path / "other") as draft:
        name = draft.name
        draft.write_bytes(b"")
    (tmp_path / "other").unlink()
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    for left in (name.replace(str(os.getpid()), str(gone.pid)), ".mine"):
        (tmp_path / left).write_bytes(b"half")
    with Store(tmp_path, 0, IDENTITY):
        pass
    assert sorted(p.name for p in tmp_path.iterdir()) == [".lock", ".mine", "step-00000001.safetensors"]


# -- killed at any moment -----------------------------------------------------------------------------------------

TRAIN = """
import sys
from pathlib import Path
sys.path.insert(0, {here!r})
from toy import Toy
import numpy as np
from mgc.training.data.assign import feeder
from mgc.training.loop import Listener, train
from mgc.training.store import Store
folder = Path({folder!r})
toy = Toy(features=300, noise=100, lr=1e-5)
feeds = feeder(toy.inputs, 1, {steps}, 3, Path({data!r}), {{}})
with Store(folder, 3, toy.identity) as store:
    print("ready", flush=True)
    tell = Listener(stepped=lambda p: print(p.steps, flush=True))
    progress = train(toy, feeds, {steps}, store, {resume}, 2, tell)
    print("resumed from", progress.resumed_from)
"""


def environment():
    return {**os.environ, "PYTHONPATH": str(HERE.parents[1])}


def test_killed_at_random_moments_and_resumed_it_has_the_bits_of_a_run_left_alone(tmp_path):
    np.save(tmp_path / "x.npy", np.random.default_rng(5).standard_normal((50, 300)).astype(np.float32) / 9)
    steps, chance, kills = 60, random.Random(8), 0

    def start(folder, resume):
        script = TRAIN.format(
            here=str(HERE), folder=str(folder), steps=steps, data=str(tmp_path / "x.npy"), resume=resume
        )
        return subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=environment())

    with start(tmp_path / "alone", False) as alone:
        alone.communicate(timeout=60)
    for _ in range(40):
        with start(tmp_path / "killed", True) as process:
            assert process.stdout is not None
            process.stdout.readline()
            if kills < 8:
                for _ in range(chance.randint(1, 12)):
                    if process.stdout.readline().startswith("resumed"):
                        break
                time.sleep(chance.random() * 0.004)
                process.send_signal(signal.SIGKILL)
            out = process.stdout.read()
        kills += process.returncode == -signal.SIGKILL
        assert process.returncode in (0, -signal.SIGKILL)
        if process.returncode == 0:
            assert int(out.rpartition(" ")[2]) > 0
            break
    assert kills >= 4
    first, second = (list_checkpoints(tmp_path / name)[-1] for name in ("alone", "killed"))
    assert first.name == second.name == f"step-{steps:08d}.safetensors"
    assert first.read_bytes() == second.read_bytes()
