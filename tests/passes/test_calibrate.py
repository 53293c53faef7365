"""calibrate: where samples come from, what is observed, and how far codes reach."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import networks
from pass_graphs import state_of

from mgc.compiler import compile_tools
from mgc.ir.graph import Graph, evaluate
from mgc.ir.mapped import Lookup
from mgc.ir.ops import Binary, Cast, Conv, Gather, MatMul, Reduce, Reshape, Unary
from mgc.ir.text import print_module
from mgc.ir.types import DType, OpaqueType, TensorType
from mgc.passes.lowering.lower_linear import LowerLinear
from mgc.passes.quantizing import sensitivity
from mgc.passes.quantizing.calibrate import Calibration, Scales
from mgc.passes.quantizing.codes import codes_for, normal_reach, worth_shifting
from mgc.passes.quantizing.extremes import observe
from mgc.passes.quantizing.observed import coded_values
from mgc.passes.quantizing.quantize import Quantize, Ranges, tabulate
from mgc.passes.quantizing.samples import take_samples
from mgc.passes.quantizing.sensitivity import worths
from mgc.passes.quantizing.trials import whole_network
from mgc.passes.state import CompileState, Tools, UnsupportedError


class Interpreter:
    """Stands in for exporter and runtime: keeps the graph and evaluates it."""

    def __init__(self) -> None:
        self.graphs: list[Graph] = []
        self.ran = 0

    def tools(self) -> Tools:
        return Tools(self.export, self.run)

    def export(self, graph: Graph) -> bytes:
        self.graphs.append(graph.copy())
        return str(len(self.graphs) - 1).encode()

    def run(self, model: bytes, feeds: Sequence[Mapping[str, np.ndarray]]) -> Sequence[Mapping[str, np.ndarray]]:
        self.ran += len(feeds)
        return [evaluate(self.graphs[int(model)], dict(f)) for f in feeds]


def one_input(shape: tuple[int, ...], dtype: DType = DType.F32) -> Graph:
    graph = Graph()
    x = graph.add_input("x", TensorType(dtype, shape))
    graph.outputs = [("y", x)]
    return graph


def samples_of(graph: Graph, *, count: int, seed: int = 0, calibration_data: Mapping[str, np.ndarray] | None = None):
    return take_samples(graph, calibration_data or {}, seed, count)


def calibrated(state: CompileState, scales: Scales) -> Calibration:
    return scales.run(state).entry.attributes["calibration"]


class TestSamples:
    def test_noise_is_repeatable_and_depends_on_the_seed(self) -> None:
        first, again, other = (samples_of(one_input((1, 3)), seed=s, count=4) for s in (0, 0, 1))
        for a, b in zip(first.feeds, again.feeds, strict=True):
            np.testing.assert_array_equal(a["x"], b["x"])
        assert not np.array_equal(first.feeds[0]["x"], other.feeds[0]["x"])
        assert first.noise == ("x",)
        assert first.feeds[0]["x"].dtype == np.float32

    def test_arrays_are_cut_along_axis_0_and_thinned_evenly(self) -> None:
        data = np.arange(100, dtype=np.float64)[:, None] * np.ones(3)
        samples = samples_of(one_input((1, 3)), calibration_data={"x": data}, count=5)
        assert [float(f["x"][0, 0]) for f in samples.feeds] == [0.0, 25.0, 50.0, 74.0, 99.0]
        assert samples.feeds[0]["x"].shape == (1, 3)
        assert samples.noise == ()

    def test_a_whole_batch_takes_consecutive_samples(self) -> None:
        data = np.arange(7, dtype=np.float32)[:, None]
        samples = samples_of(one_input((3, 1)), calibration_data={"x": data}, count=10)
        assert [f["x"][:, 0].tolist() for f in samples.feeds] == [[0, 1, 2], [3, 4, 5]]

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            ({"y": np.zeros((2, 3))}, "no input 'y'; the inputs are x"),
            ({"x": np.zeros((2, 4))}, r"'x' has shape \[2, 4\]: \[samples, 3\] is needed"),
            ({"x": np.zeros((0, 3))}, "'x' has 0 samples"),
            ({"x": np.full((2, 3), np.nan)}, "'x' has NaN or infinite entries"),
            ({"x": np.full((2, 3), "a")}, "'x' has element type"),
        ],
    )
    def test_arrays_that_do_not_fit_are_refused(self, data: dict[str, np.ndarray], message: str) -> None:
        with pytest.raises(UnsupportedError, match=message):
            samples_of(one_input((1, 3)), calibration_data=data, count=4)

    def test_integers_are_drawn_within_the_table_that_they_index(self) -> None:
        graph = Graph()
        label = graph.add_input("label", TensorType(DType.I64, (1, 8)))
        table = graph.add_constant(np.zeros((10, 4), np.float32), "table")
        flat = graph.add(Reshape((8,)), graph.add(Cast(DType.I32), label))
        graph.outputs = [("y", graph.add(Gather(0), table, flat))]
        samples = samples_of(graph, count=50)
        drawn = np.concatenate([f["label"].ravel() for f in samples.feeds])
        assert drawn.dtype == np.int64
        assert set(drawn) == set(range(10))
        assert "'label' is i64 and no calibration data was given: whole numbers in 0..9" in samples.warnings[0]
        assert samples.noise == ()


def test_observes_operands_of_weights_and_of_tables() -> None:
    graph = Graph()
    x = graph.add_input("x", TensorType(DType.F32, (1, 2, 6)))
    w = graph.add_constant(np.ones((3, 2, 3), np.float32), "w")
    h = graph.add(Conv((1,), (1, 1), (1,)), x, w, name="h")
    t = graph.add(Unary("tanh"), graph.add(Unary("relu"), h, name="r"), name="t")
    graph.outputs = [("y", graph.add(MatMul(), t, graph.add_constant(np.ones((6, 2), np.float32))))]
    feeds = [{"x": np.random.default_rng(k).normal(size=(1, 2, 6)).astype(np.float32)} for k in range(3)]
    seen = observe(graph, feeds, Interpreter().tools())
    assert list(seen) == ["x", "t", "r"]
    np.testing.assert_array_equal(seen["x"][0], [f["x"].min() for f in feeds])
    np.testing.assert_array_equal(seen["x"][1], [f["x"].max() for f in feeds])
    assert np.all(seen["t"][0] >= 0)


@given(st.lists(st.floats(width=32), min_size=1, max_size=5))
def test_what_is_not_finite_leaves_a_range_that_holds_0(numbers: list[float]) -> None:
    graph = Graph()
    x = graph.add_input("x", TensorType(DType.F32, (len(numbers),)))
    graph.outputs = [("y", graph.add(Unary("atan"), x))]
    low, high = (e[0] for e in observe(graph, [{"x": np.array(numbers, np.float32)}], Interpreter().tools())["x"])
    finite = [v if np.isfinite(v) else 0.0 for v in numbers]
    assert -np.inf < low <= high < np.inf
    assert min(finite) <= low
    assert high <= max(finite)
    if np.all(np.isfinite(numbers)):
        assert (low, high) == (min(finite), max(finite))
    else:
        assert low <= 0 <= high


@given(st.lists(st.floats(width=32), min_size=1, max_size=5), st.sampled_from(["exp", "log", "tanh", "atan", "sin"]))
def test_a_constant_that_is_not_finite_has_a_range_and_a_table(numbers: list[float], fn: str) -> None:
    graph = Graph()
    x = graph.add_constant(np.array(numbers, np.float32), "x")
    graph.outputs = [("y", graph.add(Unary(fn), x))]
    ranges = Ranges(graph, Calibration((), {}))
    finite = [v if np.isfinite(v) else 0.0 for v in numbers]
    assert ranges.of(x) == (min(finite), max(finite))
    tabulate(graph, ranges, 16)
    (node,) = graph.nodes
    lookup, (_, *table) = node.op, node.inputs
    assert isinstance(lookup, Lookup)
    assert np.isfinite([lookup.lo, lookup.step, *(n for v in table for n in graph.constants[v].data)]).all()


def test_nothing_runs_where_nothing_is_coded() -> None:
    graph = Graph()
    x = graph.add_input("x", OpaqueType())
    graph.outputs = [("y", x)]
    assert calibrated(state_of(graph), Scales()).ranges == {}


def test_big_constants_are_fed_not_exported() -> None:
    graph = Graph()
    x = graph.add_input("x", TensorType(DType.F32, (1, 100)))
    w = graph.add_constant(np.ones((100, 100), np.float32), "w")
    graph.outputs = [("y", graph.add(Unary("tanh"), graph.add(MatMul(), x, w)))]
    interpreter = Interpreter()
    observe(graph, [{"x": np.ones((1, 100), np.float32)}], interpreter.tools())
    (exported,) = interpreter.graphs
    assert [v.name for v in exported.inputs] == ["x", "w"]
    assert [v.name for v in graph.inputs] == ["x"]


@pytest.mark.parametrize(("seed", "outlier", "size"), [(0, 50, 10.0), (1, 20, 10.0), (2, 50, 1.0), (3, 8, 0.1)])
def test_reaches_are_nearly_as_good_as_the_best_that_brute_force_finds(seed: int, outlier: int, size: float) -> None:
    """One sample in ten has activations many times the others'; the tanh at the end saturates on it, more or less."""
    rng = np.random.default_rng(seed)
    graph = Graph()
    x = graph.add_input("x", TensorType(DType.F32, (1, 16)))
    h = graph.add(Unary("relu"), x, name="h")
    weights = (rng.normal(size=(16, 64)) * size).astype(np.float32)
    second = graph.add_constant(weights, "second")
    graph.outputs = [("y", graph.add(Unary("tanh"), graph.add(MatMul(), h, second)))]
    data = rng.normal(size=(60, 16)).astype(np.float32)
    data[::10] *= outlier
    state = state_of(graph, tools=Interpreter().tools(), calibration_data={"x": data})
    low, high = calibrated(state, Scales("error")).reaches["h"]
    assert low == 0
    held = np.maximum(data, 0)

    def error(reach: float) -> float:
        steps = codes_for((0.0, reach), 8, unsigned=True)
        coded = steps.stored(held) * steps.scale
        return float(np.square(np.tanh(coded @ weights) - np.tanh(held @ weights)).sum())

    best = min(error(reach) for reach in np.geomspace(0.2, held.max(), 200))
    assert error(high) < 2 * best
    assert error(high) <= error(float(held.max())) * 1.01
    assert calibrated(state, Scales("minmax")).reaches == {}


