"""The reference engine: what instructions do, against plain loops and NumPy."""

import random

import hypothesis.strategies as st
import numpy as np
import pytest
from builder import ProgramBuilder, dense_strides, quant_attributes, quant_dtype
from hypothesis import given, settings
from programs import random_inputs, random_program

from mgc.isa.crossbar import Arithmetic, encode_weights, sliced_product
from mgc.isa.instructions import Piece
from mgc.sim import Simulator, replay

EXACT = Arithmetic(16, 16, 2, 1, 16, "clip", "differential", 8, 8)


def sums_of(builder, acc, shape):
    """An output with the accumulators as they are."""
    k = builder.kernel()
    one, zero = builder.constant(np.float64(1)), builder.constant(np.float64(0))
    y = k.store(k.step("dequant", acc, one, zero, builder.constant(np.float32(0))))
    k.emit()
    builder.output(y)
    assert builder.type(y).shape == shape


def naive_windows(x, weights, *, count, taps, in_base, in_stride, in_dilation, out_base, out_stride, out, tap_fastest):
    """MVM's text, one window at a time, with the exact integer product."""
    matrices, rows, cols = weights.shape
    channels = rows // int(np.prod(taps))
    for n, g in np.ndindex(x.shape[0], matrices):
        for q in np.ndindex(*count):
            row = np.zeros(rows, np.int64)
            for k in range(rows):
                if tap_fastest:
                    c, t = divmod(k, int(np.prod(taps)))
                else:
                    t, c = divmod(k, channels)
                tap = np.unravel_index(t, taps) if taps else ()
                at = [b + w * s + i * d for b, w, s, i, d in zip(in_base, q, in_stride, tap, in_dilation, strict=True)]
                if all(0 <= a < e for a, e in zip(at, x.shape[2:], strict=True)):
                    row[k] = x[(n, g * channels + c, *at)]
            to = [b + w * s for b, w, s in zip(out_base, q, out_stride, strict=True)]
            for c in range(cols):
                out[(n, g * cols + c, *to)] = int(row @ weights[g, :, c].astype(np.int64))


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_mvm_against_a_loop_over_windows(data):
    dims = data.draw(st.integers(0, 3))

    def each(lo, hi):
        return tuple(data.draw(st.integers(lo, hi)) for _ in range(dims))

    signed, tap_fastest = data.draw(st.booleans()), data.draw(st.booleans())
    count, taps, base, stride = each(1, 3), each(1, 2), each(-2, 1), each(1, 2)
    dilation = tuple(d or 1 for d in each(-2, 2))
    out_base, out_stride = each(0, 1), each(1, 2)
    matrices, channels, cols = data.draw(st.integers(1, 2)), data.draw(st.integers(1, 2)), data.draw(st.integers(1, 3))
    spare = data.draw(st.integers(0, 1))  # source channels that no matrix reads
    src = (2, matrices * channels + spare, *each(1, 4))
    dst = (2, matrices * cols, *(b + (q - 1) * s + 1 + data.draw(st.integers(0, 1))
                                 for b, q, s in zip(out_base, count, out_stride, strict=True)))  # fmt: skip
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    weights = rng.integers(-127, 128, (matrices, channels * int(np.prod(taps)), cols)).astype(np.int8)
    windows = {"count": count, "taps": taps, "in_base": base, "in_stride": stride, "in_dilation": dilation,
               "out_base": out_base, "out_stride": out_stride, "tap_fastest": tap_fastest}  # fmt: skip

    b = ProgramBuilder(micro_batch=2)
    codes = b.input(src, dtype=quant_dtype(8, signed), buffer_dtype=quant_dtype(8, signed))
    b.buffers[0] = type(b.buffers[0])(**{**b.buffers[0].__dict__, "kind": "code"})
    acc = b.buffer("acc", "int64", dst)
    b.mvm(b.group(weights, weights, EXACT), codes, acc, signed, **windows)
    sums_of(b, acc, dst)
    x = rng.integers(*EXACT.code_range(signed), src, endpoint=True).astype(quant_dtype(8, signed))
    expected = np.zeros(dst, np.int64)
    naive_windows(x, weights, out=expected, **windows)
    for numerics in ("quantized", "float"):
        (y,) = Simulator(b.build(), engine="reference", numerics=numerics).run({"in0": x}).values()
        assert np.array_equal(y, expected.astype(np.float32)), numerics


