"""Sweeps: right figures, the same table from any workers, resumed after a kill, failures that stay rows."""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest

import mgc
from mgc.explore.space import as_axes, points
from mgc.explore.study import Study
from mgc.explore.table import Table
from mgc.options import CompileOptions
from mgc.passes.state import UnsupportedError
from mgc.report.views import cost
from mgc.targets import TargetError

sys.path.insert(0, str(Path(__file__).parents[1] / "cli"))
import tiny

OVER = {"adc_bits": range(4, 7), "rows": [16, 64]}


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("sweep") / "G.onnx"
    onnx.save(tiny.generator(), path)
    return path


@pytest.fixture(scope="module")
def plain(model) -> Table:
    return mgc.sweep(model, OVER, samples=4)


def figures(table) -> list[dict]:
    """The rows but for the seconds that they took."""
    return [{k: v for k, v in row.items() if k != "seconds"} for row in table]


def test_each_row_is_what_a_compilation_and_a_run_say(model, plain):
    assert len(plain) == 6
    for row in plain:
        keys = {"adc_bits": row["adc_bits"], "rows": row["rows"]}
        program = mgc.compile(model, overrides=keys)
        facts = cost.facts(program)
        assert row["energy_j"] == facts["energy_j"]
        assert row["samples_per_s"] == facts["samples_per_s"]
        noise = {p.name: np.random.Generator(np.random.PCG64(0)).standard_normal((4, *p.shape[1:])) for p in
                 program.inputs}  # fmt: skip
        real = mgc.Simulator(program, numerics="float").run(noise)
        found = mgc.Simulator(program).run(noise)
        error = total = 0.0
        for name, wanted in real.items():
            error += float(np.sum(((found[name] - wanted) / np.ptp(wanted)) ** 2))
            total += wanted.size
        assert row["psnr_db"] == pytest.approx(-10 * np.log10(error / total), abs=0.05)
        assert row["yield"] == float(row["psnr_db"] >= 30)


@pytest.mark.parametrize("options", [{"workers": 1}, {"workers": 2, "threads": True}])
def test_workers_give_the_same_table(model, plain, options):
    assert figures(mgc.sweep(model, OVER, samples=4, **options)) == figures(plain)


@pytest.mark.slow
def test_a_scheduler_by_its_address(model, plain):
    from distributed import LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0") as cluster:
        assert figures(mgc.sweep(model, OVER, samples=4, scheduler=cluster.scheduler_address)) == figures(plain)


