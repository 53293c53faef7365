"""Transposed reads against a scalar loop over cells, written from the text and sharing no code."""

from collections import Counter
from fractions import Fraction
from itertools import pairwise, product

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from mgc.isa.crossbar import Arithmetic, CrossbarGroup, adc, decode_weights, encode_weights
from mgc.isa.error import ExecutionError
from mgc.isa.transposed import column_runs, integer_product, transposed_exact_rows, transposed_product, transposed_sums


@st.composite
def arithmetics(draw):
    input_bits = draw(st.integers(1, 8))
    cols = draw(st.integers(1, 24))
    return Arithmetic(
        rows=4,
        cols=cols,
        cell_bits=draw(st.integers(1, 5)),
        dac_bits=draw(st.integers(1, min(4, input_bits))),
        adc_bits=draw(st.integers(1, 12)),
        adc_mode=draw(st.sampled_from(["clip", "scale"])),
        encoding=draw(st.sampled_from(["differential", "offset"])),
        weight_bits=draw(st.integers(2, 9)),
        input_bits=input_bits,
        plane_columns=draw(st.integers(0, cols)),
    )


@st.composite
def cases(draw, width=9):
    a = draw(arithmetics())
    signed = draw(st.booleans())
    rows, cols, n = draw(st.integers(1, 3)), draw(st.integers(1, width)), draw(st.integers(1, 3))
    extreme = draw(st.booleans())
    (lo, hi), (low, high) = a.weight_range, a.code_range(signed)
    weight = st.sampled_from([lo, hi, 0]) if extreme else st.integers(lo, hi)
    code = st.sampled_from([low, high]) if extreme else st.integers(low, high)
    weights = draw(st.lists(weight, min_size=rows * cols, max_size=rows * cols))
    codes = draw(st.lists(code, min_size=cols * n, max_size=cols * n))
    return a, signed, np.array(weights).reshape(rows, cols), np.array(codes).reshape(n, cols)