@pytest.mark.parametrize("chunk", [1, 30, 1 << 24])
def test_windows_in_chunks(chunk, monkeypatch):
    program = random_program(random.Random(8))
    inputs = random_inputs(program, random.Random(1), 2)
    whole = Simulator(program, engine="reference").run(inputs)
    monkeypatch.setattr("mgc.isa.instructions.mvm.CHUNK", chunk)
    parts = Simulator(program, engine="reference").run(inputs)
    assert all(np.array_equal(whole[k], parts[k], equal_nan=True) for k in whole)


def test_mvm_with_adcs_that_clip():
    arithmetic = Arithmetic(4, 8, 2, 2, 3, "clip", "offset", 4, 8)
    rng = np.random.default_rng(0)
    weights = rng.integers(-8, 8, (1, 6, 3)).astype(np.int8)
    b = ProgramBuilder()
    x = b.input((1, 6, 5))
    k = b.kernel()
    code = k.store(k.step("quant", x, attributes=quant_attributes(1.0, arithmetic, True)), "code")
    k.emit()
    acc = b.buffer("acc", "int64", (1, 3, 5))
    b.mvm(b.group(weights, weights, arithmetic), code, acc, True, count=[5], taps=[1], in_base=[0], in_stride=[1],
          in_dilation=[1], out_base=[0], out_stride=[1])  # fmt: skip
    sums_of(b, acc, (1, 3, 5))
    simulator = Simulator(b.build(), engine="reference")
    assert simulator.exact_columns == 0
    codes = rng.integers(-128, 128, (3, 6, 5))
    y = simulator.run({"in0": codes.astype(np.float32)})["out0"]
    for n in range(3):
        sums = sliced_product(codes[n].T, encode_weights(weights[0], arithmetic), arithmetic, signed=True)
        assert np.array_equal(y[n].T, sums)
        assert not np.array_equal(sums, codes[n].T @ weights[0])


def test_moves_fill_flip_and_interleave():
    b = ProgramBuilder(micro_batches=1)
    x = b.input((1, 2, 3))
    fill = b.constant(np.array([7], np.float32))
    strides = dense_strides((1, 4, 4))
    pieces = [
        Piece(fill, (1, 4, 4), 0, (0, 0, 0), 0, strides),
        Piece(x, (2, 3), 2, (3, -1), 0, (8, 1)),  # rows 0 and 2, reversed
    ]
    b.output(b.move(pieces, (1, 4, 4), "float32"))
    b.output(b.move([Piece(x, (2,), 0, (3,), 1, (2,))], (5,), "float32"), batched=False)
    b.output(b.move([], (2,), "float32"), batched=False)
    b.batched = False
    y = Simulator(b.build(), engine="reference").run({"in0": np.arange(6, dtype=np.float32).reshape(1, 2, 3)})
    assert y["out0"][0].tolist() == [[2, 1, 0, 7], [7] * 4, [5, 4, 3, 7], [7] * 4]
    assert y["out1"].tolist() == [0, 0, 0, 3, 0]
    assert y["out2"].tolist() == [0, 0]


def test_aliases_share_their_bytes():
    b = ProgramBuilder()
    x = b.input((1, 6))
    k = b.kernel()
    y = k.store(k.step("relu", b.alias(x, (1, 2, 3))))
    k.emit()
    b.output(b.alias(b.alias(y, (1, 3, 2)), (1, 6)))
    values = np.array([[1, -2, 3, -4, 5, -6]], np.float32)
    assert Simulator(b.build(), engine="reference").run({"in0": values})["out0"].tolist() == [[1, 0, 3, 0, 5, 0]]


