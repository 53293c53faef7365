"""Training steps lowered to crossbar groups: equal to the step itself, whatever the geometry; states are exact."""

from itertools import pairwise

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import assume, given, settings
from steps import assert_close, feeds_of, initial, run_lowered, step_of, to_homes, to_states

from mgc.ir.mapped import Mvm, MvmT, Outer, UpdateCells
from mgc.ir.op import IRError
from mgc.ir.ops import Adam, Conv, ConvTranspose, MatMul, Sgd, Update
from mgc.ir.training import Phase
from mgc.ir.verifier import verify
from mgc.passes.lowering.trained.entries import HEADROOM, lower_training
from mgc.passes.manager import UnsupportedError
from mgc.targets.loader import load_target

TARGET = load_target("liu2018")
ONE_WAY = TARGET.model_copy(update={"training": TARGET.training.model_copy(update={"transposed_read": False})})


def lowered(step, target=TARGET):
    found = lower_training([step.graph], step.states, target)
    (graph,) = found.graphs
    verify(graph, levels=(1, 2))
    return graph, found.residents


def ops_of(graph, kind):
    return [n.op for n in graph.nodes if isinstance(n.op, kind)]


def follow(step, iterations=2, tolerance=1e-5, target=TARGET):
    """The level-2 graph does what the step does; states go to their homes and back without a change."""
    graph, residents = lowered(step, target)
    rng = np.random.default_rng(0)
    states = initial(step)
    homes = to_homes(residents, states)
    assert_same(to_states(residents, homes, states), states)
    for _ in range(iterations):
        feeds = feeds_of(step, rng)
        losses, states = step.run(feeds, states)
        out, homes = run_lowered(graph, residents, feeds, homes)
        np.testing.assert_allclose(out["loss"], losses["loss"], rtol=tolerance, atol=tolerance)
        assert_close(to_states(residents, homes, initial(step)), states, tolerance)
    return graph, residents


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert np.array_equal(found[name], value), name


@st.composite
def convolutions(draw):
    """(op, input shape, weight shape) of a random (transposed) convolution, 1-D or 2-D."""
    rank = draw(st.integers(1, 2))
    groups = draw(st.sampled_from([1, 1, 2]))
    c, m = (groups * draw(st.integers(1, 3)) for _ in range(2))

    def numbers(low, high):
        return tuple(draw(st.integers(low, high)) for _ in range(rank))

    kernel, strides, dilations = numbers(1, 4), numbers(1, 3), numbers(1, 2)
    pads = tuple(draw(st.integers(0, 2)) for _ in range(2 * rank))
    spatial = numbers(1, 6)
    batch = draw(st.integers(1, 3))
    if draw(st.booleans()):
        left = tuple(draw(st.integers(0, max(0, s - 1))) for s in strides)
        return ConvTranspose(strides, pads, left, dilations, groups), (batch, c, *spatial), (c, m // groups, *kernel)
    return Conv(strides, pads, dilations, groups), (batch, c, *spatial), (m, c // groups, *kernel)


@settings(deadline=None, max_examples=150)
@given(convolutions(), st.integers(0, 1 << 30), st.sampled_from([TARGET, ONE_WAY]))
def test_kernels(case, seed, target):
    """Two layers, so that the gradient of an input is there as well: a 1x1 product, then the convolution."""
    op, x, w = case
    rng = np.random.default_rng(seed)
    first = rng.standard_normal((x[1], x[1], *(1,) * (len(x) - 2))).astype(np.float32)
    weights = {"a.weight": first, "b.weight": rng.standard_normal(w).astype(np.float32)}
    plain = Conv((1,) * (len(x) - 2), (0,) * 2 * (len(x) - 2), (1,) * (len(x) - 2))

    def make(build, values):
        hidden = build.emit(plain, values["x"], values["a.weight"])
        return build.emit(op, build.unary("tanh", hidden), values["b.weight"])

    try:
        step = step_of(make, {"x": x}, weights)
    except IRError:
        assume(False)
        raise
    graph, _ = follow(step, tolerance=2e-5, target=target)
    kinds = {n.op.name for n in graph.nodes}
    assert not kinds & {"conv", "conv_transpose", "conv_weight_grad", "update"}


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.integers(1, 3), min_size=1, max_size=2),
    st.integers(1, 5),
    st.integers(1, 5),
    st.booleans(),
    st.booleans(),
    st.integers(0, 1 << 30),
)
def test_matrices(lead, k, n, weight_left, turned, seed):
    """x @ w and w @ x for stacks of x; w as it is stored, or transposed (as PyTorch's Linear has it)."""
    rng = np.random.default_rng(seed)
    shape = (n, k) if weight_left != turned else (k, n)
    weights = {"w": rng.standard_normal(shape).astype(np.float32)}
    x = (*lead, k, 2) if weight_left else (*lead, k)
    assume(not (weight_left and len(lead) > 1))

    def make(build, values):
        w = build.swap(values["w"]) if turned else values["w"]
        hidden = build.unary("tanh", values["x"])
        if weight_left:
            return build.matmul(w, hidden)
        if len(x) == 1:
            hidden = build.reshape(hidden, (1, k))
        return build.matmul(hidden, w)

    graph, residents = follow(step_of(make, {"x": x}, weights), tolerance=2e-5)
    assert len(residents.groups) == 1
    assert ops_of(graph, Mvm)


