"""drain-sums: the same bits with and without, and sums that are stored nowhere."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import Network, chain, level2, networks, plan, program_of, small_target

from mgc.compiler import compile_training
from mgc.ir import ops
from mgc.ir.mapped import Mvm, MvmT, Vec
from mgc.ir.types import DType, TensorType
from mgc.isa import instructions as isa
from mgc.passes.lowering.drain_sums import drain_sums
from mgc.passes.mapping.durations import sizes_of
from mgc.passes.streaming.analysis import Streaming
from mgc.sim import Simulator

TARGET = small_target()
DATA = Path(__file__).parents[2] / "data" / "training"


def without_drains(target):
    return target.replace({"vector.drain_lanes_per_tile": 0})


def compiled(graph, target):
    return program_of(plan(level2(graph, target), target), target)


ENGINES = (("reference", "quantized"), ("fast", "quantized"), ("fast", "device"))


def runs(program, inputs):
    return [Simulator(program, engine, numerics).run(inputs) for engine, numerics in ENGINES]


def sums_stored(program):
    return [b.name for b in program.buffers if b.kind == "acc"]


@settings(max_examples=25, deadline=None)
@given(networks(), st.integers(0, 9))
def test_a_network_gives_the_same_bits(graph, seed):
    inputs = {v.name: np.random.default_rng(seed).normal(size=v.shape).astype(np.float32) for v in graph.inputs}
    drained, stored = compiled(graph, TARGET), compiled(graph, without_drains(TARGET))
    assert not any(isinstance(i, isa.Mvm) and i.stores for i in stored.instructions)
    assert len(sums_stored(drained)) <= len(sums_stored(stored))
    for one, other in zip(runs(drained, inputs), runs(stored, inputs), strict=True):
        for name, value in other.items():
            assert one[name].tobytes() == value.tobytes(), name
    first, second = (r["y"] for r in runs(drained, inputs)[:2])
    assert first.tobytes() == second.tobytes()


@settings(max_examples=40, deadline=None)
@given(networks())
def test_a_graph_computes_the_same(graph):
    lowered = level2(graph, TARGET)
    made = lowered.copy()
    drain_sums(made, Streaming(), sizes_of(made, TARGET))
    inputs = [np.random.default_rng(3).normal(size=v.shape).astype(np.float32) for v in graph.inputs]
    for one, other in zip(evaluated(made, inputs), evaluated(lowered, inputs), strict=True):
        assert one.tobytes() == other.tobytes()
    at = {n: k for k, n in enumerate(made.nodes)}
    for node in made.nodes:
        assert all(at[made.producer(v)] < at[node] for v in node.inputs if made.producer(v) is not None)


def evaluated(graph, inputs):
    held = {v: c.data for v, c in graph.constants.items()} | dict(zip(graph.inputs, inputs, strict=True))
    for node in graph.nodes:
        held.update(zip(node.outputs, node.op.evaluate(*(held[v] for v in node.inputs)), strict=True))
    return [held[v] for _, v in graph.outputs]


def test_codes_are_all_that_layers_hand_on():
    program = compiled(chain(3), TARGET)
    assert not sums_stored(program)
    inner = [i for i in program.instructions if isinstance(i, isa.Mvm)][:-1]
    assert all([s.name for s in i.steps] == ["dequant", "relu", "quant"] and i.dst == -1 for i in inner)
    assert [i.mnemonic for i in program.instructions if i.timed] == ["load", "vec", "mvm", "mvm", "mvm", "store"]


@pytest.mark.parametrize(("pads", "drains"), [((0, 0, 0, 0), True), ((1, 1, 1, 1), True), ((2, 2, 0, 0), False)])
def test_maxima_are_taken_of_codes(pads, drains):
    net = Network()
    x = net.graph.add_input("x", TensorType(DType.F32, (1, 3, 6, 6)))
    pooled = net.add(ops.Pool("max", (2, 2), (2, 2), pads, (1, 1)), net.add(ops.Unary("relu"), net.conv(x, 4)))
    net.graph.outputs = [("y", net.conv(pooled, 3))]
    program = compiled(net.graph, TARGET)
    (first, _) = [i for i in program.instructions if isinstance(i, isa.Mvm)]
    assert ([s.name for s in first.steps][-1] == "quant") is drains
    inputs = {"x": np.random.default_rng(0).normal(size=(1, 3, 6, 6)).astype(np.float32)}
    found, other = runs(program, inputs), runs(compiled(net.graph, without_drains(TARGET)), inputs)
    assert [f["y"].tobytes() for f in found] == [o["y"].tobytes() for o in other]


def test_sums_that_two_read_or_that_have_holes_are_stored():
    net = Network()
    x = net.graph.add_input("x", TensorType(DType.F32, (1, 3, 6, 6)))
    y = net.conv_transpose(x, 3, 1)  # a kernel of one tap leaves three of four positions alone
    net.graph.outputs = [("y", net.add(ops.Unary("relu"), y))]
    graph = level2(net.graph, TARGET)
    drain_sums(graph, Streaming(), sizes_of(graph, TARGET))
    assert not any(isinstance(n.op, Vec) and n.op.drains for n in graph.nodes)
    graph = level2(chain(1), TARGET)
    (product,) = [n for n in graph.nodes if isinstance(n.op, Mvm)]
    graph.outputs.append(("sums", product.outputs[0]))
    drain_sums(graph, Streaming(), sizes_of(graph, TARGET))
    assert not any(isinstance(n.op, Vec) and n.op.drains for n in graph.nodes)


def trained(lanes):
    return compile_training(
        DATA / "dcgan_G_ts.onnx",
        discriminator=DATA / "dcgan_D_ts.onnx",
        loss="bce",
        optimizer="adam",
        batch=4,
        overrides={"vector.drain_lanes_per_tile": lanes, "training.copies": "least"},
    )


@pytest.fixture(scope="module")
def gan():
    return trained(12), trained(0)


def feeds(program, seed):
    rng = np.random.default_rng(seed)
    shapes = {p.name: p.shape for p in program.inputs}
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def test_training_gives_the_same_bits(gan):
    drained, stored = gan
    assert {type(i) for i in drained.instructions if getattr(i, "stores", ()) and hasattr(i, "group")} == {
        isa.Mvm,
        isa.MvmT,
    }
    found = []
    for program, engine in ((drained, "reference"), (drained, "fast"), (stored, "fast")):
        simulator = Simulator(program, engine)
        outputs = [simulator.run_iteration(feeds(program, seed)) for seed in range(2)]
        found.append([a.tobytes() for o in (*outputs, simulator.states()) for a in map(np.asarray, o.values())])
    assert found[0] == found[1] == found[2]


def test_a_transposed_read_that_drains_holds_lines(gan):
    drained, stored = gan
    reads = [i for i in drained.instructions if isinstance(i, isa.MvmT) and i.stores]
    assert reads
    for i in reads:
        held, result = drained.buffers[i.dst], drained.buffers[i.stores[0].dst]
        assert held.kind == "acc"
        assert held.shape[2] == min(result.shape[2], i.windows.taps[0])
    assert drained.meta["energy"]["vector"] == pytest.approx(stored.meta["energy"]["vector"], rel=1e-3)


def test_kernels_and_drains_of_a_plan_agree(gan):
    """What is left of a kernel has the drain's results, and no product is done twice."""
    graph = level2(chain(2), TARGET)
    made = plan(graph, TARGET)
    kinds = [op.kind for op in made.operations]
    products = [n for n in made.graph.nodes if isinstance(n.op, Mvm | MvmT)]
    assert kinds.count("mvm") == sum(len(n.op.parts) for n in products)
    assert all(op.drain is not None for op in made.operations if op.kind == "mvm")


@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize("fn", ["add", "sub", "mul"])
def test_kernels_of_several_products_drain_one_after_the_other(count, fn):
    """As a Fourier transform's real part is made: what one drain hands on is an operand of the next one's kernel."""
    net = Network()
    x = net.graph.add_input("x", TensorType(DType.F32, (1, 3, 6, 6)))
    y = net.conv(x, 4)
    for _ in range(count - 1):
        y = net.add(ops.Binary(fn), y, net.conv(x, 4))
    net.graph.outputs = [("y", y)]
    inputs = {"x": np.random.default_rng(0).normal(size=(1, 3, 6, 6)).astype(np.float32)}
    drained, stored = compiled(net.graph, TARGET), compiled(net.graph, without_drains(TARGET))
    for one, other in zip(runs(drained, inputs), runs(stored, inputs), strict=True):
        assert one["y"].tobytes() == other["y"].tobytes()
