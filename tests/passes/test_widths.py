"""extra_bits: which values get more bits, what that costs, and what becomes of the results."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

import numpy as np
import onnx.numpy_helper
import onnx.parser
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import mgc
from mgc.cli.app import app
from mgc.comparison import compare
from mgc.compiler import compile_with_stats
from mgc.options import CompileOptions
from mgc.passes.quantizing.widths import Read, choose_bits
from mgc.report.views.summary import input_bits
from mgc.sim.fast import FastEngine, kernels
from mgc.targets.loader import load_target

CROSSBAR = load_target("liu2018").crossbar

values = st.lists(st.tuples(st.floats(0, 10), st.integers(1, 10**6), st.booleans()), min_size=1, max_size=8)


def chosen(drawn: Any, share: float, **crossbar: int) -> tuple[dict[str, Read], list[tuple[str, int]], float]:
    """Reads and choice for drawn (error, macs, signed), with errors that a bit quarters; and digits of all at first."""
    target = CROSSBAR.model_copy(update=crossbar)
    reads = {f"v{k}": Read(macs, signed) for k, (_, macs, signed) in enumerate(drawn)}

    def error(name: str, bits: int) -> float:
        return drawn[int(name[1:])][0] * 4.0 ** (target.input_bits - bits)

    work = sum(r.macs for r in reads.values())
    steps = choose_bits(reads, error, target, work, share)
    return reads, steps, work * target.digits(signed=False)


@given(values, st.floats(0, 0.5), st.integers(4, 10), st.integers(1, 4), st.integers(0, 6))
def test_bits_are_added_within_the_share_and_the_registers(
    drawn: Any, share: float, base: int, dac: int, more: int
) -> None:
    crossbar = {"input_bits": base, "register_bits": base + more, "dac_bits": dac}
    reads, steps, total = chosen(drawn, share, **crossbar)
    target = CROSSBAR.model_copy(update=crossbar)
    held = dict.fromkeys(reads, base)
    for name, bits in steps:
        assert held[name] < bits <= base + more
        held[name] = bits
    added = sum(
        r.macs * (target.digits(signed=r.signed, input_bits=held[n]) - target.digits(signed=r.signed))
        for n, r in reads.items()
    )
    assert added <= share * total + 1e-6
    for name, bits in held.items():  # no digit has room left for a bit
        if bits > base and bits < base + more:
            signed = reads[name].signed
            assert target.digits(signed=signed, input_bits=bits + 1) > target.digits(signed=signed, input_bits=bits)


@given(values)
def test_what_takes_most_away_for_its_reads_comes_first(drawn) -> None:
    reads, steps, _ = chosen(drawn, 100.0)
    worth = [drawn[int(n[1:])][0] * 4.0 ** (8 - bits) * 3 / reads[n].macs for n, bits in steps]
    assert all(a >= b * (1 - 1e-9) for a, b in pairwise(worth))


def test_what_adds_more_work_than_it_takes_error_away_is_left_alone() -> None:
    _, steps, _ = chosen([(1.0, 10, True), (0.02, 10**6, False)], 100.0)
    assert {name for name, _ in steps} == {"v0"}


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


def test_both_engines_agree_and_outputs_are_nearer(generator: onnx.ModelProto) -> None:
    import onnxruntime

    z = np.random.default_rng(9).normal(size=(16, 12)).astype(np.float32)
    session = onnxruntime.InferenceSession(generator.SerializeToString(), providers=["CPUExecutionProvider"])
    wanted = {"image": np.asarray(session.run(None, {"z": z})[0])}
    psnr: list[float] = []
    for share in (0.0, 0.1, 10.0):
        program = mgc.compile(generator, extra_bits=share)
        fast, slow = (mgc.Simulator(program, engine).run({"z": z})["image"] for engine in ("fast", "reference"))
        assert fast.tobytes() == slow.tobytes()
        exact = mgc.Simulator(program, numerics="float").run({"z": z})
        assert compare(exact, wanted).psnr_db > 110
        psnr.append(compare({"image": fast}, wanted).psnr_db)
    assert psnr[0] < psnr[1]
    assert psnr[0] + 3 < psnr[2]


def test_many_weights_of_one_window_are_read_in_halves() -> None:
    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[N, 80] z) => (float[N, 4] y) <float[80, 6600] w0, float[6600, 4] w1> {
            h = MatMul(z, w0)
            a = Relu(h)
            y = MatMul(a, w1)
        }
    """)
    rng = np.random.default_rng(1)
    del model.graph.initializer[:]
    for name, shape in (("w0", (80, 6600)), ("w1", (6600, 4))):
        data = (rng.normal(size=shape) / 9).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(data, name))
    program = mgc.compile(model, extra_bits=9.0)
    assert max(g.arithmetic.input_bits for g in program.groups if g.rows == 80) > 8
    placed = FastEngine(program, "quantized").plan.placements
    exact = any(kernels.is_exact(name) for name in ("u8s8", "u8u8"))
    assert any(p.kernel == "8 bits in halves" for p in placed) == exact
    z = rng.normal(size=(5, 80)).astype(np.float32)
    fast, slow = (mgc.Simulator(program, engine).run({"z": z})["y"] for engine in ("fast", "reference"))
    assert fast.tobytes() == slow.tobytes()