def linear(build, values, name, x):
    return build.add(build.matmul(x, build.swap(values[f"{name}.weight"])), values[f"{name}.bias"])


def mlp(rng, sizes=(3, 4, 2)):
    weights = {}
    for i, (k, n) in enumerate(pairwise(sizes)):
        weights[f"l{i}.weight"] = rng.standard_normal((n, k)).astype(np.float32)
        weights[f"l{i}.bias"] = rng.standard_normal(n).astype(np.float32)

    def make(build, values):
        x = values["x"]
        for i in range(len(sizes) - 1):
            x = build.unary("leaky_relu", linear(build, values, f"l{i}", x), 0.2)
        return x

    return make, weights


def test_what_becomes_of_a_network():
    make, weights = mlp(np.random.default_rng(1))
    step = step_of(make, {"x": (5, 3)}, weights, Adam(0.01))
    graph, residents = follow(step)
    assert len(ops_of(graph, Mvm)) == 2
    assert len(ops_of(graph, MvmT)) == 1  # nobody asks for the gradient of the first layer's input
    assert len(ops_of(graph, Outer)) == 2
    assert len(ops_of(graph, UpdateCells)) == 2
    assert len(ops_of(graph, Update)) == 2  # biases
    assert not ops_of(graph, MatMul)
    assert [r.name for r in residents.groups] == ["l0.cells", "l1.cells"]
    counters = [r for r in residents.buffers if r.state == "net.steps"]
    assert [c.initial.dtype for c in counters] == [np.int64]
    moments = {r.state for r in residents.buffers if r.state.startswith("l0.weight.")}
    assert moments == {"l0.weight.adam.m", "l0.weight.adam.v"}


def test_room_for_weights_to_grow():
    make, weights = mlp(np.random.default_rng(1))
    _, residents = lowered(step_of(make, {"x": (5, 3)}, weights))
    for group in residents.groups:
        most = float(np.abs(weights[group.state]).max())
        assert group.weight_scale * 32767 == pytest.approx(HEADROOM * most, rel=1e-6)
    phase = Phase("net", "loss", clip=0.5)
    small = {name: value * 0.01 for name, value in weights.items()}
    _, residents = lowered(step_of(make, {"x": (5, 3)}, small, phase=phase))
    assert {g.weight_scale for g in residents.groups} == {float(np.float32(0.5 / 32767))}


def test_a_weight_read_twice_is_stored_once():
    rng = np.random.default_rng(2)
    weights = {"w": rng.standard_normal((4, 4)).astype(np.float32)}

    def make(build, values):
        return build.matmul(build.unary("tanh", build.matmul(values["x"], values["w"])), values["w"])

    graph, residents = follow(step_of(make, {"x": (3, 4)}, weights))
    assert len(residents.groups) == 1
    assert len(ops_of(graph, Mvm)) == 2


def test_a_matrix_with_other_uses_is_left_to_the_vector_unit():
    rng = np.random.default_rng(2)
    weights = {"w": rng.standard_normal((3, 3)).astype(np.float32)}

    def make(build, values):
        return build.add(build.matmul(values["x"], values["w"]), build.mul(values["w"], 2.0))

    graph, residents = follow(step_of(make, {"x": (3, 3)}, weights))
    assert not residents.groups
    assert ops_of(graph, MatMul)
    assert ops_of(graph, Update)


