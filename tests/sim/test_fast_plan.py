"""The plan of the fast engine: what goes into graphs, what runs as the reference runs it, and in which order."""

import random

import numpy as np
import onnx
import pytest
from builder import ProgramBuilder, dense_strides, quant_attributes
from onnx import TensorProto, helper
from programs import random_arithmetic
from test_fast import assert_same_bits, run
from test_fast_layout import PLAIN, piece

from mgc.isa.instructions import Result
from mgc.sim.engine import SimulationError
from mgc.sim.fast import FastEngine
from mgc.sim.fast.graph import GraphBuilder
from mgc.sim.fast.items import GraphItem, RunContext, Slot
from mgc.sim.reference import ReferenceEngine
from mgc.sim.simulator import Simulator


def check(program, inputs, micro_batches=3, numerics="quantized"):
    expected = run(ReferenceEngine(program, numerics), program, inputs, micro_batches)
    engine = FastEngine(program, numerics, 1)
    assert_same_bits(run(engine, program, inputs, micro_batches), expected)
    return engine.plan.placements


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def kernel_program(steps, shape=(1, 3, 4, 4), batched=True):
    b = ProgramBuilder(batched=batched)
    x = b.input(shape, batched=batched)
    k = b.kernel()
    y = k.store(steps(b, k, x))
    k.emit()
    b.output(y, batched=batched)
    return b.build()


def test_a_step_without_a_form_runs_in_numpy_between_graphs():
    def steps(b, k, x):
        y = k.step("add", x, b.constant(np.float32(1)))
        y = k.step("exp", y)
        return k.step("mul", y, y)

    entries = check(kernel_program(steps), {"in0": noise(3, 3, 4, 4)})
    assert [e.kernel for e in entries] == ["graph", "numpy", "graph"]
    assert "proven" in entries[1].reason


def test_an_item_that_does_not_depend_on_the_graph_goes_before_it():
    b = ProgramBuilder()
    x, y = b.input((1, 4)), b.input((1, 4))
    k = b.kernel()
    first = k.store(k.step("add", x, x))
    k.emit()
    k = b.kernel()
    second = k.store(k.step("tanh", y))
    k.emit()
    k = b.kernel()
    y = k.store(k.step("mul", first, second))
    k.emit()
    b.output(y)
    program = b.build()
    inputs = {"in0": noise(3, 4), "in1": noise(3, 4, seed=1)}
    check(program, inputs)
    assert len(FastEngine(program, "quantized", 1).plan.items) == 2


def test_steps_of_constants_are_done_once():
    def steps(b, k, x):
        c = k.step("exp", b.constant(noise(3, 1, 1)))
        return k.step("mul", x, k.step("add", c, c))

    entries = check(kernel_program(steps), {"in0": noise(3, 3, 4, 4)})
    assert [e.kernel for e in entries] == ["constant", "constant", "graph"]


def test_a_constant_kernel_result_is_stored_and_repeated():
    b = ProgramBuilder()
    x = b.input((1, 2))
    k = b.kernel()
    y = k.store(k.step("neg", b.constant(noise(1, 2))))
    z = k.store(k.step("relu", x))
    k.emit()
    b.output(y)
    b.output(z)
    b.output(b.constant(noise(1, 5)), name="constant")
    check(b.build(), {"in0": noise(3, 2)})


@pytest.mark.parametrize("batched", [True, False])
def test_a_port_that_all_micro_batches_share(batched):
    b = ProgramBuilder(batched=batched)
    x = b.input((1, 3, 2, 2), batched=batched)
    shared = b.input((1, 3, 1, 1), batched=False)
    k = b.kernel()
    gate = k.step("tanh", k.step("add", shared, shared))
    b_out = k.store(k.step("mul", x, gate))
    unshared = k.store(k.step("neg", shared))
    k.emit()
    b.output(b_out, batched=batched)
    b.output(unshared, batched=False)
    n = 3 if batched else 1
    check(b.build(), {"in0": noise(n, 3, 2, 2), "in1": noise(1, 3, 1, 1)}, n)


def test_what_would_broadcast_differently_runs_micro_batch_by_micro_batch():
    b = ProgramBuilder(micro_batch=1)
    x = b.input((1, 3))
    y = b.input((1, 1, 3))
    k = b.kernel()
    z = k.store(k.step("add", x, y))  # ranks differ: axis 0 of x would meet axis 1 of y
    k.emit()
    b.output(z)
    (entry,) = check(b.build(), {"in0": noise(2, 3), "in1": noise(2, 1, 3)}, 2)
    assert entry.kernel == "reference"
    assert "batch axis" in entry.reason


def test_a_program_that_mixes_samples_runs_as_one():
    def steps(b, k, x):
        return k.step("sub", x, k.step("reduce_mean", x, attributes=(1, 0)))

    check(kernel_program(steps, shape=(4, 3), batched=False), {"in0": noise(4, 3)}, 1)


