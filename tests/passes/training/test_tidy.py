"""Simplifications of gradient graphs."""

import numpy as np

from mgc.ir.build import Build
from mgc.ir.graph import Graph, evaluate
from mgc.ir.ops import Binary, Expand
from mgc.ir.rewriter import apply_patterns
from mgc.ir.types import DType, TensorType
from mgc.ir.verifier import verify
from mgc.passes.training.tidy import drop_expands, multiply_early


def graph_of(make):
    graph = Graph()
    a = graph.add_input("a", TensorType(DType.F64, (1, 3, 1)))
    b = graph.add_input("b", TensorType(DType.F64, (2, 3, 4)))
    graph.outputs = [("y", make(Build(graph), a, b))]
    return graph


def check(graph, *rewrites):
    feeds = {"a": np.arange(3.0).reshape(1, 3, 1), "b": np.arange(24.0).reshape(2, 3, 4)}
    before = evaluate(graph, feeds)["y"]
    changed = [apply_patterns(graph, [rewrite]) for rewrite in rewrites]
    graph.prune()
    verify(graph)
    np.testing.assert_allclose(evaluate(graph, feeds)["y"], before)
    return changed


def test_elementwise_ops_broadcast_by_themselves():
    graph = graph_of(lambda g, a, b: g.mul(g.expand(a, b.shape), b))
    assert check(graph, drop_expands) == [True]
    assert not any(isinstance(n.op, Expand) for n in graph.nodes)


def test_an_expand_that_makes_the_shape_stays():
    graph = graph_of(lambda g, a, b: g.mul(g.expand(a, b.shape), g.expand(a, b.shape)))
    check(graph, drop_expands)
    assert sum(isinstance(n.op, Expand) for n in graph.nodes) == 1


def test_numbers_go_to_the_smaller_factor():
    graph = graph_of(lambda g, a, b: g.mul(g.mul(a, b), 2.0))
    assert check(graph, multiply_early) == [True]
    large = [n for n in graph.nodes if isinstance(n.op, Binary) and n.outputs[0].shape == (2, 3, 4)]
    assert len(large) == 1


def test_numbers_stay_where_nothing_is_gained():
    for make in (
        lambda g, a, b: g.mul(g.mul(b, b), 2.0),
        lambda g, a, b: (lambda p: g.add(g.mul(p, 2.0), p))(g.mul(a, b)),
    ):
        assert check(graph_of(make), multiply_early) == [False]