def test_an_output_that_is_a_score_is_judged_by_layers() -> None:
    rng = np.random.default_rng(0)
    graph = Graph()
    x = graph.add_input("x", TensorType(DType.F32, (1, 16)))
    h = graph.add(MatMul(), x, graph.add_constant(rng.normal(size=(16, 32)).astype(np.float32)), name="m")
    h = graph.add(Unary("leaky_relu", 0.2), h, name="h")
    graph.outputs = [("y", graph.add(MatMul(), h, graph.add_constant(rng.normal(size=(32, 1)).astype(np.float32))))]
    calibration = calibrated(state_of(graph, tools=Interpreter().tools()), Scales("error"))
    assert calibration.reaches["x"] == normal_reach(8)
    (low, high), (least, most) = calibration.reaches["h"], calibration.ranges["h"]
    assert least <= low <= 0.4 * least < 0 < 0.4 * most <= high <= most


def test_a_network_too_large_to_search_keeps_its_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = Graph()
    x = graph.add_input("x", TensorType(DType.F32, (1, 16)))
    h = graph.add(Unary("relu"), x, name="h")
    graph.outputs = [("y", graph.add(MatMul(), h, graph.add_constant(np.ones((16, 64), np.float32))))]
    state = state_of(graph, tools=Interpreter().tools())
    assert set(calibrated(state, Scales()).reaches) == {"h"}
    monkeypatch.setattr(sensitivity, "_SEARCH_MACS", 10)
    assert calibrated(state, Scales()).reaches == {}


