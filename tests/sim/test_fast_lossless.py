"""The test for weights that ADCs read without loss, against the instruction set's own."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from programs import random_arithmetic

from mgc.isa.crossbar import Arithmetic, encode_weights, exact_blocks, sliced_product
from mgc.isa.transposed import transposed_exact_rows
from mgc.sim.fast.lossless import is_lossless


def exact(weights, arithmetic, transposed=False):
    proof = transposed_exact_rows if transposed else exact_blocks
    return all(bool(proof(weights, arithmetic, signed).all()) for signed in (False, True))


@settings(max_examples=300, deadline=None)
@given(st.randoms(use_true_random=False))
def test_clipping_converters(rng):
    a = random_arithmetic(rng)
    a = Arithmetic(**{**a.__dict__, "adc_mode": "clip"})
    generator = np.random.default_rng(rng.getrandbits(32))
    lo, hi = a.weight_range
    size = (rng.randint(1, 2), rng.randint(1, 40), rng.randint(1, 5))
    weights = (generator.integers(lo, hi + 1, size) * generator.choice([0.0, 0.05, 0.3, 1.0], size)).astype(np.int32)
    weights.reshape(-1)[rng.randrange(weights.size)] = rng.choice([lo, hi, 0])
    assert is_lossless(weights, a) == exact(weights, a)
    wide = np.ascontiguousarray(weights.swapaxes(1, 2))
    assert is_lossless(wide, a, transposed=True) == exact(wide, a, transposed=True)


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 5, 7])
@pytest.mark.parametrize("sign", [1, -1])
def test_one_cell_too_many(bits, sign):
    """At the very sum that a converter holds, and one above it, in each slice."""
    a = Arithmetic(128, 128, bits, 1, 7, "clip", "differential", 16, 8)
    for s in range(a.slices):
        one = 1 << (bits * s)
        weights = np.zeros((1, 300, 3), np.int32)
        weights[0, 128:255, 1] = sign * one
        planes, turned = replace(a, plane_columns=128), weights.swapaxes(1, 2)
        assert is_lossless(weights, a)
        assert is_lossless(turned, planes, transposed=True)
        weights[0, 255, 1] = sign * one
        assert not is_lossless(weights, a)
        assert not is_lossless(turned, planes, transposed=True)
        assert not exact(weights, a)
        assert not exact(turned, planes, transposed=True)


def test_tall_crossbars():
    """1024 rows of 7-bit cells add up to more than 16 bits."""
    a = Arithmetic(1024, 128, 7, 1, 16, "clip", "differential", 15, 8)
    weights = np.full((1, 1024, 1), 127, np.int32)
    weights[0, :, 0] <<= 7
    assert not exact(weights, a)
    assert not is_lossless(weights, a)


@pytest.mark.parametrize("adc_bits", [3, 4, 5, 8])
@pytest.mark.parametrize("encoding", ["differential", "offset"])
def test_full_scales(adc_bits, encoding):
    """With a full scale, only where a code is the sum itself are the sums the product."""
    a = Arithmetic(5, 32, 1, 1, adc_bits, "scale", encoding, 8, 8)
    a = Arithmetic(**{**a.__dict__, "rows": 15})
    weights = np.random.default_rng(0).integers(-127, 128, (1, 30, 4)).astype(np.int32)
    codes = np.random.default_rng(1).integers(-128, 128, (9, 30)).astype(np.int16)
    sums = sliced_product(codes, encode_weights(weights[0], a), a, True)
    same = np.array_equal(sums, codes.astype(np.int64) @ weights[0])
    assert is_lossless(weights, a) == same == (adc_bits == 4 and encoding == "differential")