@pytest.mark.parametrize(
    ("op", "shape", "held"),
    [
        (Conv((1,), (0, 0), (1,)), (5, 2, 1), 1),
        (Conv((2,), (1, 1), (1,)), (2, 2, 3), 1),
        (ConvTranspose((2,), (1, 1), (0,), (1,)), (2, 3, 4), 2),  # its residue classes lie apart: a copy is read
        (Conv((1,), (1, 1), (1,), 2), (4, 1, 3), 2),
    ],
)
def test_a_kernel_with_other_uses_is_read_from_its_cells(op, shape, held):
    """A decay in the loss, and rows that should stand upright to one another."""
    rng = np.random.default_rng(2)
    weights = {"net.weight": rng.standard_normal(shape).astype(np.float32)}

    def make(build, values):
        w = values["net.weight"]
        y = build.emit(op, values["x"], w)
        rows = build.reshape(w, (shape[0], -(-w.tensor.size // shape[0])))
        upright = build.total(build.unary("abs", build.matmul(rows, build.transpose(rows, (1, 0)))))
        return build.add(build.add(y, build.total(build.mul(w, w))), upright)

    graph, residents = follow(step_of(make, {"x": (1, 2, 6)}, weights))
    assert len({r.layer for r in residents.groups}) == held
    assert ops_of(graph, Mvm) or ops_of(graph, MvmT)


def test_a_kernel_that_is_computed_is_refused_by_name():
    """Weight normalisation: w = g v / |v|."""
    weights = {"v": np.ones((2, 2, 1), np.float32), "g": np.ones((2, 1, 1), np.float32)}

    def make(build, values):
        norm = build.unary("sqrt", build.reduce("sum", build.mul(values["v"], values["v"]), (1, 2)))
        w = build.mul(build.div(values["v"], norm), values["g"])
        return build.emit(Conv((1,), (0, 0), (1,)), values["x"], w)

    step = step_of(make, {"x": (1, 2, 4)}, weights)
    with pytest.raises(UnsupportedError, match=r"the kernel of conv .* is computed from other values"):
        lower_training([step.graph], step.states, TARGET)


def test_a_target_without_transposed_reads_has_copies():
    """The gradient of an input is a product of its own cells, which are updated like the first ones, to the bit."""
    rng = np.random.default_rng(4)
    weights = {"a.weight": rng.standard_normal((2, 3, 3)).astype(np.float32)}
    weights["b.weight"] = rng.standard_normal((2, 2, 2)).astype(np.float32)

    def make(build, values):
        hidden = build.emit(Conv((1,), (1, 1), (1,)), values["x"], values["a.weight"])
        return build.emit(ConvTranspose((2,), (0, 0), (0,), (1,)), hidden, values["b.weight"])

    step = step_of(make, {"x": (2, 3, 4)}, weights, Adam(0.01))
    graph, residents = follow(step, target=ONE_WAY)
    assert not ops_of(graph, MvmT)
    # b is read both ways: forward as two residue classes, backward as one convolution
    assert [r.name for r in residents.groups] == ["a.cells", "b.0.cells", "b.1.cells", "b.copy1.cells"]
    homes = to_homes(residents, initial(step))
    rng = np.random.default_rng(0)
    for _ in range(3):
        _, homes = run_lowered(graph, residents, feeds_of(step, rng), homes)
    for state in ("b.weight", "b.weight.adam.m", "b.weight.adam.v"):
        copies = [r for r in residents.all if r.state == state]
        first = to_states(residents, homes, {s.name: s.initial for s in step.states})[state]
        for resident in copies:
            assert np.array_equal(
                to_homes(residents, {**initial(step), state: first})[resident.name], homes[resident.name]
            )
    both, _ = lowered(step)
    assert ops_of(both, MvmT)


def test_taps_in_padding_hold_no_cells_unless_they_are_clipped():
    """A 1x1 input meets one tap of a kernel of 3 with padding 1; the other eight never change, but a clip sees them."""
    rng = np.random.default_rng(3)
    weights = {"w": rng.standard_normal((2, 2, 3, 3)).astype(np.float32)}

    def make(build, values):
        return build.emit(Conv((1, 1), (1, 1, 1, 1), (1, 1)), values["x"], values["w"])

    _, residents = follow(step_of(make, {"x": (2, 2, 1, 1)}, weights, Sgd(0.1)))
    assert sum(g.initial.size for g in residents.groups) == 4
    _, residents = follow(step_of(make, {"x": (2, 2, 1, 1)}, weights, Sgd(0.1), Phase("net", "loss", clip=0.3)))
    assert sum(g.initial.size for g in residents.groups) == 36
