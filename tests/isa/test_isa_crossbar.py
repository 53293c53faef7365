"""Crossbar arithmetic against a scalar loop over cells, written from the design's text and sharing no code."""

from fractions import Fraction
from itertools import product

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from mgc.isa.crossbar import (
    Arithmetic,
    adc,
    encode_weights,
    exact_blocks,
    exact_columns,
    sliced_product,
    split_digits,
)
from mgc.isa.error import ExecutionError, ProgramError


def crossbar_product(codes, weights, arithmetic, signed):
    """(sums, factor): int64 [n, N] that MVM writes for codes [n, K] and integer weights [K, N]."""
    return sliced_product(codes, encode_weights(weights, arithmetic), arithmetic, signed), arithmetic.factor


@st.composite
def arithmetics(draw):
    input_bits = draw(st.integers(1, 8))
    return Arithmetic(
        rows=draw(st.integers(1, 5)),
        cols=4,
        cell_bits=draw(st.integers(1, 5)),
        dac_bits=draw(st.integers(1, min(4, input_bits))),
        adc_bits=draw(st.integers(1, 12)),
        adc_mode=draw(st.sampled_from(["clip", "scale"])),
        encoding=draw(st.sampled_from(["differential", "offset"])),
        weight_bits=draw(st.integers(2, 9)),
        input_bits=input_bits,
    )


@st.composite
def cases(draw, depth=7):
    a = draw(arithmetics())
    signed = draw(st.booleans())
    lo, hi = a.weight_range
    low, high = a.code_range(signed)
    rows, cols, n = draw(st.integers(1, depth)), draw(st.integers(1, 3)), draw(st.integers(1, 3))
    extreme = draw(st.booleans())
    weight = st.sampled_from([lo, hi, 0]) if extreme else st.integers(lo, hi)
    code = st.sampled_from([low, high]) if extreme else st.integers(low, high)
    weights = draw(st.lists(weight, min_size=rows * cols, max_size=rows * cols))
    codes = draw(st.lists(code, min_size=rows * n, max_size=rows * n))
    return a, signed, np.array(weights).reshape(rows, cols), np.array(codes).reshape(n, rows)


def half_even(q: Fraction) -> int:
    return round(q)  # Fraction's own rounding is half to even


