"""Pages say the least and the greatest of at least three runs."""

import argparse
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.measure import Ratio
from benchmarks.runs import Record, report, reported


def lines(path, runs, machine="m"):
    rows = [{"run": f"t{k}", "machine": machine, "row": ["net", "float"], "ratio": r} for k, r in enumerate(runs)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@given(st.lists(st.floats(0.01, 100), min_size=3, max_size=6))
def test_the_ends_of_all_runs(tmp_path_factory, ratios):
    path = lines(tmp_path_factory.mktemp("runs") / "r.jsonl", ratios)
    text = report(path, ("network", "numerics"), "other / mgc")
    assert f"| net | float | {min(ratios):.2f} to {max(ratios):.2f} | {len(ratios)} |" in text
    assert f"At worst {min(ratios):.2f} (net, float)." in text


def test_two_runs_or_two_machines_are_refused(tmp_path, capsys):
    path = lines(tmp_path / "r.jsonl", [1.0, 2.0])
    with pytest.raises(ValueError, match="2 runs: 3 at different times"):
        report(path, ("network", "numerics"), "x")
    more = lines(tmp_path / "s.jsonl", [1.0, 2.0, 3.0])
    more.write_text(more.read_text() + lines(tmp_path / "o.jsonl", [1.0], "other").read_text())
    with pytest.raises(ValueError, match="different machines"):
        report(more, ("network", "numerics"), "x")
    assert reported(argparse.Namespace(report=path), ("network", "numerics"), "x") == 2
    assert reported(argparse.Namespace(report=None), (), "x") is None


def test_a_run_is_recorded(tmp_path):
    path = tmp_path / "r.jsonl"
    Record(path).add(("net", 1), Ratio(2.0, 1.0, 3.0))
    Record(None).add(("net", 1), Ratio(2.0, 1.0, 3.0))
    (line,) = map(json.loads, path.read_text().splitlines())
    assert (line["row"], line["ratio"]) == (["net", "1"], 2.0)
