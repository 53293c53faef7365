"""Rounding of weights: error feedback, exact columns, and what sampled windows hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mgc.ir.mapped import CHANNEL_MAJOR, TAP_MAJOR, MvmPart, Windows
from mgc.passes.mapping.crossbar_rows import exact_columns
from mgc.passes.quantizing.exactness import keep_exact
from mgc.passes.quantizing.feedback import output_error, round_with_feedback
from mgc.passes.quantizing.nearest import column_scales, rounded
from mgc.passes.quantizing.products import product
from mgc.passes.quantizing.windows import window_rows
from mgc.targets.loader import load_target


def correlated_codes(rng: np.random.Generator, windows: int, rows: int) -> np.ndarray:
    """Non-negative and correlated, like windows of an activation after a relu."""
    common = rng.normal(size=(1, windows, 8)) @ rng.normal(size=(1, 8, rows))
    return np.clip(np.rint(20 * np.maximum(common + rng.normal(size=(1, windows, rows)) + 1, 0)), 0, 255).astype(
        np.uint8
    )


def test_feedback_is_nearer_on_windows_not_seen() -> None:
    rng = np.random.default_rng(0)
    codes = correlated_codes(rng, 1600, 300)
    weights = rng.normal(size=(1, 300, 40)) * 30
    nearest = np.rint(weights)
    fitted = round_with_feedback(codes[:, :800], weights.astype(np.float32), 127)
    unseen = codes[:, 800:]
    assert output_error(unseen, weights - fitted) < 0.5 * output_error(unseen, weights - nearest)


def test_feedback_with_few_windows_does_little_harm() -> None:
    rng = np.random.default_rng(1)
    codes = rng.integers(-127, 128, (1, 840, 100)).astype(np.int8)  # independent rows: nothing to gain
    weights = rng.normal(size=(1, 100, 40)) * 30
    fitted = round_with_feedback(codes[:, :40], weights.astype(np.float32), 127)
    unseen = codes[:, 40:]
    assert output_error(unseen, weights - fitted) < 1.6 * output_error(unseen, weights - np.rint(weights))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 3), st.integers(1, 40), st.integers(1, 300), st.integers(1, 9), st.integers(0, 999))
def test_feedback_keeps_to_its_codes(matrices: int, windows: int, rows: int, cols: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 256, (matrices, windows, rows)).astype(np.uint8) * (rng.random(rows) > 0.3)
    weights = (rng.normal(size=(matrices, rows, cols)) * 4).astype(np.float32)
    fitted = round_with_feedback(codes, weights, 7)
    assert np.array_equal(fitted, np.rint(fitted))
    assert np.abs(fitted).max() <= 7
    # matrices do not meet
    alone = round_with_feedback(codes[:1], weights[:1], 7)
    np.testing.assert_array_equal(alone, fitted[:1])


def test_columns_that_could_clip_are_made_exact() -> None:
    crossbar = load_target("liu2018").crossbar
    rng = np.random.default_rng(3)
    real = rng.normal(size=(1, 128, 6)).astype(np.float32)
    real[0, :, 0] = 0  # 86 cells of 3 in the third slice, which reads 258
    real[0, :85, 0], real[0, 127, 0] = np.linspace(49, 60, 85), 127
    nearest = rounded(real, column_scales(real, 8), 8)
    assert exact_columns(nearest.astype(np.int8), crossbar)[0].tolist() == [False, *[True] * 5]
    spread = np.concatenate([real] + [rng.normal(size=(1, 128, 6)).astype(np.float32)] * 6, axis=2)
    scales = column_scales(spread, 8)
    weights, wider = keep_exact(rounded(spread, scales, 8), spread, scales, (128,), crossbar)
    exact = exact_columns(weights.astype(np.int8), crossbar)
    before = exact_columns(rounded(spread, scales, 8).astype(np.int8), crossbar)
    assert (before.sum(), exact.sum()) == (exact.size - 1, exact.size)
    assert np.all(wider >= scales)
    assert wider[0, 0] < 1.3 * scales[0, 0]
    np.testing.assert_array_equal(wider[before], scales[before])
    # what changed is still the weights, at its scale
    off = np.abs(weights * wider[:, None] - spread)
    assert np.all(off <= 0.5001 * wider[:, None])


def test_other_converters_are_left_alone() -> None:
    crossbar = load_target("liu2018").crossbar.model_copy(update={"adc_mode": "scale"})
    weights = np.full((1, 128, 2), 127.0)
    result, scales = keep_exact(weights, weights, np.ones((1, 2)), (128,), crossbar)
    assert result is weights
    assert np.all(scales == 1)


@settings(max_examples=60, deadline=None)
@given(*(st.integers(0, 3), st.integers(0, 70), st.integers(0, 300), st.integers(0, 140)))
def test_products_in_pieces(stack: int, m: int, k: int, n: int) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(-9, 10, (stack, m, k)).astype(float), rng.integers(-9, 10, (stack, k, n)).astype(float)
    np.testing.assert_array_equal(product(a, b), a @ b)


@st.composite
def parts(draw: st.DrawFn) -> tuple[Any, ...]:
    rank = draw(st.integers(1, 3))

    def axis(lo: int, hi: int) -> tuple[int, ...]:
        return tuple(draw(st.integers(lo, hi)) for _ in range(rank))

    count, taps, dilation = axis(1, 4), axis(1, 3), axis(1, 3)
    windows = Windows(count, taps, axis(-3, 2), axis(1, 3), dilation, (0,) * rank, (1,) * rank)
    matrices, channels = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    order = draw(st.sampled_from([CHANNEL_MAJOR, TAP_MAJOR]))
    part = MvmPart("p", matrices, channels * windows.tap_total, 1, order, windows)
    return part, (draw(st.integers(1, 2)), matrices * channels, *axis(3, 6))


@settings(max_examples=100, deadline=None)
@given(parts())
def test_chosen_windows_are_those_of_the_product(case: tuple[MvmPart, tuple[int, ...]]) -> None:
    part, shape = case
    x = np.random.default_rng(0).integers(-9, 9, shape).astype(np.float32)
    total = part.windows.total
    every = np.arange(shape[0] * total)
    rows = window_rows(x, part, *np.divmod(every, total))
    np.testing.assert_array_equal(rows, part.gather_inputs(x))
    some = every[::2]
    np.testing.assert_array_equal(window_rows(x, part, *np.divmod(some, total)), rows[:, some])


def test_scales_of_zero_columns_are_one() -> None:
    assert column_scales(np.zeros((1, 4, 2), np.float32), 8).tolist() == [[1.0, 1.0]]
    assert column_scales(np.zeros((1, 0, 2), np.float32), 8).tolist() == [[1.0, 1.0]]
    assert column_scales(np.full((1, 4, 1), -2.54, np.float32), 8)[0, 0] == pytest.approx(0.02)
