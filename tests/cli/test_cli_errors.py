"""Every failure becomes one message and an exit code."""

import errno
import importlib
import inspect
import pkgutil
import sys

import pytest
import typer
from typer.testing import CliRunner

from mgc.cli import console, errors
from mgc.cli.command import command
from mgc.cli.errors import UserError, about


def run(function, *args):
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(command(function))
    return CliRunner().invoke(app, list(args))


def fails_with(error):
    def body(debug: bool = False) -> None:
        raise error

    return body


def test_bad_input_is_one_message_and_exit_2():
    result = run(fails_with(UserError("x.onnx: no good: give another")))
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr == "error: x.onnx: no good: give another\n"


def test_debug_adds_the_traceback():
    result = run(fails_with(UserError("no good")), "--debug")
    assert result.exit_code == 2
    assert "Traceback" in result.stderr
    assert result.stderr.endswith("error: no good\n")


def test_a_bug_is_named_as_one():
    result = run(fails_with(KeyError("x")))
    assert result.exit_code == 2
    assert result.stderr == "error: this is a bug in mgc, please report it: KeyError: 'x' (--debug shows where)\n"


def test_the_systems_errors_name_the_file():
    result = run(fails_with(OSError(errno.EACCES, "Permission denied", "x.npz")))
    assert (result.exit_code, result.stderr) == (2, "error: x.npz: Permission denied\n")


def test_a_missing_package_is_named():
    result = run(fails_with(ModuleNotFoundError("No module named 'onnx'", name="onnx")))
    assert (result.exit_code, result.stderr.startswith("error: the Python package onnx is missing")) == (2, True)
    assert "a bug in mgc" in run(fails_with(ModuleNotFoundError("No module named 'mgc.x'", name="mgc.x"))).stderr


def test_out_of_memory():
    assert "out of memory" in run(fails_with(MemoryError())).stderr


def test_interrupt_exits_130():
    result = run(fails_with(KeyboardInterrupt()))
    assert (result.exit_code, result.stderr) == (130, "interrupted\n")


def test_a_failed_check_keeps_its_exit_code():
    assert run(fails_with(typer.Exit(1))).exit_code == 1


def test_about_names_the_file_once():
    with pytest.raises(UserError, match=r"^a\.onnx: broken$"), about("a.onnx"):
        raise UserError("broken")
    with pytest.raises(UserError, match=r"^a\.onnx is broken$"), about("a.onnx"):
        raise UserError("a.onnx is broken")
    with pytest.raises(KeyError), about("a.onnx"):
        raise KeyError("x")


def test_every_named_error_exists():
    for module, name in errors._KNOWN:
        assert issubclass(getattr(importlib.import_module(module), name), Exception)


def test_every_error_of_ours_is_known():
    """A new ValueError, for what users give, must be named in `_KNOWN`, or it would be shown as a bug."""
    ours = set()
    for top in ("mgc",):
        package = importlib.import_module(top)
        for info in pkgutil.walk_packages(package.__path__, f"{top}."):
            if info.name.endswith("__main__"):
                continue
            module = importlib.import_module(info.name)
            for _, found in inspect.getmembers(module, inspect.isclass):
                if (
                    issubclass(found, ValueError)
                    and found.__module__ == info.name
                    and not found.__name__.startswith("_")
                ):
                    ours.add((info.name, found.__name__))
    known = errors.known_errors()
    unknown = {(module, name) for module, name in ours if not issubclass(getattr(sys.modules[module], name), known)}
    assert not unknown


def test_messages_are_plain_where_no_terminal_reads_them(capsys):
    console.warn("[bold]x[/bold]: y")
    console.complain("error: z")
    assert capsys.readouterr() == ("", "warning: [bold]x[/bold]: y\nerror: z\n")


def test_json_has_no_infinity_and_no_numpy(capsys):
    import numpy as np

    console.emit_json({"a": float("inf"), "b": np.float32(1.5), "c": (1, np.int64(2)), "d": {"e": float("nan")}})
    assert capsys.readouterr().out == '{"a": null, "b": 1.5, "c": [1, 2], "d": {"e": null}}\n'