def test_reach_of_codes_for_noise_is_the_known_optimum() -> None:
    # Max (1960), "Quantizing for minimum distortion": steps of the best uniform quantiser of N(0,1)
    assert normal_reach(8)[1] == pytest.approx(127 * 0.0308, rel=0.03)
    assert normal_reach(4)[1] == pytest.approx(7 * 0.3352, rel=0.08)


def test_codes_hold_their_reach() -> None:
    signed, unsigned = (codes_for((-1.0, 2.0), 8, unsigned=u) for u in (False, True))
    assert (signed.lo, signed.hi, signed.dtype) == (-128, 127, DType.I8)
    assert (unsigned.lo, unsigned.hi, unsigned.dtype) == (0, 255, DType.U8)
    assert signed.stored(np.array([2.0, -9.0, np.nan])).tolist() == [127, -128, 0]
    assert unsigned.stored(np.array([2.0, -1.0, np.nan])).tolist() == [255, 0, 0]
    assert codes_for((0.0, 0.0), 8, unsigned=True).scale == 1.0


@settings(max_examples=100, deadline=None)
@given(st.floats(-100, 0), st.floats(0, 100), st.integers(1, 16))
def test_shifted_codes(low: float, high: float, bits: int) -> None:
    codes = codes_for((low, high), bits, unsigned=False, shifted=True)
    assert (codes.lo, codes.hi) == (0, 2**bits - 1)
    assert 0 <= codes.zero <= codes.hi
    assert codes.stored(np.zeros(1))[0] == codes.zero
    assert codes.steps(np.zeros(1))[0] == 0
    x = np.linspace(low, high, 33).astype(np.float32)
    off = np.abs(codes.steps(x) * codes.scale - x)
    # rounding the code of 0 may cost half a step at one end
    assert np.all(off <= 1.01 * codes.scale + 1e-5 * np.abs(x))


