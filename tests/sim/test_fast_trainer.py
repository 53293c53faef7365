"""A training program's plan between iterations: guards, columns that become lossy, errors, states of its own."""

import re
from dataclasses import replace

import numpy as np
import pytest
from builder import ProgramBuilder
from programs import plan_of
from training_programs import DENSE, EXACT, TinyGan, coded, real_of

from mgc.functions.codes import in_steps
from mgc.isa.instructions import Result
from mgc.sim import SimulationError, Simulator
from mgc.sim.engine import DivergenceError
from mgc.sim.fast import FastEngine

TIGHT = replace(EXACT, adc_bits=4)
"""Five cells of level 3 reach 15, which the converter holds; six do not."""


@pytest.fixture
def fallen(monkeypatch):
    """The iterations that were handed to the reference engine."""
    found = []
    original = FastEngine._as_reference
    monkeypatch.setattr(FastEngine, "_as_reference", lambda self, *batch: found.append(1) or original(self, *batch))
    return found


def assert_same(first, second):
    assert list(first) == list(second)
    for name, value in first.items():
        np.testing.assert_array_equal(second[name], value, err_msg=name)


def outcome(simulator, feeds):
    """Outputs, or the error's text."""
    try:
        return simulator.run_iteration(feeds)
    except SimulationError as error:
        return {"error": str(error)}


def assert_goes_together(program, feeds, threads=1, numerics="quantized"):
    reference = Simulator(program, "reference", numerics)
    fast = Simulator(program, "fast", numerics, threads=threads)
    for f in feeds:
        assert_same(outcome(reference, f), outcome(fast, f))
        assert_same(reference.states(), fast.states())
    return fast


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_a_gan_trains_to_the_references_bits(threads, fallen):
    gan = TinyGan(batch=7)
    fast = assert_goes_together(gan.program, [gan.inputs(k) for k in range(5)], threads)
    assert not fallen
    kernels = {e.what: e.kernel for e in plan_of(fast).placements if not e.lowered or e.kernel == "reference"}
    assert "reference" not in kernels.values()


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf, 3e38])
@pytest.mark.parametrize("name", ["x", "z"])
def test_odd_data_ends_as_on_the_reference(odd, name, fallen):
    """The same error, the same states; and the next iteration goes on in the plan."""
    gan = TinyGan()
    feeds = [gan.inputs(k) for k in range(4)]
    feeds[1][name][2, 1] = odd
    feeds[2][name][...] = odd
    assert_goes_together(gan.program, feeds)
    assert fallen or np.isnan(odd)  # NaN is refused before anything runs
    fallen.clear()
    assert_goes_together(gan.program, [feeds[0], feeds[3]])
    assert not fallen


def test_an_error_leaves_the_states():
    gan = TinyGan()
    fast = Simulator(gan.program, "fast")
    fast.run_iteration(gan.inputs(0))
    before = fast.states()
    kept = fast.states()
    kept["g.momentum"][0, 0] = np.inf
    fast.load_states(kept)
    message = r"\(update\), which computes node\d+: a new weight or moment of g.*is not finite"
    with pytest.raises(DivergenceError, match=message):
        fast.run_iteration(gan.inputs(1))
    assert_same(kept, fast.states())
    kept["steps"][...] = -1
    kept["g.momentum"] = before["g.momentum"]
    fast.load_states(kept)
    with pytest.raises(SimulationError, match="the number of the step is 0; it counts from 1"):
        fast.run_iteration(gan.inputs(1))
    assert_same(kept, fast.states())


