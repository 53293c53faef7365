"""Gradient rules of the element-wise functions: numerically where they are smooth, and what is taken where not."""

import numpy as np
import pytest
from gradient_checks import check_gradient, feeds_of, gradient_graph

from mgc.functions.binary import BINARY
from mgc.functions.unary import UNARY
from mgc.ir.graph import evaluate
from mgc.ir.ops import Binary, Unary

# operands inside the domain, away from kinks; alpha and beta where the function takes them
WIDE = np.array([-4.3, -1.7, -0.6, -0.02, 0.03, 0.4, 1.9, 5.1])
UNIT = np.array([-0.9, -0.5, -0.01, 0.2, 0.7, 0.95])
POSITIVE = np.array([0.05, 0.3, 1.1, 2.5, 7.0])
POINTS = {name: WIDE for name, entry in UNARY.items() if entry.domain != "bool"}
POINTS |= dict.fromkeys(("asin", "acos", "atanh"), UNIT)
POINTS |= dict.fromkeys(("log", "sqrt"), POSITIVE)
POINTS["acosh"] = POSITIVE + 1
ATTRIBUTES = {
    "leaky_relu": [(0.2, 0), (-0.3, 0), (0.0, 0)],
    "elu": [(1.0, 0), (0.5, 0), (-0.7, 0)],
    "selu": [(1.67, 1.05)],
    "celu": [(1.0, 0), (2.0, 0)],
    "hard_sigmoid": [(0.2, 0.5), (1 / 6, 0.5)],
    "silu": [(1.0, 0), (1.7, 0)],
    "thresholded_relu": [(1.0, 0), (-0.5, 0)],
}


@pytest.mark.parametrize("fn", POINTS)
def test_unary(fn):
    if UNARY[fn].to_bool:
        assert UNARY[fn].vjp(None, None, None, None, 0.0, 0.0) is None
        return
    for alpha, beta in ATTRIBUTES.get(fn, [(0.0, 0.0)]):
        check_gradient(Unary(fn, alpha, beta), POINTS[fn])


@pytest.mark.parametrize("fn", [f for f, entry in BINARY.items() if not entry.to_bool])
def test_binary(fn):
    a = np.array([[-3.1, -0.7, 0.4], [1.3, 2.6, -5.2]])
    b = np.array([1.7, -2.3, 0.9])
    if fn == "pow":
        a = np.abs(a)
    check_gradient(Binary(fn), a, b)


@pytest.mark.parametrize("fn", [f for f, entry in BINARY.items() if entry.to_bool])
def test_comparisons_have_no_gradient(fn):
    assert BINARY[fn].vjp(None, None, None, None, None) == (None, None)


def slopes(op, *arrays):
    """Derivatives of the sum of op's results by its operands, one graph each."""
    arrays = [np.asarray(a, np.float64) for a in arrays]
    graph = gradient_graph(op, arrays, range(len(arrays)))
    feeds = feeds_of(graph, arrays)
    feeds["r"] = np.ones_like(feeds["r"])
    found = evaluate(graph, feeds)
    return [found.get(f"g{i}", np.zeros_like(a)) for i, a in enumerate(arrays)]


# what PyTorch 2.13's autograd gives at these points
@pytest.mark.parametrize(
    ("op", "points", "expected"),
    [
        (Unary("relu"), [-1, 0, 1], [0, 0, 1]),
        (Unary("abs"), [-1, 0, 1], [-1, 0, 1]),
        (Unary("leaky_relu", 0.2), [-1, 0, 1], [0.2, 0.2, 1]),
        (Unary("elu", 0.5), [0, 1], [0.5, 1]),
        (Unary("celu", 2.0), [0, 1], [1, 1]),
        (Unary("selu", 1.5, 2.0), [0, 1], [3, 2]),
        (Unary("hard_sigmoid", 1 / 6, 0.5), [-3, 0, 3], [0, 1 / 6, 0]),
        (Unary("hard_swish"), [-3, 0, 3], [0, 0.5, 1]),
        (Unary("thresholded_relu", 1.0), [1, 2], [0, 1]),
        (Unary("softplus"), [-1000, 0, 1000], [0, 0.5, 1]),
        (Unary("sigmoid"), [-1000, 1000], [0, 0]),
        (Unary("elu", 1.0), [-1000, 1000], [0, 1]),
        (Unary("floor"), [0, 0.5], [0, 0]),
    ],
)
def test_points_without_a_derivative_and_extremes(op, points, expected):
    np.testing.assert_allclose(slopes(op, points)[0], expected, atol=1e-12)


def test_ties_of_two_operands_are_shared():
    for fn in ("max", "min"):
        da, db = slopes(Binary(fn), [1.0, 2.0], [1.0, 3.0])
        np.testing.assert_array_equal(da, [0.5, float(fn == "min")])
        np.testing.assert_array_equal(db, [0.5, float(fn == "max")])
    da, db = slopes(Binary("prelu"), [0.0, 2.0], [0.3, 0.3])
    np.testing.assert_array_equal(da, [0.3, 1])
    np.testing.assert_array_equal(db, [0, 0])


def test_powers():
    # at 0 the exponent's derivative is 0, and x^0 is constant
    da, db = slopes(Binary("pow"), [0.0, 0.0, 2.0], [0.0, 2.0, 0.0])
    np.testing.assert_allclose(da, [0, 0, 0])
    np.testing.assert_allclose(db, [0, 0, np.log(2.0)])


@pytest.mark.parametrize(("exponent", "slope"), [(0, 0), (1, 1), (2, -6), (3, 27), (-1, -1 / 9)])
def test_constant_powers(exponent, slope):
    from mgc.ir.build import Build
    from mgc.ir.graph import Graph
    from mgc.ir.types import DType, TensorType
    from mgc.passes.training.differentiate import gradients

    graph = Graph()
    x = graph.add_input("x", TensorType(DType.F64, ()))
    build = Build(graph)
    y = build.binary("pow", x, float(exponent))
    (dx,) = gradients(graph, y, [x])
    graph.outputs.append(("dx", dx if dx is not None else build.number(0.0, x)))
    graph.prune()
    assert evaluate(graph, {"x": np.array(-3.0)})["dx"] == pytest.approx(slope)
    assert not any(isinstance(n.op, Unary) and n.op.fn == "log" for n in graph.nodes)
