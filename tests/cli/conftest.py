import json
from pathlib import Path
from typing import Any, NamedTuple

import onnx
import pytest
import tiny
from typer.testing import CliRunner

from mgc.cli.app import app


class Outcome(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """stdout as the one JSON object that it must be."""
        assert self.out.count("\n") == 1
        return json.loads(self.out)


@pytest.fixture
def mgc():
    """Runs a command in this process."""

    def run(*args) -> Outcome:
        result = CliRunner().invoke(app, [str(a) for a in args])
        assert "Traceback" not in result.stderr
        return Outcome(result.exit_code, result.stdout, result.stderr)

    return run


@pytest.fixture
def refused(mgc):
    """Runs a command that must end with exit 2, one message, and nothing on stdout; gives the message."""

    def run(*args) -> str:
        outcome = mgc(*args)
        assert outcome.code == 2, outcome
        assert outcome.out == "" or ("--json" in args and outcome.json["error"]["exit_code"] == 2)
        assert "a bug in mgc" not in outcome.err
        assert outcome.err.count("rror: ") == 1
        return outcome.err

    return run


@pytest.fixture(scope="session")
def compiled(tmp_path_factory) -> Path:
    """A folder with G.onnx and G.mgc (batch 3), D.onnx and D.mgc, M.onnx and M.mgc (mixes samples, batch 4)."""
    folder = tmp_path_factory.mktemp("compiled")
    made = {"G": (tiny.generator(), 3), "D": (tiny.scorer(), 2), "M": (tiny.batch_mixer(), 4)}
    for name, (model, batch) in made.items():
        onnx.save(model, folder / f"{name}.onnx")
        args = ["compile", folder / f"{name}.onnx", "-o", folder / f"{name}.mgc", "--batch", batch]
        result = CliRunner().invoke(app, [str(a) for a in args])
        assert result.exit_code == 0, result.output
    return folder
