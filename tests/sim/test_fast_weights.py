"""Weights as operands: bytes of every weight, their layouts, exact products at the extremes."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from training_programs import EXACT, RandomConvolution

from mgc.sim.fast import kernels
from mgc.sim.fast.graph import GraphBuilder, NotLoweredError
from mgc.sim.fast.values import Element
from mgc.sim.fast.weights import WeightVariable, planes_of, product, side_by_side, split

U8, U16, I16 = (np.dtype(t) for t in (np.uint8, np.uint16, np.int16))
PLANES = pytest.mark.parametrize("signed", [True, False], ids=["int8 planes", "uint8 planes"])


@pytest.fixture
def planes(signed, monkeypatch):
    """Planes as a machine with, or without, exact u8s8 kernels has them."""
    if not kernels.is_exact("u8s8" if signed else "u8u8"):
        pytest.skip("saturates on this processor")
    monkeypatch.setattr(kernels, "is_exact", lambda name: name != "u8s8" or signed)


def run(g, result, dtype, feeds):
    g.output(result, "y", np.dtype(dtype))
    return g.session(1).run(["y"], feeds)[0]


@PLANES
@pytest.mark.parametrize("bits", [2, 8, 9, 16])
def test_planes_add_up_to_the_weight(bits, planes):
    half = 1 << (bits - 1)
    weights = np.arange(-half, half, dtype=np.int32).reshape(1, 2, -1)
    parts = split(weights, bits)
    assert parts.dtype.itemsize == 1
    assert len(parts) == (1 if bits <= 8 else 2)
    wide = [(p.astype(np.int32) - plane.zero) * plane.factor for p, plane in zip(parts, planes_of(bits), strict=True)]
    np.testing.assert_array_equal(sum(wide), weights)


def operands(g, weights, bits):
    """Constants of the planes of weights [K, N]."""
    return tuple(g.constant(p) for p in split(weights, bits))


@PLANES
@pytest.mark.parametrize(
    ("element", "lo", "hi", "bits", "depth", "kernel"),
    [
        (Element(U8), 0, 255, 16, 300, "in two bytes"),
        (Element(U8, 128), -128, 127, 16, 300, "in two bytes"),
        (Element(U8, 128), -128, 127, 8, 300, "u8"),
        (Element(U8), 0, 255, 16, 33_000, "float64"),  # 255 * 256 * 33000 > 2^31
        (Element(U8), 0, 3, 8, 33_000, "u8"),
        (Element(U16), 0, 65535, 16, 300, "float64"),
        (Element(I16), -32768, 32767, 12, 70, "float64"),
    ],
)
def test_products_are_exact_at_the_extremes(element, lo, hi, bits, depth, kernel, planes):
    rng = np.random.default_rng(depth)
    most = (1 << (bits - 1)) - 1
    weights = rng.choice([-most, most, 0, 1, -1, -255, 256], (depth, 5)).clip(-most, most)
    weights[:, 0], weights[:, 1] = most, -most
    codes = rng.integers(lo, hi + 1, (4, depth))
    codes[0], codes[1], codes[2] = hi, lo, 0
    g = GraphBuilder()
    x = g.input("x", element.dtype)
    sums = product(g, x, element, max(-lo, hi), operands(g, weights, bits), planes_of(bits), depth)
    assert kernel in sums.kernel
    feeds = {"x": (codes + element.bias).astype(element.dtype)}
    got = run(g, sums.tensor, sums.dtype, feeds)
    expected = codes @ weights
    np.testing.assert_array_equal(got, expected)
    assert np.abs(expected).max() <= sums.limit < 1 << 53
    if sums.dtype.kind == "f":
        assert not np.signbit(got[expected == 0]).any()


def test_sums_that_no_kernel_holds_are_refused():
    g = GraphBuilder()
    weights = np.full((1 << 23, 1), 32767)
    with pytest.raises(NotLoweredError, match="no kernel is exact"):
        product(g, "x", Element(U16), 65535, ("low", "high"), planes_of(16), len(weights))


@PLANES
@settings(deadline=None, max_examples=25)
@given(st.randoms(use_true_random=False), st.sampled_from([False, True]))
def test_layouts(signed, rng, ideal):
    """Rows tap after tap, and their transpose, whatever the order of the group's rows; side by side."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "is_exact", lambda name: name != "u8s8" or signed)
        c = RandomConvolution(rng, EXACT, None)
        group, taps, fastest = c.program.groups[0], c.rows // c.channels, c.windows["tap_fastest"]
        dtype = np.float32 if ideal else split(c.steps, 16).dtype
        g = GraphBuilder()
        trained = WeightVariable(g, group, g.input("w", dtype), ideal)
        feeds = {"w": c.real if ideal else split(c.steps, 16)}
        weights = (c.real if ideal else c.steps).astype(np.float64)
        spread = weights.reshape(c.matrices, c.channels, taps, c.cols)
        if not fastest:
            spread = weights.reshape(c.matrices, taps, c.channels, c.cols).swapaxes(1, 2)
        spread = spread.swapaxes(1, 2)  # [matrices, taps, channels, cols]
        m = rng.randrange(c.matrices)
        forward, back = trained.by_tap(taps, fastest, m), trained.transposed(taps, fastest, m)
        names = [*side_by_side(g, [forward, forward], axis=1), *back]
        for k, name in enumerate(names):
            g.output(name, f"y{k}", dtype)
        found = [a.astype(np.float64) for a in g.session(1).run([f"y{k}" for k in range(len(names))], feeds)]
        if not ideal:
            found = [(a - p.zero) * p.factor for a, p in zip(found, planes_of(16) * 2, strict=True)]
        half = len(found) // 2
        rows = spread[m].reshape(c.rows, c.cols)
        np.testing.assert_array_equal(sum(found[:half]), np.concatenate([rows, rows], axis=1))
        np.testing.assert_array_equal(sum(found[half:]), spread[m].swapaxes(1, 2))


def test_random_convolutions_without_spare_channels_read_all():
    drawn = [RandomConvolution(random.Random(k), EXACT, None, spare=False) for k in range(9)]
    assert all(c.src[1] == c.matrices * c.channels for c in drawn)