def by_hand(a, signed, weights, codes):
    """The arithmetic of docs/isa.md, one bitline at a time, in Python integers; (sums, factor)."""
    depth, cols = weights.shape
    bits = a.input_bits - 1 if signed else a.input_bits
    digits = -(-bits // a.dac_bits)
    top = 2**a.adc_bits - 1
    full = a.rows * (2**a.dac_bits - 1) * (2**a.cell_bits - 1)
    stored_bits = a.weight_bits - 1 if a.encoding == "differential" else a.weight_bits
    slices = -(-stored_bits // a.cell_bits)
    result = np.zeros((len(codes), cols), object)
    for n, c in product(range(len(codes)), range(cols)):
        y = 0
        for start in range(0, depth, a.rows):
            block = range(start, min(depth, start + a.rows))
            for s, sign, t in product(range(slices), (1, -1), range(digits + signed)):
                if a.encoding == "offset" and sign == -1:
                    continue
                total = 0
                for r in block:
                    x, w = int(codes[n, r]), int(weights[r, c])
                    if t < digits:
                        # the low bits of a two's complement number stream as if they were unsigned
                        low = x % 2**bits if signed else x
                        digit = (low >> (t * a.dac_bits)) % 2**a.dac_bits
                    else:
                        digit = int(x < 0)
                    level = w + 2 ** (a.weight_bits - 1) if a.encoding == "offset" else max(sign * w, 0)
                    total += digit * ((level >> (s * a.cell_bits)) % 2**a.cell_bits)
                code = min(total, top) if a.adc_mode == "clip" else half_even(Fraction(total * top, full))
                weight = 2 ** (t * a.dac_bits) if t < digits else -(2 ** (a.input_bits - 1))
                y += sign * 2 ** (a.cell_bits * s) * weight * code
        offset = 2 ** (a.weight_bits - 1) * int(codes[n].sum()) if a.encoding == "offset" else 0
        scaled_offset = a.adc_mode == "scale" and a.encoding == "offset"
        result[n, c] = full * y - top * offset if scaled_offset else y - offset
    if a.adc_mode == "clip":
        return result, Fraction(1)
    return result, Fraction(full, top) if a.encoding == "differential" else Fraction(1, top)


@settings(deadline=None, max_examples=300)
@given(cases())
def test_product_is_the_scalar_definition(case):
    a, signed, weights, codes = case
    sums, factor = crossbar_product(codes, weights, a, signed)
    expected, exact_factor = by_hand(a, signed, weights, codes)
    assert sums.dtype == np.int64
    assert (sums == expected.astype(np.int64)).all()
    assert factor == float(exact_factor) == a.factor


@settings(deadline=None, max_examples=300)
@given(cases())
def test_exact_columns_are_the_integer_product(case):
    a, signed, weights, codes = case
    sums, _ = crossbar_product(codes, weights, a, signed)
    _, factor = by_hand(a, signed, weights[:, :0], codes)
    for c in np.nonzero(exact_columns(weights[None], a, signed)[0])[0]:
        assert [Fraction(int(v)) * factor for v in sums[:, c]] == [int(v) for v in codes @ weights[:, c]]


@settings(deadline=None, max_examples=150)
@given(arithmetics(), st.booleans(), st.data())
def test_a_block_is_exact_if_and_only_if_no_input_loses_anything(a, signed, data):
    lo, hi = a.weight_range
    rows = data.draw(st.integers(1, min(a.rows, 3)))
    weights = np.array(data.draw(st.lists(st.integers(lo, hi), min_size=rows, max_size=rows))).reshape(rows, 1)
    cells = encode_weights(weights, a)
    exact = exact_blocks(weights[None], a, signed)[0, 0, 0]
    widths = {bits for _, bits, _ in a.digit_table(signed)}
    for s, g in product(range(a.slices), range(a.signs)):
        lossless = True
        for bits in widths:
            for digits in product(range(1 << bits), repeat=rows):
                total = int(np.dot(digits, cells[s, g, :, 0].astype(int)))
                code = int(adc(np.array(total), a))
                unit = Fraction(1) if a.adc_mode == "clip" else Fraction(a.full_scale, a.adc_max)
                lossless &= code * unit == total
        assert bool(exact[s, g]) == lossless


@settings(deadline=None, max_examples=200)
@given(cases())
def test_digits_and_slices_reconstruct(case):
    a, signed, weights, codes = case
    digits, significance = split_digits(codes, a, signed)
    assert len(digits) == a.digits(signed)
    assert (np.tensordot(significance, digits.astype(np.int64), 1) == codes).all()
    cells = encode_weights(weights, a).astype(np.int64)
    assert cells.max(initial=0) < 2**a.cell_bits
    levels = sum(cells[s] << (a.cell_bits * s) for s in range(a.slices))
    if a.encoding == "differential":
        assert (levels[0] - levels[1] == weights).all()
        assert ((levels[0] == 0) | (levels[1] == 0)).all()
    else:
        assert (levels[0] - 2 ** (a.weight_bits - 1) == weights).all()


@pytest.mark.parametrize("rows", [1, 127, 128, 129, 300])
@pytest.mark.parametrize("encoding", ["differential", "offset"])
def test_large_products_run_in_chunks(rows, encoding, monkeypatch):
    a = Arithmetic(128, 128, 2, 1, 8, "clip", encoding, 8, 8)
    rng = np.random.default_rng(0)
    weights = rng.integers(*a.weight_range, (rows, 3), endpoint=True)
    codes = rng.integers(0, 255, (20, rows), endpoint=True)
    whole, _ = crossbar_product(codes, weights, a, signed=False)
    monkeypatch.setattr("mgc.isa.crossbar._CHUNK", 1)
    assert (sliced_product(codes, encode_weights(weights, a), a, signed=False) == whole).all()
    exact = exact_columns(weights[None], a, signed=False)[0]
    assert ((whole == codes @ weights) | ~exact).all()


def test_wide_bitlines_need_float64():
    a = Arithmetic(4096, 4096, 8, 8, 16, "clip", "offset", 16, 16)
    assert a.full_scale >= 1 << 24
    codes, weights = np.full((1, 3000), 65535), np.full((3000, 2), 32767)
    sums, _ = crossbar_product(codes, weights, a, signed=False)
    reads = 65535 * 257 * (1 + 256)  # every read saturates: code 65535, digits weigh 1 + 256, slices 1 + 256
    assert (sums == reads - 32768 * 3000 * 65535).all()


def test_values_that_do_not_fit_are_refused():
    a = Arithmetic(4, 4, 2, 1, 8, "clip", "differential", 4, 4)
    with pytest.raises(ProgramError, match=r"weights are in -8\.\.7, cells hold -7\.\.7"):
        encode_weights(np.array([[-8, 7]]), a)
    with pytest.raises(ExecutionError, match=r"0\.\.15 is expected"):
        split_digits(np.array([16]), a, signed=False)
    with pytest.raises(ExecutionError, match=r"-8\.\.7 is expected"):
        split_digits(np.array([8]), a, signed=True)


@settings(deadline=None, max_examples=100)
@given(cases())
def test_sums_stay_below_their_bound(case):
    a, signed, weights, codes = case
    sums, _ = crossbar_product(codes, weights, a, signed)
    assert np.abs(sums).max() <= a.largest_sum(len(weights))


def test_the_default_target_is_exact_on_small_weights():
    a = Arithmetic(128, 128, 2, 1, 8, "clip", "differential", 8, 8)
    rng = np.random.default_rng(1)
    weights = np.clip(np.rint(rng.normal(0, 20, (1, 1024, 64))), -127, 127).astype(np.int8)
    assert exact_columns(weights, a, signed=False).all()
    assert not exact_columns(np.full((1, 128, 1), 127, np.int8), a, signed=False).any()