def test_a_program_says_what_its_codes_have_and_cost(generator: onnx.ModelProto) -> None:
    usual, program = (mgc.compile(generator, extra_bits=share) for share in (0.0, 0.2))
    assert input_bits(usual) == {"least": 8, "most": 8, "mean": 8.0, "extra_reads": 0.0}
    found = input_bits(program)
    assert found is not None
    held = [g.arithmetic.input_bits for g in program.groups]
    assert (found["least"], found["most"]) == (min(held), max(held))
    assert 0 < found["extra_reads"] <= 0.21  # classes of a transposed convolution read a little more than it computes
    assert 8 < found["mean"] < 16
    bits = {tuple(layer["onnx_nodes"]): layer["bits"] for layer in program.meta["layers"]}
    assert all(g.arithmetic.input_bits == bits[g.sources] for g in program.groups)
    assert usual.meta["energy_j"] < program.meta["energy_j"] < 1.3 * usual.meta["energy_j"]


def test_a_register_of_no_more_bits_changes_nothing(generator: onnx.ModelProto) -> None:
    narrow = load_target("liu2018").replace(register_bits=0)
    many, none = (mgc.compile(generator, target=narrow, extra_bits=share) for share in (10.0, 0.0))
    assert {g.arithmetic.input_bits for g in many.groups} == {8}
    assert many.instructions == none.instructions


@pytest.mark.parametrize(
    ("share", "register_bits", "said"),
    [
        (10.0, 0, "registers of 8 bits"),
        (1e-9, 16, "no value is worth"),
        (10.0, 16, None),
        (0.0, 0, None),
        (None, 0, None),
    ],
)
def test_a_share_that_changes_nothing_is_told(generator: onnx.ModelProto, share, register_bits, said) -> None:
    target = load_target("liu2018").replace(register_bits=register_bits)
    options = CompileOptions(target=target, extra_bits=share)
    warnings = [w for w in compile_with_stats(generator, options)[1].warnings if "--extra-bits" in w]
    assert len(warnings) == (0 if said is None else 1)
    assert said is None or said in warnings[0]


def test_codes_that_a_model_states_keep_their_bits() -> None:
    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[N, 6] x) => (float[N, 5] y) <float s = {0.1}, uint8 z = {100}, float[6, 4] w0, float[4, 5] w1> {
            q = QuantizeLinear(x, s, z)
            d = DequantizeLinear(q, s, z)
            h = MatMul(d, w0)
            y = MatMul(h, w1)
        }
    """)
    rng = np.random.default_rng(0)
    kept = [i for i in model.graph.initializer if not i.name.startswith("w")]
    shapes = {"w0": (6, 4), "w1": (4, 5)}
    made = [onnx.numpy_helper.from_array(rng.normal(size=s).astype(np.float32), n) for n, s in shapes.items()]
    del model.graph.initializer[:]
    model.graph.initializer.extend([*kept, *made])
    program = mgc.compile(model, extra_bits=10.0)
    assert [g.arithmetic.input_bits == 8 for g in program.groups] == [True, False]


@pytest.mark.parametrize("options", [{"extra_bits": -0.1}, {"extra_bits": np.nan}, {"extra_bits": np.inf}])
def test_a_share_is_a_number(options, generator: onnx.ModelProto) -> None:
    with pytest.raises(ValueError, match="--extra-bits"):
        mgc.compile(generator, **options)


def test_what_finds_no_errors_adds_no_bits(generator: onnx.ModelProto) -> None:
    with pytest.raises(ValueError, match="--calibrate error"):
        mgc.compile(generator, extra_bits=0.2, calibrate="minmax")
    assert {g.arithmetic.input_bits for g in mgc.compile(generator, calibrate="minmax").groups} == {8}


@settings(max_examples=12, deadline=None)
@given(st.integers(2, 8), st.sampled_from(["clip", "scale"]), st.integers(3, 10), st.integers(0, 2**32 - 1))
def test_engines_agree_where_converters_change_sums(cell_bits, mode, adc_bits, seed) -> None:
    target = load_target("liu2018").replace(
        {"crossbar.cell_bits": cell_bits, "crossbar.adc_mode": mode, "crossbar.adc_bits": adc_bits, "crossbar.rows": 16}
    )
    program = mgc.compile(small_generator(), target=target, extra_bits=10.0, seed=seed % 7)
    z = np.random.default_rng(seed).normal(size=(3, 12)).astype(np.float32)
    for numerics in ("quantized", "device"):
        runs = [mgc.Simulator(program, e, numerics, seed=1).run({"z": z})["image"] for e in ("fast", "reference")]
        assert runs[0].tobytes() == runs[1].tobytes()


def test_stages_are_text_that_goes_on(generator: onnx.ModelProto, tmp_path) -> None:
    mgc.compile(generator, extra_bits=10.0, dump_dir=tmp_path)
    scales, lowered = (next(tmp_path.glob(f"*-{name}.ir")) for name in ("scales", "lower-linear"))
    passes = [re.findall("^// next: (.*)$", p.read_text(), re.MULTILINE)[0] for p in (scales, lowered)]
    out = tmp_path / "out.ir"
    ran = CliRunner().invoke(app, ["opt", str(scales), "--passes", ",".join(passes), "-o", str(out)])
    assert ran.exit_code == 0, ran.output
    assert out.read_bytes() == next(tmp_path.glob("*-quantize.ir")).read_bytes()
