"""Ctrl-C, SIGTERM and closed pipes, in real processes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}

# A command that begins a file and then stays in Python, or in native code that no Python handler can interrupt.
# A process that a shell began in the background ignores Ctrl-C, and so would its children: here it counts in any case.
COMMAND = """
import hashlib, pathlib, signal, sys, time, typer

signal.signal(signal.SIGINT, signal.default_int_handler)
from mgc.cli import interrupt
from mgc.cli.command import command
from mgc.cli.files import whole_file

app = typer.Typer(pretty_exceptions_enable=False)

@app.command()
@command
def work() -> None:
    with whole_file(pathlib.Path({target!r})) as path:
        path.write_text("half")
        print("ready", file=sys.stderr, flush=True)
        {body}

interrupt.install()
app()
"""
BODIES = {
    "python": "time.sleep(60)",
    "native": "hashlib.pbkdf2_hmac('sha256', b'x', b'y', 10**9)",
}


@pytest.mark.parametrize("kind", BODIES)
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_command_soon_and_leaves_no_file(tmp_path, kind, number, code):
    script = COMMAND.format(target=str(tmp_path / "out.mgc"), body=BODIES[kind])
    process = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)
    assert process.stderr is not None
    assert process.stderr.readline() == "ready\n"
    begin = time.perf_counter()
    process.send_signal(number)
    rest = process.stderr.read()
    assert process.wait(30) == code
    process.stderr.close()
    assert time.perf_counter() - begin < 20
    assert "Traceback" not in rest
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("command", [["targets", "liu2018"], ["targets"], ["targets", "isaac", "--json"], ["--help"]])
def test_a_closed_pipe_is_quiet(command):
    line = f"{sys.executable} -m mgc {' '.join(command)} | true"
    result = subprocess.run(["sh", "-c", line], capture_output=True, text=True, env=ENVIRONMENT, timeout=60)
    assert "Traceback" not in result.stderr
    assert "BrokenPipe" not in result.stderr
    assert "Exception ignored" not in result.stderr


def test_a_full_or_closed_stdout():
    if os.path.exists("/dev/full"):
        line = f"{sys.executable} -m mgc targets liu2018 > /dev/full"
        result = subprocess.run(["sh", "-c", line], capture_output=True, text=True, env=ENVIRONMENT, timeout=60)
        assert (result.returncode, result.stderr) == (2, "error: cannot write to stdout: No space left on device\n")
    line = f"{sys.executable} -m mgc targets >&-"
    result = subprocess.run(["sh", "-c", line], capture_output=True, text=True, env=ENVIRONMENT, timeout=60)
    assert "Traceback" not in result.stderr
    assert result.returncode == 0


def test_a_command_whose_reader_left_still_succeeds(tmp_path):
    line = f"({sys.executable} -m mgc targets liu2018; echo $? > code) | true"
    subprocess.run(["sh", "-c", line], capture_output=True, env=ENVIRONMENT, cwd=tmp_path, timeout=60)
    for _ in range(100):
        if (tmp_path / "code").exists() and (tmp_path / "code").read_text():
            break
        time.sleep(0.1)
    assert (tmp_path / "code").read_text() == "0\n"


PATIENT = """
import hashlib, sys, typer
from mgc.cli import interrupt
from mgc.cli.command import command

app = typer.Typer(pretty_exceptions_enable=False)

@app.command()
@command
def work() -> None:
    with interrupt.defer(lambda: print("told", file=sys.stderr, flush=True)) as asked:
        print("ready", file=sys.stderr, flush=True)
        while not asked():
            hashlib.pbkdf2_hmac('sha256', b'x', b'y', 10**4)
        hashlib.pbkdf2_hmac('sha256', b'x', b'y', 10**9)

interrupt.install()
app()
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_patient_command_is_told_of_the_first_signal_and_ended_by_the_second(number, code):
    process = subprocess.Popen([sys.executable, "-c", PATIENT], stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)
    assert process.stderr is not None
    assert process.stderr.readline() == "ready\n"
    process.send_signal(number)
    assert process.stderr.readline() == "told\n"
    time.sleep(2)  # longer than a command that does not ask is given
    assert process.poll() is None
    process.send_signal(number)
    rest = process.stderr.read()
    assert process.wait(30) == code
    process.stderr.close()
    assert "Traceback" not in rest
