import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mgc.cli.errors import UserError
from mgc.cli.files import check_input, check_outputs, whole_file
from mgc.functions.drafts import discard_drafts


def test_a_file_appears_whole(tmp_path):
    target = tmp_path / "out"
    with whole_file(target) as path:
        path.write_bytes(b"new")
        assert not target.exists()
    assert target.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_failure_leaves_what_was_there(tmp_path, error):
    target = tmp_path / "out"
    target.write_bytes(b"old")

    def write_half():
        with whole_file(target) as path:
            path.write_bytes(b"half")
            raise error

    with pytest.raises(error):
        write_half()
    assert target.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["out"]


def test_an_unfinished_file_can_be_discarded_from_elsewhere(tmp_path):
    def write():
        with whole_file(tmp_path / "out") as path:
            path.write_bytes(b"half")
            discard_drafts()
            assert not path.exists()

    with pytest.raises(UserError, match="cannot write"):
        write()
    assert os.listdir(tmp_path) == []


def test_a_write_error_names_the_file_asked_for(tmp_path):
    target = tmp_path / "out"
    with pytest.raises(UserError, match=f"cannot write {target}: No space left"), whole_file(target):
        raise OSError(28, "No space left on device", "temporary name")


def test_a_link_is_followed(tmp_path):
    real, link = tmp_path / "real", tmp_path / "link"
    real.write_bytes(b"old")
    link.symlink_to(real)
    with whole_file(link) as path:
        path.write_bytes(b"new")
    assert link.is_symlink()
    assert real.read_bytes() == b"new"


def test_a_device_is_written_in_place():
    with whole_file(Path(os.devnull)) as path:
        path.write_bytes(b"x")
    assert not Path(os.devnull).is_file()


def test_a_pipe_is_not_replaced_even_by_a_writer_that_renames(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    received = []
    reader = threading.Thread(target=lambda: received.append(pipe.read_bytes()))
    reader.start()
    with whole_file(pipe) as path:
        other = tmp_path / "other"
        other.write_bytes(b"all of it")
        shutil.copy(other, path.with_name("draft"))
        os.replace(path.with_name("draft"), path)
    reader.join()
    assert received == [b"all of it"]
    assert pipe.is_fifo()


def test_the_usual_permissions(tmp_path):
    plain, made = tmp_path / "plain", tmp_path / "made"
    plain.write_bytes(b"")
    with whole_file(made) as path:
        path.write_bytes(b"")
    assert made.stat().st_mode == plain.stat().st_mode


def test_outputs_never_replace_inputs(tmp_path):
    model, link, hard = tmp_path / "m.onnx", tmp_path / "link", tmp_path / "hard"
    model.write_bytes(b"")
    link.symlink_to(model)
    os.link(model, hard)
    for name in (model, link, hard, tmp_path / "." / "m.onnx", tmp_path / "x" / ".." / "m.onnx"):
        with pytest.raises(UserError, match="would overwrite the model"):
            check_outputs({"-o": name}, {"the model": model})


def test_outputs_never_replace_each_other(tmp_path):
    with pytest.raises(UserError, match=r"--png .* would overwrite -o"):
        check_outputs({"-o": tmp_path / "x", "--png": tmp_path / "x"}, {})


def test_outputs_that_cannot_be_written_are_refused_early(tmp_path):
    with pytest.raises(UserError, match="is a folder"):
        check_outputs({"-o": tmp_path}, {})
    with pytest.raises(UserError, match="there is no folder"):
        check_outputs({"-o": tmp_path / "no" / "x"}, {})
    check_outputs({"-o": None, "--png": tmp_path / "x"}, {"the model": None})


def test_inputs_that_are_not_there(tmp_path):
    with pytest.raises(UserError, match=r"there is no file .*nope \(an ONNX model is expected\)"):
        check_input(tmp_path / "nope", "an ONNX model")
    with pytest.raises(UserError, match="is a folder, not an ONNX model"):
        check_input(tmp_path, "an ONNX model")


@pytest.fixture
def pipe(tmp_path):
    """A named pipe that nobody writes to; a command that opens it is ended after a minute."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    signal.alarm(60)
    yield path
    signal.alarm(0)


@pytest.mark.parametrize(
    "arguments",
    [
        ["compile", "FILE"],
        ["compile", "MODEL", "--target", "FILE"],
        ["compile", "MODEL", "--calibration", "FILE"],
        ["compile", "MODEL", "--discriminator", "FILE", "--loss", "bce", "--optimizer", "adam"],
        ["asm", "FILE"],
        ["disasm", "FILE"],
        ["run", "FILE"],
        ["inspect", "FILE", "summary"],
        ["opt", "FILE", "--passes", "fold"],
        ["train", "FILE", "--data", "FILE", "--steps", "1"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_commands_neither_wait_nor_read_for_ever(arguments, kind, pipe, compiled, tmp_path, monkeypatch, refused):
    file = {"pipe": str(pipe), "device": "/dev/zero"}[kind]
    given = [{"FILE": file, "MODEL": str(compiled / "D.onnx")}.get(a, a) for a in arguments]
    monkeypatch.chdir(tmp_path)
    assert file in refused(*given)


def test_what_a_killed_process_left_is_swept_by_the_next(tmp_path):
    with whole_file(tmp_path / "a") as path:
        own = path.name
        path.write_bytes(b"")
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    pid = str(os.getpid())
    left = [own.replace(pid, str(gone.pid))]
    kept = [own.replace(pid, str(os.getppid())), ".mgc-00000000-1-0.tmp", "mgc-mine.tmp"]
    for name in (*left, *kept):
        (tmp_path / name).write_text("half")
    with whole_file(tmp_path / "b") as path:
        path.write_bytes(b"")
    assert sorted(os.listdir(tmp_path)) == sorted(["a", "b", *kept])