@pytest.mark.slow
def test_a_worker_that_is_killed_mid_way(model, tmp_path):
    """Its point is measured by another one, and the table is the same."""
    from distributed import LocalCluster

    over = {"adc_bits": range(3, 9), "rows": [16, 32, 64]}
    with LocalCluster(n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0") as cluster:
        victims = [worker.pid for worker in cluster.workers.values()]

        def strike(done: int, total: int) -> None:
            if done == 2 and victims:
                os.kill(victims.pop(), signal.SIGKILL)

        table = mgc.sweep(model, over, samples=4, scheduler=cluster.scheduler_address, progress=strike)
    assert len(victims) == 1
    assert not table.failed
    assert figures(table) == figures(mgc.sweep(model, over, samples=4))


@pytest.mark.slow
def test_processes_give_the_same_table(model, plain):
    assert figures(mgc.sweep(model, OVER, samples=4, workers=2)) == figures(plain)


def test_a_scheduler_that_is_not_there(model):
    with pytest.raises(UnsupportedError, match="no Dask scheduler can be reached at not-an-address"):
        mgc.sweep(model, OVER, scheduler="not-an-address")


def test_points_that_fail_are_rows(model):
    table = mgc.sweep(model, {"input_bits": [8, 1], "chips": [1]}, samples=2)
    good, bad = table
    assert good.get("error") is None
    assert "input_bits" in bad["error"]
    assert table.failed == (bad,)


def test_a_key_that_is_none_is_refused_at_once(model):
    with pytest.raises(TargetError, match="did you mean adc_bits"):
        mgc.sweep(model, {"adc_bit": [4]})


def test_whole_targets_are_a_key(model):
    table = mgc.sweep(model, {"target": ["liu2018", "isaac"], "adc_bits": [8]}, samples=2)
    assert [row["target"] for row in table] == ["liu2018", "isaac"]
    assert len({row["energy_j"] for row in table}) == 2


def test_trials_are_chips_of_their_own(model):
    table = mgc.sweep(model, {"rows": [16]}, trials=3, samples=2)
    assert [row["trial"] for row in table] == [0, 1, 2]
    assert len({row["psnr_db"] for row in table}) == 3
    assert len({row["yield"] for row in table}) == 1


def test_trials_resumed_after_a_row_was_lost(model, tmp_path):
    """The yield of a point is the mean over its trials, whatever of the table was there already."""
    path = tmp_path / "t.csv"
    table = mgc.sweep(model, {"rows": [16], "adc_bits": [5]}, trials=3, samples=2, output=path)
    heading, first, *_ = table.to_csv().splitlines(keepends=True)
    path.write_text(heading + first)
    again = mgc.sweep(model, {"rows": [16], "adc_bits": [5]}, trials=3, samples=2, output=path, resume=True)
    assert figures(again) == figures(table)


def test_inputs_are_those_of_a_run(model, tmp_path):
    """An array, its file, and numbers that are the same."""
    z = np.full((2, 8), 0.5, np.float32)
    np.save(tmp_path / "z.npy", z)
    over = {"adc_bits": [6]}
    found = [mgc.sweep(model, over, samples=2, inputs={"z": given}) for given in (z, tmp_path / "z.npy", 0.5, "0.5")]
    assert all(figures(table) == figures(found[0]) for table in found)
    with pytest.raises(ValueError, match="there is no input 'q'"):
        mgc.sweep(model, over, inputs={"q": 1})


def test_what_is_shared_between_targets_changes_no_program(model, tmp_path):
    """Points of one study give the very programs that compilations of their own give."""

    def saved(program) -> bytes:
        meta = {k: v for k, v in program.meta.items() if k != "compiler"}
        dataclasses.replace(program, meta=meta).save(tmp_path / "P.mgc")
        return (tmp_path / "P.mgc").read_bytes()

    study = Study(model.read_bytes(), CompileOptions(), 2)
    for point in points(as_axes({"rows": [16, 64], "weight_bits": [4, 8], "adc_bits": [4, 8], "input_bits": [6, 8]})):
        assert saved(study.program(point)) == saved(mgc.compile(model.read_bytes(), overrides=point))


def test_a_killed_sweep_goes_on(model, plain, tmp_path):
    """Killed by the system after its second row; resumed, it measures only what is missing."""
    path = tmp_path / "s.csv"
    code = (
        "import mgc, sys\n"
        "mgc.sweep(sys.argv[1], {'adc_bits': range(4, 7), 'rows': [16, 64]}, samples=4, output=sys.argv[2])"
    )
    running = subprocess.Popen([sys.executable, "-c", code, str(model), str(path)])
    until = time.monotonic() + 120
    while running.poll() is None and time.monotonic() < until:
        if path.exists() and path.read_bytes().count(b"\n") >= 3:
            os.kill(running.pid, signal.SIGKILL)
            break
        time.sleep(0.01)
    running.wait()
    held = path.read_bytes().count(b"\n") - 1
    assert held >= 2
    counts = []
    table = mgc.sweep(
        model, OVER, samples=4, output=path, resume=True, progress=lambda done, total: counts.append((done, total))
    )
    assert counts[0] == (held, 6)
    assert figures(table) == figures(plain)
    assert path.read_text() == table.to_csv()
    assert sorted(os.listdir(tmp_path)) == ["s.csv", "s.csv.sweep"]
    again = mgc.sweep(model, OVER, samples=4, output=path, resume=True)
    assert again == table
