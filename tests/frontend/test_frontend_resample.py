"""Resampling: rational coordinates, filters, and Resize as a whole against ONNX Runtime."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx_models import build, close, floats, imported, node, ops, run_ort, same

from mgc.frontend import ModelError, import_model
from mgc.frontend.resample import AxisScale, filter_matrix, nearest, ratio_of, round_ratio
from mgc.ir.graph import evaluate

MODES = ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "half_pixel_symmetric"]


@pytest.mark.parametrize(
    ("scale", "ratio"), [(2.0, (2, 1)), (0.5, (1, 2)), (1.2, (6, 5)), (0.6, (3, 5)), (1 / 3, (1, 3)), (1.7, (17, 10))]
)
def test_a_float32_scale_means_the_simplest_ratio(scale, ratio):
    assert ratio_of(float(np.float32(scale))) == Fraction(*ratio)


@given(st.floats(1 / 64, 64, width=32))
@settings(deadline=None)
def test_the_ratio_rounds_to_the_scale(scale):
    assert np.float32(float(ratio_of(scale))) == np.float32(scale)


@pytest.mark.parametrize(("size", "out"), [(100, 120), (10, 15), (64, 48), (7, 100), (123, 41)])
def test_nearest_in_integers(size, out):
    """asymmetric + floor is floor(x * size / out): no float32 may decide it."""
    axis = AxisScale(size, out, ratio_of(float(np.float32(out / size))))
    assert nearest(axis, "asymmetric", "floor").tolist() == [x * size // out for x in range(out)]


def test_nearest_where_onnx_runtime_errs():
    model = build(
        [node("Resize", ["x", "", "s"], ["y"], coordinate_transformation_mode="asymmetric", nearest_mode="floor")],
        {"x": [1, 1, 1, 100]},
        weights={"s": np.array([1, 1, 1, 1.2], np.float32)},
    )
    x = np.arange(100, dtype=np.float32).reshape(1, 1, 1, 100)
    result = imported(model)
    assert ops(result) == ["gather"]
    exact = [x * 100 // 120 for x in range(120)]
    assert evaluate(result.graph, {"x": x})["y"].ravel().tolist() == exact


def test_rounding_of_ties():
    rules = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
    halves = np.array([-3, 5, 4])
    assert [round_ratio(halves, 2, r).tolist() for r in rules] == [[-2, 2, 2], [-1, 3, 2], [-2, 2, 2], [-1, 3, 2]]
    with pytest.raises(ValueError, match="nearest_mode 'round'"):
        round_ratio(halves, 2, "round")


@given(st.integers(1, 2**20), st.integers(1, 30), st.sampled_from(MODES))
@settings(deadline=None)
def test_sources_are_exact_whatever_the_size(size, out, mode):
    axis = AxisScale(size, out, Fraction(out, size))
    numerators, denominator = axis.sources(mode)
    assert [Fraction(int(n), denominator) for n in numerators] == [axis.source(x, mode) for x in range(out)]


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 9),
    st.integers(1, 20),
    st.sampled_from(MODES),
    st.sampled_from(["linear", "cubic"]),
    st.booleans(),
    st.booleans(),
)
def test_filters_keep_constants(size, out, mode, kind, antialias, exclude):
    matrix = filter_matrix(AxisScale(size, out, Fraction(out, size)), mode, kind, antialias=antialias, exclude=exclude)
    assert matrix.shape == (out, size)
    np.testing.assert_allclose(matrix.sum(1), 1, atol=1e-12)


def test_same_size_is_the_identity():
    for kind in ("linear", "cubic"):
        for antialias in (False, True):
            matrix = filter_matrix(AxisScale(5, 5, Fraction(1)), "half_pixel", kind, antialias=antialias)
            np.testing.assert_allclose(matrix, np.eye(5), atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_resize_as_onnx_runtime_does(data):
    """Ratios that float32 holds exactly, where ONNX Runtime does not err."""
    kind = data.draw(st.sampled_from(["nearest", "linear", "cubic"]))
    mode = data.draw(st.sampled_from(MODES[:4]))
    sizes = [data.draw(st.sampled_from([4, 8])) for _ in range(2)]
    outs = [int(n * data.draw(st.sampled_from([0.5, 1, 2, 1.5]))) for n in sizes]
    assume(outs != sizes)
    attributes = {"mode": kind, "coordinate_transformation_mode": mode}
    if kind == "nearest":
        attributes["nearest_mode"] = data.draw(
            st.sampled_from(["floor", "ceil", "round_prefer_floor", "round_prefer_ceil"])
        )
        assume(mode != "align_corners")
    if kind == "cubic":
        attributes["cubic_coeff_a"] = data.draw(st.sampled_from([-0.75, -0.5]))
        attributes["exclude_outside"] = data.draw(st.integers(0, 1))
    model = build(
        [node("Resize", ["x", "", "", "s"], ["y"], **attributes)],
        {"x": [1, 2, *sizes]},
        weights={"s": np.array([1, 2, *outs])},
        opset=18,
    )
    result = same(model, {"x": floats(1, 2, *sizes)}, rtol=1e-3, atol=1e-4)
    assert "host" not in ops(result)


@pytest.mark.parametrize("kind", ["linear", "cubic"])
@pytest.mark.parametrize("exclude", [0, 1])
def test_antialias(kind, exclude):
    attributes = {"mode": kind, "antialias": 1, "exclude_outside": exclude}
    model = build([node("Resize", ["x", "", "s"], ["y"], **attributes)], {"x": [1, 1, 9, 8]},
                  weights={"s": np.array([1, 1, 2 / 3, 0.25], np.float32)}, opset=18)  # fmt: skip
    x = floats(1, 1, 9, 8)
    result = imported(model)
    assert ops(result) == ["axis_map", "axis_map"]
    found = evaluate(result.graph, {"x": x})["y"]
    assert found.shape == (1, 1, 6, 2)
    if exclude:
        close(found, run_ort(model, {"x": x})["y"], 1e-3, 1e-4)


def test_crop_and_resize_extrapolates():
    model = build(
        [node("Resize", ["x", "roi", "", "s"], ["y"], mode="linear", extrapolation_value=9.0,
              coordinate_transformation_mode="tf_crop_and_resize")],
        {"x": [1, 1, 4, 4]},
        weights={"roi": np.array([0, 0, 0.4, 0.6, 1, 1, 1.2, 1.7], np.float32), "s": np.array([1, 1, 3, 3])},
    )  # fmt: skip
    result = same(model, {"x": floats(1, 1, 4, 4)})
    assert ops(result) == ["axis_map", "axis_map", "axis_map", "axis_map", "where"][-len(ops(result)) :]


def test_align_corners_with_a_fractional_extent_follows_onnx_and_warns():
    model = build(
        [node("Resize", ["x", "", "s"], ["y"], mode="linear", coordinate_transformation_mode="align_corners")],
        {"x": [1, 1, 1, 4]},
        weights={"s": np.array([1, 1, 1, 0.6], np.float32)},
    )
    result = imported(model)
    x = np.array([1, 2, 3, 4], np.float32).reshape(1, 1, 1, 4)
    np.testing.assert_allclose(evaluate(result.graph, {"x": x})["y"].ravel(), [1, 1 + 3 / 1.4], rtol=1e-6)
    assert any("align_corners" in w for w in result.warnings)
    model.producer_name = "pytorch"
    same(model, {"x": x})


@pytest.mark.parametrize("policy", ["not_larger", "not_smaller"])
def test_aspect_ratio(policy):
    model = build(
        [node("Resize", ["x", "", "", "s"], ["y"], keep_aspect_ratio_policy=policy, axes=[2, 3])],
        {"x": [1, 1, 4, 6]},
        weights={"s": np.array([8, 9])},
        opset=18,
    )
    expected = (6, 9) if policy == "not_larger" else (8, 12)
    assert imported(model).outputs[0].bound[2:] == expected


def test_integers_are_resampled_by_way_of_floats():
    model = build([node("Resize", ["x", "", "s"], ["y"], mode="linear")], {"x": [1, 1, 2, 2]},
                  weights={"s": np.array([1, 1, 2, 2], np.float32)}, elem=2)  # fmt: skip
    same(model, {"x": np.array([[[[0, 80], [160, 240]]]], np.uint8)})


@pytest.mark.parametrize(
    ("attributes", "scales", "message"),
    [
        ({"mode": "area"}, [1, 1, 2, 2], "mode 'area' is not one of ONNX's"),
        ({"coordinate_transformation_mode": "odd"}, [1, 1, 2, 2], "'odd' is not one of ONNX's"),
        ({"nearest_mode": "odd"}, [1, 1, 2, 2], "nearest_mode 'odd'"),
        ({}, [1, 2], r"scales \[1.0, 2.0\] and sizes \[\]"),
        ({}, [1, 1, 0, 2], "scale 0.0"),
    ],
)
def test_bad_resize(attributes, scales, message):
    model = build([node("Resize", ["x", "", "s"], ["y"], **attributes)], {"x": [1, 1, 2, 2]},
                  weights={"s": np.array(scales, np.float32)})  # fmt: skip
    with pytest.raises(ModelError, match=message):
        import_model(model)
