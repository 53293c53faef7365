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
from mgc.passes.quantizing.layers import Layer
from mgc.passes.quantizing.nearest import column_scales, rounded
from mgc.passes.quantizing.products import product
from mgc.passes.quantizing.stated import grid_scales
from mgc.passes.quantizing.weights import fitted_weights, nearest_weights
from mgc.passes.quantizing.windows import CodedWindows, PartWindows, window_rows
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


NONE: Any = None  # what rounding does not look at


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 3), st.sampled_from([(3,), (5, 9), (9,)]), st.integers(1, 3)), min_size=1))
def test_layers_that_are_rounded_together_are_as_each_alone(sizes: list[tuple[int, tuple[int, ...], int]]) -> None:
    rng = np.random.default_rng(len(sizes))
    crossbar = load_target("liu2018").crossbar
    sampled: list[CodedWindows] = []
    for matrices, splits, cols in sizes:
        weights = rng.normal(size=(matrices, sum(splits), cols * 300)).astype(np.float32)
        layer = Layer(NONE, NONE, NONE, weights, splits, np.zeros(cols * 300), None, True)
        steps = [rng.integers(0, 256, (matrices, int(rng.choice([8, 40, 41])), n)).astype(np.uint8) for n in splits]
        sampled.append(CodedWindows(layer, NONE, tuple(PartWindows(s, NONE, NONE, NONE, 0.0) for s in steps)))
    together = fitted_weights(sampled, crossbar)
    for windows, (whole, scales) in zip(sampled, together, strict=True):
        ((own, own_scales),) = fitted_weights([windows], crossbar)
        np.testing.assert_array_equal(whole, own)
        np.testing.assert_array_equal(scales, own_scales)
        if all(part.steps.shape[1] == 8 for part in windows.parts):
            np.testing.assert_array_equal(whole, nearest_weights(windows.layer, crossbar)[0])


@settings(max_examples=100, deadline=None)
@given(st.data(), st.sampled_from([2, 4, 8]), st.integers(0, 40), st.integers(1, 4))
def test_grids_are_found_by_their_definition(data: st.DataObject, bits: int, rows: int, columns: int) -> None:
    most = (1 << (bits - 1)) - 1
    seed = data.draw(st.integers(0, 9999))
    rng = np.random.default_rng(seed)
    whole = rng.integers(-most, most + 1, (1, rows, columns)) // rng.integers(1, 9, columns)
    grid = whole * np.exp(rng.normal(size=columns) * 3)
    weights = np.where(rng.random(columns) < 0.7, grid, rng.normal(size=(1, rows, columns))).astype(np.float32)

    def fits(column: np.ndarray, number: int) -> bool:
        steps = column.astype(np.float64) / (np.abs(column).max().astype(np.float64) / number)
        return bool(np.all(np.abs(steps - np.rint(steps)) < 1e-4))

    for found, column in zip(grid_scales(weights, bits)[0], weights[0].T, strict=True):
        if not np.any(column):
            assert found == 1
            continue
        number = next((n for n in range(1, most + 1) if fits(column, n)), None)
        top = float(np.abs(column).max())
        assert found == (0 if number is None else top / number / (most // number))


def test_scales_of_zero_columns_are_one() -> None:
    assert column_scales(np.zeros((1, 4, 2), np.float32), 8).tolist() == [[1.0, 1.0]]
    assert column_scales(np.zeros((1, 0, 2), np.float32), 8).tolist() == [[1.0, 1.0]]
    assert column_scales(np.full((1, 4, 1), -2.54, np.float32), 8)[0, 0] == pytest.approx(0.02)