def test_positions_that_no_mvm_writes_are_zero_in_every_micro_batch():
    b = ProgramBuilder()
    x = b.input((1, 1, 2))
    k = b.kernel()
    code = k.store(k.step("quant", x, attributes=quant_attributes(1.0, EXACT, False)), "code")
    k.emit()
    acc = b.buffer("acc", "int64", (1, 1, 6))
    one = np.ones((1, 1, 1), np.int8)
    b.mvm(b.group(one, one, EXACT), code, acc, False, count=[2], taps=[1], in_base=[0], in_stride=[1],
          in_dilation=[1], out_base=[1], out_stride=[3])  # fmt: skip
    sums_of(b, acc, (1, 1, 6))
    y = Simulator(b.build(), engine="reference").run({"in0": np.array([[[1, 2]], [[3, 4]]], np.float32)})["out0"]
    assert y.tolist() == [[[0, 1, 0, 0, 2, 0]], [[0, 3, 0, 0, 4, 0]]]


def test_ports_convert_and_constants_can_be_outputs():
    b = ProgramBuilder()
    x = b.input((1, 2), dtype="float64", buffer_dtype="float32")
    h = b.input((1, 2), dtype="float16", buffer_dtype="float32")
    k = b.kernel()
    y = k.store(k.step("add", x, h))
    k.emit()
    b.output(y, dtype="float16")
    b.output(b.constant(np.array([[1.5, 2.5]], np.float32)), dtype="float64")
    b.output(b.constant(np.array([3, 4])), batched=False)
    program = b.build()
    result = Simulator(program, engine="reference").run(
        {"in0": np.array([[1, 1e6], [0.1, 2]]), "in1": np.ones((2, 2), np.float16)}
    )
    assert [v.dtype.name for v in result.values()] == ["float16", "float64", "int64"]
    assert result["out0"].tolist() == [[2, np.inf], [np.float16(np.float32(0.1) + 1), 3]]
    assert result["out1"].tolist() == [[1.5, 2.5]] * 2
    assert result["out2"].tolist() == [3, 4]


@settings(deadline=None, max_examples=40)
@given(st.randoms(use_true_random=False))
def test_random_programs_agree_with_themselves(rng):
    """Samples do not see each other; a second run gives the same bits; the clock arrives where it was planned."""
    program = random_program(rng)
    inputs = random_inputs(program, rng, 3)
    simulator = Simulator(program, engine="reference")
    whole = simulator.run(inputs)
    for _ in range(2):
        alone = simulator.run({k: v[-(len(v) // 3) :] for k, v in inputs.items()})
        assert all(np.array_equal(alone[k], v[-len(alone[k]) :], equal_nan=True) for k, v in whole.items())
    assert replay(program).makespan == program.entry.schedule.makespan


def test_quantised_results_approach_the_real_ones():
    """With fine codes, fine weights and ADCs that lose nothing, `quantized` tends to `float`."""
    arithmetic = Arithmetic(64, 64, 4, 4, 16, "clip", "differential", 12, 12)
    rng = np.random.default_rng(0)
    real = (rng.standard_normal((1, 18, 4)) / 4).astype(np.float32)
    step = float(np.abs(real).max() / 2047)
    weights = np.rint(real / step).astype(np.int16)
    b = ProgramBuilder()
    x = b.input((1, 2, 6, 6))
    k = b.kernel()
    code = k.store(k.step("quant", x, attributes=quant_attributes(4 / 2047, arithmetic, True)), "code")
    k.emit()
    acc = b.buffer("acc", "int64", (1, 4, 6, 6))
    b.mvm(b.group(weights, real, arithmetic), code, acc, True, count=[6, 6], taps=[3, 3], in_base=[-1, -1],
          in_stride=[1, 1], in_dilation=[1, 1], out_base=[0, 0], out_stride=[1, 1])  # fmt: skip
    k = b.kernel()
    zero = b.constant(np.float64(0))
    y = k.store(k.step("dequant", acc, b.constant(np.float64(step * 4 / 2047)), zero, b.constant(np.float32(0))))
    k.emit()
    b.output(y)
    program = b.build()
    x = np.clip(rng.standard_normal((2, 2, 6, 6)), -3.9, 3.9).astype(np.float32)
    rough, fine = (Simulator(program, engine="reference", numerics=n).run({"in0": x})["out0"] for n in
                   ("quantized", "float"))  # fmt: skip
    assert 0 < np.abs(rough - fine).max() < 5e-3
