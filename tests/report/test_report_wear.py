"""Writes at worst case and as counted: figures from counts, and counts that are not of the program."""

import copy
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.append(str(Path(__file__).parents[1] / "sim"))
from training_programs import TinyGan

from mgc.report import facts, report
from mgc.report.wear import CountsError, lines, wear_of, with_counts
from mgc.sim import Simulator

ENDURANCE = {"endurance_writes": 1e6, "writes_per_cell": 1.0, "most_writes_per_cell": 1, "runs": 1e6, "seconds": 1e3}


def program():
    found = TinyGan(0).program
    bill = {"energy_j": 5.0, "energy": {"write": 4.0, "adc": 1.0}, "latency_s": 1e-3, "cost": {"endurance": ENDURANCE}}
    found.meta.update(bill)
    return found


def counts(steps=3):
    gan = TinyGan(0)
    simulator = Simulator(gan.program, count_writes=True)
    for k in range(steps):
        simulator.run_iteration(gan.inputs(k))
    return simulator.cell_writes()


FOUND = counts()


@given(st.integers(1, 9), st.integers(0, 100), st.integers(1, 100), st.integers(0, 9))
def test_counted_is_at_most_the_worst_case(runs, changed, more, most):
    cells = changed + more
    shown = {"runs": runs, "cells": cells, "changed": changed, "most_changes": min(most, runs)}
    made = program()
    made.meta["cell_writes"] = shown
    found = wear_of(made)
    worst, counted = found["worst"], found["counted"]
    assert counted["write_energy_j"] == pytest.approx(4.0 * changed / cells)
    assert counted["energy_j"] - counted["write_energy_j"] == pytest.approx(worst["energy_j"] - worst["write_energy_j"])
    for key in ("cells", "energy_j", "write_energy_j", "writes_per_cell", "most_writes_per_cell"):
        assert counted[key] <= worst[key] + 1e-12
    if counted["runs"] is None:
        assert shown["most_changes"] == 0
    else:
        assert counted["runs"] >= worst["runs"]
        assert counted["seconds"] == pytest.approx(counted["runs"] * 1e-3)
    assert [name for name, _ in lines(made)] == ["cells written", "energy by that", "wear by that"]


def test_the_view_has_both():
    made = with_counts(program(), FOUND)
    shown = facts(made, "cost")["wear"]
    assert shown["runs"] == 3
    assert shown["share"] == FOUND["changed"] / FOUND["cells"]
    for format in ("text", "html"):
        assert "% changed" in report(made, "cost", format)
    assert facts(program(), "cost")["wear"] is None
    assert lines(program()) == []


def test_a_program_that_writes_nothing_says_so():
    still = {"runs": 2, "cells": 0, "changed": 0, "most_changes": 0, "instructions": []}
    assert lines(with_counts(program(), still)) == [("cells written", "none after the first programming")]


def damaged(**row):
    found = copy.deepcopy(FOUND)
    found["instructions"][-1].update(row)
    return found


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (None, "no counts"),
        ([], "no counts"),
        ({}, "no counts"),
        ({**FOUND, "runs": -1}, "no counts"),
        ({**FOUND, "runs": True}, "no counts"),
        ({**FOUND, "instructions": 3}, "no counts"),
        ({**FOUND, "instructions": [3]}, "another program"),
        ({**FOUND, "changed": FOUND["changed"] + 1}, "do not add up"),
        (damaged(instruction=10**6), "another program"),
        (damaged(instruction="1"), "another program"),
        (damaged(group="else"), "another program"),
        (damaged(writes="many"), "another program"),
        (damaged(cells=1), "another program"),
        (damaged(changed=10**9), "more cells"),
        (damaged(changed=None), "more cells"),
    ],
)
def test_counts_of_something_else_are_refused(wrong, message):
    with pytest.raises(CountsError, match=message):
        with_counts(program(), wrong)
