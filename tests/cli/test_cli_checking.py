"""`mgc run --check` on outputs that hardly vary, models that quantise, and ops in which ONNX Runtime departs."""

import numpy as np
import onnx
import pytest
import tiny
from onnx import helper

from mgc.evaluation.model_outputs import magnitudes, output_steps, summands


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def still_scorer(seed, ending=()):
    """x [N, 16] -> score [N, 1] that varies by 1e-4 of the values that cancel in it."""
    rng = np.random.default_rng(seed)
    weights = rng.standard_normal((16, 1)).astype(np.float32)
    nodes = [
        helper.make_node("Gemm", ["x", "w"], ["h"], "first"),
        helper.make_node("Tanh", ["h"], ["t"], "tanh"),
        helper.make_node("Mul", ["t", "little"], ["s"], "small"),
        helper.make_node("Add", ["s", "one"], ["a"], "offset"),
        helper.make_node("MatMul", ["a", "v"], ["m"], "score"),
        helper.make_node("Add", ["m", "b"], ["score" if not ending else "raw"], "bias"),
        *ending,
    ]
    constants = {
        "w": rng.standard_normal((16, 16)), "v": weights, "b": -weights.sum(0), "little": np.full(1, 1e-4),
        "one": np.ones(1),
    }  # fmt: skip
    constants = {k: np.asarray(c, np.float32) for k, c in constants.items()}
    return tiny.model(nodes, {"x": ["N", 16]}, {"score": ["N", 1]}, **constants)


@pytest.mark.parametrize("seed", range(3))
def test_a_score_that_hardly_varies_raises_no_alarm(mgc, here, seed):
    onnx.save(still_scorer(seed), "d.onnx")
    assert mgc("compile", "d.onnx").code == 0
    outcome = mgc("run", "d.mgc", "-n", 16, "--check", "d.onnx", "--json")
    assert outcome.code == 0
    assert outcome.json["check"]["ok"]
    assert outcome.json["check"]["psnr_db"] < 30
    assert "output score hardly varies" in outcome.err


def test_a_wrong_score_still_fails(mgc, here):
    model = still_scorer(0)
    onnx.save(model, "d.onnx")
    mgc("compile", "d.onnx")
    bias = next(w for w in model.graph.initializer if w.name == "b")
    bias.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(bias) + np.float32(0.02), "b"))
    onnx.save(model, "other.onnx")
    assert mgc("run", "d.mgc", "-n", 16, "--check", "other.onnx").code == 1


def test_what_outputs_are_made_of():
    """The largest summand is that of brute force, through views, sums, biases and ranges."""
    rng = np.random.default_rng(1)
    x, w = rng.standard_normal((5, 16)), rng.standard_normal((16, 1))
    found = summands(still_scorer(3))
    assert {s.tensor for s in found} == {"", "a", "m"}
    (product,) = (s for s in found if s.tensor == "a")
    weights = onnx.numpy_helper.to_array(still_scorer(3).graph.initializer[1])
    assert product.largest(x) == pytest.approx(np.abs(x * weights[:, 0]).max())
    assert magnitudes(found, {"a": x, "m": x @ w})["score"] >= product.largest(x)
    ending = [helper.make_node("Sigmoid", ["raw"], ["p"]), helper.make_node("Flatten", ["p"], ["score"])]
    model = still_scorer(0, ending)
    assert magnitudes(summands(model), {}) == {"score": 1.0}


def quantising(scale):
    """x [N, 3, 6, 6] -> y, quantised before and after a convolution, as static quantisers write it."""
    rng = np.random.default_rng(5)

    def coded(name, out, step):
        q = helper.make_node("QuantizeLinear", [name, step, "zero"], [f"{out}_q"])
        return [q, helper.make_node("DequantizeLinear", [f"{out}_q", step, "zero"], [out])]

    nodes = [
        *coded("x", "xd", "sx"),
        helper.make_node("Conv", ["xd", "w"], ["h"], "conv"),
        *coded("h", "y", "sy"),
    ]
    constants = {"w": 0.2 * rng.standard_normal((4, 3, 3, 3)), "sx": np.float32(0.03), "sy": np.float32(scale)}
    constants = {k: np.asarray(c, np.float32) for k, c in constants.items()}
    shapes = {"x": ["N", 3, 6, 6]}, {"y": ["N", 4, 4, 4]}
    return tiny.model(nodes, *shapes, zero=np.int8(0), **constants)


def test_a_step_of_the_outputs_own_codes_is_no_error(mgc, here):
    model = quantising(0.25)
    assert output_steps(model) == {"y": 0.25}
    onnx.save(model, "q.onnx")
    assert mgc("compile", "q.onnx").code == 0
    for numerics in ("float", "quantized"):
        run = mgc("run", "q.mgc", "-n", 8, "--numerics", numerics, "--check", "q.onnx", "--json")
        assert run.json["check"]["ok"], (numerics, run)


def test_a_step_before_a_last_activation_is_no_error_either():
    model = quantising(0.25)
    for kind, wanted in (("Tanh", {"z": 0.25}), ("Exp", {})):
        ended = onnx.ModelProto()
        ended.CopyFrom(model)
        ended.graph.node.append(helper.make_node(kind, ["y"], ["z"]))
        ended.graph.output[0].name = "z"
        assert output_steps(ended) == wanted


def test_where_onnx_runtime_departs_from_the_definition_the_evaluator_checks(mgc, here):
    """ONNX Runtime scales by the scales' quotient under align_corners, not by (in - 1) / (out - 1) of them."""
    nodes = [
        helper.make_node(
            "Resize", ["x", "", "scales"], ["y"], "grow", mode="linear", coordinate_transformation_mode="align_corners"
        )
    ]
    scales = np.array([1, 1, 0.6, 0.6], np.float32)
    onnx.save(tiny.model(nodes, {"x": ["N", 1, 8, 8]}, {"y": ["N", 1, 4, 4]}, scales=scales), "r.onnx")
    assert "from which ONNX Runtime departs" in mgc("compile", "r.onnx").err
    outcome = mgc("run", "r.mgc", "--numerics", "float", "--check", "r.onnx", "--json")
    assert outcome.code == 0
    assert "ONNX Runtime departs from ONNX's definition here" in outcome.err


@pytest.mark.parametrize("kind", ["Gemm", "MatMul"])
def test_weights_alone_in_codes_are_checked_as_they_are_written(mgc, here, kind):
    """ONNX Runtime's fusion would round the other operand too."""
    rng = np.random.default_rng(4)
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["w"], "weights"),
        helper.make_node(kind, ["x", "w"], ["y"], "product"),
    ]
    constants = {"q": rng.integers(-127, 128, (64, 64)).astype(np.int8), "s": np.float32(0.02), "z": np.int8(0)}
    onnx.save(tiny.model(nodes, {"x": ["N", 64]}, {"y": ["N", 64]}, **constants), "g.onnx")
    assert mgc("compile", "g.onnx").code == 0
    for numerics in ("float", "quantized"):
        assert mgc("run", "g.mgc", "-n", 4, "--check", "g.onnx", "--numerics", numerics).code == 0
