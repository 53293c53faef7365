import json

import pytest
from typer.testing import CliRunner

from mgc.cli.app import app
from mgc.targets import load_target, target_names, target_toml


def mgc(*args):
    return CliRunner().invoke(app, list(args))


def test_list_has_every_target_and_its_one_line():
    shown = mgc("targets").stdout
    for name in target_names():
        assert f"\n{name} " in shown
    assert max(map(len, shown.splitlines())) <= 80


@pytest.mark.parametrize("name", target_names())
def test_one_target_is_printed_to_the_letter_and_taken_back(name, tmp_path):
    shown = mgc("targets", name).stdout
    assert shown == target_toml(name)
    (tmp_path / "mine.toml").write_text(shown)
    assert load_target(tmp_path / "mine.toml") == load_target(name)


def test_json():
    listed = json.loads(mgc("targets", "--json").stdout)
    assert listed["default"] == "liu2018"
    assert [t["name"] for t in listed["targets"]] == target_names()
    one = json.loads(mgc("targets", "isaac", "--json").stdout)
    assert one["crossbar"]["rows"] == load_target("isaac").crossbar.rows


def test_an_unknown_name_is_exit_2_with_the_names():
    result = mgc("targets", "liu2017")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "did you mean liu2018?" in result.stderr
    assert "Traceback" not in result.stderr