def test_lopsided_ranges_are_worth_shifting() -> None:
    assert worth_shifting((-0.2, 1.0))
    assert worth_shifting((-1.0, 0.0))
    assert not worth_shifting((-1.0, 0.9))
    assert not worth_shifting((0.0, 0.0))


def test_several_inputs_and_no_float_output() -> None:
    graph = Graph()
    a = graph.add_input("a", TensorType(DType.F32, (1, 4)))
    b = graph.add_input("b", TensorType(DType.F32, (1, 4)))
    h = graph.add(MatMul(), graph.add(Binary("add"), a, b, name="s"), graph.add_constant(np.eye(4, dtype=np.float32)))
    graph.outputs = [("y", graph.add(Cast(DType.I32), h))]
    state = state_of(graph, tools=Interpreter().tools(), calibration_data={"a": np.ones((9, 4))})
    state = Scales("error").run(state)
    assert "s" in state.entry.attributes["calibration"].reaches
    assert state.warnings == ["calibration data has no array for input 'b': it was drawn"]


def test_the_worth_of_values_is_that_of_the_outputs_gradients() -> None:
    """Against the exact Jacobian of a small network: tanh(relu(x A) B) C."""
    rng = np.random.default_rng(4)
    a, b, c = (rng.standard_normal(shape).astype(np.float32) for shape in ((6, 8), (8, 8), (8, 40)))
    graph = Graph()
    x = graph.add_input("x", TensorType(DType.F32, (1, 6)))
    h = graph.add(Unary("relu"), graph.add(MatMul(), x, graph.add_constant(a)), name="h")
    t = graph.add(Unary("tanh"), graph.add(MatMul(), h, graph.add_constant(b)), name="t")
    graph.outputs = [("y", graph.add(MatMul(), t, graph.add_constant(c)))]
    data = rng.standard_normal((64, 6)).astype(np.float32)
    found, seen, _ = worths(graph, ["x", "h", "t"], [{"x": row[None]} for row in data], Interpreter().tools())
    alone = observe(graph, [{"x": row[None]} for row in data], Interpreter().tools())
    assert {n: [e.tolist() for e in both] for n, both in seen.items()} == {
        n: [e.tolist() for e in both] for n, both in alone.items()
    }
    hs = np.maximum(data @ a, 0)
    ts = np.tanh(hs @ b)
    of_t = [np.eye(8) for _ in ts]
    of_h = [b * (1 - t * t) for t in ts]
    of_x = [(a * (h > 0)) @ j for h, j in zip(hs, of_h, strict=True)]
    for name, numbers, jacobians in (("x", data, of_x), ("h", hs, of_h), ("t", ts, of_t)):
        squares = [np.square(j @ c.astype(np.float64)).sum(axis=1) / 40 for j in jacobians]
        wanted = sum(float(s[row != 0].sum()) for s, row in zip(squares, numbers, strict=True))
        assert found[name].weights.sum() == pytest.approx(wanted, rel=0.15), name
        if name == "t":
            continue  # saturated: most numbers are nearly the greatest, which codes hold exactly
        codes = codes_for((min(0.0, float(numbers.min())), float(numbers.max())), 6, unsigned=name == "h")
        off = np.square(codes.steps(numbers) * codes.scale - numbers)
        error = sum(float(s @ row) for s, row in zip(squares, off, strict=True))
        assert found[name].error(codes) == pytest.approx(error, rel=0.25), name


