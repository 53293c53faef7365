"""The simulator's front: samples, types, missing inputs, unsupported requests."""

import copy
import pickle
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from builder import ProgramBuilder
from entries import with_plan
from programs import random_inputs, random_program

import mgc
from mgc.isa.error import ProgramError
from mgc.sim import SimulationError, Simulator, draw_inputs


def doubling(micro_batch=1, batched=True, extra=()):
    """y = x + x for x [n, 3], with further inputs of given (shape, dtype, batched)."""
    b = ProgramBuilder(micro_batch=micro_batch, batched=batched)
    x = b.input((micro_batch, 3), batched=batched, name="x")
    for k, (shape, dtype, is_batched) in enumerate(extra):
        b.input(shape, dtype=dtype, batched=is_batched, name=f"e{k}")
    k = b.kernel()
    y = k.store(k.step("add", x, x))
    k.emit()
    b.output(y, batched=batched, name="y")
    return b.build()


@pytest.mark.parametrize("samples", [0, 1, 2, 3, 7])
@pytest.mark.parametrize("micro_batch", [1, 2, 3])
def test_any_number_of_samples(samples, micro_batch):
    x = np.arange(3 * samples, dtype=np.float32).reshape(samples, 3)
    y = Simulator(doubling(micro_batch), engine="reference").run({"x": x})["y"]
    assert y.dtype == np.float32
    assert np.array_equal(y, 2 * x)


def test_progress_is_told():
    seen = []
    x = np.zeros((5, 3), np.float32)
    Simulator(doubling(2), engine="reference").run({"x": x}, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(2, 5), (4, 5), (5, 5)]


def test_inputs_are_not_changed_and_outputs_are_their_own():
    simulator = Simulator(doubling(), engine="reference")
    x = np.ones((2, 3), np.float32)
    first = simulator.run({"x": x})["y"]
    simulator.run({"x": 5 * x})
    assert (x == 1).all()
    assert (first == 2).all()


def test_unbatched_programs_take_exact_shapes():
    simulator = Simulator(doubling(micro_batch=4, batched=False), engine="reference")
    assert simulator.run({"x": np.ones((4, 3), np.float32)})["y"].shape == (4, 3)
    with pytest.raises(SimulationError, match=r"x \(float32\[N, 3\]\) has shape \[5, 3\], .* exactly \[4, 3\]"):
        simulator.run({"x": np.ones((5, 3), np.float32)})


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, r"inputs are missing: x \(float32\[N, 3\]\), e0 \(int64\[N\]\); give an array for each"),
        ({"z": 1}, r"input z is unknown; the program's inputs are x \(float32\[N, 3\]\), e0"),
        ({"x": np.zeros((2, 4), "f4")}, r"has shape \[2, 4\], \[n, 3\] is expected for n samples"),
        ({"x": np.zeros(3, "f4")}, r"has shape \[3\]"),
        ({"x": np.zeros((2, 3), "i4")}, r"is int32, float32 is expected; convert it"),
        ({"x": np.zeros((2, 3), "c8")}, "is complex64"),
        ({"x": np.array([["a"] * 3])}, "float32 is expected"),
        ({"e0": np.zeros(2, "f4")}, "is float32, int64 is expected"),
        ({"e0": np.zeros(2, bool)}, "is bool, int64 is expected"),
        ({"e0": np.array([1 << 63], np.uint64)}, "do not fit into int64"),
        ({"e0": np.zeros(3, "i8")}, r"different numbers of samples \(x: 2, e0: 3\)"),
    ],
)
def test_wrong_inputs_say_what_to_do(inputs, message):
    simulator = Simulator(doubling(extra=[((1,), "int64", True)]), engine="reference")
    good = {"x": np.zeros((2, 3), np.float32), "e0": np.zeros(2, np.int64)}
    given = {**good, **inputs} if inputs and "z" not in inputs else inputs
    with pytest.raises(SimulationError, match=message):
        simulator.run(given)


def test_lossless_conversions_are_made():
    simulator = Simulator(doubling(extra=[((1,), "int8", True)]), engine="reference")
    for dtype in ("float64", "float16", ">f4"):
        y = simulator.run({"x": np.ones((2, 3), dtype), "e0": np.array([100, -100], np.int64)})["y"]
        assert y.dtype == np.float32
    assert simulator.run({"x": [[1.0, 2.0, 3.0]], "e0": [1]})["y"].tolist() == [[2, 4, 6]]
    fortran = np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3))
    assert simulator.run({"x": fortran, "e0": [1, 2]})["y"].tolist() == (2 * fortran).tolist()


def test_inputs_that_are_not_batched_go_to_every_sample():
    b = ProgramBuilder()
    x, bias = b.input((1, 3), name="x"), b.input((3,), batched=False, name="bias")
    k = b.kernel()
    y = k.store(k.step("add", x, bias))
    k.emit()
    b.output(y, name="y")
    b.output(bias, batched=False, name="same")
    result = Simulator(b.build(), engine="reference").run(
        {"x": np.zeros((4, 3), np.float32), "bias": np.arange(3, dtype=np.float32)}
    )
    assert result["y"].tolist() == [[0, 1, 2]] * 4
    assert result["same"].tolist() == [0, 1, 2]


def test_unsupported_requests():
    program = doubling()
    with pytest.raises(SimulationError, match=r"target has no \[device\] table, .*; compile it again"):
        Simulator(program, numerics="device")
    with pytest.raises(SimulationError, match="numerics 'exact' is unknown"):
        Simulator(program, numerics="exact")  # type: ignore[arg-type]
    with pytest.raises(SimulationError, match="engine 'slow' is unknown; use fast or reference"):
        Simulator(program, engine="slow")  # type: ignore[arg-type]
    with pytest.raises(SimulationError, match="threads is 0"):
        Simulator(program, engine="reference", threads=0)


