import json
import math

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mgc.comparison import compare, psnr_db

RAMP = np.linspace(-1, 3, 401, dtype=np.float32).reshape(1, -1)


def one(output, reference):
    return compare({"y": output}, {"y": reference})


def test_psnr_is_against_the_references_own_range():
    found = one(RAMP + np.float32(0.04), RAMP)
    assert found.psnr_db == pytest.approx(20 * math.log10(4 / 0.04), abs=1e-3)
    assert found.max_abs_err == pytest.approx(0.04, rel=1e-5)
    assert found.ok("quantized")
    assert not found.ok("float")
    assert one(RAMP + np.float32(9e-4), RAMP).ok("float")
    assert not one(RAMP + np.float32(0.2), RAMP).ok("quantized")


def test_each_output_counts_against_its_own_range():
    big, small = RAMP * 1000, RAMP / 1000
    found = compare({"a": big + 40, "b": small + 4e-5}, {"a": big, "b": small})
    assert found.psnr_db == pytest.approx(20 * math.log10(4 / 0.04), abs=0.01)


def test_equal_outputs_are_null_decibels_and_ok():
    found = one(RAMP, RAMP)
    assert found.psnr_db == math.inf
    assert found.to_json_dict("quantized") == {
        "psnr_db": None, "cosine": pytest.approx(1.0), "max_abs_err": 0.0, "ok": True,
    }  # fmt: skip
    json.dumps(found.to_json_dict("float"), allow_nan=False)


def test_a_single_score_has_its_magnitude_for_a_range():
    assert one(np.float32([[2.02]]), np.float32([[2.0]])).psnr_db == pytest.approx(40, abs=0.01)
    assert one(np.float32([[0.001]]), np.float32([[0.0]])).psnr_db == pytest.approx(60, abs=0.01)


def test_integers_and_booleans_count_in_the_largest_error_only():
    found = compare(
        {"y": RAMP, "i": np.int64([5, 2**62]), "b": np.array([True, False])},
        {"y": RAMP, "i": np.int64([8, 2**62]), "b": np.array([True, False])},
    )
    assert (found.psnr_db, found.max_abs_err) == (math.inf, 3.0)
    assert one(np.array([True]), np.array([False])).max_abs_err == 1.0
    assert one(np.uint64([2**64 - 1]), np.uint64([0])).max_abs_err == pytest.approx(2.0**64)
    assert one(np.uint8([0]), np.uint8([255])).max_abs_err == 255


def test_without_a_float_output_only_equality_is_ok():
    assert one(np.int64([1]), np.int64([1])).ok("quantized")
    assert not one(np.int64([1]), np.int64([2])).ok("quantized")
    assert one(np.int64([1]), np.int64([1])).to_json_dict("quantized")["psnr_db"] is None


def test_matching_nans_and_infinities_are_equal():
    odd = np.float32([[np.nan, np.inf, -np.inf, 0, 1]])
    assert one(odd, odd).ok("float")
    assert one(odd, odd).psnr_db == math.inf


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_a_nan_that_does_not_match_fails(wrong):
    broken = RAMP.copy()
    broken[0, 3] = wrong
    for numerics in ("float", "quantized"):
        for found in (one(broken, RAMP), one(RAMP, broken)):
            assert not found.ok(numerics)
            assert found.to_json_dict(numerics)["max_abs_err"] is None
            assert found.to_json_dict(numerics)["ok"] is False


def test_other_float_types():
    for dtype in (np.float16, np.float64, ml_dtypes.bfloat16):
        assert one(RAMP.astype(dtype), RAMP.astype(dtype)).psnr_db == math.inf


def test_strings_are_equal_or_not():
    assert one(np.array(["a"], object), np.array(["a"], object)).max_abs_err == 0
    assert one(np.array(["a"], object), np.array(["b"], object)).max_abs_err == 1


def test_sequences_are_compared_item_by_item():
    items = [RAMP, RAMP[:, :7]]
    assert one(items, items).ok("float")
    assert one([RAMP, RAMP[:, :7] + np.float32(0.5)], items).max_abs_err == pytest.approx(0.5)
    with pytest.raises(ValueError, match=r"output 'y\[1\]' is missing"):
        one(items[:1], items)


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="output 'y' has shape"):
        one(RAMP, RAMP[:, :-1])


# -- outputs that hardly vary, and those that the model rounds itself -------------------------------------------------


def test_an_output_that_hardly_varies_is_right_if_its_error_is_slight_against_its_values():
    still = 0.5 + RAMP * np.float32(1e-6)
    found = one(still + np.float32(1e-5), still)
    assert found.psnr_db < 0
    assert found.ok("quantized")
    assert found.slight() == ["y"]
    assert not one(still + np.float32(6e-4), still).ok("quantized")
    assert one(RAMP, RAMP).slight() == []


@given(
    offset=st.floats(-10, 10), spread=st.floats(0, 1), error=st.floats(0, 0.1), made_of=st.floats(0, 100)
)  # fmt: skip
def test_the_rule_of_slight_errors(offset, spread, error, made_of):
    reference = offset + RAMP.astype(np.float64) * spread
    found = one(reference + error, reference).made_of({"y": made_of})
    peak = np.ptp(reference) or np.abs(reference).max() or 1
    largest = found.max_abs_err
    decibels = math.inf if largest == 0 else 20 * (math.log10(peak) - math.log10(largest))
    by_range = decibels >= 30 + 1e-6
    by_values = largest <= 1e-3 * max(np.abs(reference).max(), made_of)
    if by_range or by_values:
        assert found.ok("quantized")
    elif decibels < 30 - 1e-3:
        assert not found.ok("quantized")


def test_a_wrong_output_fails_beside_one_that_hardly_varies():
    still = np.full((1, 401), 0.5, np.float32)
    found = compare({"a": still + np.float32(1e-5), "b": RAMP + 1}, {"a": still, "b": RAMP})
    assert not found.ok("quantized")


def test_a_step_of_the_models_own_codes_is_no_error():
    found = compare({"y": RAMP + np.float32(0.25)}, {"y": RAMP}, {"y": 0.25})
    assert found.ok("float")
    assert found.ok("quantized")
    assert found.max_abs_err == pytest.approx(0.25)
    assert not compare({"y": RAMP + np.float32(0.51)}, {"y": RAMP}, {"y": 0.25}).ok("quantized")
    codes = np.uint8([3, 200])
    assert compare({"y": codes + 1}, {"y": codes}, {"y": 1.0}).ok("quantized")
    assert not compare({"y": codes + 2}, {"y": codes}, {"y": 1.0}).ok("quantized")


@given(seed=st.integers(0, 1000), step=st.sampled_from([0.0, 0.1, 2.0]), odd=st.sampled_from([0.0, math.inf, math.nan]))
def test_the_psnr_alone_is_that_of_a_comparison(seed, step, odd):
    rng = np.random.default_rng(seed)
    wanted = {name: rng.normal(size=(3, 4)).astype(np.float32) for name in "ab"}
    wanted["b"][1, 2] = odd
    outputs = {name: v + rng.normal(0, 0.1, v.shape).astype(np.float32) for name, v in wanted.items()}
    steps = {"a": step}
    alone, compared = psnr_db(outputs, wanted, steps), compare(outputs, wanted, steps)
    assert alone == compared.psnr_db or (math.isnan(alone) and math.isnan(compared.psnr_db))
    off = [np.abs(outputs[n][np.isfinite(w)] - w[np.isfinite(w)]).max() for n, w in wanted.items()]
    assert math.isclose(compared.max_abs_err, max(off), rel_tol=1e-6)
