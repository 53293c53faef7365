"""Differentiation of graphs: paths, seeds, what counts as constant, what has no gradient."""

import numpy as np
import pytest

from mgc.ir.build import Build
from mgc.ir.graph import Graph, evaluate
from mgc.ir.op import IRError, NotDifferentiable
from mgc.ir.ops import Gather, Host, Unary
from mgc.ir.types import DType, TensorType
from mgc.ir.verifier import verify
from mgc.passes.training.differentiate import gradients


def scalar_graph(*names):
    graph = Graph()
    return graph, Build(graph), [graph.add_input(n, TensorType(DType.F64, ())) for n in names]


def value(graph, result, **feeds):
    graph.outputs = [("y", result)]
    graph.prune()
    verify(graph)
    return float(evaluate(graph, {k: np.array(v) for k, v in feeds.items()})["y"])


def test_terms_of_several_paths_add_up():
    graph, build, (x, y) = scalar_graph("x", "y")
    square = build.mul(x, x)
    loss = build.add(build.mul(square, y), build.add(square, build.unary("exp", x)))
    (dx,) = gradients(graph, loss, [x])
    assert value(graph, dx, x=2.0, y=3.0) == pytest.approx(2 * 2 * 3 + 4 + np.exp(2))


@pytest.mark.parametrize(("order", "expected"), [(1, 405.0), (2, 540.0), (3, 540.0), (4, 360.0), (5, 120.0)])
def test_higher_derivatives(order, expected):
    graph, build, (x,) = scalar_graph("x")
    result = build.binary("pow", x, 5.0)
    for _ in range(order):
        (result,) = gradients(graph, result, [x])
    assert value(graph, result, x=3.0) == pytest.approx(expected)


def test_intermediate_values_have_gradients_too():
    graph, build, (x,) = scalar_graph("x")
    middle = build.mul(x, 3.0)
    loss = build.mul(middle, middle)
    (dm,) = gradients(graph, loss, [middle])
    assert value(graph, dm, x=2.0) == pytest.approx(12)


def test_what_the_loss_does_not_depend_on_has_none():
    graph, build, (x, y) = scalar_graph("x", "y")
    loss = build.unary("exp", x)
    index = graph.add_input("i", TensorType(DType.I64, ()))
    dx, dy, di = gradients(graph, loss, [x, y, index])
    assert dx is not None
    assert dy is None
    assert di is None


def test_fixed_values_count_as_constants():
    graph, build, (x,) = scalar_graph("x")
    updated = build.mul(x, 5.0)
    loss = build.mul(updated, x)
    (dx,) = gradients(graph, loss, [x], fixed=[updated])
    assert value(graph, dx, x=2.0) == pytest.approx(10)


def test_a_seed_stands_for_the_losss_own_cotangent():
    graph = Graph()
    x = graph.add_input("x", TensorType(DType.F64, (3,)))
    y = graph.add(Unary("sin"), x)
    with pytest.raises(IRError, match=r"is f64\[3\]: only a float scalar has a gradient without a seed"):
        gradients(graph, y, [x])
    r = graph.add_input("r", y.type)
    (dx,) = gradients(graph, y, [x], seed=r)
    graph.outputs = [("dx", dx)]
    points, weights = np.array([0.1, 0.2, 0.3]), np.array([1.0, -2.0, 3.0])
    np.testing.assert_allclose(evaluate(graph, {"x": points, "r": weights})["dx"], weights * np.cos(points))


def host(graph, *values):
    op = Host(b"", "the chip has no Foo", ("Foo",), (values[0].type,))
    return graph.add_multi(op, *values, sources=("/net/Foo",))[0]


def test_a_host_op_on_the_path_is_named():
    graph, build, (x,) = scalar_graph("x")
    loss = build.mul(host(graph, x), x)
    with pytest.raises(NotDifferentiable, match=r"Foo runs on the host \(the chip has no Foo\) \(at /net/Foo\)"):
        gradients(graph, loss, [x])


def test_a_host_op_beside_the_path_does_no_harm():
    graph, build, (x, y) = scalar_graph("x", "y")
    loss = build.mul(host(graph, y), x)
    assert gradients(graph, loss, [x])[0] is not None


def test_indices_are_not_differentiated():
    graph = Graph()
    data = graph.add_input("data", TensorType(DType.F64, (4,)))
    index = graph.add_input("index", TensorType(DType.I64, (2,)))
    picked = graph.add(Gather(0), data, index)
    loss = Build(graph).total(picked)
    d_data, d_index = gradients(graph, loss, [data, index])
    assert d_index is None
    graph.outputs = [("d", d_data)]
    graph.prune()
    found = evaluate(graph, {"data": np.zeros(4), "index": np.array([1, 1])})["d"]
    np.testing.assert_array_equal(found, [0, 2, 0, 0])
