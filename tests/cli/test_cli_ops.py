import json

import onnx
import pytest
from typer.testing import CliRunner

from mgc.cli.app import app
from mgc.cli.commands.ops import all_ops
from mgc.cli.op_support import PLACES
from mgc.cli.op_table import ONNX_VERSION, TABLE


@pytest.mark.xdist_group("ONNX cases")  # it takes seconds to make them
def test_the_table_is_what_the_importer_does():
    if onnx.__version__ != ONNX_VERSION:
        pytest.skip(f"the table is of ONNX {ONNX_VERSION}'s test cases")
    from mgc.cli.op_probe import probe

    expected = {(row.domain, row.op): row for row in probe()}
    found = {(row.domain, row.op): row for row in TABLE}
    wrong = [(found.get(op), expected.get(op)) for op in expected | found if found.get(op) != expected.get(op)]
    assert not wrong, "python -m mgc.cli.op_probe > /tmp/t && mv /tmp/t mgc/cli/op_table.py"


def test_what_everybody_asks():
    rows = {row.op: row for row in all_ops() if not row.domain}
    for name in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
        assert "crossbar" in rows[name].runs_on
    assert rows["BatchNormalization"].runs_on[0] == "weights"
    assert rows["LeakyRelu"].runs_on == ("vector",)
    assert rows["Reshape"].runs_on == ("move",)
    assert rows["NonMaxSuppression"].runs_on == ("host",)
    assert all(set(row.runs_on) <= set(PLACES) for row in all_ops())


def test_text_and_json():
    text = CliRunner().invoke(app, ["ops"]).stdout
    assert max(map(len, text.splitlines())) <= 80
    assert "\n  ConvTranspose " in text
    shown = json.loads(CliRunner().invoke(app, ["ops", "--json"]).stdout)
    assert {"op", "domain", "runs_on", "host_when"} == set(shown["ops"][0])
