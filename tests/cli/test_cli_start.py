"""`mgc --help` and friends: quick, light, in the agreed form."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import typer.testing

ROOT = Path(__file__).parents[2]


def mgc(*args, **options):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "80"}
    command = [sys.executable, "-m", "mgc", *args]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, **options)


def test_help_is_quick():
    def seconds():
        """Of processor time: the same as wall-clock time on a machine that does nothing else."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert mgc("--help").returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(seconds() for _ in range(5)) < 0.3


def test_help_loads_nothing_heavy():
    code = (
        "import sys, mgc.cli.app, typer.testing\n"
        "result = typer.testing.CliRunner().invoke(mgc.cli.app.app, ['--help'])\n"
        "assert result.exit_code == 0, result.output\n"
        "heavy = {'numpy', 'onnx', 'onnxruntime', 'ortools', 'pydantic', 'networkx', 'PIL', 'rich', 'safetensors',"
        " 'mgc.passes', 'mgc.targets', 'mgc.ir', 'mgc.sim', 'mgc.frontend', 'mgc.compiler'}\n"
        "found = heavy & set(sys.modules)\n"
        "assert not found, found\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=60,
    )
    assert result.returncode == 0, result.stderr


def test_help_names_every_command_in_80_columns():
    shown = mgc("--help").stdout
    for name in ("compile", "inspect", "compare", "run", "train", "sweep", "disasm", "asm", "targets", "ops"):
        assert f"\n  {name} " in shown
    assert max(map(len, shown.splitlines())) <= 80
    assert "..." not in shown.replace("[ARGS]...", "").replace("cost ...", "")


@pytest.mark.parametrize(
    "command", ["compile", "inspect", "compare", "run", "train", "sweep", "disasm", "asm", "targets", "ops"]
)
def test_every_command_has_help_json_and_debug(command):
    shown = mgc(command, "--help").stdout
    assert "--json" in shown
    assert "--debug" in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_version():
    import mgc as package

    result = mgc("--version")
    assert (result.returncode, result.stdout, result.stderr) == (0, f"mgc {package.__version__}\n", "")


@pytest.mark.parametrize(
    "args",
    [
        ["compile"],
        ["frobnicate"],
        ["compile", "m.onnx", "--frobnicate"],
        ["compile", "m.onnx", "--batch", "0"],
        ["compile", "m.onnx", "--batch", "many"],
        ["compile", "m.onnx", "--calibrate", "guess"],
        ["run", "p.mgc", "-n", "0"],
        ["run", "p.mgc", "--engine", "warp"],
        ["inspect", "p.mgc", "floorplan"],
        ["train", "p.mgc"],
        ["train", "p.mgc", "--steps", "0", "--data", "d"],
        ["compile", "m.onnx", "--loss", "guess"],
        ["compile", "m.onnx", "--lr", "quick"],
    ],
)
def test_usage_errors_exit_2_and_say_so_on_stderr(args):
    result = mgc(*args)
    assert result.returncode == 2
    assert result.stdout == ""
    assert "Error: " in result.stderr
    assert "Traceback" not in result.stderr


def test_the_names_of_options_are_those_of_the_design():
    from mgc.cli.app import app

    runner = typer.testing.CliRunner()
    expected = {
        "compile": "-o --target --batch --dim --calibration --image-range --calibrate --dump-dir --seed --json "
        "--discriminator --loss --gp-weight --redraw-noise --phase --group --optimizer --lr --betas --momentum "
        "--alpha --eps",
        "inspect": "--format -o --json",
        "run": "-n --seed --input --image-range --resize -o --png --numerics --engine --checkpoint --check --threads "
        "--json",
        "train": "--data --input --steps --seed --numerics --engine --threads --checkpoint --checkpoint-every --resume "
        "--export --png --png-every --json",
        "disasm": "-o --json",
        "asm": "-o --json",
        "targets": "--json",
        "ops": "--json",
    }
    for command, options in expected.items():
        shown = runner.invoke(app, [command, "--help"]).output
        for option in options.split():
            assert f"  {option} " in shown, (command, option)
