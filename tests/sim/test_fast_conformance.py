"""The fast engine on programs of ONNX's own test cases: every op, every shape, against the reference."""

import warnings
from functools import cache

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import mgc
import mgc.onnx_backend
from mgc.sim.simulator import Simulator

RANDOM = ("bernoulli",)  # their host segments draw numbers
SHARDS = 8


@cache
def cases():
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some cases overflow on purpose while they are made
        return [case for case in collect_testcases(None) if not any(r in case.name for r in RANDOM)]


def array(value):
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value


def same(got, expected, exactly):
    if not isinstance(expected, np.ndarray) or expected.dtype.kind in "OUS":
        return str(got) == str(expected)
    if got.dtype != expected.dtype or got.shape != expected.shape:
        return False
    if expected.dtype.kind not in "fV":
        return np.array_equal(got, expected)
    a, b = got.astype(np.float64), expected.astype(np.float64)
    if exactly:
        return np.array_equal(a, b, equal_nan=True)
    return np.allclose(a, b, rtol=1e-3, atol=1e-4, equal_nan=True)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("shard", range(SHARDS))
def test_programs_of_onnx_cases(shard, monkeypatch):
    ran = []

    class Both:
        """Stands for the backend's simulator: runs both engines in both numerics."""

        def __init__(self, program, engine, numerics):
            self.program = program

        def run(self, data):
            for numerics in ("quantized", "float"):
                expected = Simulator(self.program, "reference", numerics).run(data)
                got = Simulator(self.program, "fast", numerics, threads=1).run(data)
                ran.extend((numerics, n, same(got[n], a, numerics == "quantized")) for n, a in expected.items())
            return expected

    monkeypatch.setattr(mgc, "Simulator", Both)
    wrong, count = [], 0
    for case in cases()[shard::SHARDS]:
        for inputs, _ in case.data_sets:
            ran.clear()
            mgc.onnx_backend.prepare(case.model).run([array(v) for v in inputs])
            count += len(ran)
            wrong += [(case.name, numerics, name) for numerics, name, ok in ran if not ok]
    assert count > 200
    assert wrong == []