@given(seed=st.integers(0, 99), rows=st.integers(1, 3), last=st.booleans())
@settings(max_examples=10, deadline=None)
def test_what_a_softmax_subtracts_does_not_count(seed: int, rows: int, last: bool) -> None:
    """A softmax, along either axis, is worth what it is without its shift, and no gradient of the shift is computed."""
    rng = np.random.default_rng(seed)
    a, b = (rng.standard_normal((6, 6)).astype(np.float32) for _ in range(2))
    feeds = [{"x": rng.standard_normal((rows, 6)).astype(np.float32)} for _ in range(8)]
    found: list[float] = []
    for shifted in (True, False):
        graph = Graph()
        x = graph.add_input("x", TensorType(DType.F32, (rows, 6)))
        scores = graph.add(MatMul(), x, graph.add_constant(a), name="s")
        axes = (1,) if last else (0,)
        top, zero = graph.add(Reduce("max", axes), scores), graph.add_constant(np.zeros((rows, 6), np.float32))
        below = graph.add(Binary("sub"), scores, top if shifted else zero)
        powers = graph.add(Unary("exp"), below)
        soft = graph.add(Binary("div"), powers, graph.add(Reduce("sum", axes), powers), name="p")
        graph.outputs = [("y", graph.add(MatMul(), soft, graph.add_constant(b), name="y"))]
        interpreter = Interpreter()
        worth, _, outputs = worths(graph, ["x", "p"], feeds, interpreter.tools())
        found.append(float(worth["x"].weights.sum()))
        compared = [n for n in interpreter.graphs[-1].nodes if n.op == Binary("equal")]
        assert not compared
        for feed, output in zip(feeds, outputs, strict=True):
            assert np.array_equal(output["y"], evaluate(graph, feed)["y"])
    assert found[0] == pytest.approx(found[1], rel=1e-3, abs=1e-9)


def test_trials_of_the_same_values_share_what_runs_them() -> None:
    """Errors are those of plain arithmetic, over all samples and over the first ones; known outputs are not run for,
    and no codes are tried twice on one sample.
    """
    rng = np.random.default_rng(3)
    graph = Graph()
    x = graph.add_input("x", TensorType(DType.F32, (1, 6)))
    a = rng.standard_normal((6, 5)).astype(np.float32)
    graph.outputs = [("y", graph.add(MatMul(), x, graph.add_constant(a), name="y"))]
    data = rng.standard_normal((6, 1, 6)).astype(np.float32)
    feeds = [{"x": row} for row in data]
    known = [{"y": row @ a} for row in data]
    tried = [{"x": codes_for((-2.0, 2.0), bits, unsigned=False)} for bits in (3, 6)]
    interpreter = Interpreter()
    trials = whole_network(graph, feeds, interpreter.tools(), known)
    assert not interpreter.graphs
    spread = np.ptp([row["y"] for row in known]) ** 2 * 5
    for first in (2, None):
        wanted = [
            sum(float(np.square((c.steps(r) * c.scale - r) @ a).sum()) for r in data[:first]) / spread
            for c in (codes["x"] for codes in tried)
        ]
        assert trials.errors(tried, first) == pytest.approx(wanted, rel=1e-4)
    assert trials.errors([*tried, *tried]) == trials.errors(tried) * 2
    assert len(interpreter.graphs) == 1
    assert interpreter.ran == len(tried) * len(feeds)
    some = whole_network(graph, feeds, interpreter.tools(), known[:2])
    assert some.errors(tried) == pytest.approx(trials.errors(tried), rel=1e-6)


@given(graph=networks(5), seed=st.integers(0, 99))
@settings(max_examples=8, deadline=None)
def test_values_that_were_held_are_those_of_a_run(graph: Graph, seed: int) -> None:
    """What gradients were taken of is what a run gives, to the bit: layers fitted on either are the same."""
    state = Scales().run(state_of(graph, tools=compile_tools(), seed=seed))
    texts: list[tuple[str, list[bytes]]] = []
    for tools in (state.tools, compile_tools()):
        held = tools.values.get(graph, ())
        assert bool(held) == (tools is state.tools and bool(coded_values(graph)))
        done = Quantize().run(LowerLinear().run(replace(state, tools=tools)))
        text, blobs = print_module(done.module)
        texts.append((text, [blobs[name].tobytes() for name in sorted(blobs)]))
    assert texts[0] == texts[1]


def test_where_nothing_can_be_differentiated_all_errors_count_alike() -> None:
    graph = Graph()
    x = graph.add_input("x", TensorType(DType.F32, (1, 6)))
    graph.outputs = [
        ("y", graph.add(Cast(DType.I32), graph.add(MatMul(), x, graph.add_constant(np.eye(6, dtype=np.float32)))))
    ]
    feeds = [{"x": np.array([[-3, 0, 1, 1, 2, 0]], np.float32)}]
    found, seen, _ = worths(graph, ["x"], feeds, Interpreter().tools())
    assert [e.tolist() for e in seen["x"]] == [[-3], [2]]
    assert found["x"].weights.tolist() == [2, 1, 1]
