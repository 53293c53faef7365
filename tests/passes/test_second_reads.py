"""second_reads: what is read twice, what it costs, and what becomes of the results."""

from __future__ import annotations

import re

import numpy as np
import onnx.numpy_helper
import onnx.parser
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import mgc
from mgc.cli.app import app
from mgc.comparison import compare
from mgc.ir.graph import Graph, Value, evaluate
from mgc.ir.ops import Conv, ConvTranspose, MatMul, Unary
from mgc.ir.types import DType, TensorType
from mgc.ir.verifier import verify
from mgc.passes.quantizing.codes import Codes, codes_for, worth_shifting
from mgc.passes.quantizing.observed import graph_macs
from mgc.passes.quantizing.second_reads import Coded, read_twice

KINDS = ("conv", "grouped conv", "conv_transpose", "rows", "columns", "stacks")


def layer(kind: str, activation: str, rng: np.random.Generator) -> tuple[Graph, Value]:
    """A weighted op on an activation of an input, and that activation."""

    def numbers(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32)

    graph = Graph()
    shape = {"rows": (3, 4), "columns": (4, 3), "stacks": (2, 3, 4)}.get(kind, (1, 4, 5, 6))
    x = graph.add_input("x", TensorType(DType.F32, shape))
    h = graph.add(Unary(activation, 0.2), x, name="h") if activation else x
    if kind == "conv_transpose":
        w = graph.add_constant(numbers(4, 3, 4, 4), "w")
        y = graph.add(ConvTranspose((2, 2), (1, 1, 1, 1), (0, 0), (1, 1)), h, w)
    elif "conv" in kind:
        groups = 2 if "grouped" in kind else 1
        w = graph.add_constant(numbers(6, 4 // groups, 3, 3), "w")
        y = graph.add(Conv((1, 1), (1, 1, 1, 1), (1, 1), groups), h, w)
    else:
        w = graph.add_constant(numbers(4, 5) if kind != "columns" else numbers(5, 4), "w")
        y = graph.add(MatMul(), *((w, h) if kind == "columns" else (h, w)))
    graph.outputs = [("y", y)]
    return graph, h


def codes_of(data: np.ndarray, *, unsigned: bool, bits: int) -> Codes:
    reach = float(data.min()), float(data.max())
    return codes_for(reach, bits, unsigned=unsigned, shifted=not unsigned and worth_shifting(reach))


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(KINDS), st.sampled_from(["", "relu", "leaky_relu"]), st.integers(4, 8), st.integers(0, 2**32 - 1)
)
def test_results_are_the_same_and_codes_hold_both(kind: str, activation: str, bits: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    graph, h = layer(kind, activation, rng)
    feed = {"x": rng.normal(size=graph.inputs[0].shape).astype(np.float32)}
    wanted = evaluate(graph, feed)["y"]
    held = feed["x"] if not activation else Unary(activation, 0.2).evaluate(feed["x"])[0]
    codes = codes_of(held, unsigned=activation == "relu", bits=bits)
    assume(not (codes.zero and kind == "conv_transpose"))
    assume(codes.signed or 0 < codes.zero < codes.hi - 1 or activation == "relu")
    pairs = read_twice(graph, {h.name: Coded(codes, 1.0)}, 1.0)
    verify(graph, levels=(1,))
    ((name, pair),) = pairs.items()
    np.testing.assert_allclose(evaluate(graph, feed)["y"], wanted, atol=1e-5 * float(np.ptp(wanted)))
    value = next(v for v in graph.values() if v.name == name)
    graph.outputs = [("pair", value)]
    whole, rest = np.split(evaluate(graph, feed)["pair"], 2, pair.axis)
    inside = (held >= codes.scale * (codes.lo - codes.zero)) & (held <= codes.scale * (codes.hi - codes.zero))
    np.testing.assert_allclose((codes.steps(whole) * codes.scale)[inside], whole[inside], rtol=1e-6, atol=1e-6)
    # what is left over fits the same codes, which leave a part of a first step
    assert np.all(np.abs(codes.steps(rest) * codes.scale - rest)[inside] <= 1.01 * codes.scale)
    assert np.abs(rest).max() > codes.scale


def test_a_transposed_convolution_does_not_take_a_shift() -> None:
    graph, h = layer("conv_transpose", "leaky_relu", np.random.default_rng(0))
    codes = codes_for((-0.2, 1.0), 8, unsigned=False, shifted=True)
    assert codes.zero
    assert not read_twice(graph, {h.name: Coded(codes, 1.0)}, 1.0)


@pytest.mark.parametrize("reach", [(-1.0, 0.0), (-1.0, 0.003)])
def test_codes_without_room_for_what_is_left_over_are_read_once(reach: tuple[float, float]) -> None:
    graph, h = layer("conv", "leaky_relu", np.random.default_rng(0))
    codes = codes_for(reach, 8, unsigned=False, shifted=True)
    assert not read_twice(graph, {h.name: Coded(codes, 1.0)}, 1.0)


def chain(count: int) -> tuple[Graph, list[Value]]:
    graph, values = Graph(), []
    x = graph.add_input("x", TensorType(DType.F32, (1, 8)))
    for k in range(count):
        values.append(x)
        x = graph.add(MatMul(), x, graph.add_constant(np.eye(8, dtype=np.float32), f"w{k}"), name=f"h{k}")
    graph.outputs = [("y", x)]
    return graph, values


@given(st.lists(st.floats(0, 10), min_size=2, max_size=8), st.floats(0, 1))
def test_the_dearest_errors_go_first_and_the_share_is_kept(errors: list[float], share: float) -> None:
    graph, values = chain(len(errors))
    before = graph_macs(graph)
    codes = codes_for((-4.0, 4.0), 8, unsigned=False)
    coded = {v.name: Coded(codes, e) for v, e in zip(values, errors, strict=True)}
    pairs = read_twice(graph, coded, share)
    assert graph_macs(graph) - before == len(pairs) * before // len(errors)
    assert len(pairs) <= share * len(errors) + 1e-9
    taken = [coded[p.of].error for p in pairs.values()]
    left = [c.error for name, c in coded.items() if name not in {p.of for p in pairs.values()}]
    assert not taken or not left or min(taken) >= max(left) or len(pairs) == len(errors)


MODEL = onnx.parser.parse_model("""
    <ir_version: 8, opset_import: ["" : 17]>
    g (float[N, 12] z) => (float[N, 2, 8, 8] image)
    <float[12, 64] w0, float[4, 6, 4, 4] w1, float[2, 6, 3, 3] w2, int64[4] shape = {-1, 4, 4, 4}> {
        a = MatMul(z, w0)
        b = Reshape(a, shape)
        c = Relu(b)
        d = ConvTranspose<strides = [2, 2], pads = [1, 1, 1, 1]>(c, w1)
        e = LeakyRelu<alpha = 0.2>(d)
        f = Conv<pads = [1, 1, 1, 1]>(e, w2)
        image = Tanh(f)
    }
""")


def small_generator() -> onnx.ModelProto:
    model = onnx.ModelProto()
    model.CopyFrom(MODEL)
    rng = np.random.default_rng(3)
    shapes = {"w0": (12, 64), "w1": (4, 6, 4, 4), "w2": (2, 6, 3, 3)}
    kept = [i for i in model.graph.input if i.name not in shapes]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    weights = [
        onnx.numpy_helper.from_array((rng.normal(size=s) / np.sqrt(np.prod(s[:-1]))).astype(np.float32), n)
        for n, s in shapes.items()
    ]
    others = [i for i in model.graph.initializer if i.name not in shapes]
    del model.graph.initializer[:]
    model.graph.initializer.extend([*others, *weights])
    return model


@pytest.fixture(scope="module")
def generator() -> onnx.ModelProto:
    return small_generator()


def test_both_engines_agree_and_8_bits_are_nearer(generator: onnx.ModelProto) -> None:
    import onnxruntime

    z = np.random.default_rng(9).normal(size=(16, 12)).astype(np.float32)
    session = onnxruntime.InferenceSession(generator.SerializeToString(), providers=["CPUExecutionProvider"])
    wanted = {"image": np.asarray(session.run(None, {"z": z})[0])}
    psnr: list[float] = []
    for share in (0.0, 10.0):
        program = mgc.compile(generator, second_reads=share)
        fast, slow = (mgc.Simulator(program, engine).run({"z": z})["image"] for engine in ("fast", "reference"))
        assert fast.tobytes() == slow.tobytes()
        exact = mgc.Simulator(program, numerics="float").run({"z": z})
        assert compare(exact, wanted).psnr_db > 110
        psnr.append(compare({"image": fast}, wanted).psnr_db)
    assert psnr[1] > psnr[0] + 3


@pytest.mark.parametrize("options", [{"second_reads": -0.1}, {"second_reads": np.nan}, {"second_reads": np.inf}])
def test_a_share_is_a_number(options, generator: onnx.ModelProto) -> None:
    with pytest.raises(ValueError, match="--second-reads"):
        mgc.compile(generator, **options)


def test_what_finds_no_errors_reads_nothing_twice(generator: onnx.ModelProto) -> None:
    with pytest.raises(ValueError, match="--calibrate error"):
        mgc.compile(generator, second_reads=0.2, calibrate="minmax")


def test_stages_are_text_that_goes_on(generator: onnx.ModelProto, tmp_path) -> None:
    mgc.compile(generator, second_reads=10.0, dump_dir=tmp_path)
    scales, lowered = (next(tmp_path.glob(f"*-{name}.ir")) for name in ("scales", "lower-linear"))
    passes = [re.findall("^// next: (.*)$", p.read_text(), re.MULTILINE)[0] for p in (scales, lowered)]
    out = tmp_path / "out.ir"
    ran = CliRunner().invoke(app, ["opt", str(scales), "--passes", ",".join(passes), "-o", str(out)])
    assert ran.exit_code == 0, ran.output
    assert out.read_bytes() == next(tmp_path.glob("*-quantize.ir")).read_bytes()