def test_programs_are_verified_first():
    program = doubling()
    with pytest.raises(ProgramError, match="makespan"):
        Simulator(with_plan(program, makespan=1), engine="reference")


def test_data_dependent_failures_name_the_node():
    b = ProgramBuilder()
    x, indices = b.input((1, 3), name="x"), b.input((1, 2), dtype="int64", name="i")
    k = b.kernel()
    y = k.store(k.step("gather", x, indices, attributes=(1,)))
    k.emit()
    b.output(y, name="y")
    simulator = Simulator(b.build(), engine="reference")
    x = np.arange(3, dtype=np.float32)[None]
    assert simulator.run({"x": x, "i": np.array([[2, -3]])})["y"].tolist() == [[[2, 0]]]
    with pytest.raises(SimulationError, match=r"instruction 2 \(vec\), which computes node2: gather: an index"):
        simulator.run({"x": x, "i": np.array([[3, 0]])})


def test_drawn_inputs():
    program = doubling(extra=[((1, 2), "float64", True), ((4,), "float16", False)])
    drawn = draw_inputs(program, 5, seed=3)
    assert {k: (v.shape, v.dtype.name) for k, v in drawn.items()} == {
        "x": ((5, 3), "float32"), "e0": ((5, 2), "float64"), "e1": ((4,), "float16")
    }  # fmt: skip
    generator = np.random.Generator(np.random.PCG64(3))
    assert np.array_equal(drawn["x"], generator.standard_normal((5, 3)).astype(np.float32))
    given = draw_inputs(program, 5, seed=3, given={"x": None})
    assert list(given) == ["e0", "e1"]
    assert np.array_equal(given["e0"], drawn["e0"])
    whole = doubling(extra=[((1,), "int64", True)])
    with pytest.raises(SimulationError, match=r"e0 \(int64\[N\]\) is not floating"):
        draw_inputs(whole, 2, 0)
    assert list(draw_inputs(whole, 2, 0, given={"e0": None})) == ["x"]


def test_the_reference_needs_neither_onnx_nor_onnxruntime(tmp_path):
    doubling().save(tmp_path / "p.mgc")
    code = """
import sys
for name in ("onnx", "onnxruntime", "mgc.ir", "mgc.frontend", "passes", "targets"):
    sys.modules[name] = None
import numpy as np
from mgc.isa.program import Program
from mgc.sim import Simulator
program = Program.load(sys.argv[1])
print(Simulator(program, engine="reference").run({"x": np.ones((2, 3), np.float32)})["y"].tolist())
"""
    root = str(Path(__file__).parents[2])
    ran = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "p.mgc"], capture_output=True, text=True, env={"PYTHONPATH": root}
    )
    assert ran.stdout.strip() == "[[2.0, 2.0, 2.0], [2.0, 2.0, 2.0]]", ran.stderr


# -- threads and copies ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["reference", "fast"])
@pytest.mark.parametrize("numerics", ["quantized", "float"])
def test_threads_that_share_a_simulator_get_their_own_results(engine, numerics):
    program = random_program(random.Random(7))
    drawn = [random_inputs(program, random.Random(k), samples=1 + k % 3) for k in range(8)]
    simulator = Simulator(program, engine, numerics)
    expected = [Simulator(program, engine, numerics).run(inputs) for inputs in drawn]
    wrong = []

    def work(k):
        for _ in range(5):
            found = simulator.run(drawn[k])
            wrong.extend(n for n, v in found.items() if not np.array_equal(v, expected[k][n], equal_nan=True))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert wrong == []


@pytest.mark.parametrize("engine", ["reference", "fast"])
def test_a_simulator_can_be_pickled(engine):
    program = random_program(random.Random(3))
    inputs = random_inputs(program, random.Random(1), samples=2)
    simulator = Simulator(program, engine)
    expected = simulator.run(inputs)
    for copied in (pickle.loads(pickle.dumps(simulator)), copy.deepcopy(simulator)):
        for name, value in copied.run(inputs).items():
            np.testing.assert_array_equal(value, expected[name])


def test_a_large_buffer_is_refused_before_it_is_made():
    with pytest.raises(SimulationError, match="max-elements"):
        Simulator(doubling(5), "reference", max_elements=14)
    assert Simulator(doubling(5), "reference", max_elements=15)


def test_nan_is_no_input():
    x = np.zeros((2, 3), np.float32)
    x[1, 2] = np.nan
    program = doubling()
    with pytest.raises(SimulationError, match=r"input x holds NaN \(first at \[1, 2\]\)"):
        mgc.Simulator(program, "reference").run({"x": x})
    for narrow in ("float16", ml_dtypes.bfloat16):
        with pytest.raises(SimulationError, match="input x holds NaN"):
            mgc.Simulator(program).run({"x": x.astype(narrow)})
    assert np.isnan(Simulator(program, "reference", "float").run({"x": x})["y"][1, 2])


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
@pytest.mark.parametrize("engine", ["reference", "fast"])
def test_memory_stays_as_it_is(engine):
    def pages():
        return int(Path("/proc/self/statm").read_text().split()[1])

    simulator, x = Simulator(doubling(4), engine), np.zeros((64, 3), np.float32)
    for _ in range(100):
        simulator.run({"x": x})
    before = pages()
    for _ in range(500):
        simulator.run({"x": x})
    assert pages() - before < 2000  # 8 MiB