def identity_model():
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])
    graph = helper.make_graph([helper.make_node("Softplus", ["x"], ["y"])], "g", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()


@pytest.mark.parametrize("numerics", ["quantized", "float"])
def test_host_segments_run_micro_batch_by_micro_batch(numerics):
    b = ProgramBuilder()
    x = b.input((1, 4))
    k = b.kernel()
    y = k.store(k.step("add", x, x))
    k.emit()
    (z,) = b.host(identity_model(), [y], [("real", "float32", (1, 4))], ("Softplus",))
    k = b.kernel()
    y = k.store(k.step("mul", z, z))
    k.emit()
    b.output(y)
    entries = check(b.build(), {"in0": noise(3, 4)}, numerics=numerics)
    assert [e.kernel for e in entries] == ["graph", "reference", "graph"]


def test_errors_of_the_data_are_the_references():
    b = ProgramBuilder()
    x = b.input((1, 4), dtype="int64")
    k = b.kernel()
    y = k.store(k.step("gather", b.constant(noise(3, 2)), x, attributes=(0,)))
    k.emit()
    b.output(y)
    program = b.build()
    good = {"in0": np.array([[0, 1, 2, -1]])}
    check(program, good, 1)
    bad = {"in0": np.array([[0, 1, 2, 7]])}
    messages = []
    for engine in (ReferenceEngine(program, "quantized"), FastEngine(program, "quantized", 1)):
        with pytest.raises(SimulationError, match="index is outside") as caught:
            run(engine, program, bad, 1)
        messages.append(str(caught.value).split(":", 1)[1])
    assert messages[0] == messages[1]


def mvm_program(src_codes, weights=None, signed=False, **fields):
    b = ProgramBuilder()
    x = b.input((1, 4, 6))
    k = b.kernel()
    codes = k.store(src_codes(k, x), "code")
    k.emit()
    acc = b.buffer("acc", "int64", (1, 3, 6))
    weights = np.random.default_rng(0).integers(-127, 128, (1, 4, 3)).astype(np.int8) if weights is None else weights
    plain = {"count": [6], "taps": [1], "in_base": [0], "in_stride": [1], "in_dilation": [1]}
    plain |= {"out_base": [0], "out_stride": [1]}
    b.mvm(b.group(weights, weights / 64, PLAIN), codes, acc, signed, **(plain | fields))
    k = b.kernel()
    scale, bias = b.constant(np.full((3, 1), 1 / 512)), b.constant(np.zeros((3, 1)))
    y = k.store(k.step("dequant", acc, scale, bias, b.constant(np.zeros((3, 1), np.float32))))
    k.emit()
    b.output(y)
    return b.build()


def test_nan_and_infinity_become_codes():
    x = noise(2, 4, 6)
    x.reshape(-1)[:6] = [np.nan, np.inf, -np.inf, -0.0, 1e30, -1e30]
    for signed in (False, True):
        program = mvm_program(lambda k, v, s=signed: k.step("quant", v, attributes=quant_attributes(1 / 32, PLAIN, s)),
                              signed=signed)  # fmt: skip
        check(program, {"in0": x}, 2)


def test_views_that_are_no_permutation_are_left_to_the_reference():
    program = mvm_program(
        lambda k, v: k.step("quant", v, attributes=quant_attributes(1 / 32, PLAIN, True)), signed=True,
        src_shape=(1, 4, 3), src_strides=(24, 6, 2),
        dst_shape=(1, 3, 6), dst_strides=(18, 6, 1),
    )  # fmt: skip
    entries = check(program, {"in0": noise(3, 4, 6)})
    assert [e.kernel for e in entries if e.what == "mvm"] == ["reference"]


def test_batch_axes_inside_a_buffer_become_windows():
    b = ProgramBuilder(micro_batch=2, micro_batches=1)
    x = b.input((2, 3, 4))
    k = b.kernel()
    codes = k.store(k.step("quant", x, attributes=quant_attributes(1 / 32, PLAIN, True)), "code")
    k.emit()
    # the source is seen as [batch 3, channels 4, spatial 2]: the batch axis is in the middle
    acc = b.buffer("acc", "int64", (2, 3, 5))
    weights = np.random.default_rng(0).integers(-127, 128, (1, 4, 5)).astype(np.int8)
    b.mvm(b.group(weights, weights / 64, PLAIN), codes, acc, True, src_shape=(3, 4, 2), src_strides=(4, 1, 12),
          dst_shape=(3, 5, 2), dst_strides=(5, 1, 15), count=[2], taps=[1], in_base=[0], in_stride=[1],
          in_dilation=[1], out_base=[0], out_stride=[1])  # fmt: skip
    k = b.kernel()
    scale, bias = b.constant(np.full((5,), 1 / 512)), b.constant(np.zeros((5,)))
    y = k.store(k.step("dequant", acc, scale, bias, b.constant(np.zeros((5,), np.float32))))
    k.emit()
    b.output(y)
    entries = check(b.build(), {"in0": noise(4, 3, 4)}, 2)
    assert all(e.lowered for e in entries)


def test_moved_codes_keep_their_range():
    b = ProgramBuilder()
    x = b.input((1, 4, 6))
    k = b.kernel()
    codes = k.store(k.step("quant", x, attributes=quant_attributes(1 / 32, PLAIN, True)), "code")
    k.emit()
    copy = piece(codes, (1, 4, 6), dense_strides((1, 4, 6)), dense_strides((1, 4, 8)), dst_base=1)
    codes = b.move([copy], (1, 4, 8), "int8", "code")
    acc = b.buffer("acc", "int64", (1, 3, 6))
    weights = np.random.default_rng(0).integers(-127, 128, (1, 12, 3)).astype(np.int8)
    b.mvm(b.group(weights, weights / 64, PLAIN), codes, acc, True, count=[6], taps=[3], in_base=[0],
          in_stride=[1], in_dilation=[1], out_base=[0], out_stride=[1])  # fmt: skip
    k = b.kernel()
    scale, bias = b.constant(np.full((3, 1), 1 / 512)), b.constant(np.zeros((3, 1)))
    y = k.store(k.step("dequant", acc, scale, bias, b.constant(np.zeros((3, 1), np.float32))))
    k.emit()
    b.output(y)
    entries = check(b.build(), {"in0": noise(3, 4, 6)})
    assert all(e.lowered for e in entries)


def test_random_arithmetic_covers_both_modes_and_encodings():
    found = {(a.adc_mode, a.encoding) for a in (random_arithmetic(random.Random(s)) for s in range(40))}
    assert len(found) == 4


def program_with_states(batched=True):
    """A weight in a crossbar, and one in a persistent buffer that a kernel reads."""
    b = ProgramBuilder(batched=batched)
    x = b.input((1, 4, 6), batched=batched)
    k = b.kernel()
    codes = k.store(k.step("quant", x, attributes=quant_attributes(1 / 32, PLAIN, True)), "code")
    k.emit()
    acc = b.buffer("acc", "int64", (1, 3, 6))
    real = (np.random.default_rng(0).integers(-127, 128, (1, 4, 3)) / 64).astype(np.float32)
    group = b.group(np.rint(real * 64).astype(np.int8), real, PLAIN, weight_scale=1 / 64)
    b.state("w", "parameter", real, group)
    home = b.kept("scale", "parameter", noise(1, 3, 1))
    b.mvm(group, codes, acc, True, count=[6], taps=[1], in_base=[0], in_stride=[1], in_dilation=[1], out_base=[0],
          out_stride=[1])  # fmt: skip
    k = b.kernel()
    scale, bias = b.constant(np.full((3, 1), 1 / 512)), b.constant(np.zeros((3, 1)))
    y = k.step("dequant", acc, scale, bias, b.constant(np.zeros((3, 1), np.float32)))
    y = k.store(k.step("mul", y, home))
    k.emit()
    b.output(y, batched=batched)
    return b.build()


@pytest.mark.parametrize("numerics", ["quantized", "float"])
def test_states_can_be_read_and_replaced(numerics):
    program = program_with_states()
    inputs = {"in0": noise(3, 4, 6)}
    fast, reference = (Simulator(program, e, numerics, threads=1) for e in ("fast", "reference"))
    for round_ in range(2):
        if round_:
            values = {n: a / 2 for n, a in reference.states().items()}
            fast.load_states(values)
            reference.load_states(values)
        got, expected = fast.run(inputs)["out0"], reference.run(inputs)["out0"]
        if numerics == "quantized":
            np.testing.assert_array_equal(got, expected)
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)
        for name, state in reference.states().items():
            np.testing.assert_array_equal(fast.states()[name], state)


