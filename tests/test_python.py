"""mgc from Python: what programs and simulators show of themselves, their figures as plain data, PyTorch's models."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

import mgc
from mgc.passes.state import UnsupportedError

sys.path.insert(0, str(Path(__file__).parent / "cli"))
import tiny


@pytest.fixture(scope="module")
def program():
    return mgc.compile(tiny.generator(), batch=3, calibrate="minmax")


def test_a_program_shows_itself(program):
    shown = repr(program)
    assert len(shown) < 160
    assert shown.startswith("<inference program 'tiny' for liu2018: ")
    page = program._repr_html_()
    assert "<th colspan=2>tiny</th>" in page
    assert "a batch of 3" in page
    assert len(page) < 2000


def test_a_simulator_shows_itself(program):
    assert repr(mgc.Simulator(program)) == "<simulator of 'tiny': fast engine, quantized numerics>"


def test_figures_are_plain_data(program):
    for view in (program.summary(), program.schedule(), program.cost()):
        assert json.loads(json.dumps(view)) == view
    assert program.cost()["energy_j"] > 0
    assert program.schedule()["makespan_cycles"] == program.summary()["schedule"]["makespan_cycles"]


def test_saving_and_loading_keep_the_kind(program, tmp_path):
    program.save(tmp_path / "p.mgc")
    again = mgc.Program.load(tmp_path / "p.mgc")
    assert type(again) is mgc.Program
    assert again.summary() == program.summary()


def test_a_target_with_some_keys_changed(program):
    target = mgc.load_target("liu2018").replace(adc_bits=5, rows=64)
    assert isinstance(target, mgc.Target)
    changed = mgc.compile(tiny.generator(), target=target, calibrate="minmax")
    assert changed.target["crossbar"]["adc_bits"] == 5


def test_what_an_exporter_returned_is_taken(program):
    class ONNXProgram:
        model_proto = tiny.generator()

    assert mgc.compile(ONNXProgram(), batch=3, calibrate="minmax").summary() == program.summary()


def test_an_example_beside_an_onnx_model_is_refused():
    with pytest.raises(UnsupportedError, match=r"example is for a torch\.nn\.Module"):
        mgc.compile(tiny.generator(), np.zeros((1, 8)))


class TestPyTorch:
    """With PyTorch installed: modules with example inputs."""

    @pytest.fixture
    def module(self):
        torch = pytest.importorskip("torch")
        return torch.nn.Sequential(torch.nn.Linear(8, 12), torch.nn.BatchNorm1d(12), torch.nn.ReLU()), torch

    @pytest.mark.filterwarnings("ignore")
    def test_a_module_with_an_example(self, module):
        net, torch = module
        program = mgc.compile(net, torch.zeros(2, 8), batch=4)
        x = np.random.default_rng(0).standard_normal((4, 8)).astype(np.float32)
        (found,) = mgc.Simulator(program, numerics="float").run({"input": x}).values()
        with torch.no_grad():
            np.testing.assert_allclose(found, net.eval()(torch.from_numpy(x)).numpy(), atol=1e-5)

    def test_a_module_alone_is_refused(self, module):
        with pytest.raises(UnsupportedError, match="Sequential is a PyTorch module: give example inputs"):
            mgc.compile(module[0])


def test_the_same_names_are_public():
    assert {"Program", "Simulator", "Target", "compile", "load_target", "sweep"} <= set(mgc.__all__)
