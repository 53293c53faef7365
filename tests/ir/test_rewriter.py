"""Patterns: which nodes they see, when they are asked again, and that they end."""

import pytest

from mgc.ir.graph import Graph
from mgc.ir.op import IRError
from mgc.ir.ops import Binary, Unary
from mgc.ir.rewriter import apply_patterns, pattern, share_nodes
from mgc.ir.types import DType, TensorType
from mgc.ir.verifier import verify

F2 = TensorType(DType.F32, (2,))


def unaries(*names):
    g = Graph()
    value = g.add_input("x", F2)
    for name in names:
        value = g.add(Unary(name), value, sources=[name])
    g.outputs = [("y", value)]
    return g


def functions(g):
    return [n.op.fn for n in g.nodes]


@pattern(Unary)
def drop_double_negation(graph, node):
    inner = graph.producer(node.inputs[0])
    if inner is None or (node.op.fn, inner.op.fn) != ("neg", "neg"):
        return False
    graph.bypass(node, inner.inputs, "twice")
    return True


@pattern(Unary)
def drop_dead(graph, node):
    if graph.uses(node.outputs[0]) or node.outputs[0] in graph.output_values():
        return False
    graph.remove(node)
    return True


def test_what_one_rewrite_makes_possible_is_seen():
    g = unaries("exp", "neg", "exp", "exp", "neg", "relu")

    @pattern(Unary)
    def drop_exp(graph, node):
        if node.op.fn != "exp":
            return False
        graph.bypass(node, node.inputs, "for the test")
        return True

    assert apply_patterns(g, [drop_double_negation, drop_exp, drop_dead])
    verify(g)
    assert functions(g) == ["relu"]
    assert not apply_patterns(g, [drop_double_negation, drop_exp, drop_dead])


def test_a_pattern_sees_its_ops_only():
    g = unaries("neg", "neg")
    seen = []

    @pattern(Binary)
    def look(graph, node):
        seen.append(node)
        return False

    assert not apply_patterns(g, [look])
    assert seen == []


def test_rewrites_that_undo_each_other_are_an_error():
    g = unaries("relu")

    @pattern(Unary)
    def flip(graph, node):
        node.op = Unary("exp" if node.op.fn == "relu" else "relu")
        return True

    with pytest.raises(IRError, match=r"unary: rewriting does not end after 101 rewrites \(%unary, from \"relu\"\)"):
        apply_patterns(g, [flip])


def test_equal_work_is_done_once():
    g = Graph()
    x = g.add_input("x", F2)
    a, b = (g.add(Unary("exp"), x, sources=[s]) for s in "ab")
    g.outputs = [("y", g.add(Binary("add"), a, b))]
    assert not share_nodes(g, lambda node: isinstance(node.op, Binary))
    assert share_nodes(g)
    verify(g)
    assert [n.sources for n in g.nodes] == [("a", "b"), ()]
    assert not share_nodes(g)