def test_states_that_kernels_change():
    b = ProgramBuilder(batched=False)
    x = b.input((1, 3), batched=False)
    home = b.kept("mean", "statistic", noise(1, 3))
    k = b.kernel()
    y = k.step("add", x, home)
    k.stores.append(Result(y, home.index))
    out = k.store(y)
    k.emit()
    b.output(out, batched=False)
    program = b.build()
    simulators = [Simulator(program, engine) for engine in ("reference", "fast")]
    for _ in range(3):
        first, second = (s.run_iteration({program.inputs[0].name: noise(1, 3)}) for s in simulators)
        np.testing.assert_array_equal(first[program.outputs[0].name], second[program.outputs[0].name])
    np.testing.assert_array_equal(simulators[0].states()["mean"], simulators[1].states()["mean"])


@pytest.mark.parametrize("value", [np.float32(3), np.array(3, np.float32), np.float64(3), np.ones((2, 3), "f").T])
def test_graphs_take_what_instructions_leave(value):
    item = GraphItem(GraphBuilder())
    slot, result = (Slot(k, value.shape, np.dtype(np.float32), False) for k in range(2))
    item.feeds["x"] = slot
    x = item.graph.input("x", slot.dtype)
    item.fetches[item.graph.output(item.graph.node("Add", x, x), "y", slot.dtype)] = result
    arrays = {slot.id: value}
    item.run(RunContext(kernel_program(lambda b, k, x: k.step("copy", x)), False, 1), arrays, 1, 1)
    np.testing.assert_array_equal(arrays[result.id], 2 * value)