def by_hand(a, signed, weights, codes):
    """The text, one wordline at a time, in Python integers: (sums, factor)."""
    rows, cols = weights.shape
    bits = a.input_bits - 1 if signed else a.input_bits
    digits = -(-bits // a.dac_bits)
    top = 2**a.adc_bits - 1
    stored_bits = a.weight_bits - 1 if a.encoding == "differential" else a.weight_bits
    slices = -(-stored_bits // a.cell_bits)
    signs = (1, -1) if a.encoding == "differential" else (1,)
    at_once = a.plane_columns or -(-a.cols // (slices * len(signs)))
    full = at_once * (2**a.dac_bits - 1) * (2**a.cell_bits - 1)
    crossbar = {key: where[0] for key, where in places(a, cols, slices, len(signs)).items()}
    blocks = 1 + max(crossbar.values())
    result = np.zeros((len(codes), rows), object)
    for n, r in product(range(len(codes)), range(rows)):
        y = 0
        for block, s, g, t in product(range(blocks), range(slices), range(len(signs)), range(digits + signed)):
            total = 0
            for c in range(cols):
                if crossbar[c, s, g] != block:
                    continue
                x, w = int(codes[n, c]), int(weights[r, c])
                if t < digits:
                    digit = ((x % 2**bits if signed else x) >> (t * a.dac_bits)) % 2**a.dac_bits
                else:
                    digit = int(x < 0)
                level = w + 2 ** (a.weight_bits - 1) if a.encoding == "offset" else max(signs[g] * w, 0)
                total += digit * ((level >> (s * a.cell_bits)) % 2**a.cell_bits)
            assert total <= full
            code = min(total, top) if a.adc_mode == "clip" else round(Fraction(total * top, full))
            weight = 2 ** (t * a.dac_bits) if t < digits else -(2 ** (a.input_bits - 1))
            y += signs[g] * 2 ** (a.cell_bits * s) * weight * code
        offset = 2 ** (a.weight_bits - 1) * int(codes[n].sum()) if a.encoding == "offset" else 0
        scaled = a.adc_mode == "scale" and a.encoding == "offset"
        result[n, r] = full * y - top * offset if scaled else y - offset
    if a.adc_mode == "clip":
        return result, Fraction(1)
    return result, Fraction(full, top) if a.encoding == "differential" else Fraction(1, top)


def places(a, cols, slices, signs):
    """(column, slice, sign) -> (crossbar, bitline): side by side, or planes as evenly as in the fewest crossbars."""
    if not a.plane_columns:
        order = product(range(cols), range(slices), range(signs))
        return {key: divmod(k, a.cols) for k, key in enumerate(order)}
    fit, each = a.cols // a.plane_columns, 1
    while -(-slices * signs // each) > -(-slices * signs // fit):
        each += 1
    found, crossbar = {}, -1
    for first in range(0, cols, a.plane_columns):
        for p, (s, g) in enumerate(product(range(slices), range(signs))):
            crossbar += p % each == 0
            for c in range(first, min(first + a.plane_columns, cols)):
                found[c, s, g] = crossbar, p % each * a.plane_columns + c - first
    return found


@settings(deadline=None, max_examples=300)
@given(arithmetics(), st.integers(1, 60))
def test_every_cell_has_a_place_of_its_own(a, cols):
    """As many crossbars as the group says, at most so many turns to drive every plane of one alone."""
    where = places(a, cols, a.slices, a.signs)
    assert len(set(where.values())) == len(where) == cols * a.slices * a.signs
    group = CrossbarGroup(0, "g", 1, 1, cols, a, "w", "r", 1, (0,), tuple(range(a.column_blocks(cols))))
    assert 1 + max(crossbar for crossbar, _ in where.values()) == group.column_blocks
    assert all(0 <= bitline < a.cols for _, bitline in where.values())
    turns = Counter(crossbar for crossbar, _, _ in {(where[c, s, g][0], s, g) for c, s, g in where})
    assert max(turns.values()) <= a.planes_per_crossbar
    for s, g in product(range(a.slices), range(a.signs)):
        runs = {c: where[c, s, g][0] for c in range(cols)}
        starts = [c for c in range(cols) if c == 0 or runs[c] != runs[c - 1]]
        assert column_runs(cols, s, g, a).tolist() == starts


@settings(deadline=None, max_examples=300)
@given(cases())
def test_product_is_the_scalar_definition(case):
    a, signed, weights, codes = case
    sums = transposed_product(codes, encode_weights(weights, a), a, signed)
    expected, factor = by_hand(a, signed, weights, codes)
    assert sums.dtype == np.int64
    assert (sums == expected.astype(np.int64)).all()
    assert np.array_equal(transposed_sums(codes, encode_weights(weights, a), a, signed), sums)
    assert a.transposed_factor == float(factor)
    assert np.abs(sums).max() <= a.largest_transposed_sum(weights.shape[1])


@settings(deadline=None, max_examples=300)
@given(cases())
def test_exact_rows_are_the_integer_product(case):
    a, signed, weights, codes = case
    sums = transposed_product(codes, encode_weights(weights, a), a, signed)
    _, factor = by_hand(a, signed, weights[:0], codes)
    for r in np.nonzero(transposed_exact_rows(weights[None], a, signed)[0])[0]:
        assert [Fraction(int(v)) * factor for v in sums[:, r]] == [int(v) for v in codes @ weights[r]]


@settings(deadline=None, max_examples=150)
@given(arithmetics(), st.booleans(), st.data())
def test_a_row_is_exact_if_and_only_if_no_wordline_loses_anything(a, signed, data):
    lo, hi = a.weight_range
    cols = data.draw(st.integers(1, 3))
    weights = np.array(data.draw(st.lists(st.integers(lo, hi), min_size=cols, max_size=cols))).reshape(1, cols)
    cells = encode_weights(weights, a)
    full = a.transposed_full_scale
    unit = Fraction(1) if a.adc_mode == "clip" else Fraction(full, a.adc_max)
    lossless = True
    for s, g in product(range(a.slices), range(a.signs)):
        starts = [*column_runs(cols, s, g, a), cols]
        for start, stop in pairwise(starts):
            levels = cells[s, g, 0, start:stop].astype(int)
            for bits in {bits for _, bits, _ in a.digit_table(signed)}:
                for digits in product(range(1 << bits), repeat=stop - start):
                    total = int(np.dot(digits, levels))
                    lossless &= int(adc(np.array(total), a, full)) * unit == total
    assert bool(transposed_exact_rows(weights[None], a, signed).all()) == lossless


@settings(deadline=None, max_examples=100)
@given(cases())
def test_cells_give_their_weights_back(case):
    a, _, weights, _ = case
    assert np.array_equal(decode_weights(encode_weights(weights, a), a), weights)
    assert np.array_equal(decode_weights(encode_weights(weights[None], a), a), weights[None])


@pytest.mark.parametrize(
    ("bits", "planes", "columns", "full"), [(16, 0, 8, 24), (8, 0, 16, 48), (16, 64, 64, 192), (8, 85, 85, 255)]
)
@pytest.mark.parametrize("signed", [True, False])
def test_default_crossbars_lose_nothing_backward(bits, planes, columns, full, signed):
    """128 columns, 2-bit cells, 1-bit digits, 8-bit ADC: exact whatever the weights are."""
    a = Arithmetic(128, 128, 2, 1, 8, "clip", "differential", bits, 8, planes)
    assert (a.transposed_columns, a.transposed_full_scale) == (columns, full)
    rng = np.random.default_rng(0)
    weights = rng.integers(*a.weight_range, (1, 130, 70), endpoint=True)
    weights[..., :5] = a.weight_range[1]
    assert transposed_exact_rows(weights, a, signed).all()
    codes = rng.integers(*a.code_range(signed), (20, 70), endpoint=True)
    assert np.array_equal(transposed_product(codes, encode_weights(weights[0], a), a, signed), codes @ weights[0].T)


def test_large_products_run_in_chunks(monkeypatch):
    a = Arithmetic(128, 16, 2, 1, 4, "clip", "offset", 8, 8)
    rng = np.random.default_rng(0)
    weights = rng.integers(*a.weight_range, (30, 20), endpoint=True)
    codes = rng.integers(0, 255, (20, 20), endpoint=True)
    whole = transposed_product(codes, encode_weights(weights, a), a, False)
    monkeypatch.setattr("mgc.isa.transposed._CHUNK", 1)
    assert np.array_equal(transposed_product(codes, encode_weights(weights, a), a, False), whole)


def test_wide_wordlines_need_float64():
    a = Arithmetic(128, 4096, 8, 8, 16, "clip", "offset", 16, 16)
    assert a.transposed_full_scale >= 1 << 24
    codes, weights = np.full((1, 4000), 65535), np.full((2, 4000), 32767)
    sums = transposed_product(codes, encode_weights(weights, a), a, False)
    # 4096 / 2 columns of one slice in a crossbar: two blocks, every read saturates
    reads = 2 * 65535 * 257 * 257
    assert (sums == reads - 32768 * 4000 * 65535).all()


def test_integer_products_stay_exact():
    rng = np.random.default_rng(0)
    for top in (100, 1 << 31):
        a, b = rng.integers(-top, top, (2, 3, 40)), rng.integers(-top, top, (2, 40, 3))
        expected = np.array([[[sum(int(x) * int(y) for x, y in zip(r, c, strict=True)) for c in m.T] for r in k]
                             for k, m in zip(a, b, strict=True)], object)  # fmt: skip
        found = integer_product(a, b)
        wrapped = (expected + (1 << 63)) % (1 << 64) - (1 << 63)
        assert found.dtype == np.int64
        assert (found == wrapped).all()


def test_codes_that_do_not_fit_are_refused():
    a = Arithmetic(4, 128, 2, 1, 8, "clip", "differential", 4, 4)
    cells = encode_weights(np.ones((2, 2), int), a)
    with pytest.raises(ExecutionError, match=r"0\.\.15 is expected"):
        transposed_sums(np.array([[16, 0]]), cells, a, signed=False)
