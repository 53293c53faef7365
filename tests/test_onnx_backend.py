"""ONNX's own test cases through `mgc.onnx_backend`, in `float` numerics on simulated crossbars."""

import warnings
from collections import Counter
from functools import cache

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx.backend.base import Backend
from onnx.backend.test.loader import load_model_tests
from onnx.backend.test.runner import Runner

import mgc.onnx_backend
from mgc.isa.instructions import Host, Mvm

# The ops whose single-node cases must all pass, and, of them, those whose weights must sit on crossbars.
WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
FAMILY = (
    *WEIGHTED,
    "BatchNormalization",
    "InstanceNormalization",
    "GroupNormalization",
    "LayerNormalization",
    "Relu",
    "LeakyRelu",
    "PRelu",
    "Sigmoid",
    "Tanh",
    "Elu",
    "Pad",
    "Resize",
    "Upsample",
    "DepthToSpace",
)
ONE_WORKER = pytest.mark.xdist_group("ONNX cases")  # it takes seconds to make them


@cache
def cases():
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some cases overflow on purpose while they are made
        return {case.name: case for case in collect_testcases(None)}


def cases_of(*op_types):
    """Names of the single-node cases of ops; expansions into functions are other ops' cases."""
    nodes = {name: case.model.graph.node for name, case in cases().items()}
    return sorted(name for name, found in nodes.items() if len(found) == 1 and found[0].op_type in op_types)


def array(value):
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value


def run(model, data_sets, rtol, atol):
    rep = mgc.onnx_backend.prepare(model)
    for inputs, expected in data_sets:
        results = rep.run([array(v) for v in inputs])
        Runner.assert_similar_outputs([array(v) for v in expected], results, rtol, atol)
    return rep


@ONE_WORKER
def test_the_family_has_the_cases_it_had():
    assert len(cases_of(*FAMILY)) >= 123


@ONE_WORKER
@pytest.mark.parametrize("op_type", FAMILY)
def test_single_node_cases(op_type):
    names = cases_of(op_type)
    assert names
    for name in names:
        case = cases()[name]
        try:
            instructions = run(case.model, case.data_sets, case.rtol, case.atol).program.instructions
        except Exception as error:
            error.add_note(name)
            raise
        if op_type in WEIGHTED:
            assert not any(isinstance(i, Host) for i in instructions), f"{name}: a weighted op ran on the host"
            assert any(isinstance(i, Mvm) for i in instructions), f"{name}: a weighted op did not run on crossbars"


def tally(named_cases):
    passed, failed = 0, Counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, model, data_sets, rtol, atol in named_cases:
            try:
                run(model, data_sets, rtol, atol)
                passed += 1
            except Exception as error:  # whatever a case may raise, it counts as one that fails
                failed[f"{type(error).__name__}: {name}"] += 1
    return passed, failed


@ONE_WORKER
def test_all_node_cases(tell):
    passed, failed = tally((c.name, c.model, c.data_sets, c.rtol, c.atol) for c in cases().values())
    tell(f"ONNX node cases: {passed} of {len(cases())} pass through mgc.onnx_backend")
    for line in sorted(failed):
        tell(f"  fails: {line}")
    assert passed >= 1495  # what ONNX Runtime itself passes


def stored(kind):
    """Cases stored in the onnx package: (name, model, data sets, rtol, atol)."""
    from pathlib import Path

    for case in load_model_tests(kind=kind):
        folder = Path(case.model_dir)
        model = onnx.load(folder / "model.onnx")
        sets = []
        for data in sorted(folder.glob("test_data_set_*")):
            read = {}
            for which in ("input", "output"):
                files = sorted(data.glob(f"{which}_*.pb"), key=lambda p: int(p.stem.split("_")[1]))
                read[which] = [onnx.load_tensor(f) for f in files]
            sets.append((read["input"], read["output"]))
        yield case.name, model, sets, case.rtol, case.atol


# doubles of 1e199: the chip's floats are float32
BEYOND_FLOAT32 = {"add_broadcast", "add_size1_right_broadcast", "add_size1_singleton_broadcast", "addconstant"}


@pytest.mark.parametrize(("kind", "beyond"), [("pytorch-converted", set()), ("pytorch-operator", BEYOND_FLOAT32)])
def test_stored_cases(kind, beyond, tell):
    passed, failed = tally(stored(kind))
    tell(f"ONNX {kind} cases: {passed} of {passed + sum(failed.values())} pass through mgc.onnx_backend")
    for line in sorted(failed):
        tell(f"  fails: {line}")
    assert passed > 0
    assert {line.removeprefix("AssertionError: test_operator_") for line in failed} == beyond


def test_it_is_an_onnx_backend():
    assert issubclass(mgc.onnx_backend.MgcBackend, Backend)
    assert mgc.onnx_backend.supports_device("CPU")
    assert not mgc.onnx_backend.supports_device("CUDA")


def test_weights_that_change_between_runs_are_written_anew():
    node = onnx.helper.make_node("MatMul", ["a", "b"], ["y"])
    rng = np.random.default_rng(0)
    infos = [onnx.helper.make_tensor_value_info(n, 1, s) for n, s in (("a", [2, 3]), ("b", [3, 4]), ("y", [2, 4]))]
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "g", infos[:2], infos[2:]))
    rep = mgc.onnx_backend.prepare(model)
    for _ in range(2):
        a, b = rng.standard_normal((2, 3)).astype(np.float32), rng.standard_normal((3, 4)).astype(np.float32)
        (y,) = rep.run([a, b])
        np.testing.assert_allclose(y, a @ b, rtol=1e-5, atol=1e-6)


def test_run_node():
    x = np.array([-1.0, 2.0], np.float32)
    (y,) = mgc.onnx_backend.run_node(onnx.helper.make_node("Relu", ["x"], ["y"]), [x])
    np.testing.assert_array_equal(y, [0, 2])