def test_an_interrupt_leaves_the_states(monkeypatch):
    gan = TinyGan()
    fast, alone = (Simulator(gan.program, "fast") for _ in range(2))
    for k in range(2):
        fast.run_iteration(gan.inputs(k))
        alone.run_iteration(gan.inputs(k))
    before = fast.states()
    last = plan_of(fast).items[-1]

    def interrupt(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(type(last), "run", interrupt)
        with pytest.raises(KeyboardInterrupt):
            fast.run_iteration(gan.inputs(2))
    assert_same(before, fast.states())
    assert_same(alone.run_iteration(gan.inputs(2)), fast.run_iteration(gan.inputs(2)))
    assert_same(alone.states(), fast.states())


def test_states_go_from_engine_to_engine():
    gan = TinyGan()
    reference, fast = (Simulator(gan.program, e) for e in ("reference", "fast"))
    for k in range(6):
        leads, follows = (reference, fast) if k % 2 else (fast, reference)
        leads.run_iteration(gan.inputs(k))
        follows.load_states(leads.states())
        assert_same(leads.run_iteration(gan.inputs(99 + k)), follows.run_iteration(gan.inputs(99 + k)))
        assert_same(leads.states(), follows.states())


def linear(arithmetic, weights, transposed_copy=None):
    """y = x @ w, w -= gradient; with a copy of w that is only read backward: back = y @ copy^T, copy -= other."""
    b = ProgramBuilder(micro_batch=2, micro_batches=1, batched=False)
    rows, cols = weights.shape
    x = coded(b, b.input((2, rows), name="x", batched=False))

    def group(name, w):
        real = (w * 1.0).astype(np.float32)
        index = b.group(in_steps(real, 1.0, arithmetic.weight_bits).astype(np.int16)[None], real[None], arithmetic,
                        weight_scale=1.0)  # fmt: skip
        b.state(name, "parameter", real, index)
        return index

    w = group("w", weights)
    acc = b.buffer("acc", "int64", (2, cols))
    b.mvm(w, x[0], acc, True, **DENSE)
    y = real_of(b, acc, x[1], None, 1.0)
    b.output(y, batched=False, name="y")
    if transposed_copy is not None:
        copy = group("copy", transposed_copy)
        errors = coded(b, y)
        back = b.buffer("acc", "int64", (2, rows))
        b.mvm_t(copy, errors[0], back, True, **DENSE)
        b.output(real_of(b, back, errors[1], None, 1.0), batched=False, name="back")
        b.update("sgd", (1.0,), b.input((1, rows, cols), name="other", batched=False), group=copy)
    b.update("sgd", (1.0,), b.input((1, rows, cols), name="gradient", batched=False), group=w)
    again = b.buffer("acc", "int64", (2, cols))
    b.mvm(w, x[0], again, True, **DENSE)
    b.output(real_of(b, again, x[1], None, 1.0), batched=False, name="after")
    return b.build()


def how_read(fast, what="mvm"):
    return ["exact" if e.lowered else e.reason for e in plan_of(fast).placements if e.what == what]


def test_columns_that_become_lossy_are_read_as_the_reference_reads_them():
    rng = np.random.default_rng(0)
    weights = np.zeros((8, 3))
    weights[:5] = 3  # 15: just held
    program = linear(TIGHT, weights)
    x = [rng.normal(size=(2, 8)).astype(np.float32) for _ in range(4)]
    none, step = np.zeros((1, 8, 3), np.float32), np.zeros((1, 8, 3), np.float32)
    step[0, 5, 1] = -3  # a sixth cell of level 3
    reference, fast = (Simulator(program, e, threads=1) for e in ("reference", "fast"))
    seen = []
    for k, gradient in enumerate((none, step, none, -step)):
        feeds = {"x": x[k], "gradient": gradient}
        assert_same(reference.run(feeds), fast.run(feeds))
        assert_same(reference.states(), fast.states())
        seen.append(how_read(fast))
        assert fast.exact_columns == reference.exact_columns
    assert seen[0] == ["exact", "exact"]
    assert seen[1] == seen[2] == ["columns that are not exact"] * 2
    # states that are lossy from the start, given to a plan that took them to be exact
    late = Simulator(program, "fast", threads=1)
    late.run({"x": x[0], "gradient": none})
    states = late.states()
    states["w"][:7] = 3
    late.load_states(states)
    reference.load_states(states)
    feeds = {"x": x[1], "gradient": none}
    assert_same(reference.run(feeds), late.run(feeds))
    assert how_read(late) == ["columns that are not exact"] * 2


def test_lossy_weights_that_are_only_read_backward():
    """They are no reason to look at forward reads again, nor in the way when these become lossy."""
    weights = np.zeros((8, 3))
    weights[:5] = 3
    program = linear(TIGHT, weights, transposed_copy=weights)
    lossy, none = np.zeros((1, 8, 3), np.float32), np.zeros((1, 8, 3), np.float32)
    lossy[0, 5:] = -3
    x = np.random.default_rng(1).normal(size=(2, 8)).astype(np.float32)
    reference, fast = (Simulator(program, e, threads=1) for e in ("reference", "fast"))
    for other, gradient in ((lossy, none), (none, lossy), (none, none)):
        feeds = {"x": x, "other": other, "gradient": gradient}
        assert_same(reference.run(feeds), fast.run(feeds))
        assert_same(reference.states(), fast.states())
        assert how_read(fast) == (["exact"] * 2 if other is lossy else ["columns that are not exact"] * 2)


def test_rows_that_become_lossy_in_planes_that_can_clip():
    """Five columns of level 3 are just held; forward reads stay exact all the time."""
    planes = replace(TIGHT, cols=32, plane_columns=8)
    weights = np.zeros((4, 8))
    weights[0, :5] = 3
    program = linear(planes, np.zeros((4, 8)), transposed_copy=weights)
    none, step = np.zeros((1, 4, 8), np.float32), np.zeros((1, 4, 8), np.float32)
    step[0, 0, 5] = -3
    reference, fast = (Simulator(program, e, threads=1) for e in ("reference", "fast"))
    reading = np.zeros((1, 4, 8), np.float32)
    reading[0, 1:, 2] = -1
    rng, seen = np.random.default_rng(0), []
    for gradient, other in ((reading, none), (none, step), (none, none), (none, -step)):
        feeds = {"x": rng.normal(size=(2, 4)).astype(np.float32), "other": other, "gradient": gradient}
        assert_same(reference.run(feeds), fast.run(feeds))
        assert_same(reference.states(), fast.states())
        seen.append(how_read(fast, "mvm_t"))
        assert how_read(fast) == ["exact"] * 2
        assert fast.exact_rows == reference.exact_rows
    assert seen == [["exact"], *[["transposed reads that need not be exact"]] * 3]


def test_states_are_no_ones_elses():
    """A state taken from an input, given to an output: later changes of either are not the state's."""
    b = ProgramBuilder(micro_batch=2, micro_batches=1, batched=False)
    x = b.input((2, 3), name="x", batched=False)
    held = b.kept("held", "statistic", np.zeros((2, 3), np.float32))
    b.output(held, batched=False, name="before")
    k = b.kernel()
    k.stores.append(Result(x, held.index))
    k.emit()
    b.output(held, batched=False, name="now")
    program = b.build()
    for numerics in ("quantized", "float"):
        simulator = Simulator(program, "fast", numerics, threads=1)
        feeds = {"x": np.arange(6, dtype=np.float32).reshape(2, 3)}
        expected = feeds["x"].copy()
        found = simulator.run(feeds)
        feeds["x"][...] = -1
        for value in found.values():
            value[...] = -2
        np.testing.assert_array_equal(simulator.states()["held"], expected)
        feeds["x"] = expected * 2
        before = simulator.run(feeds)["before"]
        np.testing.assert_array_equal(before, expected)
        before[...] = -3
        np.testing.assert_array_equal(simulator.states()["held"], expected * 2)


def test_a_parameter_under_another_shape():
    """UPDATE of an alias, then a read under the first shape."""
    b = ProgramBuilder(micro_batch=1, micro_batches=1, batched=False)
    held = b.kept("held", "parameter", np.arange(6, dtype=np.float32).reshape(2, 3))
    flat = b.alias(held, (6,))
    b.update("sgd", (1.0,), b.input((6,), name="gradient", batched=False), parameter=flat)
    k = b.kernel()
    y = k.store(k.step("reduce_sum", k.step("mul", held, held), attributes=(0, 1)))
    k.emit()
    b.output(y, batched=False, name="y")
    feeds = [{"gradient": np.arange(k, k + 6, dtype=np.float32)} for k in range(3)]
    assert_goes_together(b.build(), feeds)


def test_large_updates_on_any_number_of_threads():
    """More weights than one piece; an odd number of them; infinity in the last piece only."""
    rng = np.random.default_rng(5)
    n = 150_001
    b = ProgramBuilder(micro_batch=1, micro_batches=1, batched=False)
    held = b.kept("held", "parameter", rng.normal(size=n).astype(np.float32))
    moments = [b.kept(m, "moment", np.zeros(n, np.float32)) for m in ("m", "v")]
    count = b.kept("steps", "counter", np.int64(0))
    k = b.kernel()
    k.stores.append(Result(k.step("add", count, b.constant(np.int64(1))), count.index))
    k.emit()
    gradient = b.input((n,), name="gradient", batched=False)
    b.update("adam", (0.1, 0.5, 0.99, 1e-8), gradient, moments, parameter=held, step=count, clip=(-1, 1))
    program = b.build()
    feeds = [{"gradient": rng.normal(size=n).astype(np.float32)} for _ in range(3)]
    feeds[1]["gradient"][-1] = np.inf
    for threads in (1, 2, 4):
        fast = assert_goes_together(program, feeds, threads)
        assert re.search("gradient of held is not finite", outcome(fast, feeds[1])["error"])
